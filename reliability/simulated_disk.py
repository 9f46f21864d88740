"""Simulated disk that loses unsynced data: enumerates the states that a power loss may leave.

`Recorder` records the file system calls of the real saving code. After a power loss at call k, everything that an fsync
made durable is present, with any subset of the other writes and folder changes. Real file systems lose less.
"""

import builtins
import contextlib
import itertools
import os
import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliability.toys import patched

MAX_STATES = 40  # tried for one crash point


@dataclass(frozen=True)
class Call:
    """A recorded call. kind: write (`data` at `offset` of file number `file`), truncate (to `offset` bytes), fsync (of
    `file`, or of the folder `path`), link (`path` becomes a name of `file`; note: the old name, if renamed), unlink
    (`path`), mkdir (`path`), acknowledge (the saving code promises that `note` is on the disk)."""

    kind: str
    path: str = ""
    file: int = -1
    offset: int = 0
    data: bytes = b""
    note: Any = None


class Recorder:
    """Records the calls below `root`, for those functions of `os` and `open` that Sightline uses."""

    def __init__(self, root: Path):
        self.root, self.calls = str(root), list[Call]()
        self.files: dict[str, int] = {}  # path -> number
        self.handles: dict[int, tuple[str, int]] = {}  # open descriptor of a file or folder -> path, number
        self.number = itertools.count()

    def is_below_root(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(self.root)

    def add(self, kind: str, path: Any = "", **more: Any) -> None:
        self.calls.append(Call(kind, os.path.abspath(path) if path else "", **more))

    def acknowledge(self, note: Any) -> None:
        """Record that `note` is promised to be on the disk."""
        self.add("acknowledge", note=note)

    @contextlib.contextmanager
    def recording(self) -> Generator[None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(patched(builtins, "open", self.recorded("open", builtins.open)))
            stack.enter_context(patched(os, "open", self.recorded("os_open", os.open)))
            for name in PATCHED:
                stack.enter_context(patched(os, name, self.recorded(name, getattr(os, name))))
            yield

    def recorded(self, name: str, real: Any) -> Any:
        return lambda *arguments, **options: getattr(self, f"on_{name}")(real, *arguments, **options)

    def file_number(self, path: Any, truncate: bool) -> int:
        key = os.path.abspath(path)
        if key not in self.files:
            self.files[key] = next(self.number)
            self.add("link", key, file=self.files[key])
        elif truncate:
            self.add("truncate", file=self.files[key])
        return self.files[key]

    def on_open(self, real: Any, path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if self.is_below_root(path) and not set(mode) & set("wax+"):
            file = real(path, mode, *arguments, **options)
            self.handles[file.fileno()] = (os.path.abspath(path), self.files.get(os.path.abspath(path), -1))
            return file
        if not self.is_below_root(path):
            return real(path, mode, *arguments, **options)
        file = real(path, mode, *arguments, **options)
        number = self.file_number(path, "w" in mode)
        self.handles[file.fileno()] = (os.path.abspath(path), number)
        return RecordedFile(self, file, number, os.path.getsize(path) if "a" in mode else None)

    def on_fsync(self, real: Any, handle: int) -> None:
        path, number = self.handles.get(handle, ("", -1))
        if path and os.path.isdir(path):
            self.add("fsync", path)
        elif number >= 0:
            self.add("fsync", file=number)

    def on_replace(self, real: Any, source: Any, target: Any, **options: Any) -> None:
        real(source, target, **options)
        if self.is_below_root(target):
            number = self.files.pop(os.path.abspath(source))
            self.files[os.path.abspath(target)] = number
            self.add("link", target, file=number, note=os.path.abspath(source))

    on_rename = on_replace

    def on_unlink(self, real: Any, path: Any, **options: Any) -> None:
        real(path, **options)
        if self.is_below_root(path):
            self.files.pop(os.path.abspath(path), None)
            self.add("unlink", path)

    on_remove = on_unlink

    def on_mkdir(self, real: Any, path: Any, *arguments: Any, **options: Any) -> None:
        real(path, *arguments, **options)
        if self.is_below_root(path):
            self.add("mkdir", path)

    def on_truncate(self, real: Any, path: Any, length: int) -> None:
        real(path, length)
        if self.is_below_root(path):
            self.add("truncate", file=self.file_number(path, False), offset=length)

    def on_os_open(self, real: Any, path: Any, *arguments: Any, **options: Any) -> int:
        handle = real(path, *arguments, **options)
        if self.is_below_root(path):
            self.handles[handle] = (os.path.abspath(path), self.files.get(os.path.abspath(path), -1))
        return handle


PATCHED = ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "truncate")


class RecordedFile:
    """An open file whose writes are recorded; `at`: the next offset if the file is appended to."""

    def __init__(self, recorder: Recorder, file: Any, number: int, at: int | None):
        self.recorder, self.file, self.number, self.at = recorder, file, number, at

    def write(self, data: Any) -> int:
        content = bytes(data)
        offset = self.file.tell() if self.at is None else self.at
        self.recorder.add("write", file=self.number, offset=offset, data=content)
        if self.at is not None:
            self.at += len(content)
        return self.file.write(data)

    def __enter__(self) -> "RecordedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@dataclass
class CrashPoint:
    """The durable calls at a power loss, the pending ones (any subset may be on the disk), and the last acknowledged
    note."""

    durable: list[Call]
    pending: list[Call]
    acknowledged: Any


def crash_after(calls: list[Call]) -> CrashPoint:
    """The state of the disk at a power loss after these calls."""
    synced: set[int] = set()
    for k, call in enumerate(calls):
        if call.kind == "fsync" and call.file >= 0:
            synced |= {n for n in range(k) if calls[n].kind in ("write", "truncate") and calls[n].file == call.file}
        elif call.kind == "fsync":
            synced |= {n for n in range(k) if changed_folder(calls[n]) == call.path}
    changes = [n for n, call in enumerate(calls) if call.kind not in ("fsync", "acknowledge")]
    notes = [call.note for call in calls if call.kind == "acknowledge"]
    durable = [calls[n] for n in changes if n in synced]
    pending = [calls[n] for n in changes if n not in synced]
    return CrashPoint(durable, pending, notes[-1] if notes else None)


def changed_folder(call: Call) -> str:
    """The folder whose entries a call changes, "" if none."""
    return os.path.dirname(call.path) if call.kind in ("link", "unlink", "mkdir") else ""


def states(calls: list[Call], rng: random.Random, limit: int = MAX_STATES) -> Iterator[tuple[list[Call], Any]]:
    """Yield (calls whose effect is on the disk, last acknowledged note), each state once.

    All crash points are tried, with at most about `limit` subsets of the pending calls each.
    """
    seen: set[tuple[Any, frozenset[int]]] = set()
    for k in range(1, len(calls) + 1):
        crash = crash_after(calls[:k])
        order = {id(call): index for index, call in enumerate(calls)}
        for chosen in subsets(len(crash.pending), rng, limit):
            kept = [*crash.durable, *(crash.pending[n] for n in chosen)]
            key = (repr(crash.acknowledged), frozenset(order[id(call)] for call in kept))
            if key not in seen:
                seen.add(key)
                yield sorted(kept, key=lambda call: order[id(call)]), crash.acknowledged


def subsets(count: int, rng: random.Random, limit: int) -> Iterator[tuple[int, ...]]:
    """All subsets of range(count); if there are more than `limit`, the empty one, the full one, single elements, their
    complements, and random ones."""
    if 2**count <= limit:
        for size in range(count + 1):
            yield from itertools.combinations(range(count), size)
        return
    every = tuple(range(count))
    yield ()
    yield every
    for n in every[-(limit // 4) :]:
        yield (n,)
        yield tuple(m for m in every if m != n)
    for _ in range(limit // 2):
        yield tuple(n for n in every if rng.random() < 0.5)


def materialize(calls: list[Call], root: str, target: Path) -> None:
    """Write the files that result from these calls to `target`, which replaces `root`. Lost data in a file is zeros."""
    contents: dict[int, bytearray] = {}
    entries: dict[str, int] = {}
    folders: set[str] = set()
    for call in calls:
        if call.kind == "link":
            entries[call.path] = call.file
            if call.note and entries.get(call.note) == call.file:
                del entries[call.note]
        elif call.kind == "unlink":
            entries.pop(call.path, None)
        elif call.kind == "mkdir":
            folders.add(call.path)
        elif call.kind == "truncate":
            del contents.setdefault(call.file, bytearray())[call.offset :]
        elif call.kind == "write":
            content = contents.setdefault(call.file, bytearray())
            content.extend(b"\0" * (call.offset - len(content)))
            content[call.offset : call.offset + len(call.data)] = call.data
    for path in folders:
        if all(parent in folders or not parent.startswith(root + "/") for parent in parents(path)):
            (target / os.path.relpath(path, root)).mkdir(parents=True, exist_ok=True)
    for path, number in entries.items():
        file = target / os.path.relpath(path, root)
        if file.parent.is_dir():  # otherwise the folder was lost, and the file with it
            file.write_bytes(bytes(contents.get(number, b"")))


def parents(path: str) -> Iterator[str]:
    """The folders above a path, the nearest first."""
    while (above := os.path.dirname(path)) != path:
        yield above
        path = above
