"""Figures of masks: class colors, captions compared with scikit-learn, any number and size of images."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import jaccard_score

from sightline.insight import mask_figures
from sightline.insight.style import png
from sightline.stats.segmentation import confusion, mean_iou, pixel_accuracy

CLASSES = ("field $1", "forest", "river", "犬", "x" * 60)
COLORS = np.array([(255, 255, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)], np.uint8)


def sample(seed: int, height: int = 20, width: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image [3, h, w], true mask with some ignored pixels, predicted mask without), random."""
    random = np.random.default_rng([seed, height, width])
    image = random.integers(0, 256, (3, height, width), dtype=np.uint8)
    truth, found = random.integers(0, 5, (2, height, width), dtype=np.uint8)
    found[:, : width // 2] = truth[:, : width // 2]
    truth[: height // 4] = 255
    return image, truth, found


def scores(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(mean IoU, pixel accuracy), as in captions."""
    matrix = confusion(found, truth, len(CLASSES))
    return float(mean_iou(matrix)), float(pixel_accuracy(matrix))


def captions(figure: Figure) -> list[str]:
    return [axes.get_xlabel() for axes in figure.axes]


def shown(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_masks_are_colored_by_class_and_ignored_pixels_by_another_color() -> None:
    mask = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    pixels = mask_figures.colored(mask, COLORS, (1, 2, 3))
    assert pixels.dtype == np.uint8 and np.array_equal(pixels[0], COLORS[:3])
    assert pixels[1].tolist() == [[255, 255, 255], [0, 0, 0], [1, 2, 3]]
    with pytest.raises(AssertionError, match="class 5 of 5 colors"):
        mask_figures.colored(np.array([[5]], np.uint8), COLORS)


def test_only_ignored_pixels_are_hatched() -> None:
    _, truth, _ = sample(0, 40, 40)
    found, flat = mask_figures.hatched(truth, COLORS), mask_figures.colored(truth, COLORS)
    assert np.array_equal(found[truth < 255], flat[truth < 255])
    share = (found[truth == 255] == mask_figures.STRIPE).all(1).mean()
    assert 0.2 < share < 0.6


def test_overlays_blend_image_and_colors_except_for_ignored_pixels() -> None:
    image = np.full((3, 1, 2), 100, np.uint8)
    mask = np.array([[2, 255]], np.uint8)
    assert mask_figures.overlay(image, mask, COLORS, 0.4).tolist() == [[[60, 60, 162], [100, 100, 100]]]
    assert np.array_equal(mask_figures.overlay(image, mask, COLORS, 1.0)[0, 0], COLORS[2])
    assert np.array_equal(mask_figures.overlay(image, mask, COLORS, 0.0), image.transpose(1, 2, 0))


def test_scores_of_an_image_equal_scikit_learn() -> None:
    for seed in range(5):
        _, truth, found = sample(seed)
        kept = truth != 255
        iou, right = scores(found, truth)
        assert iou == pytest.approx(jaccard_score(truth[kept], found[kept], average="macro"))
        assert right == pytest.approx((truth == found)[kept].mean())
    one = np.zeros((4, 4), np.uint8)
    assert scores(one, one) == (1.0, 1.0)  # absent classes do not count
    assert np.isnan(scores(one, one + 255)).all()


def test_a_row_has_the_image_its_true_mask_and_a_mask_of_each_epoch_with_scores() -> None:
    rows = [sample(seed) for seed in range(3)]
    images, truth, found = (np.stack(arrays) for arrays in zip(*rows, strict=True))
    right = np.where(truth == 255, 0, truth)
    figure = mask_figures.draw_masks_over_epochs(
        images, truth, [found, right], [1, 25], COLORS, CLASSES, ["a", "$b", "c\nd"]
    )
    assert png(figure).startswith(b"\x89PNG")
    panels = figure.axes
    assert [axes.get_title() for axes in panels[:4]] == ["image", "true mask", "epoch 1", "epoch 25"]
    assert [axes.get_xlabel() for axes in panels[::4]] == ["a", "$b", "c d"]
    for row, axes in enumerate(panels[::4]):
        assert np.array_equal(shown(axes), images[row].transpose(1, 2, 0))
        assert np.array_equal(shown(panels[4 * row + 2]), mask_figures.colored(found[row], COLORS))
        iou, share = scores(found[row], truth[row])
        assert captions(figure)[4 * row + 2] == f"mIoU {iou:.2f} · accuracy {100 * share:.0f}%"
        assert captions(figure)[4 * row + 3] == "mIoU 1.00 · accuracy 100%"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["field $1", "forest", "river", "犬", "x" * 23 + "…", "ignored"]


def test_images_of_different_sizes_are_drawn_in_one_figure() -> None:
    rows = [sample(0, 20, 30), sample(1, 50, 10), sample(2, 1, 1)]
    images, truth, found = ([row[part] for row in rows] for part in range(3))
    figure = mask_figures.draw_masks_over_epochs(images, truth, [found], [3], COLORS, CLASSES, ["a", "b", "c"])
    assert png(figure).startswith(b"\x89PNG") and shown(figure.axes[3]).shape == (50, 10, 3)


def test_the_worst_images_are_first_and_have_their_most_frequent_error_as_caption() -> None:
    truth = np.zeros((4, 10, 10), np.uint8)
    found = truth.copy()
    for index, wrong in enumerate((1, 60, 20)):
        found[index].flat[:wrong] = 1
    found[1].flat[:5] = 2
    truth[2, 9], truth[3] = 255, 255  # all pixels of the last image are ignored
    images = np.zeros((4, 3, 10, 10), np.uint8)
    figure = mask_figures.draw_errors(images, truth, found, COLORS, CLASSES, ["p", "q", "r", "s"], most=5)
    text = captions(figure)
    assert text[::4] == ["q", "r", "p"]
    assert text[3::4] == [
        "field $1 predicted as\nforest: 55% of pixels",
        "field $1 predicted as\nforest: 22% of pixels",
        "field $1 predicted as\nforest: 1.0% of pixels",
    ]
    orange = (shown(figure.axes[7]) == [209, 102, 27]).all(2)
    assert np.array_equal(orange, (found[2] == 1) & (truth[2] < 255))
    assert len(mask_figures.draw_errors(images, truth, found, COLORS, CLASSES, list("pqrs"), most=2).axes) == 8


def test_figures_without_images() -> None:
    none = np.zeros((0, 8, 8), np.uint8)
    images = np.zeros((0, 3, 8, 8), np.uint8)
    assert png(mask_figures.draw_errors(images, none, none, COLORS, CLASSES, [])).startswith(b"\x89PNG")
    assert png(mask_figures.draw_masks_over_epochs(images, none, [none], [1], COLORS, CLASSES, [])).startswith(
        b"\x89PNG"
    )


def test_class_frequencies_are_sorted_shares() -> None:
    train, val = np.array([10, 700, 0, 290, 0]), np.array([0, 50, 0, 0, 50])
    figure = mask_figures.draw_class_frequencies(train, val, CLASSES, COLORS)
    axes = figure.axes[0]
    assert axes.get_legend_handles_labels()[1] == ["training", "validation"]
    assert [label.get_text() for label in axes.get_yticklabels()][:3] == ["forest", "犬", "field $1"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([0.7, 0.29, 0.01, 0, 0, 0.5, 0, 0, 0, 0.5])
    assert [text.get_text() for text in axes.texts][:4] == ["70%", "29%", "1.0%", "none"]
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("with_intervals", [False, True])
def test_ious_are_sorted_and_absent_classes_are_labeled(with_intervals: bool) -> None:
    ious = np.array([0.5, np.nan, 0.9, 0.0, 1.0])
    intervals = np.stack([ious - 0.1, ious + 0.1], 1).clip(0, 1) if with_intervals else None
    figure = mask_figures.draw_ious(ious, intervals, CLASSES, COLORS, 0.6)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.000", "0.900", "0.500", "0.000", "absent"]
    assert [label.get_text() for label in axes.get_yticklabels()][1:] == ["river", "field $1", "犬", "forest"]
    assert axes.get_legend_handles_labels()[1] == ["mean IoU 0.600"]
    assert png(figure).startswith(b"\x89PNG")
