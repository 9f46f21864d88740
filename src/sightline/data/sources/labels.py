"""Class labels: patterns for file names, lists of classes, and the mapping to class indices."""

import codecs
import os
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from ...errors import SightlineError, listing, nearest_hint

COMMON_PATTERNS = tuple(f"{{{a}}}{mark}{{{b}}}" for mark in "_-. " for a, b in (("label", "id"), ("id", "label")))
SAMPLE = 2000
"""Approximate number of file names that are inspected to suggest a pattern for labels."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern such as `{label}_{id}` to a regular expression for file names without extension.

    The label is matched greedily: `aquarium_fish_001` has the label `aquarium_fish`. Raises SightlineError unless the
    pattern has exactly one {label} and at most one {id}; all other characters are literal.
    """
    if pattern.count("{label}") != 1 or pattern.count("{id}") > 1 or re.search(r"\{(?!label\}|id\})", pattern):
        what = f"the pattern {pattern!r} must contain {{label}} once, {{id}} at most once, and no other {{...}}"
        cure = "describe the file names without their extension: for cat_001.jpg, --data.pattern '{label}_{id}'"
        raise SightlineError(what, where="data.pattern", cure=cure)
    escaped = re.escape(pattern).replace(r"\{label\}", "(?P<label>.+)").replace(r"\{id\}", ".+?")
    return re.compile(escaped, re.DOTALL)


def match_labels(names: Sequence[str], pattern: str) -> list[str | None]:
    """The label in each file name by `pattern`, without folder and extension; None if it does not match."""
    compiled = compile_pattern(pattern)
    matches = (compiled.fullmatch(os.path.splitext(name.rpartition("/")[2])[0]) for name in names)
    return [match["label"] if match else None for match in matches]


def labels_in_names(names: Sequence[str], pattern: str, where: str) -> list[str]:
    """The label in each file name by `pattern`; raises SightlineError with all names that do not match."""
    labels = match_labels(names, pattern)
    missed = [name for name, label in zip(names, labels, strict=True) if label is None]
    if missed:
        better = suggest_pattern(names)
        hint = f" (--data.pattern '{better}')" if better and better != pattern else ""
        raise SightlineError(
            f"the pattern matched {len(names) - len(missed):,} of {len(names):,} file names, but not {missed[0]!r}",
            where=where,
            why=f"these file names do not match {pattern!r}:\n{listing(missed, 5)}",
            cure=f"set another pattern{hint}, rename these files, or choose another --data.layout",
        )
    return [label for label in labels if label is not None]


def rate_pattern(names: Sequence[str], pattern: str, share: float) -> tuple[int, int]:
    """Rate how well a pattern for labels fits file names: (number of matches, -number of classes); larger tuples are
    better.

    (0, 0) unless at least the fraction `share` of the names matches, there are two or more classes, and a class has two
    or more images on average.
    """
    labels = [label for label in match_labels(names, pattern) if label is not None]
    classes = len(set(labels))
    plausible = len(labels) >= share * len(names) and 2 <= classes <= len(labels) / 2
    return (len(labels), -classes) if plausible else (0, 0)


def names_carry_labels(names: Sequence[str], pattern: str) -> bool:
    """Guess whether file names contain labels: whether 90 % of them match the pattern, with two or more classes that
    have two or more images on average."""
    return rate_pattern(names, pattern, 0.9) > (0, 0)


