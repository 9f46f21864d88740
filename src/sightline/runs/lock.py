"""Lock of a run folder: at most one process writes to it."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path

from ..errors import SightlineError
from .atomic import disk_error, make_folder

_locks: set[int] = set()  # descriptors of held locks
# Locks are inherited with the descriptor: a worker that outlives a killed run would keep the folder locked.
os.register_at_fork(after_in_child=lambda: [os.close(_locks.pop()) for _ in range(len(_locks))])


@contextlib.contextmanager
def lock_run(folder: Path) -> Generator[str | None]:
    """Context manager: lock the run folder `folder`, so that no other process writes to it.

    The operating system releases the lock when its process ends, also after a crash. Yields None, or a warning for the
    user if the file system does not support locks (some cluster file systems). If another run holds the lock, raises
    SightlineError with the process, host and start time of that run.
    """
    folder = Path(folder)
    path = folder / ".lock"
    try:
        make_folder(folder)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise disk_error(path, error) from error
    _locks.add(lock)
    try:
        note = acquire(lock, path)
        yield note
    finally:
        if lock in _locks:  # else this is a forked process, which has closed its copy
            remove_unused(path, lock)
            _locks.discard(lock)
            os.close(lock)


def remove_unused(path: Path, lock: int) -> None:
    """Remove the lock file, and the folder if nothing else is in it, as when a run failed before it wrote a file."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if another run holds the lock
        if os.listdir(path.parent) == [path.name]:
            path.unlink()
            path.parent.rmdir()


def acquire(lock: int, path: Path) -> str | None:
    """Lock the opened lock file and write into it which process holds the lock. Returns None, or a warning if the
    file system does not support locks."""
    note = None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or not os.path.samestat(os.fstat(lock), path.stat()):
            raise BlockingIOError  # the previous holder has just removed the file; a lock on it has no effect
    except BlockingIOError as error:
        raise locked_error(path.parent, os.pread(lock, 1000, 0)) from error
    except OSError as error:
        note = f"the disk of {path.parent} does not support locks ({error.strerror}): start no second run there"
    owner = {"process": os.getpid(), "host": socket.gethostname(), "start": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(owner).encode(), 0)
    except OSError as error:
        raise disk_error(path, error) from error
    return note


def locked_error(folder: Path, content: bytes) -> SightlineError:
    """The error for a folder that another run has locked; content: what that run wrote into its lock file."""
    why, cure = "it has just started", "wait until it has ended, or choose another folder with --out"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        owner = json.loads(content)
        why = f"it is process {owner['process']} on {owner['host']}, started {owner['start']}"
        cure = (
            f"wait until that process has ended, end it (kill {owner['process']}), or choose another folder: --out "
            "FOLDER"
        )
    return SightlineError("another run is writing into this folder", where=str(folder), why=why, cure=cure)
