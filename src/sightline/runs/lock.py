"""One run a folder."""

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
# A lock belongs to its descriptor: a worker that outlives a killed run would go on holding it.
os.register_at_fork(after_in_child=lambda: [os.close(_locks.pop()) for _ in range(len(_locks))])


@contextlib.contextmanager
def lock_run(folder: Path) -> Generator[str | None]:
    """Keep other runs out of `folder` while this one writes there; the lock of a dead process is void.

    Yields None, or a sentence for the user where the disk cannot lock (some cluster file systems). Raises
    SightlineError that names the process, machine and start of the run that is there.
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
        note = take(lock, path)
        yield note
    finally:
        if lock in _locks:  # else this is a fork, which has closed its copy
            remove_unused(path, lock)
            _locks.discard(lock)
            os.close(lock)


def remove_unused(path: Path, lock: int) -> None:
    """Remove the lock and its folder where no run came to be in it, as after a refusal."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where another run holds it
        if os.listdir(path.parent) == [path.name]:
            path.unlink()
            path.parent.rmdir()


def take(lock: int, path: Path) -> str | None:
    """Lock the open file and write into it who did; returns a note where the disk cannot lock."""
    note = None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or not os.path.samestat(os.fstat(lock), path.stat()):
            raise BlockingIOError  # the one that held it has just removed it: this lock keeps nobody out
    except BlockingIOError as error:
        raise occupied(path.parent, os.pread(lock, 1000, 0)) from error
    except OSError as error:
        note = f"the disk of {path.parent} cannot lock ({error.strerror}): do not start a second run there"
    owner = {"process": os.getpid(), "host": socket.gethostname(), "start": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(owner).encode(), 0)
    except OSError as error:
        raise disk_error(path, error) from error
    return note


def occupied(folder: Path, content: bytes) -> SightlineError:
    """The error for a folder in which another run is writing; `content` is what that run wrote into its lock."""
    why, cure = "it has just begun", "wait for it, or choose another folder with --out"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        owner = json.loads(content)
        why = f"process {owner['process']} on {owner['host']}, since {owner['start']}"
        cure = f"wait for it, end it with `kill {owner['process']}`, or choose another folder with --out"
    return SightlineError("another run is writing into this folder", where=str(folder), why=why, cure=cure)
