"""Hold out a validation split without dividing groups or identical files, and reject identical files in two splits."""

import contextlib
import hashlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ...config.schema import NO_GROUPS, Data, group_pattern
from ...errors import SightlineError, counted, listing, some_of
from ...runs.atomic import atomic_write, read_json, sha256
from ..cache import COPIES, cache_root, key_of
from ..decode.formats import require_decoders
from ..label_arrays import are_numbers, class_counts, strata
from ..types import Items, Source
from .splits import ALL, OUTER, fold_mask, held_out, held_out_groups

MEMO_FROM = 1000
"""If at least this number of files is compared, the result is stored in the cache folder."""
MORE_THAN_ASKED = 1.5
"""If this many times `data.val_fraction` is held out, because at least one image of each class is, the note has the
number of images."""
CHUNK, END_BYTES = 256, 4096
"""Files that a thread compares at a time, and the bytes at the end of a file that are compared first."""


def finish_source(source: Source, data: Data, seed: int, hold_out: bool = True, kind: str = "images") -> Source:
    """Complete a source: hold out a validation split if there is none, and add notes with the numbers of images.

    The split `all` becomes `train`. A test split is never used for validation. hold_out: False leaves the splits
    unchanged. kind: the noun in the notes.
    """
    splits, notes = dict(source.splits), list(source.notes)
    require_decoders([name for items in splits.values() for name in items.names], source.path)
    if hold_out:
        splits = {"train" if split == ALL else split: items for split, items in splits.items()}
        if "train" not in splits:
            what = f"there is no training split, only {' and '.join(splits)}"
            cure = "add the training images, in a file or folder whose name starts with train"
            raise SightlineError(what, where=source.path, cure=cure)
        train = splits["train"]
        annotated = train.labels is not None or train.read_mask is not None
        if data.fold and ("val" in splits or not annotated):
            what = "these data have a validation split" if annotated else "these images have no labels or masks"
            why = "folds are parts of labeled training images, and each is once the validation set"
            cure = "give the folder of the training images as the data; or use --seeds 0,1,2 instead of folds"
            cure = cure if annotated else "add labels: a folder for each class, or a table (docs/data.md)"
            raise SightlineError(f"{what}, so there are no folds", where="data.fold", why=why, cure=cure)
        if "val" not in splits and annotated:
            splits = with_validation(source.path, splits, data, seed, notes)
    if data.leave_out:
        splits = without_images(source.path, splits, set(data.leave_out), notes)
    if hold_out:
        if data.inner_fraction and "val" in splits:
            splits = with_inner_split(source.path, splits, data, seed, notes)
        notes += divided_groups(source.path, splits, data)
    counts = [f"all {len(i.names):,}" if s == ALL else f"{len(i.names):,} {s}" for s, i in splits.items()]
    classes = f" of {len(source.classes):,} class{'es' * (len(source.classes) != 1)}" if source.classes else ""
    notes.append(f"{' + '.join(counts)} {kind}{classes}")
    for split, items in splits.items():
        if items.labels is None:
            continue
        absent = np.flatnonzero(class_counts(items.labels, len(source.classes)) == 0).tolist()
        if absent:
            names = some_of([source.classes[index] for index in absent])
            what = f"{'the set' if split == ALL else split} has no image of {len(absent):,} of the classes ({names})"
            notes.append(f"{what}; class indices do not change")
    return replace(source, splits=splits, notes=tuple(notes))


def with_validation(path: str, splits: dict[str, Items], data: Data, seed: int, notes: list[str]) -> dict[str, Items]:
    """Move the fraction `data.val_fraction` of `train`, or the fold `data.fold`, to `val`, stratified by label; add
    notes about it."""
    train = splits["train"]
    labels = np.zeros(len(train.names), np.int64) if train.labels is None else strata(train.labels)
    groups = groups_of(path, train, data)
    mask, details = validation_mask(path, train, labels, groups, data, seed)
    if not mask.any():
        raise cannot_hold_out(path, data, groups)
    whole = "the pairs" if train.labels is None else "the images" if are_numbers(train.labels) else "each class"
    percent = f"{100 * data.val_fraction:.3g}%"
    share = f"{percent} of {whole}" if groups is None else f"complete groups, about {percent} of the images,"
    if groups is None and mask.mean() > MORE_THAN_ASKED * data.val_fraction:
        share = f"{mask.sum():,} of {len(mask):,} images (at least one of {whole})"
    aside = "; the split test is not used for validation" if "test" in splits else ""
    chosen = f"no validation split: {share} held out of train" if not data.fold else f"validation set: fold {data.fold}"
    notes += [f"{chosen} ({'split ' * bool(data.fold)}seed {seed}){aside}", *details]
    kept, val = train.subset(np.flatnonzero(~mask)), train.subset(np.flatnonzero(mask))
    others = {split: items for split, items in splits.items() if split != "train"}
    return {"train": kept, "val": val, **others}


