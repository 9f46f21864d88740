"""Near-duplicates: candidates by thumbnails of 8 x 8 colors and a k-d tree, then a look at 64 x 64 pixels.

Two pictures are compared by the correlation of their pixels, so that brighter, darker or paler copies are found too.
A plain or nearly plain picture has no structure to compare and takes no part.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

ALIKE_SMALL, ALIKE = 0.975, 0.95
"""Correlations of two thumbnails, and of two pictures at SIDE pixels, from which on they count as near copies;
docs/doctor.md says what was measured."""
DETAIL = 0.5
"""The least correlation of what 8 x 8 colors do not show, so that two skies, or two like gradients, are not one."""
SIDE = 64
LEAST_CONTRAST = 6.0
"""Standard deviation of a thumbnail, of 255, below which it is too plain to be compared."""
NEIGHBORS = 8
"""So many candidates of each picture are looked at; copies of one picture are linked through one another."""
DIMENSIONS = 16
KEPT = 2048
"""Pictures of SIDE pixels in memory, 12 kB each."""
MOST = 30_000
"""Candidates that are looked at, the most alike first: each takes about a millisecond."""


def candidates(thumbs: np.ndarray) -> np.ndarray:
    """Rows int64 [P, 2], first below second, of thumbnails uint8 [N, D] that correlate by ALIKE_SMALL or more, the most
    alike first.

    In the first principal components no distance grows, so that none of the nearest is missed there.
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
    limit = np.sqrt(2 * (1 - ALIKE_SMALL))  # the distance of two unit vectors of that correlation
    near = KDTree(points).query(points, NEIGHBORS + 1, distance_upper_bound=limit, workers=-1)[1]
    first, place = np.nonzero(near < len(rows))
    second = near[first, place]
    pairs = np.unique(np.sort(np.stack([first, second], 1)[first != second], 1), axis=0)
    alike = [unit[part[:, 0]] * unit[part[:, 1]] for part in np.array_split(pairs, len(pairs) // 10_000 + 1)]
    values = np.concatenate([part.sum(1) for part in alike])
    order = np.argsort(-values, kind="stable")
    return rows[pairs[order[values[order] >= ALIKE_SMALL]]]


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Of two pictures of equal shape: 1 where they are the same up to brightness and contrast."""
    one, two = (image.astype(np.float32).ravel() for image in (first, second))
    one, two = one - one.mean(), two - two.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / size if size else 0.0


def detail(pixels: np.ndarray) -> np.ndarray:
    """A picture uint8 [SIDE, SIDE, 3] less what an eighth of its side shows, float32."""
    coarse = Image.fromarray(pixels).resize((SIDE // 8, SIDE // 8), Image.Resampling.BOX)
    return pixels.astype(np.float32) - np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def confirmed(pairs: np.ndarray, read: Callable[[int], Image.Image]) -> list[tuple[int, int, float]]:
    """The pairs that are alike at SIDE pixels too, with their correlation. read: the picture of a row."""
    seen: OrderedDict[int, np.ndarray] = OrderedDict()

    def small(row: int) -> np.ndarray:
        if row in seen:
            seen.move_to_end(row)
            return seen[row]
        image = read(row).resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
        seen[row] = np.asarray(image)
        if len(seen) > KEPT:
            seen.popitem(last=False)
        return seen[row]

    found = []
    for first, second in pairs.tolist():
        alike = correlation(small(first), small(second))
        if alike >= ALIKE and correlation(detail(small(first)), detail(small(second))) >= DETAIL:
            found.append((first, second, alike))
    return found


def connected(pairs: Sequence[tuple[int, int, float]]) -> list[list[int]]:
    """The rows of each set that pairs link, in order."""
    if not pairs:
        return []
    ends = np.array([pair[:2] for pair in pairs])
    rows, places = np.unique(ends, return_inverse=True)
    first, second = places.reshape(-1, 2).T
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(rows), len(rows)))
    count, parts = connected_components(graph, directed=False)
    members: list[list[int]] = [[] for _ in range(count)]
    for row, part in zip(rows.tolist(), parts.tolist(), strict=True):
        members[part].append(row)
    return members
