"""The interval of a metric that was measured on the folds of a cross-validation."""

import numpy as np
from scipy import special

from .intervals import LEVEL, NONE, Interval, t_quantile

FEWEST_FOLDS = 3
"""With two folds, the interval of an accuracy is wider than all accuracies."""


def fold_interval(scores: np.ndarray, level: float = LEVEL) -> Interval:
    """The interval of the mean of `scores` [K], a metric on each of K folds; (NaN, NaN) for fewer than FEWEST_FOLDS.

    The mean estimates the metric that training on K - 1 folds has on average. Any two trainings share most of their
    images, so the variance of the mean is more than that of K independent scores: it is increased by the factor of
    Nadeau and Bengio (Inference for the generalization error, Machine Learning 52, 2003), 1 + K / (K - 1). Intervals
    over the images alone are too narrow: they leave out that other training images give another model, and contained
    the true accuracy in 87 to 90 % of simulated sets (docs/claims.md).
    """
    count = len(scores)
    if count < FEWEST_FOLDS:
        return NONE
    error = float(np.sqrt((1 / count + 1 / (count - 1)) * np.var(scores, ddof=1)))
    half = float(t_quantile(count - 1, level)) * error
    return float(np.mean(scores)) - half, float(np.mean(scores)) + half


def fold_interval_of_shares(scores: np.ndarray, images: float, level: float = LEVEL) -> Interval:
    """The interval of the mean of `scores` [K] from 0 to 1, a metric on K folds of so many images each.

    It is the wider, on each side, of `fold_interval` and the same on the logit scale, where scores are at least half an
    image from 0 and 1: folds that are nearly all right say little about how much others are wrong.
    """
    edge = min(0.5, 0.5 / images)
    low, high = fold_interval(scores, level)
    logits = fold_interval(special.logit(np.clip(scores, edge, 1 - edge)), level)
    return min(low, float(special.expit(logits[0]))), max(high, float(special.expit(logits[1])))
