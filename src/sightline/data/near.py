"""Find near copies: candidates by thumbnails of 8 x 8 colors and a k-d tree, then a comparison of 64 x 64 pixels.

The similarity of two images is the correlation of their pixels, which does not depend on brightness and contrast.
Images with little contrast are not compared.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from PIL import Image
from scipy import fft
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from .types import Decoded

ALIKE_SMALL, ALIKE = 0.975, 0.95
"""Smallest correlation of two near copies: of their thumbnails, and of their images at SIDE pixels. docs/doctor.md
has the measurements."""
DETAIL = 0.5
"""Smallest correlation of the fine detail of two near copies. Thumbnails lack this detail; without this test,
similar gradients, such as skies, would match."""
THUMB = 8
"""Height and width of thumbnails in pixels."""
SIDE = 64
"""Candidates are compared after they are resized to this height and width in pixels."""
LEAST_CONTRAST = 6.0
"""Images are not compared if the standard deviation of their thumbnail (values 0 to 255) is smaller than this."""
NEIGHBORS = 8
"""For each image, this number of nearest neighbors are candidates. Further copies are found through these."""
DIMENSIONS = 16
"""Number of principal components of the thumbnails that are used in the k-d tree."""
LEAST_SIDE = 16
"""Images with a smaller side, in pixels, are not compared: near copies look like images of similar objects."""
CROPS = tuple(range(SIDE, SIDE // 2 - 1, -3))
"""Sides of the crops that are compared, in pixels of an image with SIDE pixels."""
KEPT = 1024
"""Maximum number of images, resized to SIDE pixels, that are kept in memory; 98 kB each."""

COMPOSITE_SIDE = 128
"""Side in pixels to which images of other channels than RGB are subsampled."""


def thumbnail(image: Image.Image) -> bytes:
    """The bytes of an image that is reduced to THUMB x THUMB pixels, uint8 [THUMB, THUMB, 3]."""
    return image.resize((THUMB, THUMB), Image.Resampling.BOX).tobytes()


def candidates(thumbs: np.ndarray, start: int = 0) -> np.ndarray:
    """Find pairs of images whose thumbnails have a correlation of at least ALIKE_SMALL, the most similar first.

    thumbs: uint8 [N, D]. start: if positive, only pairs of an image before this index and one from it on. Returns
    indices int64 [P, 2], the smaller first. The projection onto the first principal components only shortens
    distances, so no neighbor within the limit is missed.
    """
    values = thumbs.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    rows = np.flatnonzero(values.std(1) >= LEAST_CONTRAST)
    split = int(np.searchsorted(rows, start))
    if len(rows) < 2 or (start and not 0 < split < len(rows)):
        return np.empty((0, 2), np.int64)
    unit = values[rows] / np.linalg.norm(values[rows], axis=1, keepdims=True)
    centered = unit - unit.mean(0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, -DIMENSIONS:]
    points = centered @ axes
    limit = np.sqrt(2 * (1 - ALIKE_SMALL))  # the distance of two unit vectors with this correlation
    tree = KDTree(points[:split] if start else points)
    near = tree.query(points[split:], NEIGHBORS + 1, distance_upper_bound=limit, workers=-1)[1]
    first, column = np.nonzero(near < tree.n)
    second, first = near[first, column], first + split
    pairs = np.unique(np.sort(np.stack([first, second], 1)[first != second], 1), axis=0)
    alike = [unit[part[:, 0]] * unit[part[:, 1]] for part in np.array_split(pairs, len(pairs) // 10_000 + 1)]
    values = np.concatenate([part.sum(1) for part in alike])
    order = np.argsort(-values, kind="stable")
    return rows[pairs[order[values[order] >= ALIKE_SMALL]]]


def standardized(image: np.ndarray) -> np.ndarray:
    """The pixels of an image as a float32 vector with mean 0 and length 1; zeros if the image is constant. The product
    of two such vectors is the correlation of the images."""
    values = image.astype(np.float32).ravel()
    values -= values.mean()
    size = float(np.linalg.norm(values))
    return values / size if size else values


def detail(pixels: np.ndarray) -> np.ndarray:
    """Fine detail of an image uint8 [SIDE, SIDE, 3]: the image minus its version at 1/8 of the size; float32."""
    coarse = Image.fromarray(pixels).resize((SIDE // 8, SIDE // 8), Image.Resampling.BOX)
    return pixels.astype(np.float32) - np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def confirmed(pairs: np.ndarray, read: Callable[[int], Image.Image]) -> list[tuple[int, int, float]]:
    """The candidate pairs that are also similar at SIDE pixels: (first index, second index, correlation), sorted by
    index. read: function that opens an image by its index."""

    @lru_cache(KEPT)
    def vectors(row: int) -> tuple[np.ndarray, np.ndarray]:
        small = np.asarray(read(row).resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0))
        return standardized(small), standardized(detail(small))

    found = []
    for first, second in pairs[np.lexsort(pairs.T[::-1])].tolist():  # sorted, so that each image is read about once
        alike, alike_detail = (float(one @ two) for one, two in zip(vectors(first), vectors(second), strict=True))
        if alike >= ALIKE and alike_detail >= DETAIL:
            found.append((first, second, alike))
    return found


@dataclass(frozen=True, eq=False)
class Searched:
    """An image prepared for `best_crop`, in 1.2 MB.

    pixels: uint8 [SIDE, SIDE, 3]. spectrum: complex64 [3, SIDE, SIDE / 2 + 1], of the image minus its mean. parts:
    complex64 [2, sides, 3, SIDE, SIDE / 2 + 1], conjugate spectra of the image and its mirror image, reduced to the
    sides CROPS. lengths: for each of these sides, of the image's parts at all positions.
    """

    pixels: np.ndarray
    spectrum: np.ndarray
    parts: np.ndarray
    lengths: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, pixels: np.ndarray) -> Self:
        """Prepare an image uint8 [SIDE, SIDE, 3]."""
        values = pixels.astype(np.float32).transpose(2, 0, 1) - pixels.mean(dtype=np.float32)
        sums = [np.pad(each.sum(0, np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1) for each in (values, values**2)]
        parts = np.zeros((2, len(CROPS), 3, SIDE, SIDE), np.float32)
        lengths = []
        for index, side in enumerate(CROPS):
            small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX)
            part = standardized(np.asarray(small)).reshape(side, side, 3).transpose(2, 0, 1)
            parts[0, index, :, :side, :side], parts[1, index, :, :side, :side] = part, part[:, :, ::-1]
            end = SIDE - side + 1
            total, squares = (s[side:, side:] - s[:end, side:] - s[side:, :end] + s[:end, :end] for s in sums)
            lengths.append(np.sqrt(np.maximum(squares - total**2 / (3 * side * side), 1.0)))
        return cls(pixels, fft.rfft2(values), fft.rfft2(parts).conj(), tuple(lengths))


def best_crop(first: Searched, second: Searched) -> tuple[float, float]:
    """(correlation, correlation of the fine detail) of `second` and the crop of `first` that is most similar to it or
    to its mirror image. The crops have the sides CROPS, at all positions."""
    spectra = np.einsum("cyx,mscyx->msyx", first.spectrum, second.parts)
    products = fft.irfft2(spectra, (SIDE, SIDE))
    best, found = 0.0, (0, 0, SIDE, 0)
    for index, (side, lengths) in enumerate(zip(CROPS, first.lengths, strict=True)):
        end = SIDE - side + 1
        for mirrored, alike in enumerate(products[:, index, :end, :end] / lengths):
            if alike.max() > best:
                best = float(alike.max())
                found = (*divmod(int(alike.argmax()), end), side, mirrored)
    top, left, side, mirrored = found
    box = (left, top, left + side, top + side)
    crop = Image.fromarray(first.pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)
    other = second.pixels[:, ::-1] if mirrored else second.pixels
    return best, float(standardized(detail(np.asarray(crop))) @ standardized(detail(np.ascontiguousarray(other))))


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


def image_at(images: np.ndarray, index: int) -> Image.Image:
    """Image `index` of an array uint8 [N, 3, H, W]."""
    return Image.fromarray(np.ascontiguousarray(images[index].transpose(1, 2, 0)))


def groups_of_near_copies(images: np.ndarray) -> np.ndarray:
    """Group identical images and near copies: int64 [N], the index of each image's group, from 0 in the order of the
    first images. An image without copies is a group of its own. images: uint8 [N, 3, H, W].

    Images that are linked by a chain of near copies, such as the frames of a film, are one group. Images with a side
    below LEAST_SIDE are only grouped if they are identical.
    """
    firsts: dict[bytes, int] = {}
    same = [firsts.setdefault(hashlib.sha256(image.tobytes()).digest(), row) for row, image in enumerate(images)]
    rows, whose = np.unique(same, return_inverse=True)
    links: list[tuple[int, int, float]] = []
    if len(rows) > 1 and min(images.shape[2:]) >= LEAST_SIDE:
        thumbs = np.frombuffer(b"".join(thumbnail(image_at(images, row)) for row in rows), np.uint8)
        links = confirmed(candidates(thumbs.reshape(len(rows), -1)), lambda row: image_at(images, rows[row]))
    groups = np.arange(len(rows))
    for part in connected(links):
        groups[part] = part[0]
    return np.unique(groups, return_inverse=True)[1][whose]


def small_composites(decoded: Decoded) -> np.ndarray:
    """The images of a split as uint8 [N, 3, H, W]. Those of other channels than 8-bit RGB are subsampled to about
    COMPOSITE_SIDE pixels."""
    if decoded.channels.plain:
        return decoded.images
    step = max(1, max(decoded.images.shape[2:]) // COMPOSITE_SIDE)
    return np.stack([decoded.channels.composite(image[:, ::step, ::step]) for image in decoded.images])
