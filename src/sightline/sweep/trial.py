"""One trial of a sweep: its process, its reports to the pruner, its outcome."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..config.schema import Config
from ..engine.device import processors
from ..errors import INTERRUPTED, SightlineError
from ..insight.curves import history, number
from ..runs import run_folder
from ..runs.atomic import read_json, read_json_lines
from .page import trial_folder
from .study import SweepStudy, TrialOutcome

if TYPE_CHECKING:
    import optuna

KILLED = "its process was killed, as operating systems do when memory runs out"


def log_file(folder: Path, ending: str) -> Path:
    """A file of a trial in `logs/`: its recipe (yaml), its output (log), its exit status and error message (json)."""
    return folder.parent / "logs" / f"{folder.name}.{ending}"


def in_one_line(error: SightlineError) -> str:
    """An error as one line of a table."""
    why = error.why.strip().partition("\n")[0]
    return " ".join(f"{error.what}{f' ({why})' if why else ''}".split())


def thread_limit(jobs: int) -> dict[str, str]:
    """The environment variable that shares the processors among parallel trials; one trial alone has no limit."""
    return {"OMP_NUM_THREADS": str(max(1, processors() // jobs))} if jobs > 1 else {}


class TrialProcess(Protocol):
    """A process or job that trains a trial. `poll`: None while it runs. `terminate`: have it save and end."""

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...


def start_process(folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Train a trial in a new process. It has a session of its own, so that Ctrl-C reaches only the sweep."""
    command = [sys.executable, "-m", "sightline.sweep.child", str(folder), str(os.getpid()), *sys.argv]
    environment = os.environ | environment
    with open(log_file(folder, "log"), "ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )


@dataclass
class RunningTrial:
    """A trial and its process. slot: its index among the parallel trials. pruned_epoch: where it was pruned, or 0."""

    study: SweepStudy
    trial: "optuna.Trial"
    config: Config
    slot: int
    process: TrialProcess | None = None
    stopped: bool = False
    pruned_epoch: int = 0
    log_size: int = 0

    @property
    def folder(self) -> Path:
        return trial_folder(self.study.folder, self.trial.number)

    def stop(self) -> None:
        """Ask the process, once, to save and end."""
        if self.process is not None and not self.stopped:
            self.process.terminate()
        self.stopped = True

    def report(self) -> None:
        """Report new evaluations to the pruner in order, up to the epoch at which it stops the trial."""
        path = self.folder / "metrics.jsonl"
        size = path.stat().st_size if path.is_file() else 0
        if self.pruned_epoch or size == self.log_size:
            return
        self.log_size = size
        self.check_contents()
        known = self.study.all()[self.trial.number].intermediate_values
        for value_epoch, value in self.evaluations().items():
            epoch = int(value_epoch)
            if epoch not in known:
                self.trial.report(value, epoch)
            if max(known, default=0) <= epoch < self.config.train.epochs and self.trial.should_prune():
                self.pruned_epoch = epoch
                return

    def evaluations(self) -> dict[float, float]:
        """Epoch -> metric on the validation set, up to the epoch at which the trial was pruned."""
        columns = history(read_json_lines(self.folder / "metrics.jsonl")).evaluation
        pairs = zip(columns["epoch"].tolist(), columns[self.study.plan.metric].tolist(), strict=True)
        most = self.pruned_epoch or np.inf
        return {epoch: value for epoch, value in pairs if np.isfinite(value) and epoch <= most}

    def check_contents(self) -> None:
        """SightlineError if the images differ from those of earlier trials although their names are the same."""
        data, config = run_folder.provenance(self.folder).get("data", {}), self.config
        key = f"{config.data.size} {config.data.fit} {config.data.filter} {config.augment.resize}"
        known = self.study.study.user_attrs.get("digests", {})
        if key not in known:
            self.study.study.set_user_attr("digests", known | {key: data.get("digest")})
        elif known[key] != data.get("digest"):
            why = "images have the same names as in earlier trials, but other contents"
            cure = "restore the data, or start another sweep with --out"
            raise SightlineError("the data of this sweep have changed", where=data.get("path", ""), why=why, cure=cure)

    def outcome(self) -> TrialOutcome | None:
        """The outcome after the process has ended; None if it was interrupted and can be resumed."""
        self.report()
        result = self.result()
        if result.state != "failed":
            return result
        killed = {"status": INTERRUPTED if self.stopped else 1, "message": KILLED}
        end = read_json(log_file(self.folder, "json")) or killed
        if end["status"] == INTERRUPTED:
            return None
        return replace(result, message=end["message"] or "it ended without a result")

    def result(self) -> TrialOutcome:
        """The numbers of the run; state `failed` if it was not pruned and is not finished."""
        plan, values = self.study.plan, self.evaluations()
        choose = max if plan.direction == "maximize" else min
        best = choose(values, key=lambda epoch: values[epoch], default=0)
        seconds = history(read_json_lines(self.folder / "metrics.jsonl")).seconds
        found = TrialOutcome("failed", values.get(best), int(best), max(values, default=0.0), seconds)
        if self.pruned_epoch:
            return replace(found, state="pruned", message=f"pruned after epoch {self.pruned_epoch}")
        end = run_folder.Run(self.folder).metrics
        if not end or not values:
            return found
        return replace(
            found,
            state="complete",
            value=number(end.get(plan.metric), values[best]),
            best_epoch=int(number(end.get("best_epoch"), found.epochs)),
            flops=end.get("train_flops"),
        )