def with_inner_split(path: str, splits: dict[str, Items], data: Data, seed: int, notes: list[str]) -> dict[str, Items]:
    """Replace `val` by an inner split of the training images; the images of `val` are then in the split OUTER, which
    training does not read. Adds notes about it."""
    train, inner, details = inner_split(path, splits["train"], data, seed)
    total = counted(len(splits["train"].names), "training image")
    note = f"data.inner_fraction: {len(inner.names):,} of {total} are the validation set"
    notes += [f"{note}; the images of val are not read (split {OUTER})", *details]
    others = {split: items for split, items in splits.items() if split not in ("train", "val")}
    return {"train": train, "val": inner, OUTER: splits["val"], **others}


def inner_split(path: str, train: Items, data: Data, seed: int) -> tuple[Items, Items, list[str]]:
    """Divide training images: (images to train with, images on which settings are chosen, notes for the user).

    The second part is the share `data.inner_fraction`, stratified by label; groups and identical files stay together.
    path: of the data. seed: of the validation split, from which this split's own is derived. Raises SightlineError if
    no image can be held out.
    """
    labels = np.zeros(len(train.names), np.int64) if train.labels is None else strata(train.labels)
    groups = groups_of(path, train, data)
    share = held_out_share(data, data.inner_fraction)
    mask, notes = validation_mask(path, train, labels, groups, share, seed + 2)  # seed + 1: thresholds of multilabel
    if not mask.any():
        raise cannot_hold_out(path, data, groups)
    return train.subset(np.flatnonzero(~mask)), train.subset(np.flatnonzero(mask)), notes


def validation_mask(
    path: str, items: Items, labels: np.ndarray, groups: Sequence[str] | None, data: Data, seed: int
) -> tuple[np.ndarray, list[str]]:
    """Choose the images to hold out, stratified by `labels` int64 [N]: (bool [N], notes for the user).

    groups: the group of each image, or None. Groups are not divided, and groups with identical files stay together.
    Without groups, an image is not held out if an identical file stays in train, or, in a fold, they stay together.
    """
    index_of = {name: index for index, name in enumerate(items.names)}
    copies = [[index_of[name] for name in group] for group in copies_among(path, {"train": items}, data)]
    if data.fold:
        return fold_mask(labels, merged_groups(groups or items.names, copies), data.fold, seed), []
    if groups is not None:
        mask = held_out_groups(labels, merged_groups(groups, copies), data.val_fraction, seed)
        taken = len({groups[index] for index in np.flatnonzero(mask)})
        share = f"{taken:,} of {counted(len(set(groups)), 'group')} held out, {mask.mean():.0%} of the images"
        return mask, [f"a group is never divided between splits: {share}"]
    mask = held_out(labels, data.val_fraction, seed)
    divided = [members for members in copies if not mask[members].all()]
    moved = sum(int(mask[members].sum()) for members in divided)
    for members in divided:
        mask[members] = False
    return mask, [f"{counted(moved, 'image')} not held out, because the same file is in train"] if moved else []


def held_out_share(data: Data, fraction: float) -> Data:
    """Settings with which `validation_mask` holds out a share of the training images of a run."""
    return data.model_copy(update={"val_fraction": fraction, "fold": ""})


def cannot_hold_out(path: str, data: Data, groups: Sequence[str] | None) -> SightlineError:
    """The SightlineError if no image can be held out for validation; it names the groups if these are the reason."""
    why = "every class has only one image, or only copies of one image"
    cure = "add images, so that each class has two different ones, or add a folder `val` with a validation split"
    if groups is not None:
        known = sorted(set(groups))
        names = some_of([repr(name.removeprefix("\0")) for name in known])
        why = (
            f"a group is never divided between splits, and each of the {len(known):,} groups ({names}) has all images "
            "of a class"
        )
        setting = f"--data.group {data.group!r}" if data.group else "the column `group` of the table"
        cure = f"change {setting} so that each class has several groups, or remove it"
    where = "data.group" if data.group else path
    return SightlineError("no image can be held out for validation", where=where, why=why, cure=cure)


