"""ResNet-9: a small residual network for small photographs, after David Page's entry to DAWNBench (2018)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from .small import he_init


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Convolution 3x3, batch norm, ReLU: [N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Stage(nn.Module):
    """A convolution and max pooling 2x2; with `residual`, then a residual block of two convolutions."""

    def __init__(self, inputs: int, outputs: int, residual: bool):
        super().__init__()
        self.convolution = convolution(inputs, outputs)
        self.pool = nn.MaxPool2d(2)
        both = nn.Sequential(convolution(outputs, outputs), convolution(outputs, outputs))
        self.residual = both if residual else None

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.pool(self.convolution(maps))
        return maps if self.residual is None else maps + self.residual(maps)


class ResidualNet(nn.Module):
    """A stem, stages that each halve the resolution, and global pooling: [N, C, H, W] -> [N, widths[-1]].

    widths: channels of the stem and of each stage. residual: which stages have a residual block, numbered from 1.
    stem_stride: 1 keeps the resolution; 2 or 4 for larger images. pool: `max` or `mean` over the last map. scale:
    factor on the features; a small factor (0.125 in the original) keeps the logits small in the first steps.
    """

    def __init__(
        self, widths: Sequence[int], residual: Sequence[int], stem_stride: int, pool: str, scale: float, channels: int
    ):
        super().__init__()
        self.stem = convolution(channels, widths[0], stem_stride)
        stages = enumerate(pairwise(widths), 1)
        self.stages = nn.Sequential(*(Stage(inputs, outputs, i in residual) for i, (inputs, outputs) in stages))
        self.pool, self.scale = pool, scale
        he_init(self)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stages(self.stem(images))
        # amax and mean have deterministic gradients on CUDA, adaptive pooling does not.
        pooled = maps.amax(dim=(2, 3)) if self.pool == "max" else maps.mean(dim=(2, 3))
        return pooled * self.scale


def resnet9(
    size: int,
    widths: Sequence[int] = (64, 128, 256, 512),
    residual: Sequence[int] = (1, 3),
    stem_stride: int = 1,
    pool: str = "max",
    scale: float = 0.125,
    channels: int = 3,
) -> nn.Module:
    """Build a ResNet-9; the arguments are those of ResidualNet, except `size`: the image side in pixels, which is not
    used.

    With three stages, images must have 8 pixels or more. Raises ValueError for an invalid `pool` or `residual`.
    """
    if pool not in ("max", "mean"):
        raise ValueError(f"pool must be 'max' or 'mean', found {pool!r}")
    wrong = [stage for stage in residual if not 1 <= stage < len(widths)]
    if wrong:
        raise ValueError(f"residual must have numbers of stages, 1 to {len(widths) - 1}, found {wrong}")
    return ResidualNet(widths, residual, stem_stride, pool, scale, channels)
