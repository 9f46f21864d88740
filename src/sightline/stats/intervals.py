"""Confidence intervals of means, shares and any statistic of a set of images, and a sentence with a comparison.

The units of all intervals are independent images, or groups of images (`units`). An interval that cannot be given is
(NaN, NaN). docs/claims.md has the measured coverage of every interval.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .units import FEWEST, count_units, effective_units, sums

Interval = tuple[float, float]
LEVEL = 0.95
NONE: Interval = (float("nan"), float("nan"))
"""The interval that cannot be given."""
EDGE = 1e-4
"""Shares are clipped to EDGE..1 - EDGE before the logit."""
STILL = 1e-24
"""Units have no influence on a statistic if the squares of its changes have at most this sum."""


class Estimate(NamedTuple):
    """A statistic, or an array of them [...], with its t distribution.

    value: the statistic. middle: its bias-corrected value. error: standard error; NaN if no interval can be given.
    degrees: of freedom. share: whether the value is a share of 1, and middle and error are on the logit scale.
    """

    value: Any
    middle: Any
    error: Any
    degrees: Any
    share: bool = False

    def interval(self, level: float = LEVEL) -> tuple[Any, Any]:
        """The edges (low, high) of the interval, between which the value always is."""
        half = t_quantile(self.degrees, level) * self.error
        low, high = self.middle - half, self.middle + half
        if self.share:
            low, high = special.expit(low), special.expit(high)
        return np.minimum(low, self.value)[()], np.maximum(high, self.value)[()]

    @property
    def p(self) -> Any:
        """Two-sided p value of the hypothesis that a difference is 0: below 1 - level if and only if the interval
        excludes 0."""
        return 2 * special.stdtr(self.degrees, -np.abs(self.middle) / self.error)


def wilson_interval(count: float, total: float, level: float = LEVEL) -> Interval:
    """Wilson score interval (low, high) of the proportion `count` / `total` (Wilson 1927); (0, 1) if `total` is 0.

    Unlike the normal approximation it stays within 0 and 1 and is valid for few items and extreme proportions.
    """
    if not total:
        return 0.0, 1.0
    z, share = float(special.ndtri((1 + level) / 2)), count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * float(np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)))
    # Exact at the ends, where rounding could exclude the share itself.
    return max(0.0, middle - half) if count else 0.0, min(1.0, middle + half) if count < total else 1.0


def mean_variance(values: np.ndarray, groups: np.ndarray | None) -> float:
    """Variance of the mean of `values` [N], with groups that are drawn instead of images.

    Each group is compared with the mean of the others, as in a jackknife: the mean of all is near to a large group.
    """
    units = count_units(len(values), groups)
    if units < 2:
        return float("nan")
    others = len(values) - sums(np.ones(len(values)), groups)
    apart = sums(values - values.mean(), groups) / others
    return float((units - 1) / units * (apart @ apart))


def effective_images(values: ArrayLike, groups: np.ndarray | None) -> float:
    """The number of independent images whose mean is as precise as that of `values` [N]: N divided by the design effect
    (Kish 1965), at most N. Equal values do not show the design effect; each group then counts as one image."""
    items = np.asarray(values, dtype=np.float64)
    if groups is None:
        return float(len(items))
    alone = mean_variance(items, None)
    if not alone > 0:
        return effective_units(len(items), groups)
    return float(len(items) * min(1.0, alone / max(mean_variance(items, groups), 1e-300)))


def mean_interval(values: ArrayLike, groups: np.ndarray | None = None, level: float = LEVEL) -> Interval:
    """Interval (low, high) of the mean of `values` [N].

    For values 0 and 1, such as correct predictions, it is the Wilson interval; with groups, the Wilson interval of the
    effective number of images or the jackknife interval over groups, whichever is wider on each side. For other values
    it is the jackknife interval, on the logarithmic scale if none is negative, because losses and errors are skewed.
    """
    items = np.asarray(values, dtype=np.float64)
    assert items.ndim == 1 and len(items), f"values {items.shape}"
    shares, units = bool(np.isin(items, (0, 1)).all()), count_units(len(items), groups)
    if shares and groups is None:
        return wilson_interval(items.sum(), len(items), level)
    if units < FEWEST:
        return NONE
    if shares:
        return share_interval(items, groups, level)
    mean, effective = float(items.mean()), effective_units(len(items), groups)
    left_out = means_without(items, groups)
    if items.min() >= 0 and left_out.min() > 0:
        low, high = jackknife(np.log(mean), np.log(left_out), effective).interval(level)
        return float(np.exp(low)), float(np.exp(high))
    low, high = jackknife(mean, left_out, effective).interval(level)
    return float(low), float(high)


def share_interval(values: np.ndarray, groups: np.ndarray | None, level: float = LEVEL) -> Interval:
    """Interval (low, high) of a mean of `values` [N] from 0 to 1: Wilson's, as of so many right ones of N images; with
    groups, Wilson's for the effective number of images or that of `grouped_share`, whichever is wider on each side."""
    total = effective_images(values, groups)
    if groups is None:
        return wilson_interval(float(values.mean()) * total, total, level)
    degrees = max(effective_units(len(values), groups) - 1, 1)
    total *= float(special.ndtri((1 + level) / 2) / t_quantile(degrees, level)) ** 2
    wilson = wilson_interval(float(values.mean()) * total, total, level)
    low, high = grouped_share(values, groups).interval(level)
    return min(wilson[0], float(low)), max(wilson[1], float(high))


