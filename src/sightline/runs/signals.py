"""Signal handling: SIGINT, SIGTERM and SIGHUP request a stop after the present step; a second SIGINT stops at once.

Outside the training loop each of them stops at once.
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
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt within the block; add the command that resumes the run to the
    exception.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in handled_signals(SIGNALS[1:])}
    try:
        yield
    except KeyboardInterrupt as stop:
        saved = any((folder / "checkpoints" / "last").glob("state-*.safetensors"))
        begun = (folder / "recipe.yaml").is_file()
        name = shlex.quote(str(folder))
        restart = f"sightline train {name}/recipe.yaml --out {name} --overwrite"
        stop.add_note(f"sightline resume {name}" if saved else restart if begun else "run the same command again")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def handled_signals(names: tuple[str, ...]) -> list[int]:
    """Numbers of the signals that this system has and this thread may handle, without a SIGHUP ignored by `nohup`."""
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [(name, signal.Signals.__members__.get(name)) for name in names]
    return [
        number
        for name, number in numbers
        if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN)
    ]


class StopRequest:
    """Context manager in which the first signal sets `requested`; the previous handlers are restored at the end.

    received: number of signals received by all instances of this process, by which a grid notices that one of its runs
    was stopped.
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
