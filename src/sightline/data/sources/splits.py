"""Which folder or table is which split, and holding out a validation part where there is none."""

import os
import re
from collections.abc import Iterable, Sequence

import numpy as np

from ...errors import SightlineError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
ALIASES = ("dev", "development", "eval", "evaluation", "holdout")
"""More names of the val split. As classes may be called so too, they count in full only, and only beside `train`."""
PREFIX = re.compile(r"(training|train|validation|valid|val|testing|test)(?=$|\d|[_\-. ])", re.IGNORECASE)
WHOLE = "all"
"""The one split of data that come without splits, as long as nothing is held out."""


def split_of(name: str, wide: bool = False) -> str | None:
    """`train`, `val`, `test` or None, for a name such as `train`, `val_50`, `validation` or `Test-2`.

    wide: `ALIASES` count as well.
    """
    if wide and word(name) in ALIASES:
        return "val"
    match = PREFIX.match(name)
    return SPLIT_NAMES[match.group(1).lower()] if match else None


def word(name: str) -> str:
    """The name in lower case, and that of a table without its ending."""
    base, ending = os.path.splitext(name.lower())
    return base if ending in (".csv", ".tsv") else name.lower()


def names_train(names: Iterable[str]) -> bool:
    """Whether one of the names is `train` or `training` in full, so that `dev` beside it is a split."""
    return any(SPLIT_NAMES.get(word(name)) == "train" for name in names)


def split_folders(folders: tuple[str, ...], root: str, forced: bool) -> dict[str, str]:
    """Split -> folder. `train` with `val` or `test` beside it always counts; names that only begin so (`train_50`)
    count if no other folder lies beside them, because `train_station` next to `harbor` is a class."""
    wide = forced or names_train(folders)
    alike = [name for name in folders if split_of(name, wide)]
    exact = {split_of(name, wide) for name in alike if name.lower() in (*SPLIT_NAMES, *ALIASES)}
    if forced or ("train" in exact and len(exact) > 1) or len(alike) == len(folders):
        return split_names(alike, root, wide)
    return {}


def split_names(names: Iterable[str], where: str, wide: bool = False) -> dict[str, str]:
    """Split -> the one name that stands for it. An exact name wins over `train_50`; two of equal rank are an error."""
    found: dict[str, list[str]] = {}
    for name in names:
        split = split_of(name, wide)
        if split:
            found.setdefault(split, []).append(name)
    chosen = {}
    for split in ("train", "val", "test"):
        candidates = found.get(split, [])
        exact = [name for name in candidates if name.lower() in SPLIT_NAMES]
        alias = any(word(name) in ALIASES for name in candidates)
        best = candidates if alias else exact or candidates
        if len(best) > 1:
            raise SightlineError(
                f"two names stand for the {split} split: {', '.join(map(repr, best[:4]))}",
                where=where,
                cure="keep one of them there, and move the others to another place",
            )
        if best:
            chosen[split] = best[0]
    return chosen


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which images to hold out for validation: bool [N], stratified over `labels` int64 [N].

    Of a class with n images, round(n * fraction) are held out, at least 1 and at most n - 1; of a single image none.
    The choice is a function of (seed, class index, place in the class) and nothing else.
    """
    mask = np.zeros(len(labels), dtype=bool)
    for index in np.unique(labels):
        members = np.flatnonzero(labels == index)
        if len(members) < 2:
            continue
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        keys = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(int(index),))).random_raw(len(members))
        mask[members[np.argsort(keys, kind="stable")[:count]]] = True
    return mask


def held_out_groups(labels: np.ndarray, groups: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """Which images to hold out so that each group lies on one side: bool [N], stratified over `labels` int64 [N] as far
    as whole groups allow.

    Groups come in an order that is a function of (seed, names of the groups). One is taken where that brings the counts
    of its classes nearer to `fraction` of each, at least 1; classes that got nothing then take their smallest group. A
    group that has the last training images of a class is never taken.
    """
    names = {name: index for index, name in enumerate(sorted(set(groups)))}
    kinds = np.unique(labels, return_inverse=True)[1].reshape(-1)
    whose = np.array([names[group] for group in groups], np.int64)
    (owners, classes), counts = np.unique(np.stack([whose, kinds]), axis=1, return_counts=True)
    firsts = np.searchsorted(owners, np.arange(len(names) + 1))
    total = np.bincount(kinds)
    target, held = np.maximum(total * fraction, 1.0), np.zeros(len(total), np.int64)
    taken = np.zeros(len(names), bool)

    def members(group: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(firsts[group], firsts[group + 1])
        return classes[part], counts[part]

    def take(group: int) -> None:
        kind, count = members(group)
        held[kind] += count
        taken[group] = True

    def may(group: int) -> bool:
        kind, count = members(group)
        return not taken[group] and bool((held[kind] + count < total[kind]).all())

    order = np.argsort(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(len(names)), kind="stable")
    for group in order.tolist():
        kind, count = members(group)
        nearer = ((2 * (held[kind] - target[kind]) + count) * count / target[kind]).sum() < 0
        if nearer and may(group):
            take(group)
    rank = np.argsort(order)
    for missing in np.flatnonzero(held == 0).tolist():
        free = [group for group in owners[classes == missing].tolist() if may(group)]
        if free and not held[missing]:
            take(min(free, key=lambda group: (members(group)[1].sum(), rank[group])))
    return taken[whose]
