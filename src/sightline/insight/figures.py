"""Figures: confusion matrix, calibration, two-dimensional maps of features, grids of images."""

from collections.abc import Sequence

import numpy as np
import scipy.cluster.hierarchy
import scipy.spatial.distance
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..data.channels import RGB, Channels
from ..stats.metrics import calibration_error, reliability
from .projection import EpochMap
from .style import (
    BLUE,
    INK,
    MUTED,
    class_colors,
    darkened,
    hide_axes,
    legend_above,
    lightened,
    new_figure,
    short,
    styled,
)

MAX_COUNTED = 25
"""Maximum number of classes for which the cells of a confusion matrix show counts."""
MAX_ROWS = 100
"""Maximum number of classes in a confusion matrix, so that row labels are readable."""
MAX_NAMED = 20
"""Maximum number of classes for which a map names every cluster; with more, it highlights HIGHLIGHTED classes."""
HIGHLIGHTED = 12
PANEL_INCHES = 3.5
"""Width of a map in inches; three maps fill the width of the page."""


def class_order(confusion: np.ndarray) -> np.ndarray:
    """Order the classes so that classes that are often confused are neighbors.

    confusion: int64 [K, K]. Returns int64 [K], class indices. Method: hierarchical clustering by average linkage on the
    symmetrized confusion rates, with optimal leaf ordering (Bar-Joseph et al. 2001) for up to 200 classes.
    """
    count = len(confusion)
    rates = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    similarity = rates + rates.T
    np.fill_diagonal(similarity, 0)
    if count < 3 or not similarity.any():
        return np.arange(count)
    distance = 1 - similarity / similarity.max()
    np.fill_diagonal(distance, 0)
    condensed = scipy.spatial.distance.squareform(distance, checks=False)
    tree = scipy.cluster.hierarchy.linkage(condensed, "average", optimal_ordering=count <= 200)
    return scipy.cluster.hierarchy.leaves_list(tree)


def shown_classes(confusion: np.ndarray) -> np.ndarray:
    """Indices of the classes to draw in a confusion matrix [K, K], similar classes adjacent.

    All classes, or the MAX_ROWS classes with the most errors, counted in their row and in their column.
    """
    order = class_order(confusion)
    if len(order) <= MAX_ROWS:
        return order
    errors = confusion.sum(0) + confusion.sum(1) - 2 * np.diag(confusion)
    chosen = np.argsort(-errors, kind="stable")[:MAX_ROWS]
    return order[np.isin(order, chosen)]


@styled
def draw_confusion(confusion: np.ndarray, classes: Sequence[str], last: str = "") -> Figure:
    """Draw a confusion matrix [K, K]; rows: true class, columns: predicted class. Counts may be fractions of images.

    last: title of one more row and column, which stay at the end; the matrix is then [K + 1, K + 1].

    The color of a cell shows its share of the images of its true class. Correct predictions have a blue scale from 0 to
    1; errors have an orange scale from 0 to the largest error, so that rare errors are visible.
    """
    size = len(classes)
    order = shown_classes(confusion[:size, :size])
    order, classes = (np.append(order, size), (*classes, last)) if last else (order, classes)
    count = len(order)
    counts = confusion[np.ix_(order, order)]
    share = counts / np.maximum(confusion.sum(1)[order], 1)[:, None]
    errors = np.where(np.eye(count, dtype=bool), 0, share)
    largest = max(float(errors.max(initial=0)), 0.01)
    norms = (PowerNorm(1, 0, 1), PowerNorm(0.5, 0, largest))
    colors = colormaps["Oranges"](norms[1](errors) * 0.85)
    colors[errors == 0] = (1, 1, 1, 1)
    diagonal = np.arange(count)
    colors[diagonal, diagonal] = colormaps["Blues"](share[diagonal, diagonal] * 0.75)
    figure, axes = matrix_axes(colors, [classes[index] for index in order], "predicted class", "true class")
    if count <= MAX_COUNTED:
        write_counts(axes, counts, colors)
    for label, norm, name, end in zip(("correct", "errors"), norms, ("Blues", "Oranges"), (0.75, 0.85), strict=True):
        scale = LinearSegmentedColormap.from_list(name, colormaps[name](np.linspace(0, end, 256)))
        percent_bar(figure, axes, norm, scale, f"{label}, % of the true class")
    return figure


def matrix_axes(colors: np.ndarray, classes: Sequence[str], columns: str, rows: str) -> tuple[Figure, Axes]:
    """Draw the cells of a matrix of classes; returns the figure and its axes.

    colors: RGBA [K, K, 4]. columns, rows: titles of the axes.
    """
    count = len(classes)
    side = float(np.clip(0.42 * count, 2.6, max(8, 0.12 * count)))
    figure = new_figure(side + 2.2, side + 1.2)
    axes, positions = figure.add_subplot(), np.arange(count)
    axes.imshow(colors, interpolation="nearest")
    size = float(np.clip(72 * side / count * 0.72, 4.5, 9))
    names = [short(name) for name in classes]
    axes.set_xticks(positions, names, rotation=90, fontsize=size)
    axes.set_yticks(positions, names, fontsize=size)
    axes.set(xlabel=columns, ylabel=rows)
    axes.grid(False)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(True, which="minor", color="#eceef0", linewidth=0.4)
    axes.tick_params(which="both", length=0)
    return figure, axes


