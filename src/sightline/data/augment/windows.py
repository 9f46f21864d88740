"""Augmentation of image-mask pairs: random windows, flips and rotations of both, color changes of the images only.

Images are uint8 or float [N, 3, H, W], masks uint8 [N, H, W]; masks are never interpolated. Every random number is a
hash of (seed, epoch, sample), so that results are reproducible.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...config.schema import Augment
from ..channels import RGB, Channels
from . import geometry
from .batch import FLOP, TURN, Draw, check_colors, flips, normalize, recolor, reject_faults, uniform

WINDOW, ANCHOR = 20, 21  # streams of random numbers, besides those of batch.py
ANCHORS = 16
"""Number of pixels of each class that are stored per image, to place windows around rare classes."""

Boxes = tuple[Tensor, Tensor, Tensor, Tensor]
"""Tops, lefts, heights and widths, int64 [N], in pixels."""


@dataclass(frozen=True)
class Anchors:
    """Random pixels of each class in each image, around which windows with rare classes are placed.

    points: int32 [N, K, ANCHORS, 2], (row, column), drawn with replacement. chances: float32 [N, K], the probability of
    choosing each class, 0 if the image does not have it. Each row sums to 1, or to 0 for an image without a labeled
    pixel.
    """

    points: Tensor
    chances: Tensor


def find_anchors(masks: np.ndarray, sizes: np.ndarray, classes: int, seed: int) -> Anchors:
    """Draw the anchors (random pixels of each class) of masks uint8 [N, H, W].

    sizes: int [N, 2], height and width without padding. The probability of choosing a class is proportional to 1 / (the
    share of the class among all labeled pixels), for the classes in the image.
    """
    counts = np.zeros((len(masks), classes), np.int64)
    points = np.zeros((len(masks), classes, ANCHORS, 2), np.int32)
    for number, (height, width) in enumerate(sizes):
        flat = np.ascontiguousarray(masks[number][:height, :width]).ravel()
        counts[number] = np.bincount(flat, minlength=256)[:classes]
        draws = np.random.default_rng([seed, number]).random((classes, ANCHORS))
        for index in np.flatnonzero(counts[number]):
            members = np.flatnonzero(flat == index)
            drawn = members[(draws[index] * len(members)).astype(np.int64)]
            points[number, index] = np.stack(np.divmod(drawn, width), 1)
    shares = counts.sum(0) / max(1, counts.sum())
    rarity = np.where(shares > 0, 1 / np.maximum(shares, 1e-12), 0.0)
    chances = (counts > 0) * rarity
    chances /= np.maximum(chances.sum(1, keepdims=True), 1e-12)
    return Anchors(torch.from_numpy(points), torch.from_numpy(chances.astype(np.float32)))


def window_boxes(augment: Augment, sizes: Tensor, anchors: Anchors | None, draw: Draw, samples: Tensor) -> Boxes:
    """Draw the box of each image that is resized to its training window: (tops, lefts, heights, widths), int64 [N]
    each.

    sizes: int64 [N, 2], height and width of the images. A box has the window's size divided by a random scale, but is
    not larger than the image.
    """
    draws = draw(WINDOW, 3)
    low, high = (torch.tensor(value).log() for value in augment.scale)
    scales = (low + draws[:, 0] * (high - low)).exp()
    unlimited = torch.tensor(augment.window, device=sizes.device)[None] / scales[:, None]
    extents = torch.minimum(unlimited.round().long().clamp_min(1), sizes)
    room = sizes - extents
    corners = (draws[:, 1:] * (room + 1)).long()
    if anchors is not None and augment.rare_crops:
        chosen, centers = rare_centers(augment, anchors, draw, samples)
        # The anchor has a random position in the window, so that rare classes are not always in its center.
        around = (centers - (draws[:, 1:] * extents).long()).clamp_min(0)
        corners = torch.where(chosen[:, None], torch.minimum(around, room), corners)
    return corners[:, 0], corners[:, 1], extents[:, 0], extents[:, 1]


def rare_centers(augment: Augment, anchors: Anchors, draw: Draw, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the windows that are placed on a rare class: (bool [N], true for these windows; the pixel (row, column)
    that each of them must contain, int64 [N, 2])."""
    draws = draw(ANCHOR, 3)
    chances = anchors.chances[samples].cumsum(1)
    index = (chances < draws[:, 1:2] * chances[:, -1:]).sum(1).clamp_max(chances.shape[1] - 1)
    which = (draws[:, 2] * ANCHORS).long()
    points = anchors.points[samples, index, which].long()
    return (draws[:, 0] < augment.rare_crops) & (chances[:, -1] > 0), points


