"""Confidence intervals (bootstrap and binomial), paired tests, and a sentence with the result of a comparison."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

Interval = tuple[float, float]


def bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of `resamples` bootstrap samples of `values` [N], float64 [resamples].

    If `values` has at most 16 distinct values, such as 0 and 1, their counts are drawn from a multinomial distribution:
    the means have the same distribution, without drawing N numbers per resample.
    """
    rng, n = np.random.default_rng(seed), len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 16:
        return rng.multinomial(n, counts / n, resamples) @ distinct / n
    rows = max(1, 2**22 // n)  # at most 32 MiB of indices at a time
    blocks = [values[rng.integers(0, n, (min(rows, resamples - i), n))].mean(1) for i in range(0, resamples, rows)]
    return np.concatenate(blocks)


def percentiles(means: np.ndarray, level: float) -> Interval:
    """The central interval (low, high) that contains the share `level` of bootstrap means."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(values: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Percentile bootstrap interval (low, high) of the mean of `values` [N]; deterministic by `seed`.

    For values 0 (wrong) and 1 (correct) it is an interval of the accuracy. If all values are 0 or all are 1, a
    bootstrap interval would have width 0, so the exact binomial (Clopper-Pearson) interval is returned.
    """
    items = np.asarray(values, dtype=np.float64)
    assert items.ndim == 1 and len(items), f"values {items.shape}"
    if (items == items[0]).all() and items[0] in (0, 1):
        edge = float(((1 - level) / 2) ** (1 / len(items)))
        return (edge, 1.0) if items[0] else (0.0, 1 - edge)
    return percentiles(bootstrap_means(items, resamples, seed), level)


def wilson_interval(count: int, total: int, level: float = 0.95) -> Interval:
    """Wilson score interval (low, high) of the proportion `count` / `total` (Wilson 1927); (0, 1) if `total` is 0.

    Unlike the normal approximation it stays within 0 and 1 and is valid for few items and extreme proportions.
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
    """Compare two models on the same N items: (mean(second - first), its percentile bootstrap interval (low, high)).
    first, second: [N] each, one value per item, in the same order."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert a.shape == b.shape and a.ndim == 1 and len(a), f"{a.shape} against {b.shape}: not the same items"
    return float((b - a).mean()), percentiles(bootstrap_means(b - a, resamples, seed), level)


def seeded_bootstrap(
    first: ArrayLike, second: ArrayLike | None = None, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, Interval]:
    """Compare two sets of runs with several seeds: (mean(second) - mean(first), its bootstrap interval over items and
    seeds).

    first: [S, N], second: [T, N]; one row per seed (S and T runs), one column per item. Items are resampled jointly for
    both sets, seeds separately for each. Thus the interval covers new items and, as far as few seeds allow, new seeds.

    Without `second` the result is mean(first) and its interval. If then all values are equal, the interval is that of
    `bootstrap_interval`.
    """
    groups = [np.atleast_2d(np.asarray(g, dtype=np.float64)) for g in (first, second) if g is not None]
    count = groups[0].shape[1]
    assert count and all(group.shape[1] == count for group in groups), "not the same items"
    rng, rows, blocks = np.random.default_rng(seed), max(1, 2**22 // count), []
    for start in range(0, resamples, rows):  # at most 64 MiB of counts and shares at a time
        shares = rng.multinomial(count, np.full(count, 1 / count), min(rows, resamples - start)) / count
        blocks.append([shares @ group.T for group in groups])
    means = []
    for index, group in enumerate(groups):
        seed_means = np.concatenate([block[index] for block in blocks])
        chosen = rng.integers(0, len(group), seed_means.shape)
        means.append(np.take_along_axis(seed_means, chosen, axis=1).mean(1))
    centers = [group.mean() for group in groups]
    if second is None:
        constant = (groups[0] == groups[0][0, 0]).all()
        edges = bootstrap_interval(groups[0][0], level) if constant else percentiles(means[0], level)
        return float(centers[0]), edges
    return float(centers[1] - centers[0]), percentiles(means[1] - means[0], level)


def mcnemar(first_correct: ArrayLike, second_correct: ArrayLike) -> float:
    """Two-sided p value of the exact McNemar test. Null hypothesis: two models have the same accuracy.

    first_correct, second_correct: bool [N], whether each model is correct on the same items. Only the items on which
    exactly one model is correct count; without any, p is 1.
    """
    a, b = np.asarray(first_correct, dtype=bool), np.asarray(second_correct, dtype=bool)
    assert a.shape == b.shape and a.ndim == 1, f"{a.shape} against {b.shape}: not the same items"
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def verdict(
    difference: float,
    interval: Sequence[float],
    first: str,
    second: str,
    metric: str = "accuracy",
    p: float | None = None,
) -> str:
    """A sentence on second - first, such as "B beats A by 4.1 points of accuracy [1.9, 6.2]", or "no difference ...".

    first, second: names of the models. difference, interval: as shares (0.041), printed in percentage points; larger is
    better. p: p value of the same comparison, or None.

    "Beats" requires an interval without 0 and p < 0.05, because a percentile bootstrap interval is too narrow if the
    models differ on few items. Example: of 100 items, one model is better on 4 and the other on none. Then the interval
    excludes 0, but McNemar's p is 0.125.
    """
    low, high = interval
    chance = "" if p is None else f", p = {p:.2g}"
    if low <= 0 <= high or (p is not None and p >= 0.05):
        estimate = f"{points(difference)} points [{points(low)}, {points(high)}]{chance}"
        return f"no difference in {metric} between {first} and {second} can be shown: {estimate}"
    if difference < 0:
        first, second, difference, low, high = second, first, -difference, -high, -low
    estimate = f"{points(difference)} points of {metric} [{points(low)}, {points(high)}]{chance}"
    return f"{second} beats {first} by {estimate}"


def points(share: float) -> str:
    """Format a share in percentage points with one decimal; with one significant digit if it would be rounded to 0."""
    text = f"{100 * share:.1f}"
    return text if float(text) or not share else f"{100 * share:.1g}"
