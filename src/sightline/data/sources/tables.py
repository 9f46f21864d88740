"""Read tables of labels (CSV, TSV) strictly: every invalid line is reported."""

import csv
import io
import os
import re
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import SightlineError, counted, listing, some_of
from .labels import nearest_hint, sorted_classes
from .scan import EXTENSIONS
from .splits import split_names, split_of

# Column names in lower case, without spaces and underscores.
FILE_COLUMNS = ("filename", "file", "image", "imagename", "path", "filepath", "imagepath", "img", "imageid")
LABEL_COLUMNS = ("label", "labels", "target", "category", "class", "classname", "labelname", "classid", "labelid")
NAME_COLUMNS = ("classname", "labelname", "class", "category")
SPLIT_COLUMNS = ("split", "subset")
GROUP_COLUMNS = ("group",)

Lines = list[tuple[int, list[str]]]
"""(line number, cells) of each row."""


class Row(NamedTuple):
    """A row of a table. label: the class name if the table has one, else as written. split, group: may be empty."""

    line: int
    file: str
    label: str
    split: str
    group: str = ""


@dataclass(frozen=True)
class LabelTable:
    """rows: in file order. classes: in the order of their ids if the table has ids and names, else empty.

    notes: sentences for the user. grouped: whether the table has a column of groups.
    """

    path: str
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    grouped: bool = False


def read_table(path: str) -> LabelTable:
    """Read a table with a header: UTF-8, with or without byte-order mark; comma, semicolon or tab between cells.

    Cells are stripped of spaces and otherwise kept as written: `1` and `01` are two labels. SightlineError with all
    invalid lines.
    """
    text = decode(path)
    (_, header), *lines = parse(path, text)
    columns = find_columns(header, path)
    lines = [(line, [cell.strip() for cell in cells]) for line, cells in lines]
    faults = [
        f"line {line}: {len(cells)} instead of {len(header)} cells"
        for line, cells in lines
        if len(cells) != len(header)
    ]
    lines = [(line, cells) for line, cells in lines if len(cells) == len(header)]
    faults += [
        f"line {line}: no {what}" for line, cells in lines for what in ("filename", "label") if not cells[columns[what]]
    ]
    names, unclear = names_of_ids(lines, columns)
    splits, unknown, notes = splits_of_rows(lines, columns, path)
    faults += unclear + unknown
    if faults:
        what = f"the table has {counted(len(faults), 'invalid line')}"
        cure = "correct or remove these lines; a cell that contains the separator needs double quotes"
        raise SightlineError(what, where=path, why="\n" + listing(faults), cure=cure)
    group = columns.get("group")
    rows = tuple(
        Row(
            line,
            cells[columns["filename"]],
            names.get(cells[columns["label"]], cells[columns["label"]]),
            split,
            "" if group is None else cells[group],
        )
        for (line, cells), split in zip(lines, splits, strict=True)
    )
    classes = tuple(names[label] for label in sorted_classes(set(names)))
    return LabelTable(path, rows, classes, notes, group is not None)


def decode(path: str) -> str:
    """The text of a UTF-8 file; SightlineError with the line of the first invalid byte."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        why = error.strerror or str(error)
        raise SightlineError("cannot read the table", where=path, why=why, cure="check the file") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SightlineError(
            "the table is not UTF-8 text",
            where=f"{path}, line {line}",
            why=f"the byte 0x{content[error.start]:02x} is not valid here",
            cure="save it again as CSV UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD.csv > NEW.csv",
        ) from error


def separator(text: str) -> str:
    """The cell separator: the most frequent of comma, semicolon and tab in the first line."""
    first = text.lstrip("\r\n").splitlines()[0] if text.strip("\r\n") else ""
    return max(",;\t", key=first.count)


def parse(path: str, text: str) -> Lines:
    """The header and the rows, at least one, without empty lines. A row has the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator(text), strict=True)
    found: Lines = []
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        where, cure = f"{path}, line {start}", "correct that line; an unclosed double quote includes the lines after it"
        raise SightlineError("invalid CSV", where=where, why=str(error), cure=cure) from error
    if len(found) < 2:
        cure = "it needs a header with the columns filename,label, and one line for each image"
        raise SightlineError("the table has no rows", where=path, cure=cure)
    return found


def normalized(header: list[str]) -> list[str]:
    """Column names in lower case, without spaces and underscores."""
    return [re.sub("[ _]", "", cell.strip().lower()) for cell in header]


