"""One trial of a sweep: start its process, report its metrics to the pruner, determine its outcome."""

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
from ..models.pretrained.preprocessing import with_own_preprocessing
from ..runs import run_folder
from ..runs.atomic import read_json, read_json_lines
from ..runs.code_file import loaded_code
from .page import trial_folder
from .study import SweepStudy, TrialOutcome

if TYPE_CHECKING:
    import optuna

CODE_VARIABLE = "SIGHTLINE_TRIAL_CODE"
KILLED = "its process was killed, possibly because memory ran out"


def log_file(folder: Path, ending: str) -> Path:
    """Path of a trial's file in `logs/`. ending: yaml (its recipe), log (its output), or json (exit status and error
    message)."""
    return folder.parent / "logs" / f"{folder.name}.{ending}"


def in_one_line(error: SightlineError) -> str:
    """Format an error as one line, for tables."""
    why = error.why.strip().partition("\n")[0]
    return " ".join(f"{error.what}{f' ({why})' if why else ''}".split())


def thread_limit(jobs: int) -> dict[str, str]:
    """Environment variables that divide the processors among `jobs` parallel trials; {} if jobs is 1."""
    return {"OMP_NUM_THREADS": str(max(1, processors() // jobs))} if jobs > 1 else {}


def trial_code(sweep: Path) -> dict[str, str]:
    """The environment variable with the path of the code that a trial loads: the copy in the folder of the sweep, or ""
    if the sweep was started without --code."""
    code = loaded_code()
    return {CODE_VARIABLE: str(code.copy_to(sweep.resolve())) if code else ""}


class TrialProcess(Protocol):
    """A process or cluster job that trains a trial.

    poll: returns None while it runs. terminate: makes it save its state and exit.
    """

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...


def start_process(folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Train a trial in a new process. The process has its own session, so that Ctrl-C is sent only to the sweep."""
    command = [sys.executable, "-m", "sightline.sweep.child", str(folder), str(os.getpid()), *sys.argv]
    environment = os.environ | environment
    with open(log_file(folder, "log"), "ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )


@dataclass
class RunningTrial:
    """A trial and its process.

    slot: index among the parallel trials. stopped: whether `stop` was called. pruned_epoch: the epoch at which the
    trial was pruned, or 0. log_size: number of bytes of metrics.jsonl that were already reported to the pruner.
    """

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
        """Make the process save its state and exit; further calls do nothing."""
        if self.process is not None and not self.stopped:
            self.process.terminate()
        self.stopped = True

    def report(self) -> None:
        """Report new evaluations to the pruner, in order.

        If the pruner decides to stop the trial, `pruned_epoch` is set, and later evaluations are not reported.
        """
        path = self.folder / "metrics.jsonl"
        size = path.stat().st_size if path.is_file() else 0
        if self.pruned_epoch or size == self.log_size:
            return
        self.log_size = size
        self.check_image_digest()
        reported, epochs = self.study.all()[self.trial.number].intermediate_values, self.config.train.epochs
        spared = max(1, epochs // 5) if self.study.plan.pruner == "median" else 0
        for value_epoch, value in self.evaluations().items():
            epoch = int(value_epoch)
            if epoch not in reported:
                self.trial.report(value, epoch)
            if max([spared + 1, *reported]) <= epoch < epochs and self.trial.should_prune():
                self.pruned_epoch = epoch
                return

    def evaluations(self) -> dict[float, float]:
        """Epoch -> metric on the validation set, up to the epoch at which the trial was pruned."""
        columns = history(read_json_lines(self.folder / "metrics.jsonl")).evaluation
        pairs = zip(columns["epoch"].tolist(), columns[self.study.plan.metric].tolist(), strict=True)
        last = self.pruned_epoch or np.inf
        return {epoch: value for epoch, value in pairs if np.isfinite(value) and epoch <= last}

    def check_image_digest(self) -> None:
        """Raise SightlineError if the decoded images differ from those of earlier trials."""
        data = run_folder.provenance(self.folder).get("data", {})
        config, _ = with_own_preprocessing(self.config)
        key = f"{config.data.size} {config.data.fit} {config.data.filter} {config.augment.resize}"
        key += f" {config.data.eval_crop}" * (config.data.eval_crop < 1)
        known = self.study.study.user_attrs.get("digests", {})
        if key not in known:
            self.study.study.set_user_attr("digests", known | {key: data.get("digest")})
        elif known[key] != data.get("digest"):
            why = "some files have other contents than in earlier trials, under the same names"
            cure = "restore the files, or start another sweep: --out FOLDER"
            raise SightlineError(
                "the images of this sweep have changed", where=data.get("path", ""), why=why, cure=cure
            )

    def outcome(self) -> TrialOutcome | None:
        """The outcome of the trial after its process has ended; None if it was interrupted and can be resumed."""
        self.report()
        result = self.result()
        if result.state != "failed":
            return result
        killed = {"status": INTERRUPTED if self.stopped else 1, "message": KILLED}
        end = read_json(log_file(self.folder, "json")) or killed
        if end["status"] == INTERRUPTED:
            return None
        return replace(result, message=end["message"] or "its process ended without a result")

    def result(self) -> TrialOutcome:
        """The outcome according to the files of the run. Its state is `failed` if the run is neither pruned nor
        finished."""
        plan, values = self.study.plan, self.evaluations()
        choose = max if plan.direction == "maximize" else min
        best = choose(values, key=lambda epoch: values[epoch], default=0)
        seconds = history(read_json_lines(self.folder / "metrics.jsonl")).seconds
        outcome = TrialOutcome("failed", values.get(best), int(best), max(values, default=0.0), seconds)
        if self.pruned_epoch:
            return replace(outcome, state="pruned", message=f"pruned after epoch {self.pruned_epoch}")
        end = run_folder.final_record(self.folder)
        if not end or not values:
            return outcome
        return replace(
            outcome,
            state="complete",
            value=number(end.get(plan.metric), values[best]),
            best_epoch=int(number(end.get("best_epoch"), outcome.epochs)),
            flops=end.get("train_flops"),
        )
