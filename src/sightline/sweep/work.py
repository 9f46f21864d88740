"""Run the trials of a sweep: start, poll, prune and record them, several at a time."""

import os
import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..config.resolve import to_yaml
from ..errors import INTERRUPTED, SightlineError, listing
from ..runs import run_folder
from ..runs.atomic import atomic_write
from ..runs.provenance import command_line
from ..runs.signals import StopRequest
from .page import trial_folder
from .results import progress_line, write_results
from .study import SweepStudy, TrialOutcome
from .trial import RunningTrial, TrialProcess, in_one_line, log_file, start_process, thread_limit

if TYPE_CHECKING:
    import optuna

POLL_SECONDS = 0.1
FIRST_TRIALS = 3
"""If this many trials fail and none succeeds, the sweep ends."""


class TrialScheduler:
    """Keeps `jobs` trials running until all have an outcome.

    launch: starts the process of a trial. detach: on Ctrl-C leave running trials alone instead of stopping them.
    """

    def __init__(
        self,
        study: SweepStudy,
        launch: Callable[[RunningTrial], TrialProcess],
        jobs: int,
        say: Callable[[str], None],
        detach: bool = False,
    ):
        self.study, self.launch, self.jobs, self.say, self.detach = study, launch, jobs, say, detach
        self.running: list[RunningTrial] = []
        self.resumed = study.interrupted()

    def run(self, minutes: float = 0.0) -> None:
        """Run trials until all have an outcome or the time is up (0: no limit); trials still running are saved.

        SightlineError with status 4 after Ctrl-C or SIGTERM.
        """
        done = len(self.study.finished())
        if done:
            self.say(f"resuming: {done} of {self.study.trials} trials are done")
        deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        with StopRequest() as stop:
            try:
                while time.monotonic() < deadline:
                    if stop.requested:
                        raise self.interruption()
                    self.fill()
                    if not self.running:
                        return
                    for one in list(self.running):
                        self.advance(one)
                    time.sleep(POLL_SECONDS)
            finally:
                self.stop_all()

    def fill(self) -> None:
        """Start trials, interrupted ones first, until `jobs` are running or none is left."""
        while len(self.running) < self.jobs:
            trial = self.resumed.pop(0) if self.resumed else self.study.next()
            if trial is None:
                return
            self.start(trial)

    def start(self, trial: "optuna.Trial") -> None:
        """Start a trial; record its outcome at once if that is known without training."""
        folder = trial_folder(self.study.folder, trial.number)
        try:
            config = self.study.plan.config_of(self.study.values(trial), folder.name)
        except SightlineError as error:
            return self.record(trial, TrialOutcome("failed", message=in_one_line(error)))
        if (equal_trial := self.study.equal_trial(trial)) is not None:
            found = TrialOutcome(
                **equal_trial.user_attrs["outcome"] | {"seconds": 0.0, "flops": 0.0, "same_as": equal_trial.number}
            )
            return self.record(trial, found)
        slot = min(set(range(self.jobs)) - {one.slot for one in self.running})
        one = RunningTrial(self.study, trial, config, slot)
        one.report()
        if (one.pruned_epoch or run_folder.is_finished(folder)) and (outcome := one.outcome()):
            return self.record(trial, outcome)
        atomic_write(log_file(folder, "yaml"), to_yaml(config))
        log_file(folder, "json").unlink(missing_ok=True)
        one.process = self.launch(one)
        self.running.append(one)

    def advance(self, one: RunningTrial) -> None:
        """Report a running trial's evaluations, stop it if it is pruned, and record its outcome if it has ended."""
        assert one.process is not None
        ended = one.process.poll() is not None
        one.report()
        if one.pruned_epoch:
            one.stop()
        if not ended:
            return
        outcome = one.outcome()
        self.running.remove(one)
        if outcome is not None:
            self.record(one.trial, outcome)
        elif self.detach:  # a job that was preempted and not queued again
            self.resumed.append(one.trial)
        else:
            raise self.interruption()

    def record(self, trial: "optuna.Trial", outcome: TrialOutcome) -> None:
        """Store an outcome and print it."""
        write_results(self.study)  # raises if the disk is full: a trial that failed because of it stays open
        self.study.tell(trial, outcome)
        write_results(self.study)
        self.say(progress_line(self.study, trial.number, self.jobs))
        self.check_failures()

    def check_failures(self) -> None:
        """SightlineError if the first trials have all failed."""
        rows = [row for row in self.study.rows() if row["state"] != "running"]
        if len(rows) < min(FIRST_TRIALS, self.study.trials) or any(row["state"] != "failed" for row in rows):
            return
        messages = [f"trial {row['trial']}: {row['message']}" for row in rows]
        why = "the others would most likely fail too:\n" + listing(messages)
        what = f"the first {len(rows)} trials have all failed" if len(rows) > 1 else "the first trial has failed"
        cure = f"correct the settings; the full output is in {self.study.folder / 'logs'}"
        raise SightlineError(what, where=str(self.study.folder), why=why, cure=cure)

    def stop_all(self) -> None:
        """Have all running trials save and end."""
        for one in self.running:
            one.stop()
        while any(one.process is not None and one.process.poll() is None for one in self.running):
            time.sleep(POLL_SECONDS)

    def interruption(self) -> SightlineError:
        """The error for a sweep that was interrupted; detaches from running trials that can go on without it."""
        what = f"interrupted: {len(self.study.finished())} of {self.study.trials} trials are done"
        cure = f"resume with: {shlex.join(command_line())}"
        if self.detach:
            jobs = shlex.join(str(one.trial.user_attrs["job"]) for one in self.running)
            what, cure = f"{what}, submitted jobs continue: {jobs}", f"{cure}; cancel with: scancel {jobs}"
            self.running.clear()
        return SightlineError(what, where=str(self.study.folder), cure=cure, status=INTERRUPTED)


def local_launcher(jobs: int) -> Callable[[RunningTrial], TrialProcess]:
    """Starts trials as processes of this machine, which share its processors and take its GPUs in turn."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = (
        list(map(str, range(torch.cuda.device_count()))) if named is None else [gpu for gpu in named.split(",") if gpu]
    )

    def launch(one: RunningTrial) -> TrialProcess:
        gpu = {"CUDA_VISIBLE_DEVICES": gpus[one.slot % len(gpus)]} if jobs > 1 and len(gpus) > 1 else {}
        return start_process(one.folder, thread_limit(jobs) | gpu)

    return launch
