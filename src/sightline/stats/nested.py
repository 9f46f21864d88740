"""Intervals of runs with several seeds and pre-trainings: these are drawn at random, as the images are.

Correct predictions, or other values of each image, are arrays [P, S, N]: P pre-trainings (1 without), S seeds of the
training on each, N images. With one pre-training or one seed, the interval is that of this one.
"""

import numpy as np

from .intervals import LEVEL, Estimate, Interval, mean_interval, mean_variance, share_interval
from .segmentation import Confusion, Counts, as_counts, mean_iou, summed
from .units import FEWEST, count_units, effective_units, sums

MOST_DEGREES, LEAST = 1.5, 0.5
"""Degrees of freedom are at most MOST_DEGREES times those of the runs, and the variance is at least LEAST times that
between images. Satterthwaite's degrees of freedom are too many if the runs happen to agree: with two runs of each
setting, 7 to 8 % of simulated pages of equal settings then had a false "beats". Both were chosen by simulations, and
docs/claims.md has the rates in others."""
TINY = 1e-18
"""Variance of models whose values never differ, for which p is then 1."""


def mean_iou_values(matrix: Confusion) -> np.ndarray:
    """A value of each image, float64 [N], whose mean is the mean IoU of all: the pseudo-values of a jackknife, shifted
    by its estimate of the bias. matrix: confusion matrices [N, K, K] or Counts [N, K].

    The variance of their mean is that of the jackknife, so that these values can be used as those of a metric that is a
    mean over images.
    """
    counts = as_counts(matrix)
    total = summed(counts)
    whole, images = float(mean_iou(total)), len(counts.truth)
    if images < 2:
        return np.full(images, whole)
    hits, truth, predicted = total.hits - counts.hits, total.truth - counts.truth, total.predicted - counts.predicted
    apart = -(images - 1) * mean_iou(Counts(hits, truth, predicted))
    return whole + apart - apart.mean()


def runs_of(values: np.ndarray) -> np.ndarray:
    """The values [U, N] of the U independent runs: the means over the seeds of each pre-training, or the seeds of the
    only one."""
    values = np.asarray(values, dtype=np.float64)
    assert values.ndim == 3 and values.size, f"values {values.shape}: [pre-trainings, seeds, images]"
    return values.mean(1) if len(values) > 1 else values[0]


def nested_mean(
    values: np.ndarray, groups: np.ndarray | None = None, level: float = LEVEL, shares: bool = True
) -> tuple[float, Interval]:
    """(mean of `values` [P, S, N] with a mean from 0 to 1, its interval over images or groups, seeds and
    pre-trainings). shares: whether the values are 0 and 1, such as correct predictions; the interval is then at least
    that of one run with this mean, because runs that agree may have the same few images wrong."""
    runs = runs_of(values)
    if len(runs) == 1:
        return float(runs.mean()), mean_interval(runs[0], groups, level)
    found = combined([runs], runs.mean(0), groups, shares)
    low, high = found.interval(level)
    if shares:
        one = share_interval(runs.mean(0), groups, level)
        low, high = min(low, one[0]), max(high, one[1])
    return found.value, (max(low, 0.0), min(high, 1.0))


def nested_difference(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None, shares: bool = True
) -> Estimate:
    """Estimate mean(second) - mean(first) on the same N images.

    first, second: [P, S, N] each, with any P and S. The images, or groups, are the same for both; seeds and
    pre-trainings are not. shares: whether the values are 0 and 1, such as correct predictions.
    """
    runs = [runs_of(first), runs_of(second)]
    assert runs[0].shape[1] == runs[1].shape[1], "not the same images"
    return combined(runs, runs[1].mean(0) - runs[0].mean(0), groups, shares)


def paired_difference(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
    """Estimate mean(second) - mean(first) of the values [N] of two runs, such as correct predictions, on the same
    images."""
    return nested_difference(np.asarray(first)[None, None], np.asarray(second)[None, None], groups)


def combined(settings: list[np.ndarray], values: np.ndarray, groups: np.ndarray | None, shares: bool) -> Estimate:
    """Estimate the mean of `values` [N] with the variance between images plus that between the runs [U, N] of each
    setting.

    Both contain the variance of the single predictions, so one of them is subtracted (two-way analysis of variance
    with random effects). Degrees of freedom: Satterthwaite (1946), with the variance between runs as it was measured.

    With `shares`, half an image (or group) is added to the variance between images that differs by 1 in each
    direction. Otherwise four images on which only one model is right would be enough for "beats", and models that never
    differ would have an interval without width.
    """
    count, units = len(values), count_units(len(values), groups)
    mean = float(values.mean())
    if units < FEWEST:
        return Estimate(mean, mean, float("nan"), 1.0)
    effective = effective_units(count, groups)
    between_items = mean_variance(values, groups) + (0.5 / units**2 if shares else TINY)
    parts = [(between_items, max(effective - 1, 1.0))]
    between_runs = single = 0.0
    for runs in (runs for runs in settings if len(runs) > 1):
        means, free = runs.mean(1), len(runs) - 1
        rest = np.stack([sums(row, groups) for row in runs - runs.mean(0) - means[:, None] + runs.mean()])
        parts.append((float(means.var(ddof=1)) / len(runs), free))
        between_runs += parts[-1][0]
        single += float((rest**2).sum()) / (free * (units - 1)) * units / count**2 / len(runs)
    variance = max(between_items + between_runs - single, (LEAST if between_runs else 1) * between_items)
    degrees = variance**2 / sum(part**2 / free for part, free in parts)
    if between_runs:
        degrees = min(degrees, MOST_DEGREES * sum(free for _, free in parts[1:]))
    return Estimate(mean, mean, variance**0.5, max(degrees, 1.0))
