"""Tables of labels (CSV): reading them strictly, and finding the image that each row names."""

import csv
import difflib
import io
import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import SightlineError, listing
from .labels import sorted_classes
from .scan import File, shelf
from .splits import split_of

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
)
LABEL_COLUMNS = ("label", "labels", "target", "category", "class", "class_name", "label_name", "class_id", "label_id")
NAME_COLUMNS = ("class_name", "label_name", "class", "category")
SPLIT_COLUMNS = ("split", "subset")


class Row(NamedTuple):
    """One line of a table. label: the class name where the table gives one, else as written. split: or empty."""

    line: int
    file: str
    label: str
    split: str


@dataclass(frozen=True)
class Table:
    """rows in the file's order; classes in the order of their ids where the table gives ids and names, else empty."""

    path: str
    rows: tuple[Row, ...]
    classes: tuple[str, ...]


class Columns(NamedTuple):
    """Places of the columns in a row; -1: the table has no such column."""

    file: int
    label: int
    name: int
    split: int


def read_table(path: str) -> Table:
    """The rows of a CSV file with a header: UTF-8 (a byte-order mark is fine), separated by commas, semicolons or tabs.

    Cells lose the spaces around them and are otherwise kept as written: `1` and `01` are two labels. Raises
    SightlineError with the line for everything that is not so.
    """
    lines = parsed(path, decoded_text(path))
    header = lines[0][1]
    columns = find_columns(header, path)
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
        Row(line, cells[columns.file], names.get(cells[columns.label], cells[columns.label]), split)
        for (line, cells), split in zip(body, splits, strict=True)
    ]
    return Table(path, tuple(rows), tuple(names[label] for label in sorted_classes(set(names))))


def has_columns(path: str) -> bool:
    """Whether a file looks like a table of labels: its first line has a column of file names and one of labels."""
    try:
        with open(path, "rb") as file:
            first = file.readline(65536).decode("utf-8-sig")
        find_columns(parsed(path, first)[0][1], path)
    except (OSError, UnicodeDecodeError, SightlineError):
        return False
    return True


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


def parsed(path: str, text: str) -> list[tuple[int, list[str]]]:
    """(number of its first line, cells) of the header and of every row; empty lines are left out."""
    first = text.lstrip("\r\n").splitlines()[0] if text.strip("\r\n") else ""
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
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


def find_columns(header: list[str], path: str) -> Columns:
    """Where the columns stand, in any order and case; SightlineError with those found and the nearest."""
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
            raise SightlineError(
                f"the table has no column {what!r}",
                where=f"{path}, line 1",
                why=f"it needs the columns filename,label; found: {', '.join(map(repr, header[:20]))}",
                cure=f"rename {close[0]!r} to {what!r}"
                if close
                else f"the first line must be a header that names a column {what!r}",
            )
    name = next((places[name] for name in NAME_COLUMNS if name in places and places[name] != label), -1)
    return Columns(file, label, name, next((places[name] for name in SPLIT_COLUMNS if name in places), -1))


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


def splits_of_rows(body: list[tuple[int, list[str]]], columns: Columns, path: str) -> list[str]:
    """The split of every row by the column `split`, or empty strings where there is none that names splits."""
    splits = [split_of(cells[columns.split]) if columns.split >= 0 else None for _, cells in body]
    if not any(splits):
        return [""] * len(body)
    wrong = [
        f"line {line}: {cells[columns.split]!r}" for (line, cells), split in zip(body, splits, strict=True) if not split
    ]
    if wrong:
        raise SightlineError(
            "some rows are of no known split",
            where=path,
            why="\n" + listing(wrong),
            cure="write train, val or test there",
        )
    return [split or "" for split in splits]


def place_rows(
    table: Table, rows: list[Row], root: str, own: str, others: list[str]
) -> tuple[list[File], list[str], list[str]]:
    """Find the image of every row: files, their labels, and sentences on what was noticed.

    A row's file is looked for in the folder `own`, else in all of `others`, all below `root`; it may hold folders.
    All rows without an image, with several, or that contradict each other are listed in one SightlineError.
    """
    folders: dict[str, dict[str, File]] = {}
    taken: dict[str, Row] = {}
    chosen: list[tuple[File, str]] = []
    faults: list[str] = []
    for row in rows:
        hits = find_file(root, [own], row.file, folders) or find_file(root, others, row.file, folders)
        if len(hits) != 1:
            several = f" is ambiguous: {hits[0].name!r} and {hits[1].name!r}" if hits else ": no such image"
            faults.append(f"line {row.line}: {row.file!r}{several}")
            continue
        earlier = taken.setdefault(os.path.normpath(os.path.join(root, hits[0].name)), row)
        if earlier is row:
            chosen.append((hits[0], row.label))
        elif (earlier.label, earlier.split) != (row.label, row.split):
            faults.append(f"lines {earlier.line} and {row.line}: {row.file!r} is {earlier.label!r} and {row.label!r}")
    if faults:
        looked = ", ".join(sorted({repr(place or ".") for place in [own, *others]})[:8])
        raise SightlineError(
            f"{len(faults):,} of {len(rows):,} rows cannot be matched with one image and one label",
            where=table.path,
            why=f"looked in {looked}\n{listing(faults, 100)}",
            cure="correct or remove these rows, or put the images there",
        )
    notes = []
    if len(rows) > len(chosen):
        notes.append(f"{len(rows) - len(chosen):,} repeated rows in {os.path.basename(table.path)} are counted once")
    used = {name.rpartition("/")[0] for name in (file.name for file, _ in chosen)}
    unnamed = sum(len(folders[folder]) for folder in used) - len(chosen)
    if unnamed:
        notes.append(f"{unnamed:,} images have no row in {os.path.basename(table.path)} and are left out")
    chosen.sort()
    return [file for file, _ in chosen], [label for _, label in chosen], notes


def find_file(root: str, places: list[str], name: str, folders: dict[str, dict[str, File]]) -> list[File]:
    """The images called `name` in `places`; each folder is listed once and kept in `folders`."""
    hits: dict[str, File] = {}
    for place in places:
        for written in (name, name.replace("\\", "/")):
            path = os.path.normpath(os.path.join(place, written)).replace(os.sep, "/")
            folder = path.rpartition("/")[0]
            if folder not in folders:
                exists = "\0" not in folder and os.path.isdir(os.path.join(root, folder))
                images = shelf(root, folder, Counter()).images if exists else ()
                folders[folder] = {file.name: file for file in images}
            if path in folders[folder]:
                hits[path] = folders[folder][path]
    return list(hits.values())
