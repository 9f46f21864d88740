"""Read tables of labels (CSV, TSV), with one error that lists all invalid lines."""

import csv
import io
import os
import re
from dataclasses import dataclass
from typing import NamedTuple

from ...config.schema import Data
from ...errors import SightlineError, listing, some_of
from .label_sets import labels_of_cells, one_hot_columns, one_hot_labels
from .labels import nearest_hint, read_text, sorted_classes
from .splits import split_names, split_of

# Column names in lower case, without spaces and underscores.
FILE_COLUMNS = ("filename", "file", "image", "imagename", "path", "filepath", "imagepath", "img", "imageid")
FILE_COLUMNS += ("photo", "picture")
LABEL_COLUMNS = (
    "label",
    "labels",
    "tags",
    "target",
    "category",
    "class",
    "classname",
    "labelname",
    "classid",
    "labelid",
)
NAME_COLUMNS = ("classname", "labelname", "class", "category")
SPLIT_COLUMNS = ("split", "subset")
GROUP_COLUMNS = ("group",)

COLUMN_CURES = {
    "filename": "; or --data.file_column NAME",
    "label": "; or --data.label_column NAME; or write a column of 0 and 1 (or yes and no) for each class",
}

Lines = list[tuple[int, list[str]]]
"""(line number in the file, cells) of each row."""


class Row(NamedTuple):
    """A row of a table of labels. line: its line number. labels: one class name (if the table has no class names, the
    label as written), or the names of a label set. split, group: '' if there is none."""

    line: int
    file: str
    labels: tuple[str, ...]
    split: str
    group: str = ""


@dataclass(frozen=True)
class LabelTable:
    """A table of labels. classes: class names in the order of their ids if the table has both, or those of a one-hot
    table, else empty. notes: sentences that are printed. grouped: whether the table has a column of groups. sets:
    whether the images have label sets."""

    path: str
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    grouped: bool = False
    sets: bool = False


def read_table(path: str, data: Data) -> LabelTable:
    """Read a UTF-8 table of labels: a header line, then one line per image; separated by comma, semicolon or tab.

    Spaces around cells are removed. Otherwise cells are unchanged, so `1` and `01` are two labels. A table of label
    sets has cells with several labels, a column of 0 and 1 for each class, or several lines per image. Raises
    SightlineError with all invalid lines.
    """
    text = read_text(path)
    (_, header), *lines = parse(path, text)
    mark = separator(text)
    dialect = [f"{os.path.basename(path)}: the cells are separated by {mark!r}"] * (mark not in ",\t")
    width = len(header)
    lines = [(line, [cell.strip() for cell in cells]) for line, cells in lines]
    faults = [f"line {line}: {len(cells)} cells instead of {width}" for line, cells in lines if len(cells) != width]
    lines = [(line, cells) for line, cells in lines if len(cells) == width]
    columns, hot = find_columns(header, lines, path, data)
    if hot:
        found = one_hot_labels(hot, lines, data.labels)
    else:
        found = labels_of_cells(lines, columns, header[columns["label"]].strip(), path, data)
    faults += [f"line {line}: no filename" for line, cells in lines if not cells[columns["filename"]]]
    names, unclear = ({}, []) if hot or found.sets or data.labels == "number" else names_of_ids(lines, columns)
    if data.label_column and unclear:  # the labels that were chosen are not ids of these names
        names, unclear = {}, []
    splits, unknown, notes = splits_of_rows(lines, columns, path)
    faults += [*found.faults, *unclear, *unknown]
    if faults:
        what = "the table has invalid lines"
        cure = "correct or remove these lines; enclose a cell that contains the separator in double quotes"
        raise SightlineError(what, where=path, why="\n" + listing(faults), cure=cure)
    group, rows = columns.get("group"), []
    for (line, cells), labels, split in zip(lines, found.labels, splits, strict=True):
        own_group = "" if group is None else cells[group]
        named = tuple(names.get(label, label) for label in labels)
        rows.append(Row(line, cells[columns["filename"]], named, split, own_group))
    classes = tuple(names[label] for label in sorted_classes(set(names))) or tuple(hot.values())
    return LabelTable(path, tuple(rows), classes, (*dialect, *found.notes, *notes), group is not None, found.sets)


def separator(text: str) -> str:
    """The separator of the cells in CSV text: comma, semicolon, tab or vertical bar. It is the one with which the first
    line has a column of file names, else the most frequent one."""
    first = text.lstrip("\r\n").splitlines()[0] if text.strip("\r\n") else ""
    if given := re.fullmatch(r"sep=(.)", first.strip("\r\n ")):  # a mark of Excel
        return given[1]
    return max(
        ",;\t|", key=lambda mark: (not {*FILE_COLUMNS}.isdisjoint(normalized(first.split(mark))), first.count(mark))
    )


