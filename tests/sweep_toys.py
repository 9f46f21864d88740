"""What the tests of sweeps share."""

import contextlib
import os
from typing import Any, ClassVar


def shown(rows: list[dict[str, Any]]) -> list[tuple]:
    """Of trials what must not depend on time: settings, state, value, epochs."""
    return [(r["trial"], r["state"], r["values"], r["value"], r["best_epoch"], r["epochs"], r["same_as"]) for r in rows]


class Forked:
    """A nursery's process, as subprocess.Popen would give it."""

    held: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        import sightline.resume

        import sightline.train  # noqa: F401
        from sightline.sweep.nursery import serve

        down, up = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            for handle in (down[1], up[0], *Forked.held):  # a fork holds the pipes of the nurseries before it
                with contextlib.suppress(OSError):
                    os.close(handle)
            serve(down[0], up[1])
            os._exit(0)
        os.close(down[0])
        os.close(up[1])
        self.stdin, self.stdout = os.fdopen(down[1], "wb", buffering=0), os.fdopen(up[0], "rb", buffering=0)
        self.gone = False
        Forked.held.add(down[1])

    def poll(self) -> int | None:
        self.gone = self.gone or os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return 0 if self.gone else None

    def wait(self, timeout: float = 0) -> None:
        Forked.held.clear()
        if not self.gone:
            os.waitpid(self.pid, 0)
            self.gone = True
