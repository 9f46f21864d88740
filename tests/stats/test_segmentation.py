import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from sightline.data.decode.palettes import IGNORE
from sightline.errors import SightlineError
from sightline.stats.segmentation import (
    BLOCK,
    Counts,
    as_counts,
    class_intervals,
    class_iou,
    class_numbers,
    confusion,
    confusion_per_image,
    effective_images,
    interval,
    mean_iou,
    micro_iou,
    other_definitions,
    per_image_iou,
    pixel_accuracy,
    segment_numbers,
)

# Three images of 2 x 3 pixels, with the classes 0 to 3, of which 3 does not occur.
TRUTH = np.array([[[0, 0, 0], [0, 1, 1]], [[2, 2, 2], [IGNORE, IGNORE, 1]], [[0, 0, 0], [0, 0, 0]]], dtype=np.uint8)
PREDICTED = np.array([[[0, 0, 1], [0, 1, 2]], [[2, 2, 1], [3, 0, 1]], [[0, 0, 0], [0, 0, 0]]], dtype=np.uint8)
# Correct pixels: in image 0, 3 of 4 of class 0 and 1 of 2 of class 1; in image 1, 2 of 3 of class 2 and 1 of 1 of class
# 1, without the ignored pixels; in image 2, all.
PER_IMAGE = np.array(
    [
        [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]],
        [[6, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
)


def masks(seed: int, shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Random (predicted, truth) uint8: a tenth of the truth is ignored, over half of the predictions are correct."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape)
    predicted = np.where(rng.random(shape) < 0.5, truth, rng.integers(0, classes, shape))
    truth[rng.random(shape) < 0.1] = IGNORE
    return predicted.astype(np.uint8), truth.astype(np.uint8)


def counted_one_by_one(predicted: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for mine, true in zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if true != IGNORE:
            matrix[true, mine] += 1
    return matrix


# ---- confusion ----


def test_confusion_of_known_masks():
    per_image = confusion_per_image(PREDICTED, TRUTH, 4)
    assert per_image.dtype == np.int64
    np.testing.assert_array_equal(per_image, PER_IMAGE)
    np.testing.assert_array_equal(confusion(PREDICTED, TRUTH, 4), PER_IMAGE.sum(0))


def test_confusion_with_the_ignored_class():
    whole = confusion(PREDICTED, TRUTH, 4, ignored=True)
    np.testing.assert_array_equal(whole[:4, :4], PER_IMAGE.sum(0))
    np.testing.assert_array_equal(whole[4], [1, 0, 0, 1, 0])
    np.testing.assert_array_equal(whole[:, 4], 0)
    swapped = confusion(TRUTH, PREDICTED, 4, ignored=True)
    np.testing.assert_array_equal(swapped, whole.T)
    np.testing.assert_array_equal(confusion_per_image(PREDICTED, TRUTH, 4, ignored=True).sum(0), whole)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 254), st.integers(0, 10**6), st.sampled_from([np.uint8, np.int64, np.int32, np.uint16]))
def test_confusion_equals_a_count_of_single_pixels(classes, seed, dtype):
    predicted, truth = masks(seed, (2, 7, 5), classes)
    matrix = confusion(predicted.astype(dtype), truth.astype(dtype), classes)
    np.testing.assert_array_equal(matrix, counted_one_by_one(predicted, truth, classes))


@pytest.mark.parametrize("classes", [2, 15, 16, 254])
def test_confusion_over_several_blocks_equals_scikit_learn(classes):
    predicted, truth = masks(0, (3, 400, 500), classes)
    assert predicted.size > 2 * BLOCK
    keep = truth != IGNORE
    expected = reference.confusion_matrix(truth[keep], predicted[keep], labels=range(classes))
    np.testing.assert_array_equal(confusion(predicted, truth, classes), expected)


def test_tensors_and_booleans_are_masks_too():
    tensors = torch.from_numpy(PREDICTED), torch.from_numpy(TRUTH).long()
    np.testing.assert_array_equal(confusion_per_image(*tensors, 4), PER_IMAGE)
    truth = np.array([[True, True, False]])
    np.testing.assert_array_equal(confusion(np.array([[True, False, False]]), truth, 2), [[1, 0], [1, 1]])
    # views that are not contiguous in memory
    np.testing.assert_array_equal(confusion(PREDICTED[:, ::-1, ::2], TRUTH[:, ::-1, ::2], 4).sum(), 11)


def test_values_outside_the_classes_raise_an_error_with_the_values():
    with pytest.raises(SightlineError, match=r"predicted masks contain 4, 200 and true masks contain 7.* 0 to 3"):
        confusion(np.array([4, 200, 0]), np.array([0, 7, 0]), 4)
    with pytest.raises(SightlineError, match="true masks contain -1"):
        confusion(np.array([0]), np.array([-1]), 4)
    with pytest.raises(SightlineError, match="predicted masks contain 256"):  # 0 as uint8
        confusion(np.array([256]), np.array([0]), 4)
    with pytest.raises(SightlineError, match="predicted masks contain 9"):  # also on ignored pixels
        confusion(np.array([9]), np.array([IGNORE]), 4)


def test_ignored_predictions_of_labeled_pixels_raise_an_error():
    predicted, truth = np.array([IGNORE, IGNORE, 1]), np.array([0, IGNORE, 1])
    with pytest.raises(SightlineError, match="1 pixels are predicted as 255"):
        confusion(predicted, truth, 2)
    np.testing.assert_array_equal(confusion(predicted[1:], truth[1:], 2), [[0, 0], [0, 1]])
    np.testing.assert_array_equal(confusion(predicted, truth, 2, ignored=True), [[0, 0, 1], [0, 1, 0], [0, 0, 1]])


def test_no_images_and_no_pixels():
    assert confusion_per_image(np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4, 4), np.uint8), 3).shape == (0, 3, 3)
    assert confusion(np.zeros(0, np.uint8), np.zeros(0, np.uint8), 3).sum() == 0


