"""Distributed runs: one process is killed, is stopped, raises, stalls, or cannot save."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reliability import defects, processes, toys
from reliability.contract import Outcome, Row, Settings
from reliability.processes import ForkedProcess
from sightline import SightlineError
from sightline.runs import checkpoint

LIMIT_SECONDS = 6.0
"""train.rank_timeout_seconds, after which a hanging process is an error in the others."""
GRACE_SECONDS = 5.0
"""Time for noticing a dead process."""
SLOWEST_SECONDS, START_SECONDS = 90.0, 60.0


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """The environment variables that torchrun sets for a process."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    names = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    names |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return names | {name: str(value) for name, value in numbers.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder: Path, size: int, work: Callable[[int], int]) -> list[ForkedProcess]:
    """Fork the processes of one run, which call `work(rank)`; stderr is written to folder/errors-RANK.txt."""
    port = free_port()
    cache = {"SIGHTLINE_CACHE": str(folder / "cache")}
    return [
        ForkedProcess(partial(work, rank), environment(rank, size, port) | cache, folder / f"errors-{rank}.txt")
        for rank in range(size)
    ]


def wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    """Wait for at most `seconds`; returns whether `ready()` became true."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def kill_all(processes: list[ForkedProcess]) -> None:
    """Kill the processes that still run."""
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


CASES: dict[str, tuple[int | None, float, str]] = {
    "killed": (signal.SIGKILL, GRACE_SECONDS, "has ended"),
    "stopped": (signal.SIGSTOP, LIMIT_SECONDS + GRACE_SECONDS, "does not respond"),
    "raises": (None, GRACE_SECONDS, "has ended"),
    "stalls": (None, LIMIT_SECONDS + GRACE_SECONDS, "does not respond"),
    "cannot save": (None, GRACE_SECONDS, "has ended"),  # rank 0 only, which saves
}
"""Fault -> (signal to send, or None if the process causes it; seconds until the other process must end; part of the
message of the other process)."""


def one_case(name: str, rank: int, task: str, folder: Path) -> str:
    """Train with two processes and inject a fault in one of them; returns the failure, or ""."""
    signal_number, allowed, message = CASES[name]
    folder.mkdir(parents=True)
    toy = toys.make_toy(folder, task)
    run = folder / "run"
    order = [str(toy.data), str(run), str(toy.recipe), str(LIMIT_SECONDS)]
    fault = name if signal_number is None else ""
    pair = start(folder, 2, lambda own: processes.train(*order, fault if own == rank else ""))
    try:
        metrics = run / "metrics.jsonl"
        if not wait_until(lambda: metrics.is_file() and metrics.read_text().count('"train"') > 2, START_SECONDS):
            return f"{name}: the run did not start"
        before = time.monotonic()
        survivor, victim = pair[1 - rank], pair[rank]
        if signal_number is not None:
            victim.send_signal(signal_number)
        else:
            (folder / "run.fault").touch()
        if not wait_until(lambda: survivor.poll() is not None, SLOWEST_SECONDS if signal_number is None else allowed):
            return f"{name}: the other process still runs after {time.monotonic() - before:.0f} s"
        errors = (folder / f"errors-{1 - rank}.txt").read_text()
        if survivor.returncode != 3 or message not in errors or "Traceback" in errors:
            return f"{name}: the other process ends with status {survivor.returncode}: {errors[-200:]!r}"
        own = (folder / f"errors-{rank}.txt").read_text()
        if name == "cannot save" and (victim.wait(GRACE_SECONDS) != 3 or "3 times in a row" not in own):
            return f"{name}: the process ends with status {victim.returncode}: {own[-200:]!r}"
    finally:
        kill_all(pair)
    try:
        checkpoint.load_state(run / "checkpoints" / "last")
    except SightlineError as error:
        return f"{name}: the run cannot be resumed: {error}"
    return ""


def check_faults(settings: Settings) -> Outcome:
    """Inject each fault in each of two processes."""
    every = [(name, rank, task) for task in toys.TASKS for name in CASES for rank in (1, 0)[name == "cannot save" :]]
    chosen = every if not settings.short else [("killed", 1, "classify"), ("stopped", 1, "classify")]
    failures = []
    for number, (name, rank, task) in enumerate(chosen):
        if settings.detected(failures):
            break
        fault = one_case(name, rank, task, settings.folder / str(number))
        failures += [f"{task}, process {rank} {fault}"] if fault else []
    return Outcome(len(chosen), tuple(failures))


def check_evaluation(settings: Settings) -> Outcome:
    """Compare the metrics of 1 to 9 images computed by several processes with those computed by one."""
    sizes = (2,) if settings.short else (2, 3)
    failures, trials = [], 0
    for size in sizes:
        folder = settings.folder / str(size)
        folder.mkdir(parents=True)
        data = toys.make_data(folder / "data", "classify")
        out = folder / "found.json"
        ranks = start(folder, size, lambda _, data=data, out=out: processes.evaluate(str(data), str(out)))
        for process in ranks:
            process.wait(180)
        if not out.is_file():
            return Outcome(1, (f"{size} processes: {(folder / 'errors-0.txt').read_text()[-300:]}",))
        for count, same in json.loads(out.read_text()).items():
            trials += 1
            failures += [] if same else [f"{count} images by {size} processes: the metrics differ from one process"]
    return Outcome(trials, tuple(failures))


ROWS = (
    Row(
        "distributed, one process fails",
        "Distributed",
        "one of two processes is killed, is stopped, raises, stalls or cannot save: the other reports it and ends with "
        f"status 3, at once or within {GRACE_SECONDS:.0f} s of train.rank_timeout_seconds; the saved state is valid",
        check_faults,
        defects.select("no timeout between processes"),
        unavailable=toys.unavailable,
        limit_seconds=600,
        quick=False,
    ),
    Row(
        "distributed evaluation",
        "Distributed",
        "metrics of 1 to 9 images computed by two and three processes are bit-identical to those of one process",
        check_evaluation,
        defects.select("evaluation pads uneven batches"),
        unavailable=toys.unavailable,
    ),
)
