"""Metrics of label sets with intervals: average precision, and precision, recall and F1 at thresholds.

Shapes: scores float [N, K] (probabilities or logits), truth and predicted bool [N, K], thresholds float [K]. A class
without a positive image has no average precision, recall or F1: NaN here, and left out of the means.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...stats.intervals import NONE, Estimate, Interval, jackknife
from ...stats.paired import ClassDifferences, class_differences
from ...stats.segmentation import nan_mean
from ...stats.units import FEWEST, blocks, count_units, effective_units, sums, weights_without

BLOCK = 2**22
"""Number of weights that are used at a time: 32 MiB."""
FEW = 5
"""A class with fewer positives than this has no threshold of its own."""


@dataclass(frozen=True)
class Precision:
    """Average precision by class and its mean, each with a 95 % interval.

    by_class, positives: [K]; class_intervals: [K, 2]; NaN for a class without a positive. few: number of classes with
    positives in fewer than FEWEST images or groups; the mean then has no interval.
    """

    mean: float
    interval: Interval
    by_class: np.ndarray
    class_intervals: np.ndarray
    positives: np.ndarray
    few: int


@dataclass(frozen=True)
class Decisions:
    """Precision, recall and F1 of thresholded predictions, for each of B rows of weights.

    precision, recall, f1: by class [B, K]; recall and F1 are NaN for a class without a positive. micro_*: over all
    decisions [B]. macro_f1: mean over the classes with a positive [B]. exact: share of images with the right set [B].
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    micro_precision: np.ndarray
    micro_recall: np.ndarray
    micro_f1: np.ndarray
    macro_f1: np.ndarray
    exact: np.ndarray


FEWEST_OF_CLASS = 3
"""Smallest number of images or groups with a class for which an interval of macro F1 is given; see docs/claims.md."""
MEANS = ("micro_precision", "micro_recall", "micro_f1", "macro_f1", "exact")


def columns(scores: np.ndarray, truth: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scores [N], truth bool [N]) of each class."""
    assert scores.shape == truth.shape and scores.ndim == 2, f"scores {scores.shape}, truth {truth.shape}"
    return zip(np.asarray(scores).T, np.asarray(truth, bool).T, strict=True)


def weighted_precision(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of one class for each row of weights, float64 [B]; NaN where the positives weigh 0.

    scores: [N]. truth: bool [N]. weights: [B, N], the number of times that each image counts. Images with equal scores
    have one rank, as in scikit-learn's `average_precision_score`.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, weights = scores[order], weights[:, order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # end of each group of equal scores
    hits = np.cumsum(weights * truth[order], axis=1)[:, last]
    precision = hits / np.maximum(np.cumsum(weights, axis=1)[:, last], 1)
    area = (np.diff(hits, axis=1, prepend=0) * precision).sum(1)
    return np.where(hits[:, -1] > 0, area / np.maximum(hits[:, -1], 1), np.nan)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Average precision of each class, float64 [K], NaN without a positive.

    It is the sum over the distinct scores, from the highest, of (increase of recall) * precision.
    """
    once = np.ones((1, len(scores)))
    return np.array([weighted_precision(column, hits, once)[0] for column, hits in columns(scores, truth)])


def precision_intervals(scores: np.ndarray, truth: np.ndarray, groups: np.ndarray | None = None) -> Precision:
    """Average precision with jackknife intervals over images or their groups.

    The average precision of few positives is too high on average, which the jackknife corrects. docs/claims.md has the
    coverage by simulation.
    """
    point, left_out = without_blocks(scores, truth, groups)
    effective = effective_units(len(truth), groups)
    present, units = truth.any(0), units_with_class(truth, groups)
    edges = np.stack(jackknife(point, left_out, np.minimum(effective, units), share=True).interval(), axis=1)
    edges[units < FEWEST] = np.nan
    mean, interval = float("nan"), NONE
    few = int((present & (units < FEWEST)).sum())
    if present.any():
        mean = float(point[present].mean())
    if present.any() and not few:
        low, high = jackknife(mean, nan_mean(left_out[:, present]), min(effective, units.sum()), share=True).interval()
        interval = float(low), float(high)
    return Precision(mean, interval, point, edges, truth.sum(0), few)


