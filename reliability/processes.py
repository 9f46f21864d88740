"""The processes of a distributed trial, forked: what torchrun would tell them, and what each of them does."""

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


class Forked:
    """A process of a run, as subprocess.Popen would give it; `work` gives its exit status."""

    returncode: int | None = None

    def __init__(self, work: Callable[[], int], more: dict[str, str], errors: Path):
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            live(work, more, errors)

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
        """The exit status; None where it still lives after so many seconds."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        return self.returncode


def live(work: Callable[[], int], more: dict[str, str], errors: Path) -> None:
    """The life of a child: never returns."""
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


def train(data: str, out: str, recipe: str, limit: str, harm: str) -> int:
    """Train until something happens; with `harm` this process raises, starves the others, or has a full disk, once a
    file lies there."""
    from sightline import SightlineError
    from sightline.__main__ import tell
    from sightline.runs import atomic

    loop: Any = importlib.import_module("sightline.train")
    sign, real = Path(f"{out}.harm"), loop.log_step

    def harmful(*arguments: Any) -> None:
        real(*arguments)
        if harm and sign.exists():
            if harm == "raises":
                raise ValueError("on purpose")
            if harm == "cannot save":
                setattr(atomic, "rename_into_place", refused)  # noqa: B010
                return
            time.sleep(600)

    loop.log_step = harmful
    endless = {"train.epochs": 5000, "train.evaluate_every": 5000, "train.rank_timeout_seconds": float(limit)}
    try:
        loop.train(recipe, data, out=out, quiet=True, **endless)
    except SightlineError as error:
        tell(error)
        return error.status
    except ValueError:
        return 1
    return 0


def refused(temporary: Path, path: Path, need: int = 0) -> None:
    """The last step of a write on a full disk."""
    from sightline.runs.atomic import disk_error

    raise disk_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), need)


def evaluate(data: str, out: str) -> int:
    """Whether this process and the others get the numbers of one, for 1 to 9 images."""
    import numpy as np

    from reliability import toys
    from sightline.config.resolve import resolve
    from sightline.config.schema import Config
    from sightline.data.image_cache import subset
    from sightline.engine.evaluate import evaluate as measure
    from sightline.engine.process_group import process_group
    from sightline.tasks.building import build

    config = resolve(
        Config(name="toy"), toys.COMMON | toys.SETTINGS["classify"] | {"data.path": data, "report.samples": 0}
    )
    parts = build(config, lambda text: None)
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
