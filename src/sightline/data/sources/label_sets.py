"""Labels in tables: columns that are not class names are rejected, and label sets are found: cells with a separator
(`cat;dog`), a 0-or-1 column for each class, or a row for each label."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ...config.schema import Data
from ...errors import SightlineError, counted, some_of

SEPARATORS = (";", "|", ",")
"""Separators that are searched in labels. Others, such as a space, must be given as `data.separator`."""
UNUSUAL = (",", "/", "+", "&", " ")
"""Separators of labels that may be class names or label sets, so that the user must decide."""
ON, OFF = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "<na>", "null"})
"""Cells, in lower case, with which spreadsheets, pandas, R and SQL write a missing value."""
CODE = re.compile(r"[+-]?[0-9]+(\.0*)?")
NUMBER = re.compile(r"[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
DATE = re.compile(r"([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{4})([ T][0-9].*)?")
LIST = re.compile(r"\[.*\]|\{.*\}|\(.*\)")
FEW_ROWS = 10
"""In a table with fewer rows, labels that are all different may be classes."""
MANY = 0.05
"""A table has label sets if more than this share of its images has rows with different labels; fewer are errors."""


class RowLabels(NamedTuple):
    """The labels of the rows of a table. sets: whether images have label sets. faults: texts on invalid cells."""

    labels: list[tuple[str, ...]]
    sets: bool
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def split_cell(cell: str, separator: str) -> tuple[str, ...]:
    """The distinct class names in a cell, in order; () for an empty cell. Spaces around a name are removed."""
    parts = [part.strip() for part in cell.split(separator)] if separator else [cell]
    return tuple(dict.fromkeys(part for part in parts if part))


def find_separator(cells: Sequence[str], certain: bool = False) -> str:
    """The separator of label sets in the cells of a column, or "" if the cells are class names.

    Cells with a comma are label sets if splitting them leaves fewer distinct names, as `tench, Tinca tinca` is a name.
    certain: the first separator in any cell, as images have several labels.
    """
    distinct = set(filter(None, cells))
    for separator in SEPARATORS:
        if any(separator in cell for cell in distinct):
            names = {name for cell in distinct for name in split_cell(cell, separator)}
            if certain or separator != "," or len(names) < len(distinct):
                return separator
    return ""


def check_separator(separator: str, cells: Sequence[str], where: str) -> None:
    """Raise SightlineError if a separator that the user has set is in no cell."""
    if separator and not any(separator in cell for cell in cells):
        counts = {mark: sum(mark in cell for cell in cells) for mark in (*SEPARATORS, " ")}
        likely = [mark for mark in sorted(counts, key=lambda mark: -counts[mark]) if counts[mark]]
        why = f"for example {some_of([repr(cell) for cell in dict.fromkeys(cells) if cell])}"
        cure = "leave out --data.separator; each image has one label"
        if likely:
            mark = likely[0]
            cure = f"use --data.separator {mark!r}, which occurs in {counts[mark]:,} of {len(cells):,} labels"
        raise SightlineError(f"the separator {separator!r} occurs in no label", where=where, why=why, cure=cure)


def one_hot_columns(header: Sequence[str], used: set[int], lines: Sequence[tuple[int, list[str]]]) -> dict[int, str]:
    """Column index -> class name of a table with a 0-or-1 column for each class; {} for other tables.

    used: indices of the columns of file names, splits and groups. A table is one-hot if most cells of the other columns
    are 0 or 1; `one_hot_labels` reports the others.
    """
    columns = {index: name.strip() for index, name in enumerate(header) if index not in used and name.strip()}
    cells = [cells[index].lower() for _, cells in lines for index in columns if index < len(cells)]
    binary = sum(cell in ON or cell in OFF for cell in cells)
    return columns if len(columns) > 1 and 2 * binary > len(cells) else {}


def one_hot_labels(columns: dict[int, str], lines: Sequence[tuple[int, list[str]]], mode: str) -> RowLabels:
    """The labels of the rows of a one-hot table. mode: `data.labels`; with `auto`, images have one label each if every
    row has exactly one 1. Each column with other cells than 0 and 1 is one fault."""
    faults = []
    for index, name in columns.items():
        wrong = [(line, cells[index]) for line, cells in lines if cells[index].lower() not in ON | OFF]
        if wrong:
            line, cell = wrong[0]
            what = f"column {name!r}: {counted(len(wrong), 'cell')} not 0 or 1, first {cell!r} in line {line}"
            faults.append(f"{what}; remove the column if it is not a class")
    labels = [tuple(n for index, n in columns.items() if cells[index].lower() in ON) for _, cells in lines]
    note = f"one column of 0 and 1 for each of {len(columns):,} classes"
    several = [line for (line, _), names in zip(lines, labels, strict=True) if len(names) != 1]
    if mode == "one" and several and not faults:
        faults.append(f"{counted(len(several), 'row')} without exactly one 1, first line {several[0]}")
    if faults or mode == "several" or (several and mode == "auto"):
        return RowLabels(labels, True, (note,), tuple(faults))
    return RowLabels(labels, False, (f"{note}, and exactly one 1 in each row: every image has one class",))


def labels_of_cells(
    lines: Sequence[tuple[int, list[str]]], columns: dict[str, int], column: str, path: str, data: Data
) -> RowLabels:
    """The labels in the column `label`, whose name is `column`: class names, or label sets with a separator or in
    several rows of an image. Raises SightlineError for a column of something else."""
    cells = [row[columns["label"]] for _, row in lines]
    if data.labels in ("one", "number"):
        return RowLabels([(cell,) for cell in cells], False, faults=missing_cells(lines, columns, column, data, False))
    check_separator(data.separator, cells, path)
    reject_lists(cells, column, path)
    if data.labels == "auto" and not data.separator:
        reject_other_values(cells, column, path, bool(data.classes))
    separator = data.separator or find_separator(cells, certain=data.labels == "several")
    several, files = repeated_with_other_labels(lines, columns)
    if separator:
        origin = "data.separator" if data.separator else "found"
        shown = [repr(cell) for cell in dict.fromkeys(cells) if separator in cell][:3]
        note = f"label sets in the column {column!r}, separated by {separator!r} ({origin}): {', '.join(shown)}"
    elif several > (0 if data.labels == "several" else MANY * files):
        note = f"label sets: {counted(several, 'image')} with several labels, one in each row"
    else:
        reject_combinations(cells, column, path)
        hint = "is one class; if it is several labels: --data.separator ' '"
        spaced = [f"{text!r} {hint}" for text in joined(cells, " ", surely=False)]
        if data.labels != "several" or "" not in cells:
            faults = missing_cells(lines, columns, column, data, False)
            return RowLabels([(cell,) for cell in cells], False, tuple(spaced[:1]), faults)
        note = f"label sets: {counted(cells.count(''), 'image')} without a label, the others with one"
        note = "; ".join([note, *spaced[:1]])
    faults = missing_cells(lines, columns, column, data, True)
    return RowLabels([split_cell(cell, separator) for cell in cells], True, (note,), faults)


def missing_cells(
    lines: Sequence[tuple[int, list[str]]], columns: dict[str, int], column: str, data: Data, sets: bool
) -> tuple[str, ...]:
    """A tuple of one text on the rows without a label; an empty tuple if there are none. sets: whether an empty cell
    means that an image has no label."""
    missing = ({""} if data.labels == "one" else MISSING) - ({""} if sets else set())
    cells = ((line, row[columns["label"]]) for line, row in lines)
    found = [f"line {line}" + f" {cell!r}" * bool(cell) for line, cell in cells if cell.lower() in missing]
    if not found:
        return ()
    what = f"{', '.join(found[:3])}: no label in the column {column!r} ({len(found):,} of {len(lines):,} rows)"
    hint = "; --data.labels several: these images have none of the classes; --data.labels one: a text such as 'NaN' is "
    return (what + f"{hint}the name of a class" * (data.labels == "auto"),)


def reject_other_values(cells: Sequence[str], column: str, where: str, declared: bool) -> None:
    """Raise SightlineError if the cells of a column of labels are numbers, dates or ids, and not class names. declared:
    whether the user has declared class names, which the labels must match."""
    texts = [cell for cell in cells if cell.lower() not in MISSING]
    distinct = [*dict.fromkeys(texts)]
    numbers, dates = ([text for text in distinct if kind.fullmatch(text)] for kind in (NUMBER, DATE))
    fractions = [text for text in numbers if not CODE.fullmatch(text)]
    many = len(texts) >= 2 * FEW_ROWS and len(numbers) == len(distinct) > len(texts) / 2
    cure = "if the classes are in another column: --data.label_column NAME; if each text is a class: --data.labels one"
    if many or (fractions and 2 * len(numbers) > len(distinct)):
        what, shown = "numbers", fractions or numbers
        cure = f"for a task that predicts a number: --data.labels number (written as 20.5, not 20,5); {cure}"
    elif dates and 2 * len(dates) > len(distinct):
        what, shown = "dates", dates
    elif len(texts) == len(distinct) >= FEW_ROWS and not joined(distinct, " "):
        what, shown = "ids: all texts are different", distinct
    else:
        return
    if not declared:
        why = f"it has {len(distinct):,} different texts in {counted(len(cells), 'row')}, such as "
        why += ", ".join(map(repr, shown[:3]))
        what = f"the column {column!r} looks like {what}, and not like classes"
        raise SightlineError(what, where=where, why=why, cure=cure)


def joined(cells: Sequence[str], mark: str, surely: bool = True) -> list[str]:
    """The distinct cells with the separator `mark`, if they look like label sets: splitting all cells leaves fewer
    distinct names, or a part of a cell is the label of another cell; else an empty list. surely: as class names
    often have spaces, cells with spaces must have different numbers of parts, and at most half as many names."""
    distinct = dict.fromkeys(cell for cell in cells if cell)
    parts = {cell: split_cell(cell, mark) for cell in distinct if mark in cell}
    names = {name for cell in distinct for name in split_cell(cell, mark)}
    if mark == " " and surely:
        likely = 2 * len(names) <= len(distinct) and len({len(split_cell(cell, mark)) for cell in distinct}) > 1
    else:
        likely = len(names) < len(distinct) or any(name in distinct for some in parts.values() for name in some)
    return [*parts] if likely else []


def reject_combinations(cells: Sequence[str], column: str, where: str) -> None:
    """Raise SightlineError if the cells look like label sets with a separator that is not recognized."""
    for mark in UNUSUAL:
        if found := joined(cells, mark):
            what = f"labels such as {found[0]!r} look like several labels with the separator {mark!r}"
            why = f"the column {column!r} has {', '.join(map(repr, found[:3]))}, and their parts elsewhere"
            cure = f"add --data.separator {mark!r} with a recipe for several labels (multilabel_finetune); or, if each "
            cure += "text is the name of one class: --data.labels one"
            raise SightlineError(what, where=where, why=why, cure=cure)


def reject_lists(cells: Sequence[str], column: str, where: str) -> None:
    """Raise SightlineError if most cells are lists as Python or JSON writes them, whose brackets and quotes would
    become parts of class names."""
    lists = [cell for cell in cells if LIST.fullmatch(cell)]
    if 2 * len(lists) <= sum(map(bool, cells)):
        return
    raise SightlineError(
        f"the column {column!r} has lists, such as {lists[0]!r}",
        where=where,
        why="brackets and quotes would become parts of the names of classes",
        cure="write the labels of an image as cat;dog (pandas, for lists: table['tags'].str.join(';')); if each text "
        "is the name of one class: --data.labels one",
    )


def repeated_with_other_labels(lines: Sequence[tuple[int, list[str]]], columns: dict[str, int]) -> tuple[int, int]:
    """(number of images that have several rows with different labels, number of images)."""
    known: dict[str, str] = {}
    label, name = columns["label"], columns["filename"]
    several = {row[name] for _, row in lines if known.setdefault(row[name], row[label]) != row[label]}
    return len(several), len(known)
