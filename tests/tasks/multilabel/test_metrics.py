import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_recall_fscore_support

from sightline.tasks.multilabel.metrics import (
    average_precision,
    choose_thresholds,
    decision_intervals,
    decisions,
    paired_precision,
    precision_intervals,
    weighted_precision,
)


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 4), st.sampled_from([2, 5, 1000]))
def test_average_precision_is_scikit_learns_with_ties(seed, count, classes, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (count, classes)) / levels
    truth = rng.random((count, classes)) < rng.random()
    ours = average_precision(scores, truth)
    for column in range(classes):
        if truth[:, column].any():
            assert ours[column] == pytest.approx(average_precision_score(truth[:, column], scores[:, column]))
        else:
            assert np.isnan(ours[column])


def test_weights_are_repeated_images():
    rng = np.random.default_rng(0)
    scores, truth, weights = rng.random(20).round(1), rng.random(20) < 0.4, rng.integers(0, 4, (3, 20))
    found = weighted_precision(scores, truth, weights.astype(float))
    for row, times in zip(found, weights, strict=True):
        assert row == pytest.approx(average_precision_score(truth.repeat(times), scores.repeat(times)))


def test_average_precision_by_hand():
    # ranked: right, wrong, right -> recall 1/2 at precision 1, recall 1 at precision 2/3
    scores, truth = np.array([[0.9], [0.5], [0.1]]), np.array([[True], [False], [True]])
    assert average_precision(scores, truth) == pytest.approx([0.5 * 1 + 0.5 * 2 / 3])


def test_a_class_without_a_positive_is_left_out_of_the_mean():
    rng = np.random.default_rng(1)
    scores, truth = rng.random((50, 3)), rng.random((50, 3)) < 0.4
    truth[:, 1] = False
    found = precision_intervals(scores, truth)
    assert np.isnan(found.by_class[1]) and np.isnan(found.class_intervals[1]).all()
    assert found.mean == pytest.approx(found.by_class[[0, 2]].mean())
    assert found.interval[0] < found.mean < found.interval[1]


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(2, 4))
def test_decisions_are_scikit_learns(seed, count, classes):
    rng = np.random.default_rng(seed)
    predicted, truth = (rng.random((count, classes)) < rng.random() for _ in range(2))
    found, present = decisions(predicted, truth), truth.any(0)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, zero_division=0, average=None)
    assert found.precision[0] == pytest.approx(precision)
    assert found.recall[0][present] == pytest.approx(recall[present])
    assert found.f1[0][present] == pytest.approx(f1[present])
    assert np.isnan(found.f1[0][~present]).all()
    micro = precision_recall_fscore_support(truth, predicted, zero_division=0, average="micro")
    assert [found.micro_precision[0], found.micro_recall[0], found.micro_f1[0]] == pytest.approx(micro[:3])
    assert found.macro_f1[0] == pytest.approx(f1[present].mean() if present.any() else 0)
    assert found.exact[0] == pytest.approx(accuracy_score(truth, predicted))


def test_thresholds_have_the_largest_f1_of_all_thresholds():
    rng = np.random.default_rng(3)
    scores, truth = rng.random((60, 3)).round(2), rng.random((60, 3)) < 0.4
    truth[:, 2] = False
    truth[:2, 2] = True  # too few positives for a threshold of their own
    found = choose_thresholds(scores, truth)
    for column in range(2):
        best = max(f1_score(truth[:, column], scores[:, column] >= cut) for cut in np.linspace(0, 1, 201))
        assert f1_score(truth[:, column], scores[:, column] >= found[column]) == pytest.approx(best)
    best = max(f1_score(truth.ravel(), (scores >= cut).ravel()) for cut in np.linspace(0, 1, 201))
    assert f1_score(truth.ravel(), (scores >= found[2]).ravel()) == pytest.approx(best)


def test_thresholds_of_almost_no_positives_are_one_half():
    scores = np.array([[0.2, 0.1], [0.1, 0.3], [0.05, 0.04]])
    assert choose_thresholds(scores, scores >= 0.2).tolist() == [0.5, 0.5]


def test_intervals_contain_the_estimates_and_count_groups():
    rng = np.random.default_rng(4)
    truth = rng.random((200, 5)) < 0.3
    predicted = truth ^ (rng.random((200, 5)) < 0.15)
    found, edges = decisions(predicted, truth), decision_intervals(predicted, truth)
    for name, (low, high) in edges.items():
        assert low < getattr(found, name)[0] < high
    twice = decision_intervals(np.repeat(predicted, 2, 0), np.repeat(truth, 2, 0), np.repeat(np.arange(200), 2))
    assert all(twice[name] == pytest.approx(edges[name]) for name in edges)


