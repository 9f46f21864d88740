"""Find near copies: candidates by thumbnails of 8 x 8 colors and a k-d tree, then a comparison of 64 x 64 pixels.

The similarity of two images is the correlation of their pixels, which does not depend on brightness and contrast.
Images with little contrast are not compared.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

ALIKE_SMALL, ALIKE = 0.975, 0.95
"""Smallest correlation of two near copies: of their thumbnails, and of their images at SIDE pixels. docs/doctor.md
has the measurements."""
DETAIL = 0.5
"""Smallest correlation of the fine detail of two near copies. Thumbnails lack this detail; without this test,
similar gradients, such as skies, would match."""
SIDE = 64
"""Candidates are compared after they are resized to this height and width in pixels."""
LEAST_CONTRAST = 6.0
"""Images are not compared if the standard deviation of their thumbnail (values 0 to 255) is smaller than this."""
NEIGHBORS = 8
"""For each image, this number of nearest neighbors are candidates. Further copies are found through these."""
DIMENSIONS = 16
"""Number of principal components of the thumbnails that are used in the k-d tree."""
KEPT = 2048
"""Maximum number of images, resized to SIDE pixels, that are kept in memory; 12 kB each."""
MOST = 30_000
"""Maximum number of candidate pairs that are compared, the most similar first. Each takes about a millisecond."""


def candidates(thumbs: np.ndarray) -> np.ndarray:
    """Find pairs of images whose thumbnails have a correlation of at least ALIKE_SMALL, the most similar first.

    thumbs: uint8 [N, D]. Returns indices int64 [P, 2], the smaller first. The projection onto the first principal
    components only shortens distances, so no neighbor within the limit is missed.
    """
    values = thumbs.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    rows = np.flatnonzero(values.std(1) >= LEAST_CONTRAST)
    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    unit = values[rows] / np.linalg.norm(values[rows], axis=1, keepdims=True)
    centered = unit - unit.mean(0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, -DIMENSIONS:]
    points = centered @ axes
    limit = np.sqrt(2 * (1 - ALIKE_SMALL))  # the distance of two unit vectors with this correlation
    near = KDTree(points).query(points, NEIGHBORS + 1, distance_upper_bound=limit, workers=-1)[1]
    first, column = np.nonzero(near < len(rows))
    second = near[first, column]
    pairs = np.unique(np.sort(np.stack([first, second], 1)[first != second], 1), axis=0)
    alike = [unit[part[:, 0]] * unit[part[:, 1]] for part in np.array_split(pairs, len(pairs) // 10_000 + 1)]
    values = np.concatenate([part.sum(1) for part in alike])
    order = np.argsort(-values, kind="stable")
    return rows[pairs[order[values[order] >= ALIKE_SMALL]]]


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of the pixels of two images of equal shape; 0 if one of them is constant."""
    one, two = (image.astype(np.float32).ravel() for image in (first, second))
    one, two = one - one.mean(), two - two.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / size if size else 0.0


def detail(pixels: np.ndarray) -> np.ndarray:
    """Fine detail of an image uint8 [SIDE, SIDE, 3]: the image minus its version at 1/8 of the size; float32."""
    coarse = Image.fromarray(pixels).resize((SIDE // 8, SIDE // 8), Image.Resampling.BOX)
    return pixels.astype(np.float32) - np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def confirmed(pairs: np.ndarray, read: Callable[[int], Image.Image]) -> list[tuple[int, int, float]]:
    """The candidate pairs that are also similar at SIDE pixels: (first index, second index, correlation). read:
    function that opens an image by its index."""

    @lru_cache(KEPT)
    def small(row: int) -> np.ndarray:
        return np.asarray(read(row).resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0))

    found = []
    for first, second in pairs.tolist():
        alike = correlation(small(first), small(second))
        if alike >= ALIKE and correlation(detail(small(first)), detail(small(second))) >= DETAIL:
            found.append((first, second, alike))
    return found


def connected(pairs: Sequence[tuple[int, int, float]]) -> list[list[int]]:
    """Join pairs of near copies to sets: the sorted indices of each connected component of the graph of pairs."""
    if not pairs:
        return []
    rows, ends = np.unique([pair[:2] for pair in pairs], return_inverse=True)
    first, second = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(rows), len(rows)))
    sets: dict[int, list[int]] = {}
    for row, part in zip(rows.tolist(), connected_components(graph, directed=False)[1].tolist(), strict=True):
        sets.setdefault(part, []).append(int(row))
    return list(sets.values())
