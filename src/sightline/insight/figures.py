"""Figures of arrays: confusion matrix, calibration, maps of features, sheets of images."""

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

NUMBERED_CELLS = 25  # classes up to which cells show their counts
LARGEST_MATRIX = 100  # readable rows
LABELED_CLASSES = 20  # classes up to which every cluster is named
PANEL_INCHES = 3.5  # three panels fill the page's width
HIGHLIGHTED = 12  # of more classes, how many are named and drawn in full color


def class_order(confusion: np.ndarray) -> np.ndarray:
    """Order of classes [K] that places confused classes next to each other.

    Average linkage on the symmetrized share of confusions, with optimal leaf ordering (Bar-Joseph et al. 2001).
    """
    count = len(confusion)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    alike = share + share.T
    np.fill_diagonal(alike, 0)
    if count < 3 or not alike.any():
        return np.arange(count)
    distance = 1 - alike / alike.max()
    np.fill_diagonal(distance, 0)
    condensed = scipy.spatial.distance.squareform(distance, checks=False)
    tree = scipy.cluster.hierarchy.linkage(condensed, "average", optimal_ordering=count <= 200)
    return scipy.cluster.hierarchy.leaves_list(tree)


def shown_classes(confusion: np.ndarray) -> np.ndarray:
    """The classes in the matrix, ordered: all, or the LARGEST_MATRIX with most errors as truth or prediction."""
    order = class_order(confusion)
    if len(order) <= LARGEST_MATRIX:
        return order
    mistakes = confusion.sum(0) + confusion.sum(1) - 2 * np.diag(confusion)
    chosen = np.argsort(-mistakes, kind="stable")[:LARGEST_MATRIX]
    return order[np.isin(order, chosen)]


@styled
def draw_confusion(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix int64 [K, K], rows the truth.

    Correct predictions have a blue scale. Errors have an orange one that ends at the largest, so that rare ones show.
    """
    order = shown_classes(confusion)
    count = len(order)
    counts = confusion[np.ix_(order, order)]
    share = counts / np.maximum(confusion.sum(1)[order], 1)[:, None]
    mistakes = np.where(np.eye(count, dtype=bool), 0, share)
    worst = max(float(mistakes.max(initial=0)), 0.01)
    norms = (PowerNorm(1, 0, 1), PowerNorm(0.5, 0, worst))
    colors = colormaps["Oranges"](norms[1](mistakes) * 0.85)
    colors[mistakes == 0] = (1, 1, 1, 1)
    diagonal = np.arange(count)
    colors[diagonal, diagonal] = colormaps["Blues"](share[diagonal, diagonal] * 0.75)
    side = float(np.clip(0.42 * count, 2.6, max(8, 0.12 * count)))
    figure = new_figure(side + 2.2, side + 1.2)
    axes = figure.add_subplot()
    axes.imshow(colors, interpolation="nearest")
    size = float(np.clip(72 * side / count * 0.72, 4.5, 9))
    names = [short(classes[index]) for index in order]
    axes.set_xticks(diagonal, names, rotation=90, fontsize=size)
    axes.set_yticks(diagonal, names, fontsize=size)
    axes.set(xlabel="prediction", ylabel="truth")
    axes.grid(False)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(True, which="minor", color="#eceef0", linewidth=0.4)
    axes.tick_params(which="both", length=0)
    if count <= NUMBERED_CELLS:
        write_counts(axes, counts, colors)
    for label, norm, name, reach in zip(("right", "mistaken"), norms, ("Blues", "Oranges"), (0.75, 0.85), strict=True):
        scale = LinearSegmentedColormap.from_list(name, colormaps[name](np.linspace(0, reach, 256)))
        bar = figure.colorbar(ScalarMappable(norm, scale), ax=axes, shrink=0.4, pad=0.02, aspect=18)
        bar.set_label(f"{label}, share of the true class", fontsize=8)
        bar.ax.yaxis.set_major_locator(MaxNLocator(4))
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def write_counts(axes: Axes, counts: np.ndarray, colors: np.ndarray) -> None:
    """Write each nonzero count into its cell, in black or white by the cell's brightness."""
    dark = colors[..., :3] @ np.array([0.299, 0.587, 0.114]) < 0.55
    size = 8 if len(counts) <= 12 else 6.5
    for row, column in np.argwhere(counts):
        shade = "white" if dark[row, column] else INK
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=size, color=shade)


