"""A CSV table with optional features that can be watched while it is written, and resumed after an interruption.

`guesses.csv` is written as `guesses.csv.part`. Beside it `guesses.csv.part.json` records what the table is computed
from, and how many rows are on the disk; resuming drops everything behind these. Features are float32, a row for each
row of the table, and are written in the same way to `guesses.features.npy`.
"""

import csv
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SightlineError
from ..runs.atomic import atomic_write, disk_error, make_folder, read_json, remove, rename_into_place, write_json
from ..runs.csv_io import csv_text
from .parquet import write_parquet

COMMIT_SECONDS = 1.0
"""Rows are flushed to the disk this often; a killed process loses no more than these seconds."""


@dataclass
class ResumableTable:
    """target: path of the complete table. columns: its header. rows, size: rows and bytes written so far. width:
    features of a row, 0 without any. origin: what the table is computed from."""

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

    def begin(self, origin: dict[str, Any], overwrite: bool) -> None:
        """Start the table, or resume an interrupted one; SightlineError if that has another origin."""
        self.origin = origin
        known = None if overwrite else read_json(self.record)
        if isinstance(known, dict) and self.part.is_file():
            require_same_origin(known.get("origin"), origin, self.part)
            self.rows, self.size, self.width = known["rows"], known["size"], known["width"]
            if cut(self.part, self.size) and cut(self.features_part, 4 * self.width * self.rows):
                return
            self.rows = self.width = 0  # a power cut has kept the record, and not the files
        remove([self.record, self.part, self.features_part])
        self.size = self.append(self.part, csv_text([self.columns]))
        self.commit()

    def names(self) -> Iterator[str]:
        """The first column of the rows so far."""
        with open(self.part, encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield from (row[0] for row in islice(csv.reader(file), 1, 1 + self.rows))

    def add(self, rows: Sequence[Sequence[str]], features: np.ndarray | None = None) -> None:
        """Append rows, and their features float32 [N, D]; None: unknown for these rows, which is stored as NaN."""
        width = self.width if features is None else features.shape[1]
        if width and not self.width:
            self.append(self.features_part, unknown_features(self.rows, width).tobytes())
        if width:
            values = unknown_features(len(rows), width) if features is None else features
            self.append(self.features_part, np.ascontiguousarray(values, np.float32).tobytes())
        size = self.append(self.part, csv_text(rows))
        self.rows, self.size, self.width = self.rows + len(rows), self.size + size, width  # Ctrl-C leaves all or none
        if time.monotonic() - self.committed > COMMIT_SECONDS:
            self.commit()

    def append(self, path: Path, content: bytes) -> int:
        """Append to a file, and return the number of bytes; SightlineError if the disk is full or not writable."""
        try:
            make_folder(path.parent)
            with open(path, "ab") as file:
                return file.write(content)
        except OSError as error:
            raise disk_error(path, error) from error

    def commit(self) -> None:
        """Flush the rows to the disk, then record how many there are."""
        try:
            for path in (self.features_part, self.part) if self.width else (self.part,):
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(self.part, error) from error
        known = {"origin": self.origin, "rows": self.rows, "size": self.size, "width": self.width}
        write_json(self.record, known)
        self.committed = time.monotonic()

    def finish(self) -> Path:
        """Rename the complete table, write its features as .npy, and remove the working files."""
        if self.width:
            values = np.memmap(self.features_part, np.float32, "r", shape=(self.rows, self.width))
            atomic_write(self.features, lambda file: np.save(file, values), need=values.nbytes)
        if self.target.suffix.lower() == ".parquet":
            write_parquet(self.part, self.target)
        else:
            rename_into_place(self.part, self.target)
        remove([self.record, self.part, self.features_part])
        return self.target


def cut(path: Path, size: int) -> bool:
    """Cut a file to `size` bytes; False if it has fewer, or is missing."""
    held = os.path.getsize(path) if path.is_file() else 0
    if held > size:
        os.truncate(path, size)
    return held >= size


def unknown_features(rows: int, width: int) -> np.ndarray:
    """NaN for images that cannot be read: float32 [rows, width]."""
    return np.full((rows, width), np.nan, np.float32)


def require_same_origin(known: Any, origin: dict[str, Any], where: Path) -> None:
    """SightlineError if an unfinished prediction was started with another origin."""
    if known != origin:
        differs = ", ".join(key for key in origin if not isinstance(known, dict) or known.get(key) != origin[key])
        why = f"it was started with other {differs or 'settings'}"
        cure = "--overwrite to start again, or another --out"
        raise SightlineError("there is an unfinished prediction", where=str(where), why=why, cure=cure)
