"""Where pixels go: resize, crop, flip, turn, warp, erase. Each image of a batch has its own parameters.

Images are [N, C, H, W]. Crops, flips and turns only copy, so they take uint8 and give uint8. Parameters are tensors
with one row per image, never one draw for the batch. Only kernels whose result for an image does not hang on its
neighbors are used: separate multiplications and additions, because fused ones round differently at the end of a
vector register, and with it at another place of the batch.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

ATTEMPTS = 10
"""Boxes tried per image before the fallback, as in torchvision's RandomResizedCrop and RandomErasing."""


CACHED_PIXELS = 2**18
"""Values in the work space of `separable`: 1 MiB of float32."""

Taps = tuple[torch.Tensor, torch.Tensor]
"""Places int64 and weights float32, both [N, outputs, inputs per output]."""


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 to float32 0..1; float images as they are."""
    return images if images.is_floating_point() else images.to(torch.float32).div_(255)


def resize(
    images: torch.Tensor, side: int, kept: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
) -> torch.Tensor:
    """[N, C, H, W] to float32 [N, C, side, side] in 0..1: bilinear with antialiasing, as in torchvision.

    kept: the rows and the columns of the result to give, int64 [N, S] and [N, T], each image's own; -1 is black; None:
    all. A window costs no more than its own pixels then. By `separable`, which was 1.1 to 2.7 times as fast as torch's
    interpolation for 28 to 500 pixels to 32 to 256 (two cores with AVX512, measured).
    """
    start = torch.zeros(1, dtype=torch.long, device=images.device)
    taps = [resampling_taps(start, start + extent, extent, side) for extent in images.shape[2:]]
    rows, columns = (taps_at(*both, len(images)) for both in zip(taps, kept, strict=True))
    return separable(images, rows, columns)


def taps_at(taps: Taps, kept: torch.Tensor | None, count: int) -> Taps:
    """Taps [1, T, K] of all outputs as those [N, S, K] of the outputs `kept` int64 [N, S] of `count` images."""
    places, weights = taps
    if kept is None:
        return places.expand(count, -1, -1), weights.expand(count, -1, -1)
    shown = kept.clamp_min(0)
    return places[0][shown], weights[0][shown] * (kept >= 0)[:, :, None]


def padded_places(starts: torch.Tensor, size: int, side: int, padding: int, mode: str) -> torch.Tensor:
    """int64 [N, size]: which of `side` pixels the windows from `starts` int64 [N] on show once these are padded as by
    `pad`; -1 where it would be black."""
    places = starts[:, None] + torch.arange(-padding, size - padding, device=starts.device)
    if mode == "zeros":
        return torch.where((places < 0) | (places >= side), -1, places)
    return side - 1 - (side - 1 - places.abs()).abs()


def mirrored_where(values: torch.Tensor, mirrored: torch.Tensor | None) -> torch.Tensor:
    """Values [N, T, ...] for the columns of each image, the other way round where `mirrored` int64 [N] is 1."""
    return values if mirrored is None else pick([values, values.flip(1)], mirrored)


def pad(images: torch.Tensor, padding: int, mode: str) -> torch.Tensor:
    """`padding` pixels on each side: "zeros" (black) or "reflect" (mirrored without repeating the edge)."""
    if padding == 0 or mode == "zeros":
        return functional.pad(images, [padding] * 4)
    if images.device.type == "cpu":
        return functional.pad(images, [padding] * 4, mode="reflect")
    for dim in (-1, -2):  # CUDA's own does not take uint8
        length = images.shape[dim]
        before = images.narrow(dim, 1, padding).flip(dim)
        after = images.narrow(dim, length - padding - 1, padding).flip(dim)
        images = torch.cat([before, images, after], dim)
    return images


def crop(images: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor, side: int) -> torch.Tensor:
    """A side x side window of each image; tops, lefts int64 [N] are its upper left corners."""
    count, channels, height, width = images.shape
    device = images.device
    flat = images.contiguous().flatten()
    # Every run of `side` neighbors as a row of a view without copies: the crop is then one memcpy per row of output.
    runs = flat.as_strided((flat.numel() - side + 1, side), (1, 1))
    planes = torch.arange(count * channels, device=device).view(count, channels, 1)
    rows = planes * height + tops[:, None, None] + torch.arange(side, device=device)
    starts = rows * width + lefts[:, None, None]
    return runs.index_select(0, starts.flatten()).view(count, channels, side, side)


def pick(variants: list[torch.Tensor], choice: torch.Tensor) -> torch.Tensor:
    """Image i of variants[choice[i]]; each variant is [N, ...], choice int64 [N]."""
    count = len(choice)
    return torch.cat(variants).index_select(0, choice * count + torch.arange(count, device=choice.device))


def turn(images: torch.Tensor, quarters: torch.Tensor) -> torch.Tensor:
    """Square images turned counterclockwise by quarters int64 [N] (0 to 3) times 90 degrees."""
    return pick([images.rot90(k, (2, 3)) for k in range(4)], quarters)


def random_boxes(
    draws: torch.Tensor, scale: tuple[float, float], ratio: tuple[float, float], side: int, largest: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(heights, widths, found) int64, int64, bool [N]: boxes whose area is uniform and whose shape is log-uniform.

    draws: [N, 2 * ATTEMPTS] in [0, 1). scale: the range of the area, as a share of side * side. ratio: the range of
    width / height. The first of ATTEMPTS candidates with neither side above `largest` counts, as in torchvision;
    found is False where there is none.
    """
    # In double precision the last bit of exp and sqrt, which may differ with the place in the batch, is rounded away.
    wide = draws.to(precise(draws.device))
    areas = side * side * (scale[0] + wide[:, :ATTEMPTS] * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shapes = (low + wide[:, ATTEMPTS:] * (high - low)).exp()
    heights, widths = (areas / shapes).sqrt().round().long(), (areas * shapes).sqrt().round().long()
    fits = (torch.minimum(heights, widths) >= 1) & (torch.maximum(heights, widths) <= largest)
    first = fits.long().argmax(1, keepdim=True)
    return heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0], fits.any(1)


