"""A disk that loses what was not synced: every state that a power cut may leave behind.

The calls of the real saving code are recorded (`Recorder`). At a cut after k of them, what an fsync has made durable is
there; of all later data, and of all later changes to folders, any subset is. That is more than real file systems lose.
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

from reliability.toys import swapped

MOST = 40  # states that are tried at one cut, where there are more


@dataclass(frozen=True)
class Call:
    """kind: write (of `data` at `offset` into file number `file`), cut (to `offset` bytes), fsync (of a file, or of the
    folder `path`), enter (`path` becomes `file`), leave (`path` goes), folder (`path` is made), acknowledge."""

    kind: str
    path: str = ""
    file: int = -1
    offset: int = 0
    data: bytes = b""
    note: Any = None


class Recorder:
    """Records what is done below `root` with the calls that Sightline uses."""

    def __init__(self, root: Path):
        self.root, self.calls = str(root), list[Call]()
        self.files: dict[str, int] = {}  # path -> number
        self.handles: dict[int, tuple[str, int]] = {}  # open descriptor of a file or folder -> path, number
        self.number = itertools.count()

    def inside(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(self.root)

    def add(self, kind: str, path: Any = "", **more: Any) -> None:
        self.calls.append(Call(kind, os.path.abspath(path) if path else "", **more))

    def acknowledge(self, note: Any) -> None:
        """What was just saved is now promised to be there."""
        self.add("acknowledge", note=note)

    @contextlib.contextmanager
    def recording(self) -> Generator[None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(swapped(builtins, "open", self.wrapped("open", builtins.open)))
            stack.enter_context(swapped(os, "open", self.wrapped("os_open", os.open)))
            for name in PATCHED:
                stack.enter_context(swapped(os, name, self.wrapped(name, getattr(os, name))))
            yield

    def wrapped(self, name: str, real: Any) -> Any:
        return lambda *arguments, **options: getattr(self, f"on_{name}")(real, *arguments, **options)

    def entered(self, path: Any, cut: bool) -> int:
        key = os.path.abspath(path)
        if key not in self.files:
            self.files[key] = next(self.number)
            self.add("enter", key, file=self.files[key])
        elif cut:
            self.add("cut", file=self.files[key])
        return self.files[key]

    def on_open(self, real: Any, path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if self.inside(path) and not set(mode) & set("wax+"):
            file = real(path, mode, *arguments, **options)
            self.handles[file.fileno()] = (os.path.abspath(path), self.files.get(os.path.abspath(path), -1))
            return file
        if not self.inside(path):
            return real(path, mode, *arguments, **options)
        file = real(path, mode, *arguments, **options)
        number = self.entered(path, "w" in mode)
        self.handles[file.fileno()] = (os.path.abspath(path), number)
        return Written(self, file, number, os.path.getsize(path) if "a" in mode else None)

    def on_fsync(self, real: Any, handle: int) -> None:
        path, number = self.handles.get(handle, ("", -1))
        if path and os.path.isdir(path):
            self.add("fsync", path)
        elif number >= 0:
            self.add("fsync", file=number)

    def on_replace(self, real: Any, source: Any, target: Any, **options: Any) -> None:
        real(source, target, **options)
        if self.inside(target):
            number = self.files.pop(os.path.abspath(source))
            self.files[os.path.abspath(target)] = number
            self.add("enter", target, file=number, note=os.path.abspath(source))

    on_rename = on_replace

    def on_unlink(self, real: Any, path: Any, **options: Any) -> None:
        real(path, **options)
        if self.inside(path):
            self.files.pop(os.path.abspath(path), None)
            self.add("leave", path)

    on_remove = on_unlink

    def on_mkdir(self, real: Any, path: Any, *arguments: Any, **options: Any) -> None:
        real(path, *arguments, **options)
        if self.inside(path):
            self.add("folder", path)

    def on_truncate(self, real: Any, path: Any, length: int) -> None:
        real(path, length)
        if self.inside(path):
            self.add("cut", file=self.entered(path, False), offset=length)

    def on_os_open(self, real: Any, path: Any, *arguments: Any, **options: Any) -> int:
        handle = real(path, *arguments, **options)
        if self.inside(path):
            self.handles[handle] = (os.path.abspath(path), self.files.get(os.path.abspath(path), -1))
        return handle


PATCHED = ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "truncate")


class Written:
    """A file whose writes are recorded."""

    def __init__(self, recorder: Recorder, file: Any, number: int, at: int | None):
        self.recorder, self.file, self.number, self.at = recorder, file, number, at

    def write(self, data: Any) -> int:
        content = bytes(data)
        place = self.file.tell() if self.at is None else self.at
        self.recorder.add("write", file=self.number, offset=place, data=content)
        if self.at is not None:
            self.at += len(content)
        return self.file.write(data)

    def __enter__(self) -> "Written":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@dataclass
class Cut:
    """What is durable after k calls, and what is not: any subset of `pending` may be on the disk."""

    durable: list[Call]
    pending: list[Call]
    acknowledged: Any


def cuts(calls: list[Call]) -> Iterator[Cut]:
    """The cut after each call."""
    for k in range(1, len(calls) + 1):
        yield cut_after(calls[:k])


def cut_after(calls: list[Call]) -> Cut:
    """Which of these calls are durable once they are all made."""
    synced: set[int] = set()
    for place, call in enumerate(calls):
        if call.kind == "fsync" and call.file >= 0:
            synced |= {n for n in range(place) if calls[n].kind in ("write", "cut") and calls[n].file == call.file}
        elif call.kind == "fsync":
            synced |= {n for n in range(place) if entry_folder(calls[n]) == call.path}
    changes = [n for n, call in enumerate(calls) if call.kind not in ("fsync", "acknowledge")]
    notes = [call.note for call in calls if call.kind == "acknowledge"]
    durable = [calls[n] for n in changes if n in synced]
    pending = [calls[n] for n in changes if n not in synced]
    return Cut(durable, pending, notes[-1] if notes else None)


def entry_folder(call: Call) -> str:
    """The folder whose list of names a call changes."""
    return os.path.dirname(call.path) if call.kind in ("enter", "leave", "folder") else ""


def states(calls: list[Call], dice: random.Random, most: int = MOST) -> Iterator[tuple[list[Call], Any]]:
    """(the calls whose effect is on the disk, what was acknowledged) for each cut and subset, each state once."""
    seen: set[tuple[Any, frozenset[int]]] = set()
    for k in range(1, len(calls) + 1):
        cut = cut_after(calls[:k])
        order = {id(call): place for place, call in enumerate(calls)}
        for chosen in subsets(len(cut.pending), dice, most):
            kept = [*cut.durable, *(cut.pending[n] for n in chosen)]
            key = (repr(cut.acknowledged), frozenset(order[id(call)] for call in kept))
            if key not in seen:
                seen.add(key)
                yield sorted(kept, key=lambda call: order[id(call)]), cut.acknowledged


def subsets(count: int, dice: random.Random, most: int) -> Iterator[tuple[int, ...]]:
    """All subsets of so many things; where they are more than `most`: none, all, each alone, all but each, and some."""
    if 2**count <= most:
        for size in range(count + 1):
            yield from itertools.combinations(range(count), size)
        return
    every = tuple(range(count))
    yield ()
    yield every
    for n in every[-(most // 4) :]:
        yield (n,)
        yield tuple(m for m in every if m != n)
    for _ in range(most // 2):
        yield tuple(n for n in every if dice.random() < 0.5)


def materialize(calls: list[Call], root: str, target: Path) -> None:
    """Write the files that these calls leave, below `target` in place of `root`. Lost data within a file is zeros."""
    contents: dict[int, bytearray] = {}
    entries: dict[str, int] = {}
    folders: set[str] = set()
    for call in calls:
        if call.kind == "enter":
            entries[call.path] = call.file
            if call.note and entries.get(call.note) == call.file:
                del entries[call.note]
        elif call.kind == "leave":
            entries.pop(call.path, None)
        elif call.kind == "folder":
            folders.add(call.path)
        elif call.kind == "cut":
            del contents.setdefault(call.file, bytearray())[call.offset :]
        elif call.kind == "write":
            content = contents.setdefault(call.file, bytearray())
            content.extend(b"\0" * (call.offset - len(content)))
            content[call.offset : call.offset + len(call.data)] = call.data
    for path in folders:
        if all(parent in folders or not parent.startswith(root + "/") for parent in parents(path)):
            (target / os.path.relpath(path, root)).mkdir(parents=True, exist_ok=True)
    for path, number in entries.items():
        place = target / os.path.relpath(path, root)
        if place.parent.is_dir():  # else its folder is lost, and it with it
            place.write_bytes(bytes(contents.get(number, b"")))


def parents(path: str) -> Iterator[str]:
    """The folders above, the nearest first."""
    while (above := os.path.dirname(path)) != path:
        yield above
        path = above