def peek_header(path: str) -> set[str]:
    """The normalized column names of a table; empty if its first line cannot be read."""
    try:
        with open(path, "rb") as file:
            text = file.readline(65536).decode("utf-8-sig")
        return set(normalized(next(csv.reader([text], delimiter=separator(text)), [])))
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()


def has_columns(path: str) -> bool:
    """Whether a table has a column of file names and a column of labels."""
    names = peek_header(path)
    return not names.isdisjoint(FILE_COLUMNS) and not names.isdisjoint(LABEL_COLUMNS)


def holds_predictions(path: str) -> bool:
    """Whether `predict` or `evaluate` wrote a table, so that its labels are predicted."""
    return is_predictions(peek_header(path))


def is_predictions(names: set[str]) -> bool:
    """Whether normalized column names are those of predictions."""
    return {"filename", "label", "confidence"} <= names and not names.isdisjoint(("truth", "error"))


def find_columns(header: list[str], path: str) -> dict[str, int]:
    """Column indices of `filename` and `label`, and of `name`, `split` and `group` if present."""
    names = normalized(header)
    reject_header(names, header, path)
    columns = {}
    for what, accepted in (("filename", FILE_COLUMNS), ("label", LABEL_COLUMNS)):
        found = next((name for name in accepted if name in names), "")
        if names.count(found) != 1:
            raise SightlineError(
                f"the table has {'two columns' if found else 'no column'} {what!r}",
                where=f"{path}, line 1",
                why=f"it needs the columns filename,label; found: {some_of([repr(cell) for cell in header])}",
                cure=f"name exactly one column {what!r}{nearest_hint(what, header)}",
            )
        columns[what] = names.index(found)
    for what, accepted in (("name", NAME_COLUMNS), ("split", SPLIT_COLUMNS), ("group", GROUP_COLUMNS)):
        found = next((name for name in accepted if name in names and names.index(name) != columns["label"]), None)
        if found:
            columns[what] = names.index(found)
    return columns


def reject_header(names: list[str], header: list[str], path: str) -> None:
    """SightlineError if the first line is a row of data, or the header of predictions."""
    if is_predictions(set(names)):
        raise SightlineError(
            "this table holds predictions, not labels",
            where=path,
            why="it has the columns filename, label and confidence, with truth or error, as `sightline predict` writes",
            cure="give the table of true labels; if 'label' is the truth here, remove the column 'confidence'",
        )
    data = any(name.endswith(EXTENSIONS) or name.isdigit() for name in names)
    if data and len(names) > 1 and {*FILE_COLUMNS, *LABEL_COLUMNS}.isdisjoint(names):
        raise SightlineError(
            "the table has no header line",
            where=f"{path}, line 1",
            why=f"the first line looks like data: {some_of([repr(cell.strip()) for cell in header])}",
            cure="add a first line that names the columns in their order, such as filename,label",
        )


def names_of_ids(lines: Lines, columns: dict[str, int]) -> tuple[dict[str, str], list[str]]:
    """(label -> class name if labels are whole numbers with a column of names, else empty; contradicting lines)."""
    label, name = columns["label"], columns.get("name")
    if name is None or not all(re.fullmatch(r"[0-9]+", cells[label]) for _, cells in lines):
        return {}, []
    known: dict[tuple[int, str], tuple[str, int]] = {}
    faults = []
    for line, cells in lines:
        for this, other in ((label, name), (name, label)):
            value, first = known.setdefault((this, cells[this]), (cells[other], line))
            if value != cells[other]:
                faults.append(f"lines {first} and {line}: {cells[this]!r} goes with {value!r} and {cells[other]!r}")
    faults += [f"line {line}: no class name" for line, cells in lines if not cells[name]]
    return {cells[label]: cells[name] for _, cells in lines}, faults


def splits_of_rows(lines: Lines, columns: dict[str, int], path: str) -> tuple[list[str], list[str], tuple[str, ...]]:
    """(split of every row, or empty strings; faults; notes). A column without any known split name is not used."""
    column = columns.get("split")
    words = [] if column is None else [cells[column] for _, cells in lines]
    if not split_names(sorted({word.lower() for word in words}), f"{path}, column {(column or 0) + 1}", wide=True):
        shown = some_of([repr(word) for word in dict.fromkeys(words)])
        note = (
            f"the split column of {os.path.basename(path)} is not used: it has {shown}, and none of train, val and test"
        )
        return [""] * len(lines), [], (note,) if words else ()
    splits = [split_of(word, wide=True) or "" for word in words]
    unknown = [
        f"line {line}: {word!r} is not train, val or test"
        for (line, _), word, split in zip(lines, words, splits, strict=True)
        if not split
    ]
    return splits, unknown, ()