def precise(device: torch.device) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def central_box(ratio: tuple[float, float], side: int) -> tuple[int, int]:
    """(height, width) of the largest box in a square whose shape lies within `ratio`: for when all attempts fail."""
    return round(side / max(1.0, ratio[0])), round(side * min(1.0, ratio[1]))


def resized_crop(
    images: torch.Tensor,
    tops: torch.Tensor,
    lefts: torch.Tensor,
    heights: torch.Tensor,
    widths: torch.Tensor,
    size: Sequence[int],
    mirrored: torch.Tensor | None = None,
) -> torch.Tensor:
    """One box of each image, resized with antialiasing to float32 of `size` (height, width); the four box tensors are
    int64 [N].

    mirrored: int64 [N] of 0 and 1; left and right change places where it is 1. Read the other way round, that costs
    no pass over the pixels.
    Equal to torchvision's resized_crop(antialias=True) of float images up to rounding. Sampling a grid instead would
    alias wherever a box is larger than `size`.
    """
    rows = resampling_taps(tops, heights, images.shape[2], size[0])
    places, weights = resampling_taps(lefts, widths, images.shape[3], size[1])
    return separable(images, rows, (mirrored_where(places, mirrored), mirrored_where(weights, mirrored)))


def resampling_taps(starts: torch.Tensor, lengths: torch.Tensor, extent: int, side: int) -> Taps:
    """Taps that resize the pixels starts .. starts + lengths (int64 [N], of `extent`) to `side` pixels.

    The weights are a triangle, two output pixels wide and at least two input pixels, cut off at the box and
    normalized: what Pillow and torch call antialiased bilinear.
    """
    count = math.ceil(2 * max(1.0, extent / side))  # integers that an open interval of the widest triangle can hold
    scales = (lengths.float() / side)[:, None]
    reach = scales.clamp_min(1)
    centers = (torch.arange(side, device=starts.device) + 0.5) * scales - 0.5
    first = (centers - reach).floor() + 1
    places = first[:, :, None] + torch.arange(count, device=starts.device)
    weights = (1 - (places - centers[:, :, None]).abs() / reach[:, :, None]).clamp_min(0)
    ends = lengths[:, None, None] - 1
    weights = weights * ((places >= 0) & (places <= ends))
    places = torch.minimum(places.long().clamp_min(0), ends) + starts[:, None, None]
    return places, weights / weights.sum(2, keepdim=True)


def separable(images: torch.Tensor, rows: Taps, columns: Taps) -> torch.Tensor:
    """A weighted sum of rows, then one of columns, each image with its own: [N, C, H, W] to float32 [N, C, S, T].

    rows, columns: for every output row [N, S, K] and column [N, T, L], its input places and their weights; uint8
    images count as 0..1. embedding_bag is exactly this sum over rows of memory. As dense matrix products the same
    took 6 times longer for 96 to 64 pixels (one core, measured).
    """
    count, channels = images.shape[:2]
    result = torch.empty(count, channels, rows[0].shape[1], columns[0].shape[1], device=images.device)
    # On a processor, a few images at a time, so that what lies between the two passes stays in its cache.
    step = max(1, CACHED_PIXELS // images[0].numel()) if images.device.type == "cpu" else count
    for start in range(0, count, step):
        part = slice(start, start + step)
        across = sum_rows(to_unit(images[part]), rows[0][part], rows[1][part])
        result[part] = sum_rows(across.mT, columns[0][part], columns[1][part]).mT
    return result


def sum_rows(images: torch.Tensor, places: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Float [N, C, H, W] to [N, C, S, W]: output row s is the sum over k of weights[n, s, k] * row places[n, s, k]."""
    count, channels, height, width = images.shape
    planes = torch.arange(count * channels, device=images.device).view(count, channels, 1, 1)
    index = (planes * height + places[:, None]).flatten(0, 2)
    shares = weights[:, None].expand(-1, channels, -1, -1).flatten(0, 2)
    table = images.reshape(-1, width)
    return functional.embedding_bag(index, table, mode="sum", per_sample_weights=shares).view(
        count, channels, -1, width
    )


def warp(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Affine, nearest pixel, black outside: the pixel at (x, y) from the center comes from matrix @ (x, y, 1).

    matrices: float32 [N, 2, 3] in pixels, from output to input. As torchvision's affine and rotate by default.
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


def box_mask(
    tops: torch.Tensor, lefts: torch.Tensor, bottoms: torch.Tensor, rights: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """bool [N, 1, height, width], true within each box; the four tensors are int64 [N], bottom and right excluded."""
    y = torch.arange(height, device=tops.device)[:, None]
    x = torch.arange(width, device=tops.device)
    tops, lefts, bottoms, rights = (edge[:, None, None, None] for edge in (tops, lefts, bottoms, rights))
    return (y >= tops) & (y < bottoms) & (x >= lefts) & (x < rights)
