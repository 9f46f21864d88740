"""Shared by the tests of sweeps."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any


def without_times(rows: list[dict[str, Any]]) -> list[tuple]:
    """The reproducible fields of each trial: settings, state, value, epochs."""
    return [(r["trial"], r["state"], r["values"], r["value"], r["best_epoch"], r["epochs"], r["same_as"]) for r in rows]


class ForkedProcess:
    """Replaces `start_process`: forks the test process, which has already imported torch."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        from sightline.sweep import child

        self.status: int | None = None
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid:
            return
        try:
            os.setsid()
            log = os.open(child.log_file(folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                signal.signal(signal.Signals[name], signal.SIG_DFL)
            child.main(folder, parent)
        finally:
            os._exit(0)

    def poll(self) -> int | None:
        if self.status is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if done else None
        return self.status

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
