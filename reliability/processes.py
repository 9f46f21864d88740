"""Forked processes of a distributed run, and the functions that they execute."""

import errno
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class ForkedProcess:
    """A forked process with the interface of subprocess.Popen; it exits with the status that `work` returns."""

    returncode: int | None = None

    def __init__(self, work: Callable[[], int], more: dict[str, str], errors: Path):
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            child_main(work, more, errors)

    def poll(self) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, seconds: float = 60.0) -> int | None:
        """The exit status; None if the process still runs after `seconds`."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        return self.returncode


def child_main(work: Callable[[], int], more: dict[str, str], errors: Path) -> None:
    """Run `work` in the child with additional environment variables and stderr in a file; never returns."""
    status = 1
    try:
        os.environ.update(more)
        null = os.open(os.devnull, os.O_RDWR)
        file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number, target in ((null, 0), (null, 1), (file, 2)):
            os.dup2(number, target)
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def train(data: str, out: str, recipe: str, limit: str, fault: str) -> int:
    """Train without end; returns the exit status.

    Once the file OUT.fault exists, `fault` happens: this process "raises", "stalls", or "cannot save" (a full disk).
    limit: train.rank_timeout_seconds.
    """
    from sightline import SightlineError
    from sightline.__main__ import print_error
    from sightline.runs import atomic

    loop: Any = importlib.import_module("sightline.train")
    trigger, log_step = Path(f"{out}.fault"), loop.log_step

    def log_step_with_fault(*arguments: Any) -> None:
        log_step(*arguments)
        if fault and trigger.exists():
            if fault == "raises":
                raise ValueError("on purpose")
            if fault == "cannot save":
                setattr(atomic, "rename_into_place", raise_disk_full)  # noqa: B010
                return
            time.sleep(600)

    loop.log_step = log_step_with_fault
    endless = {"train.epochs": 5000, "train.evaluate_every": 5000, "train.rank_timeout_seconds": float(limit)}
    try:
        loop.train(recipe, data, out=out, quiet=True, **endless)
    except SightlineError as error:
        print_error(error)
        return error.status
    except ValueError:
        return 1
    return 0


def raise_disk_full(temporary: Path, path: Path, need: int = 0) -> None:
    """Raise the error of a full disk in place of the rename of a finished file."""
    from sightline.runs.atomic import disk_error

    raise disk_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), need)


def evaluate(data: str, out: str) -> int:
    """Evaluate 1 to 9 images in this process alone and with the others; returns the exit status.

    Rank 0 writes to `out`, as JSON by number of images, whether both results are equal.
    """
    import numpy as np

    from reliability import toys
    from sightline.config.resolve import resolve
    from sightline.config.schema import Config
    from sightline.data.image_cache import subset
    from sightline.engine.evaluate import evaluate as measure
    from sightline.engine.process_group import process_group
    from sightline.tasks import TASKS
    from sightline.tasks.files import typed

    settings = toys.COMMON | toys.SETTINGS["classify"] | {"data.path": data, "report.samples": 0}
    config = typed(resolve(Config(name="toy"), settings))
    parts = TASKS[config.task].build(config, lambda text: None, "", True)
    splits = [subset(parts.train, np.arange(count)) for count in range(1, 10)]

    def numbers() -> list[dict[str, float]]:
        return [measure(parts.learner, split, 2, parts.device, parts.dtype)[0] for split in splits]

    alone = numbers()
    with process_group(60) as world:
        together = numbers()
    if world.is_rank0:
        same = {count: first == second for count, (first, second) in enumerate(zip(alone, together, strict=True), 1)}
        Path(out).write_text(json.dumps(same))
    return 0
