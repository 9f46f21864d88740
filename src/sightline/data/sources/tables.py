"""Tables of labels (CSV), read strictly: their header, their rows, and what is no such table."""

import csv
import difflib
import io
import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import SightlineError, listing
from .labels import sorted_classes
from .scan import EXTENSIONS
from .splits import ALIASES, SPLIT_NAMES, split_of

FILE_COLUMNS = (
    "filename",
    "file",
    "file_name",
    "image",
    "image_name",
    "path",
    "filepath",
    "file_path",
    "image_path",
    "img",
    "image_id",
)
LABEL_COLUMNS = ("label", "labels", "target", "category", "class", "class_name", "label_name", "class_id", "label_id")
NAME_COLUMNS = ("class_name", "label_name", "class", "category")
SPLIT_COLUMNS = ("split", "subset")
GROUP_COLUMN = "group"


class Row(NamedTuple):
    """One line of a table. label: the class name where the table gives one, else as written. split, group: or empty."""

    line: int
    file: str
    label: str
    split: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """rows in the file's order; classes in the order of their ids where the table gives ids and names, else empty.

    notes: sentences for the user. grouped: whether it has a column of groups.
    """

    path: str
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    grouped: bool = False


class Columns(NamedTuple):
    """Places of the columns in a row; -1: the table has no such column."""

    file: int
    label: int
    name: int
    split: int
    group: int


def read_table(path: str) -> Table:
    """The rows of a CSV file with a header: UTF-8 (a byte-order mark is fine), separated by commas, semicolons or tabs.

    Cells lose the spaces around them and are otherwise kept as written: `1` and `01` are two labels. Raises
    SightlineError with the line for everything that is not so.
    """
    text = decoded_text(path)
    lines = parsed(path, text)
    header = lines[0][1]
    if is_predictions(header):
        raise SightlineError(
            "this table holds predictions, not labels",
            where=path,
            why="it has the columns filename, label and confidence, with truth or error, as `sightline predict` writes",
            cure="give the table of true labels; if 'label' is the truth here, remove the column 'confidence'",
        )
    columns = find_columns(header, path, separator(text))
    ragged = [
        f"line {line}: {len(cells)} instead of {len(header)}" for line, cells in lines[1:] if len(cells) != len(header)
    ]
    if ragged:
        raise SightlineError(
            f"{len(ragged):,} rows do not have as many cells as the header"
            if len(ragged) > 1
            else "a row does not have as many cells as the header",
            where=path,
            why="\n" + listing(ragged),
            cure="mend these lines; a cell that holds the separator must stand in double quotes",
        )
    body = [(line, [cell.strip() for cell in cells]) for line, cells in lines[1:]]
    needed = {"file name": columns.file, "label": columns.label}
    empty = [f"line {line}: no {what}" for line, cells in body for what, place in needed.items() if not cells[place]]
    if empty or not body:
        raise SightlineError(
            "some cells are empty" if empty else "the table has no rows",
            where=path,
            why="\n" + listing(empty) if empty else "there is only a header",
            cure="fill them in, or remove these lines" if empty else "write one line for each image",
        )
    names = names_of_ids(body, columns, path)
    splits = splits_of_rows(body, columns, path)
    rows = [
        Row(
            line,
            cells[columns.file],
            names.get(cells[columns.label], cells[columns.label]),
            split,
            cells[columns.group] if columns.group >= 0 else "",
        )
        for (line, cells), split in zip(body, splits, strict=True)
    ]
    classes = tuple(names[label] for label in sorted_classes(set(names)))
    notes = unknown_splits(header, body, columns, splits, path)
    return Table(path, tuple(rows), classes, notes, columns.group >= 0)


def first_line(path: str) -> list[str]:
    """The cells of a table's first line, for a look; empty where there is none that can be read."""
    try:
        with open(path, "rb") as file:
            return parsed(path, file.readline(65536).decode("utf-8-sig"))[0][1]
    except (OSError, UnicodeDecodeError, SightlineError):
        return []


def has_columns(path: str) -> bool:
    """Whether a file looks like a table of labels: its first line has a column of file names and one of labels."""
    try:
        find_columns(first_line(path), path)
    except SightlineError:
        return False
    return True


def holds_predictions(path: str) -> bool:
    """Whether a file is what `predict` or `evaluate` wrote: its labels are a model's opinion and no truth."""
    return is_predictions(first_line(path))


def is_predictions(header: list[str]) -> bool:
    """Whether a header is that of predictions."""
    names = {cell.strip().lower() for cell in header}
    return {"filename", "label", "confidence"} <= names and bool(names & {"truth", "error"})


def lacks_header(path: str) -> bool:
    """Whether a table begins at once with a row that names an image."""
    return any(cell.strip().lower().endswith(EXTENSIONS) for cell in first_line(path))


def decoded_text(path: str) -> str:
    """The text of a UTF-8 file, or an error that names the line with the first wrong byte."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise SightlineError(
            "cannot read the table", where=path, why=error.strerror or str(error), cure="check the file"
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SightlineError(
            "the table is not UTF-8 text",
            where=f"{path}, line {line}",
            why=f"the byte 0x{content[error.start]:02x} cannot stand there",
            cure="save it again as CSV UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD.csv > NEW.csv",
        ) from error


def separator(text: str) -> str:
    """What stands between the cells: whichever of comma, semicolon and tab is most frequent in the first line."""
    first = text.lstrip("\r\n").splitlines()[0] if text.strip("\r\n") else ""
    return max(",;\t", key=first.count)


def parsed(path: str, text: str) -> list[tuple[int, list[str]]]:
    """(number of its first line, cells) of the header and of every row; empty lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator(text), strict=True)
    found: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise SightlineError(
            "this is not a valid CSV line",
            where=f"{path}, line {start}",
            why=str(error),
            cure="mend that line; a double quote that is not closed swallows the lines after it",
        ) from error
    if not found:
        raise SightlineError("the table is empty", where=path, cure="it needs a header with the columns filename,label")
    return found


