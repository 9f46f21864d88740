"""Signed calibration error: mean confidence minus accuracy, with an interval and a p value. Positive: overconfident."""

from typing import NamedTuple

import numpy as np
from scipy import special

from .intervals import mean_variance, share_interval, share_p, t_quantile
from .metrics import Array, binned, to_numpy
from .units import FEWEST, count_units, effective_units


class SignedError(NamedTuple):
    """Mean confidence minus accuracy, as a share of 1: its estimate, the 95 % interval (low, high), and the p value of
    no difference, which is below 0.05 if the interval excludes 0."""

    error: float
    low: float
    high: float
    p: float


def signed_error(confidence: Array, correct: Array, groups: np.ndarray | None = None) -> SignedError:
    """The signed calibration error of the predictions of N images. confidence: [N], of the predicted class. correct:
    bool [N]. groups: int64 [N], the groups of the images; without, or of one image each, images are independent.

    The interval contains both the t interval of the differences (confidence - correct) and the interval of the
    accuracy (`share_interval`), subtracted from the mean confidence; p is the larger of both. Each of the two alone
    fails. Without a wrong prediction all differences are nearly equal: the t interval of 50 predictions of a calibrated
    model with confidence 0.99 excludes 0 in 60 % of sets. The interval of the accuracy ignores that confidences vary:
    it excludes 0 in up to 14 % of sets, if the right ones are drawn independently of them. docs/claims.md has the error
    rates of the result.

    For fewer than two images, or fewer than FEWEST groups, the interval is that of no knowledge, [-1, 1].
    """
    sure, right = to_numpy(confidence).astype(np.float64), to_numpy(correct).astype(np.float64)
    assert sure.shape == right.shape and sure.ndim == 1, f"confidence {sure.shape}, correct {right.shape}"
    count, units = len(sure), count_units(len(sure), groups)
    error = float((sure - right).mean()) if count else float("nan")
    if units < (2 if groups is None else FEWEST):
        return SignedError(error, -1.0, 1.0, 1.0)
    mean, degrees = float(np.clip(sure.mean(), 0, 1)), max(effective_units(count, groups) - 1, 1.0)
    deviation = float(np.sqrt(mean_variance(sure - right, groups)))
    half = float(t_quantile(degrees)) * deviation
    low, high = share_interval(right, groups)
    size = 0.0 if not error else abs(error) / deviation if deviation else float("inf")
    p = max(2 * float(special.stdtr(degrees, -size)), share_p(right, groups, mean))
    return SignedError(error, min(error - half, mean - high), max(error + half, mean - low), p)


def chance_error(confidence: Array, bins: int = 15) -> float:
    """The expected calibration error (`metrics.calibration_error`) that a perfectly calibrated model has on average,
    because each bin has few images. confidence: [N].

    The number of right predictions in a bin is taken to be normal with the variance of a calibrated model.
    """
    sure = to_numpy(confidence).astype(np.float64)
    _, _, _, variance = binned(confidence, sure * (1 - sure), bins)
    return float(np.sqrt(2 / np.pi * variance).sum() / len(sure))
