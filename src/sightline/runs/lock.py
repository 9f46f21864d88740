"""Locks of run folders and other outputs: at most one process writes to each."""

import contextlib
import errno
import importlib
import json
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from ..errors import SightlineError
from .atomic import disk_error, make_folder

LOCK = ".lock"
"""Name of the lock file of a run folder, and ending of the lock files of other outputs."""
LOCKED_BYTE = 1 << 30
"""Offset of the byte that is locked on Windows, behind the text of the lock file: nobody can read a locked byte."""


def system_module(name: str) -> Any:
    """A module of the standard library that not every operating system has, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl, msvcrt = system_module("fcntl"), system_module("msvcrt")
_locks: set[int] = set()  # descriptors of held locks
# Locks are inherited with the descriptor: a worker that outlives a killed run would keep the folder locked.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: [os.close(_locks.pop()) for _ in range(len(_locks))])


@contextlib.contextmanager
def lock_run(folder: Path) -> Generator[str | None]:
    """Context manager: lock the run folder `folder`, so that no other process writes to it.

    The operating system releases the lock when its process ends, also after a crash. Yields None, or a warning for the
    user if the file system does not support locks (some cluster file systems). If another run holds the lock, raises
    SightlineError with the process, host and start time of that run.
    """
    with locked(Path(folder) / LOCK) as note:
        yield note


@contextlib.contextmanager
def lock_output(target: Path) -> Generator[str | None]:
    """Context manager: `lock_run` for an output that is no run folder. The lock file `NAME.lock` is beside it, and is
    removed at the end."""
    with locked(target.with_name(f"{target.name}{LOCK}")) as note:
        yield note


@contextlib.contextmanager
def locked(path: Path) -> Generator[str | None]:
    """Context manager: hold the lock of the lock file `path`; see `lock_run`."""
    try:
        make_folder(path.parent)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise disk_error(path, error) from error
    _locks.add(lock)
    try:
        note = acquire(lock, path)
        yield note
    finally:
        if lock in _locks:  # else this is a forked process, which has closed its copy
            _locks.discard(lock)
            release(path, lock)


def release(path: Path, lock: int) -> None:
    """Close the lock file, and remove it. That of a run folder is removed, with the folder, only if nothing else is in
    it, as when a run failed before it wrote a file."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        stack.callback(os.close, lock)
        if fcntl is None:
            stack.close()  # Windows removes no open file, neither this one nor that of another run
        else:
            lock_descriptor(lock)  # raises if another run holds the lock
        if path.name != LOCK:
            path.unlink()
        elif os.listdir(path.parent) == [path.name]:
            path.unlink()
            path.parent.rmdir()


def lock_descriptor(lock: int) -> None:
    """Lock an opened file, without waiting. Raises BlockingIOError if another process has locked it, and OSError if
    the file system or the operating system does not support locks."""
    if fcntl is not None:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif msvcrt is not None:
        os.lseek(lock, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(errno.EAGAIN, "locked by another process") from error
    else:
        raise OSError(errno.ENOSYS, "this operating system has no file locks")


def acquire(lock: int, path: Path) -> str | None:
    """Lock the opened lock file and write into it which process holds the lock. Returns None, or a warning if the
    file system does not support locks."""
    note = None
    try:
        lock_descriptor(lock)
        if fcntl is not None and not (path.exists() and os.path.samestat(os.fstat(lock), path.stat())):
            raise BlockingIOError  # the previous holder has just removed the file; a lock on it has no effect
    except BlockingIOError as error:
        os.lseek(lock, 0, os.SEEK_SET)
        raise locked_error(path, os.read(lock, 1000)) from error
    except OSError as error:
        note = f"the disk of {path.parent} does not support locks ({error.strerror}): start no second run there"
    owner = {"process": os.getpid(), "host": socket.gethostname(), "start": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        os.ftruncate(lock, 0)
        os.lseek(lock, 0, os.SEEK_SET)
        os.write(lock, json.dumps(owner).encode())
    except OSError as error:
        raise disk_error(path, error) from error
    return note


def locked_error(path: Path, content: bytes) -> SightlineError:
    """The error for a folder or another output that another process has locked. path: of the lock file. content: what
    that process wrote into it."""
    what, where, kind = "another run is writing into this folder", path.parent, "folder"
    if path.name != LOCK:
        what, where, kind = "another command is writing this output", path.with_suffix(""), "output"
    why, cure = "it has just started", f"wait until it has ended, or choose another {kind} with --out"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        owner = json.loads(content)
        why = f"it is process {owner['process']} on {owner['host']}, started {owner['start']}"
        end = f"wait until that process has ended, end it (kill {owner['process']})"
        cure = f"{end}, or choose another {kind}: --out {'FOLDER' if kind == 'folder' else 'PATH'}"
    return SightlineError(what, where=str(where), why=why, cure=cure)


def is_locked(folder: Path) -> bool:
    """Whether another process writes to the run folder; False if that cannot be known."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        lock_descriptor(lock)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
    return False
