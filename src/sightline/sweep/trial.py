"""One trial: its run is trained by a nursery, its evaluations are followed, and it is pruned between epochs."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.resolve import to_yaml
from ..config.schema import Config
from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError, counted
from ..insight.curves import number, without_repeats
from ..runs import run_folder
from ..runs.atomic import atomic_write, read_json_lines
from .board import Board, Outcome
from .claims import Claim
from .nursery import Nursery

if TYPE_CHECKING:
    import optuna

POLL_SECONDS = 0.1
ASK_SECONDS = 1.0
"""Between two polite signals: one that comes before a child listens is lost."""


def folder_of(sweep: Path, number: int) -> Path:
    """The run folder of a trial."""
    return sweep / f"trial-{number:04d}"


@dataclass
class Follower:
    """What a trial's log says so far. told: epochs that the pruner knows. pruned: the epoch at which it said stop."""

    board: Board
    trial: "optuna.Trial"
    folder: Path
    config: Config
    told: set[int]
    pruned: int = 0
    stamp: tuple[int, int] = (0, 0)

    def look(self) -> bool:
        """Tell the pruner of evaluations that are new; returns whether it wants the trial to stop."""
        path = self.folder / "metrics.jsonl"
        if not path.is_file():
            return False
        state = path.stat()
        if (state.st_mtime_ns, state.st_size) == self.stamp or self.pruned:
            return bool(self.pruned)
        self.stamp = (state.st_mtime_ns, state.st_size)
        for record in evaluations(self.folder):
            epoch, value = int(number(record.get("epoch"), 0.0)), number(record.get(self.board.plan.metric))
            if value != value or epoch in self.told:
                continue
            self.told.add(epoch)
            self.trial.report(value, epoch)
            if epoch < self.config.train.epochs and self.trial.should_prune():
                self.pruned = epoch
                return True
        return False

    def outcome(self) -> Outcome:
        """The result of a trial that is over: up to the epoch at which it was pruned, whatever came after."""
        plan = self.board.plan
        seen = [r for r in evaluations(self.folder) if not self.pruned or number(r.get("epoch"), 0.0) <= self.pruned]
        values = [(number(r.get(plan.metric)), int(number(r.get("epoch"), 0.0))) for r in seen]
        best: float | None = None
        best_epoch = 0
        for value, epoch in values:
            if value == value and plan.better(value, best):
                best, best_epoch = value, epoch
        last: dict[str, Any] = seen[-1] if seen else {}
        epochs, seconds = number(last.get("epoch"), 0.0), number(last.get("seconds"), 0.0)
        if self.pruned:
            said = f"pruned after epoch {self.pruned}"
            return Outcome("pruned", best, best_epoch, epochs, seconds, message=said)
        done = [record for record in read_json_lines(self.folder / "metrics.jsonl") if record.get("event") == "done"]
        if not done or not run_folder.is_finished(self.folder) or best is None:
            return Outcome("failed", best, best_epoch, epochs, seconds, message="it ended without a result")
        end = done[-1]
        value = number(end.get(plan.metric), best)
        flops = number(end.get("train_flops"))
        shown = int(number(end.get("best_epoch"), epochs))
        return Outcome("complete", value, shown, epochs, number(end.get("seconds"), seconds),
                       flops if flops == flops else None)  # fmt: skip


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """The validation records of a run, what was taken back by a resumption left out."""
    records = without_repeats(read_json_lines(folder / "metrics.jsonl"))
    return [dict(r) for r in records if r.get("event") == "eval" and r.get("split", "val") == "val"]


