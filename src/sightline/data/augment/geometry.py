"""Geometric augmentations (resize, crop, flip, rotate, warp) with parameters per image of a batch.

Images are [N, C, H, W]. Parameters are tensors with one row per image. Crops, flips and rotations by 90 degrees copy
pixels, and keep uint8. The result for an image must not depend on the other images of its batch. Therefore
multiplications and additions are not fused: a fused operation rounds differently at the end of a vector register.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..channels import Channels

ATTEMPTS = 10
"""Random boxes tried per image before the fallback, as in torchvision's RandomResizedCrop and RandomErasing."""

CACHED_PIXELS = 2**18
"""Number of float32 values that `separable` processes at a time on a CPU: 1 MiB."""

Taps = tuple[Tensor, Tensor]
"""Resampling along one axis: input indices int64 and their weights float32, both [N, outputs, inputs per output]."""


def to_unit(images: Tensor) -> Tensor:
    """Convert uint8 0..255 to float32 0..1; float images are returned unchanged."""
    assert images.dtype != torch.uint16  # see `scaled`
    return images if images.is_floating_point() else images.to(torch.float32).div_(255)


def scaled(images: Tensor, channels: Channels) -> Tensor:
    """Convert integers of more than 8 bits to float32, `channels.top` to 1.0; other images are returned unchanged."""
    if images.dtype == torch.uint8 or images.is_floating_point():
        return images
    assert channels.dtype == "uint16", channels
    return images.to(torch.float32).div_(channels.top)


def resize(images: Tensor, side: int, kept: tuple[Tensor | None, Tensor | None] = (None, None)) -> Tensor:
    """Resize [N, C, H, W] to float32 [N, C, side, side] in 0..1, bilinear with antialiasing, as in torchvision.

    kept: which pixels of the resized images to compute: (row indices int64 [N, S], column indices int64 [N, T]) per
    image. The index -1 gives black; None instead of indices means all. Uses `separable`, measured 1.1 to 2.7 times as
    fast as torch's interpolate for 28 to 500 pixels to 32 to 256 on two cores with AVX512.
    """
    start = torch.zeros(1, dtype=torch.long, device=images.device)
    taps = [resampling_taps(start, start + extent, extent, side) for extent in images.shape[2:]]
    rows, columns = (select_taps(*both, len(images)) for both in zip(taps, kept, strict=True))
    return separable(images, rows, columns)


def select_taps(taps: Taps, kept: Tensor | None, count: int) -> Taps:
    """Select for each image the outputs `kept` int64 [N, S] from the common taps [1, T, K]; returns taps [N, S, K].
    The output -1 has weight 0. kept: None for all outputs, for `count` images."""
    indices, weights = taps
    if kept is None:
        return indices.expand(count, -1, -1), weights.expand(count, -1, -1)
    selected = kept.clamp_min(0)
    return indices[0][selected], weights[0][selected] * (kept >= 0)[:, :, None]


def padded_indices(starts: Tensor, size: int, side: int, padding: int, mode: str) -> Tensor:
    """Windows of a padded axis as indices of the unpadded pixels: int64 [N, size], -1 for black. The axis has `side`
    pixels and is padded as in `pad`. Window n has `size` pixels, starting at starts[n] of the padded axis."""
    indices = starts[:, None] + torch.arange(-padding, size - padding, device=starts.device)
    if mode == "zeros":
        return torch.where((indices < 0) | (indices >= side), -1, indices)
    return side - 1 - (side - 1 - indices.abs()).abs()


def mirror_columns(values: Tensor, mirrored: Tensor | None) -> Tensor:
    """Reverse the second axis of values [N, T, ...] for the images n with mirrored[n] = 1; None reverses nothing."""
    return values if mirrored is None else pick([values, values.flip(1)], mirrored)


def pad(images: Tensor, padding: int, mode: str) -> Tensor:
    """Pad each side by `padding` pixels; mode: "zeros" (black) or "reflect" (without repeating the edge)."""
    if padding == 0 or mode == "zeros":
        return functional.pad(images, [padding] * 4)
    if images.device.type == "cpu":
        return functional.pad(images, [padding] * 4, mode="reflect")
    for dim in (2, 3):  # reflection padding of torch does not support uint8 on CUDA
        side, start = images.shape[dim], torch.zeros(1, dtype=torch.long, device=images.device)
        images = images.index_select(dim, padded_indices(start, side + 2 * padding, side, padding, mode)[0])
    return images


