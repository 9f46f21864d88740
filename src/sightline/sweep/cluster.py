"""The same sweep as jobs of a cluster, through submitit: so many workers, which share the folder's trials."""

import difflib
import os
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError
from ..runs.atomic import make_folder, read_json, write_json
from ..runs.signals import StopRequest
from .board import Board
from .plan import budget, load_plan

if TYPE_CHECKING:
    import submitit

CLUSTERS = ("slurm", "local")
OPTIONS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "minutes": ("timeout_min", int, "time limit of a job; it is queued again where work is left"),
    "partition": ("slurm_partition", str, "partition"),
    "gpus": ("gpus_per_node", int, "graphics cards of a job"),
    "cpus": ("cpus_per_task", int, "processors of a job"),
    "mem_gb": ("mem_gb", float, "memory of a job"),
    "account": ("slurm_account", str, "account"),
    "qos": ("slurm_qos", str, "quality of service"),
    "constraint": ("slurm_constraint", str, "nodes with these features only"),
    "exclude": ("slurm_exclude", str, "not these nodes"),
    "setup": ("slurm_setup", lambda text: [line.strip() for line in text.split(";")], "shell commands before, by ;"),
    "comment": ("slurm_comment", str, "comment"),
}
"""--cluster.NAME -> (submitit's parameter, its type, what it is)."""
MINUTES = 60
WATCH_SECONDS = 1.0
END_SECONDS = 60.0
REQUEUES = 100
"""How often a job may be queued again at its time limit."""


def split_cluster(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings of the recipe, options of the cluster)."""
    own = {key.removeprefix("cluster."): value for key, value in settings.items() if key.startswith("cluster.")}
    return {key: value for key, value in settings.items() if not key.startswith("cluster.")}, own


def refuse_cluster(cluster: str, options: dict[str, Any]) -> None:
    """SightlineError for a cluster or options that do not exist, all at once, and where submitit is missing."""
    faults = []
    if cluster and cluster not in CLUSTERS:
        faults.append(f"--cluster {cluster}: the clusters are {', '.join(CLUSTERS)}")
    if options and not cluster:
        faults.append(f"--cluster.{next(iter(options))} needs --cluster slurm")
    for name, value in options.items():
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, 1, 0.5)
            faults.append(f"--cluster.{name}: there is no such option" + (f"; did you mean {near[0]}?" if near else ""))
            continue
        try:
            OPTIONS[name][1](value)
        except (TypeError, ValueError):
            faults.append(f"--cluster.{name} {value}: this is no number")
    if faults:
        cure = "they are " + ", ".join(f"--cluster.{name} ({what})" for name, (_, _, what) in OPTIONS.items())
        raise SightlineError("these jobs cannot be submitted", why="; ".join(faults), cure=cure)
    if cluster:
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            why, cure = f"{error.name} is not installed", "pip install 'sightline-vision[sweep]'"
            raise SightlineError("jobs need submitit", why=why, cure=cure, status=ENVIRONMENT) from error


class Worker:
    """What a job runs: trials of the sweep in `folder`, one after another, until none is left.

    submitit writes it to a file of the folder and reads it back in the job. When the job is about to be preempted, or
    out of time, `checkpoint` saves the running trial and has the job queued again.
    """

    def __init__(self, folder: str, trials: int, storage: str, minutes: float, threads: int, argv: list[str]):
        self.folder, self.trials, self.storage, self.argv = folder, trials, storage, argv
        self.minutes, self.threads = minutes, threads

    def __call__(self) -> str:
        import sys

        from .storage import need_optuna
        from .work import Session, Teller

        need_optuna()
        sys.argv = list(self.argv)
        folder = Path(self.folder)
        plan = load_plan(folder)
        count, walk, _ = budget(plan, self.trials)
        board = Board(folder, plan, count, walk, self.storage)
        deadline = time.monotonic() + 60 * self.minutes if self.minutes else 0.0
        session = Session(board, 1, self.threads, Teller(board, print), deadline)
        self.session = session  # for `checkpoint`, which a signal calls in the midst of this
        session.teller.hush()
        with StopRequest() as stop:
            try:
                session.start()
                session.join(lambda: stop.requested)
            finally:
                session.close()
        if session.error is not None:
            write_json(folder / "jobs" / f"error-{os.getpid()}.json", as_message(session.error))
        return "interrupted" if session.interrupted else "failed" if session.error else "done"

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Called by submitit before the job ends: save what is running, and go on with the rest in the next job."""
        from submitit.helpers import DelayedSubmission

        session = self.__dict__.pop("session", None)
        if session is not None:
            session.stop.set()
            for worker in session.workers:
                worker.join(END_SECONDS)
            session.close()
        return DelayedSubmission(self)


def as_message(error: BaseException) -> dict[str, Any]:
    """An error as plain values, for the process that submitted the job."""
    if isinstance(error, SightlineError):
        return {key: getattr(error, key) for key in ("what", "where", "why", "cure", "status")}
    return {"what": f"{type(error).__name__}: {error}", "status": 1}