def nearest(masks: Tensor, boxes: Boxes, window: Sequence[int], mirrored: Tensor | None = None) -> Tensor:
    """Resize the box of each mask uint8 [N, H, W] to the size `window` by nearest neighbor. mirrored: int64 [N], 1
    to flip left and right."""
    tops, lefts, heights, widths = (edge[:, None] for edge in boxes)
    device = masks.device
    # Integer arithmetic, floor((i + 1/2) * extent / window): rounded floats could select the neighboring pixel.
    rows = tops + (2 * torch.arange(window[0], device=device) + 1) * heights // (2 * window[0])
    columns = lefts + (2 * torch.arange(window[1], device=device) + 1) * widths // (2 * window[1])
    columns = geometry.mirror_columns(columns, mirrored)
    count, height, width = masks.shape
    starts = torch.arange(count, device=device)[:, None] * height + rows
    selected = masks.reshape(-1, width).index_select(0, starts.flatten()).view(count, -1, width)  # contiguous copies
    return selected.gather(2, columns[:, None].expand(-1, window[0], -1))


def pair_augmentation(
    augment: Augment, mean: Sequence[float], std: Sequence[float], channels: Channels = RGB
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make the function that augments training batches of image-mask pairs.

    Its arguments are (images [N, C, H, W] as in the cache, masks uint8 [N, H, W], sizes [N, 2], anchors, samples, seed,
    epoch). It returns (images float32 [N, C, h, w], normalized and channels_last; masks uint8 [N, h, w]).

    The order: random window with scale, flips, rotation; then on images only jitter, grayscale, blur, solarization,
    `augment.own` and normalization. Without `augment.window` images are not cropped. Raises SightlineError for invalid
    settings.
    """
    check_window(augment)
    check_colors(augment, channels)

    def transform(
        images: Tensor, masks: Tensor, sizes: Tensor, anchors: Anchors | None, samples: Tensor, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        draw, images = partial(uniform, seed, epoch, samples), geometry.scaled(images, channels)
        mirrored = flips(augment, samples, seed, epoch) if augment.horizontal_flip else None
        if augment.window:
            boxes = window_boxes(augment, sizes, anchors, draw, samples)
            images = geometry.resized_crop(images, *boxes, augment.window, mirrored)
            masks = nearest(masks, boxes, augment.window, mirrored)
        masks = masks[:, None]
        if mirrored is not None and not augment.window:
            images, masks = (geometry.pick([part, part.flip(3)], mirrored) for part in (images, masks))
        if augment.vertical_flip:
            choice = (draw(FLOP)[:, 0] < augment.vertical_flip).long()
            images, masks = (geometry.pick([part, part.flip(2)], choice) for part in (images, masks))
        if augment.rotate90:
            images, masks = rotate_pairs(images, masks, augment.rotate90, draw)
        images = normalize(recolor(images, augment, draw, channels.colors), mean, std)
        return images.contiguous(memory_format=torch.channels_last), masks[:, 0]

    return transform


def rotate_pairs(images: Tensor, masks: Tensor, chance: float, draw: Draw) -> tuple[Tensor, Tensor]:
    """Rotate each pair with probability `chance`: square images by 90, 180 or 270 degrees, other images by 180."""
    draws = draw(TURN, 2)
    square = images.shape[2] == images.shape[3]
    quarters = 1 + (draws[:, 1] * 3).long() if square else torch.full_like(draws[:, 1], 2).long()
    quarters = torch.where(draws[:, 0] < chance, quarters, 0)
    if square:
        return geometry.rotate90(images, quarters), geometry.rotate90(masks, quarters)
    images, masks = (geometry.pick([part, part.flip(2, 3)], quarters // 2) for part in (images, masks))
    return images, masks


def check_window(augment: Augment) -> None:
    """Raise SightlineError with all settings that need `augment.window`, or are not for segmentation."""
    faults = []
    if not augment.window:
        faults += ["augment.scale needs augment.window"] * (augment.scale != (1.0, 1.0))
        faults += ["augment.rare_crops needs augment.window"] * bool(augment.rare_crops)
    other = {
        "augment.crop": augment.crop != "none",
        "augment.resize": augment.resize,
        "augment.erase": augment.erase,
        "augment.mixup": augment.mixup,
        "augment.cutmix": augment.cutmix,
        "augment.progressive": augment.progressive,
    }
    faults += [f"{key} is not available for segmentation; use augment.window and augment.scale"
               for key, on in other.items() if on]  # fmt: skip
    faults += ["augment.policy is not available for segmentation, because it does not move the pixels of masks"] * (
        augment.policy != "none"
    )
    reject_faults(faults, "change these settings; for an example of valid ones: sightline recipes camvid_fast")
