"""Check that two runs were validated on the same images (classes, names, labels, pixels), and align their results."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ...errors import counted
from ...stats.groups import joined
from ...stats.units import ids_of
from ..formatting import section
from .kinds import ComparedRun, ImageResults, TaskComparison

Fault: TypeAlias = tuple[str, str]
"""(why two runs cannot be compared image by image, what the user can do about it)."""
MOST_EXAMPLES = 3
"""Maximum number of image or class names that a message lists."""


def mismatch(first: ComparedRun, second: ComparedRun, kind: TaskComparison) -> Fault | None:
    """(why two runs cannot be compared image by image, what to do); None if they can be compared."""
    for one in (first, second):
        if one.results is None:
            return f"{one.name} {one.reason}", one.cure
    assert first.results and second.results
    a, b = first.results, second.results
    return (
        class_mismatch(first.name, a, second.name, b)
        or name_mismatch(first.name, a, second.name, b)
        or label_mismatch(first.name, a, second.name, b)
        or content_mismatch(first, second, kind)
    )


def class_mismatch(first: str, a: ImageResults, second: str, b: ImageResults) -> Fault | None:
    """(reason, remedy) if two runs have different classes, else None."""
    if set(a.classes) == set(b.classes) and len(a.classes) == len(b.classes):
        return None
    only = [f"only {name} has {examples(sorted(own - other))}"
            for name, own, other in ((first, set(a.classes), set(b.classes)), (second, set(b.classes), set(a.classes)))
            if own - other]  # fmt: skip
    why = f"they have different classes ({len(a.classes)} and {len(b.classes)}): {'; '.join(only)}"
    return why, "train both on the same classes (data.classes, data.merge, data.ignore)"


def name_mismatch(first: str, a: ImageResults, second: str, b: ImageResults) -> Fault | None:
    """(reason, remedy) if two runs have images of different names, or several images of the same name, else None."""
    ours, theirs = set(a.names), set(b.names)
    settings = "--data.path, --data.fold, --data.split_seed and --data.val_fraction"
    cure = f"validate both on the same images: the same {settings}"
    if ours == theirs:
        duplicates = [len(names) > len(set(names)) for names in (a.names, b.names)]
        if any(duplicates) and a.names != b.names:
            return (
                "several images have the same name and cannot be matched",
                "rename the files so that all names are unique",
            )
        return None
    if not ours & theirs:
        mine, others = a.names[0], b.names[0]
        return f"they were validated on different images and have none in common ({mine} and {others})", cure
    sides = ((first, second, theirs - ours), (second, first, ours - theirs))
    lacks = [f"{name} lacks {counted(len(missing), 'image')} of {other} ({examples(sorted(missing))})"
             for name, other, missing in sides if missing]  # fmt: skip
    shared = f"they have {len(ours & theirs):,} validation images in common, of {len(ours):,} and {len(theirs):,}"
    return f"{shared}; {'; '.join(lacks)}", cure


def label_mismatch(first: str, a: ImageResults, second: str, b: ImageResults) -> Fault | None:
    """(reason, remedy) if images of the same name have different labels in the two runs, else None."""
    there = aligned_to(a, b)
    differs = (a.truth != there.truth).reshape(len(a.names), -1).any(1)
    if not differs.any():
        return None
    found = [a.names[row] for row in np.flatnonzero(differs)]
    what = examples(found)
    if a.truth.ndim == 1 or a.has_sets:
        row = int(np.flatnonzero(differs)[0])
        kinds = (a.label(row), there.label(row))
        what = f"{found[0]} is {kinds[0]} in {first} and {kinds[1]} in {second}"
        what += f"; also {examples(found[1:])}" if found[1:] else ""
    why = f"{counted(len(found), 'validation image')} {'has' if len(found) == 1 else 'have'} different labels: {what}"
    return why, "train the older run again on the current labels"


def content_mismatch(first: ComparedRun, second: ComparedRun, kind: TaskComparison) -> Fault | None:
    """(reason, remedy) if images of the same names and labels have different pixels, else None.

    The digests of the validation data in provenance.json are compared.
    """
    digests = [digest_of(one) for one in (first, second)]
    if why_unverified(first, second, kind) or None in digests or digests[0] == digests[1]:
        return None
    commands = " and ".join(f"`sightline evaluate {shlex.quote(str(one.files.path))}`" for one in (first, second))
    why = "their validation images have the same names but different pixels (data digest in provenance.json)"
    return why, f"find the run whose images have changed with {commands}, and train it again"


def why_unverified(first: ComparedRun, second: ComparedRun, kind: TaskComparison) -> str:
    """Why the digests cannot show whether the images of two runs have equal pixels; "" if they can.

    The digest of a split covers its decoded pixels, image names and classes, in their order.
    """
    a, b = first.results, second.results
    if digest_of(first) is None or digest_of(second) is None:
        return "no digest of the data is recorded"
    if a and b and (a.names != b.names or a.classes != b.classes):
        return "their order differs"
    data = [section(one.files.recipe, "data") for one in (first, second)]
    if any(data[0].get(key, usual) != data[1].get(key, usual) for key, usual in kind.decoding):
        return "they were decoded at different sizes"
    pillow = [section(one.files.provenance, "versions").get("pillow") for one in (first, second)]
    return "they were decoded by different versions of Pillow" if pillow[0] != pillow[1] else ""


def digest_of(one: ComparedRun, split: str = "") -> str | None:
    """The digest of a split's data, "" for the compared one; None if provenance.json or the evaluation has none."""
    split = split or one.files.split
    found = section(section(one.files.provenance, "data"), "digest").get(split, one.files.evaluation.get("digest"))
    return found if isinstance(found, str) and found else None


