"""Tables as CSV: the columns of predictions/val.csv and of the output of `sightline predict`, and their lines."""

import csv
from collections.abc import Iterable, Sequence

RUN_COLUMNS = ("filename", "label", "truth", "confidence")  # followed by one probability for each class
PREDICT_COLUMNS = ("filename", "label", "confidence")  # followed by one probability for each class, and `error`
TAKEN = {*RUN_COLUMNS, *PREDICT_COLUMNS, "error"}
PREFIX = "class "


def collides(name: str) -> bool:
    """Whether a class is named like another column, or like a class that was renamed for this reason."""
    while name.startswith(PREFIX):
        name = name.removeprefix(PREFIX)
    return name in TAKEN


def class_columns(classes: Sequence[str]) -> list[str]:
    """Headers of the probability columns: the names of the classes, prefixed by `class ` if they collide."""
    return [PREFIX + name if collides(name) else name for name in classes]


def classes_of(columns: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes from the headers of the probability columns."""
    return tuple(name.removeprefix(PREFIX) if collides(name) else name for name in columns)


class CsvLines(list[str]):
    """The target of a csv.writer: a text for each row, ending with a line feed."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def csv_text(rows: Iterable[Sequence[object]]) -> bytes:
    """Lines of CSV; names that are not UTF-8 keep their bytes."""
    lines = CsvLines()
    # Python 3.11 quotes the characters of its own line end, but no other carriage return, which it reads as a row's
    # end.
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    text = "".join(lines)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # an unpaired surrogate: in no file name, but perhaps in text from YAML or JSON
        return text.encode("utf-8", "backslashreplace")