# ---- numbers ----


def test_metrics_of_known_masks():
    # IoU of class 0: 9 hits of 10 true and 9 predicted pixels, 9/10; class 1: 2 of 3 and 4, 2/5; class 2: 2 of 3 and
    # 3, 2/4; class 3 does not occur
    expected = {
        "mean_iou": (0.9 + 0.4 + 0.5) / 3,
        "pixel_accuracy": 13 / 16,
        "frequency_weighted_iou": (10 * 0.9 + 3 * 0.4 + 3 * 0.5) / 16,
        "mean_accuracy": (0.9 + 2 / 3 + 2 / 3) / 3,
    }
    assert segment_numbers(PER_IMAGE.sum(0)) == pytest.approx(expected)
    assert segment_numbers(PER_IMAGE) == segment_numbers(PER_IMAGE.sum(0)) == segment_numbers(as_counts(PER_IMAGE))
    numbers = class_numbers(PER_IMAGE)
    np.testing.assert_allclose(numbers.iou, [0.9, 0.4, 0.5, np.nan])
    np.testing.assert_allclose(numbers.precision, [1.0, 2 / 4, 2 / 3, np.nan])
    np.testing.assert_allclose(numbers.recall, [0.9, 2 / 3, 2 / 3, np.nan])
    np.testing.assert_array_equal(numbers.support, [10, 3, 3, 0])


def test_a_class_that_is_only_predicted_counts_as_zero():
    numbers = segment_numbers(np.array([[3, 1], [0, 0]]))
    assert numbers["mean_iou"] == pytest.approx((3 / 4 + 0) / 2)
    assert numbers["mean_accuracy"] == pytest.approx(3 / 4)  # over the classes of the truth


def test_pixels_without_a_predicted_class_are_false_negatives_only():
    numbers = class_numbers(np.array([[3, 0, 1], [0, 2, 2]]))
    np.testing.assert_allclose(numbers.iou, [3 / 4, 2 / 4])
    np.testing.assert_allclose(numbers.precision, [1, 1])
    assert segment_numbers(np.array([[3, 0, 1], [0, 2, 2]]))["pixel_accuracy"] == 5 / 8


