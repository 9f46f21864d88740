"""Figures of segmentation masks: predictions over the epochs, images with the most errors, IoU and class frequencies.

Images are uint8 [3, h, w]. True and predicted masks are class indices uint8 [h, w]; true pixels of value 255 are
ignored. Class colors are uint8 [K, 3]. A batch of M images or masks is one array with M as first dimension, or a
sequence of M arrays if their sizes differ.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from ..data.decode.palettes import IGNORE
from ..stats.segmentation import confusion, mean_iou, pixel_accuracy
from .style import BLUE, INK, MUTED, ORANGE, hide_axes, legend_above, new_figure, short, styled

GRAY, STRIPE = (222, 225, 229), (170, 176, 183)
"""Colors of ignored pixels: of the background, and of the stripes that `hatched` draws over it."""
PAGE_INCHES = 10.5
"""Width of the page in inches, equal to three maps drawn by `figures.draw_maps`."""
MAX_PANEL_INCHES = 2.3
EDGE = "#b4bac1"
Arrays = Sequence[np.ndarray] | np.ndarray


def colored(mask: np.ndarray, colors: np.ndarray, ignored_color: Sequence[int] = GRAY) -> np.ndarray:
    """Replace the class indices of a mask uint8 [h, w] by colors; returns uint8 [h, w, 3].

    Ignored pixels get `ignored_color`.
    """
    assert (mask[mask != IGNORE] < len(colors)).all(), f"class {mask[mask != IGNORE].max()} of {len(colors)} colors"
    table = np.empty((256, 3), np.uint8)
    table[:] = ignored_color
    table[: len(colors)] = colors[:IGNORE]
    return table[mask]


def hatched(mask: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Replace the class indices of a mask uint8 [h, w] by colors; returns uint8 [h, w, 3].

    Ignored pixels have diagonal stripes, to distinguish them from gray classes.
    """
    pixels = colored(mask, colors)
    pixels[stripes(mask) & (mask == IGNORE)] = STRIPE
    return pixels


def stripes(mask: np.ndarray) -> np.ndarray:
    """Pattern of diagonal stripes, bool, of the shape of `mask`; about 20 stripes along the longer side."""
    height, width = mask.shape
    period = max(4, max(height, width) // 20)
    return (np.add.outer(np.arange(height), np.arange(width)) % period) < period * 0.4


def overlay(image: np.ndarray, mask: np.ndarray, colors: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Blend an image uint8 [3, h, w] with the colors of its mask: uint8 [h, w, 3]; ignored pixels are unchanged.

    alpha: weight of the mask's colors, 0 to 1.
    """
    pixels = image.transpose(1, 2, 0)
    mixed = pixels * np.float32(1 - alpha) + colored(mask, colors) * np.float32(alpha)
    return np.where((mask == IGNORE)[..., None], pixels, np.rint(mixed).astype(np.uint8))


@styled
def draw_masks_over_epochs(
    images: Arrays,
    truth: Arrays,
    predictions: Sequence[Arrays],
    epochs: Sequence[int],
    colors: np.ndarray,
    classes: Sequence[str],
    names: Sequence[str],
) -> Figure:
    """Draw one row of panels per image: the image, its true mask, and its predicted mask after each epoch with scores.

    images: M images. truth: their M true masks. predictions: for each of `epochs`, M predicted masks. colors: uint8 [K,
    3]. classes: K names. names: M captions of the images.
    """
    titles = ["image", "true mask", *[f"epoch {epoch}" for epoch in epochs]]
    figure, panels = panel_grid(images, len(titles))
    for index, (row, image, true) in enumerate(zip(panels, images, truth, strict=True)):
        show_pixels(row[0], image.transpose(1, 2, 0), short(names[index], 30))
        show_pixels(row[1], hatched(true, colors), "")
        for axes, masks in zip(row[2:], predictions, strict=True):
            show_pixels(axes, hatched(masks[index], colors), score_text(confusion(masks[index], true, len(classes))))
    column_titles(panels, titles)
    class_legend(figure, classes, colors, any((true == IGNORE).any() for true in truth))
    return figure


@styled
def draw_errors(
    images: Arrays,
    truth: Arrays,
    predicted: Arrays,
    colors: np.ndarray,
    classes: Sequence[str],
    names: Sequence[str],
    most: int = 8,
) -> Figure:
    """Draw the `most` images with the lowest pixel accuracy, the lowest first.

    A row shows the image, its true and predicted mask, and its wrong pixels, with the most frequent error as caption.
    Images whose pixels are all ignored are skipped. images, truth, predicted: M each. colors: uint8 [K, 3]. classes: K
    names. names: M captions of the images.
    """
    confusions = [confusion(mask, true, len(classes)) for true, mask in zip(truth, predicted, strict=True)]
    accuracies = pixel_accuracy(np.array(confusions).reshape(-1, len(classes), len(classes)))
    worst = np.argsort(accuracies, kind="stable")[: min(most, np.isfinite(accuracies).sum())]  # NaN comes last
    figure, panels = panel_grid([images[index] for index in worst], 4, lines=2)
    for row, index in zip(panels, worst, strict=True):
        image, true, mask, matrix = images[index], truth[index], predicted[index], confusions[index]
        show_pixels(row[0], image.transpose(1, 2, 0), short(names[index], 30))
        show_pixels(row[1], hatched(true, colors), "")
        show_pixels(row[2], hatched(mask, colors), score_text(matrix))
        show_pixels(row[3], error_map(image, true, mask), most_frequent_error(matrix, classes))
    column_titles(panels, ["image", "true mask", "predicted mask", "errors"])
    wrong = Patch(facecolor=ORANGE, edgecolor=EDGE, linewidth=0.6, label="wrong class")
    class_legend(figure, classes, colors, any((truth[index] == IGNORE).any() for index in worst), [wrong])
    return figure


def error_map(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The image in gray, with wrong pixels in orange and ignored pixels hatched; returns uint8 [h, w, 3].

    image: uint8 [3, h, w]. truth, predicted: class indices uint8 [h, w].
    """
    light = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), image, 1)
    pixels = np.repeat((140 + 0.4 * light)[..., None], 3, 2).astype(np.uint8)
    ignored = truth == IGNORE
    pixels[ignored], pixels[ignored & stripes(truth)] = GRAY, STRIPE
    pixels[(truth != predicted) & ~ignored] = np.rint(255 * np.array(to_rgb(ORANGE)))
    return pixels


