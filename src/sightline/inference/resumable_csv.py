"""A table that grows while it can be watched, and is gone on with after an interruption.

`guesses.csv` is `guesses.csv.part` until it is whole, beside `guesses.csv.part.json`, which says what it is of. Rows
are added a chunk at a time; one that a crash has torn is cut off. Features, where wanted, grow beside it in
`guesses.features.npy.part`, a row for each row.
"""

import csv
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SightlineError
from ..runs.atomic import adopt, append_bytes, read_json, remove, write_json
from ..runs.csv_io import csv_text

HEADER = 128
"""Bytes of the head of a features file: always the same, so that the number of rows can be set at the end."""


@dataclass
class Growing:
    """target: the table when it is whole. columns: their heads. rows: complete ones so far. wide: features a row."""

    target: Path
    columns: list[str]
    rows: int = 0
    wide: int = 0

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def origin(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    @property
    def features(self) -> Path:
        """The features when they are whole."""
        return self.target.with_name(f"{self.target.stem}.features.npy")

    @property
    def features_part(self) -> Path:
        return self.features.with_name(f"{self.features.name}.part")

    def begin(self, origin: dict[str, Any], overwrite: bool) -> None:
        """Start the table, or find out how far an interrupted one of the same origin has come.

        SightlineError where the interrupted one is of another origin (other weights, pictures or columns).
        """
        if overwrite or not (self.part.is_file() and self.origin.is_file()):
            remove([self.part, self.origin, self.features_part])
            write_json(self.origin, origin)
            append_bytes(self.part, csv_text([self.columns]))
            return
        refuse_other(self.origin, origin, str(self.part))
        self.cut()

    def cut(self) -> None:
        """Cut off what a crash left torn, so that table and features have the same number of rows."""
        ends = [end for _, end in complete_rows(self.part, len(self.columns))]
        if not ends:
            remove([self.part, self.features_part])
            append_bytes(self.part, csv_text([self.columns]))
            return
        self.rows = len(ends) - 1
        if self.features_part.is_file():
            self.wide = np.load(self.features_part, mmap_mode="r").shape[1] if self.rows else 0
            held = max(0, os.path.getsize(self.features_part) - HEADER) // (4 * self.wide) if self.wide else 0
            self.rows = min(self.rows, held)
            if self.rows:
                os.truncate(self.features_part, HEADER + 4 * self.wide * self.rows)
            else:
                remove([self.features_part])
        os.truncate(self.part, ends[self.rows])

    def names(self) -> Iterator[str]:
        """The first column of the rows that are there."""
        rows = complete_rows(self.part, len(self.columns))
        next(rows)
        for _, (row, _) in zip(range(self.rows), rows, strict=False):
            yield row[0]

    def add(self, rows: Sequence[Sequence[str]], features: np.ndarray | None = None) -> None:
        """Write rows, and their features float [N, D]; both are in the file when this returns."""
        if features is not None:
            if not self.features_part.is_file():
                self.wide = features.shape[1]
                append_bytes(self.features_part, npy_head(0, self.wide))
            append_bytes(self.features_part, np.ascontiguousarray(features, dtype="<f4").tobytes())
        append_bytes(self.part, csv_text(rows))
        self.rows += len(rows)

    def finish(self) -> Path:
        """Give table and features their names."""
        if self.features_part.is_file():
            with open(self.features_part, "r+b") as file:
                file.write(npy_head(self.rows, self.wide))
            adopt(self.features_part, self.features)
        if self.target.suffix.lower() == ".parquet":
            from .parquet import write_parquet

            write_parquet(self.part, self.target)
            remove([self.part])
        else:
            adopt(self.part, self.target)
        remove([self.origin])
        return self.target


def refuse_other(begun: Path, origin: dict[str, Any], where: str) -> None:
    """SightlineError where the file `begun` says that what lies there unfinished is of another origin."""
    if (known := read_json(begun)) != origin:
        differs = ", ".join(key for key in origin if not isinstance(known, dict) or known.get(key) != origin[key])
        why, cure = f"it was begun with other {differs or 'settings'}", "--overwrite to begin anew, or another --out"
        raise SightlineError("an unfinished prediction lies there", where=where, why=why, cure=cure)


def complete_rows(path: Path, columns: int) -> Iterator[tuple[list[str], int]]:
    """(a row, the byte behind it) of each row that is whole, up to one that is not."""
    place, last = 0, b"\n"

    def lines() -> Iterator[str]:
        nonlocal place, last
        with open(path, "rb") as file:
            for last in file:
                place += len(last)
                yield last.decode("utf-8", "surrogateescape")

    rows = csv.reader(lines(), strict=True)  # strict: an open quote at the end is an error, not a row
    with suppress(csv.Error):
        for row in rows:
            if len(row) != columns or not last.endswith(b"\n"):
                return
            yield row, place


def npy_head(rows: int, wide: int) -> bytes:
    """The first HEADER bytes of a .npy file (format 1.0) of float32 [rows, wide]."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {wide}), }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER - 10) + text.ljust(HEADER - 11).encode("ascii") + b"\n"
