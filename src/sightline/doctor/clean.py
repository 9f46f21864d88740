"""The clean list: a table that `--data` accepts, without what is unreadable, repeated or of two labels."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..data.sources.labels import sorted_classes
from ..data.sources.splits import WHOLE
from ..errors import SightlineError, counted
from ..runs.atomic import atomic_write
from ..runs.csv_io import csv_text
from .copies import identical, labels_of
from .facts import Facts
from .opened import Opened

PRECEDENCE = ("test", "val", "train", WHOLE)
"""Of copies in several splits that of the first one stays: what is measured on must not be trained on."""


def refuse_list(path: Path, opened: Opened, overwrite: bool) -> None:
    """SightlineError where no clean list can be written of such data, or not there."""
    labeled = any(items.labels is not None for items in opened.splits.values())
    if not opened.files or not opened.regular or not labeled:
        why = "it holds a file and its label on each line, and needs data that `sightline train` could list"
        cure = "leave out --write-clean-list; remove the files that are named by hand"
        raise SightlineError("there is no clean list of these data", where=opened.root, why=why, cure=cure)
    if path.suffix.lower() != ".csv":
        raise SightlineError("the clean list is a CSV", where=str(path), cure=f"--write-clean-list {path}.csv")
    if path.exists() and not overwrite:
        raise SightlineError("this file is there already", where=str(path), cure="choose another, or --overwrite")


def left_out(facts: Sequence[Facts]) -> dict[str, str]:
    """Name -> why it is not on the clean list."""
    out = {fact.name: "unreadable" for fact in facts if fact.why}
    for group in identical(facts):
        if len(labels_of(group)) > 1:
            out |= {fact.name: "conflicting labels" for fact in group}
            continue
        kept = min(group, key=lambda fact: (PRECEDENCE.index(fact.split), unfit(fact.name), len(fact.name)))
        out |= {fact.name: "copy" for fact in group if fact is not kept}
    return out


def write_clean_list(path: Path, facts: Sequence[Facts], opened: Opened) -> str:
    """Write the list, and a sentence on it. Names stand relative to the list's folder."""
    out, folder = left_out(facts), os.path.abspath(path.parent)
    out |= {fact.name: "no label" for fact in facts if fact.label < 0 and fact.name not in out}
    out |= {fact.name: "a name that no table can hold" for fact in facts if fact.name not in out and unfit(fact.name)}
    kept = [fact for fact in facts if fact.name not in out]
    if not kept:
        raise SightlineError("nothing is left for a clean list", where=opened.root, cure="mend the files")
    ordered = opened.classes == sorted_classes(set(opened.classes))
    split = any(fact.split != WHOLE for fact in kept)
    rows: list[list[object]] = [["filename", *(["label"] if ordered else ["label", "class_name"]), *["split"] * split]]
    for fact in kept:
        name = opened.classes[fact.label]
        file = os.path.relpath(fact.path, folder).replace(os.sep, "/")
        rows.append([file, *([name] if ordered else [fact.label, name]), *[fact.split] * split])
    atomic_write(path, csv_text(rows))
    reasons = [f"{sum(why == reason for why in out.values()):,} {reason}" for reason in dict.fromkeys(out.values())]
    return f"{counted(len(kept), 'image')} listed in {path}" + (f"; left out: {', '.join(reasons)}" if out else "")


def unfit(name: str) -> bool:
    """Whether a table cannot hold a name: it is not UTF-8, or begins or ends with a space."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return name != name.strip()