def test_metrics_equal_scikit_learn():
    predicted, truth = masks(3, (4, 30, 40), 6)
    keep = truth != IGNORE
    matrix = confusion(predicted, truth, 6)
    ours, flat = segment_numbers(matrix), (truth[keep], predicted[keep])
    assert ours["mean_iou"] == pytest.approx(reference.jaccard_score(*flat, average="macro"))
    assert ours["frequency_weighted_iou"] == pytest.approx(reference.jaccard_score(*flat, average="weighted"))
    assert ours["pixel_accuracy"] == pytest.approx(reference.accuracy_score(*flat))
    assert ours["mean_accuracy"] == pytest.approx(reference.balanced_accuracy_score(*flat))
    np.testing.assert_allclose(class_iou(matrix), reference.jaccard_score(*flat, average=None))
    precision, recall, _, support = reference.precision_recall_fscore_support(*flat)
    for mine, theirs in zip(class_numbers(matrix)[1:], (precision, recall, support), strict=True):
        np.testing.assert_allclose(mine, theirs)
    assert micro_iou(matrix) == pytest.approx(reference.jaccard_score(*flat, average="micro"))


def test_masks_of_ignored_pixels_only_raise_an_error():
    with pytest.raises(SightlineError, match="no pixel can be evaluated"):
        segment_numbers(np.zeros((3, 3), dtype=np.int64))


