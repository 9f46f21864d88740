"""What annotation files say about images, and class masks drawn from their shapes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Runs(NamedTuple):
    """A run-length encoded part of an image. counts: int64, lengths of alternating runs outside and inside the shape,
    along the columns or the rows of the part. box: left, top, width and height of the part in pixels."""

    counts: np.ndarray
    box: tuple[int, int, int, int]
    by_columns: bool = False


class Shape(NamedTuple):
    """A labeled area: the union of polygons, float64 [corners, 2] with x and y, or runs of pixels."""

    label: str
    polygons: tuple[np.ndarray, ...] = ()
    runs: Runs | None = None


class AnnotatedImage(NamedTuple):
    """An image in an annotation file.

    file: its path as the file says it. where: its position in the file, for messages. tags: labels of the whole image.
    objects: labels of its objects of any kind, in order. size: width and height in the file; None if the file has none.
    relative: whether coordinates are shares of width and height instead of pixels. split: "" if the file has none.
    """

    file: str
    where: str
    tags: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    shapes: tuple[Shape, ...] = ()
    size: tuple[int, int] | None = None
    relative: bool = False
    split: str = ""


@dataclass
class FileContent:
    """The content of an annotation file. classes: in the order of the file; empty if it does not list them. unused:
    numbers of objects that are not areas, by kind."""

    classes: tuple[str, ...] = ()
    images: list[AnnotatedImage] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)


def runs_of(mask: np.ndarray, left: int = 0, top: int = 0, by_columns: bool = False) -> Runs:
    """Encode a mask, bool [h, w], whose upper left pixel is at (left, top) of an image."""
    flat = mask.ravel("F" if by_columns else "C")
    edges = np.flatnonzero(np.diff(flat, prepend=False))  # the first run is outside, with length 0 if needed
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return Runs(counts.astype(np.int64), (left, top, mask.shape[1], mask.shape[0]), by_columns)


def filled_polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels whose centers are inside a polygon, bool [height, width], by the even-odd rule.

    points: float [corners, 2]; the upper left pixel covers x and y from 0 to 1, so its center is (0.5, 0.5). Parts
    outside of the image are cut off. (Pillow's polygon drawing rounds corners to pixels and adds the outline.)
    """
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, 0).T
    first, last = (np.ceil(np.clip(edge(y, next_y) - 0.5, 0, height)).astype(int) for edge in (np.minimum, np.maximum))
    spans = last - first  # number of rows whose centers an edge crosses
    edges = np.repeat(np.arange(len(points)), spans)
    rows = np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans - first, spans)
    slopes = (next_x - x)[edges] / (next_y - y)[edges]
    columns = np.ceil(np.clip(x[edges] + (rows + 0.5 - y[edges]) * slopes - 0.5, 0, width)).astype(int)
    crossings = np.zeros((height, width + 1), bool)
    np.logical_xor.at(crossings, (rows, columns), True)
    return np.logical_xor.accumulate(crossings, axis=1)[:, :width]


def area_of(shape: Shape, height: int, width: int) -> tuple[slice, slice, np.ndarray]:
    """The pixels of a shape in an image: (rows, columns, bool [rows, columns]) of a part that contains it."""
    if shape.runs is not None:
        counts, (left, top, w, h), by_columns = shape.runs
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        part = flat.reshape(w, h).T if by_columns else flat.reshape(h, w)
        return slice(top, top + h), slice(left, left + w), part
    every = np.concatenate(shape.polygons)
    (left, top), (right, bottom) = (np.clip(corner, 0, (width, height)) for corner in (every.min(0), every.max(0)))
    left, top, right, bottom = int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))
    part = np.zeros((bottom - top, right - left), bool)
    for points in shape.polygons:
        part |= filled_polygon(points - (left, top), *part.shape)
    return slice(top, bottom), slice(left, right), part


def rasterize(
    shapes: Sequence[Shape],
    values: Mapping[str, int],
    size: tuple[int, int],
    background: int,
    smaller_on_top: bool = False,
) -> tuple[np.ndarray, int]:
    """Draw shapes to a class mask: (uint8 [height, width], number of pixels in shapes of different classes).

    values: the value of each label. size: height and width. background: value of the pixels in no shape. A pixel in
    several shapes belongs to the last one; if `smaller_on_top`, to the one with the fewest pixels.
    """
    mask, drawn, overlap = np.full(size, background, np.uint8), np.zeros(size, bool), np.zeros(size, bool)
    areas = [(values[shape.label], *area_of(shape, *size)) for shape in shapes]
    if smaller_on_top:
        areas.sort(key=lambda area: -int(area[3].sum()))
    for value, rows, columns, part in areas:
        overlap[rows, columns] |= part & drawn[rows, columns] & (mask[rows, columns] != value)
        drawn[rows, columns] |= part
        mask[rows, columns][part] = value
    return mask, int(overlap.sum())
