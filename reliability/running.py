"""Run rows, each check in its own process: a check that dies or hangs is a failure, and the others continue."""

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

KEPT_FAILURES = 50  # listed in the results for one check; all are counted
SHORT_LIMIT_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Job:
    """One check to run: a row with one of its defects installed, or with none (`defect` is "")."""

    row: Row
    defect: str
    settings: Settings

    @property
    def limit(self) -> float:
        return SHORT_LIMIT_SECONDS if self.settings.short else self.row.limit_seconds


@dataclasses.dataclass(frozen=True)
class JobResult:
    """Result of a job. fault: why there is no outcome (the check raised, died or hung), "" if there is one."""

    job: Job
    outcome: Outcome | None
    fault: str
    seconds: float


def make_jobs(rows: Sequence[Row], short: bool, seed: int, folder: Path) -> list[Job]:
    """All checks to run: those without a defect first, because they take the longest."""
    real = Settings(short, seed, folder, SHORT_SCALE if short else 1.0)
    small = Settings(True, seed, folder, SHORT_SCALE, with_defect=True)
    checks = [(row, "", real) for row in rows]
    checks += [(row, name, small) for row in rows if row.quick or not short for name in row.defects]
    jobs = []
    for row, defect, settings in checks:
        scratch = folder / f"{row.name}-{defect}".replace(" ", "_").replace("/", "_").rstrip("-")
        jobs.append(Job(row, defect, dataclasses.replace(settings, folder=scratch)))
    return jobs


def run_jobs(jobs: Sequence[Job], parallel: int) -> Iterator[JobResult]:
    """Run jobs, `parallel` at a time, and yield each result when it is ready."""
    waiting = list(jobs)
    running: list[tuple[Job, BaseProcess, float]] = []
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                running.append(_start(waiting.pop(0)))
            time.sleep(0.02)
            for entry in list(running):
                job, process, started = entry
                hangs = time.monotonic() - started > job.limit
                if hangs or not process.is_alive():
                    running.remove(entry)
                    yield _collect(job, process, time.monotonic() - started, hangs)
    finally:
        for _, process, _ in running:
            _kill_group(process)


def _start(job: Job) -> tuple[Job, BaseProcess, float]:
    shutil.rmtree(job.settings.folder, ignore_errors=True)
    job.settings.folder.mkdir(parents=True)
    process = multiprocessing.get_context("fork").Process(target=_child_main, args=(job,))
    process.start()
    return job, process, time.monotonic()


def _output_path(job: Job, ending: str) -> Path:
    """The path of the job's result (.json) or printed output (.log), beside its scratch folder."""
    return job.settings.folder.with_name(job.settings.folder.name + ending)


def _child_main(job: Job) -> None:
    """Run the check in the child: with its own process group, so that its descendants can be killed, and its output in
    a file."""
    os.setsid()
    output = os.open(_output_path(job, ".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    found: dict[str, object]
    try:
        with job.row.defects[job.defect]() if job.defect else contextlib.nullcontext():
            found = dataclasses.asdict(job.row.check(job.settings))
    except BaseException as error:
        traceback.print_exc()
        found = {"fault": f"the check raised {type(error).__name__}: {error}"}
    _output_path(job, ".json").write_text(json.dumps(found, default=str))
    os._exit(0)


def _kill_group(process: BaseProcess) -> None:
    """Kill the child and every process of its group."""
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    process.join()


def _collect(job: Job, process: BaseProcess, seconds: float, hung: bool) -> JobResult:
    """Read the result of a process that has ended, or that exceeded its time limit and is killed."""
    code = process.exitcode
    _kill_group(process)
    result = _output_path(job, ".json")
    found = json.loads(result.read_text()) if result.exists() and not hung else {}
    shutil.rmtree(job.settings.folder, ignore_errors=True)
    if hung:
        return JobResult(job, None, f"hung: killed after {job.limit:.0f} s", seconds)
    if not found:
        fault = f"the process of the check died (exit status {code}); see {_output_path(job, '.log').name}"
        return JobResult(job, None, fault, seconds)
    if "fault" in found:
        return JobResult(job, None, str(found["fault"]), seconds)
    return JobResult(job, Outcome(found["trials"], tuple(found["failures"]), found["notes"]), "", seconds)


def summarize(row: Row, results: Sequence[JobResult]) -> dict[str, object]:
    """The entry of `row` in reliability.json; its failures include the defects that the check did not detect."""
    real = next(each for each in results if not each.job.defect)
    with_defect = {each.job.defect: each for each in results if each.job.defect}
    failures = list(real.outcome.failures) if real.outcome else [real.fault]
    if real.outcome and not real.outcome.trials:
        failures.append("no trial was made")
    detected = {name: bool(each.outcome and each.outcome.failures) for name, each in with_defect.items()}
    messages = {
        name: f"{len(each.outcome.failures)} of {each.outcome.trials}: {(*each.outcome.failures, '')[0]}"
        if each.outcome
        else each.fault
        for name, each in with_defect.items()
    }
    failures += [f"does not detect: {name} ({messages[name]})" for name, seen in detected.items() if not seen]
    return {
        "name": row.name,
        "section": row.section,
        "promise": row.promise,
        "trials": real.outcome.trials if real.outcome else 0,
        "failures": failures[:KEPT_FAILURES],
        "failed": len(failures),
        "defects": detected,
        "defect_messages": messages,
        "seconds": round(sum(each.seconds for each in results), 1),
        "notes": real.outcome.notes if real.outcome else {},
    }


def skipped(row: Row, reason: str) -> dict[str, object]:
    """The entry of a row that cannot run on this system, which counts as a failure because nothing was proved."""
    return {
        "name": row.name,
        "section": row.section,
        "promise": row.promise,
        "trials": 0,
        "failures": [f"skipped: {reason}"],
        "failed": 1,
        "defects": {},
        "defect_messages": {},
        "seconds": 0.0,
        "notes": {},
    }


def run_rows(rows: Sequence[Row], short: bool, seed: int, folder: Path, parallel: int) -> Iterator[dict[str, object]]:
    """Run rows and yield the entry of each for reliability.json when its last check has ended."""
    available = []
    for row in rows:
        if reason := row.unavailable():
            yield skipped(row, reason)
        else:
            available.append(row)
    results: dict[str, list[JobResult]] = {row.name: [] for row in available}
    jobs = make_jobs(available, short, seed, folder)
    for each in run_jobs(jobs, parallel):
        row, done = each.job.row, results[each.job.row.name]
        done.append(each)
        if len(done) == sum(job.row is row for job in jobs):
            yield summarize(row, done)
