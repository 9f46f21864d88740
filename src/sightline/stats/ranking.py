"""How well scores separate two classes: the receiver operating characteristic (ROC) and the area under it.

scores: float [N], such as the probability of the second of two classes. positive: bool [N], whether an image is of that
class. Groups: int64 [N], images that belong together, see `units`.
"""

import numpy as np
from scipy.stats import rankdata

from .intervals import NONE, Interval, jackknife
from .units import FEWEST, effective_units, sums


def area_under_curve(
    scores: np.ndarray, positive: np.ndarray, groups: np.ndarray | None = None
) -> tuple[float, Interval]:
    """(area under the ROC curve, its 95 % interval): the probability that a positive image has a higher score than a
    negative one, where equal scores count one half (Hanley and McNeil 1982). NaN if a class has no image.

    The interval has the variance of DeLong, DeLong and Clarke-Pearson (1988), summed over groups, on the logit scale.
    There is none if a class is in fewer than FEWEST images or groups. Groups of unequal size count less (Kish 1965).
    """
    count, negatives = int(positive.sum()), int((~positive).sum())
    if not count or not negatives:
        return float("nan"), NONE
    rank = rankdata(scores)
    below = np.empty(len(scores))  # share of the images of the other class that are on the right side of the score
    below[positive] = (rank[positive] - rankdata(scores[positive])) / negatives
    below[~positive] = 1 - (rank[~positive] - rankdata(scores[~positive])) / count
    area = float(below[positive].mean())
    ids = np.arange(len(scores)) if groups is None else groups
    if min(len(np.unique(ids[own])) for own in (positive, ~positive)) < FEWEST:
        return area, NONE
    effective = min(effective_units(len(ids[own]), ids[own]) for own in (positive, ~positive))
    influence = (below - area) / np.where(positive, count - 1, negatives - 1)
    low, high = jackknife(area, area - sums(influence, groups), effective, share=True).interval()
    return area, (float(low), float(high))


def roc_points(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(shares of the negative images, shares of the positive ones) with a score of at least each threshold, from the
    highest threshold to the lowest; both begin with 0. For two classes with images."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are one point
    hits, alarms = (np.cumsum(own[order])[last] / own.sum() for own in (positive, ~positive))
    return np.append(0.0, alarms), np.append(0.0, hits)
