"""Run the trials of a sweep in parallel: start, poll, prune and record them."""

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
from .trial import RunningTrial, TrialProcess, in_one_line, log_file, start_process, thread_limit, trial_code

if TYPE_CHECKING:
    import optuna

POLL_SECONDS = 0.1
FIRST_TRIALS = 3
"""The sweep ends with an error if this number of trials has ended and all of them failed."""


class TrialScheduler:
    """Keeps `jobs` trials running until all trials of the sweep have ended.

    launch: function that starts the process of a trial. detach: whether running trials continue after Ctrl-C (as jobs
    of a cluster do) instead of being stopped.
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
        self.interrupted = study.interrupted()

    def run(self, minutes: float = 0.0) -> None:
        """Run trials until all have ended or until the time limit in minutes (0: none). Trials that are still running
        are then saved.

        Raises SightlineError with status 4 after Ctrl-C or SIGTERM.
        """
        done = len(self.study.finished())
        if done:
            self.say(f"resuming: {done} of {self.study.trials} trials are done")
        deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        with StopRequest() as stop:
            try:
                while time.monotonic() < deadline:
                    if stop.requested:
                        raise self.interruption_error()
                    self.start_trials()
                    if not self.running:
                        return
                    for running in list(self.running):
                        self.update(running)
                    time.sleep(POLL_SECONDS)
            finally:
                self.stop_all()

    def start_trials(self) -> None:
        """Start trials, interrupted ones first, until `jobs` are running or none is left."""
        while len(self.running) < self.jobs:
            trial = self.interrupted.pop(0) if self.interrupted else self.study.ask()
            if trial is None:
                return
            self.start(trial)

    def start(self, trial: "optuna.Trial") -> None:
        """Start a trial, or record its outcome at once if no training is needed.

        No training is needed for invalid settings, for settings equal to those of an earlier trial, and for a run that
        is already finished or pruned.
        """
        folder = trial_folder(self.study.folder, trial.number)
        try:
            config = self.study.plan.config_of(self.study.values(trial), folder.name)
        except SightlineError as error:
            return self.record(trial, TrialOutcome("failed", message=in_one_line(error)))
        if (equal_trial := self.study.equal_trial(trial)) is not None:
            copied = TrialOutcome(
                **equal_trial.user_attrs["outcome"] | {"seconds": 0.0, "flops": 0.0, "same_as": equal_trial.number}
            )
            return self.record(trial, copied)
        slot = min(set(range(self.jobs)) - {running.slot for running in self.running})
        running = RunningTrial(self.study, trial, config, slot)
        running.report()
        if (running.pruned_epoch or run_folder.is_finished(folder)) and (outcome := running.outcome()):
            return self.record(trial, outcome)
        atomic_write(log_file(folder, "yaml"), to_yaml(config))
        log_file(folder, "json").unlink(missing_ok=True)
        running.process = self.launch(running)
        self.running.append(running)

    def update(self, running: RunningTrial) -> None:
        """Report a trial's new evaluations to the pruner. Stop the trial if it is pruned, and record its outcome if
        it has ended."""
        assert running.process is not None
        ended = running.process.poll() is not None
        running.report()
        if running.pruned_epoch:
            running.stop()
        if not ended:
            return
        outcome = running.outcome()
        self.running.remove(running)
        if outcome is not None:
            self.record(running.trial, outcome)
        elif self.detach:  # a job that was preempted and not queued again
            self.interrupted.append(running.trial)
        else:
            raise self.interruption_error()

    def record(self, trial: "optuna.Trial", outcome: TrialOutcome) -> None:
        """Store the outcome of a trial and print it."""
        write_results(self.study)  # if the disk is full this raises, and the trial remains without an outcome
        self.study.tell(trial, outcome)
        write_results(self.study)
        self.say(progress_line(self.study, trial.number, self.jobs))
        self.check_failures()

    def check_failures(self) -> None:
        """Raise SightlineError if the first trials have all failed."""
        rows = [row for row in self.study.rows() if row["state"] != "running"]
        if len(rows) < min(FIRST_TRIALS, self.study.trials) or any(row["state"] != "failed" for row in rows):
            return
        messages = [f"trial {row['trial']}: {row['message']}" for row in rows]
        why = "\n" + listing(messages)
        what = f"the first {len(rows)} trials have all failed" if len(rows) > 1 else "the first trial has failed"
        cure = f"correct the settings or the data; the output of each trial is in {self.study.folder / 'logs'}"
        raise SightlineError(what, where=str(self.study.folder), why=why, cure=cure)

    def stop_all(self) -> None:
        """Make all running trials save their state and exit, and wait until they have exited."""
        for running in self.running:
            running.stop()
        while any(running.process is not None and running.process.poll() is None for running in self.running):
            time.sleep(POLL_SECONDS)

    def interruption_error(self) -> SightlineError:
        """The error that is raised when the sweep is interrupted.

        With `detach`, the running trials are removed from the list, so that `stop_all` does not stop them.
        """
        what = f"interrupted: {len(self.study.finished())} of {self.study.trials} trials are done"
        cure = f"resume with: {shlex.join(command_line())}"
        if self.detach:
            jobs = shlex.join(str(running.trial.user_attrs["job"]) for running in self.running)
            what, cure = (
                f"{what}, and the submitted jobs continue: {jobs}",
                f"{cure}; or cancel the jobs: scancel {jobs}",
            )
            self.running.clear()
        return SightlineError(what, where=str(self.study.folder), cure=cure, status=INTERRUPTED)


def local_launcher(jobs: int) -> Callable[[RunningTrial], TrialProcess]:
    """Return a function that starts trials as processes on this machine.

    Parallel trials share the processors; with several GPUs, each trial uses one of them.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = (
        list(map(str, range(torch.cuda.device_count())))
        if visible is None
        else [gpu for gpu in visible.split(",") if gpu]
    )

    def launch(running: RunningTrial) -> TrialProcess:
        gpu = {"CUDA_VISIBLE_DEVICES": gpus[running.slot % len(gpus)]} if jobs > 1 and len(gpus) > 1 else {}
        return start_process(running.folder, thread_limit(jobs) | trial_code(running.study.folder) | gpu)

    return launch
