"""Copies: the same picture twice, across splits, under two labels; and pictures that are nearly the same."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from .facts import Facts
from .findings import Finding, Group, number
from .near import MOST, candidates, confirmed, connected

CLEAN = "--write-clean-list clean.csv"
LEAST_SIDE = 16
"""Smaller pictures have too few pixels to tell near copies from pictures of the same thing."""
BY_HAND = "remove all but one of each"
FRAMES = r"(?P<group>.+)[_. -][0-9]+[.][A-Za-z]+$"
"""The source of a frame, as names like `clip01_0001.jpg` have it."""


def identical(facts: Sequence[Facts]) -> list[list[Facts]]:
    """Readable images with the same pixels, in groups of two or more."""
    groups: dict[bytes, list[Facts]] = {}
    for fact in facts:
        if not fact.why:
            groups.setdefault(fact.pixels, []).append(fact)
    return [group for group in groups.values() if len(group) > 1]


def labels_of(group: Sequence[Facts]) -> list[int]:
    """The labels of a group, each once."""
    return sorted({fact.label for fact in group if fact.label >= 0})


def splits_of(group: Sequence[Facts]) -> list[str]:
    """The splits of a group, each once."""
    return list(dict.fromkeys(fact.split for fact in group))


def exact_checks(facts: Sequence[Facts], classes: Sequence[str], can_list: bool) -> list[Finding]:
    """Pictures that are the same to the pixel. can_list: a clean list can be written of such data."""
    kinds: dict[str, list[Group]] = {"conflict": [], "leak": [], "duplicate": []}
    for group in identical(facts):
        labels, splits = labels_of(group), splits_of(group)
        same = "same file" if len({fact.file for fact in group}) == 1 and group[0].file else "same pixels"
        kind = "conflict" if len(labels) > 1 else "leak" if len(splits) > 1 else "duplicate"
        says = [same, *([" and ".join(classes[label] for label in labels)] if kind == "conflict" else [])]
        says += [" and ".join(splits)] * (len(splits) > 1)
        kinds[kind].append(Group(tuple(fact.name for fact in group), ", ".join(says)))
    clean = f", or leave them out: {CLEAN}" if can_list else ""
    found = []
    if groups := kinds["conflict"]:
        what = number(len(groups), "picture", "has several labels", "have several labels")
        why = "identical images with different labels cannot both be right, and no model can learn them"
        found.append(Finding("conflicting_labels", "error", what, why, f"correct the labels{clean}", tuple(groups)))
    if groups := kinds["leak"]:
        what = number(len(groups), "picture", "is in several splits", "are in several splits")
        why = "the model is validated on what it was trained on, and its numbers are too good"
        cure = f"remove them from train{clean}"
        found.append(Finding("leak", "error", what, why, cure, tuple(groups)))
    if groups := kinds["duplicate"]:
        what = number(len(groups), "picture", "is there more than once", "are there more than once") + " in a split"
        why = "they count several times; where a share is held out for validation, one copy may be trained on"
        found.append(Finding("duplicate", "warning", what, why, f"{BY_HAND}{clean}", tuple(groups)))
    return found


def near_checks(
    facts: Sequence[Facts], classes: Sequence[str], read: Callable[[Facts], Image.Image]
) -> tuple[list[Finding], tuple[str, ...]]:
    """Pictures that are nearly the same: saved again, resized, brighter, the next frame of a film; and notes on what
    was not looked at."""
    rows = [row for row, fact in enumerate(facts) if not fact.why and not fact.plain and min(fact.size) >= LEAST_SIDE]
    distinct = list({facts[row].pixels: facts[row] for row in reversed(rows)}.values())[::-1]
    if len(distinct) < 2:
        return [], ()
    thumbs = np.frombuffer(b"".join(fact.thumb for fact in distinct), np.uint8).reshape(len(distinct), -1)
    found_pairs = candidates(thumbs)
    looked, left = found_pairs[np.lexsort(found_pairs[:MOST].T[::-1])], len(found_pairs) - MOST
    notes = (f"of pictures that are alike at 8 x 8 colors, {left:,} pairs were not compared any closer",) * (left > 0)
    pairs = confirmed(looked, lambda row: read(distinct[row]))
    best: dict[int, float] = {}
    for first, second, alike in pairs:
        for row in (first, second):
            best[row] = max(best.get(row, 0.0), alike)
    within, across = [], []
    for members in sorted(connected(pairs), key=lambda some: -max(best[row] for row in some)):
        group = [distinct[row] for row in members]
        labels, splits = labels_of(group), splits_of(group)
        says = [f"{max(best[row] for row in members):.3f} alike"]
        says += [f"labels {' and '.join(classes[label] for label in labels[:4])}"] * (len(labels) > 1)
        says += [" and ".join(splits)] * (len(splits) > 1)
        (across if len(splits) > 1 else within).append(Group(tuple(fact.name for fact in group), ", ".join(says)))
    found = []
    if across:
        what = number(len(across), "set", "of near copies is in several splits", "of near copies are in several splits")
        why = "what is validated was nearly seen in training: the numbers may be too good"
        cure = "look at them; keep each group, such as the frames of one film, in one split"
        found.append(Finding("near_leak", "warning", what, why, cure, tuple(across)))
    if within:
        what = number(len(within), "set", "of near copies is in one split", "of near copies are in one split")
        why = "they count several times, and split at random they leak; two labels in a group are likely a mistake"
        cure = f"look at them; {BY_HAND}{frames_option(facts, within)}"
        found.append(Finding("near_duplicate", "warning", what, why, cure, tuple(within)))
    return found, notes


def frames_option(facts: Sequence[Facts], groups: Sequence[Group]) -> str:
    """The setting that holds the frames of one film together, where near copies are called like frames of several
    films and no validation split is given; else empty. A class of one source, `cat/cat_001.jpg`, cannot be divided."""
    sources = {fact.name: match["group"] if (match := re.search(FRAMES, fact.name)) else "" for fact in facts}
    by_label: dict[int, set[str]] = {}
    for fact in facts:
        by_label.setdefault(fact.label, set()).add(sources[fact.name])
    several = min(len(names) for names in by_label.values()) > 1 and 2 * len(set(sources.values())) <= len(sources)
    of_one = sum(len({sources[name] for name in group.files}) == 1 for group in groups)
    if "val" in splits_of(facts) or not all(sources.values()) or not several or 2 * of_one <= len(groups):
        return ""
    return f"; or keep what is called alike on one side of the split: --data.group '{FRAMES}'"
