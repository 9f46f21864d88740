"""Tables: the columns of predictions/val.csv and of what `sightline predict` writes, and lines of CSV."""

import csv
from collections.abc import Iterable, Sequence

RUN_COLUMNS = ("filename", "label", "truth", "confidence")  # then one probability a class
PREDICT_COLUMNS = ("filename", "label", "confidence")  # then one probability a class, then `error`
TAKEN = {*RUN_COLUMNS, *PREDICT_COLUMNS, "error"}
PREFIX = "class "


def collides(name: str) -> bool:
    """Whether a class is named like another column, or like a class that had to be renamed for it."""
    while name.startswith(PREFIX):
        name = name.removeprefix(PREFIX)
    return name in TAKEN


def class_columns(classes: Sequence[str]) -> list[str]:
    """Headers of the probability columns: the classes' names, with `class ` before those that other columns have."""
    return [PREFIX + name if collides(name) else name for name in classes]


def classes_of(columns: Sequence[str]) -> tuple[str, ...]:
    """The classes' names out of the headers of the probability columns."""
    return tuple(name.removeprefix(PREFIX) if collides(name) else name for name in columns)


class Lines(list[str]):
    """What csv.writer writes to: a text a row, which ends with a line feed alone."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def csv_text(rows: Iterable[Sequence[object]]) -> bytes:
    """Lines of CSV; names that are not UTF-8 keep their bytes."""
    lines = Lines()
    # Python 3.11 quotes the characters of its own line end, else no carriage return, which it reads as a row's end.
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    text = "".join(lines)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character: no file name holds one, but text from YAML or JSON may
        return text.encode("utf-8", "backslashreplace")
