import numpy as np
import pytest
from scipy import stats

from sightline.stats.intervals import (
    bootstrap_interval,
    mcnemar,
    paired_bootstrap,
    verdict,
    wilson_interval,
)

RIGHT = np.random.default_rng(0).random(400) < 0.8


def test_interval_of_an_accuracy_equals_binomial_percentiles():
    low, high = bootstrap_interval(RIGHT, resamples=200_000)
    expected = stats.binom.ppf([0.025, 0.975], 400, RIGHT.mean()) / 400
    assert [low, high] == pytest.approx(expected, abs=1.01 / 400)
    theirs = stats.bootstrap((RIGHT.astype(float),), np.mean, method="percentile", n_resamples=5000, rng=1)
    assert [low, high] == pytest.approx(theirs.confidence_interval, abs=2.01 / 400)


def test_interval_of_a_mean_equals_scipy():
    values = np.random.default_rng(3).exponential(size=300)
    low, high = bootstrap_interval(values, level=0.9, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, method="percentile", n_resamples=20_000, batch=500, rng=1
    ).confidence_interval
    spread = values.std() / np.sqrt(300)
    assert [low, high] == pytest.approx(theirs, abs=0.06 * spread)


def test_intervals_have_their_nominal_coverage():
    rng = np.random.default_rng(5)
    hits = [low <= 0.7 <= high for low, high in (bootstrap_interval(rng.random(200) < 0.7, seed=i) for i in range(300))]
    assert 0.91 <= np.mean(hits) <= 0.98


def test_interval_depends_only_on_the_seed_argument():
    np.random.seed(0)
    first = bootstrap_interval(RIGHT, seed=7)
    np.random.seed(1)
    assert bootstrap_interval(RIGHT, seed=7) == first
    values = np.linspace(0, 1, 50) ** 2
    assert (
        bootstrap_interval(values, seed=7) == bootstrap_interval(values, seed=7) != bootstrap_interval(values, seed=8)
    )


@pytest.mark.parametrize("count", [1, 5, 100])
def test_interval_of_equal_values_is_the_exact_binomial_one(count):
    for hits, values in ((count, np.ones(count)), (0, np.zeros(count))):
        theirs = stats.binomtest(hits, count).proportion_ci(0.95, method="exact")
        assert bootstrap_interval(values) == pytest.approx((theirs.low, theirs.high))


def test_large_sets_are_resampled_in_blocks():
    values = np.random.default_rng(0).normal(size=2**21)
    low, high = bootstrap_interval(values, resamples=5)
    assert low < high and abs(low - values.mean()) < 5e-3


def test_paired_bootstrap_equals_that_of_the_differences():
    rng = np.random.default_rng(2)
    better = RIGHT | (rng.random(400) < 0.3)
    difference, (low, high) = paired_bootstrap(RIGHT, better, resamples=20_000)
    assert difference == pytest.approx(better.mean() - RIGHT.mean())
    theirs = stats.bootstrap(
        (better * 1.0 - RIGHT * 1.0,), np.mean, method="percentile", n_resamples=20_000, batch=500, rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx(theirs, abs=1.01 / 400)
    assert 0 < low < difference < high
    back, (back_low, back_high) = paired_bootstrap(better, RIGHT, resamples=20_000)
    assert (back, back_low, back_high) == pytest.approx((-difference, -high, -low), abs=1.01 / 400)


def test_the_paired_interval_excludes_common_noise():
    # the noise is common to both, so the paired interval is much narrower than that of either mean
    shared = np.random.default_rng(1).normal(size=1000)
    a, b = shared, shared + 0.01
    difference, (low, high) = paired_bootstrap(a, b)
    assert low == pytest.approx(0.01) and high == pytest.approx(0.01) and difference == pytest.approx(0.01)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 4), (3, 3), (5, 15), (40, 20)])
def test_mcnemar_equals_scipys_binomial_test(only_a, only_b):
    a = np.repeat([True, False, True, False], [only_a, only_b, 30, 10])
    b = np.repeat([False, True, True, False], [only_a, only_b, 30, 10])
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected)


def test_verdicts():
    assert verdict(0.041, (0.019, 0.062), "A", "B") == "B beats A by 4.1 points of accuracy [1.9, 6.2]"
    assert verdict(-0.041, (-0.062, -0.019), "A", "B", "F1") == "A beats B by 4.1 points of F1 [1.9, 6.2]"
    same = verdict(0.003, (-0.012, 0.018), "A", "B")
    assert same == "no difference in accuracy between A and B can be shown: 0.3 points [-1.2, 1.8]"
    assert "beats" not in verdict(0.01, (0.0, 0.02), "A", "B")
    assert "[0.02, 2.0]" in verdict(0.01, (0.0002, 0.02), "A", "B")


def test_verdict_requires_a_small_p_value_too():
    a, b = np.ones(100), np.ones(100)
    a[:4] = 0
    difference, interval = paired_bootstrap(a, b)
    assert interval[0] > 0
    assert "beats" in verdict(difference, interval, "A", "B")
    assert verdict(difference, interval, "A", "B", p=mcnemar(a, b)).startswith("no difference")
    assert verdict(difference, interval, "A", "B", p=0.01).endswith("p = 0.01")


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
