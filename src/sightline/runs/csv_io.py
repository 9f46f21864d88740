"""CSV tables: columns of predictions/val.csv and of the output of `sightline predict`, and conversion to text."""

import csv
from collections.abc import Iterable, Sequence

RUN_COLUMNS = ("filename", "label", "truth", "confidence")  # followed by one probability for each class
PREDICT_COLUMNS = ("filename", "label", "confidence")  # followed by one probability for each class, and `error`
RESERVED_COLUMNS = {*RUN_COLUMNS, *PREDICT_COLUMNS, "error"}
PREFIX = "class "


def collides(name: str) -> bool:
    """Whether a class name cannot be a column of the table, because it is the name of another column, or looks like
    a class name that was prefixed for this reason."""
    while name.startswith(PREFIX):
        name = name.removeprefix(PREFIX)
    return name in RESERVED_COLUMNS


def class_columns(classes: Sequence[str]) -> list[str]:
    """Headers of the probability columns: the class names, prefixed by `class ` if they collide with another column."""
    return [PREFIX + name if collides(name) else name for name in classes]


def classes_of(columns: Sequence[str]) -> tuple[str, ...]:
    """Class names from the headers of the probability columns, without the prefix that `class_columns` may add."""
    return tuple(name.removeprefix(PREFIX) if collides(name) else name for name in columns)


class CsvLines(list[str]):
    """File-like object for csv.writer that collects the rows as a list of text lines, each ending with a line feed."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def csv_text(rows: Iterable[Sequence[object]]) -> bytes:
    """Encode rows as CSV in UTF-8. Bytes of file names that are not valid UTF-8 are written unchanged."""
    lines = CsvLines()
    # Python 3.11 quotes only carriage returns that are part of the line terminator, but reads all of them as row ends.
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    text = "".join(lines)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # an unpaired surrogate: never in a file name, but possible in text from YAML or JSON
        return text.encode("utf-8", "backslashreplace")
