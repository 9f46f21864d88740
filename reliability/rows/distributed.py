"""Several processes as one run: one of them is killed, stopped, raises, starves, or cannot save."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reliability import breakage, processes, toys
from reliability.contract import Outcome, Row, Settings
from reliability.processes import Forked
from sightline import SightlineError
from sightline.runs import checkpoint

LIMIT_SECONDS = 6.0
"""After which a process that hangs ends the others; what they may take to notice a dead one is GRACE."""
GRACE_SECONDS, SLOWEST = 5.0, 90.0
START_SECONDS = 60.0


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    names = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    names |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return names | {name: str(value) for name, value in place.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(folder: Path, size: int, work: Callable[[int], int]) -> list[Forked]:
    """The processes of one run, forked; what they print as errors goes to `folder`."""
    port = free_port()
    cache = {"SIGHTLINE_CACHE": str(folder / "cache")}
    return [
        Forked(partial(work, rank), environment(rank, size, port) | cache, folder / f"errors-{rank}.txt")
        for rank in range(size)
    ]


def until(ready: Callable[[], bool], seconds: float) -> bool:
    """Whether that came to be within so many seconds."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def put_down(several: list[Forked]) -> None:
    for process in several:
        if process.poll() is None:
            process.kill()
        process.wait()


def killed(victim: Forked) -> None:
    victim.kill()


def stopped(victim: Forked) -> None:
    victim.send_signal(signal.SIGSTOP)


CASES: dict[str, tuple[Callable[[Forked], None] | None, float, str]] = {
    "killed": (killed, GRACE_SECONDS, "has ended"),
    "stopped": (stopped, LIMIT_SECONDS + GRACE_SECONDS, "hangs"),
    "raises": (None, GRACE_SECONDS, "has ended"),
    "starves": (None, LIMIT_SECONDS + GRACE_SECONDS, "hangs"),
    "cannot save": (None, GRACE_SECONDS, "has ended"),  # the first alone saves
}


def one_case(name: str, rank: int, task: str, folder: Path) -> str:
    """A run of two processes of which `rank` comes to harm; what went wrong, or ""."""
    act, allowed, said = CASES[name]
    folder.mkdir(parents=True)
    toy = toys.make_toy(folder, task)
    run = folder / "run"
    order = [str(toy.data), str(run), str(toy.recipe), str(LIMIT_SECONDS)]
    harm = name if act is None else ""
    pair = started(folder, 2, lambda place: processes.train(*order, harm if place == rank else ""))
    try:
        metrics = run / "metrics.jsonl"
        if not until(lambda: metrics.is_file() and metrics.read_text().count('"train"') > 2, START_SECONDS):
            return f"{name}: the run did not begin"
        before = time.monotonic()
        if act is not None:
            act(pair[rank])
        else:
            (folder / "run.harm").touch()
        survivor, victim = pair[1 - rank], pair[rank]
        if not until(lambda: survivor.poll() is not None, SLOWEST if act is None else allowed):
            return f"{name}: the other process still waits after {time.monotonic() - before:.0f} s"
        errors = (folder / f"errors-{1 - rank}.txt").read_text()
        if survivor.returncode != 3 or said not in errors or "Traceback" in errors:
            return f"{name}: the other ends with status {survivor.returncode}: {errors[-200:]!r}"
        own = (folder / f"errors-{rank}.txt").read_text()
        if name == "cannot save" and (victim.wait(GRACE_SECONDS) != 3 or "3 times in a row" not in own):
            return f"{name}: it ends with status {victim.returncode}: {own[-200:]!r}"
    finally:
        put_down(pair)
    try:
        checkpoint.load_state(run / "checkpoints" / "last")
    except SightlineError as error:
        return f"{name}: the run cannot be gone on with: {error}"
    return ""


def check_harm(settings: Settings) -> Outcome:
    """Each harm to each of two processes."""
    tasks = ("classify", "segment", "byol")
    every = [(name, rank, task) for task in tasks for name in CASES for rank in (1, 0)[name == "cannot save" :]]
    chosen = every if not settings.short else [("killed", 1, "classify"), ("stopped", 1, "classify")]
    failures = []
    for number, (name, rank, task) in enumerate(chosen):
        if settings.seen(failures):
            break
        fault = one_case(name, rank, task, settings.folder / str(number))
        failures += [f"{task}, process {rank} {fault}"] if fault else []
    return Outcome(len(chosen), tuple(failures))


def check_evaluation(settings: Settings) -> Outcome:
    """Numbers of N images by W processes against those of one, all N from 1 to 9."""
    sizes = (2,) if settings.short else (2, 3)
    failures, trials = [], 0
    for size in sizes:
        folder = settings.folder / str(size)
        folder.mkdir(parents=True)
        data = toys.make_data(folder / "data", "classify")
        out = folder / "found.json"
        several = started(folder, size, lambda _, data=data, out=out: processes.evaluate(str(data), str(out)))
        for process in several:
            process.wait(180)
        if not out.is_file():
            return Outcome(1, (f"{size} processes: {(folder / 'errors-0.txt').read_text()[-300:]}",))
        for count, same in json.loads(out.read_text()).items():
            trials += 1
            failures += [] if same else [f"{count} images by {size} processes: other numbers than by one"]
    return Outcome(trials, tuple(failures))


ROWS = (
    Row(
        "several processes, one comes to harm",
        "Distributed",
        "Of two processes one is killed, stopped, raises, starves or cannot save: the other ends with status 3 and "
        f"says so, at once or within {GRACE_SECONDS:.0f} s of train.rank_timeout_seconds; what was saved verifies.",
        check_harm,
        breakage.some("a wait without a limit"),
        needs=toys.ready,
        limit_seconds=600,
        quick=False,
    ),
    Row(
        "several processes, evaluation",
        "Distributed",
        "Numbers of 1 to 9 images, shared by two and three processes, are those of one process to the bit.",
        check_evaluation,
        breakage.some("an evaluator that pads"),
        needs=toys.ready,
    ),
)