def units_with_class(truth: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """In how many images or groups each class is true, int64 [K]."""
    return (sums(truth.astype(np.int64), groups) > 0).sum(0)


def without_blocks(scores: np.ndarray, truth: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(average precision of each class [K], the same without each block of complete images or groups [B, K])."""
    if count_units(len(truth), groups) < FEWEST:
        return average_precision(scores, truth), np.zeros((0, scores.shape[1]))
    weights, rows = weights_without(blocks(len(truth), groups)), max(1, BLOCK // len(truth))
    parts = [
        np.stack([weighted_precision(*pair, weights[start : start + rows]) for pair in columns(scores, truth)], axis=1)
        for start in range(0, len(weights), rows)
    ]
    return average_precision(scores, truth), np.concatenate(parts)


def paired_precision(
    first: np.ndarray, second: np.ndarray, truth: np.ndarray, groups: np.ndarray | None = None
) -> tuple[Estimate, ClassDifferences]:
    """Compare the scores [N, K] of two models: (the difference second - first of their mean average precisions, the
    differences of each class). As for one model, the mean has no interval if a class has few positives."""
    present, units = truth.any(0), units_with_class(truth, groups)
    (point, left), (other, other_left) = (without_blocks(scores, truth, groups) for scores in (first, second))
    effective = effective_units(len(truth), groups)
    apart, left_apart = other - point, other_left - left
    of_class = np.minimum(effective, units)
    classes = class_differences(point, other, jackknife(apart, left_apart, of_class), units)
    if not present.any():
        return Estimate(float("nan"), float("nan"), float("nan"), 1.0), classes
    if (units[present] < FEWEST).any():
        mean = float(apart[present].mean())
        return Estimate(mean, mean, float("nan"), 1.0), classes
    return jackknife(apart[present].mean(), nan_mean(left_apart[:, present]), effective), classes


def decisions(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> Decisions:
    """Precision, recall and F1 of predicted label sets; with weights [B, N] of the images, of shape [B, K] each.

    A quotient 0 / 0 is 0: the precision of a class that is never predicted.
    """
    weights = np.ones((1, len(truth))) if weights is None else weights
    hits, made, real = (weights @ part.astype(np.float64) for part in (predicted & truth, predicted, truth))
    present = real > 0
    precision, recall, f1 = (
        hits / np.maximum(made, 1),
        hits / np.maximum(real, 1),
        2 * hits / np.maximum(made + real, 1),
    )
    recall, f1 = np.where(present, recall, np.nan), np.where(present, f1, np.nan)
    total = [part.sum(1) for part in (hits, made, real)]
    return Decisions(
        precision=precision,
        recall=recall,
        f1=f1,
        micro_precision=total[0] / np.maximum(total[1], 1),
        micro_recall=total[0] / np.maximum(total[2], 1),
        micro_f1=2 * total[0] / np.maximum(total[1] + total[2], 1),
        macro_f1=np.where(present, f1, 0).sum(1) / np.maximum(present.sum(1), 1),
        exact=weights @ (predicted == truth).all(1) / np.maximum(weights.sum(1), 1),
    )


def decision_intervals(
    predicted: np.ndarray, truth: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, Interval]:
    """Intervals over images or their groups of the means of `decisions`, by the name of the field.

    Macro F1 has none if any of its classes is in fewer than FEWEST_OF_CLASS images or groups, one of which would decide
    the F1 of the class.
    """
    if count_units(len(truth), groups) < FEWEST:
        return dict.fromkeys(MEANS, NONE)
    weights = weights_without(blocks(len(truth), groups))
    full, left_out = decisions(predicted, truth), decisions(predicted, truth, weights)
    effective, found = effective_units(len(truth), groups), {}
    either = predicted | truth  # images without a label here or there have no influence
    bearing = {
        "micro_recall": truth,
        "micro_precision": predicted,
        "micro_f1": either,
    }
    for name in MEANS:
        size = effective
        if name in bearing:
            images = np.any(bearing[name], axis=1, keepdims=True)
            size = min(effective, units_with_class(np.asarray(images), groups)[0])
        low, high = jackknife(getattr(full, name)[0], getattr(left_out, name), size, share=True).interval()
        found[name] = float(low), float(high)
    units = units_with_class(truth, groups)
    return found | ({"macro_f1": NONE} if (units[truth.any(0)] < FEWEST_OF_CLASS).any() else {})


def choose_thresholds(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The threshold of each class with the largest F1 on these images, float64 [K]; a score of at least it is positive.

    Classes with fewer than FEW positives get the one threshold with the largest F1 over all decisions, or 0.5 if these
    have fewer than FEW positives together. The images must be neither those that the network was trained on nor those
    that it is evaluated on.
    """
    common = best_threshold(scores.ravel(), truth.ravel()) if truth.sum() >= FEW else 0.5
    pairs = zip(columns(scores, truth), truth.sum(0), strict=True)
    return np.array([best_threshold(*pair) if count >= FEW else common for pair, count in pairs])


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The midpoint of two neighboring scores [N] with the largest F1, the highest of equals; 0.5 without a positive."""
    if not truth.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order].astype(np.float64), np.cumsum(truth[order])
    last = np.append(ranked[1:] != ranked[:-1], True)
    f1 = np.where(last, 2 * hits / (np.arange(1, len(ranked) + 1) + hits[-1]), -1)
    best = int(f1.argmax())
    return float((ranked[best] + (ranked[best + 1] if best + 1 < len(ranked) else 0)) / 2)
