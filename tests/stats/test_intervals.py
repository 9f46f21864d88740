import numpy as np
import pytest
from scipy import stats

from sightline.stats.intervals import (
    bracketed,
    effective_images,
    jackknife,
    mean_interval,
    verdict,
    wilson_interval,
)

RIGHT = np.random.default_rng(0).random(400) < 0.8


def test_wilson_interval_on_published_numbers() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for (count, total), edges in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson_interval(count, total) == pytest.approx(edges, abs=6e-5)
    assert wilson_interval(20, 20)[1] == 1.0 and wilson_interval(0, 0) == (0.0, 1.0)


def test_interval_of_an_accuracy_is_wilsons_and_that_of_a_mean_is_students() -> None:
    assert mean_interval(RIGHT) == wilson_interval(RIGHT.sum(), 400)
    values = np.random.default_rng(3).exponential(size=300)
    assert mean_interval(values - 1, level=0.9) == pytest.approx(
        tuple(stats.ttest_1samp(values - 1, 0).confidence_interval(0.9)), rel=0.02
    )
    low, high = mean_interval(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert theirs.low < low < values.mean() and high > theirs.high, "the interval of skewed values is not symmetric"


def test_groups_of_one_image_change_little_and_copies_count_once() -> None:
    values = np.random.default_rng(1).random(60)
    assert mean_interval(values, np.arange(60)) == pytest.approx(mean_interval(values))
    groups = np.repeat(np.arange(60), 5)
    assert mean_interval(np.repeat(values, 5), groups) == pytest.approx(mean_interval(values), abs=1e-9)
    right = RIGHT[:60]
    low, high = mean_interval(np.repeat(right, 5), groups)
    alone = mean_interval(right)
    assert low == pytest.approx(alone[0], abs=0.02) and high == pytest.approx(alone[1], abs=0.02)
    assert effective_images(np.repeat(right, 5), groups) == pytest.approx(60, rel=0.03)
    assert effective_images(right, None) == 60
    assert effective_images(np.ones(240), np.repeat(np.arange(12), 20)) == 12, "equal values show no design effect"


def test_too_few_groups_have_no_interval() -> None:
    groups = np.repeat(np.arange(5), 20)
    assert np.isnan(mean_interval(RIGHT[:100], groups)).all()
    assert np.isnan(jackknife(0.5, np.full(9, 0.5)).interval()).all() and np.isnan(jackknife(0.5, np.full(9, 0.5)).p)
    assert bracketed((np.nan, np.nan)) == ", without an interval" and bracketed((0.1, 0.25)) == " [0.1000, 0.2500]"


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(2).normal(0.3, 1, 50)
    left_out = (values.sum() - values) / 49
    found = jackknife(values.mean(), left_out)
    assert found.middle == pytest.approx(values.mean())
    # the variance is larger by the factor N / (N - 1)
    assert found.error == pytest.approx(values.std(ddof=1) / 50**0.5 * (50 / 49) ** 0.5)
    low, high = found.interval()
    assert (found.p < 0.05) == (low > 0 or high < 0)
    assert low < stats.ttest_1samp(values, 0).confidence_interval().low


def test_the_jackknife_removes_the_bias_of_a_square() -> None:
    values = np.random.default_rng(4).normal(0.5, 1, 40)
    means = (values.sum() - values) / 39
    found = jackknife(values.mean() ** 2, means**2)
    assert found.middle == pytest.approx(values.mean() ** 2 - values.var(ddof=1) / 40)


def test_a_statistic_on_which_no_unit_has_influence_has_an_interval_of_positive_width() -> None:
    low, high = jackknife(1.0, np.ones(20), share=True).interval()
    assert 0.6 < low < 0.9 and high == 1
    low, high = jackknife(0.0, np.zeros(20)).interval()
    assert -0.2 < low < 0 < high < 0.2 and jackknife(0.0, np.zeros(20)).p == 1


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_interval_and_p_value_agree(level: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.normal(rng.choice([0, 0.3]), 1, 30)
        found = jackknife(values.mean(), (values.sum() - values) / 29)
        low, high = found.interval(level)
        assert (found.p < 1 - level) == (low > 0 or high < 0)


def test_verdicts() -> None:
    assert verdict(0.041, (0.019, 0.062), "A", "B") == "B beats A by 4.1 points of accuracy [1.9, 6.2]"
    assert verdict(-0.041, (-0.062, -0.019), "A", "B", "F1") == "A beats B by 4.1 points of F1 [1.9, 6.2]"
    same = verdict(0.003, (-0.012, 0.018), "A", "B")
    assert same == "no difference in accuracy between A and B can be shown: 0.3 points [-1.2, 1.8]"
    assert "beats" not in verdict(0.01, (0.0, 0.02), "A", "B")
    assert "[0.02, 2.0]" in verdict(0.01, (0.0002, 0.02), "A", "B")
    none = verdict(0.3, (np.nan, np.nan), "A", "B")
    assert none == "no difference in accuracy between A and B can be shown: 30.0 points, without an interval"
    assert verdict(0.01, (0.001, 0.02), "A", "B", p=0.2).startswith("no difference")
    assert verdict(0.01, (0.001, 0.02), "A", "B", p=0.01).endswith("p = 0.01")
