"""Run trials as jobs of a SLURM cluster, submitted with submitit."""

import difflib
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError
from ..runs.atomic import make_folder, write_json
from .study import SweepStudy
from .trial import RunningTrial, TrialProcess, log_file, start_process, thread_limit, trial_code

if TYPE_CHECKING:
    import submitit

CLUSTERS = ("slurm", "local")
OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "minutes": ("timeout_min", int),
    "partition": ("slurm_partition", str),
    "gpus": ("gpus_per_node", int),
    "cpus": ("cpus_per_task", int),
    "mem_gb": ("mem_gb", float),
    "account": ("slurm_account", str),
    "qos": ("slurm_qos", str),
    "constraint": ("slurm_constraint", str),
    "exclude": ("slurm_exclude", str),
    "setup": ("slurm_setup", lambda text: [line.strip() for line in text.split(";")]),
    "comment": ("slurm_comment", str),
}
"""Options of the cluster: NAME in --cluster.NAME -> (parameter of submitit, function that parses the option's
value)."""
DEFAULT_MINUTES = 60
SAVE_SECONDS = 60.0
"""Seconds that a trial has to save its state before its job ends."""
MAX_REQUEUES = 100
RESUMABLE_STATES = ("PREEMPTED", "TIMEOUT", "NODE_FAIL")
CHECK_SECONDS, CANCELLED_CHECK_SECONDS = 1.0, 5.0
"""Seconds between queries of a job's state: while it runs, and after it was cancelled."""


def split_cluster(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split settings into (settings of the recipe, options of the cluster without the prefix `cluster.`)."""
    options = {key.removeprefix("cluster."): value for key, value in settings.items() if key.startswith("cluster.")}
    return {key: value for key, value in settings.items() if not key.startswith("cluster.")}, options


def cluster_faults(cluster: str, options: dict[str, Any]) -> list[str]:
    """Error messages for invalid values of --cluster and of its options."""
    faults = []
    if cluster and cluster not in CLUSTERS:
        faults.append(f"--cluster {cluster}: it must be {' or '.join(CLUSTERS)}")
    if options and not cluster:
        faults.append(f"--cluster.{next(iter(options))} needs --cluster slurm")
    for name, value in options.items():
        near = difflib.get_close_matches(name, OPTIONS, 1, 0.5) or [", ".join(OPTIONS)]
        try:
            if name in OPTIONS:
                OPTIONS[name][1](value)
            else:
                faults.append(f"--cluster.{name}: there is no such option; did you mean {near[0]}?")
        except (TypeError, ValueError):
            faults.append(f"--cluster.{name} {value}: it must be a number")
    return faults


class TrialJob:
    """The callable of a job: runs the process of one trial and returns its exit status.

    submitit pickles this object into the folder `jobs` of the sweep, and loads it in the job. Before the job's time
    limit or a preemption, submitit calls `checkpoint` and queues the returned job.
    """

    def __init__(self, folder: Path, environment: dict[str, str], argv: list[str]):
        self.arguments = folder, environment, argv
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        folder, environment, sys.argv = self.arguments
        self.process = process = start_process(folder, environment)
        while (status := process.poll()) is None:
            time.sleep(0.5)
        return status

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Stop the trial so that it saves its state; returns the job that resumes it. Called in a signal handler
        during `__call__`."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            self.process.terminate()
            end = time.monotonic() + SAVE_SECONDS
            while self.process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
        return DelayedSubmission(TrialJob(*self.arguments))


class JobProcess:
    """A submitted job, with the methods of `TrialProcess`."""

    def __init__(self, job: "submitit.Job", folder: Path):
        self.job, self.folder = job, folder
        self.next_check, self.cancelled = 0.0, False

    def poll(self) -> int | None:
        """None while the job is queued or runs, then 0.

        If the job has ended and the trial has not written its exit status, a status is written with the last line of
        the job's output as message.
        """
        now = time.monotonic()
        if now < self.next_check:
            return None
        self.next_check = now + (CANCELLED_CHECK_SECONDS if self.cancelled else CHECK_SECONDS)
        if not self.job.done(force_check=self.cancelled):
            return None
        if not log_file(self.folder, "json").is_file():
            log = Path(self.job.paths.stderr)
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
            last = next((line for line in reversed(lines) if line.strip()), "")
            message = f"job {self.job.job_id} ended, state {self.job.state}: {last or 'no output'}"
            status = INTERRUPTED if self.job.state in RESUMABLE_STATES else 1
            write_json(log_file(self.folder, "json"), {"status": status, "message": message})
        return 0

    def terminate(self) -> None:
        self.job.cancel(check=False)
        self.cancelled = True


def cluster_launcher(
    study: SweepStudy, cluster: str, options: dict[str, Any], jobs: int, say: Callable[[str], None]
) -> Callable[[RunningTrial], TrialProcess]:
    """Return a function that submits a trial as a job.

    If an earlier command has submitted a job for the trial that has not ended, that job is used instead.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    folder = study.folder.resolve() / "jobs"
    make_folder(folder)
    parameters = {OPTIONS[name][0]: OPTIONS[name][1](value) for name, value in options.items()}
    parameters = {"timeout_min": DEFAULT_MINUTES, **parameters, "name": f"sightline-{study.folder.resolve().name}"[:40]}
    requeues: dict[str, Any] = {"slurm_max_num_timeout": MAX_REQUEUES} if cluster == "slurm" else {}
    environment = thread_limit(jobs) if cluster == "local" else {}  # SLURM assigns processors to each job
    environment |= trial_code(study.folder)
    if cluster == "local":
        parameters = {key: value for key, value in parameters.items() if not key.startswith("slurm_")}

    def launch(running: RunningTrial) -> TrialProcess:
        job_id = running.trial.user_attrs.get("job")
        if job_id and cluster == "slurm":
            job = submitit.SlurmJob(folder=folder, job_id=str(job_id))
            with suppress(OSError, RuntimeError):  # sacct has no record of the job
                if not job.done(force_check=True):
                    return JobProcess(job, running.folder)
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **requeues)
            executor.update_parameters(**parameters)
            job = executor.submit(TrialJob(running.folder.resolve(), environment, sys.argv))
        except (RuntimeError, OSError, FailedJobError) as error:
            why = str(error).strip().rpartition("\n")[2] or type(error).__name__
            cure = (
                "run on a machine that has `sbatch`, set the options of the cluster (--cluster.OPTION), or train "
                "here: --cluster local"
            )
            raise SightlineError(f"{cluster} rejected the job", why=why, cure=cure, status=ENVIRONMENT) from error
        running.trial.set_user_attr("job", job.job_id)
        say(f"trial {running.trial.number}: submitted to {cluster} as job {job.job_id}")
        return JobProcess(job, running.folder)

    return launch
