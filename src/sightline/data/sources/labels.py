"""Labels as strings and classes as one list: file-name patterns, class lists, and the checks on both."""

import difflib
import os
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from ...errors import SightlineError, listing

OBVIOUS_PATTERNS = tuple(f"{{{a}}}{mark}{{{b}}}" for mark in "_-. " for a, b in (("label", "id"), ("id", "label")))


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression for the stem of a file out of `{label}_{id}`.

    The label takes as much as it can: `aquarium_fish_001` under `{label}_{id}` is `aquarium_fish`, and so is
    `001_aquarium_fish` under `{id}_{label}`. Needs exactly one {label} and at most one {id}; all else is literal.
    """
    if pattern.count("{label}") != 1 or pattern.count("{id}") > 1 or re.search(r"\{(?!label\}|id\})", pattern):
        raise SightlineError(
            f"the pattern {pattern!r} must hold {{label}} once, and {{id}} at most once",
            where="data.pattern",
            cure="write it like the files' names without their ending, for example --data.pattern '{label}_{id}'",
        )
    escaped = re.escape(pattern).replace(r"\{label\}", "(?P<label>.+)").replace(r"\{id\}", ".+?")
    return re.compile(escaped, re.DOTALL)


def label_in_name(pattern: re.Pattern[str], name: str) -> str | None:
    """The label in a file's name (its folder and ending do not count), or None where the pattern does not match."""
    match = pattern.fullmatch(os.path.splitext(name.rsplit("/", 1)[-1])[0])
    return match.group("label") if match else None


def labels_in_names(names: Sequence[str], pattern: str, where: str) -> list[str]:
    """The label of every name; SightlineError that counts and shows those that do not match."""
    compiled = compile_pattern(pattern)
    labels = [label_in_name(compiled, name) for name in names]
    missed = [name for name, label in zip(names, labels, strict=True) if label is None]
    if missed:
        better = suggest_pattern(names)
        hint = f" '{better}'" if better and better != pattern else ""
        raise SightlineError(
            f"pattern matched {len(names) - len(missed):,} of {len(names):,}; e.g. {missed[0]!r} did not",
            where=where,
            why=f"the file names should look like {pattern!r}; these do not:\n{listing(missed, 5)}",
            cure=f"set --data.pattern{hint}, rename these files, or give --data.layout if the labels stand elsewhere",
        )
    return [label for label in labels if label is not None]


def count_matches(names: Sequence[str], pattern: str) -> int:
    """How many names match the pattern."""
    compiled = compile_pattern(pattern)
    return sum(label_in_name(compiled, name) is not None for name in names)


def names_carry_labels(names: Sequence[str], pattern: str) -> bool:
    """Whether file names look labeled: at least 9 of 10 match, with 2 classes or more, of 2 images or more on average.

    A guess, for the layout `auto` only: `IMG_1, IMG_2` is one label and `beach_dog, hill_car` repeats none.
    """
    compiled = compile_pattern(pattern)
    labels = [label for label in (label_in_name(compiled, name) for name in names) if label is not None]
    return len(labels) >= 0.9 * len(names) and 2 <= len(set(labels)) <= len(labels) / 2


def suggest_pattern(names: Sequence[str]) -> str:
    """The pattern that most names look like, or '' if none is plausible for half of them. A hint, never a decision.

    About 2,000 names decide, so that a large set costs no seconds for a hint.
    """
    names = names[:: max(1, len(names) // 2000)]
    best, score = "", (0, 0)
    for pattern in OBVIOUS_PATTERNS:
        compiled = compile_pattern(pattern)
        labels = [label for label in (label_in_name(compiled, name) for name in names) if label is not None]
        kinds = len(set(labels))
        plausible = 2 <= kinds <= len(labels) / 2 and len(labels) >= len(names) / 2
        if plausible and (len(labels), -kinds) > score:
            best, score = pattern, (len(labels), -kinds)
    return best


def read_class_list(path: str) -> tuple[str, ...]:
    """The class names in a text file, one a line, in index order. Empty lines at the end do not count."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file.read().rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SightlineError(
            "cannot read the class names", where=path, why=str(error), cure="save it as UTF-8 text"
        ) from error
    if "" in names:
        raise SightlineError(
            "a class has no name", where=f"{path}, line {names.index('') + 1}", cure="write one class name on each line"
        )
    check_distinct(names, path)
    return tuple(names)


def check_distinct(names: Sequence[str], where: str) -> None:
    """SightlineError if two class names are equal, or differ only in case or Unicode form."""
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if key in seen:
            if seen[key] == name:
                raise SightlineError(f"the class {name!r} stands twice", where=where, cure="remove or rename one")
            raise SightlineError(
                f"two classes differ only in how they are written: {seen[key]!r} and {name!r}",
                where=where,
                why="upper and lower case, or two ways to write an accent, are the same name on some systems",
                cure="give both the same name, or tell them apart by more",
            )
        seen[key] = name


def sorted_classes(labels: set[str]) -> tuple[str, ...]:
    """Class names in index order: by number if all are whole numbers (`2` before `10`), else in plain string order."""
    if all(re.fullmatch(r"[0-9]+", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def named(label: str, declared: Sequence[str], known: set[str]) -> str | None:
    """The declared class that a label means: itself, or the one at its place where the label is a whole number."""
    if label in known:
        return label
    if re.fullmatch(r"0|[1-9][0-9]{0,8}", label) and int(label) < len(declared):
        return declared[int(label)]
    return None


def fits(labels: set[str], declared: Sequence[str]) -> bool:
    """Whether every label is a declared class or a place in the list."""
    known = set(declared)
    return all(named(label, declared, known) is not None for label in labels)


def by_declared(labels: Sequence[str], declared: Sequence[str], where: str) -> list[str]:
    """Labels as declared class names; SightlineError with the nearest names for those that are not declared."""
    known = set(declared)
    meaning = {label: named(label, declared, known) for label in sorted(set(labels))}
    unknown = [label for label, name in meaning.items() if name is None]
    if unknown:
        lines = [f"{label!r}{nearest_hint(label, declared)}" for label in unknown]
        counting = "\n    labels that are numbers count from 0" if any(label.isdigit() for label in unknown) else ""
        verb = "labels are" if len(unknown) > 1 else "label is"
        raise SightlineError(
            f"{len(unknown):,} {verb} not among the {len(declared):,} declared classes",
            where=where,
            why="\n" + listing(lines) + counting,
            cure="correct the labels, or declare the classes in classes.txt (one name a line) or data.classes",
        )
    return [meaning[label] or label for label in labels]


def nearest_hint(label: str, choices: Sequence[str]) -> str:
    """`; did you mean 'cat'?`, or nothing."""
    close = difflib.get_close_matches(label, choices, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def to_indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Class indices int64 [N] of labels that are all in `classes`."""
    place = {name: index for index, name in enumerate(classes)}
    return np.fromiter((place[label] for label in labels), dtype=np.int64, count=len(labels))
