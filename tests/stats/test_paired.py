import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics import f1_score, recall_score

from sightline.stats.metrics import confusion_matrix, per_class
from sightline.stats.paired import (
    bonferroni,
    counted_by_one,
    holm,
    iou_difference,
    paired_classes,
    paired_ious,
    paired_share_interval,
)
from sightline.stats.segmentation import Counts, class_iou, mean_iou, summed


def matrices(images: int, classes: int = 3, seed: int = 0, skill: int = 30) -> np.ndarray:
    """Confusion matrices int64 [N, K, K] of images with the same truth for every `skill`, 0 to 40."""
    truth = np.random.default_rng(9).integers(20, 60, (images, classes))
    rng = np.random.default_rng(seed)
    found = np.stack([[rng.multinomial(n, np.eye(classes)[k] * (skill / 40) + (1 - skill / 40) / classes)
                       for k, n in enumerate(row)] for row in truth])  # fmt: skip
    return found.astype(np.int64)


def test_the_difference_of_mean_ious_and_its_error_are_those_of_a_bootstrap() -> None:
    first, second = matrices(40, skill=20), matrices(40, seed=1, skill=24)
    found = iou_difference(first, second)
    assert found.value == pytest.approx(float(mean_iou(second.sum(0)) - mean_iou(first.sum(0))))
    rng = np.random.default_rng(5)
    rows = [rng.integers(0, 40, 40) for _ in range(2000)]
    direct = [float(mean_iou(second[r].sum(0)) - mean_iou(first[r].sum(0))) for r in rows]
    assert found.error == pytest.approx(np.std(direct), rel=0.1)


def test_the_same_images_are_left_out_for_both_models() -> None:
    # the second has one more correct pixel in every image: an unpaired interval would be wide
    first = matrices(20, skill=20)
    second = first.copy()
    second[:, 0, 0] += 1
    second[:, 0, 1] -= 1
    low, high = iou_difference(first, second).interval()
    assert 0 < low < high < 0.05
    same = iou_difference(first, first)
    assert same.value == 0 and same.p == 1


def test_mean_ious_over_different_classes_have_no_interval_for_their_difference() -> None:
    first = np.zeros((100, 3, 3), np.int64)
    first[:, 0, 0], first[:, 1, 1], first[:, 0, 1] = 800, 100, 100  # no true mask has class 2
    second = first.copy()
    second[:3, 0, 2], second[:3, 0, 0] = 3, 797  # nine wrong pixels
    found = iou_difference(first, second)
    assert found.value == pytest.approx(-float(mean_iou(first.sum(0))) / 3, abs=1e-4)
    assert np.isnan(found.interval()).all() and counted_by_one(first, second).tolist() == [False, False, True]
    assert np.isfinite(iou_difference(first, second, class_iou).interval()).any(0)[:2].all(), "single classes have one"
    assert np.isfinite(iou_difference(first, first).interval()).all()


def test_copied_images_in_groups_count_once() -> None:
    first, second = matrices(20, skill=20), matrices(20, seed=1, skill=24)
    copies = [np.repeat(each, 3, 0) for each in (first, second)]
    grouped = iou_difference(*copies, groups=np.repeat(np.arange(20), 3))
    assert grouped.interval() == pytest.approx(iou_difference(first, second).interval())
    assert np.isnan(iou_difference(*copies, groups=np.repeat(np.arange(5), 12)).interval()).all()


def test_ious_of_classes_and_missing_intervals() -> None:
    first, second = matrices(12, 4, skill=20), matrices(12, 4, seed=1, skill=30)
    for found in (first, second):
        found[:, 3], found[:, :, 3] = 0, 0  # does not occur
        found[1:, 2], found[1:, :, 2] = 0, 0  # occurs in one image, too few for an interval
    apart = paired_ious(first, second)
    np.testing.assert_allclose(apart.second - apart.first, apart.difference)
    np.testing.assert_allclose(apart.first, class_iou(summed(first)))
    assert np.isfinite(apart.low[:2]).all() and np.isfinite(apart.difference[2]) and np.isnan(apart.low[2])
    assert np.isnan(apart.difference[3]) and np.isnan(apart.high[3])