def groups_of(path: str, items: Items, data: Data) -> list[str] | None:
    """The group of each image, by the regular expression `data.group` or a table's column of groups; None without
    either.

    An image with an empty cell is a separate group. Raises SightlineError if the expression does not match an image's
    name.
    """
    if data.group == NO_GROUPS:
        return None
    if not data.group:
        if items.groups is None:
            return None
        return [group or f"\0{name}" for group, name in zip(items.groups, items.names, strict=True)]
    expression = group_pattern(data.group)
    found = [match["group"] if (match := expression.search(name)) else None for name in items.names]
    missed = [name for name, group in zip(items.names, found, strict=True) if not group]
    if missed:
        raise SightlineError(
            f"{len(missed):,} of {len(found):,} images have no group by --data.group, e.g. {missed[0]!r}",
            where=path,
            why=f"{data.group!r} does not match these paths:\n{listing(missed, 5)}",
            cure="correct --data.group; to make every image that has no group a group of its own, use a regular "
            "expression with the alternative `|.+`, for example --data.group '(?P<group>clip[0-9]+|.+)'",
        )
    return [group or "" for group in found]


def merged_groups(groups: Sequence[str], copies: Iterable[Sequence[int]]) -> list[str]:
    """Merge groups that share identical files; returns each image's new group. copies: indices of such images."""
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for members in copies:
        for index in members[1:]:
            parent[root(groups[index])] = root(groups[members[0]])
    return [root(group) for group in groups]


def divided_groups(path: str, splits: Mapping[str, Items], data: Data) -> list[str]:
    """A list of one sentence on groups that have images in several splits; an empty list if there are none."""
    owners: dict[str, dict[str, None]] = {}
    for split, items in splits.items():
        for group in groups_of(path, items, data) or ():
            owners.setdefault(group, {})[split] = None
    divided = [f"{group} in {' and '.join(found)}" for group, found in owners.items() if len(found) > 1]
    what = (
        f"warning: {counted(len(divided), 'group')} with images in several splits, so that the scores may be too high"
    )
    return [f"{what} ({some_of(divided)})"] if divided else []


def copies_among(path: str, splits: Mapping[str, Items], data: Data) -> list[list[str]]:
    """Find identical files: a list of the names of each set of two or more. An empty list for data that are not files.

    Files of equal size and with equal last bytes are compared by SHA-256, so that few files are read completely. For
    many files the result is stored in the cache folder, under a key made of all names, sizes and times.
    """
    stamps = {name: stamp for items in splits.values() for name, stamp in zip(items.names, items.stamps, strict=True)}
    sizes = {name: stamps[name].partition(":")[0] for name in sorted(stamps)}
    count = Counter(sizes.values())
    alike = [name for name, size in sizes.items() if count[size] > 1 and size.isdigit() and size != "0"]
    content = [os.path.realpath(path), sorted(stamps.items())] if len(alike) >= MEMO_FROM else []
    memo = cache_root(data) / f"{COPIES}{key_of(content)}.json"
    known = read_json(memo) if content else None
    if known is not None:
        return known
    ends = in_threads(lambda name: sizes[name] + end_of(os.path.join(path, name)), alike)
    count = Counter(ends)
    alike = [name for name, end in zip(alike, ends, strict=True) if count[end] > 1]
    same: dict[str, list[str]] = {}
    for name, digest in zip(alike, in_threads(lambda name: digest_of(os.path.join(path, name)), alike), strict=True):
        same.setdefault(digest or name, []).append(name)
    found = [names for names in same.values() if len(names) > 1]
    if content:
        with contextlib.suppress(SightlineError):  # decoding reports a cache folder that cannot be written
            atomic_write(memo, json.dumps(found))
    return found


def in_threads(function: Callable[[str], str], names: Sequence[str]) -> list[str]:
    """Call `function` for each name in threads, in chunks, because a future for each of a million names is slow."""
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    with ThreadPoolExecutor() as pool:
        return [value for some in pool.map(lambda chunk: [*map(function, chunk)], chunks) for value in some]


