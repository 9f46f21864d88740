"""Atomic, durable file writes, and the JSON files and logs built on them.

A write goes to a temporary file in the same folder, then flush, fsync, rename over the target, and fsync of the folder.
A plain write can leave a partial file when the process dies; a rename without fsync can be lost in a power failure.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from ..errors import ENVIRONMENT, USER, SightlineError

TEMPORARY = ".sightline-tmp-"
WINDOWS = os.name == "nt"
BUSY_SECONDS = 2.0
"""How long a rename is repeated on Windows while another program has the file open, as a virus scanner does."""
PROCESS = secrets.token_hex(4)  # start token: process ids repeat, in a container all are 1


def atomic_write(path: str | Path, content: bytes | str | Callable[[IO[bytes]], object], need: int = 0) -> Path:
    """Write `content` (bytes, text, or a function that writes to a binary file) to `path` atomically and durably.

    In text, characters that UTF-8 cannot encode (from file names that are not UTF-8) become backslash escapes. need:
    number of bytes for the message about a full disk; give it if `content` is a function, or if more files are written
    with this one.

    Raises SightlineError (status ENVIRONMENT) if the folder is not writable or the disk is full; the old file is then
    unchanged, and the temporary file is removed. Exception: if only the last step, the fsync of the folder, fails,
    `path` already has the new content.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    need = need or (0 if callable(content) else len(content))
    with atomic_path(path, need) as temporary, open(temporary, "wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)
    return Path(path)


@contextlib.contextmanager
def atomic_path(path: str | Path, need: int = 0) -> Generator[Path]:
    """Context manager: yield a temporary path to write to, and rename it to `path` at the end of the block. For
    libraries that write to a path. Guarantees, errors and `need` are those of `atomic_write`."""
    path = Path(path)
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{PROCESS}-{secrets.token_hex(4)}"
    try:
        make_folder(path.parent)
        yield temporary
        rename_into_place(temporary, path, need)
    except OSError as error:
        raise disk_error(path, error, need) from error
    finally:
        with contextlib.suppress(OSError):  # the parent may be a file or read-only; that error is raised already
            temporary.unlink()


def rename_into_place(temporary: Path, path: Path, need: int = 0) -> Path:
    """Flush a complete temporary file to disk and rename it to `path`. Errors and `need` as in `atomic_write`."""
    try:
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        rename_when_free(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(path, error, need) from error
    return path


def rename_when_free(source: Path, target: Path) -> None:
    """Rename a file, or a folder to a name that is free. Windows refuses this while another program has one of the
    files open; there it is repeated for up to BUSY_SECONDS."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if not WINDOWS or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def remove(paths: Iterable[Path]) -> None:
    """Remove those of the files and folders that exist. Of a symbolic link, only the link is removed."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents, with fsync, so that a power failure cannot remove them."""
    missing = [folder, *folder.parents]
    missing = missing[: next((i for i, path in enumerate(missing) if path.exists()), len(missing))]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def disk_error(path: Path, error: OSError, need: int = 0) -> SightlineError:
    """Convert an OSError from writing `path` to a SightlineError. need: number of bytes to be
    written, 0 if unknown."""
    cure = "check the folder and the disk, or choose another folder: --out FOLDER"
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cure = "free some space, or choose a folder on another disk: --out FOLDER"
        with contextlib.suppress(OSError, StopIteration):
            volume = next(folder for folder in path.absolute().parents if os.path.ismount(folder))
            free = f"{shutil.disk_usage(volume).free / 1e6:,.1f} MB are free on the disk at {volume}"
            why += f"; it needs {need / 1e6:,.1f} MB, {free}" if need else f"; {free}"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        cure = "choose a folder that you may write to: --out FOLDER"
    elif error.errno == errno.ENOTDIR:
        why, cure = "a parent folder in this path is a file", "choose another folder: --out FOLDER"
    status = USER if error.errno == errno.ENOTDIR else ENVIRONMENT
    return SightlineError(f"cannot write {path.name}", where=str(path), why=why, cure=cure, status=status)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable; do nothing on systems that cannot open or sync folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def write_json(path: str | Path, value: Any) -> Path:
    """Write indented JSON atomically. Raises ValueError for NaN and infinity, which are not valid JSON."""
    return atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Convert `value` to JSON types: NaN and infinity become None, NumPy and torch scalars become Python numbers."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: str | Path, line: str) -> None:
    """Append one line to a log file. If the last line is incomplete after a crash, it is ended first."""
    try:
        with open(path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                line = "\n" + line if torn else line
            file.write(line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError as error:
        raise disk_error(Path(path), error) from error


def read_json(path: Path) -> Any:
    """The value of a JSON file; None if it cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; [] if the file is missing. Lines that are not JSON objects, as after a crash,
    are skipped.
    """
    records: list[dict[str, Any]] = []
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return records
    except OSError as error:
        cure = "check that the file exists and that you may read it: chmod u+r FILE"
        why = error.strerror or str(error)
        raise SightlineError("cannot read the log", where=str(path), why=why, cure=cure, status=ENVIRONMENT) from error
    for line in content.split(
        b"\n"
    ):  # not splitlines, which also splits at U+2028 and U+0085, which JSON text may contain
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_stale_temporaries(folder: str | Path) -> int:
    """Remove temporary files below `folder` whose process no longer exists; return their number.

    The name of a temporary file has the process id and start token of the process that created it. A file is stale if
    no process has this id, or if it is the id of this process with another start token. Call this only with the lock of
    the folder held: processes of other machines seem not to exist here.
    """
    removed = 0
    for path in Path(folder).rglob(f"{TEMPORARY}*"):
        owner, _, token = path.name.removeprefix(TEMPORARY).partition("-")
        if not (owner.isdecimal() and path.is_file()):
            continue
        own = int(owner) == os.getpid()
        if (own and not token.startswith(PROCESS)) or not process_exists(int(owner)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                removed += 1
    return removed


def process_exists(process_id: int) -> bool:
    """Whether a process with this id exists on this machine."""
    if WINDOWS:
        return windows_process_exists(process_id)
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True


def windows_process_exists(process_id: int) -> bool:
    """`process_exists` on Windows, where os.kill with signal 0 would send Ctrl-C to the process."""
    import ctypes

    synchronize, access_denied, wait_timeout = 0x100000, 5, 0x102
    library: Any = ctypes
    kernel = library.WinDLL("kernel32", use_last_error=True)
    handle = kernel.OpenProcess(synchronize, False, process_id & 0xFFFFFFFF)
    if not handle:
        return library.get_last_error() == access_denied  # it belongs to another user
    running = kernel.WaitForSingleObject(handle, 0) == wait_timeout
    kernel.CloseHandle(handle)
    return running