def test_the_interval_of_a_paired_share_is_the_score_interval() -> None:
    """At its edges, the difference is z standard errors from the estimate, with the error at the largest likelihood of
    this difference (found numerically), and only there (Tango 1998)."""
    z = 1.959964
    for gained, lost, total in ((12, 2, 50), (7, 0, 20), (3, 4, 40), (40, 20, 160)):
        counts = np.array([[gained], [lost], [total]])
        for edge, sign in zip(paired_share_interval(*counts, 0.95), (1, -1), strict=True):
            cut = score_edge(gained, lost, total, sign * z)
            assert sign * (edge[0] - cut) <= 1e-6 and abs(edge[0] - cut) < 0.04, "the score interval or a little wider"
    low, high = paired_share_interval(np.array([0]), np.array([0]), np.array([14]), 0.95)
    assert (-low[0], high[0]) == pytest.approx((z**2 / (14 + z**2),) * 2, abs=1e-6)
    one, other = (
        paired_share_interval(np.array([a]), np.array([b]), np.array([30]), 0.99) for a, b in ((5, 1), (1, 5))
    )
    assert one[0][0] == pytest.approx(-other[1][0]) and one[1][0] == pytest.approx(-other[0][0])


def score_edge(gained: int, lost: int, total: int, z: float) -> float:
    """The difference whose score is z."""

    def score(apart: float) -> float:
        def unlikely(rare: float) -> float:
            cells = (gained, rare + apart), (lost, rare), (total - gained - lost, 1 - 2 * rare - apart)
            return -sum(count * np.log(max(share, 1e-300)) for count, share in cells if count)

        bounds = max(0.0, -apart), (1 - apart) / 2
        rare = optimize.minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return (gained - lost - total * apart) / np.sqrt(total * (2 * rare + apart - apart**2)) - z

    return optimize.brentq(score, -0.999, 0.999)


def test_classes_with_few_images_have_wide_intervals() -> None:
    """14 images of a class of 84: they had those of 84 images, -/+ 5.8 points where no prediction differs."""
    truth = np.repeat(np.arange(6), 14)
    (same, f1), (worst, _) = (paired_classes(truth, one, truth, 6) for one in (truth, (truth + 1) % 6))
    z = 2.638257  # of the level 1 - 0.05 / 6
    np.testing.assert_allclose(same.high, z**2 / (14 + z**2), atol=1e-5)
    assert (worst.low < 0.7).all() and (worst.difference == 1).all() and (f1.high > 0.3).all()


def test_the_sample_of_an_iou_is_the_images_of_its_class() -> None:
    """Two models that never differ: the interval is as wide as a difference that 12 of 60 images may not show."""
    same = matrices(60)
    same[12:, 2], same[12:, :, 2] = 0, 0
    apart = paired_ious(same, same)
    assert apart.high[2] > 0.2 and apart.high[0] < 0.1


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
        quantile = stats.norm.ppf(1 - 0.025 / 4)  # for four classes together
        half = quantile * np.std(others - some, axis=0)
        np.testing.assert_allclose(apart.high - apart.low, 2 * half, rtol=0.15)


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


def test_bonferronis_intervals_exclude_zero_exactly_if_the_corrected_p_is_small() -> None:
    values = (np.random.default_rng(0).random(6) ** 4).tolist()
    corrected, level = bonferroni(values)
    assert [p < 0.05 for p in corrected] == [p < 1 - level for p in values] and level == pytest.approx(1 - 0.05 / 6)
    assert bonferroni([0.01]) == ([0.01], 0.95) and bonferroni([]) == ([], 0.95)
    found, level = bonferroni([float("nan"), 0.2, 0.9])
    assert np.isnan(found[0]) and found[1:] == [0.4, 1.0] and level == 0.975


def test_counts_and_matrices_have_equal_results() -> None:
    first, second = matrices(10, skill=20), matrices(10, seed=1, skill=30)
    counts = [Counts(np.einsum("nkk->nk", m), m.sum(2), m.sum(1)) for m in (first, second)]
    assert iou_difference(*counts) == iou_difference(first, second)
