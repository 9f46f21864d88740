"""Recognize splits by the names of folders and tables, and choose validation images."""

import os
import re
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from ...errors import SightlineError
from ..parallel import permutation

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
SPLIT_NAMES = {name: split for split, names in SPLITS.items() for name in names}
ALIASES = ("dev", "development", "eval", "evaluation", "holdout")
"""Further names of the validation split. As they may be class names too, they count only as an exact match, and only
beside a folder or table `train`."""
PREFIX = re.compile(r"(training|train|validation|valid|val|testing|test)(?=$|\d|[_\-. ])", re.IGNORECASE)
ALL = "all"
"""Name of the only split of data that are not split."""
OUTER = "outer"
"""Name of the data's validation split if `data.inner_fraction` replaces it for training."""


def split_of(name: str, wide: bool = False) -> str | None:
    """The split (`train`, `val` or `test`) that a name such as `val_50`, `validation` or `Test-2` means; None for
    other names. wide: whether names in `ALIASES` count as the validation split."""
    if wide and bare_name(name) in ALIASES:
        return "val"
    match = PREFIX.match(name)
    return SPLIT_NAMES[match.group(1).lower()] if match else None


def bare_name(name: str) -> str:
    """A folder or table name in lower case, without the extension .csv or .tsv."""
    base, ending = os.path.splitext(name.lower())
    return base if ending in (".csv", ".tsv") else name.lower()


def names_train(names: Iterable[str]) -> bool:
    """Whether one of the names is exactly `train` or `training`, so that `ALIASES` are accepted as splits."""
    return any(SPLIT_NAMES.get(bare_name(name)) == "train" for name in names)


def split_folders(folders: tuple[str, ...], root: str, forced: bool) -> dict[str, str]:
    """Map splits to folder names; empty if the folders are not splits.

    They are splits if `train` and one of `val` and `test` are among them, or if all folders have names of splits, with
    or without a suffix (`train_50`). Thus `train_station` beside `harbor` is a class. forced: treat the folders with
    names of splits as splits in any case. Raises SightlineError if a split is ambiguous.
    """
    wide = forced or names_train(folders)
    alike = [name for name in folders if split_of(name, wide)]
    exact = {split_of(name, wide) for name in alike if name.lower() in (*SPLIT_NAMES, *ALIASES)}
    if forced or ("train" in exact and len(exact) > 1) or len(alike) == len(folders):
        return split_names(alike, root, wide)
    return {}


def split_names(names: Iterable[str], where: str, wide: bool = False) -> dict[str, str]:
    """Map splits to the names that mean them; `train` has priority over `train_50`. Raises SightlineError if several
    names remain for a split."""
    candidates: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        if split := split_of(name, wide):
            candidates[split].append(name)
    chosen = {}
    for split, found in candidates.items():
        exact = [name for name in found if name.lower() in SPLIT_NAMES]
        best = exact if exact and not any(bare_name(name) in ALIASES for name in found) else found
        if len(best) > 1:
            what = f"several files or folders have names of the {split} split: {', '.join(map(repr, best[:4]))}"
            raise SightlineError(
                what, where=where, cure="keep one of them, and rename the others or move them out of the data"
            )
        if best:
            chosen[split] = best[0]
    return chosen


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose validation images: bool [N], stratified by `labels` int64 [N].

    Of a class with n images, round(n * fraction) are chosen, but at least 1 and at most n - 1; none if n is 1. The
    choice depends only on the seed, the class index and the position of each image in its class.
    """
    mask = np.zeros(len(labels), dtype=bool)
    for index in np.unique(labels):
        members = np.flatnonzero(labels == index)
        if len(members) < 2:
            continue
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        mask[members[permutation(len(members), seed, int(index))[:count]]] = True
    return mask


def fold_mask(labels: np.ndarray, groups: Sequence[str], fold: str, seed: int) -> np.ndarray:
    """Choose the images of a fold such as `2/5`: bool [N], stratified by `labels` int64 [N], without dividing groups.

    The folds of a seed are disjoint and contain all images. Raises SightlineError for a fold that does not exist, and
    for fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # takes a second to import

    number, count = map(int, fold.split("/"))
    different = len(set(groups))
    if not 1 <= number <= count or count < 2:
        why = "the parts of K are numbered from 1 to K, and K is at least 2"
        cure = "give the number of a part and the number of parts: --data.fold 2/5"
        raise SightlineError(f"there is no fold {fold}", where="data.fold", why=why, cure=cure)
    if different < count:
        what = f"{count} folds cannot be made of {different} different images or groups"
        why = "images of a group, and identical files, are in one fold"
        cure = "use fewer folds, such as --folds 5" if different >= 5 else "add images or groups"
        raise SightlineError(what, where="data.fold", why=why, cure=cure)
    alone = different == len(groups)
    units = np.unique(np.array(groups), return_inverse=True)[1]
    splitter = (StratifiedKFold if alone else StratifiedGroupKFold)(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than folds: some folds lack it
        kinds = labels if np.bincount(labels).max() >= count else np.zeros_like(labels)
        folds = [held for _, held in splitter.split(kinds, kinds, None if alone else units)]
    mask = np.zeros(len(labels), dtype=bool)
    mask[folds[number - 1]] = True
    return mask


def held_out_groups(labels: np.ndarray, groups: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """Choose validation images by complete groups: bool [N], approximately stratified by `labels` int64 [N].

    The groups are visited in an order that depends only on the seed and the group names. A group is chosen if that
    brings the number of validation images of its classes nearer to `fraction` of each class (at least 1). Then, for
    each class without a validation image, the smallest possible group is chosen. A group with the last training images
    of a class is never chosen.
    """
    numbers = {name: index for index, name in enumerate(sorted(set(groups)))}
    kinds = np.unique(labels, return_inverse=True)[1].reshape(-1)
    group_of = np.array([numbers[group] for group in groups], np.int64)
    (owners, classes), counts = np.unique(np.stack([group_of, kinds]), axis=1, return_counts=True)
    firsts = np.searchsorted(owners, np.arange(len(numbers) + 1))
    total = np.bincount(kinds)
    target, held = np.maximum(total * fraction, 1.0), np.zeros(len(total), np.int64)
    taken = np.zeros(len(numbers), bool)

    def members(group: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(firsts[group], firsts[group + 1])
        return classes[part], counts[part]

    def take(group: int) -> None:
        kind, count = members(group)
        held[kind] += count
        taken[group] = True

    def may_take(group: int) -> bool:
        kind, count = members(group)
        return not taken[group] and bool((held[kind] + count < total[kind]).all())

    order = permutation(len(numbers), seed)
    for group in order.tolist():
        kind, count = members(group)
        nearer = ((2 * (held[kind] - target[kind]) + count) * count / target[kind]).sum() < 0
        if nearer and may_take(group):
            take(group)
    rank = np.argsort(order)
    for missing in np.flatnonzero(held == 0).tolist():
        free = [group for group in owners[classes == missing].tolist() if may_take(group)]
        if free and not held[missing]:
            take(min(free, key=lambda group: (members(group)[1].sum(), rank[group])))
    return taken[group_of]
