"""Count looks at test sets: evaluations, predictions and scores of the same images, across runs and commands.

The folder `test-looks` in the cache folder has two files for each test set: KEY.json lists its image and mask files,
and KEY.jsonl has one line for each folder in which the data were found, and one for each look. `data.cache_dir` has no
effect on this folder, because it may differ between runs.
"""

import json
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import SightlineError, counted
from ..runs.atomic import append_line, atomic_write, disk_error, make_folder, read_json, read_json_lines
from .cache import cache_root, key_of
from .sources.leakage import digest_of
from .types import Source

HASHED = 16
"""The content of about this number of files is part of a test set's key, beside the names and sizes of all files."""
LIBRARY_LAYOUTS = ("torchvision", "sklearn")


class Look(NamedTuple):
    """The position of a look among all looks at a test set, from 1, and the number of runs that have made looks."""

    number: int
    runs: int

    def __str__(self) -> str:
        return f"look {self.number:,} at this test set, from {counted(self.runs, 'run')}"


def ledger_folder() -> Path:
    """The folder of the ledger."""
    return cache_root() / "test-looks"


def register(source: Source, split: str) -> str:
    """Add a split of a data set to the ledger as a test set; returns its key, 64 hex digits.

    The key is made of names and sizes of the image files and the content of a few of them, so that copies of the data
    in another folder have the same key. Raises SightlineError if the ledger cannot be written.
    """
    items, root = source.splits[split], os.path.realpath(source.path)
    library = ":".join(source.path.split(":")[:2]) if source.layout in LIBRARY_LAYOUTS else ""
    sizes = [re.split("[: ]", stamp)[0] for stamp in items.stamps]
    some = items.names[:: max(1, len(sizes) // HASHED)]
    contents = [digest_of(os.path.join(root, name)) for name in some]
    key = key_of([library, sorted(zip(items.names, sizes, strict=True)), contents])
    listing, log = ledger_folder() / f"{key}.json", ledger_folder() / f"{key}.jsonl"
    if not listing.is_file():
        atomic_write(listing, json.dumps({"images": items.names, "masks": items.mask_names or ()}))
    if os.path.isdir(root) and all(line.get("root") != root for line in read_json_lines(log)):
        append(log, {"root": root})
    return key


def record(keys: Iterable[str], command: str, run: Path | None, paths: Sequence[str]) -> Look | None:
    """Record a look at each of these test sets; returns the one with the highest number, None without any.

    command: evaluate, predict or score. run: folder of the run, None for masks of any origin. paths: of the images or
    masks. Raises SightlineError if the ledger cannot be written.
    """
    looks, own, name = [], secrets.token_hex(8), str(run.resolve()) if run else None
    for key in keys:
        log = ledger_folder() / f"{key}.jsonl"
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        append(log, {"look": own, "time": when, "command": command, "run": name, "data": [*paths]})
        lines = [line for line in read_json_lines(log) if "look" in line]
        position = next(index for index, line in enumerate(lines, 1) if line["look"] == own)
        looks.append(Look(position, len({line.get("run") for line in lines[:position]} - {None})))
    return max(looks, default=None)


def append(log: Path, line: dict[str, Any]) -> None:
    """Append a line to a file of the ledger. Lines of processes that write at the same time are not mixed."""
    try:
        make_folder(log.parent)
    except OSError as error:
        raise disk_error(log, error) from error
    append_line(log, json.dumps(line))


class TestImages:
    """Finds the images and masks of known test sets among the inputs of a command, by their paths.

    found: number of them by the key of the test set.
    """

    __test__ = False  # no test class for pytest

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.roots: list[tuple[str, str]] = []
        for log in ledger_folder().glob("*.jsonl"):
            self.roots += [(str(line["root"]), log.stem) for line in read_json_lines(log) if "root" in line]
        self.files: dict[str, set[str]] = {}
        self.last: tuple[str, list[tuple[str, str]]] = "", []

    def add(self, path: str) -> None:
        """Count the file if it belongs to test sets."""
        folder, name = os.path.split(path)
        if folder != self.last[0] or not folder:
            self.last = folder, self.inside(os.path.realpath(folder))
        for key, prefix in self.last[1]:
            self.found[key] += prefix + name in self.files[key]

    def inside(self, folder: str) -> list[tuple[str, str]]:
        """(key, path of the folder relative to the data, ending in /) of each data set that contains a folder."""
        places = []
        for root, key in self.roots:
            if folder == root or folder.startswith(root.rstrip(os.sep) + os.sep):
                places.append((key, "" if folder == root else f"{os.path.relpath(folder, root).replace(os.sep, '/')}/"))
                listing = read_json(ledger_folder() / f"{key}.json") or {} if key not in self.files else {}
                self.files.setdefault(key, {*listing.get("images", ()), *listing.get("masks", ())})
        return places

    def watched(self, paths: Iterable[tuple[Any, str]]) -> Iterator[Any]:
        """Yield all inputs (name, path), counted by `add`."""
        for each in paths:
            self.add(each[1])
            yield each

    @property
    def keys(self) -> list[str]:
        """The keys of the test sets of which files were found."""
        return [key for key, count in self.found.items() if count]

    def record(self, command: str, run: Path | None, paths: Sequence[str]) -> str:
        """Record a look at every test set of which files were found; returns a sentence on it, "" if there are none."""
        try:
            look = record(self.keys, command, run, paths)
        except SightlineError as error:
            return f"warning: this look at test images is not counted: {error.what}: {error.why}"
        return f"{counted(max(self.found.values()), 'test file')}: this is {look}" if look else ""
