"""The signed calibration error and its interval."""

import numpy as np
import pytest
from scipy import stats

from sightline.stats.calibration import chance_error, signed_error
from sightline.stats.intervals import wilson_interval
from sightline.stats.metrics import calibration_error


def test_the_interval_contains_that_of_student_and_that_of_wilson() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 80)
    correct = rng.random(80) < confidence - 0.2
    found, apart = signed_error(confidence, correct), confidence - correct
    t = stats.ttest_1samp(apart, 0)
    low, high = wilson_interval(int(correct.sum()), 80)
    edges = t.confidence_interval(0.95)
    assert found.error == pytest.approx(apart.mean())
    assert found.low == pytest.approx(min(edges[0], confidence.mean() - high))
    assert found.high == pytest.approx(max(edges[1], confidence.mean() - low))
    assert found.p >= t.pvalue * (1 - 1e-9)


def test_p_is_below_5_percent_if_and_only_if_the_interval_excludes_0() -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(400):
        confidence = rng.beta(rng.uniform(0.5, 9), 1, rng.integers(2, 60))
        found = signed_error(confidence, rng.random(len(confidence)) < confidence ** rng.uniform(0.3, 3))
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
        seen.add(found.p < 0.05)
    assert seen == {True, False}


def test_right_predictions_of_high_confidence_are_no_evidence() -> None:
    assert signed_error(np.full(50, 0.99), np.ones(50, bool)).p > 0.05
    found = signed_error(np.full(50, 0.7), np.ones(50, bool))
    assert found.p < 0.001 and found.error == pytest.approx(-0.3) and found.high < 0


def test_one_prediction_or_none_has_no_interval() -> None:
    assert signed_error(np.array([0.7]), np.array([False]))[1:] == (-1, 1, 1)
    assert signed_error(np.zeros(0), np.zeros(0, bool)).p == 1
    certain = signed_error(np.ones(9), np.ones(9, bool))
    assert (certain.error, certain.p) == (0, 1) and certain.low <= 0 <= certain.high


def test_chance_error_is_the_error_of_calibrated_models() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.3, 1, 100)
    errors = [calibration_error(confidence, rng.random(100) < confidence) for _ in range(500)]
    assert chance_error(confidence) == pytest.approx(np.mean(errors), abs=0.006)
    assert chance_error(np.ones(5)) == 0


def test_films_that_are_all_right_are_no_evidence_either() -> None:
    """A calibrated model whose films are wrong as a whole with probability 0.04 has 12 films right in 61 % of sets."""
    groups, confidence = np.repeat(np.arange(12), 20), np.full(240, 0.96)
    assert signed_error(confidence, np.ones(240, bool)).high < 0
    found = signed_error(confidence, np.ones(240, bool), groups)
    assert found.p > 0.05 and found.low < 0 < found.high
    one_wrong = np.arange(240) != 7
    assert signed_error(confidence, one_wrong, groups).p > 0.05
    assert signed_error(np.full(240, 0.5), np.ones(240, bool), groups).p < 0.05


def test_with_groups_too_p_is_below_5_percent_if_and_only_if_the_interval_excludes_0() -> None:
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(300):
        groups = np.sort(rng.integers(0, 15, 90))
        groups = np.unique(groups, return_inverse=True)[1]
        confidence = rng.beta(rng.uniform(0.5, 30), 1, 90)
        chances = rng.beta(rng.uniform(0.2, 9), rng.uniform(0.2, 2), 15)[groups]
        found = signed_error(confidence, rng.random(90) < chances, groups)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
        seen.add(found.p < 0.05)
    assert seen == {True, False}
