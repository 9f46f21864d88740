"""Find exact and near copies of images: within a split, in several splits, or with different labels."""

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from ..config.schema import group_pattern
from ..data.near import LEAST_SIDE, candidates, confirmed, connected
from ..data.sources.splits import ALL
from ..stats.groups import Groups, found_by_name, name_parts, rows_by
from .facts import Facts
from .findings import Finding, Group, finding

FRAMES = r"(?P<group>.+)[_. -][0-9]+[.][A-Za-z]+$"
"""Regular expression for names of video frames, such as `clip01_0001.jpg`; its group is the name of the video."""
MOST = 30_000
"""Maximum number of pairs of images that are compared in detail, the most similar first."""


def identical(facts: Sequence[Facts]) -> list[list[Facts]]:
    """Sets of two or more readable images with the same pixels."""
    groups: dict[bytes, list[Facts]] = {}
    for fact in facts:
        if not fact.why:
            groups.setdefault(fact.pixels, []).append(fact)
    return [group for group in groups.values() if len(group) > 1]


def labels_of(group: Sequence[Facts]) -> list[int]:
    """The distinct labels (class indices) in a set of images, sorted."""
    return sorted({fact.label for fact in group if fact.label >= 0})


def described(note: str, members: Sequence[Facts], classes: Sequence[str]) -> tuple[Group, bool, bool]:
    """A set of copies as a finding's entry with a note: (entry, whether it has several labels, whether it is in
    several splits)."""
    labels, splits = labels_of(members), list(dict.fromkeys(fact.split for fact in members))
    notes = [note, *[" and ".join(classes[label] for label in labels[:4])] * (len(labels) > 1)]
    notes += [" and ".join(splits)] * (len(splits) > 1)
    return Group(tuple(fact.name for fact in members), ", ".join(notes)), len(labels) > 1, len(splits) > 1


def exact_checks(facts: Sequence[Facts], classes: Sequence[str], can_list: bool) -> list[Finding]:
    """Find images with the same pixels. can_list: whether the cure can suggest to write a clean list."""
    kinds: dict[str, list[Group]] = {"conflicting_labels": [], "leak": [], "duplicate": []}
    for members in identical(facts):
        same = "same file" if len({fact.file for fact in members}) == 1 and members[0].file else "same pixels"
        group, conflict, leak = described(same, members, classes)
        kinds["conflicting_labels" if conflict else "leak" if leak else "duplicate"].append(group)
    clean = ", or leave them out: --fix" if can_list else ""
    return [one for kind, groups in kinds.items() for one in finding(kind, groups, clean=clean)]


def near_checks(
    facts: Sequence[Facts], classes: Sequence[str], read: Callable[[Facts], Image.Image]
) -> tuple[list[Finding], list[str]]:
    """Find near copies, such as resized or brighter images and successive video frames: (findings, notes). read:
    function that opens an image. notes: sentences on pairs that were not compared."""
    usable = [fact for fact in facts if not fact.why and not fact.plain and min(fact.size) >= LEAST_SIDE]
    distinct = list({fact.pixels: fact for fact in reversed(usable)}.values())[::-1]
    if len(distinct) < 2:
        return [], []
    thumbs = np.frombuffer(b"".join(fact.thumb for fact in distinct), np.uint8).reshape(len(distinct), -1)
    pairs = candidates(thumbs)
    left = len(pairs) - MOST
    notes = [f"{left:,} pairs of images with similar thumbnails were not compared in detail"] * (left > 0)
    links = confirmed(pairs[:MOST], lambda row: read(distinct[row]))
    best: dict[int, float] = {}
    for *rows, alike in links:
        best |= {row: max(best.get(row, 0.0), alike) for row in rows}
    kinds: dict[str, list[Group]] = {"near_leak": [], "near_duplicate": []}
    for members in sorted(connected(links), key=lambda rows: -max(best[row] for row in rows)):
        note = f"similarity {max(best[row] for row in members):.3f}"
        group, _, leak = described(note, [distinct[row] for row in members], classes)
        kinds["near_leak" if leak else "near_duplicate"].append(group)
    frames = frames_option(facts)
    return [one for kind, groups in kinds.items() for one in finding(kind, groups, frames=frames)], notes


def films_of(names: Sequence[str], thumbs: Sequence[bytes], labels: Sequence[int]) -> Groups | None:
    """The films, scenes and the like of one or more images, by the names of their files and by pixels. thumbs: as of
    `near.thumbnail`. labels: only images of one label are compared."""
    small = np.frombuffer(b"".join(thumbs), np.uint8).reshape(len(names), -1)
    return found_by_name([name_parts(PurePosixPath(name).name) for name in names], small.astype(np.float32), labels)


def film_checks(facts: Sequence[Facts], classes: Sequence[str], stated: bool = False) -> list[Finding]:
    """Find films, scenes and the like, by name and pixels, that have images in several splits, or that a random split
    would divide. stated: whether the data or settings say which images belong together."""
    usable = [fact for fact in facts if not fact.why and not fact.plain]
    unsplit = {fact.split for fact in usable} == {ALL}
    if len({fact.split for fact in usable}) < 2 and (stated or not unsplit):
        return []
    found = films_of([fact.name for fact in usable], [fact.thumb for fact in usable], [fact.label for fact in usable])
    members = [[usable[row] for row in rows] for rows in rows_by(found.ids.tolist())] if found else []
    groups = [described(f"{len(some):,} images", some, classes) for some in members]
    names, labels = [fact.name for fact in usable], [fact.label for fact in usable]
    films = film_option(names, found.ids.tolist(), labels) if found else ""
    if unsplit:
        return finding("film_unsplit", [group for group, *_ in groups if len(group.files) > 1], films=films)
    return finding("film_leak", [group for group, _, leak in groups if leak], films=films)


def film_option(names: Sequence[str], films: Sequence[int], labels: Sequence[int]) -> str:
    """What keeps the images of films together: the option `data.group` with a pattern of file names that divides no
    film and leaves each class several groups, from which some can be held out; without one, a column of a table."""
    for pattern in ("{group}_*", FRAMES):
        groups = divisible(pattern, names, labels)
        if groups and len({*zip(films, groups, strict=True)}) == len({*films}):
            return f"--data.group {shlex.quote(pattern)}"
    return "a column `group` in a table of the images, with several films of each class (docs/data.md)"


def divisible(pattern: str, names: Sequence[str], labels: Sequence[int]) -> list[str]:
    """The groups of images by a pattern of `data.group`; [] if some have none, or all images of a class are of one
    group, so that none can be held out."""
    matches = [group_pattern(pattern).search(name) for name in names]
    groups = [match["group"] for match in matches if match]
    if not groups or len(groups) < len(names):
        return []
    several = Counter(label for label, _ in {*zip(labels, groups, strict=True)})
    return groups if min(several.values()) > 1 else []


def frames_option(facts: Sequence[Facts]) -> str:
    """The command-line option that keeps the frames of a video in one split; "" if it does not apply. It applies to
    data without splits if all files are named like video frames and every class has several videos."""
    usable = divisible(FRAMES, [fact.name for fact in facts], [fact.label for fact in facts])
    option = f"; or keep images whose names differ only in a number in one split: --data.group '{FRAMES}'"
    return option if usable and {fact.split for fact in facts} == {ALL} else ""
