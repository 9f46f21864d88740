import itertools

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from sightline.stats.metrics import confusion_matrix, per_class
from sightline.stats.paired import holm, paired_classes, paired_interval, paired_ious, randomization_test
from sightline.stats.segmentation import Counts, class_iou, mean_iou, summed


def matrices(images: int, classes: int = 3, seed: int = 0, skill: int = 30) -> np.ndarray:
    """Confusion matrices int64 [N, K, K] of images with the same truth for every `skill`, 0 to 40."""
    truth = np.random.default_rng(9).integers(20, 60, (images, classes))
    rng = np.random.default_rng(seed)
    found = np.stack([[rng.multinomial(n, np.eye(classes)[k] * (skill / 40) + (1 - skill / 40) / classes)
                       for k, n in enumerate(row)] for row in truth])  # fmt: skip
    return found.astype(np.int64)


def test_the_paired_interval_equals_resampling_of_images() -> None:
    first, second = matrices(25, skill=20), matrices(25, seed=1, skill=24)
    difference, (low, high) = paired_interval(first, second, resamples=4000)
    assert difference == pytest.approx(float(mean_iou(second.sum(0)) - mean_iou(first.sum(0))))
    rng = np.random.default_rng(5)
    rows = [rng.integers(0, 25, 25) for _ in range(4000)]
    direct = [float(mean_iou(second[r].sum(0)) - mean_iou(first[r].sum(0))) for r in rows]
    assert [low, high] == pytest.approx(np.quantile(direct, [0.025, 0.975]), abs=0.1 * (high - low))


def test_the_same_images_are_drawn_for_both_models() -> None:
    # the second has one more correct pixel in every image: an unpaired interval would be wide
    first = matrices(20, skill=20)
    second = first.copy()
    second[:, 0, 0] += 1
    second[:, 0, 1] -= 1
    _, (low, high) = paired_interval(first, second)
    assert 0 < low < high < 0.05
    same, edges = paired_interval(first, first)
    assert same == 0 and edges == (0, 0)


def test_ious_of_classes_and_missing_intervals() -> None:
    first, second = matrices(6, 4, skill=20), matrices(6, 4, seed=1, skill=30)
    for found in (first, second):
        found[:, 3], found[:, :, 3] = 0, 0  # does not occur
        found[1:, 2], found[1:, :, 2] = 0, 0  # occurs in one image
    apart = paired_ious(first, second)
    np.testing.assert_allclose(apart.second - apart.first, apart.difference)
    np.testing.assert_allclose(apart.first, class_iou(summed(first)))
    assert np.isfinite(apart.low[:2]).all() and np.isfinite(apart.difference[2]) and np.isnan(apart.low[2])
    assert np.isnan(apart.difference[3]) and np.isnan(apart.high[3])


def test_random_swaps_approximate_the_exact_randomization_test() -> None:
    first, second = matrices(8, skill=20), matrices(8, seed=1, skill=21)
    found = abs(float(mean_iou(second.sum(0)) - mean_iou(first.sum(0))))
    extreme = 0
    for swaps in itertools.product((False, True), repeat=8):
        chosen = np.array(swaps)[:, None, None]
        one, other = np.where(chosen, second, first).sum(0), np.where(chosen, first, second).sum(0)
        extreme += abs(float(mean_iou(other) - mean_iou(one))) >= found - 1e-12
    assert 0.01 < extreme / 256 < 0.9
    assert randomization_test(first, second, swaps=20_000) == pytest.approx(extreme / 256, abs=0.01)
    assert randomization_test(first, first) == 1.0
    assert randomization_test(first, second) == randomization_test(first, second) == randomization_test(second, first)


def test_recall_and_f1_of_classes_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    first = np.where(rng.random(300) < 0.6, truth, rng.integers(0, 4, 300))
    second = np.where(rng.random(300) < 0.8, truth, rng.integers(0, 4, 300))
    recall, f1 = paired_classes(truth, first, second, 4)
    rows = rng.integers(0, 300, (800, 300))
    drawn = [[per_class(confusion_matrix(one[r], truth[r], 4)) for r in rows] for one in (first, second)]
    found = (recall, lambda one: one.recall, recall_score), (f1, lambda one: one.f1, f1_score)
    for apart, field, score in found:
        np.testing.assert_allclose(apart.first, score(truth, first, average=None))
        np.testing.assert_allclose(apart.second, score(truth, second, average=None))
        np.testing.assert_allclose(apart.difference, apart.second - apart.first)
        some, others = (np.array([field(one) for one in group]) for group in drawn)
        low, high = np.quantile(others - some, [0.025, 0.975], axis=0)
        np.testing.assert_allclose(apart.low, low, atol=0.03)
        np.testing.assert_allclose(apart.high, high, atol=0.03)


def test_a_class_without_images_has_no_interval() -> None:
    truth, first, second = np.zeros(9, int), np.zeros(9, int), np.array([0] * 8 + [1])
    recall, f1 = paired_classes(truth, first, second, 3)
    assert np.isnan(recall.difference[1:]).all() and np.isnan(f1.difference[2]) and np.isnan(f1.low[1])
    assert recall.difference[0] == pytest.approx(-1 / 9)


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.001, 0.9]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([0.02]) == [0.02] and holm([]) == []
    assert np.isnan(holm([float("nan"), 0.02])[0]) and holm([float("nan"), 0.02])[1] == 0.02


def test_counts_and_matrices_have_equal_results() -> None:
    first, second = matrices(10, skill=20), matrices(10, seed=1, skill=30)
    counts = [Counts(np.einsum("nkk->nk", m), m.sum(2), m.sum(1)) for m in (first, second)]
    assert paired_interval(*counts) == paired_interval(first, second)
    assert randomization_test(*counts) == randomization_test(first, second)
