"""Signals that stop a run: Ctrl-C (SIGINT), SIGTERM and SIGHUP.

In the training loop, the first signal requests a stop after the current step; a second Ctrl-C stops immediately.
Outside the training loop, each of these signals stops immediately.
"""

import contextlib
import shlex
import signal
import threading
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def stoppable(folder: Path) -> Generator[None]:
    """Context manager: within the block, SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does.

    If KeyboardInterrupt leaves the block, it gets a note (`add_note`) with the command that resumes or restarts the
    run in `folder`. A run that the block has not changed may be an earlier one, which `--overwrite` replaces only after
    decoding; the note is then to repeat the command.
    """
    earlier = versions(folder)
    before = {number: signal.signal(number, signal.default_int_handler) for number in handled_signals(SIGNALS[1:])}
    try:
        yield
    except KeyboardInterrupt as stop:
        present, name = versions(folder), shlex.quote(str(folder))
        if not present.items() - earlier.items():
            stop.add_note("run the same command again")
        elif any(path.suffix == ".safetensors" for path in present):
            stop.add_note(f"sightline resume {name}")
        else:
            stop.add_note(f"sightline train {name}/recipe.yaml --out {name} --overwrite")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def versions(folder: Path) -> dict[Path, int]:
    """When recipe.yaml and each saved state of a run folder were written, in nanoseconds, by path."""
    paths = [folder / "recipe.yaml", *(folder / "checkpoints" / "last").glob("state-*.safetensors")]
    return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}


def handled_signals(names: tuple[str, ...]) -> list[int]:
    """Numbers of the signals `names` that can be handled here; [] outside the main thread. Left out are signals that
    the operating system does not have, and SIGHUP if `nohup` made this process ignore it."""
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [(name, signal.Signals.__members__.get(name)) for name in names]
    return [
        number
        for name, number in numbers
        if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN)
    ]


class StopRequest:
    """Context manager: the first SIGINT, SIGTERM or SIGHUP within the block sets `requested`; a second SIGINT raises
    KeyboardInterrupt. At the end of the block the previous signal handlers are restored.

    received: number of such signals in this process so far, over all instances. A command that trains several runs
    reads it to notice that one of them was stopped.
    """

    received = 0

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in handled_signals(SIGNALS):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        StopRequest.received += 1

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(number, handler)
        self._before.clear()