def test_macro_f1_has_no_interval_if_a_class_is_in_two_groups():
    rng = np.random.default_rng(4)
    truth = rng.random((200, 5)) < 0.3
    truth[20:, 0] = False  # the images of two groups
    predicted, groups = truth ^ (rng.random((200, 5)) < 0.15), np.repeat(np.arange(20), 10)
    edges = decision_intervals(predicted, truth, groups)
    assert np.isnan(edges["macro_f1"]).all() and not np.isnan(edges["micro_f1"]).any()
    truth[20:30, 0] = True  # three groups
    assert not np.isnan(decision_intervals(predicted, truth, groups)["macro_f1"]).any()
    truth[:, 0] = False  # a class that does not occur is not in the mean
    assert not np.isnan(decision_intervals(predicted, truth, groups)["macro_f1"]).any()


def test_the_intervals_of_a_perfect_ranking_contain_1():
    rng = np.random.default_rng(5)
    truth = rng.random((80, 3)) < 0.2
    found = precision_intervals(truth + 0.1 * rng.random(truth.shape), truth)
    assert found.mean == found.interval[1] == 1 and 0.5 < found.interval[0] < 1
    for low, high in found.class_intervals:
        assert 0.5 < low < high == 1


def simulated(
    rng: np.random.Generator, count: int, prevalence: np.ndarray, shift: float
) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.random((count, len(prevalence))) < prevalence
    shared = rng.standard_normal((count, 1))
    return (shared + rng.standard_normal(truth.shape)) / 2**0.5 + shift * truth, truth


@pytest.mark.slow
@pytest.mark.parametrize(("count", "shift"), [(150, 1.0), (600, 2.0)])
def test_intervals_cover_the_mean_average_precision_of_the_population(count, shift):
    rng, prevalence = np.random.default_rng(0), np.geomspace(0.15, 0.4, 6)
    target = average_precision(*simulated(rng, 200_000, prevalence, shift)).mean()
    found = [precision_intervals(*simulated(rng, count, prevalence, shift)) for _ in range(100)]
    covered = np.mean([low <= target <= high for low, high in (one.interval for one in found)])
    assert covered >= 0.89  # 95 % claimed; with 100 trials, 89 % is the 1 % quantile


def test_two_models_of_equal_quality_rarely_differ():
    rng, prevalence, trials = np.random.default_rng(0), np.geomspace(0.25, 0.4, 5), 60
    apart = better = 0
    for _ in range(trials):
        truth = rng.random((100, 5)) < prevalence
        shared = rng.standard_normal(truth.shape)
        first, second, good = ((shared + rng.standard_normal(truth.shape)) / 2**0.5 + s * truth for s in (1, 1, 3))
        found, _ = paired_precision(first, second, truth)
        low, high = found.interval()
        assert (found.p < 0.05) == (not low <= 0 <= high)
        apart += not low <= 0 <= high
        found, classes = paired_precision(first, good, truth)
        better += found.interval()[0] > 0
        assert found.value == pytest.approx(np.nanmean(classes.difference))
    assert apart <= 9, "10 or more of 60 have a probability below 1 in 1000 at 5 %"
    assert better >= 55


def test_recall_without_a_miss_is_uncertain_by_the_images_that_have_a_label() -> None:
    """Of 300 images, the 292 without a label say nothing about recall: its interval is as for 8 images."""
    truth = np.zeros((300, 2), bool)
    truth[:8, 0] = True
    low, _ = decision_intervals(truth, truth)["micro_recall"]
    assert low == pytest.approx(0.025 ** (1 / 8), abs=0.02)
    groups = np.arange(300) // 2
    assert decision_intervals(truth, truth, groups)["micro_recall"][0] < low


def test_mean_precisions_of_a_class_with_few_positives_have_no_interval_of_their_difference() -> None:
    rng = np.random.default_rng(0)
    truth = np.stack([rng.random(100) < 0.3, np.arange(100) < 5], axis=1)
    first, second = (rng.random((100, 2)) + truth for _ in range(2))
    assert np.isnan(paired_precision(first, second, truth)[0].error)
    truth[:15, 1] = True
    assert paired_precision(first, second, truth)[0].error > 0
