"""Paired comparison of two models on the same items: intervals of IoU and F1, a randomization test, Holm's correction.

`intervals` compares means of one number per item, and has McNemar's test. `segmentation` defines the counts of pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .segmentation import DRAWS, Confusion, Counts, as_counts, class_iou, interval, mean_iou, quotient, summed


class ClassDifferences(NamedTuple):
    """A measure of each class for two models, float64 [K]: the value of each model, and their difference with its
    interval.

    difference: second - first. low, high: the interval of the difference. NaN for classes that do not occur; low and
    high are also NaN for classes that occur in too few items.
    """

    first: np.ndarray
    second: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray


def joined_counts(first: Confusion, second: Confusion) -> Counts:
    """Join the counts of two models on the same N images to Counts [N, 2K], so that a bootstrap draws the same
    images for both."""
    a, b = as_counts(first), as_counts(second)
    assert a.truth.shape == b.truth.shape, f"{a.truth.shape} against {b.truth.shape}: not the same images"
    parts = [np.concatenate(pair, axis=-1) for pair in zip(count_arrays(a), count_arrays(b), strict=True)]
    return Counts(*parts)


def count_arrays(counts: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three arrays of `Counts`: (hits, truth, predicted)."""
    return counts.hits, counts.truth, counts.predicted


def difference_of(statistic: Callable[[Counts], np.ndarray]) -> Callable[[Counts], np.ndarray]:
    """A function of joined counts [..., 2K]: the second model's statistic minus the first model's."""

    def difference(counts: Counts) -> np.ndarray:
        first, second = zip(*[np.split(part, 2, axis=-1) for part in count_arrays(counts)], strict=True)
        return statistic(Counts(*second)) - statistic(Counts(*first))

    return difference


def paired_interval(
    first: Confusion,
    second: Confusion,
    statistic: Callable[[Counts], np.ndarray] = mean_iou,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Any, tuple[Any, Any]]:
    """Compare two models: (statistic(second) - statistic(first) over all images, its percentile bootstrap interval
    (low, high)).

    first, second: confusion matrices [N, K, K] or Counts [N, K] of the same images in the same order. The bootstrap
    draws images. The other arguments are those of `segmentation.interval`.
    """
    both, difference = joined_counts(first, second), difference_of(statistic)
    return difference(summed(both))[()], interval(both, difference, level, resamples, seed)


def paired_ious(first: Confusion, second: Confusion) -> ClassDifferences:
    """IoU of each class for both models, and their difference with a paired bootstrap interval over images."""
    difference, (low, high) = paired_interval(first, second, class_iou)
    occurs = (as_counts(first).union > 0) | (as_counts(second).union > 0)
    too_few = occurs.sum(0) < 2
    ious = [class_iou(summed(counts)) for counts in (first, second)]
    return ClassDifferences(*ious, difference, np.where(too_few, np.nan, low), np.where(too_few, np.nan, high))