def suggest_pattern(names: Sequence[str]) -> str:
    """The pattern of COMMON_PATTERNS that matches most names, or '' if none matches half of them."""
    names = names[:: max(1, len(names) // SAMPLE)]
    rating, best = max(((rate_pattern(names, each, 0.5), each) for each in COMMON_PATTERNS), key=lambda pair: pair[0])
    return best if rating > (0, 0) else ""


def read_class_list(path: str) -> tuple[str, ...]:
    """Read class names from a UTF-8 file, one per line, in index order; trailing empty lines are ignored."""
    names = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if "" in names:
        where = f"{path}, line {names.index('') + 1}"
        raise SightlineError(
            "a class name is empty", where=where, cure="write one class name on each line, and leave no line empty"
        )
    check_distinct(names, path)
    return tuple(names)


def read_text(path: str) -> str:
    """Read a UTF-8 file, with or without byte-order mark. Raises SightlineError with the line number of the first
    invalid byte."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        return content.decode("utf-8-sig")
    except OSError as error:
        why, cure = error.strerror or str(error), "check that the file exists and that you may read it: chmod u+r FILE"
        raise SightlineError("cannot read this file", where=path, why=why, cure=cure) from error
    except UnicodeDecodeError as error:
        where = f"{path}, line {content[: error.start].count(10) + 1}"
        why = f"the byte 0x{content[error.start]:02x} is not valid here"
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        kind = "UTF-16" if wide else "WINDOWS-1252"
        cure = f"save it again as CSV UTF-8, or convert it: iconv -f {kind} -t UTF-8 OLD.csv > NEW.csv"
        raise SightlineError("this file is not UTF-8 text", where=where, why=why, cure=cure) from error


def check_distinct(names: Sequence[str], where: str) -> None:
    """Raise SightlineError if two class names are equal or differ only in case, spaces or Unicode normalization."""
    seen: dict[str, str] = {}
    for name in names:
        key = " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).split())
        if key in seen:
            what = f"two class names differ only in case, spaces or Unicode normalization: {seen[key]!r} and {name!r}"
            raise SightlineError(
                what, where=where, cure="give both the same name if they are one class, or rename one of them"
            )
        seen[key] = name


def sorted_classes(labels: set[str]) -> tuple[str, ...]:
    """Sort class names: numerically if all are integers (`2` before `10`), else as strings."""
    if all(re.fullmatch(r"[0-9]+", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def declared_name(label: str, declared: Sequence[str], known: set[str]) -> str | None:
    """The declared class that a label means: the class of that name or, if the label is an integer, of that index;
    else None."""
    if label in known:
        return label
    if re.fullmatch(r"0|[1-9][0-9]{0,8}", label) and int(label) < len(declared):
        return declared[int(label)]
    return None


def declared_labels(labels: Sequence[str], declared: Sequence[str], where: str) -> list[str]:
    """Convert labels (names or indices) to declared class names; raises SightlineError with all undeclared labels."""
    known = set(declared)
    meaning = {label: declared_name(label, declared, known) for label in sorted(set(labels))}
    unknown = [label for label, name in meaning.items() if name is None]
    if unknown:
        lines = [f"{label!r}{nearest_hint(label, declared)}" for label in unknown]
        counting = (
            "\n    a numeric label is the index of a class, from 0" if any(label.isdigit() for label in unknown) else ""
        )
        raise SightlineError(
            f"labels of the data that are not among the {len(declared):,} declared classes: {len(unknown):,}",
            where=where,
            why="\n" + listing(lines) + counting,
            cure="correct the labels, or the declared classes in classes.txt (one name per line) or --data.classes; "
            "or remove this list: the classes are then those of the labels, sorted by name",
        )
    return [meaning[label] or label for label in labels]


def to_numbers(labels: Sequence[str | tuple[str, ...]], where: str) -> np.ndarray:
    """Convert N labels to numbers, float32 [N]; raises SightlineError with all labels that are no finite numbers."""
    values, wrong = np.zeros(len(labels), np.float32), []
    for row, label in enumerate(labels):
        try:
            values[row] = float(str(label))
        except ValueError:
            wrong.append(repr(label))
        else:
            wrong += [] if np.isfinite(values[row]) else [repr(label)]
    if wrong:
        cure = "correct these labels; write numbers as 12.5, without units; or, if they are classes: --data.labels one"
        why = "\n" + listing(list(dict.fromkeys(wrong)))
        raise SightlineError("these labels are not numbers", where=where, why=why, cure=cure)
    return values


def to_indices(labels: Sequence[str | tuple[str, ...]], classes: Sequence[str]) -> np.ndarray:
    """Convert N labels to their indices in `classes`, int64 [N]; N label sets to bool [N, K]."""
    index = {name: number for number, name in enumerate(classes)}
    names = [label for label in labels if isinstance(label, str)]
    if len(names) == len(labels):
        return np.fromiter((index[name] for name in names), dtype=np.int64, count=len(names))
    sets = np.zeros((len(labels), len(classes)), bool)
    for row, label in enumerate(labels):
        sets[row, [index[name] for name in label]] = True
    return sets