def test_metrics_of_each_image():
    nothing = np.zeros((1, 4, 4), dtype=np.int64)
    ious = per_image_iou(np.concatenate([PER_IMAGE, nothing]))
    np.testing.assert_allclose(ious, [(3 / 4 + 1 / 3 + 0) / 3, (1 / 2 + 2 / 3) / 2, 1.0, np.nan])
    np.testing.assert_allclose(pixel_accuracy(PER_IMAGE), [4 / 6, 3 / 4, 1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_metrics_are_in_range_and_do_not_depend_on_the_order_of_classes(seed, classes):
    matrix = confusion(*masks(seed, (3, 4, 4), classes), classes)
    numbers = segment_numbers(matrix)
    assert all(0 <= value <= 1 for value in numbers.values())
    order = np.random.default_rng(seed).permutation(classes)
    assert segment_numbers(matrix[np.ix_(order, order)]) == pytest.approx(numbers)
    assert segment_numbers(np.diag(matrix.sum(1)))["mean_iou"] == 1
    # IoU <= recall; the pooled IoU is a / (2 - a) for the accuracy a
    assert numbers["mean_iou"] <= numbers["mean_accuracy"] + 1e-12
    assert micro_iou(matrix) == pytest.approx(numbers["pixel_accuracy"] / (2 - numbers["pixel_accuracy"]))


# ---- other definitions of mean IoU ----


def test_other_definitions_of_known_masks():
    whole = confusion(PREDICTED, TRUTH, 4, ignored=True)
    nothing = np.zeros((1, 4, 4), dtype=np.int64)  # images of ignored pixels only are omitted
    found = other_definitions(np.concatenate([PER_IMAGE, nothing]), whole)
    images = [[3 / 4, 1 / 3, 0], [1 / 2, 2 / 3], [1.0]]
    expected = {
        "micro_iou": 13 / (10 + 5 + 4),
        "mean_iou_absent_0": (0.9 + 0.4 + 0.5 + 0) / 4,
        "mean_iou_absent_1": (0.9 + 0.4 + 0.5 + 1) / 4,
        "mean_iou_over_images": np.mean([np.mean(ious) for ious in images]),
        "mean_iou_over_images_absent_0": np.mean([np.sum(ious) / 4 for ious in images]),
        "mean_iou_over_images_absent_1": np.mean([(np.sum(ious) + 4 - len(ious)) / 4 for ious in images]),
        "mean_iou_over_pairs": np.mean(np.concatenate(images)),
        "micro_iou_over_images": np.mean([4 / 8, 3 / 5, 1]),
        # the two ignored pixels are predicted as 0 and 3, so class 3 occurs
        "mean_iou_with_ignored": (9 / 11 + 0.4 + 0.5 + 0 + 0) / 5,
        "mean_iou_course": (9 / 11 + 0.4 + 0.5 + 0) / 4,
    }
    assert {name: number.value for name, number in found.items()} == pytest.approx(expected)
    assert all(len(number.meaning) > 20 and "\n" not in number.meaning for number in found.values())
    assert other_definitions(as_counts(PER_IMAGE)).keys() == expected.keys() - {
        "mean_iou_with_ignored",
        "mean_iou_course",
    }


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_mean_iou_of_the_course_reports_equals_a_count_over_all_pixels(seed, classes):
    """Truth and prediction are compared class by class; in both, ignored pixels are no class. Some classes are absent
    from truth, prediction or both."""
    predicted, truth = masks(seed, (2, 4, 4), classes)
    predicted[np.random.default_rng(seed + 1).random(predicted.shape) < 0.1] = IGNORE
    ious = []
    for each in range(classes):
        hits = int(((predicted == each) & (truth == each)).sum())
        union = int((predicted == each).sum()) + int((truth == each).sum()) - hits
        ious += [hits / union] if union else []
    matrix = confusion(predicted, truth, classes, ignored=True)
    found = other_definitions(matrix[None, :-1], matrix)["mean_iou_course"].value
    assert found == pytest.approx(np.mean(ious)) if ious else np.isnan(found)


def test_all_definitions_are_1_for_perfect_masks_with_all_classes():
    truth = np.tile(np.arange(4, dtype=np.uint8), (3, 2, 1))
    found = other_definitions(confusion_per_image(truth, truth, 4), confusion(truth, truth, 4, ignored=True))
    assert {number.value for number in found.values()} == {1.0}


def test_definitions_equal_torchmetrics():
    from torchmetrics.classification import MulticlassJaccardIndex
    from torchmetrics.functional.segmentation import mean_iou as function
    from torchmetrics.segmentation import MeanIoU

    predicted, truth = masks(5, (6, 16, 16), 4)
    truth[0], predicted[0], truth[1] = 0, 0, 1
    matrix = confusion_per_image(predicted, truth, 7)
    numbers, others = segment_numbers(matrix), other_definitions(matrix)
    pair = torch.from_numpy(predicted).long(), torch.from_numpy(truth).long()
    averages = {"macro": numbers["mean_iou"], "micro": others["micro_iou"].value}
    averages["weighted"] = numbers["frequency_weighted_iou"]
    for average, ours in averages.items():
        jaccard = MulticlassJaccardIndex(7, average=average, ignore_index=IGNORE)
        assert jaccard(*pair).item() == pytest.approx(ours, abs=1e-6), average
    keep = np.where(truth == IGNORE, 0, truth)  # these functions cannot ignore pixels
    others = other_definitions(confusion_per_image(predicted, keep, 7))
    pair = pair[0], torch.from_numpy(keep).long()
    pooled = MeanIoU(7, input_format="index")(*pair).item()
    assert pooled == pytest.approx(others["mean_iou_over_pairs"].value, abs=1e-6)
    images = function(*pair, num_classes=7, input_format="index").mean().item()
    assert images == pytest.approx(others["mean_iou_over_images"].value, abs=1e-6)


def test_definitions_equal_segmentation_models_pytorch():
    smp = pytest.importorskip("segmentation_models_pytorch")
    predicted, truth = masks(6, (6, 16, 16), 4)
    stats = smp.metrics.get_stats(
        torch.from_numpy(predicted).long(), torch.from_numpy(truth).long(), "multiclass", IGNORE, num_classes=7
    )
    others = other_definitions(confusion_per_image(predicted, truth, 7))
    names = {
        "micro": "micro_iou",
        "macro": "mean_iou_absent_1",
        "micro-imagewise": "micro_iou_over_images",
        "macro-imagewise": "mean_iou_over_images_absent_1",
    }
    for reduction, name in names.items():
        theirs = smp.metrics.iou_score(*stats, reduction=reduction).item()
        assert theirs == pytest.approx(others[name].value, abs=1e-6), reduction


# ---- intervals ----


def test_intervals_have_the_width_of_a_bootstrap_of_many_images():
    matrix = confusion_per_image(*masks(7, (200, 8, 8), 4), 4)
    rng, means, classes = np.random.default_rng(1), [], []
    for _ in range(1000):
        drawn = matrix[rng.integers(0, 200, 200)].sum(0)
        means.append(mean_iou(drawn))
        classes.append(class_iou(drawn))
    low, high = interval(matrix)
    assert low < mean_iou(matrix.sum(0)) < high
    assert high - low == pytest.approx(np.diff(np.quantile(means, [0.025, 0.975]))[0], rel=0.12)
    low, high = class_intervals(matrix)
    np.testing.assert_allclose(high - low, np.diff(np.quantile(classes, [0.025, 0.975], axis=0), axis=0)[0], rtol=0.2)


def test_intervals_accept_counts_and_any_statistic():
    matrix = confusion_per_image(*masks(8, (30, 8, 8), 4), 4)
    low, high = interval(matrix)
    assert isinstance(low, float) and low < segment_numbers(matrix)["mean_iou"] < high
    assert interval(as_counts(matrix)) == (low, high)
    narrow = as_counts(matrix)
    narrow = Counts(*(part.astype(np.uint32) for part in (narrow.hits, narrow.truth, narrow.predicted)))
    assert interval(narrow) == (low, high)
    low, high = interval(matrix, pixel_accuracy)
    assert low < segment_numbers(matrix)["pixel_accuracy"] < high


def test_copies_in_groups_count_once():
    matrix = confusion_per_image(*masks(8, (30, 8, 8), 4), 4)
    copies, groups = np.repeat(matrix, 4, 0), np.repeat(np.arange(30), 4)
    np.testing.assert_allclose(interval(copies, groups=groups), interval(matrix))
    assert effective_images(copies, groups) == pytest.approx(30, rel=0.1)
    low, high = interval(copies)
    assert high - low < 0.6 * np.diff(interval(matrix))[0]
    assert np.isnan(interval(copies, groups=np.repeat(np.arange(5), 24))).all()


def test_intervals_cover_with_20_images_and_with_groups():
    """Images of varying difficulty, some of them in groups of four that are equally difficult."""
    rng = np.random.default_rng(0)
    for size in (1, 4):
        covered, groups = 0, np.repeat(np.arange(20), size)
        for _ in range(200):
            chance = np.repeat(rng.beta(6, 2, 20), size)
            hits = rng.binomial(100, chance)
            matrix = np.zeros((20 * size, 2, 2), dtype=np.int64)
            matrix[:, 0, 0], matrix[:, 0, 1] = hits, 100 - hits
            low, high = interval(matrix, pixel_accuracy, groups if size > 1 else None)
            covered += low <= 0.75 <= high
        assert 182 <= covered <= 198


def test_no_interval_of_few_images():
    few = confusion_per_image(*masks(9, (9, 8, 8), 4), 4)
    assert np.isnan(interval(few)).all() and np.isnan(class_intervals(few)).all()
    ignored = np.concatenate([few, np.zeros_like(few)])  # images without a counted pixel
    assert np.isnan(interval(ignored)).all()
    many = np.repeat(few, 2, 0)
    many[1:, 2], many[1:, :, 2] = 0, 0  # now class 2 occurs only in image 0
    np.testing.assert_array_equal(np.isnan(class_intervals(many)[0]), [False, False, True, False])


def test_intervals_of_many_images_take_less_than_a_second():
    matrix = confusion_per_image(*masks(10, (257, 16, 16), 7), 7)
    many = np.tile(matrix, (20, 1, 1))
    started = time.process_time()
    interval(many)
    assert time.process_time() - started < 1.0


def test_torch_is_not_imported():
    code = "import sys; from sightline.tasks.segment import score; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
