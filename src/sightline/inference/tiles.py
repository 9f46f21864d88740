"""Predict an image (scene) of any size in overlapping tiles that are blended; only one row of tiles is in memory.

The outermost pixels of a tile are the least accurate, because the network sees padding instead of the rest of the
scene. Therefore the weight of a tile is zero in a margin along those borders that are inside the scene, and increases
linearly over the rest of the overlap. It is one at the borders of the scene.

If the margin is at least the receptive radius of the network, the result equals the prediction of the whole scene. This
also requires a network that is equivariant to the shifts between tiles. With a stride of 32 it is equivariant to
multiples of 32, so `tile`, `overlap` and the sides of the scene must be multiples of 32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import SightlineError

Forward = Callable[[torch.Tensor], torch.Tensor]
Read = Callable[[int, int, int, int], np.ndarray]
Write = Callable[[int, np.ndarray], object]
MOST_CLASSES = 255
"""Largest number of classes, because masks are uint8 and 255 marks ignored pixels."""


@dataclass(frozen=True)
class Tiling:
    """How a scene is divided into tiles, in pixels. Raises SightlineError for an invalid combination.

    tile: side of a tile, limited to the side of the scene; the last tile of a row or column is shifted inward. overlap:
    smallest overlap of adjacent tiles. margin: width of the strip with weight zero along borders inside the scene;
    None: a quarter of the overlap.
    """

    tile: int
    overlap: int
    margin: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.margin_pixels <= self.overlap < self.tile:
            where = f"tile {self.tile}, overlap {self.overlap}, margin {self.margin_pixels}"
            why = "the overlap must be smaller than the tile, and the margin at most half the overlap"
            raise SightlineError("invalid tiling", where=where, why=why, cure="use larger tiles or a smaller overlap")

    @property
    def margin_pixels(self) -> int:
        """The width in pixels of the strip with weight zero."""
        return self.overlap // 4 if self.margin is None else self.margin


@dataclass(frozen=True)
class TileAxis:
    """The tiles along one axis of a scene. side: side of a tile in pixels. starts: the first pixel of each tile.
    weights: float32 [tiles, side]; at each pixel of the scene the weights of all tiles that contain it sum to 1."""

    side: int
    starts: tuple[int, ...]
    weights: torch.Tensor


def predict_scene(
    forward: Forward, read: Read, height: int, width: int, classes: int, tiling: Tiling, write: Write
) -> None:
    """Predict the most probable class of each pixel of a scene, from top to bottom.

    read(top, left, h, w) returns a window of the scene, [C, h, w]. write(top, indices uint8 [h, width]) is called
    once for each band of rows, with class indices. Of equally probable classes the first is chosen. `scene_bands`
    describes the remaining arguments. Raises SightlineError for more than 255 classes.
    """
    if classes > MOST_CLASSES:
        why = f"a mask stores class indices in 8 bits, and 255 marks ignored pixels; there are {classes} classes"
        raise SightlineError(
            "too many classes for a mask", why=why, cure=f"merge classes with --data.merge, to at most {MOST_CLASSES}"
        )
    for top, probabilities in scene_bands(forward, read, height, width, classes, tiling):
        write(top, argmax_classes(probabilities).cpu().numpy())


@torch.inference_mode()
def scene_bands(
    forward: Forward, read: Read, height: int, width: int, classes: int, tiling: Tiling
) -> Iterator[tuple[int, torch.Tensor]]:
    """Predict a scene in bands of rows, from top to bottom: yield (top, blended probabilities float32 [classes, h,
    width]).

    forward: function from images [1, C, h, w] to logits [1, classes, h, w]. A yielded tensor is a view that is
    valid only until the next one. Memory: 4 * classes * min(tile, height) * width bytes on the device of the logits,
    independent of the height.
    """
    rows, columns, sums = tiles_along(height, tiling), tiles_along(width, tiling), torch.empty(0)
    for index, (top, down) in enumerate(zip(rows.starts, rows.weights, strict=True)):
        for left, across in zip(columns.starts, columns.weights, strict=True):
            window = np.require(read(top, left, rows.side, columns.side), requirements="CW")  # torch may write to it
            probabilities = forward(torch.from_numpy(window)[None])[0].float().softmax(0)
            if not len(sums):
                sums = probabilities.new_zeros(classes, rows.side, width)
            weights = down.to(sums.device)[:, None] * across.to(sums.device)
            sums[:, :, left : left + columns.side].addcmul_(probabilities, weights)
        done = (rows.starts[index + 1] if index + 1 < len(rows.starts) else height) - top
        yield top, sums[:, :done]
        move_up(sums, done)


def tiles_along(length: int, tiling: Tiling) -> TileAxis:
    """Divide `length` pixels into the fewest tiles with at least the required overlap, and compute weights."""
    side = min(tiling.tile, length)
    last = length - side
    starts = (*range(0, last, tiling.tile - tiling.overlap), last)
    slope = max(tiling.overlap - 2 * tiling.margin_pixels, 0.5)
    ramp = np.clip((np.arange(side) + 0.5 - tiling.margin_pixels) / slope, 0, 1)
    weights, total = np.empty((len(starts), side)), np.zeros(length)
    for window, start in zip(weights, starts, strict=True):
        window[:] = np.minimum(ramp if start > 0 else 1, ramp[::-1] if start < last else 1)
        total[start : start + side] += window
    for window, start in zip(weights, starts, strict=True):
        window /= total[start : start + side]
    return TileAxis(side, starts, torch.from_numpy(weights).float())


def move_up(sums: torch.Tensor, done: int) -> None:
    """Shift sums [K, h, W] up by `done` rows, in place; the rows at the bottom become zeros."""
    kept = sums.shape[1] - done
    for plane in sums:  # one at a time: source and target overlap, and a copy of all planes would double the memory
        plane[:kept] = plane[done:].clone()
        plane[kept:] = 0


def argmax_classes(scores: torch.Tensor) -> torch.Tensor:
    """The class index with the largest score for each pixel: scores [K, h, w] -> uint8 [h, w], for K up to 255. On a
    CPU it is 40 times as fast as torch.argmax, which is not vectorized over an outer axis."""
    best, found = scores[0].clone(), torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
    for index in range(1, len(scores)):
        better = (scores[index] > best).view(torch.uint8)
        torch.maximum(found, better * index, out=found)
        torch.maximum(best, scores[index], out=best)
    return found


def mirror(forward: Forward) -> Forward:
    """Make a function that averages predictions over images and their mirror images. It returns the logarithm of the
    mean probabilities [B, K, h, w]."""
    return averaged(forward, (0, 4))


def dihedral(forward: Forward) -> Forward:
    """Make a function that averages predictions over the eight flips and quarter turns of the images.

    It returns the logarithm of the mean probabilities [B, K, h, w], and costs eight times as much as `forward`. For
    images taken from above, which have no preferred orientation. Quarter turns exchange height and width, so `forward`
    must accept both shapes.
    """
    return averaged(forward, tuple(range(8)))


def averaged(forward: Forward, motions: tuple[int, ...]) -> Forward:
    """Make a function that averages predictions over the transformations `motions`, which `moved` numbers. It
    returns the logarithm of the mean probabilities [B, K, h, w]."""

    def mean(images: torch.Tensor) -> torch.Tensor:
        total = put_back(forward(moved(images, motions[0])), motions[0]).float().softmax(1)
        for motion in motions[1:]:
            total += put_back(forward(moved(images, motion)), motion).float().softmax(1)
        return (total / len(motions)).clamp_min_(torch.finfo(total.dtype).tiny).log_()

    return mean


def moved(images: torch.Tensor, motion: int) -> torch.Tensor:
    """Mirror images [B, C, h, w] left to right if `motion` is 4 or more, then rotate by motion % 4 quarter turns."""
    return torch.rot90(images.flip(3) if motion >= 4 else images, motion % 4, (2, 3))


def put_back(images: torch.Tensor, motion: int) -> torch.Tensor:
    """Undo `moved`: rotate back, then mirror back."""
    turned = torch.rot90(images, -motion % 4, (2, 3))
    return turned.flip(3) if motion >= 4 else turned
