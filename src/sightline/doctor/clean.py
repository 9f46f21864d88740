"""The clean list: a CSV of the usable images, for `train --data`. Unreadable images, images of another kind of pixels
than most, images with several labels, and all but one of identical images are not in it."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..config.paths import relative_path
from ..config.schema import NO_GROUPS, Data, group_pattern
from ..data.label_arrays import SEPARATOR
from ..data.sources.labels import sorted_classes
from ..data.sources.splits import ALL
from ..errors import SightlineError, counted
from ..runs.atomic import atomic_write
from ..runs.csv_io import csv_text
from .checks import most_common, odd
from .copies import identical, labels_of
from .facts import Facts
from .opened import OpenedData
from .quick import READING, options

ANSWERED = (
    *("layout", "pattern", "labels", "separator", "group", "fold", "mask", "on_bad_image", "on_unpaired"),
    *("label_column", "file_column", "overlap"),
)
"""Settings that the clean list needs no more."""
PRECEDENCE = ("test", "val", "train", ALL)
"""If identical images are in several splits, the one in the first of these splits is kept: validation and test
images must not be in train."""


def check_clean_list(path: Path, opened: OpenedData, overwrite: bool) -> None:
    """Raise SightlineError if the clean list cannot be written for these data, or exists without `overwrite`."""
    labeled = any(items.labels is not None for items in opened.splits.values())
    if not opened.files or not opened.regular or not labeled:
        why = (
            "it lists labeled image files, but these data have none, or `sightline train` does not accept their layout"
        )
        cure = "omit --fix, and remove or correct the reported files by hand"
        raise SightlineError("a clean list cannot be written for these data", where=opened.root, why=why, cure=cure)
    if path.exists() and not overwrite:
        cure = "choose another folder with --out FOLDER, or replace this file with --overwrite"
        raise SightlineError("this file already exists", where=str(path), cure=cure)


def reasons_to_skip(facts: Sequence[Facts]) -> dict[str, str]:
    """The images that are not put on the clean list: {name: reason}."""
    usual = most_common(facts)
    out = {fact.name: "other channels or bits" if odd(fact, usual) else "unreadable" for fact in facts if fact.why}
    for group in identical(facts):
        kept = min(group, key=lambda fact: (PRECEDENCE.index(fact.split), unlistable(fact.name), len(fact.name)))
        if len(labels_of(group)) > 1:
            out |= {fact.name: "conflicting labels" for fact in group}
        else:
            out |= {fact.name: "copy" for fact in group if fact is not kept}
    for fact in facts:
        if reason := "no label" if fact.label < 0 else "not listable in a table" if unlistable(fact.name) else "":
            out.setdefault(fact.name, reason)
    return out


def write_clean_list(path: Path, facts: Sequence[Facts], opened: OpenedData, data: Data, labels: str) -> list[str]:
    """Write the clean list, with names relative to its folder; returns a sentence with its counts of images, and one
    with the command that uses it. labels: of an image: "one", "several" or "number". Groups that the user states become
    the column `group`."""
    out, folder = reasons_to_skip(facts), os.path.abspath(path.parent)
    kept = [fact for fact in facts if fact.name not in out]
    if not kept:
        why = (
            "every image is unreadable, is labeled differently than an identical image, or has no label that can be "
            "listed"
        )
        cure = "repair or label the images, and run the command again"
        raise SightlineError("the clean list would be empty", where=opened.root, why=why, cure=cure)
    ordered = labels != "one" or opened.classes == sorted_classes(set(opened.classes))
    split, groups = any(fact.split != ALL for fact in kept), groups_of_names(opened, data)
    more = ["split"] * split + ["group"] * bool(groups)
    rows: list[list[object]] = [["filename", "label", *["class_name"] * (not ordered), *more]]
    for fact in kept:
        name, file = opened.classes[fact.label], relative_path(fact.path, folder).replace(os.sep, "/")
        own = [fact.split] * split + [groups.get(fact.name, "")] * bool(groups)
        rows.append([file, *([name] if ordered else [fact.label, name]), *own])
    atomic_write(path, csv_text(rows))
    reasons = [f"{sum(why == reason for why in out.values()):,} {reason}" for reason in dict.fromkeys(out.values())]
    sentence = f"{counted(len(kept), 'image')} listed in {path}" + (f"; left out: {', '.join(reasons)}" if out else "")
    words = ["--data", str(path), *["--data.labels", labels] * (labels != "one")]
    words += ["--data.separator", SEPARATOR] * (labels == "several")
    words += options(data, [name for name in READING if name not in ANSWERED])
    words += ["--data.group", NO_GROUPS] * (data.group == NO_GROUPS)
    return [sentence, f"train on it: sightline train RECIPE {shlex.join(words)}"]


def groups_of_names(opened: OpenedData, data: Data) -> dict[str, str]:
    """The group of each image that the user stated, by its name; {} if there are none."""
    found: dict[str, str] = {}
    for items in opened.splits.values():
        if data.group not in ("", NO_GROUPS):
            expression = group_pattern(data.group)
            found |= {name: match["group"] for name in items.names if (match := expression.search(name))}
        elif items.groups is not None and not data.group:
            found |= dict(zip(items.names, items.groups, strict=True))
    return found


def unlistable(name: str) -> bool:
    """Whether a CSV cannot contain a name, because it is not UTF-8, or starts or ends with a space."""
    return name != name.strip() or name != name.encode("utf-8", "replace").decode("utf-8")
