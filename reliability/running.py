"""Runs rows, each check in a process of its own: a check that dies or hangs is a failure, and not the end."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from reliability.contract import SHORT_SCALE, Outcome, Row, Settings

KEPT_FAILURES = 50  # of one check, in the results; the number of all stands beside them
SHORT_LIMIT_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Job:
    """One check to run: a row as it is (`broken` is ""), or with one of its broken implementations."""

    row: Row
    broken: str
    settings: Settings

    @property
    def limit(self) -> float:
        return SHORT_LIMIT_SECONDS if self.settings.short else self.row.limit_seconds


@dataclasses.dataclass(frozen=True)
class Ended:
    """What became of a job. `fault`: why there is no outcome (it raised, died or hung), "" where there is one."""

    job: Job
    outcome: Outcome | None
    fault: str
    seconds: float


def jobs_of(rows: Sequence[Row], short: bool, seed: int, folder: Path) -> list[Job]:
    """Every check there is to run, the real ones first: they take the longest."""
    real = Settings(short, seed, folder, SHORT_SCALE if short else 1.0)
    small = Settings(True, seed, folder, SHORT_SCALE, blind=True)
    blind = [(row, name, small) for row in rows if row.quick or not short for name in row.broken]
    names = [(row, "", real) for row in rows] + blind
    return [
        Job(
            row,
            broken,
            dataclasses.replace(settings, folder=folder / f"{row.name}-{broken}".replace(" ", "_").rstrip("-")),
        )
        for row, broken, settings in names
    ]


def run_jobs(jobs: Sequence[Job], at_once: int) -> Iterator[Ended]:
    """Runs `jobs`, `at_once` at a time, and yields each as it ends."""
    waiting = list(jobs)
    running: list[tuple[Job, BaseProcess, float]] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_start(waiting.pop(0)))
            time.sleep(0.02)
            for entry in list(running):
                job, process, started = entry
                hangs = time.monotonic() - started > job.limit
                if hangs or not process.is_alive():
                    running.remove(entry)
                    yield _end(job, process, time.monotonic() - started, hangs)
    finally:
        for _, process, _ in running:
            _kill(process)


def _start(job: Job) -> tuple[Job, BaseProcess, float]:
    shutil.rmtree(job.settings.folder, ignore_errors=True)
    job.settings.folder.mkdir(parents=True)
    process = multiprocessing.get_context("fork").Process(target=_work, args=(job,))
    process.start()
    return job, process, time.monotonic()


def _beside(job: Job, ending: str) -> Path:
    """The file beside the job's scratch folder with what it gave (.json) or printed (.log)."""
    return job.settings.folder.with_name(job.settings.folder.name + ending)


def _work(job: Job) -> None:
    """In the child: a process group of its own (so that what it leaves running is ended with it), output to a file."""
    os.setsid()
    output = os.open(_beside(job, ".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    found: dict[str, object]
    try:
        with job.row.broken[job.broken]() if job.broken else contextlib.nullcontext():
            found = dataclasses.asdict(job.row.check(job.settings))
    except BaseException as error:
        traceback.print_exc()
        found = {"fault": f"the check raised {type(error).__name__}: {error}"}
    _beside(job, ".json").write_text(json.dumps(found, default=str))
    os._exit(0)


def _kill(process: BaseProcess) -> None:
    """Ends the child and every process of its group."""
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    process.join()


def _end(job: Job, process: BaseProcess, seconds: float, hung: bool) -> Ended:
    code = process.exitcode
    _kill(process)
    result = _beside(job, ".json")
    found = json.loads(result.read_text()) if result.exists() and not hung else {}
    shutil.rmtree(job.settings.folder, ignore_errors=True)
    if hung:
        return Ended(job, None, f"hung: ended after {job.limit:.0f} s", seconds)
    if not found:
        return Ended(
            job, None, f"the process of the check died (exit status {code}); see {_beside(job, '.log').name}", seconds
        )
    if "fault" in found:
        return Ended(job, None, str(found["fault"]), seconds)
    return Ended(job, Outcome(found["trials"], tuple(found["failures"]), found["notes"]), "", seconds)


def result_of(row: Row, ended: Sequence[Ended]) -> dict[str, object]:
    """What the results say of `row`: `failures` holds what failed, and what the check itself did not see."""
    real = next(each for each in ended if not each.job.broken)
    failures = list(real.outcome.failures) if real.outcome else [real.fault]
    if real.outcome and not real.outcome.trials:
        failures.append("nothing was tried")
    caught = {each.job.broken: bool(each.outcome and each.outcome.failures) for each in ended if each.job.broken}
    how = {
        each.job.broken: f"{len(each.outcome.failures)} of {each.outcome.trials}: {(*each.outcome.failures, '')[0]}"
        if each.outcome
        else each.fault
        for each in ended
        if each.job.broken
    }
    failures += [f"does not see: {name} ({how[name]})" for name, seen in caught.items() if not seen]
    return {
        "name": row.name,
        "section": row.section,
        "promise": row.promise,
        "trials": real.outcome.trials if real.outcome else 0,
        "failures": failures[:KEPT_FAILURES],
        "failed": len(failures),
        "broken": caught,
        "broken_gave": how,
        "seconds": round(sum(each.seconds for each in ended), 1),
        "notes": real.outcome.notes if real.outcome else {},
    }


def skipped(row: Row, why: str) -> dict[str, object]:
    """A row that can't run here: that is a failure of the whole run, since nothing was proved."""
    words: dict[str, object] = {"name": row.name, "section": row.section, "promise": row.promise, "trials": 0}
    gave = {"failures": [f"skipped: {why}"], "failed": 1, "broken": {}, "broken_gave": {}, "seconds": 0.0, "notes": {}}
    return words | gave


def run_rows(rows: Sequence[Row], short: bool, seed: int, folder: Path, at_once: int) -> Iterator[dict[str, object]]:
    """Runs `rows` and yields the result of each as its last check ends."""
    able = []
    for row in rows:
        if why := row.needs():
            yield skipped(row, why)
        else:
            able.append(row)
    ended: dict[str, list[Ended]] = {row.name: [] for row in able}
    jobs = jobs_of(able, short, seed, folder)
    for each in run_jobs(jobs, at_once):
        ended[each.job.row.name].append(each)
        if len(ended[each.job.row.name]) == sum(job.row is each.job.row for job in jobs):
            yield result_of(each.job.row, ended[each.job.row.name])
