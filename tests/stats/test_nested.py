import numpy as np
import pytest
from scipy import stats

from sightline.stats.intervals import mean_interval, mean_variance, wilson_interval
from sightline.stats.nested import mean_iou_values, nested_difference, nested_mean, paired_difference
from sightline.stats.paired import iou_difference
from sightline.stats.segmentation import interval, mean_iou, summed

RNG = np.random.default_rng(0)


def test_one_run_each_is_the_paired_t_test() -> None:
    first, second = RNG.random(200) < 0.6, RNG.random(200) < 0.7
    found = paired_difference(first, second)
    theirs = stats.ttest_rel(second * 1.0, first * 1.0)
    error = (second * 1.0 - first).std(ddof=1) / 200**0.5
    assert found.value == pytest.approx(second.mean() - first.mean())
    assert found.error == pytest.approx((error**2 + 0.5 / 200**2) ** 0.5) and found.degrees == pytest.approx(199)
    assert found.p == pytest.approx(theirs.pvalue, rel=0.05)
    four = np.zeros(60)
    assert paired_difference(four, four + (np.arange(60) < 4)).p > 0.05, "four images alone do not show a difference"
    assert nested_mean(first[None, None]) == (first.mean(), mean_interval(first))


def test_the_values_of_images_give_the_mean_iou_and_the_intervals_of_its_jackknife() -> None:
    first = RNG.integers(0, 40, (60, 3, 3)) + 200 * np.eye(3, dtype=int)
    second = first + RNG.integers(0, 60, (60, 1, 1)) * np.eye(3, dtype=int)
    first[0] = second[0] = 0  # an image of ignored pixels only
    values = [mean_iou_values(each) for each in (first, second)]
    assert [each.mean() for each in values] == [pytest.approx(float(mean_iou(summed(m)))) for m in (first, second)]
    found, wanted = nested_difference(*(v[None, None] for v in values), shares=False), iou_difference(first, second)
    assert found.value == pytest.approx(wanted.value)
    assert found.interval() == pytest.approx(wanted.interval(), abs=0.05 * float(wanted.error))
    low, high = nested_mean(values[0][None, None], shares=False)[1]
    edges = interval(first)
    assert (low, high) == (pytest.approx(float(edges[0]), abs=2e-3), pytest.approx(float(edges[1]), abs=2e-3))
    same = nested_difference(*(values[0][None, None] for _ in range(2)), shares=False)
    assert same.value == 0 and same.p == 1
    assert mean_iou_values(first[1:2]) == pytest.approx(float(mean_iou(first[1])))


def test_seeds_that_agree_add_nothing_and_seeds_that_differ_do() -> None:
    first, second = ((RNG.random(300) < p)[None, None] for p in (0.5, 0.6))
    alone = nested_difference(first, second)
    same = nested_difference(*(np.repeat(each, 3, 1) for each in (first, second)))
    assert same.error == pytest.approx(alone.error) and same.value == alone.value
    apart = np.array([0.0, 0.1, 0.2])[None, :, None]
    wide = nested_difference(np.repeat(first, 3, 1) + apart, np.repeat(second, 3, 1))
    assert wide.error == pytest.approx((alone.error**2 + 0.1**2 / 3) ** 0.5) and wide.degrees < 5


def test_pretrainings_are_the_runs_if_there_are_several() -> None:
    values = RNG.random((2, 3, 100))
    shifted = values + np.array([0.0, 0.2])[:, None, None]
    mean, (low, high) = nested_mean(shifted)
    assert mean == pytest.approx(shifted.mean()) and high - low > 0.9, "two pre-trainings: one degree of freedom"
    swapped = nested_mean(shifted[:, ::-1])
    assert swapped == (pytest.approx(mean), pytest.approx((low, high)))


def test_groups_and_too_few_of_them() -> None:
    first, second = ((RNG.random(40) < p).astype(float) for p in (0.3, 0.6))
    alone = paired_difference(first, second)
    copied = paired_difference(np.repeat(first, 4), np.repeat(second, 4), np.repeat(np.arange(40), 4))
    assert copied.interval() == pytest.approx(alone.interval()) and copied.p == pytest.approx(alone.p)
    none = paired_difference(first, second, np.repeat(np.arange(5), 8))
    assert np.isnan(none.interval()).all() and np.isnan(none.p)
    equal = paired_difference(first, first)
    assert equal.p == 1 and equal.interval()[0] < 0 < equal.interval()[1]


@pytest.mark.parametrize(
    ("seeds", "images", "spread", "pretrainings"), [(3, 300, 0.0, 1), (3, 1000, 0.02, 1), (3, 500, 0.02, 2)]
)
def test_intervals_cover(seeds: int, images: int, spread: float, pretrainings: int) -> None:
    """Two equal settings, images of different difficulty, seeds and pre-trainings with their own spread."""
    rng, hits = np.random.default_rng(5), 0
    for _ in range(200):
        chance = np.clip(rng.normal(0.6, 0.2, images), 0.02, 0.98)
        runs = []
        for _ in range(2):
            own = spread if pretrainings > 1 else 0  # with one pre-training, the interval is that of this one
            shift = rng.normal(0, own, (pretrainings, 1, 1)) + rng.normal(0, spread, (pretrainings, seeds, 1))
            runs.append(rng.random((pretrainings, seeds, images)) < chance + shift)
        low, high = nested_difference(*runs).interval()
        hits += low <= 0 <= high
    assert 182 <= hits <= 198, hits


def test_seeds_with_the_same_mistakes_have_at_least_the_interval_of_one_run() -> None:
    values = np.ones((1, 3, 50))
    values[:, :, :2] = 0
    (low, high), (least, most) = nested_mean(values)[1], wilson_interval(48, 50)
    assert low <= least and most <= high <= 1
    assert nested_mean(np.ones((1, 3, 30)))[1][0] <= wilson_interval(30, 30)[0]


def test_a_long_film_does_not_hide_its_own_deviation() -> None:
    """The variance is that of a jackknife over films, not of their distances to a mean that one of them decides."""
    groups = np.repeat(np.arange(20), [381, *[1] * 19])
    values = np.where(groups == 0, 0.5, np.random.default_rng(0).random(400))
    without = np.array([values[groups != group].mean() for group in range(20)])
    assert mean_variance(values, groups) == pytest.approx(19 / 20 * ((without - values.mean()) ** 2).sum())
    assert mean_variance(values, None) == pytest.approx(values.var(ddof=1) / 400)


def test_seeds_that_agree_do_not_narrow_the_interval_of_films() -> None:
    groups = np.repeat(np.arange(12), 20)
    one_wrong = np.arange(240) != 7
    for right in (np.ones(240, bool), one_wrong, groups != 3):
        _, several = nested_mean(np.tile(right, (1, 3, 1)), groups)
        one = mean_interval(right, groups)
        assert several[0] <= one[0] and several[1] >= one[1]
