"""Scenes of any size, predicted in overlapping tiles and blended without seams; memory for a few tiles in a row.

A tile's outermost pixels are the worst: the network sees padding there where the scene goes on. So each tile's weight
is zero in a margin along its artificial borders, climbs over the rest of the overlap, and is whole at the scene's own
borders. Where the margin is at least the network's receptive radius, the blend is the prediction of the whole scene.
That also needs a network which does not mind by how much a tile is shifted: one that halves its maps five times is the
same only for shifts by multiples of 32, so keep `tile` and `overlap`, and where it must be exact the scene's sides,
such multiples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ..errors import SightlineError

Forward = Callable[[torch.Tensor], torch.Tensor]
Read = Callable[[int, int, int, int], np.ndarray]
Write = Callable[[int, int, np.ndarray], object]
MOST_CLASSES = 255  # a mask is uint8, and 255 in it means ignored
ROOM = 2**29
"""Bytes for the sums of a row of tiles. Where a scene is too wide for it, it is predicted in strips from top to bottom,
and the tiles where strips meet are predicted twice."""


@dataclass(frozen=True)
class Tiling:
    """How a scene is cut. SightlineError where the sizes do not go together.

    tile: the side of all tiles in pixels, cut to the scene's where that is smaller; the last tile of a row or column
    is shifted inward. overlap: pixels that neighbors share at least. margin: pixels along a tile's artificial borders
    that count for nothing, at most half the overlap; None: a quarter of it. batch: tiles in one forward. room: bytes
    for the sums; what would need more is predicted in strips.
    """

    tile: int
    overlap: int
    margin: int | None = None
    batch: int = 1
    room: int = ROOM

    def __post_init__(self) -> None:
        wrong = ""
        if self.tile < 1 or self.batch < 1:
            wrong = f"tiles of {self.tile} pixels, {self.batch} at a time, are none"
        elif not 0 <= self.overlap < self.tile:
            wrong = f"neighbors that share {self.overlap} of {self.tile} pixels would never get on"
        elif not 0 <= self.faded <= self.overlap // 2:
            wrong = (
                f"a margin of {self.faded} pixels on both sides of {self.overlap} shared ones leaves some to no tile"
            )
        if wrong:
            where = f"tile {self.tile}, overlap {self.overlap}, margin {self.faded}, batch {self.batch}"
            cure = "a tile larger than the overlap, a margin of at most half the overlap"
            raise SightlineError("the scene cannot be tiled", where=where, why=wrong, cure=cure)

    @property
    def faded(self) -> int:
        """The margin in pixels."""
        return self.overlap // 4 if self.margin is None else self.margin


@dataclass(frozen=True)
class Axis:
    """Tiles along one side of a scene. side: pixels of each; starts: their first pixels.

    weights: float32 [tiles, side]; at each pixel of the scene those of all tiles sum to 1.
    """

    side: int
    starts: tuple[int, ...]
    weights: torch.Tensor


def predict_scene(
    forward: Forward,
    read: Read,
    height: int,
    width: int,
    classes: int,
    tiling: Tiling,
    write: Write,
    *,
    softmax: bool = True,
) -> None:
    """The likeliest class of each pixel of a scene, piece by piece: write(top, left, class indices uint8 [h, w]).

    read(top, left, h, w) gives a window of the scene, uint8 [3, h, w]; the other arguments are those of `scene_bands`,
    as is the memory. Each pixel is written once; of equally likely classes the first counts.
    """
    if classes > MOST_CLASSES:
        why = f"class indices are written as 8 bits, of which 255 marks ignored pixels; here are {classes} classes"
        raise SightlineError("too many classes for a mask", why=why, cure=f"merge them into {MOST_CLASSES} or fewer")
    for top, left, probabilities in scene_bands(forward, read, height, width, classes, tiling, softmax=softmax):
        write(top, left, likeliest(probabilities).cpu().numpy())


@torch.inference_mode()
def scene_bands(
    forward: Forward, read: Read, height: int, width: int, classes: int, tiling: Tiling, *, softmax: bool = True
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Blended probabilities of a scene: (top, left, float32 [classes, h, w]) again and again, each pixel once.

    They come from the top to the bottom, over the whole width or, where `tiling.room` is too little for that, in one
    strip beside the other.

    forward: images uint8 [B, 3, h, w] to logits [B, classes, h, w], or to probabilities where `softmax` is False.

    Memory: 4 * classes * min(tile, height) * width bytes for the sums, which lie on the device of forward's results,
    and at most `room` or those of three tiles in a row, and the forward's own. Nothing grows with the scene. A piece is
    a view of the sums: use it before the next one.
    """
    rows, columns = (tiles_along(length, tiling) for length in (height, width))
    for strip in strips_of(columns, tiling.room // (4 * classes * rows.side)):
        yield from strip_bands(forward, read, rows, columns, strip, height, classes, tiling.batch, softmax)


class Strip(NamedTuple):
    """Tiles `first` to `last` along a row, and the columns of pixels for which no others are needed."""

    first: int
    last: int
    left: int
    right: int


def strips_of(columns: Axis, widest: int) -> list[Strip]:
    """As few strips as cover a row of tiles, each at most `widest` pixels wide, or as narrow as tiles allow."""
    starts, side = columns.starts, columns.side
    strips: list[Strip] = []
    while not strips or strips[-1].last < len(starts) - 1:
        left = strips[-1].right if strips else 0
        first = next(place for place, start in enumerate(starts) if start + side > left)
        last = strips[-1].last + 1 if strips else 0
        while last + 1 < len(starts) and starts[last + 1] + side - starts[first] <= widest:
            last += 1
        right = starts[last + 1] if last + 1 < len(starts) else starts[-1] + side
        strips.append(Strip(first, last, left, right))
    return strips


def strip_bands(
    forward: Forward,
    read: Read,
    rows: Axis,
    columns: Axis,
    strip: Strip,
    height: int,
    classes: int,
    batch: int,
    softmax: bool,
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """`scene_bands` of one strip."""
    sums = torch.empty(0)
    origin, stop = columns.starts[strip.first], strip.last + 1
    for number, top in enumerate(rows.starts):
        for first in range(strip.first, stop, batch):
            chosen = slice(first, min(first + batch, stop))
            lefts = columns.starts[chosen]
            windows = np.stack([read(top, left, rows.side, columns.side) for left in lefts])
            assert windows.shape[1:] == (3, rows.side, columns.side), f"a window of shape {windows.shape[1:]}"
            scores = forward(torch.from_numpy(windows)).float()
            assert scores.shape == (len(lefts), classes, rows.side, columns.side), f"scores {tuple(scores.shape)}"
            probabilities = scores.softmax(1) if softmax else scores
            if not len(sums):
                sums = probabilities.new_zeros(classes, rows.side, columns.starts[strip.last] + columns.side - origin)
            across, down = columns.weights[chosen].to(scores.device), rows.weights[number].to(scores.device)
            for left, own, weights in zip(lefts, probabilities, across, strict=True):
                place = slice(left - origin, left - origin + columns.side)
                sums[:, :, place].addcmul_(own, down[:, None] * weights)
        following = rows.starts[number + 1] if number + 1 < len(rows.starts) else height
        done = following - top
        yield top, strip.left, sums[:, :done, strip.left - origin : strip.right - origin]
        move_up(sums, done)


def tiles_along(length: int, tiling: Tiling) -> Axis:
    """The fewest tiles that cover `length` pixels with neighbors sharing at least the overlap, and their weights."""
    side = min(tiling.tile, length)
    last = length - side
    starts = (*range(0, last, tiling.tile - tiling.overlap), last)
    slope = max(tiling.overlap - 2 * tiling.faded, 0.5)
    climb = np.clip((np.arange(side) + 0.5 - tiling.faded) / slope, 0, 1)
    weights, whole = np.empty((len(starts), side)), np.zeros(length)
    for window, start in zip(weights, starts, strict=True):
        rise = climb if start > 0 else np.ones(side)
        fall = climb[::-1] if start < last else np.ones(side)
        window[:] = np.minimum(rise, fall)
        whole[start : start + side] += window
    for window, start in zip(weights, starts, strict=True):
        window /= whole[start : start + side]
    return Axis(side, starts, torch.from_numpy(weights).float())


def move_up(sums: torch.Tensor, done: int) -> None:
    """Drop the first `done` rows of sums [K, h, W]: the others move to the top, zeros follow."""
    kept = sums.shape[1] - done
    for plane in sums:  # one at a time: the rows overlap, and a copy of all would need that much memory again
        plane[:kept] = plane[done:].clone()
        plane[kept:] = 0


def likeliest(scores: torch.Tensor) -> torch.Tensor:
    """argmax over the first axis of scores [K, h, w] as uint8 [h, w]; K to 255.

    On a processor 40 times as fast as torch.argmax, which is not vectorized over an outer axis: the classes come in
    ascending order, so the index of the last one that beat all before it is the greatest such index.
    """
    best, found = scores[0].clone(), torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
    for index in range(1, len(scores)):
        better = (scores[index] > best).view(torch.uint8)
        torch.maximum(found, better * index, out=found)
        torch.maximum(best, scores[index], out=best)
    return found


def mirror(forward: Forward) -> Forward:
    """A forward whose logits [B, K, h, w] are those of the mean probabilities of images and of their mirror images."""
    return averaged(forward, (0, 4))


def dihedral(forward: Forward) -> Forward:
    """A forward whose logits are those of the mean probabilities over the eight flips and quarter turns of the images.

    For pictures taken from above, which have no upright. Images need not be square: turned by 90 degrees, their sides
    swap, so `forward` must take both. Eight times the work of `forward`.
    """
    return averaged(forward, tuple(range(8)))


def averaged(forward: Forward, motions: tuple[int, ...]) -> Forward:
    """The logarithm of the mean, over these motions of the square, of the softmax of forward's logits put back."""

    def mean(images: torch.Tensor) -> torch.Tensor:
        total = put_back(forward(moved(images, motions[0])), motions[0]).float().softmax(1)
        for motion in motions[1:]:
            total += put_back(forward(moved(images, motion)), motion).float().softmax(1)
        return (total / len(motions)).clamp_min_(torch.finfo(total.dtype).tiny).log_()

    return mean


def moved(images: torch.Tensor, motion: int) -> torch.Tensor:
    """Images [B, C, h, w] mirrored left to right where `motion` is 4 or more, then turned motion % 4 quarter turns."""
    return torch.rot90(images.flip(3) if motion >= 4 else images, motion % 4, (2, 3))


def put_back(images: torch.Tensor, motion: int) -> torch.Tensor:
    """The inverse of `moved`."""
    turned = torch.rot90(images, -motion % 4, (2, 3))
    return turned.flip(3) if motion >= 4 else turned