def crop(images: Tensor, tops: Tensor, lefts: Tensor, side: int) -> Tensor:
    """Crop a side x side window of each image; tops, lefts: int64 [N], upper left corners."""
    count, channels, height, width = images.shape
    device = images.device
    flat = images.contiguous().flatten()
    # A view whose rows are all runs of `side` neighboring pixels: the crop is then one memcpy per output row.
    runs = flat.as_strided((flat.numel() - side + 1, side), (1, 1))
    planes = torch.arange(count * channels, device=device).view(count, channels, 1)
    rows = planes * height + tops[:, None, None] + torch.arange(side, device=device)
    starts = rows * width + lefts[:, None, None]
    return runs.index_select(0, starts.flatten()).view(count, channels, side, side)


def pick(variants: list[Tensor], choice: Tensor) -> Tensor:
    """Combine variants of a batch: the result's image i is image i of variants[choice[i]]. variants: tensors [N,
    ...] of the same shape. choice: int64 [N]."""
    count = len(choice)
    return torch.cat(variants).index_select(0, choice * count + torch.arange(count, device=choice.device))


def rotate90(images: Tensor, quarters: Tensor) -> Tensor:
    """Rotate square images counterclockwise by `quarters` int64 [N] (0 to 3) times 90 degrees."""
    return pick([images.rot90(k, (2, 3)) for k in range(4)], quarters)


