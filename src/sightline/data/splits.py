"""Which folder or table is which split, and holding out a validation part where there is none."""

import re
from collections.abc import Iterable

import numpy as np

from ..errors import SightlineError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
PREFIX = re.compile(r"(training|train|validation|valid|val|testing|test)(?=$|\d|[_\-. ])", re.IGNORECASE)


def split_of(name: str) -> str | None:
    """`train`, `val`, `test` or None, for a name such as `train`, `val_50`, `validation` or `Test-2`."""
    match = PREFIX.match(name)
    return SPLIT_NAMES[match.group(1).lower()] if match else None


def split_names(names: Iterable[str], where: str) -> dict[str, str]:
    """Split -> the one name that stands for it. An exact name wins over `train_50`; two of equal rank are an error."""
    found: dict[str, list[str]] = {}
    for name in names:
        split = split_of(name)
        if split:
            found.setdefault(split, []).append(name)
    chosen = {}
    for split in ("train", "val", "test"):
        candidates = found.get(split, [])
        exact = [name for name in candidates if name.lower() in SPLIT_NAMES]
        best = exact or candidates
        if len(best) > 1:
            raise SightlineError(
                f"two names stand for the {split} split: {', '.join(map(repr, best[:4]))}",
                where=where,
                cure=f"rename all but one of them so that it does not begin with {split!r}",
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
