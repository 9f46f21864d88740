"""Class labels: file-name patterns, class lists, and the mapping to class indices."""

import difflib
import os
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from ...errors import SightlineError, listing

COMMON_PATTERNS = tuple(f"{{{a}}}{mark}{{{b}}}" for mark in "_-. " for a, b in (("label", "id"), ("id", "label")))
SAMPLE = 2000
"""About so many names are enough to suggest a pattern."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern such as `{label}_{id}` to a regular expression for the stem of a file name.

    The label is matched greedily: `aquarium_fish_001` gives `aquarium_fish`, and so does `001_aquarium_fish` with
    `{id}_{label}`. The pattern needs exactly one {label} and at most one {id}; all other characters are literal.
    """
    if pattern.count("{label}") != 1 or pattern.count("{id}") > 1 or re.search(r"\{(?!label\}|id\})", pattern):
        what = f"the pattern {pattern!r} must contain {{label}} once and {{id}} at most once"
        cure = "write it like the file names without their extension, for example --data.pattern '{label}_{id}'"
        raise SightlineError(what, where="data.pattern", cure=cure)
    escaped = re.escape(pattern).replace(r"\{label\}", "(?P<label>.+)").replace(r"\{id\}", ".+?")
    return re.compile(escaped, re.DOTALL)


def match_labels(names: Sequence[str], pattern: str) -> list[str | None]:
    """The label in each file name, ignoring folder and extension; None where the pattern does not match."""
    compiled = compile_pattern(pattern)
    matches = (compiled.fullmatch(os.path.splitext(name.rpartition("/")[2])[0]) for name in names)
    return [match["label"] if match else None for match in matches]


def labels_in_names(names: Sequence[str], pattern: str, where: str) -> list[str]:
    """The label of every name; SightlineError that lists the names that do not match."""
    labels = match_labels(names, pattern)
    missed = [name for name, label in zip(names, labels, strict=True) if label is None]
    if missed:
        better = suggest_pattern(names)
        hint = f" '{better}'" if better and better != pattern else ""
        raise SightlineError(
            f"pattern matched {len(names) - len(missed):,} of {len(names):,}; e.g. {missed[0]!r} did not",
            where=where,
            why=f"the file names should look like {pattern!r}; these do not:\n{listing(missed, 5)}",
            cure=f"set --data.pattern{hint}, rename these files, or choose another --data.layout",
        )
    return [label for label in labels if label is not None]


def rate_pattern(names: Sequence[str], pattern: str, share: float) -> tuple[int, int]:
    """(number of matches, -number of classes); (0, 0) unless at least `share` of the names match and the classes are
    plausible: two or more, of two images or more on average."""
    labels = [label for label in match_labels(names, pattern) if label is not None]
    classes = len(set(labels))
    plausible = len(labels) >= share * len(names) and 2 <= classes <= len(labels) / 2
    return (len(labels), -classes) if plausible else (0, 0)


def names_carry_labels(names: Sequence[str], pattern: str) -> bool:
    """Guess, for the layout `auto`, whether file names contain labels."""
    return rate_pattern(names, pattern, 0.9) > (0, 0)


def suggest_pattern(names: Sequence[str]) -> str:
    """The common pattern that fits most names, or '' if none fits half of them."""
    names = names[:: max(1, len(names) // SAMPLE)]
    rating, best = max(((rate_pattern(names, each, 0.5), each) for each in COMMON_PATTERNS), key=lambda pair: pair[0])
    return best if rating > (0, 0) else ""


def read_class_list(path: str) -> tuple[str, ...]:
    """The class names in a text file, one a line, in index order; trailing empty lines are ignored."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file.read().rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SightlineError("cannot read class names", where=path, why=str(error), cure="save it as UTF-8") from error
    if "" in names:
        where = f"{path}, line {names.index('') + 1}"
        raise SightlineError("a class has no name", where=where, cure="write one class name on each line")
    check_distinct(names, path)
    return tuple(names)


def check_distinct(names: Sequence[str], where: str) -> None:
    """SightlineError if two class names are equal or differ only in case or Unicode form."""
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if key in seen:
            what = f"two classes have the same name up to case and Unicode form: {seen[key]!r} and {name!r}"
            raise SightlineError(what, where=where, cure="merge them, or give them names that differ by more")
        seen[key] = name


def sorted_classes(labels: set[str]) -> tuple[str, ...]:
    """Class names in index order: numerically if all are whole numbers (`2` before `10`), else as strings."""
    if all(re.fullmatch(r"[0-9]+", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def declared_name(label: str, declared: Sequence[str], known: set[str]) -> str | None:
    """The declared class that a label stands for: by its name, or by its index if the label is a whole number."""
    if label in known:
        return label
    if re.fullmatch(r"0|[1-9][0-9]{0,8}", label) and int(label) < len(declared):
        return declared[int(label)]
    return None


def by_declared(labels: Sequence[str], declared: Sequence[str], where: str) -> list[str]:
    """Labels as declared class names; SightlineError that lists labels that are not declared."""
    known = set(declared)
    meaning = {label: declared_name(label, declared, known) for label in sorted(set(labels))}
    unknown = [label for label, name in meaning.items() if name is None]
    if unknown:
        lines = [f"{label!r}{nearest_hint(label, declared)}" for label in unknown]
        counting = "\n    numeric labels count from 0" if any(label.isdigit() for label in unknown) else ""
        raise SightlineError(
            f"labels that are not among the {len(declared):,} declared classes: {len(unknown):,}",
            where=where,
            why="\n" + listing(lines) + counting,
            cure="correct the labels, or the list in classes.txt (one name a line) or data.classes; without a list the "
            "classes are sorted by name",
        )
    return [meaning[label] or label for label in labels]


def nearest_hint(label: str, choices: Sequence[str]) -> str:
    """`; did you mean 'cat'?` if a choice is similar, else empty."""
    close = difflib.get_close_matches(label, choices, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def to_indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Class indices int64 [N] of labels that are all in `classes`."""
    index = {name: number for number, name in enumerate(classes)}
    return np.fromiter((index[label] for label in labels), dtype=np.int64, count=len(labels))