def run_on_cluster(
    board: Board, cluster: str, options: dict[str, Any], jobs: int, minutes: float, storage: str, say: Callable
) -> None:
    """Submit workers, if none are at work, and watch until they are done.

    Ctrl-C ends local jobs politely; those of SLURM go on without being watched. Both is said, with status 4.
    """
    from .work import Teller

    teller = Teller(board, say, jobs)
    remaining = teller.begin()
    if not remaining:
        return
    folder = board.folder / "jobs"
    make_folder(folder)
    left_over(folder)
    known = alive(folder, cluster)
    if known:
        say(f"jobs {', '.join(job.job_id for job in known)} are at work already: they are watched")
    submitted = known or submit(board, cluster, options, min(jobs, remaining), minutes, storage)
    write_json(folder / "jobs.json", {"cluster": cluster, "ids": [job.job_id for job in submitted]})
    if not known:
        say(f"submitted {len(submitted)} to {cluster}: {', '.join(job.job_id for job in submitted)}; logs in {folder}")
    with StopRequest() as stop:
        while not all(job.done() for job in submitted):
            if stop.requested:
                raise left(board, cluster, submitted)
            teller.update()
            time.sleep(WATCH_SECONDS)
    teller.update()
    refuse_broken(board, folder, submitted)


def submit(
    board: Board, cluster: str, options: dict[str, Any], jobs: int, minutes: float, storage: str
) -> "list[submitit.Job]":
    """So many workers as jobs, of SLURM one array; SightlineError where the cluster does not take them."""
    import sys

    import submitit
    from submitit.core.utils import FailedJobError

    from . import threads_each

    threads = threads_each(jobs) if cluster == "local" else 0  # a job of SLURM has processors of its own
    worker = Worker(str(board.folder.resolve()), board.trials, storage, minutes, threads, sys.argv)
    parameters = {OPTIONS[name][0]: OPTIONS[name][1](value) for name, value in options.items()}
    parameters.setdefault("timeout_min", MINUTES)
    if cluster != "slurm":
        parameters = {key: value for key, value in parameters.items() if not key.startswith("slurm_")}
    own: dict[str, Any] = {"slurm_max_num_timeout": REQUEUES} if cluster == "slurm" else {}
    try:
        executor = submitit.AutoExecutor(folder=board.folder.resolve() / "jobs", cluster=cluster, **own)
        executor.update_parameters(name=f"sightline-{board.name}"[:40], **parameters)
        if cluster == "slurm":
            executor.update_parameters(slurm_array_parallelism=jobs)
        with executor.batch():
            return [executor.submit(worker) for _ in range(jobs)]
    except (RuntimeError, OSError, FailedJobError) as error:
        why = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        cure = "run this where `sbatch` works, with the --cluster.* options that it wants, or --cluster local"
        raise SightlineError(f"{cluster} takes no jobs", why=why, cure=cure, status=ENVIRONMENT) from error


def alive(folder: Path, cluster: str) -> "list[submitit.Job]":
    """The jobs of an earlier command that SLURM still has; of other clusters none can be known."""
    known = read_json(folder / "jobs.json")
    if cluster != "slurm" or not isinstance(known, dict) or known.get("cluster") != "slurm":
        return []
    import submitit

    jobs = [submitit.SlurmJob(folder=folder, job_id=str(name)) for name in known.get("ids", [])]
    with suppress(OSError, RuntimeError):
        return [
            job for job in jobs if not job.done(force_check=True) and job.state in ("PENDING", "RUNNING", "REQUEUED")
        ]
    return []


def left(board: Board, cluster: str, jobs: list[Any]) -> SightlineError:
    """The polite end of the watching."""
    from . import GO_ON, command

    cure = f"{GO_ON}: {command()}"
    if cluster == "slurm":
        names = shlex.join(sorted({job.job_id.partition("_")[0] for job in jobs}))
        what = f"no longer watched; the jobs go on: {names}"
        return SightlineError(
            what, where=str(board.folder), cure=f"scancel {names} ends them; {cure}", status=INTERRUPTED
        )
    for job in jobs:
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(job.job_id), signal.SIGTERM)
    end = time.monotonic() + END_SECONDS
    while not all(job.done() for job in jobs) and time.monotonic() < end:
        time.sleep(0.1)
    what = f"interrupted with {len(board.finished())} of {board.trials} trials done; those that were running are saved"
    return SightlineError(what, where=str(board.folder), cure=cure, status=INTERRUPTED)


def left_over(folder: Path) -> None:
    """Remove what workers of an earlier command had to complain of."""
    for path in folder.glob("error-*.json"):
        path.unlink()


def refuse_broken(board: Board, folder: Path, jobs: list[Any]) -> None:
    """SightlineError with what a worker complained of; with the end of its log where it could not even do that."""
    errors = [found for path in sorted(folder.glob("error-*.json")) if isinstance(found := read_json(path), dict)]
    if errors:
        raise SightlineError(errors[0].pop("what"), **errors[0])
    if len(board.finished()) >= board.trials:
        return
    for job in jobs:
        path = Path(job.paths.stderr)
        text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
        if not Path(job.paths.result_pickle).exists():
            why = "\n".join(text.splitlines()[-5:]) or f"its state is {job.state}"
            cure = "the same command goes on with the sweep once that is mended"
            raise SightlineError(f"job {job.job_id} has died", where=str(path), why=why, cure=cure, status=ENVIRONMENT)