def most_frequent_error(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Caption with the most frequent error in one image and its share of the labeled pixels.

    matrix: confusion matrix [K, K]; rows: true class, columns: predicted class.
    """
    errors = matrix * ~np.eye(len(matrix), dtype=bool)
    if not errors.any():
        return "no errors"
    true, predicted = divmod(int(errors.argmax()), len(errors))
    share = percent(errors.max() / matrix.sum())
    return f"{short(classes[true], 16)} predicted as\n{short(classes[predicted], 16)}: {share} of pixels"


def percent(share: float) -> str:
    """A share in percent, rounded to integers; with one decimal below 10 %."""
    return f"{100 * share:.0f}%" if share >= 0.0995 or not share else f"{max(100 * share, 0.1):.1f}%"


def score_text(matrix: np.ndarray) -> str:
    """Mean IoU and pixel accuracy of one image as a caption, from its confusion matrix [K, K]."""
    iou, accuracy = float(mean_iou(matrix)), float(pixel_accuracy(matrix))
    return f"mIoU {iou:.2f} · accuracy {percent(accuracy)}" if iou == iou else "all pixels are ignored"


def panel_grid(images: Arrays, columns: int, lines: int = 1) -> tuple[Figure, np.ndarray]:
    """Create a figure of at most the page's width; returns (figure, axes [len(images), columns]), one row per image.

    lines: number of lines of a caption, for which space is reserved.
    """
    width = min(MAX_PANEL_INCHES, PAGE_INCHES / columns)
    tallest = max((image.shape[1] / image.shape[2] for image in images), default=1.0)
    height = (width - 0.08) * min(max(tallest, 0.3), 2.0) + 0.12 * lines + 0.16
    rows = len(images)
    figure = new_figure(width * columns, height * max(rows, 1) + 0.6)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0))
    if not rows:
        return figure, np.empty((0, columns), dtype=object)
    return figure, figure.subplots(rows, columns, squeeze=False)


def column_titles(panels: np.ndarray, titles: Sequence[str]) -> None:
    """Write a title above each column."""
    for axes, title in zip(panels[0] if len(panels) else (), titles, strict=False):
        axes.set_title(title, fontsize=9, loc="center", pad=4)


def show_pixels(axes: Axes, pixels: np.ndarray, caption: str) -> None:
    """Draw pixels uint8 [h, w, 3] with a caption below and a thin frame, because a class may be white."""
    hide_axes(axes)
    for spine in axes.spines.values():
        spine.set(visible=True, color=EDGE, linewidth=0.6)
    axes.imshow(pixels)
    axes.set_xlabel(caption, fontsize=7.5, color=INK, labelpad=3)


def class_legend(
    figure: Figure, classes: Sequence[str], colors: np.ndarray, ignored: bool, more: Sequence[Patch] = ()
) -> None:
    """Add a legend of the class colors below all panels.

    ignored: whether to add an entry for ignored pixels. more: further entries.
    """
    patches = [
        Patch(facecolor=to_hex(color / 255), edgecolor=EDGE, linewidth=0.6, label=short(name))
        for name, color in zip(classes, colors, strict=True)
    ]
    if ignored:
        gray, stripe = (to_hex(np.array(color) / 255) for color in (GRAY, STRIPE))
        patches.append(Patch(facecolor=gray, edgecolor=stripe, hatch="/////", linewidth=0, label="ignored"))
    patches += more
    letters = max(len(str(patch.get_label())) for patch in patches) + 5
    most = int(np.clip(figure.get_figwidth() * 72 / (4.6 * letters), 1, len(patches)))
    rows = -(-len(patches) // most)
    figure.legend(handles=patches, loc="outside lower center", ncols=-(-len(patches) // rows), handlelength=1.3,
                  handleheight=1.1, columnspacing=1.4)  # fmt: skip


def class_rows(count: int, width: float = 6.4) -> tuple[Figure, Axes, np.ndarray]:
    """Create a figure for one horizontal bar per class, the first class on top.

    Returns (figure, axes, y position of each class, int64 [count]).
    """
    figure = new_figure(width, 0.27 * max(count, 1) + 1.0)
    axes = figure.add_subplot()
    axes.grid(False, axis="y")
    axes.set_ylim(count - 0.4, -0.6)
    return figure, axes, np.arange(count)


def label_rows(axes: Axes, classes: Sequence[str], colors: np.ndarray) -> None:
    """Label the rows with class names, each beside a square in the color of the class."""
    rows = np.arange(len(classes))
    axes.set_yticks(rows, [short(name) for name in classes])
    axes.tick_params(axis="y", length=0, pad=16, labelcolor=INK)
    squares = np.full(len(classes), -0.022)
    axes.scatter(squares, rows, s=52, marker="s", c=colors / 255, edgecolors=EDGE, linewidths=0.6, clip_on=False,
                 transform=axes.get_yaxis_transform())  # fmt: skip


@styled
def draw_class_frequencies(train: np.ndarray, val: np.ndarray, classes: Sequence[str], colors: np.ndarray) -> Figure:
    """Draw the share of each class in the training and validation pixels, the most frequent class first.

    train, val: number of pixels of each class, int64 [K].
    """
    shares = [counts / max(int(counts.sum()), 1) for counts in (train, val)]
    order = np.argsort(-shares[0], kind="stable")
    figure, axes, rows = class_rows(len(classes))
    top = max(float(np.max(shares, initial=0)), 1e-6)
    for share, shift, color, label in zip(shares, (-0.2, 0.2), (BLUE, ORANGE), ("training", "validation"), strict=True):
        axes.barh(rows + shift, share[order], 0.36, color=color, alpha=0.85, label=label)
        for row, value in zip(rows, share[order], strict=True):
            text = percent(value) if value else "none"
            axes.text(value + 0.008 * top, row + shift, text, va="center", fontsize=6.5, color=MUTED)
    axes.set(xlim=(0, 1.09 * top), xlabel="share of labeled pixels")
    axes.set_title("Class frequencies")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0 if top > 0.05 else None))
    label_rows(axes, [classes[index] for index in order], colors[order])
    legend_above(axes)
    return figure


@styled
def draw_ious(
    ious: np.ndarray,
    intervals: np.ndarray | None,
    classes: Sequence[str],
    colors: np.ndarray,
    mean: float | None = None,
) -> Figure:
    """Draw the IoU of each class, the highest first, with confidence intervals.

    ious: float [K], NaN for classes that do not occur. intervals: float [K, 2], low and high. mean: mean IoU, drawn as
    a line.
    """
    order = np.argsort(-ious, kind="stable")  # NaN comes last
    figure, axes, rows = class_rows(len(classes))
    values = np.nan_to_num(ious[order])
    axes.barh(rows, values, 0.62, color=BLUE, alpha=0.35)
    if intervals is not None:
        low, high = intervals[order].T
        axes.hlines(rows, low, high, color=BLUE, linewidth=1.6)
    axes.plot(values[np.isfinite(ious[order])], rows[np.isfinite(ious[order])], "o", color=BLUE, markersize=4.5)
    ends = values if intervals is None else np.fmax(values, intervals[order, 1])
    for row, end, value in zip(rows, ends, ious[order], strict=True):
        text = f"{value:.3f}" if np.isfinite(value) else "absent"
        axes.text(end + 0.015, row, text, va="center", fontsize=7.5, color=INK if np.isfinite(value) else MUTED)
    if mean is not None:
        axes.axvline(mean, color=INK, linewidth=0.9, linestyle=(0, (3, 2)), label=f"mean IoU {mean:.3f}", zorder=1.5)
    axes.set(xlim=(0, 1.08), xticks=np.arange(0, 1.01, 0.2), xlabel="intersection over union")
    axes.set_title("IoU of each class")
    label_rows(axes, [classes[index] for index in order], colors[order])
    legend_above(axes)
    return figure
