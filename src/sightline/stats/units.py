"""Independent units: the groups of images that belong together, such as the frames of a film; without groups, each
image.

Intervals treat units as the sample, because images of a group share their errors. Group ids are int64 [N], 0 to G - 1.
"""

from collections.abc import Hashable, Sequence

import numpy as np

FEWEST = 10
"""Smallest number of units for which an interval of a mean or a quotient is given; see docs/claims.md."""
MANY = 20
"""With fewer groups, the interval of an accuracy is wider than needed; see docs/claims.md."""
MOST_BLOCKS = 400
"""A statistic is computed without each of at most this number of blocks of units."""


def ids_of(names: Sequence[Hashable]) -> np.ndarray:
    """Ids int64 [N] of groups from their names, numbered in the order of their first image."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def count_units(count: int, groups: np.ndarray | None) -> int:
    """The number of units of `count` images."""
    return count if groups is None else int(groups.max(initial=-1)) + 1


def sums(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Sums [G, ...] of `values` [N, ...] over the images of each unit."""
    if groups is None:
        return values
    totals = np.zeros((count_units(len(values), groups), *values.shape[1:]), dtype=values.dtype)
    np.add.at(totals, groups, values)
    return totals


def effective_units(count: int, groups: np.ndarray | None) -> float:
    """The number of units of equal size that are as informative: (sum of sizes)^2 / sum of squared sizes (Kish 1965).

    If one group has nearly all images, it is near 1; without images it is 0.
    """
    if groups is None or not count:
        return float(count)
    sizes = np.bincount(groups).astype(np.float64)
    return float(sizes.sum() ** 2 / max((sizes**2).sum(), 1.0))


def blocks(count: int, groups: np.ndarray | None) -> np.ndarray:
    """Ids int64 [N] of at most MOST_BLOCKS blocks of complete units, so that a statistic has to be computed only as
    often. Units are assigned at random, always in the same way."""
    units = count_units(count, groups)
    block = np.arange(units)
    if units > MOST_BLOCKS:
        block = np.random.default_rng(0).permutation(units) % MOST_BLOCKS
    return block if groups is None else block[groups]


def weights_without(block: np.ndarray) -> np.ndarray:
    """Weights float64 [B, N] of the images, 0 for those of one block in each row, else 1. block: ids int64 [N]."""
    return (np.arange(block.max() + 1)[:, None] != block).astype(np.float64)
