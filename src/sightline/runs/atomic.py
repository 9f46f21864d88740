"""Every file Sightline writes goes through here: whole and durable, or not there at all.

A write is: temporary file in the same folder, flush, fsync, rename over the target, fsync of the folder.
Plain writes lose a file when the process dies between open and write; renames without fsync lose it at a power cut.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from ..errors import ENVIRONMENT, USER, SightlineError

TEMPORARY = ".sightline-tmp-"
PROCESS = secrets.token_hex(4)  # tells this process from a dead one with the same id: in a container all are number 1


def atomic_write(path: str | Path, content: bytes | str | Callable[[IO[bytes]], object], need: int = 0) -> Path:
    """Write `content` (bytes, text, or a function given a binary file) to `path` as one atomic, durable step.

    In text, what UTF-8 cannot encode (a file name that is not UTF-8) becomes a backslash escape. Raises SightlineError
    (status ENVIRONMENT) where the folder cannot be written or the disk is full; the old file is then untouched and
    no temporary file stays. Only a failing fsync of the folder, the last step, leaves the new file whole in place.
    need: bytes that a function will write, or that are written together with these, for the message where they do not
    fit.
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
    """`atomic_write` for libraries that want a path: the file that they write there becomes `path` at the end."""
    path = Path(path)
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{PROCESS}-{secrets.token_hex(4)}"
    try:
        make_folder(path.parent)
        yield temporary
        adopt(temporary, path, need)
    except OSError as error:
        raise disk_error(path, error, need) from error
    finally:
        with contextlib.suppress(OSError):  # the parent may be a file, or read-only: that error is on its way already
            temporary.unlink()


def adopt(temporary: Path, path: Path, need: int = 0) -> Path:
    """Give a file that is whole its name, the last step of a write; SightlineError as `atomic_write`."""
    try:
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(path, error, need) from error
    return path


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders that are there; of a link the link alone."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """`folder` and its missing parents, each durable: a synced file in an unsynced folder is lost with the folder."""
    missing = [folder, *folder.parents]
    missing = missing[: next((i for i, path in enumerate(missing) if path.exists()), len(missing))]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def disk_error(path: Path, error: OSError, need: int = 0) -> SightlineError:
    """The user's view of an OSError while writing `path`, which takes `need` bytes where that is known."""
    cure = "check the folder and the disk, or choose another place with --out"
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cure = "free some space, or choose another place with --out"
        with contextlib.suppress(OSError, StopIteration):
            volume = next(place for place in path.absolute().parents if place.is_mount())
            free = f"{shutil.disk_usage(volume).free / 1e6:,.1f} MB are free on the disk at {volume}"
            why += f"; it needs {need / 1e6:,.1f} MB, {free}" if need else f"; {free}"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        cure = "choose a folder you may write to: --out"
    elif error.errno == errno.ENOTDIR:
        why, cure = "a part of this path is a file", "choose another place with --out"
    status = USER if error.errno == errno.ENOTDIR else ENVIRONMENT
    return SightlineError(f"cannot write {path.name}", where=str(path), why=why, cure=cure, status=status)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable; a no-op where a system cannot open or sync folders."""
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
    """Indented JSON; NaN and infinity are refused, because no other reader accepts them."""
    return atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinity become null, NumPy and torch numbers plain ones."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: str | Path, line: str) -> None:
    """Add one line to a log. A line torn by a crash is ended first; `read_json_lines` leaves it out."""
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
    """The value of a JSON file; None where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, none where it is missing; lines that a crash left torn are left out."""
    records: list[dict[str, Any]] = []
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return records
    except OSError as error:
        cure = "check the path and its permissions"
        why = error.strerror or str(error)
        raise SightlineError("cannot read a log", where=str(path), why=why, cure=cure, status=ENVIRONMENT) from error
    for line in content.split(b"\n"):  # not splitlines: JSON text may hold U+2028 and U+0085, which end lines there
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep_temporaries(folder: str | Path) -> int:
    """Remove temporary files that a killed process left below `folder`; returns how many.

    An orphan is one whose process is dead, or has this process's id but not its mark. Call it while holding the
    folder's lock: a writer on another machine looks dead from here.
    """
    removed = 0
    for path in Path(folder).rglob(f"{TEMPORARY}*"):
        owner, _, mark = path.name.removeprefix(TEMPORARY).partition("-")
        if not (owner.isdecimal() and path.is_file()):
            continue
        own = int(owner) == os.getpid()
        if (own and not mark.startswith(PROCESS)) or not process_lives(int(owner)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                removed += 1
    return removed


def process_lives(process_id: int) -> bool:
    """Whether a process with this id exists on this machine."""
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