def share_p(values: np.ndarray, groups: np.ndarray | None, share: float) -> float:
    """Two-sided p value of the hypothesis that the mean of `values` [N] from 0 to 1 is `share`: below 1 - level if and
    only if `share` is outside of their `share_interval`."""
    mean, total = float(values.mean()), effective_images(values, groups)
    score = abs(mean - share) / np.sqrt(share * (1 - share) / total) if 0 < share < 1 else float("inf")
    if mean == share:
        return 1.0
    if groups is None:
        return float(2 * special.ndtr(-score))
    found = grouped_share(values, groups)
    apart = special.logit(share) - found.middle
    inside = apart * (share - mean) <= 0  # between the share and its bias-corrected value
    by_jackknife = 1.0 if inside else 2 * special.stdtr(found.degrees, -np.abs(apart) / found.error)
    by_score = 2 * special.stdtr(max(effective_units(len(values), groups) - 1, 1), -score)
    return float(max(by_score, by_jackknife))


def means_without(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """The means [G] of `values` [N] without each group, or without each image."""
    return (values.sum() - sums(values, groups)) / (len(values) - sums(np.ones(len(values)), groups))


def grouped_share(values: np.ndarray, groups: np.ndarray) -> Estimate:
    """The jackknife over groups of a mean of `values` [N] from 0 to 1."""
    return jackknife(values.mean(), means_without(values, groups), effective_units(len(values), groups), share=True)


def t_quantile(degrees: Any, level: float = LEVEL) -> Any:
    """The quantile of the t distribution for a central interval."""
    return special.stdtrit(degrees, (1 + level) / 2)


def undetected(units: Any, level: float = LEVEL) -> Any:
    """The largest share of units that leaves no trace in (1 - level) / 2 of the samples of `units` units."""
    return 1 - ((1 - level) / 2) ** (1 / np.maximum(units, 1))


def jackknife(full: ArrayLike, left_out: np.ndarray, effective: Any = None, share: bool = False) -> Estimate:
    """Estimate statistics from their values without each unit (Tukey 1958), corrected for bias.

    full: the statistics [...] of all units. left_out: [G, ...], those without each of G units or blocks of units; NaN
    counts as no change. effective: number of units that bear on the statistics, if it is smaller. share: whether the
    statistics are shares of 1; their intervals are then computed on the logit scale.

    Degrees of freedom decrease with the kurtosis of the units' influences: a statistic that depends on few units has a
    wide interval. With fewer than FEWEST units no interval can be given. If no unit has influence, the error is that
    of a share that such a sample would not detect.
    """
    units, full = len(left_out), np.asarray(full, dtype=np.float64)
    if units < FEWEST:
        return Estimate(full[()], full[()], np.full(full.shape, np.nan)[()], 1.0, share)
    values, center = np.where(np.isnan(left_out), full, left_out), full
    if share:
        center, values = (special.logit(np.clip(part, EDGE, 1 - EDGE)) for part in (full, values))
    apart = values - values.mean(0)
    squares = (apart**2).sum(0)
    still = squares <= STILL
    kurtosis = units * (apart**4).sum(0) / np.where(still, 1, squares) ** 2
    degrees = 2 * units / np.maximum(kurtosis - (units - 3) / (units - 1), 0.1)
    size = np.minimum(units, units if effective is None else effective)
    degrees = np.clip(degrees, 1.0, np.maximum(size - 1, 1.0))
    lost = undetected(size)
    lost = (
        special.logit(np.clip(full, EDGE, 1 - EDGE)) - special.logit(np.clip(np.abs(full - lost), EDGE, 1))
        if share
        else lost
    )
    error = np.where(still, np.abs(lost) / t_quantile(degrees), np.sqrt(squares))
    middle = np.where(still, center, units * center - (units - 1) * values.mean(0))
    return Estimate(full[()], middle[()], error[()], degrees[()], share)


def bracketed(interval: Sequence[float], digits: int = 4) -> str:
    """An interval as text after a number: " [0.81, 0.86]", or ", without an interval"."""
    low, high = interval
    return f" [{low:.{digits}f}, {high:.{digits}f}]" if np.isfinite([low, high]).all() else ", without an interval"


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
    better. p: p value after the correction for the number of comparisons, or None. "Beats" requires an interval without
    0 and p < 0.05.
    """
    low, high = interval
    chance = "" if p is None else f", p = {p:.2g}"
    if not np.isfinite([low, high]).all():
        found = f"{points(difference)} points, without an interval"
        return f"no difference in {metric} between {first} and {second} can be shown: {found}"
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
