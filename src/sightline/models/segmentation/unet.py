"""A U-Net with few FLOPs: a narrow ResNet encoder, skip connections by addition, logits at half the resolution."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..residual import convolution
from ..small import he_init

STEM = 32
"""Number of channels at half the resolution, where a convolution costs four times as much as in the first stage."""


def projection(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Convolution 1x1 and batch norm: [N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class HalfInstanceNorm(nn.Module):
    """Instance norm of the first half of the channels, batch norm of the others: [N, C, H, W] -> the same shape.

    The normalization of IBN-Net-a (arXiv 1807.09441). Instance norm removes the mean and the contrast of each image, so
    that features depend less on light and camera; batch norm keeps what distinguishes images.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.sizes = (channels // 2, channels - channels // 2)
        self.instance = nn.InstanceNorm2d(self.sizes[0], affine=True)
        self.batch = nn.BatchNorm2d(self.sizes[1])

    def forward(self, maps: Tensor) -> Tensor:
        first, second = (part.contiguous() for part in maps.split(self.sizes, dim=1))
        return torch.cat([self.instance(first), self.batch(second)], dim=1)


class Encoder(nn.Module):
    """Encoder: [N, C, H, W] -> five maps, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution.

    They have STEM, width, 2 * width, 4 * width and 8 * width channels. Two strided 3x3 convolutions are followed by
    four stages of ResNet's basic blocks (arXiv 1512.03385) with torchvision's names. With width 64 and blocks 2, 2, 2,
    2, the stages of a resnet18 can be loaded.

    invariant: number of stages, from the first, whose blocks have `HalfInstanceNorm` after their first convolution; if
    it is not 0, each channel of an image is standardized by its own mean and deviation before the first convolution.
    """

    def __init__(self, width: int, blocks: Sequence[int], channels: int, invariant: int = 0):
        super().__init__()
        from torchvision.models.resnet import BasicBlock

        def stage(inputs: int, outputs: int, count: int, stride: int) -> nn.Sequential:
            shortcut = projection(inputs, outputs, stride) if stride > 1 else None
            first = BasicBlock(inputs, outputs, stride, shortcut)
            return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(count - 1)))

        widths = [width * factor for factor in (1, 2, 4, 8)]
        self.standardize = nn.InstanceNorm2d(channels) if invariant else nn.Identity()
        self.stem = convolution(channels, STEM, stride=2)
        self.down = convolution(STEM, width, stride=2)
        self.layer1 = stage(width, width, blocks[0], 1)
        self.layer2 = stage(widths[0], widths[1], blocks[1], 2)
        self.layer3 = stage(widths[1], widths[2], blocks[2], 2)
        self.layer4 = stage(widths[2], widths[3], blocks[3], 2)
        self.widths = (STEM, *widths)
        for layer, channels in zip((self.layer1, self.layer2, self.layer3)[:invariant], widths, strict=False):
            for one in layer:
                one.bn1 = HalfInstanceNorm(channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [self.stem(self.standardize(images))]
        maps.append(self.layer1(self.down(maps[-1])))
        for layer in (self.layer2, self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps


class Context(nn.Module):
    """Combine each position with averages of its surroundings and of the entire map: [N, inputs, H, W] -> [N, outputs,
    H, W].

    After the pooling pyramids of PSPNet (arXiv 1612.01105) and DDRNet (arXiv 2101.06085). Window sizes are absolute,
    not relative to the map, so that crops and full images are treated alike. Channels are projected before the pooling,
    so that batch norm is not applied to a pooled map with a single value per channel.
    """

    windows = (3, 7)

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        branches = len(self.windows) + 2
        self.branch = outputs // 2
        self.reduce = projection(inputs, self.branch * branches)
        self.fuse = projection(self.branch * branches, outputs)

    def forward(self, maps: Tensor) -> Tensor:
        local, *windowed, image = functional.relu(self.reduce(maps)).split(self.branch, dim=1)
        pooled = [
            functional.avg_pool2d(part, window, 1, window // 2, count_include_pad=False)
            for part, window in zip(windowed, self.windows, strict=True)
        ]
        image = image.mean(dim=(2, 3), keepdim=True).expand_as(local)
        return functional.relu(self.fuse(torch.cat([local, *pooled, image], dim=1)))


class Fuse(nn.Module):
    """Decoder step: upsample a coarse map by 2, add the encoder's map of that resolution, and apply a 3x3 convolution.

    Addition, as in LinkNet (arXiv 1707.03718), needs half the FLOPs of U-Net's concatenation. Channels are projected to
    `width` before the upsampling.
    """

    def __init__(self, coarse: int, skip: int, width: int):
        super().__init__()
        self.coarse, self.skip = projection(coarse, width), projection(skip, width)
        self.mix = convolution(width, width)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        larger = functional.interpolate(self.coarse(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.mix(functional.relu(larger + self.skip(skip)))


class UNet(nn.Module):
    """U-Net: [N, 3, H, W] -> logits [N, classes, H / 2, W / 2] for a decoder of four levels; H and W multiples of
    32. The function `unet` describes the arguments."""

    stride = 32

    def __init__(
        self, classes: int, encoder: Encoder, decoder: Sequence[int], context: bool, auxiliary: bool, dropout: float
    ):
        super().__init__()
        self.encoder = encoder
        skips = encoder.widths[::-1]
        self.context = (
            Context(skips[0], decoder[0]) if context else nn.Sequential(projection(skips[0], decoder[0]), nn.ReLU())
        )
        coarse = [decoder[0], *decoder]
        levels = zip(pairwise(coarse), skips[1:], strict=False)
        self.decoder = nn.ModuleList(Fuse(before, skip, width) for (before, width), skip in levels)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(decoder[-1], classes, 1)
        self.auxiliary = nn.Conv2d(decoder[0], classes, 1) if auxiliary else None
        he_init(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.maps(images, False)["logits"]

    def maps(self, images: Tensor, auxiliary: bool) -> dict[str, Tensor]:
        """{"logits": logits at the decoder's highest resolution}. If `auxiliary` is True and the network has an
        auxiliary head, also {"auxiliary": logits at 1/16 of the resolution}."""
        *skips, deepest = self.encoder(images)
        coarse = self.context(deepest)
        maps: dict[str, Tensor] = {}
        for fuse, skip in zip(self.decoder, reversed(skips), strict=False):
            coarse = fuse(coarse, skip)
            if auxiliary and self.auxiliary is not None and not maps:
                maps["auxiliary"] = self.auxiliary(coarse)
        return {"logits": self.head(self.dropout(coarse))} | maps


def unet(
    classes: int,
    width: int = 48,
    blocks: Sequence[int] = (2, 2, 2, 2),
    decoder: Sequence[int] = (128, 128, 64, 32),
    context: bool = True,
    auxiliary: bool = False,
    dropout: float = 0.1,
    invariant: int = 0,
    channels: int = 3,
) -> UNet:
    """Build a U-Net (arXiv 1505.04597) for training from scratch on few images and with few FLOPs.

    width: channels of the first stage, at 1/4 of the resolution; doubled in each further stage. blocks: number of
    residual blocks in each of the four stages. decoder: channels at 1/16, 1/8, 1/4 and 1/2 of the resolution; the
    logits have the resolution of the last. context: apply `Context` to the deepest map. auxiliary: add a second 1x1
    head at 1/16, for an auxiliary loss in training. dropout: probability to drop a channel before the head. invariant:
    number of stages with instance norm (see `Encoder`), 0 to 3, for images of other places, weather or cameras than
    those of training. channels: of the images.

    The forward pass with the defaults has 2.36 billion multiply-adds for 256 x 320 pixels and 5.32 billion for 360 x
    480. This is a third of smp/unet/resnet18 (6.87 and 15.45 billion). Raises ValueError for `blocks` and `decoder`
    of invalid length, and for an `invariant` of another value.
    """
    if invariant not in range(4):
        raise ValueError(f"invariant must be a number of stages, 0 to 3, found {invariant}")
    if len(blocks) != 4 or min(blocks) < 1:
        raise ValueError(f"blocks must have four numbers of at least 1, one per stage, found {list(blocks)}")
    if not 1 <= len(decoder) <= 4:
        raise ValueError(f"decoder must have one to four numbers of channels, found {list(decoder)}")
    return UNet(classes, Encoder(width, blocks, channels, invariant), decoder, context, auxiliary, dropout)