def parse(path: str, text: str) -> Lines:
    """Parse CSV text to its non-empty rows, the header first, each with its line number. A row that extends over
    several lines has the number of its first line. Raises SightlineError if the text is invalid or has no rows."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator(text), strict=True)
    lines: Lines = []
    start = 1
    try:
        for cells in reader:
            marks = not lines and cells[:1] == ["sep="] and not any(cells[1:])
            if any(cell.strip() for cell in cells) and not marks:
                lines.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        where, cure = f"{path}, line {start}", "correct this line; perhaps a double quote is not closed"
        raise SightlineError("this line is not valid CSV", where=where, why=str(error), cure=cure) from error
    if len(lines) < 2:
        cure = "write the first line `filename,label`, and then one line for each image, such as `a.jpg,cat`"
        raise SightlineError("the table has no rows", where=path, cure=cure)
    return lines


def normalized(header: list[str]) -> list[str]:
    """Convert column names to lower case, without spaces and underscores."""
    return [re.sub("[ _]", "", cell.strip().lower()) for cell in header]


def peek_header(path: str) -> set[str]:
    """Read the normalized column names of a table; empty if its first line cannot be read."""
    try:
        with open(path, "rb") as file:
            text = file.readline(65536).decode("utf-8-sig")
            mark = separator(text)
            text = file.readline(65536).decode() if text.startswith("sep=") else text
        return set(normalized(next(csv.reader([text], delimiter=mark), [])))
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()


def has_columns(path: str, data: Data) -> bool:
    """Whether a table has a column of file names and a column of labels, and these are no predictions."""
    names = peek_header(path)
    return (
        not is_predictions(names)
        and not names.isdisjoint(file_columns(data))
        and not names.isdisjoint(label_columns(data))
    )


def is_unlabeled(path: str, data: Data) -> bool:
    """Whether a table has file names, and neither a column of labels nor one of 0 and 1 for each class."""
    names = peek_header(path)
    if names.isdisjoint(file_columns(data)) or not names.isdisjoint(label_columns(data)):
        return False
    (_, header), *lines = parse(path, read_text(path))
    return not one_hot_columns(header, columns_of_images(header, data), lines)


def columns_of_images(header: list[str], data: Data) -> set[int]:
    """The columns of file names, splits and groups."""
    known = (*file_columns(data), *SPLIT_COLUMNS, *GROUP_COLUMNS)
    return {index for index, name in enumerate(normalized(header)) if name in known}


def file_columns(data: Data) -> tuple[str, ...]:
    """The normalized names that a column of file names may have."""
    return tuple(normalized([data.file_column])) if data.file_column else FILE_COLUMNS


def label_columns(data: Data) -> tuple[str, ...]:
    """The normalized names that a column of labels may have."""
    return tuple(normalized([data.label_column])) if data.label_column else LABEL_COLUMNS


def holds_predictions(path: str) -> bool:
    """Whether a table has the columns of predictions, as written by `sightline predict` or `evaluate`."""
    return is_predictions(peek_header(path))


def is_predictions(names: set[str]) -> bool:
    """Whether a table has predictions instead of labels: the columns filename, label, confidence, and truth or
    error. names: the normalized column names."""
    return {"filename", "label", "confidence"} <= names and not names.isdisjoint(("truth", "error"))


def find_columns(header: list[str], lines: Lines, path: str, data: Data) -> tuple[dict[str, int], dict[int, str]]:
    """(`filename`, `label`, and if present `name`, `split` and `group` -> index of the column; for a one-hot table,
    which has no column `label`, index of the column -> class name, else {}).

    Raises SightlineError unless there is exactly one column of file names and one of labels, and for a table of
    predictions.
    """
    names, columns = normalized(header), {}
    if is_predictions(set(names)):
        raise SightlineError(
            "this table has predictions, not labels",
            where=path,
            why="its columns (filename, label, confidence, and truth or error) are those that `sightline predict` "
            "writes",
            cure="give a table of true labels: --data TABLE.csv; if the column 'label' has the true labels, remove "
            "the column 'confidence'",
        )
    given = data.labels == "number" or data.label_column or {*names} & {*LABEL_COLUMNS}
    hot = {} if given else one_hot_columns(header, columns_of_images(header, data), lines)
    given_names = {"filename": data.file_column, "label": data.label_column}
    for what, accepted in (("filename", file_columns(data)), *([] if hot else [("label", label_columns(data))])):
        found = next((name for name in accepted if name in names), "")
        if not found or names.count(found) != 1:  # a column may have no name, as the index of pandas
            raise SightlineError(
                f"the table has {'two columns' if found else 'no column'} {given_names[what] or what!r}",
                where=f"{path}, line 1",
                why=f"the first line must name the columns; it has {some_of([repr(cell.strip()) for cell in header])}",
                cure=f"name exactly one column {what!r}, for example with the first line "
                f"filename,label{nearest_hint(given_names[what] or what, header)}" + COLUMN_CURES[what] * (not found),
            )
        columns[what] = names.index(found)
    for what, accepted in (("name", NAME_COLUMNS), ("split", SPLIT_COLUMNS), ("group", GROUP_COLUMNS)):
        found = next((name for name in accepted if name in names and names.index(name) != columns.get("label")), None)
        if found:
            columns[what] = names.index(found)
    return columns, hot


def names_of_ids(lines: Lines, columns: dict[str, int]) -> tuple[dict[str, str], list[str]]:
    """The class name of each label, if labels are integers and the table has a column of class names: ({label: name},
    faults).

    faults: texts on rows without a name, and on rows that contradict earlier ones. Both results are empty for other
    tables.
    """
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
    """The split of each row, by the column of splits: (splits, faults, notes).

    Splits are '' if there is no such column, or if it contains no known split name; the latter is noted. faults: texts
    on rows whose split is not known.
    """
    column = columns.get("split")
    words = [] if column is None else [cells[column] for _, cells in lines]
    if not split_names(sorted({word.lower() for word in words}), f"{path}, column {(column or 0) + 1}", wide=True):
        note = f"the split column of {os.path.basename(path)} is not used, because it has none of train, val and test: "
        note += some_of([repr(word) for word in dict.fromkeys(words)])
        return [""] * len(lines), [], (note,) if words else ()
    splits = [split_of(word, wide=True) or "" for word in words]
    rows = zip(lines, words, splits, strict=True)
    return splits, [f"line {line}: {word!r} is not train, val or test" for (line, _), word, s in rows if not s], ()
