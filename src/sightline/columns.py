"""The columns of predictions/val.csv and of what `sightline predict` writes."""

from collections.abc import Sequence

RUN_COLUMNS = ("filename", "label", "truth", "confidence")  # then one probability a class
PREDICT_COLUMNS = ("filename", "label", "confidence")  # then one probability a class, then `error`
TAKEN = {*RUN_COLUMNS, *PREDICT_COLUMNS, "error"}
PREFIX = "class "


def collides(name: str) -> bool:
    """Whether a class is named like another column, or like a class that had to be renamed for it."""
    while name.startswith(PREFIX):
        name = name.removeprefix(PREFIX)
    return name in TAKEN


def class_columns(classes: Sequence[str]) -> list[str]:
    """Headers of the probability columns: the classes' names, with `class ` before those that other columns have."""
    return [PREFIX + name if collides(name) else name for name in classes]


def classes_of(columns: Sequence[str]) -> tuple[str, ...]:
    """The classes' names out of the headers of the probability columns."""
    return tuple(name.removeprefix(PREFIX) if collides(name) else name for name in columns)
