"""Nearest neighbors of a few images in feature space, after several epochs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .features import unit_rows
from .style import BLUE, ORANGE, hide_axes, new_figure, styled

QUERIES = 12
"""Number of images whose neighbors are shown."""
NEIGHBORS = 4
PANEL = 0.72
"""Side of an image in the figure, in inches."""
GAP = 0.35
"""Width of the gap between two epochs, as a share of a panel."""


def queries(labels: np.ndarray | None, count: int) -> np.ndarray:
    """Choose QUERIES of `count` images, sorted indices int64: of as many classes as possible, at random (seed 0).

    labels: class indices int64 [count], or None.
    """
    order = np.random.default_rng(0).permutation(count)
    if labels is not None:  # the first image of each class in this order, then the second of each, ...
        grouped = np.argsort(labels[order], kind="stable")
        sizes = np.unique(labels, return_counts=True)[1]
        earlier = np.empty(count, np.int64)
        earlier[grouped] = np.concatenate([np.arange(size) for size in sizes])
        order = order[np.argsort(earlier, kind="stable")]
    return np.sort(order[:QUERIES])


def nearest(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The NEIGHBORS nearest other images of each image in `rows` by cosine similarity, the nearest first.

    features: float [M, D]. rows: int64 [Q]. Returns int64 [Q, min(NEIGHBORS, M - 1)].
    """
    unit = unit_rows(features)
    similarity = unit[rows] @ unit.T
    similarity[np.arange(len(rows)), rows] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(NEIGHBORS, len(features) - 1)]


def agreement(found: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> float:
    """The share of the neighbors `found` [Q, K] that have the class of their image."""
    return float((labels[found] == labels[rows][:, None]).mean())


@styled
def draw_neighbors(
    images: np.ndarray,
    rows: np.ndarray,
    found: Sequence[np.ndarray],
    epochs: Sequence[int],
    labels: np.ndarray | None,
) -> Figure:
    """Draw one row per image: the image, and its nearest neighbors after each epoch.

    images: uint8 [M, 3, h, w]. rows: int64 [Q], the images. found: their neighbors int64 [Q, K] after each of `epochs`.
    labels: class indices int64 [M], by which neighbors have a blue frame (same class) or an orange one; None: no frame.
    """
    count = found[0].shape[1]
    widths = [1.0] + ([GAP] + [1.0] * count) * len(epochs)
    figure = new_figure(PANEL * sum(widths) + 0.2, PANEL * len(rows) + 0.3)
    panels = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    starts = [2 + (count + 1) * number for number in range(len(epochs))]
    for axes in panels.ravel():
        hide_axes(axes)
    for line, row in zip(panels, rows, strict=True):
        show(line[0], images[row])
        for start in starts:
            line[start - 1].set_visible(False)
    for start, neighbors in zip(starts, found, strict=True):
        for line, row, others in zip(panels, rows, neighbors, strict=True):
            for axes, other in zip(line[start:], others, strict=False):
                same = labels is not None and labels[other] == labels[row]
                show(axes, images[other], "" if labels is None else BLUE if same else ORANGE)
    panels[0][0].set_title("image", fontweight="normal", fontsize=8.5)
    for start, epoch in zip(starts, epochs, strict=True):
        title = panels[0][start].annotate(
            f"neighbors after epoch {epoch}", (0, 1), (0, 8), "axes fraction", "offset points", fontsize=8.5
        )
        title.set_in_layout(False)  # it is wider than its column
    return figure


def show(axes: Axes, image: np.ndarray, frame: str = "") -> None:
    """Draw an image uint8 [3, h, w]. frame: color of its frame, "" for none."""
    axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    for spine in axes.spines.values():
        spine.set(visible=bool(frame), color=frame or "none", linewidth=2.2)