def common_groups(reference: ImageResults, other: ImageResults) -> np.ndarray | None:
    """The groups int64 [N] of the images of two runs in the order of `reference`: the smallest that contain those of
    both, so that it does not matter which run is the reference. None if neither has any."""
    if other.groups is None:
        return reference.groups
    row_of = {name: row for row, name in enumerate(other.names)}
    theirs = ids_of(other.groups[[row_of[name] for name in reference.names]].tolist())
    return theirs if reference.groups is None else joined(reference.groups, theirs)


def aligned_to(reference: ImageResults, other: ImageResults) -> ImageResults:
    """The results `other` with images and classes in the order of `reference`, matched by name.

    Both must have the same image names and the same class names.
    """
    classes = np.array([reference.classes.index(name) for name in other.classes])
    rows = np.arange(len(other.names))
    if other.names != reference.names:
        index = {name: row for row, name in enumerate(other.names)}
        rows = np.array([index[name] for name in reference.names])
    if other.predicted.ndim == 1:
        truth, predicted = classes[other.truth[rows]], classes[other.predicted[rows]]
        return replace(
            reference, truth=truth, predicted=predicted, confidence=other.confidence[rows], rows=other.rows[rows]
        )
    back = np.argsort(classes)
    if other.has_sets:
        truth, predicted, scores = (
            part[rows][:, back] for part in (other.truth, other.predicted, other.scores) if part is not None
        )
        return replace(
            reference, truth=truth, predicted=predicted, scores=scores, confidence=other.confidence[rows],
            rows=other.rows[rows],
        )  # fmt: skip
    predicted = other.predicted[rows][:, back][:, :, back]
    return replace(reference, truth=predicted.sum(-1), predicted=predicted, rows=other.rows[rows])


def examples(names: Sequence[str]) -> str:
    """The first MOST_EXAMPLES names as text, and the number of the rest: `a, b, c and 4 more`."""
    more = len(names) - MOST_EXAMPLES
    return ", ".join(names[:MOST_EXAMPLES]) + (f" and {more:,} more" if more > 0 else "")
