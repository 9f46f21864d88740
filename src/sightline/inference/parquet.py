"""Parquet out of a table of predictions, a piece at a time."""

import csv
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import SightlineError
from ..runs.atomic import atomic_path

ROWS = 50_000
TEXTS = ("filename", "label", "error")


def require_parquet() -> Any:
    """pyarrow; SightlineError with the command that installs it where it is not there."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        cure = "pip install 'sightline-vision[parquet]', or --out with the ending .csv"
        raise SightlineError("Parquet needs pyarrow", why="it is not installed", cure=cure) from error
    return pyarrow


def write_parquet(table: Path, target: Path) -> Path:
    """The CSV `table` as Parquet: texts, and float64 for all other columns, null where a field is empty.

    Names that are not UTF-8 have backslash escapes there. Not more than ROWS rows are in memory.
    """
    arrow = require_parquet()
    with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file, atomic_path(target) as place:
        rows = csv.reader(file)
        head = next(rows)
        types = [arrow.string() if name in TEXTS else arrow.float64() for name in head]
        with arrow.parquet.ParquetWriter(place, arrow.schema(list(zip(head, types, strict=True)))) as writer:
            while piece := list(islice(rows, ROWS)):
                columns = []
                for values, kind in zip(zip(*piece, strict=True), types, strict=True):
                    column = [readable(value) if kind == arrow.string() else decimal(value) for value in values]
                    columns.append(arrow.array(column, kind))
                writer.write_table(arrow.table(columns, names=head))
    return target


def decimal(text: str) -> float | None:
    """A number, or None for an empty field."""
    return float(text) if text else None


def readable(text: str) -> str:
    """Text that is UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
