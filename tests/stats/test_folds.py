"""The interval of a metric over the folds of a cross-validation."""

import numpy as np
import pytest
from scipy import stats

from sightline.stats.folds import fold_interval, fold_interval_of_shares


def test_the_interval_has_nadeau_and_bengios_correction() -> None:
    scores = np.array([0.74, 0.78, 0.75, 0.80, 0.77])
    half = stats.t.ppf(0.975, 4) * scores.std(ddof=1) * (1 / 5 + 1 / 4) ** 0.5
    assert fold_interval(scores) == pytest.approx((0.768 - half, 0.768 + half))


def test_two_folds_have_no_interval() -> None:
    assert np.isnan(fold_interval(np.array([0.5, 0.6]))).all()


def test_folds_that_are_nearly_all_right_have_a_wide_interval_below() -> None:
    scores = np.array([1.0, 1.0, 1.0, 1.0, 0.98])
    (low, high), (wide, top) = fold_interval(scores), fold_interval_of_shares(scores, 20)
    assert wide < low - 0.004 and high <= top < 1.02
    middle = np.array([0.5, 0.55, 0.6])
    assert fold_interval_of_shares(middle, 1000) == pytest.approx(fold_interval(middle), abs=0.02)