def random_boxes(
    draws: Tensor, scale: tuple[float, float], ratio: tuple[float, float], side: int, largest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Random boxes, uniform in area and log-uniform in aspect ratio: (heights, widths: int64 [N]; found: bool [N]).

    draws: random numbers [N, 2 * ATTEMPTS] in [0, 1). scale: range of the area, as a share of side * side. ratio: range
    of width / height. As in torchvision, ATTEMPTS boxes are tried, and the first whose sides are at most `largest` is
    used. found is False for images without such a box.
    """
    # Computed in double precision, because the last bit of exp and sqrt may depend on the position in the batch.
    wide = draws.to(precise(draws.device))
    areas = side * side * (scale[0] + wide[:, :ATTEMPTS] * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shapes = (low + wide[:, ATTEMPTS:] * (high - low)).exp()
    heights, widths = (areas / shapes).sqrt().round().long(), (areas * shapes).sqrt().round().long()
    fits = (torch.minimum(heights, widths) >= 1) & (torch.maximum(heights, widths) <= largest)
    first = fits.long().argmax(1, keepdim=True)
    return heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0], fits.any(1)


def precise(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device without float64 (MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def central_box(ratio: tuple[float, float], side: int) -> tuple[int, int]:
    """(height, width) of the largest box in a square of `side` pixels with an aspect ratio in the range `ratio`. It
    is used for images for which `random_boxes` finds no box."""
    return round(side / max(1.0, ratio[0])), round(side * min(1.0, ratio[1]))


def resized_crop(
    images: Tensor,
    tops: Tensor,
    lefts: Tensor,
    heights: Tensor,
    widths: Tensor,
    size: Sequence[int],
    mirrored: Tensor | None = None,
) -> Tensor:
    """Resize one box of each image to float32 [N, C, *size], bilinear with antialiasing; size: height and width.

    tops, lefts, heights, widths: the boxes, int64 [N] each. mirrored: int64 [N], 1 to flip left and right, in the same
    pass. Equal to torchvision's resized_crop(antialias=True) of float images up to rounding.
    """
    rows = resampling_taps(tops, heights, images.shape[2], size[0])
    indices, weights = resampling_taps(lefts, widths, images.shape[3], size[1])
    return separable(images, rows, (mirror_columns(indices, mirrored), mirror_columns(weights, mirrored)))


def resampling_taps(starts: Tensor, lengths: Tensor, extent: int, side: int) -> Taps:
    """Input indices and weights (`Taps`) that resize a part of an axis of `extent` pixels to `side` pixels, for each
    image.

    The part starts at `starts` and has `lengths` pixels, int64 [N] each. The weights are a triangle, two output pixels
    and at least two input pixels wide, cut off at the ends of the part and normalized: antialiased bilinear as in
    Pillow and torch.
    """
    count = math.ceil(2 * max(1.0, extent / side))  # largest number of input pixels in the widest triangle
    scales = (lengths.float() / side)[:, None]
    reach = scales.clamp_min(1)
    centers = (torch.arange(side, device=starts.device) + 0.5) * scales - 0.5
    first = (centers - reach).floor() + 1
    positions = first[:, :, None] + torch.arange(count, device=starts.device)
    weights = (1 - (positions - centers[:, :, None]).abs() / reach[:, :, None]).clamp_min(0)
    ends = lengths[:, None, None] - 1
    weights = weights * ((positions >= 0) & (positions <= ends))
    return torch.minimum(positions.long().clamp_min(0), ends) + starts[:, None, None], weights / weights.sum(
        2, keepdim=True
    )


def separable(images: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Resample rows, then columns, with indices and weights (`Taps`) per image: [N, C, H, W] to float32 [N, C, S, T].

    rows, columns: taps [N, S, K] and [N, T, L]. uint8 images are scaled to 0..1. Uses torch's embedding_bag: dense
    matrix products were measured 6 times slower for 96 to 64 pixels on one core.
    """
    count, channels = images.shape[:2]
    result = torch.empty(count, channels, rows[0].shape[1], columns[0].shape[1], device=images.device)
    # On a CPU, a few images at a time, so that the result of the first pass remains in the CPU cache.
    step = max(1, CACHED_PIXELS // images[0].numel()) if images.device.type == "cpu" else count
    for start in range(0, count, step):
        part = slice(start, start + step)
        across = sum_rows(to_unit(images[part]), rows[0][part], rows[1][part])
        result[part] = sum_rows(across.mT, columns[0][part], columns[1][part]).mT
    return result


def sum_rows(images: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of image rows: float [N, C, H, W] to [N, C, S, W]. indices, weights: [N, S, K]. Output row s of
    image n is the sum over k of weights[n, s, k] * row indices[n, s, k]."""
    count, channels, height, width = images.shape
    planes = torch.arange(count * channels, device=images.device).view(count, channels, 1, 1)
    bags = (planes * height + indices[:, None]).flatten(0, 2)
    shares = weights[:, None].expand(-1, channels, -1, -1).flatten(0, 2)
    rows = functional.embedding_bag(bags, images.reshape(-1, width), mode="sum", per_sample_weights=shares)
    return rows.view(count, channels, -1, width)


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Affine transform with nearest-neighbor sampling, black outside the image, as torchvision's affine and rotate by
    default.

    matrices: float32 [N, 2, 3]. With (x, y) measured in pixels from the image center, the output pixel at (x, y) is the
    input pixel at matrix @ (x, y, 1).
    """
    count, channels, height, width = images.shape
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x = torch.arange(width, device=images.device) - middle_x
    y = (torch.arange(height, device=images.device) - middle_y)[:, None]
    terms = matrices[..., None, None]
    source_x = (terms[:, 0, 0] * x + terms[:, 0, 1] * y + terms[:, 0, 2] + middle_x).round_().long()
    source_y = (terms[:, 1, 0] * x + terms[:, 1, 1] * y + terms[:, 1, 2] + middle_y).round_().long()
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    index = torch.where(inside, source_y * width + source_x, 0)
    moved = images.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
    return moved.view(count, channels, height, width) * inside[:, None]


def box_mask(tops: Tensor, lefts: Tensor, bottoms: Tensor, rights: Tensor, height: int, width: int) -> Tensor:
    """Mask bool [N, 1, height, width], true within the box of each image. tops, lefts, bottoms, rights: int64 [N];
    bottom and right are excluded."""
    y = torch.arange(height, device=tops.device)[:, None]
    x = torch.arange(width, device=tops.device)
    tops, lefts, bottoms, rights = (edge[:, None, None, None] for edge in (tops, lefts, bottoms, rights))
    return (y >= tops) & (y < bottoms) & (x >= lefts) & (x < rights)