def end_of(path: str) -> str:
    """A hash of the last END_BYTES bytes of a file; '' if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - END_BYTES))
            return hashlib.sha256(file.read(END_BYTES)).hexdigest()
    except OSError:
        return ""


def digest_of(path: str) -> str:
    """SHA-256 of a file; '' if it cannot be read, which is reported later, when it is decoded."""
    try:
        return sha256(path)
    except OSError:
        return ""


def training_splits(splits: Mapping[str, Items]) -> list[str]:
    """The splits of the training images: `train`, also `val` if it is an inner split of them; else ALL."""
    return ["train", *["val"] * (OUTER in splits)] if "train" in splits else [ALL]


def without_images(path: str, splits: dict[str, Items], names: set[str], notes: list[str]) -> dict[str, Items]:
    """The splits without the training images `names`; adds a note with their number. path: of the data.

    Raises SightlineError if one of them is not a training image.
    """
    parts = {split: splits[split] for split in training_splits(splits)}
    if unknown := sorted(names - {name for items in parts.values() for name in items.names}):
        what = f"{len(unknown):,} of the paths in data.leave_out are not training images: {some_of(unknown)}"
        cure = "remove these paths from --data.leave_out; they are relative to the data"
        raise SightlineError(what, where=path, cure=cure)
    notes.append(f"{counted(len(names), 'training image')} left out: {some_of(sorted(names))}")
    kept = {split: np.flatnonzero([name not in names for name in items.names]) for split, items in parts.items()}
    return splits | {split: items.subset(kept[split]) for split, items in parts.items()}


def source_without(source: Source, names: set[str], announce: Callable[[str], None]) -> Source:
    """The source without the training images `names`. `announce` is called with a note about them, if there are any."""
    if not names:
        return source
    notes = list(source.notes)
    splits = without_images(source.path, dict(source.splits), names, notes)
    announce(notes[-1])
    return replace(source, splits=splits, notes=tuple(notes))


def without_copies(source: Source, data: Data, announce: Callable[[str], None]) -> Source:
    """With `data.on_copies` leave_out, the source without the training images that are identical files of other splits;
    otherwise the source itself."""
    if data.on_copies != "leave_out" or "train" not in source.splits:
        return source
    own = {name for split in training_splits(source.splits) for name in source.splits[split].names}
    groups = [set(group) for group in copies_among(source.path, source.splits, data)]
    return source_without(source, {name for group in groups if group - own for name in group & own}, announce)


def reject_leaks(source: Source, data: Data, announce: Callable[[str], None]) -> Source:
    """Raise SightlineError if two splits have identical files; otherwise return the source, without the copies that
    `data.on_copies` leaves out. If it is warn, `announce` is called with a warning instead, which is a note of the
    source too."""
    source = without_copies(source, data, announce)
    if len(source.splits) < 2:
        return source
    owner = {name: split for split, items in source.splits.items() for name in items.names}
    shared, involved = [], set[str]()
    for group in copies_among(source.path, source.splits, data):
        splits = [split for split in source.splits if split in {owner[name] for name in group}]
        if len(splits) > 1:
            involved.update(splits)
            shared.append(f"{' = '.join(group[:4])}{', ...' * (len(group) > 4)} ({' and '.join(splits)})")
    if not shared:
        return source
    what = f"{counted(len(shared), 'image')} {'are' if len(shared) > 1 else 'is'} in several splits, as identical files"
    if data.on_copies == "warn":
        note = f"warning: {what}, so the scores may be too high: {some_of(shared)}"
        announce(note)
        return replace(source, notes=(*source.notes, note))
    labeled = any(items.labels is not None for items in source.splits.values())
    doctor = f", or write a table of the data without these copies: sightline doctor {shlex.quote(data.path)} --fix"
    cures = [f"keep one file of each image and remove the others{doctor * labeled}"]
    if data.on_copies == "stop" and involved & {*training_splits(source.splits)}:
        cures.append("to train without those of train: --data.on_copies leave_out")
    why = "the model would be evaluated on images that it was trained on"
    why = why if "train" in involved else "the scores of these splits would depend on each other"
    cure = "; ".join([*cures, "to train anyway: --data.on_copies warn"])
    raise SightlineError(what, where=source.path, why=f"{why}:\n{listing(shared)}", cure=cure)
