"""FastNet: a residual network for small photographs that needs few FLOPs to reach a given accuracy."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

PIXELS = 2**23  # of images whose patches are in memory at once, about 100 MB
BATCH_NORM_MOMENTUM = 0.2  # for runs of a few hundred steps; with torch's 0.1 the averages include older steps


class ConvNorm(nn.Module):
    """Convolution 3x3, optional max pooling 2x2, batch norm, ReLU: [N, inputs, H, W] -> [N, outputs, h, w]."""

    def __init__(self, inputs: int, outputs: int, pool: bool = False):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(outputs, momentum=BATCH_NORM_MOMENTUM)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.norm(self.pool(self.convolution(maps))), inplace=True)


class Gate(nn.Module):
    """Squeeze-and-excitation (arXiv 1709.01507): scale each channel by a factor that a perceptron computes from the
    means of all channels. [N, C, H, W] -> same shape. The factors are between 0 and 2; with zero weights they are 1."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, maps: Tensor) -> Tensor:
        weights = 2 * torch.sigmoid(self.excite(functional.relu(self.squeeze(maps.mean((2, 3))))))
        return maps * weights[:, :, None, None]


class Residual(nn.Module):
    """Residual block x + Gate(ConvNorm(ConvNorm(x))): [N, C, H, W] -> same shape; no gate if `reduction` is 0."""

    def __init__(self, channels: int, reduction: int = 0):
        super().__init__()
        gate = [Gate(channels, reduction)] if reduction else []
        self.branch = nn.Sequential(ConvNorm(channels, channels), ConvNorm(channels, channels), *gate)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.branch(maps)


class FastNet(nn.Module):
    """Residual network [N, C, H, W] -> features [N, widths[-1]]; H and W at least 2 ** len(widths).

    The first layer is a fixed 3x3 convolution that whitens the patches of the training images (see `whiten`; after
    Page, and Jordan, arXiv 2404.00498). It needs no training, and its outputs are uncorrelated. Then each width is a
    stage: ConvNorm with pooling, and `blocks` residual blocks. The features are the mean of maximum and average
    pooling, times `scale`, which keeps the logits small.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], scale: float, reduction: int, channels: int):
        super().__init__()
        self.stem = nn.Conv2d(channels, 18 * channels, 3, padding=1, bias=False)
        self.stem.requires_grad_(False)
        nn.init.orthogonal_(self.stem.weight)
        stages: list[nn.Module] = []
        for (inputs, outputs), count in zip(pairwise([18 * channels, *widths]), blocks, strict=True):
            stages += [ConvNorm(inputs, outputs, pool=True), *(Residual(outputs, reduction) for _ in range(count))]
        self.stages = nn.Sequential(*stages)
        self.scale = scale

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Compute the fixed first layer from normalized training images float [N, 3, H, W]; a few thousand are enough.

        The filters are the eigenvectors of the uncentered covariance of 3x3 patches, divided by the standard deviations
        along them, and the negatives of these filters.
        """
        values = 9 * self.stem.in_channels
        total, count = images.new_zeros(values, values), 0
        for some in images.split(max(1, PIXELS // images[0, 0].numel())):  # all patches would take gigabytes
            patches = some.unfold(2, 3, 3).unfold(3, 3, 3).permute(0, 2, 3, 1, 4, 5).reshape(-1, values)
            total, count = total + patches.T @ patches, count + len(patches)
        variances, eigenvectors = torch.linalg.eigh(total / count)
        filters = (eigenvectors / (variances + 1e-2).sqrt()).T.reshape(values, -1, 3, 3)
        self.stem.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stages(functional.relu(self.stem(images)))
        return (maps.amax((2, 3)) + maps.mean((2, 3))) * (self.scale / 2)


def fastnet(
    size: int,
    widths: Sequence[int] = (64, 192, 256),
    blocks: Sequence[int] = (1, 1, 1),
    scale: float = 0.125,
    reduction: int = 0,
    channels: int = 3,
) -> nn.Module:
    """Build a FastNet for images of `size` pixels.

    widths, scale: see FastNet. blocks: number of residual blocks per stage. reduction: number of channels / width of
    the gates' hidden layer; 0 for no gates. channels: of the images. Raises ValueError for lists of different length
    and for images that are too small.
    """
    if len(widths) != len(blocks):
        raise ValueError(f"widths and blocks must have the same length, found {len(widths)} and {len(blocks)}")
    if size < 2 ** len(widths):
        raise ValueError(f"{len(widths)} stages need images of at least {2 ** len(widths)} pixels, found {size}")
    return FastNet(widths, blocks, scale, reduction, channels)
