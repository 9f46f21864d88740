"""Images that must not be divided between training and validation: those of one group, and copies of one file."""

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ...config.schema import Data
from ...errors import SightlineError, counted, listing
from ...runs.atomic import read_json, sha256, write_json
from ..cache import COPIES, cache_root
from .open import Items, Source
from .splits import held_out, held_out_groups

MEMO_FROM = 1000
"""Fewer files than these are read again at each start; of more it is kept which are the same."""


def held_together(path: str, items: Items, labels: np.ndarray, data: Data, seed: int) -> tuple[np.ndarray, list[str]]:
    """(which images to hold out for validation bool [N], sentences on what was kept together), stratified over `labels`
    int64 [N].

    Groups, by `data.group` or the column of a table, lie on one side whole. Without groups the choice is that of
    `held_out`, but that an image of which a copy is trained on is trained on too. SightlineError where `data.group`
    does not fit a name.
    """
    groups = groups_of(path, items, data)
    place = {name: index for index, name in enumerate(items.names)}
    copies = [[place[name] for name in group] for group in copies_among(path, {"train": items}, data)]
    if groups is not None:
        mask = held_out_groups(labels, joined(groups, copies), data.val_fraction, seed)
        taken = len({groups[index] for index in np.flatnonzero(mask)})
        share = f"{taken:,} of {counted(len(set(groups)), 'group')} are held out, {mask.mean():.0%} of the images"
        return mask, [f"groups are kept whole: {share}"]
    mask = held_out(labels, data.val_fraction, seed)
    torn = [places for places in copies if not mask[places].all()]
    moved = sum(int(mask[places].sum()) for places in torn)
    for places in torn:
        mask[places] = False
    return mask, [f"{counted(moved, 'image')} not held out after all: the same file is trained on"] if moved else []


def groups_of(path: str, items: Items, data: Data) -> list[str] | None:
    """The group of each image: by `data.group`, else by the column of a table; None without either.

    An empty cell means an image of no group, which stands alone. SightlineError where the expression does not fit.
    """
    if not data.group:
        if items.groups is None:
            return None
        return [group or f"\0{name}" for group, name in zip(items.groups, items.names, strict=True)]
    expression = re.compile(data.group)
    found = [match["group"] if (match := expression.search(name)) else None for name in items.names]
    missed = [name for name, group in zip(items.names, found, strict=True) if not group]
    if missed:
        raise SightlineError(
            f"data.group fits {len(found) - len(missed):,} of {len(found):,} names; e.g. {missed[0]!r} has no group",
            where=path,
            why=f"{data.group!r} is looked for in the path of each image; these have no part that is its group:\n"
            + listing(missed, 5),
            cure="correct --data.group; a name that stands for itself can be a group: '(?P<group>clip[0-9]+|.+)'",
        )
    return [group or "" for group in found]


def joined(groups: Sequence[str], copies: Iterable[Sequence[int]]) -> list[str]:
    """The groups, those joined of which one image is a copy of another."""
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for places in copies:
        for place in places[1:]:
            parent[root(groups[place])] = root(groups[places[0]])
    return [root(group) for group in groups]


def torn_groups(path: str, splits: Mapping[str, Items], data: Data) -> list[str]:
    """A sentence on groups that lie in several splits; none where there are none, or no groups."""
    owners: dict[str, dict[str, None]] = {}
    for split, items in splits.items():
        for group in groups_of(path, items, data) or ():
            owners.setdefault(group, {})[split] = None
    torn = [f"{group} in {' and '.join(found)}" for group, found in owners.items() if len(found) > 1]
    if not torn:
        return []
    many = "group lies" if len(torn) == 1 else "groups lie"
    some = ", ".join(torn[:4]) + (", ..." if len(torn) > 4 else "")
    return [f"{len(torn):,} {many} in several splits, and the numbers may be too good: {some}"]


def copies_among(path: str, splits: Mapping[str, Items], data: Data) -> list[list[str]]:
    """The names of files of the same bytes, in groups of two or more; of data that are no files, none.

    Files of a size of their own are not opened; the others' SHA-256 tells. Of many files the result is kept beside the
    cache of decoded images, under the names and stamps of all, for the next start.
    """
    stamps = {name: stamp for items in splits.values() for name, stamp in zip(items.names, items.stamps, strict=True)}
    names = sorted(stamps)
    sizes = [stamps[name].partition(":")[0] for name in names]
    count = Counter(sizes)
    alike = [place for place, size in enumerate(sizes) if count[size] > 1 and size.isdigit() and size != "0"]
    if not alike:
        return []
    content = [os.path.realpath(path), names, [stamps[name] for name in names]]
    memo = cache_root(data) / f"{COPIES}{hashlib.sha256(json.dumps(content).encode('ascii')).hexdigest()}.json"
    known = read_json(memo) if len(alike) >= MEMO_FROM else None
    if known is not None and is_memo(known, len(names)):
        return [[names[place] for place in group] for group in known]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda place: digest_of(os.path.join(path, names[place])), alike))
    same: dict[str, list[int]] = {}
    for place, digest in zip(alike, digests, strict=True):
        same.setdefault(digest or names[place], []).append(place)
    found = [places for places in same.values() if len(places) > 1]
    if len(alike) >= MEMO_FROM:
        with contextlib.suppress(SightlineError):  # a cache that cannot be written is told of by those who need it
            write_json(memo, found)
    return [[names[place] for place in group] for group in found]


def is_memo(known: object, count: int) -> bool:
    """Whether that is what `copies_among` keeps of `count` files."""
    return isinstance(known, list) and all(
        isinstance(group, list) and all(isinstance(place, int) and 0 <= place < count for place in group)
        for group in known
    )


def digest_of(path: str) -> str:
    """SHA-256 of a file; empty where it cannot be read, which decoding it will say."""
    try:
        return sha256(path)
    except OSError:
        return ""


def without_leaks(source: Source, data: Data, say: Callable[[str], None]) -> Source:
    """The source, to be trained on. SightlineError where files of two splits have the same bytes, or with
    `data.on_copies` warn a note that is also said."""
    if len(source.splits) < 2:
        return source
    owner = {name: split for split, items in source.splits.items() for name in items.names}
    shared = []
    for group in copies_among(source.path, source.splits, data):
        splits = [split for split in source.splits if split in {owner[name] for name in group}]
        if len(splits) > 1:
            shared.append(f"{' = '.join(group[:4])}{', ...' if len(group) > 4 else ''} ({' and '.join(splits)})")
    if not shared:
        return source
    verb = "is" if len(shared) == 1 else "are"
    what = f"{counted(len(shared), 'picture')} {verb} in several splits, as the same file"
    if data.on_copies == "warn":
        some = "; ".join(shared[:4]) + ("; ..." if len(shared) > 4 else "")
        note = f"warning: {what}, and the numbers may be too good: {some}"
        say(note)
        return replace(source, notes=(*source.notes, note))
    labeled = any(items.labels is not None for items in source.splits.values())
    doctor = f", or list the others: sightline doctor {shlex.quote(data.path)} --write-clean-list clean.csv"
    raise SightlineError(
        what,
        where=source.path,
        why="the model would be validated on what it was trained on:\n" + listing(shared),
        cure=f"remove all but one of each{doctor * labeled}; to train all the same: --data.on_copies warn",
    )
