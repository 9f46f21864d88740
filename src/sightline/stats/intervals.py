"""What a difference is worth: intervals, paired tests, and the sentence that they allow."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

Interval = tuple[float, float]


def bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """float64 [resamples]: means of samples of N drawn from `values` [N] with replacement.

    Where the values are few different ones (0 and 1; -1, 0 and 1), how often each is drawn is multinomial: the
    same distribution, without drawing N numbers for each resample.
    """
    rng, n = np.random.default_rng(seed), len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 16:
        return rng.multinomial(n, counts / n, resamples) @ distinct / n
    rows = max(1, 2**22 // n)  # at most 32 MiB of indices at a time
    blocks = [values[rng.integers(0, n, (min(rows, resamples - i), n))].mean(1) for i in range(0, resamples, rows)]
    return np.concatenate(blocks)


def percentiles(means: np.ndarray, level: float) -> Interval:
    """The middle `level` of the resampled means."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(values: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Percentile bootstrap interval (low, high) of the mean of one value per item, [N]; deterministic by `seed`.

    0 and 1 (wrong and right) make it an interval of the accuracy. All of them wrong or all right leaves nothing to
    resample, and [1, 1] would claim certainty: there the exact binomial (Clopper-Pearson) interval stands instead.
    """
    items = np.asarray(values, dtype=np.float64)
    assert items.ndim == 1 and len(items), f"values {items.shape}"
    if (items == items[0]).all() and items[0] in (0, 1):
        edge = float(((1 - level) / 2) ** (1 / len(items)))
        return (edge, 1.0) if items[0] else (0.0, 1 - edge)
    return percentiles(bootstrap_means(items, resamples, seed), level)


def wilson_interval(count: int, total: int, level: float = 0.95) -> Interval:
    """Wilson's score interval (low, high) of a share `count` of `total`; (0, 1) of none (Wilson 1927).

    Unlike the normal approximation it stays within 0 and 1 and holds for few items and extreme shares.
    """
    if not total:
        return 0.0, 1.0
    z, share = float(special.ndtri((1 + level) / 2)), count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * float(np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, Interval]:
    """mean(second - first) over the same items in the same order, [N] each, and its percentile bootstrap interval."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert a.shape == b.shape and a.ndim == 1 and len(a), f"{a.shape} against {b.shape}: not the same items"
    return float((b - a).mean()), percentiles(bootstrap_means(b - a, resamples, seed), level)


def seeded_bootstrap(
    first: ArrayLike, second: ArrayLike | None = None, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, Interval]:
    """mean(second - first), or the mean of `first` alone, over runs of several seeds on the same items.

    first: [S, N], second: [T, N], one row a seed, one column an item. Items are drawn anew for both at once, since both
    met the same ones, and seeds for each by itself: the interval holds for other items and for other seeds, as far as
    so few of these can tell. Where every item is right in every run, the exact binomial interval of one stands.
    """
    groups = [np.atleast_2d(np.asarray(g, dtype=np.float64)) for g in (first, second) if g is not None]
    count = groups[0].shape[1]
    assert count and all(group.shape[1] == count for group in groups), "not the same items"
    rng, rows, blocks = np.random.default_rng(seed), max(1, 2**22 // count), []
    for start in range(0, resamples, rows):  # at most 64 MiB at a time
        shares = rng.multinomial(count, np.full(count, 1 / count), min(rows, resamples - start)) / count
        blocks.append([shares @ group.T for group in groups])
    means = []
    for place, group in enumerate(groups):
        of_seeds = np.concatenate([block[place] for block in blocks])
        chosen = rng.integers(0, len(group), of_seeds.shape)
        means.append(np.take_along_axis(of_seeds, chosen, axis=1).mean(1))
    centers = [group.mean() for group in groups]
    if second is None:
        alike = (groups[0] == groups[0][0, 0]).all()
        edges = bootstrap_interval(groups[0][0], level) if alike else percentiles(means[0], level)
        return float(centers[0]), edges
    return float(centers[1] - centers[0]), percentiles(means[1] - means[0], level)


def mcnemar(first_correct: ArrayLike, second_correct: ArrayLike) -> float:
    """Two-sided p of the exact McNemar test that two models, on the same items [N], are right equally often.

    Only items that exactly one of them gets right count: under equality each is a fair coin. 1 where there are none.
    """
    a, b = np.asarray(first_correct, dtype=bool), np.asarray(second_correct, dtype=bool)
    assert a.shape == b.shape and a.ndim == 1, f"{a.shape} against {b.shape}: not the same items"
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def seeds_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, Interval | None]:
    """Mean of one result per seed, [runs], and its Student t interval; None of a single run, which has no spread."""
    runs = np.asarray(values, dtype=np.float64)
    assert runs.ndim == 1 and len(runs), f"values {runs.shape}"
    mean = float(runs.mean())
    if len(runs) < 2:
        return mean, None
    half = float(special.stdtrit(len(runs) - 1, (1 + level) / 2) * runs.std(ddof=1) / np.sqrt(len(runs)))
    return mean, (mean - half, mean + half)


def verdict(
    difference: float,
    interval: Sequence[float],
    first: str,
    second: str,
    metric: str = "accuracy",
    p: float | None = None,
) -> str:
    """One sentence on second - first: "B beats A by 4.1 points of accuracy [1.9, 6.2]", or that nothing can be shown.

    difference, interval: shares (0.041), written in points; more is better. "Beats" needs an interval without zero
    and, where a `p` of the same comparison is given, one below 0.05: with few discordant items the percentile
    bootstrap is too hopeful (4 of 100 items, all for one model: the interval excludes zero, McNemar's p is 0.125).
    """
    low, high = interval
    chance = "" if p is None else f", p = {p:.2g}"
    if low <= 0 <= high or (p is not None and p >= 0.05):
        found = f"{points(difference)} points [{points(low)}, {points(high)}]{chance}"
        return f"no difference in {metric} between {first} and {second} can be shown: {found}"
    if difference < 0:
        first, second, difference, low, high = second, first, -difference, -high, -low
    found = f"{points(difference)} points of {metric} [{points(low)}, {points(high)}]{chance}"
    return f"{second} beats {first} by {found}"


def points(share: float) -> str:
    """A share as points with one decimal; a small one keeps a digit, lest it read as zero."""
    text = f"{100 * share:.1f}"
    return text if float(text) or not share else f"{100 * share:.1g}"