@styled
def draw_calibration(confidence: np.ndarray, correct: np.ndarray) -> Figure:
    """Draw accuracy against confidence in 15 bins, and the number of predictions in each; both arrays [N]."""
    bins = reliability(confidence, correct)
    error = calibration_error(confidence, correct)
    figure = new_figure(4.9, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    width = bins.edges[1] - bins.edges[0]
    middle, filled = bins.edges[:-1] + width / 2, bins.count > 0
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)), label="perfect")
    upper.bar(middle[filled], bins.accuracy[filled], width * 0.88, color=BLUE, alpha=0.35, label="this model")
    upper.plot(bins.confidence[filled], bins.accuracy[filled], "o", color=BLUE, markersize=4.5, clip_on=False)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"Calibration error {100 * error:.1f} points")
    legend_above(upper)
    upper.yaxis.set_major_formatter(PercentFormatter(1))
    lower.bar(middle, bins.count, width * 0.88, color=MUTED, alpha=0.6)
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
    """Draw the same samples at several epochs on shared axes. points: [N, 2] each; labels: int64 [N].

    Up to LABELED_CLASSES classes, every cluster is named at its median; of more, the first HIGHLIGHTED of `hard` are
    named and the others are drawn faintly.
    """
    count = len(classes)
    named, palette = list(range(count)), class_colors(count)
    if count > LABELED_CLASSES:
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
        name_clusters(axes, positions, labels, classes, named, palette)
        for spine in axes.spines.values():
            spine.set(visible=True, color="#dfe3e7")
    return figure


def square_limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners [2] of the square around all points, with a margin."""
    low, high = points.min(0), points.max(0)
    half = max(float((high - low).max()) * 0.53, 1e-9)
    return (low + high) / 2 - half, (low + high) / 2 + half


def name_clusters(
    axes: Axes,
    points: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    named: Sequence[int],
    colors: Sequence[str],
) -> None:
    """Write class names at the medians of their points, in their colors with a white outline, without overlaps."""
    rim = [patheffects.withStroke(linewidth=2.4, foreground="white", alpha=0.95)]
    seen = [index for index in named if (labels == index).any()]
    if not seen:
        return
    unit = (axes.get_xlim()[1] - axes.get_xlim()[0]) / (72 * (PANEL_INCHES - 0.2))  # data units per typographic point
    names = [short(classes[index], 18) for index in seen]
    medians = np.array([np.median(points[labels == index], axis=0) for index in seen])
    centers = moved_apart(medians, np.array([5.4 * len(name) for name in names]) * unit, 10 * unit)
    for index, name, (x, y) in zip(seen, names, centers, strict=True):
        axes.text(x, y, name, color=darkened(colors[index]), fontsize=8.5, fontweight="bold", ha="center", va="center",
                  path_effects=rim, clip_on=False)  # fmt: skip


def moved_apart(centers: np.ndarray, widths: np.ndarray, height: float, rounds: int = 60) -> np.ndarray:
    """Centers [N, 2] of labels, moved vertically until boxes of these widths [N] and this height do not overlap."""
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
    """A title for each panel: the epoch, and the measures of its features."""
    titles = []
    for one in maps:
        text = [] if one.knn is None else [f"k-NN {100 * one.knn:.1f}%"]
        text += [] if one.silhouette is None else [f"silhouette {round(one.silhouette, 2) + 0:.2f}"]
        shown = f", {100 * one.explained:.0f}% of the variance" if kind == "pca" else ""
        titles.append("\n".join([f"Epoch {one.epoch}{shown}", ", ".join(text)]).rstrip())
    return titles


@styled
def draw_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8) -> Figure:
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
