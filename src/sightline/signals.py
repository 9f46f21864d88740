"""A polite end: SIGINT, SIGTERM and SIGHUP ask the loop to stop after the step; a second SIGINT stops at once."""

import contextlib
import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Context in which the first signal sets `requested`; outside it signals do what they did before.

    taken: how many signals the process has taken this way; a grid sees in it that one of its runs was asked to stop.
    """

    taken = 0

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = signal.Signals.__members__.get(name)
                if number is not None:
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
