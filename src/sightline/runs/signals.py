"""A polite end: SIGINT, SIGTERM and SIGHUP ask the loop to stop after the step; a second SIGINT stops at once.

Outside the loop, where there is no step to finish, each of them stops at once.
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
    """Within the block SIGTERM and SIGHUP do what Ctrl-C does; a KeyboardInterrupt leaves it with a note of the command
    that goes on with the run in `folder`."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in taken(SIGNALS[1:])}
    try:
        yield
    except KeyboardInterrupt as stop:
        saved = any((folder / "checkpoints" / "last").glob("state-*.safetensors"))
        begun = (folder / "recipe.yaml").is_file()
        name = shlex.quote(str(folder))
        again = f"sightline train {name}/recipe.yaml --out {name} --overwrite" if begun else "the same command again"
        stop.add_note(f"sightline resume {name}" if saved else again)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def taken(names: tuple[str, ...]) -> list[int]:
    """The numbers of the signals that this thread may handle and this system has. `nohup` has SIGHUP ignored, and it
    stays so."""
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [(name, signal.Signals.__members__.get(name)) for name in names]
    return [
        number
        for name, number in numbers
        if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN)
    ]


class StopRequest:
    """Context in which the first signal sets `requested`; outside it signals do what they did before.

    taken: how many signals the process has taken this way; a grid sees in it that one of its runs was asked to stop.
    """

    taken = 0

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in taken(SIGNALS):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        StopRequest.taken += 1

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(number, handler)
        self._before.clear()
