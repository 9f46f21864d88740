"""Networks for export: modules from images [N, C, H, W] of any size, as in the files, to probabilities and masks."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.channels import RGB, Channels
from ..data.decode.images import Square
from ..inference.tiles import moved, put_back
from ..models.segmenters import Segmenter
from .tracing import constant_same_padding


class Resize(nn.Module):
    """Resize images [N, C, H, W] of any size to squares float [N, C, side, side] with the range of the input.

    Does what Pillow does in `data.decode.images.Square`: two passes with antialiasing, the width first, each rounded to
    integers. The result differs from Pillow's by at most one level. The exception are images that shrink more than six
    times: Pillow first averages these over boxes. Images of the size `decoded_size` (height, width), the size in the
    cache, are resized without rounding, as in the validation of a run. Other channels than 8-bit RGB are resized in
    float32 and limited to the values of the channel; integers are rounded at the end.
    """

    def __init__(self, square: Square, decoded_size: tuple[int, int], channels: Channels = RGB):
        super().__init__()
        self.channels = channels
        self.side, self.crop, self.mode, self.share = square.side, square.fit == "crop", square.filter, square.share
        self.decoded_size = decoded_size

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        exact = (torch.scalar_tensor(height) == self.decoded_size[0]) & (
            torch.scalar_tensor(width) == self.decoded_size[1]
        )
        values = images.float()
        if self.crop or self.share < 1:  # slicing would differ: Pillow's filter also uses pixels outside of the box
            across, down = (torch.sym_min(height, width),) * 2 if self.crop else (width, height)
            full, central = (torch.scalar_tensor(one, dtype=torch.float64) for one in (1, self.share))
            share = torch.where(exact, full, central)
            narrow = self.rounded(values @ self.weights(width, across, share).T, exact)
            return self.limited(self.rounded(self.weights(height, down, share) @ narrow, exact), values, exact)
        resized = values
        for sides in ((height, self.side), (self.side, self.side)):
            resized = functional.interpolate(resized, sides, mode=self.mode, antialias=True)
            resized = self.rounded(resized, exact)
        return self.limited(resized, values, exact)

    def rounded(self, values: Tensor, exact: Tensor) -> Tensor:
        """Round 8-bit RGB to integers in 0..255, unless `exact` (a bool tensor) is true."""
        if not self.channels.plain:
            return values
        return torch.where(exact, values, (values + 0.5).floor().clamp(0, 255))

    def limited(self, resized: Tensor, values: Tensor, exact: Tensor) -> Tensor:
        """Limit channels other than 8-bit RGB to the range of `values` before the resizing, unless `exact` is true."""
        if self.channels.plain:
            return resized
        inside = resized.clamp(values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True))
        return torch.where(exact, resized, inside if self.channels.dtype == "float32" else inside.round())

    def weights(self, length: int, part: int | torch.SymInt, share: Tensor) -> Tensor:
        """Weights [side, length] of Pillow's filter, which resizes the central `share` of the `part` central pixels of
        a row of `length` pixels to `side`."""
        pixels_of_part = torch.scalar_tensor(part, dtype=torch.float64)
        scale = pixels_of_part * share / self.side
        start = (length - part) // 2 + pixels_of_part * (1 - share) / 2
        centers = (torch.arange(self.side, dtype=torch.float64) + 0.5) * scale + start
        pixels = torch.arange(length, dtype=torch.float64) + 0.5
        distance = ((pixels - centers[:, None]) / scale.clamp(min=1)).abs()
        weights = (1 - distance).clamp(min=0)
        if self.mode == "bicubic":  # Keys' cubic with a = -0.5
            outer = -0.5 * (((distance - 5) * distance + 8) * distance - 4)
            inner = (1.5 * distance - 2.5) * distance * distance + 1
            weights = torch.where(distance < 1, inner, torch.where(distance < 2, outer, torch.zeros_like(distance)))
        return (weights / weights.sum(1, keepdim=True)).float()


class Normalized(nn.Module):
    """Normalize images [N, C, H, W] of values 0..top to float32, channel by channel: (value / top - mean) / std."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], top: float = 255.0):
        super().__init__()
        self.register_buffer("scale", torch.tensor([1 / (top * s) for s in std])[:, None, None])
        self.register_buffer("shift", torch.tensor([m / s for m, s in zip(mean, std, strict=True)])[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return images.float() * self.scale - self.shift


class ClassifierGraph(nn.Module):
    """Images [N, C, H, W] -> class probabilities [N, K], averaged over the members of an ensemble.

    prepare: module that resizes and normalizes. members: networks of the ensemble, or a single network. flip: whether
    to average over each image and its mirror image too. activation: logits -> probabilities, by default softmax.
    """

    def __init__(
        self, prepare: nn.Module, members: Sequence[nn.Module], flip: bool, activation: nn.Module | None = None
    ):
        super().__init__()
        self.prepare, self.members, self.flip = prepare, nn.ModuleList(members), flip
        self.activation = nn.Softmax(1) if activation is None else activation

    def forward(self, images: Tensor) -> Tensor:
        images = self.prepare(images)
        views = [images, images.flip(3)] if self.flip else [images]
        found = [self.activation(member(view)) for member in self.members for view in views]
        return torch.stack(found).mean(0) if len(found) > 1 else found[0]


class SegmenterGraph(nn.Module):
    """Images [N, C, H, W] -> (mask uint8 [N, H, W], probabilities [N, K, H, W]).

    prepare: module that normalizes. motions: indices of the flips and turns (see `tiles.moved`) over which the
    probabilities are averaged. coarse: whether the network's output is smaller than its input. Equivalent to
    `Segmenter.forward`, but without branches that depend on height and width: tracing would make these constants.
    """

    def __init__(self, prepare: nn.Module, segmenter: Segmenter, motions: tuple[int, ...]):
        super().__init__()
        self.prepare, self.network, self.motions = prepare, segmenter.network, motions
        self.run, self.stride, self.smallest = segmenter.run, segmenter.stride, segmenter.smallest
        side = max(-(-64 // self.stride) * self.stride, self.smallest)
        with torch.no_grad():
            maps = self.run(self.network, torch.zeros(1, segmenter.channels, side, side), False)["logits"]
        self.coarse = maps.shape[-2:] != (side, side)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        prepared = self.prepare(images)
        found = [put_back(self.logits(moved(prepared, motion)).softmax(1), motion) for motion in self.motions]
        probabilities = torch.stack(found).mean(0) if len(found) > 1 else found[0]
        return probabilities.argmax(1).to(torch.uint8), probabilities

    def logits(self, images: Tensor) -> Tensor:
        """Logits [N, K, H, W] of normalized images."""
        height, width = images.shape[-2:]
        down, right = (cast(int, self.fitting(side)) for side in (height, width))
        if self.stride > 1 or self.smallest > 1:
            images = functional.pad(images, (0, right - width, 0, down - height), mode="replicate")
        with constant_same_padding():
            maps = self.run(self.network, images, False)["logits"]
        if self.coarse:
            maps = functional.interpolate(maps, size=(down, right), mode="bilinear", align_corners=False)
        return maps[..., :height, :width]

    def fitting(self, side: int) -> int | torch.SymInt:
        """The smallest side in pixels that the network accepts and that is at least `side`."""
        multiple = (side + self.stride - 1) // self.stride * self.stride
        return torch.sym_max(multiple, self.smallest) if self.smallest > self.stride else multiple
