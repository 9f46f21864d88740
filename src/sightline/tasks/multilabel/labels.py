"""Findings of `sightline doctor` on label sets: classes that a model cannot tell apart, or learn at all."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...doctor.findings import Finding, Group
from ...errors import counted

FEW = 5
"""A class of fewer training images is not reported as never alone."""
PAIRS = 100
"""Maximum number of pairs of classes that are listed."""


def check_labels(labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Finding]:
    """Find classes of one image, classes that never occur alone, and pairs that always occur together.

    labels: bool [N, K] by split. All splits count together.
    """
    every = np.concatenate([*labels.values()])
    counts = every.sum(0)
    alone = every[every.sum(1) == 1].sum(0)
    together = every.astype(np.int64).T @ every
    once = [name for name, count in zip(classes, counts, strict=True) if count == 1]
    never = [f"{classes[k]} ({counts[k]:,} images)" for k in np.flatnonzero((alone == 0) & (counts >= FEW))]
    same = [
        f"{classes[a]} and {classes[b]} ({counts[a]:,} images)"
        for a, b in zip(*np.nonzero(np.triu(together, 1)), strict=True)
        if together[a, b] == counts[a] == counts[b] and counts[a] > 1
    ]
    bare = int((~every.any(1)).sum())
    found = [
        ("label_once", once, "class* with a single image", "it is in one split only: not trained, or not measured",
         "add images of it, or remove the label"),
        ("labels_together", same, "pair* of classes that always occur together",
         "no model can tell them apart", "merge them, or add images that have one of the two"),
        ("label_never_alone", never, "class* that never occur alone",
         "a model may learn what occurs with it instead of the class itself",
         "add images that have only this label, or look at the maps of what the model looks at"),
    ]  # fmt: skip
    result = [
        Finding(kind, "warning", text(what, len(names)), why, cure, tuple(Group((), name) for name in names[:PAIRS]))
        for kind, names, what, why, cure in found
        if names
    ]
    if bare:
        what, cure = f"{counted(bare, 'image')} without any label", "check that nothing of the classes is in them"
        result.append(Finding("no_label", "warning", what, "they are trained on as images of no class", cure))
    return result


def text(what: str, count: int) -> str:
    """The title of a finding: the number, and the noun in the singular or plural."""
    return f"{count:,} {what.replace('*', 's' if count > 1 and not what.startswith('class') else 'es' * (count > 1))}"