def randomization_test(
    first: Confusion,
    second: Confusion,
    statistic: Callable[[Counts], np.ndarray] = mean_iou,
    swaps: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p value of a paired randomization test of two models on the same images; deterministic by `seed`.

    Under the null hypothesis the counts of the two models can be exchanged within an image, so they are swapped at
    random in each image, `swaps` times. p is the share of results, including the observed one, whose absolute
    difference is at least the observed difference.
    """
    both = np.concatenate(count_arrays(joined_counts(first, second)), axis=-1).astype(np.float64)
    own = both.reshape(len(both), 3, 2, -1)  # image, measure, model, class
    apart, sums = (own[:, :, 1] - own[:, :, 0]).reshape(len(both), -1), own.sum(0)
    observed = abs(float(statistic(Counts(*sums[:, 1])) - statistic(Counts(*sums[:, 0]))))
    rng, extreme, rows = np.random.default_rng(seed), 1, max(1, DRAWS // len(both))
    for start in range(0, swaps, rows):
        drawn = rng.integers(0, 2, (min(rows, swaps - start), len(both))).astype(np.float64)
        moved = np.moveaxis((drawn @ apart).reshape(len(drawn), 3, -1), 1, 0)
        differences = statistic(Counts(*(sums[:, 1, None] - moved))) - statistic(Counts(*(sums[:, 0, None] + moved)))
        extreme += int((np.abs(differences) >= observed - 1e-12).sum())
    return extreme / (swaps + 1)


def paired_classes(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    classes: int,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[ClassDifferences, ClassDifferences]:
    """Recall and F1 of each class for two classifiers, with paired bootstrap intervals over the items: (recall, F1).

    truth, first, second: int64 [N], the true class and the predictions of both models. For each class there are eight
    kinds of items: the item is of this class or not, and each model predicts this class or not. The bootstrap draws the
    counts of the kinds from a multinomial distribution, which is faster than drawing N items for each class.
    """
    rng = np.random.default_rng(seed)
    tails = [(1 - level) / 2, (1 + level) / 2]
    rows: list[list[np.ndarray]] = [[], []]
    for index in range(classes):
        kinds = np.bincount(4 * (truth == index) + 2 * (first == index) + (second == index), minlength=8)
        drawn = rng.multinomial(len(truth), kinds / len(truth), resamples)
        for measure, values in enumerate(zip(recall_and_f1(kinds), recall_and_f1(drawn), strict=True)):
            (own, other), (drawn_first, drawn_second) = values
            edges = np.full(2, np.nan)
            differences = drawn_second - drawn_first
            if np.isfinite(differences).any() and kinds[4:].sum() > 1:
                edges = np.nanquantile(differences, tails)
            rows[measure].append(np.array([own, other, other - own, *edges]))
    recall, f1 = (ClassDifferences(*np.array(part).reshape(-1, 5).T) for part in rows)
    return recall, f1


def recall_and_f1(kinds: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """((recall of the first model, of the second), (F1 of the first, of the second)); NaN if the class does not
    occur. kinds: [..., 8], the counts of the eight kinds of items in `paired_classes`."""
    of_class = kinds[..., 4:].sum(-1)
    recalls, scores = [], []
    for bit in (2, 1):
        predicted = [kind for kind in range(8) if kind & bit]
        hits = kinds[..., [kind for kind in predicted if kind & 4]].sum(-1)
        recalls.append(quotient(hits, of_class))
        scores.append(quotient(2 * hits, of_class + kinds[..., predicted].sum(-1)))
    return (recalls[0], recalls[1]), (scores[0], scores[1])


def holm(values: Sequence[float]) -> list[float]:
    """Correct the p values of several tests for multiple testing (Holm 1979); in the same order.

    The probability that any true null hypothesis has a corrected p below 0.05 is at most 0.05. NaN remains NaN and does
    not count as a test.
    """
    ascending = sorted((p, index) for index, p in enumerate(values) if p == p)
    corrected, largest = [float("nan")] * len(values), 0.0
    for rank, (p, index) in enumerate(ascending):
        largest = max(largest, min(1.0, p * (len(ascending) - rank)))
        corrected[index] = largest
    return corrected


def holm_levels(values: Sequence[float], alpha: float = 0.05) -> list[float]:
    """Levels of the intervals of several comparisons so that an interval excludes 0 if and only if Holm's corrected p
    is below `alpha`. values: p values before the correction; NaN gets the level 1 - alpha.

    The k-th smallest of m p values is tested at alpha / (m - k + 1), until one is not significant; all further
    comparisons have the level of that one.
    """
    ascending = sorted((p, index) for index, p in enumerate(values) if p == p)
    levels, stopped = [1 - alpha] * len(values), False
    level = 1 - alpha
    for rank, (p, index) in enumerate(ascending):
        if not stopped:
            level = 1 - alpha / (len(ascending) - rank)
            stopped = p >= alpha / (len(ascending) - rank)
        levels[index] = level
    return levels
