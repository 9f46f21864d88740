"""CSV writer that can resume after an interruption, with optional features.

Rows are appended to `guesses.csv.part`, which is renamed to `guesses.csv` at the end. `guesses.csv.part.json` records
the inputs of the prediction and the number of rows that were flushed to disk; resuming truncates the table to these
rows. Features are float32, one row per row of the table. They are written to `guesses.features.npy` in the same way.

Under torchrun each process writes such a table. If it is complete, it is renamed too, but its record and its features
remain until the tables of all processes are merged, so that only tables of the same inputs are merged.
"""

import csv
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import SightlineError
from ..runs.atomic import (
    atomic_write,
    disk_error,
    make_folder,
    read_json,
    remove,
    rename_into_place,
    rename_when_free,
    write_json,
)
from ..runs.csv_io import csv_text
from .parquet import write_parquet

COMMIT_SECONDS = 1.0
"""Rows are flushed to disk at this interval. If the process is killed, only the rows since the last flush are lost."""


@dataclass
class ResumableTable:
    """A table that is being written.

    target: path of the complete table. columns: its header. rows, size: number of rows and bytes written so far. width:
    number of features per row, 0 without features. origin: the inputs of the prediction (weights, images, options),
    which must be the same when it is resumed. committed: time of the last flush, by time.monotonic.
    """

    target: Path
    columns: list[str]
    rows: int = 0
    size: int = 0
    width: int = 0
    origin: dict[str, Any] = field(default_factory=dict)
    committed: float = 0.0

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def record(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    @property
    def features(self) -> Path:
        return self.target.with_name(f"{self.target.stem}.features.npy")

    @property
    def features_part(self) -> Path:
        return self.features.with_name(f"{self.features.name}.part")

    @property
    def outputs(self) -> list[Path]:
        """The complete table and its features; not the features if they may be those of a table of this name in the
        other format."""
        other = self.target.with_suffix(".parquet" if self.target.suffix.lower() == ".csv" else ".csv")
        return [self.target] if other.exists() else [self.target, self.features]

    def begin(self, origin: dict[str, Any], overwrite: bool, replaced: Sequence[Path] = ()) -> None:
        """Start the table, or resume an interrupted one. A new table removes the earlier one and the files `replaced`,
        so that it can be resumed without `overwrite`. origin: the inputs of the prediction (weights, images, options).
        Raises SightlineError if those of the interrupted one differ."""
        self.origin = origin
        known = None if overwrite else read_json(self.record)
        if isinstance(known, dict) and (self.part.is_file() or self.target.is_file()):
            require_same_origin(known.get("origin"), origin, self.part)
            if not self.part.is_file():  # the complete table of one of several processes
                rename_when_free(self.target, self.part)
            self.rows, self.size, self.width = known["rows"], known["size"], known["width"]
            if truncate(self.part, self.size) and truncate(self.features_part, 4 * self.width * self.rows):
                return
            self.rows = self.width = 0  # after a power loss the files may be shorter than the record says: start again
        remove([self.record, self.part, self.features_part, *self.outputs, *replaced])
        self.size = self.append(self.part, csv_text([self.columns]))
        self.commit()

    def saved(self) -> Iterator[tuple[str, str]]:
        """Yield the first and the last cell of each row written so far: name of the image, and error."""
        with open(self.part, encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield from ((row[0], row[-1]) for row in islice(csv.reader(file), 1, 1 + self.rows))

    def add(self, rows: Sequence[Sequence[str]], features: np.ndarray | None = None) -> None:
        """Append rows and their features float32 [N, D]; NaN without `features`, if the table has features."""
        width = self.width if features is None else features.shape[1]
        if width and not self.width:
            self.append(self.features_part, unknown_features(self.rows, width).tobytes())
        if width:
            values = unknown_features(len(rows), width) if features is None else features
            self.append(self.features_part, np.ascontiguousarray(values, np.float32).tobytes())
        size = self.append(self.part, csv_text(rows))
        self.rows, self.size, self.width = (
            self.rows + len(rows),
            self.size + size,
            width,
        )  # one statement, so that Ctrl-C cannot update only some
        if time.monotonic() - self.committed > COMMIT_SECONDS:
            self.commit()

    def append(self, path: Path, content: bytes) -> int:
        """Append to a file; return the number of bytes. Raises SightlineError if the disk is full or read-only."""
        try:
            make_folder(path.parent)
            with open(path, "ab") as file:
                return file.write(content)
        except OSError as error:
            raise disk_error(path, error) from error

    def commit(self) -> None:
        """Flush the rows to disk, then record their number in the .part.json file."""
        try:
            for path in (self.features_part, self.part) if self.width else (self.part,):
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(self.part, error) from error
        known = {"origin": self.origin, "rows": self.rows, "size": self.size, "width": self.width}
        write_json(self.record, known)
        self.committed = time.monotonic()

    def finish_share(self) -> None:
        """Rename the complete table of one of several processes; its record and features are for `merge_shards`."""
        self.commit()
        rename_into_place(self.part, self.target)

    def is_share(self, origin: dict[str, Any]) -> bool:
        """Whether this is the complete table of a process, of the same origin; its number of rows is loaded then."""
        known = read_json(self.record)
        if not self.target.is_file() or self.part.is_file() or not isinstance(known, dict):
            return False
        self.rows, self.width = known["rows"], known["width"]
        return known.get("origin") == origin

    def finish(self) -> Path:
        """Rename or convert the table to `target`, write its features as .npy, and remove the temporary files."""
        if self.width:
            atomic_write(self.features, self.save_features, need=4 * self.rows * self.width)
        if self.target.suffix.lower() == ".parquet":
            write_parquet(self.part, self.target)
        else:
            rename_into_place(self.part, self.target)
        remove([self.record, self.part, self.features_part])
        return self.target

    def save_features(self, file: IO[bytes]) -> None:
        """Write the features as .npy. The mapped file is released at the end; Windows removes no mapped file."""
        np.save(file, np.memmap(self.features_part, np.float32, "r", shape=(self.rows, self.width)))


def truncate(path: Path, size: int) -> bool:
    """Truncate a file to `size` bytes; returns False if it is shorter or missing."""
    length = os.path.getsize(path) if path.is_file() else 0
    if length > size:
        os.truncate(path, size)
    return length >= size


def unknown_features(rows: int, width: int) -> np.ndarray:
    """Features of images that cannot be read: NaN, float32 [rows, width]."""
    return np.full((rows, width), np.nan, np.float32)


def require_same_origin(known: Any, origin: dict[str, Any], where: Path) -> None:
    """Raise SightlineError if an unfinished prediction was started with other inputs (weights, images or options)."""
    if known != origin:
        differs = ", ".join(key for key in origin if not isinstance(known, dict) or known.get(key) != origin[key])
        why = f"it was started with different values of: {differs or 'its settings'}"
        cure = "start the prediction again with --overwrite, or choose another file: --out FILE"
        what = "an unfinished prediction cannot be resumed"
        raise SightlineError(what, where=str(where), why=why, cure=cure)