def find_columns(header: list[str], path: str, mark: str = ",") -> Columns:
    """Where the columns stand, in any order and case; SightlineError with those found and the nearest.

    mark: what separates cells, for the message.
    """
    refuse_data(header, path, mark)
    names = [cell.strip().lower().replace(" ", "_") for cell in header]
    twice = [name for name, count in Counter(names).items() if count > 1 and name in FILE_COLUMNS + LABEL_COLUMNS]
    if twice:
        raise SightlineError(
            f"the column {twice[0]!r} stands twice", where=f"{path}, line 1", cure="remove or rename one"
        )
    places = {name: place for place, name in enumerate(names)}
    file = next((places[name] for name in FILE_COLUMNS if name in places), -1)
    label = next((places[name] for name in LABEL_COLUMNS if name in places), -1)
    for what, place, accepted in (("filename", file, FILE_COLUMNS), ("label", label, LABEL_COLUMNS)):
        if place < 0:
            close = [name for name in names if difflib.get_close_matches(name, accepted, 1, 0.6)]
            close = close or [name for name in names if (what, name) == ("filename", "id")]
            raise SightlineError(
                f"the table has no column {what!r}",
                where=f"{path}, line 1",
                why=f"it needs the columns filename,label; found: {', '.join(map(repr, header[:20]))}",
                cure=f"rename {close[0]!r} to {what!r}"
                if close
                else f"the first line must be a header that names a column {what!r}",
            )
    name = next((places[name] for name in NAME_COLUMNS if name in places and places[name] != label), -1)
    split = next((places[name] for name in SPLIT_COLUMNS if name in places), -1)
    return Columns(file, label, name, split, places.get(GROUP_COLUMN, -1))


def refuse_data(header: list[str], path: str, mark: str) -> None:
    """SightlineError if the first line is a row (it names an image, or has a number) and not a header."""
    cells = [cell.strip() for cell in header]
    known = {cell.lower().replace(" ", "_") for cell in cells} & {*FILE_COLUMNS, *LABEL_COLUMNS}
    images = [place for place, cell in enumerate(cells) if cell.lower().endswith(EXTENSIONS)]
    if known or len(cells) < 2 or not (images or any(cell.isdigit() for cell in cells)):
        return
    file = images[0] if images else 0
    label = max(place for place in range(len(cells)) if place != file)
    line = [{file: "filename", label: "label"}.get(place, f"column{place + 1}") for place in range(len(cells))]
    raise SightlineError(
        "the table has no header line",
        where=f"{path}, line 1",
        why=f"the first line looks like data: {', '.join(map(repr, cells[:8]))}",
        cure=f"put a header above it that names a column 'filename' and a column 'label': {mark.join(line)}",
    )


def names_of_ids(body: list[tuple[int, list[str]]], columns: Columns, path: str) -> dict[str, str]:
    """Label -> class name where whole-number labels have a column of names beside them, else empty."""
    if columns.name < 0 or not all(re.fullmatch(r"[0-9]+", cells[columns.label]) for _, cells in body):
        return {}
    names: dict[str, tuple[str, int]] = {}
    ids: dict[str, tuple[str, int]] = {}
    for line, cells in body:
        label, name = cells[columns.label], cells[columns.name]
        for mapping, key, value in ((names, label, name), (ids, name, label)):
            known, first = mapping.setdefault(key, (value, line))
            if known != value or not name:
                raise SightlineError(
                    f"{key!r} goes with {known!r} and with {value!r}" if name else "a class name is empty",
                    where=f"{path}, lines {first} and {line}" if name else f"{path}, line {line}",
                    why="each label must have one class name, and each class name one label",
                    cure="correct one of the lines",
                )
    return {label: name for label, (name, _) in names.items()}


def unknown_splits(
    header: list[str], body: list[tuple[int, list[str]]], columns: Columns, splits: list[str], path: str
) -> tuple[str, ...]:
    """A note where there is a column of splits, and no word in it is known."""
    if columns.split < 0 or any(splits):
        return ()
    words = list(dict.fromkeys(cells[columns.split] for _, cells in body))
    shown = ", ".join(map(repr, words[:5])) + (", ..." if len(words) > 5 else "")
    what = f"the column {header[columns.split]!r} of {os.path.basename(path)} is not used"
    return (f"{what}: it has {shown}, and none of train, val and test",)


def splits_of_rows(body: list[tuple[int, list[str]]], columns: Columns, path: str) -> list[str]:
    """The split of every row by the column `split`, or empty strings where there is none that names splits."""
    splits = [split_of(cells[columns.split], wide=True) if columns.split >= 0 else None for _, cells in body]
    if not any(splits):
        return [""] * len(body)
    words = {cells[columns.split].lower() for _, cells in body} & {*SPLIT_NAMES, *ALIASES}
    of_val = sorted(name for name in words if split_of(name, wide=True) == "val")
    if len(of_val) > 1 and set(of_val) & set(ALIASES):
        raise SightlineError(
            f"two names stand for the val split: {', '.join(map(repr, of_val))}",
            where=f"{path}, column {columns.split + 1}",
            cure="write the same word in all rows of the val split, and leave out those of no split",
        )
    wrong = [
        f"line {line}: {cells[columns.split]!r}" for (line, cells), split in zip(body, splits, strict=True) if not split
    ]
    if wrong:
        raise SightlineError(
            "some rows are of no known split",
            where=path,
            why="\n" + listing(wrong),
            cure="write train, val or test in each row",
        )
    return [split or "" for split in splits]
