"""Check that two runs were validated on the same items (classes, names, truth, content), and put them in one order."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ...errors import counted
from ..words import section
from .kinds import ComparedRun, ItemResults, TaskComparison

Fault: TypeAlias = tuple[str, str]
"""(reason, remedy)."""
SHOWN = 3
"""Example names in a message."""


def mismatch(first: ComparedRun, second: ComparedRun, kind: TaskComparison) -> Fault | None:
    """Why two runs cannot be compared image by image; None where they can."""
    for one in (first, second):
        if one.answers is None:
            return f"{one.name} {one.lacks}", one.cure
    assert first.answers and second.answers
    a, b = first.answers, second.answers
    return (
        other_classes(first.name, a, second.name, b)
        or other_names(first.name, a, second.name, b)
        or other_truth(first.name, a, second.name, b)
        or other_content(first, second, kind)
    )


def other_classes(first: str, a: ItemResults, second: str, b: ItemResults) -> Fault | None:
    """The fault of runs with different classes."""
    if set(a.classes) == set(b.classes) and len(a.classes) == len(b.classes):
        return None
    only = [f"only {name} has {examples(sorted(own - other))}"
            for name, own, other in ((first, set(a.classes), set(b.classes)), (second, set(b.classes), set(a.classes)))
            if own - other]  # fmt: skip
    why = f"they have different classes ({len(a.classes)} and {len(b.classes)}): {'; '.join(only)}"
    return why, "train both on the same classes (data.classes, data.merge, data.ignore)"


def other_names(first: str, a: ItemResults, second: str, b: ItemResults) -> Fault | None:
    """The fault of runs with different images, or with ambiguous names."""
    ours, theirs = set(a.names), set(b.names)
    cure = "validate both on the same images: the same --data.path, --data.split_seed and --data.val_fraction"
    if ours == theirs:
        doubled = [len(names) > len(set(names)) for names in (a.names, b.names)]
        if any(doubled) and a.names != b.names:
            return "several images have the same name and cannot be matched", "give each file its own name"
        return None
    if not ours & theirs:
        mine, others = a.names[0], b.names[0]
        return f"they were validated on different images and share none ({mine} and {others})", cure
    sides = ((first, second, theirs - ours), (second, first, ours - theirs))
    lacks = [f"{name} lacks {counted(len(gone), 'image')} of {other} ({examples(sorted(gone))})"
             for name, other, gone in sides if gone]  # fmt: skip
    shared = f"they share {len(ours & theirs):,} validation images, of {len(ours):,} and {len(theirs):,}"
    return f"{shared}; {'; '.join(lacks)}", cure


def other_truth(first: str, a: ItemResults, second: str, b: ItemResults) -> Fault | None:
    """The fault of runs whose images have different labels."""
    there = in_order_of(a, b)
    differs = (a.truth != there.truth).reshape(len(a.names), -1).any(1)
    if not differs.any():
        return None
    found = [a.names[row] for row in np.flatnonzero(differs)]
    what = examples(found)
    if a.truth.ndim == 1:
        row = int(np.flatnonzero(differs)[0])
        kinds = (a.classes[a.truth[row]], a.classes[there.truth[row]])
        what = f"{found[0]} is {kinds[0]} in {first} and {kinds[1]} in {second}"
        what += f"; also {examples(found[1:])}" if found[1:] else ""
    why = f"{counted(len(found), 'validation image')} {'has' if len(found) == 1 else 'have'} different labels: {what}"
    return why, "train the older run again on the current labels"


def other_content(first: ComparedRun, second: ComparedRun, kind: TaskComparison) -> Fault | None:
    """The fault of runs whose images have equal names and labels and different pixels, by the data's digests."""
    digests = [digest_of(one) for one in (first, second)]
    if unverified(first, second, kind) or None in digests or digests[0] == digests[1]:
        return None
    look = " and ".join(f"`sightline evaluate {shlex.quote(str(one.files.path))}`" for one in (first, second))
    why = "their validation images have the same names and different contents (data digest in provenance.json)"
    return why, f"{look} show which run's images have changed; train that run again"


def unverified(first: ComparedRun, second: ComparedRun, kind: TaskComparison) -> str:
    """Why the digests cannot show whether the contents are equal; "" where they can.

    A digest covers decoded pixels, ordered names and ordered classes.
    """
    a, b = first.answers, second.answers
    if digest_of(first) is None or digest_of(second) is None:
        return "no digest of the data is recorded"
    if a and b and (a.names != b.names or a.classes != b.classes):
        return "their order differs"
    data = [section(one.files.recipe, "data") for one in (first, second)]
    if any(data[0].get(key) != data[1].get(key) for key in kind.decoding):
        return "they were decoded at different sizes"
    pillow = [section(one.files.provenance, "versions").get("pillow") for one in (first, second)]
    return "they were decoded by different versions of Pillow" if pillow[0] != pillow[1] else ""


def digest_of(one: ComparedRun, split: str = "val") -> str | None:
    """The digest of a split in provenance.json, if any."""
    found = section(section(one.files.provenance, "data"), "digest").get(split)
    return found if isinstance(found, str) else None


def in_order_of(reference: ItemResults, other: ItemResults) -> ItemResults:
    """`other` with its images and classes in the order of the reference, matched by name; both have the same ones."""
    classes = np.array([reference.classes.index(name) for name in other.classes])
    rows = np.arange(len(other.names))
    if other.names != reference.names:
        index = {name: row for row, name in enumerate(other.names)}
        rows = np.array([index[name] for name in reference.names])
    if other.given.ndim == 1:
        truth, given = classes[other.truth[rows]], classes[other.given[rows]]
        return replace(reference, truth=truth, given=given, sure=other.sure[rows], rows=other.rows[rows])
    back = np.argsort(classes)
    given = other.given[rows][:, back][:, :, back]
    return replace(reference, truth=given.sum(-1), given=given, rows=other.rows[rows])


def examples(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
