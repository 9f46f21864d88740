"""Convert a table of predictions from CSV to Parquet, block by block."""

import csv
from pathlib import Path
from typing import Any

from ..errors import SightlineError
from ..runs.atomic import atomic_path

TEXTS = ("filename", "label", "error")
BLOCK = 2**24
"""Size in bytes of the blocks of CSV that are converted at a time."""


def require_parquet() -> Any:
    """Import pyarrow; raise SightlineError with the command to install it if it is missing."""
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        cure = "install it: pip install 'sightline-vision[parquet]'; or write CSV: --out predictions.csv"
        raise SightlineError(
            "writing Parquet needs the package pyarrow", why="it is not installed", cure=cure
        ) from error
    return pyarrow


def write_parquet(table: Path, target: Path) -> Path:
    """Convert the CSV file `table` to the Parquet file `target`; returns `target`.

    The columns in TEXTS are strings, all others float64; an empty field is null. Bytes that are not UTF-8 become
    backslash escapes.
    """
    arrow = require_parquet()
    with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
        names = next(csv.reader(file))
    read = arrow.csv.ReadOptions(column_names=names, skip_rows_after_names=1, block_size=BLOCK)
    parse = arrow.csv.ParseOptions(newlines_in_values=True)
    types = {name: arrow.binary() if name in TEXTS else arrow.float64() for name in names}
    convert = arrow.csv.ConvertOptions(column_types=types, null_values=[""])
    schema = arrow.schema([(name, arrow.string() if name in TEXTS else arrow.float64()) for name in names])
    with atomic_path(target) as path, arrow.parquet.ParquetWriter(path, schema) as writer:
        for batch in arrow.csv.open_csv(table, read, parse, convert):
            columns = [text(column) if column.type == arrow.binary() else column for column in batch.columns]
            writer.write_table(arrow.table(columns, schema=schema))
    return target


def text(column: Any) -> list[str]:
    """Decode a column of bytes to text; bytes that are not UTF-8 become backslash escapes."""
    return [value.decode("utf-8", "backslashreplace") for value in column.to_pylist()]
