"""Label sets in tables: cells with a separator (`cat;dog`), a 0-or-1 column for each class, or a row for each label."""

from collections.abc import Sequence
from typing import NamedTuple

from ...config.schema import Data
from ...errors import SightlineError, counted, some_of

SEPARATORS = (";", "|", ",")
"""Separators that are searched in labels. Others, such as a space, must be given as `data.separator`."""
UNUSUAL = ("/", "+", "&")
"""Separators that are not searched, but whose labels must not be taken for class names."""
ON, OFF = frozenset({"1", "1.0", "true"}), frozenset({"0", "0.0", "false"})
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

    Cells are label sets if splitting them leaves fewer distinct names, or as many if the separator is not a comma:
    `tench, Tinca tinca` is a name, while `cat;dog` beside `cat` and `dog` is a set. certain: the first separator in any
    cell, as images have several labels.
    """
    distinct = set(filter(None, cells))
    for separator in SEPARATORS:
        if any(separator in cell for cell in distinct):
            names = {name for cell in distinct for name in split_cell(cell, separator)}
            if certain or len(names) < len(distinct) + (separator != ","):
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


def one_hot_labels(columns: dict[int, str], lines: Sequence[tuple[int, list[str]]]) -> RowLabels:
    """The labels of the rows of a one-hot table. Each column with other cells than 0 and 1 is one fault."""
    faults = []
    for index, name in columns.items():
        wrong = [(line, cells[index]) for line, cells in lines if cells[index].lower() not in ON | OFF]
        if wrong:
            line, cell = wrong[0]
            what = f"column {name!r}: {counted(len(wrong), 'cell')} not 0 or 1, first {cell!r} in line {line}"
            faults.append(f"{what}; remove the column if it is not a class")
    labels = [tuple(n for index, n in columns.items() if cells[index].lower() in ON) for _, cells in lines]
    return RowLabels(labels, True, (f"one column of 0 and 1 for each of {len(columns):,} classes",), tuple(faults))


def labels_of_cells(
    lines: Sequence[tuple[int, list[str]]], columns: dict[str, int], path: str, data: Data
) -> RowLabels:
    """The labels in the column `label`: class names, or label sets with a separator or in several rows of an image."""
    cells = [row[columns["label"]] for _, row in lines]
    if data.labels in ("one", "number"):
        return RowLabels([(cell,) for cell in cells], False)
    check_separator(data.separator, cells, path)
    separator = data.separator or find_separator(cells, certain=data.labels == "several")
    if separator:
        origin = "data.separator" if data.separator else "found"
        note = f"label sets, separated by {separator!r} ({origin})"
        return RowLabels([split_cell(cell, separator) for cell in cells], True, (note,))
    several = repeated_with_other_labels(lines, columns)
    files = len({row[columns["filename"]] for _, row in lines})
    if several > (0 if data.labels == "several" else MANY * files):
        note = f"label sets: {counted(several, 'image')} with several labels, one in each row"
        return RowLabels([split_cell(cell, "") for cell in cells], True, (note,))
    if data.labels == "several":
        reject_combinations(cells, path)
    if data.labels == "several" and "" in cells:
        notes = [f"label sets: {counted(cells.count(''), 'image')} without a label, the others with one"]
        if spaced := next((cell for cell in cells if " " in cell), ""):
            notes.append(f"{spaced!r} is read as one class; if these are several labels, add --data.separator ' '")
        return RowLabels([split_cell(cell, "") for cell in cells], True, tuple(notes))
    return RowLabels([(cell,) for cell in cells], False)


def reject_combinations(cells: Sequence[str], where: str) -> None:
    """Raise SightlineError if the cells look like label sets with a separator that is not recognized."""
    distinct = set(filter(None, cells))
    for mark in UNUSUAL:
        names = {name for cell in distinct for name in split_cell(cell, mark)}
        if any(mark in cell for cell in distinct) and len(names) < len(distinct):
            example = next(cell for cell in distinct if mark in cell)
            raise SightlineError(
                f"labels such as {example!r} look like several labels with the separator {mark!r}",
                where=where,
                why=f"there are {len(distinct):,} different texts, but only {len(names):,} different parts",
                cure=f"add --data.separator {mark!r}; or use a recipe for one label if each text names one class",
            )


def repeated_with_other_labels(lines: Sequence[tuple[int, list[str]]], columns: dict[str, int]) -> int:
    """Number of images that have several rows with different labels."""
    known: dict[str, set[str]] = {}
    for _, cells in lines:
        known.setdefault(cells[columns["filename"]], set()).add(cells[columns["label"]])
    return sum(len(labels) > 1 for labels in known.values())