def run_trial(
    board: Board, trial: "optuna.Trial", claim: Claim, nursery: Nursery, threads: int, stopping: Callable[[], bool]
) -> Outcome | None:
    """Train a trial to its end, or until it is pruned; None where it was interrupted and can be gone on with.

    threads: those that it may use; 0: as the recipe says. stopping: whether all work is to be saved and left. Raises
    SightlineError where the machine and not the trial is at fault (a full disk), or the data have changed.
    """
    folder, log = folder_of(board.folder, trial.number), board.folder / "logs" / f"trial-{trial.number:04d}.log"
    try:
        config = board.plan.config_of(board.values(trial), folder.name, threads)
    except SightlineError as error:
        return Outcome("failed", message=in_a_line(error))
    if (twin := board.twin(trial)) is not None:
        found = Outcome(**twin.user_attrs["outcome"])
        said = f"the same settings as trial {twin.number}, whose result it has"
        return replace(found, seconds=0.0, flops=0.0, message=said, same_as=twin.number)
    known = board.study(trial.number).get_trials(deepcopy=False)[trial.number]
    follower = Follower(board, trial, folder, config, set(known.intermediate_values))
    last = max(follower.told, default=0)
    if last and last < config.train.epochs and trial.should_prune():
        follower.pruned = last
    if follower.pruned or follower.look() or run_folder.is_finished(folder):
        return follower.outcome()
    atomic_write(log, f"sightline sweep, trial {trial.number}: {board.values(trial)}\n") if not log.exists() else None
    nursery.start({"folder": str(folder), "recipe": to_yaml(config), "log": str(log), "argv": sys.argv})
    end, compared, asked = None, False, 0.0
    while end is None:
        end = nursery.wait(POLL_SECONDS)
        claim.beat()
        compared = compared or compare_data(board, folder, config, nursery)
        if (follower.look() or stopping()) and nursery.child and time.monotonic() - asked > ASK_SECONDS:
            nursery.stop()
            asked = time.monotonic()
    follower.look()
    if follower.pruned:
        return follower.outcome()
    return concluded(board, follower, end, bool(asked))


def concluded(board: Board, follower: Follower, end: dict[str, Any], asked: bool) -> Outcome | None:
    """The outcome of a trial whose process has ended so; None where it was interrupted."""
    status, wrong = end["exit"], end["error"] or {}
    if status == 0:
        return follower.outcome()
    if status == INTERRUPTED or (asked and status < 0):
        return None
    if status == ENVIRONMENT:
        check_disk(board.folder)
    message = f"its process was killed (signal {-status}), as a system does that runs out of memory"
    if status > 0:
        message = in_a_line(SightlineError(wrong.get("what", "?"), why=wrong.get("why", "")))
    return replace(follower.outcome(), state="failed", message=message)


def check_disk(folder: Path) -> None:
    """SightlineError where the sweep's folder cannot be written: then no trial is at fault, and none can go on."""
    probe = folder / ".probe"
    atomic_write(probe, b"0" * 65536)
    probe.unlink()


def in_a_line(error: SightlineError) -> str:
    """An error as one line of a table."""
    why = error.why.strip().splitlines()
    return " ".join(f"{error.what}{f' ({why[0].strip()})' if why else ''}".split())


def compare_data(board: Board, folder: Path, config: Config, nursery: Nursery) -> bool:
    """Once a trial has said what its images contain, compare that with the trials before it; returns whether it has.

    SightlineError where names are the same and contents are not: their results could not be compared.
    """
    data = run_folder.provenance(folder).get("data")
    if not isinstance(data, dict):
        return False
    key = f"{config.data.size} {config.data.fit} {config.data.filter} {config.augment.resize}"
    study = board.study()
    known = study.user_attrs.get("digests", {})
    digest = data.get("digest")
    if known.setdefault(key, digest) != digest:
        nursery.close()
        counts = counted(int(data.get("counts", {}).get("val", 0)), "validation image")
        why = f"their contents are not what the trials before were trained on ({counts})"
        cure = "put the data back as they were, or begin another sweep with --out"
        raise SightlineError("the data of this sweep have changed", where=str(data.get("path")), why=why, cure=cure)
    if study.user_attrs.get("digests") != known:
        study.set_user_attr("digests", known)
    return True