@styled
def draw_together(together: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw which classes occur in the same images.

    together: int64 [K, K], the number of images that have both classes; on the diagonal, those that have the class. The
    color of a cell shows the share of the images with the class of its row that also have the class of its column.
    """
    order = shown_classes(together)
    counts = together[np.ix_(order, order)]
    share = counts / np.maximum(np.diag(counts), 1)[:, None]
    np.fill_diagonal(share, 0)
    norm = PowerNorm(1, 0, max(float(share.max(initial=0)), 0.01))
    colors = colormaps["Greens"](norm(share) * 0.85)
    colors[np.eye(len(order), dtype=bool)] = colormaps["Greys"](0.15)
    figure, axes = matrix_axes(colors, [classes[index] for index in order], "... that also have", "images with ...")
    if len(order) <= MAX_COUNTED:
        write_counts(axes, counts, colors)
    scale = LinearSegmentedColormap.from_list("Greens", colormaps["Greens"](np.linspace(0, 0.85, 256)))
    percent_bar(figure, axes, norm, scale, "% of the images with the class of the row")
    return figure


def percent_bar(figure: Figure, axes: Axes, norm: PowerNorm, colors: LinearSegmentedColormap, label: str) -> None:
    """Add a color bar for shares from 0 to 1, with ticks in percent."""
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=axes, shrink=0.4, pad=0.02, aspect=18)
    bar.set_label(label, fontsize=8)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    bar.outline.set_visible(False)  # type: ignore[operator]


def write_counts(axes: Axes, counts: np.ndarray, colors: np.ndarray) -> None:
    """Write each nonzero count into its cell, as `in_cell`: white text on dark cells, black on bright ones."""
    dark = colors[..., :3] @ np.array([0.299, 0.587, 0.114]) < 0.55
    size = 8 if len(counts) <= 12 else 6.5
    for row, column in np.argwhere(counts):
        shade = "white" if dark[row, column] else INK
        text = in_cell(float(counts[row, column]))
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=shade)


def in_cell(value: float) -> str:
    """A count with at most four digits, so that it fits into a cell: 0.5, 1234, 12k, 3.4M; fractions with a decimal."""
    if value >= 999_500:
        return f"{value / 1e6:.1f}".removesuffix(".0") + "M"
    return f"{value / 1000:.0f}k" if value >= 9_999.5 else f"{value:.1f}".removesuffix(".0")


@styled
def draw_calibration(confidence: np.ndarray, correct: np.ndarray) -> Figure:
    """Draw a reliability diagram with 15 bins, and a histogram of the confidences.

    confidence: float [N], probability of the predicted class. correct: bool [N].
    """
    bins = reliability(confidence, correct)
    error = calibration_error(confidence, correct)
    figure = new_figure(4.9, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    width = bins.edges[1] - bins.edges[0]
    centers, filled = bins.edges[:-1] + width / 2, bins.count > 0
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)), label="perfect")
    upper.bar(centers[filled], bins.accuracy[filled], width * 0.88, color=BLUE, alpha=0.35, label="model")
    upper.plot(bins.confidence[filled], bins.accuracy[filled], "o", color=BLUE, markersize=4.5, clip_on=False)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"Expected calibration error {100 * error:.1f}%")
    legend_above(upper)
    upper.yaxis.set_major_formatter(PercentFormatter(1))
    lower.bar(centers, bins.count, width * 0.88, color=MUTED, alpha=0.6)
    lower.set(xlabel="confidence", ylabel="predictions")
    lower.xaxis.set_major_formatter(PercentFormatter(1))
    return figure


@styled
def draw_maps(
    points: Sequence[np.ndarray],
    titles: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    hard: Sequence[int] = (),
) -> Figure:
    """Draw scatter plots of the same samples at several epochs, side by side with shared axes.

    points: float [N, 2] for each epoch. titles: one per epoch. labels: class indices int64 [N]. With up to MAX_NAMED
    classes, the name of each class is at the median of its points. With more classes, only the first HIGHLIGHTED of
    `hard` (class indices) are named, and the points of all others have lighter colors.
    """
    count = len(classes)
    named, palette = list(range(count)), class_colors(count)
    if count > MAX_NAMED:
        named = list(hard[:HIGHLIGHTED])
        palette = [lightened(color) for color in palette]
        for color, index in zip(class_colors(len(named)), named, strict=True):
            palette[index] = color
    colors = np.array(palette)[labels]
    front = np.argsort(np.isin(labels, named), kind="stable")
    figure = new_figure(PANEL_INCHES * max(len(points), 1), PANEL_INCHES + 0.6)
    panels = figure.subplots(1, len(points), sharex=True, sharey=True, squeeze=False)[0]
    low, high = square_limits(np.concatenate(points))
    size = float(np.clip(8000 / max(len(labels), 1), 3, 18))
    for axes, positions, title in zip(panels, points, titles, strict=True):
        axes.scatter(*positions[front].T, s=size, c=colors[front], alpha=0.7, linewidths=0)
        axes.set_title(title, fontweight="normal", fontsize=9.5)
        hide_axes(axes)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
        label_clusters(axes, positions, labels, classes, named, palette)
        for spine in axes.spines.values():
            spine.set(visible=True, color="#dfe3e7")
    return figure


def square_limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners [2] of the square around all points, with a margin."""
    low, high = points.min(0), points.max(0)
    half = max(float((high - low).max()) * 0.53, 1e-9)
    return (low + high) / 2 - half, (low + high) / 2 + half


def label_clusters(
    axes: Axes,
    points: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    named: Sequence[int],
    colors: Sequence[str],
) -> None:
    """Write the name of each class in `named` near the median of its points; names are moved so that they do not
    overlap."""
    outline = [patheffects.withStroke(linewidth=2.4, foreground="white", alpha=0.95)]
    present = [index for index in named if (labels == index).any()]
    if not present:
        return
    unit = (axes.get_xlim()[1] - axes.get_xlim()[0]) / (72 * (PANEL_INCHES - 0.2))  # data units per typographic point
    names = [short(classes[index], 18) for index in present]
    medians = np.array([np.median(points[labels == index], axis=0) for index in present])
    centers = without_overlaps(medians, np.array([5.4 * len(name) for name in names]) * unit, 10 * unit)
    for index, name, (x, y) in zip(present, names, centers, strict=True):
        axes.text(x, y, name, color=darkened(colors[index]), fontsize=8.5, fontweight="bold", ha="center", va="center",
                  path_effects=outline, clip_on=False)  # fmt: skip


def without_overlaps(centers: np.ndarray, widths: np.ndarray, height: float, rounds: int = 60) -> np.ndarray:
    """Move the centers [N, 2] of labels vertically until the labels do not overlap; returns the new centers.

    widths: [N], of the labels. height: of every label. rounds: maximum number of passes.
    """
    centers = centers.copy()
    for _ in range(rounds):
        order = np.argsort(centers[:, 1], kind="stable")
        moved = False
        for rank, lower in enumerate(order):
            for upper in order[rank + 1 :]:
                gap = centers[upper, 1] - centers[lower, 1]
                beside = abs(centers[upper, 0] - centers[lower, 0]) >= (widths[upper] + widths[lower]) / 2
                if beside or gap >= height * 0.999:
                    continue
                centers[lower, 1] -= (height - gap) / 2
                centers[upper, 1] += (height - gap) / 2
                moved = True
        if not moved:
            break
    return centers


def map_titles(maps: Sequence[EpochMap], kind: str) -> list[str]:
    """The title of each map: epoch, k-NN accuracy, silhouette and, if `kind` is "pca", the explained variance."""
    titles = []
    for one in maps:
        text = [] if one.knn is None else [f"k-NN accuracy {100 * one.knn:.1f}%"]
        text += [] if one.silhouette is None else [f"silhouette {round(one.silhouette, 2) + 0:.2f}"]
        explained = f", {100 * one.explained:.0f}% of variance explained" if kind == "pca" else ""
        titles.append("\n".join([f"Epoch {one.epoch}{explained}", ", ".join(text)]).rstrip())
    return titles


@styled
def draw_image_grid(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8) -> Figure:
    """Draw images uint8 [3, h, w] in rows of `columns`, each with a caption below."""
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    figure = new_figure(1.25 * columns, (1.15 + 0.16 * lines) * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        hide_axes(axes)
    for axes, image, caption in zip(panels, images, captions, strict=False):
        axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        axes.set_xlabel(caption, fontsize=7, color=INK, labelpad=3)
    return figure


def draw_preview(
    images: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    labels: Sequence[int] | np.ndarray | None,
    classes: Sequence[str],
    channels: Channels = RGB,
) -> Figure:
    """Draw images as the model gets them, float [N, C, H, W], with the normalization undone, above their class names.

    mean, std: of the normalization. labels: class indices int [N], or None for images without labels.
    """
    names = [""] * len(images) if labels is None else [short(classes[label], 16) for label in labels]
    return draw_image_grid(list(denormalized(images, mean, std, channels)), names)


def denormalized(
    images: np.ndarray, mean: Sequence[float], std: Sequence[float], channels: Channels = RGB
) -> np.ndarray:
    """Undo the normalization of float [N, C, H, W]: the three shown channels as uint8 [N, 3, H, W]."""
    scale, shift = (np.asarray(values, dtype=np.float64).reshape(1, -1, 1, 1) for values in (std, mean))
    pixels = np.asarray(images, dtype=np.float64) * scale + shift
    if channels.dtype == "uint8":
        pixels = (255 * pixels.clip(0, 1)).round().astype(np.uint8)
    return channels.composite(pixels * channels.top if channels.dtype == "uint16" else pixels)
