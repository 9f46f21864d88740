"""Which process is at which trial: a lock file each, so that several processes can share a sweep's folder."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path

from ..runs.atomic import disk_error, make_folder

BEAT_SECONDS = 10.0
STALE_SECONDS = 90.0
"""A claim of another machine counts as dead after so long without a beat: some disks lock on one machine only."""


class Claim:
    """A trial that this process is at, until `release`; the system releases it where the process is killed."""

    def __init__(self, handle: int, path: Path):
        self.handle, self.path, self.beaten = handle, path, time.monotonic()

    def beat(self) -> None:
        """Say that the trial is still worked on; cheap, call it as often as you like."""
        if time.monotonic() - self.beaten > BEAT_SECONDS:
            self.beaten = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def take(folder: Path, number: int) -> Claim | None:
    """The claim on a trial, or None where another process is at it."""
    path = folder / "claims" / f"{number:04d}"
    handle = opened(path)
    try:
        with contextlib.suppress(UnlockableDisk):
            lock(handle)
        owner = os.pread(handle, 300, 0).decode("utf-8", "replace")
        host = socket.gethostname()
        if owner and owner != host and age(path) < STALE_SECONDS:
            raise BlockingIOError
        os.ftruncate(handle, 0)
        os.pwrite(handle, host.encode(), 0)
        os.utime(path)
        return Claim(handle, path)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        os.close(handle)
        raise disk_error(path, error) from error


class UnlockableDisk(Exception):
    """The disk has no locks, as some of clusters."""


def lock(handle: int) -> None:
    """Lock an open file; BlockingIOError where another process has."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        raise UnlockableDisk from error


def opened(path: Path) -> int:
    """A file to lock, made where it is not there; SightlineError where it cannot be."""
    try:
        make_folder(path.parent)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise disk_error(path, error) from error


def age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its own disk."""
    probe = path.with_name(f".now-{os.getpid()}")
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    return now - path.stat().st_mtime


@contextlib.contextmanager
def turn(folder: Path) -> Generator[None]:
    """One process and thread at a time: for the choice of the next trial."""
    handle = opened(folder / "claims" / "turn")
    try:
        with contextlib.suppress(OSError):  # a disk without locks: two trials may then have the same values
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
