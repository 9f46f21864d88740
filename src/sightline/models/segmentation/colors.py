"""Two trivial segmentation networks: the same logits for all pixels, and color statistics of each pixel."""

from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALES = (5, 17)
"""Sides in pixels of the squares whose means and standard deviations are features of the pixel in their center."""


class FixedFeatures(nn.Module):
    """Features without weights: images [N, C, H, W] -> one feature, 1, for the whole image, [N, 1, 1, 1]."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels, self.width = channels, 1

    def forward(self, images: Tensor) -> Tensor:
        return torch.ones_like(images[:, :1, :1, :1])


class ColorStatistics(FixedFeatures):
    """Features of the colors around each pixel: images [N, C, H, W] -> [N, width, H, W].

    The channels, their squares and products, and the mean and standard deviation of each channel in the squares of
    SCALES around the pixel, without what is outside the image.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.width = channels + channels * (channels + 1) // 2 + 2 * channels * len(SCALES)

    def forward(self, images: Tensor) -> Tensor:
        images = images.float()  # in bf16 the variance, a small difference, would be wrong
        pairs = combinations_with_replacement(range(self.channels), 2)
        found = [images, torch.stack([images[:, one] * images[:, other] for one, other in pairs], 1)]
        for side in SCALES:
            mean, square = local_mean(images, side), local_mean(images.square(), side)
            found += [mean, (square - mean.square()).clamp(min=1e-6).sqrt()]
        return torch.cat(found, 1)


def local_mean(maps: Tensor, side: int) -> Tensor:
    """Means of maps [N, C, H, W] over squares of `side` pixels around each pixel, of the pixels inside the image."""
    rows = functional.avg_pool2d(maps, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)


class PixelClassifier(nn.Module):
    """Logistic regression of the standardized features of each pixel: images [N, C, H, W] -> logits [N, classes, h, w],
    at the resolution of the features."""

    def __init__(self, features: FixedFeatures, classes: int):
        super().__init__()
        self.features = features
        # One feature needs no standardization: its weights are the biases of the classes.
        self.norm = nn.BatchNorm2d(features.width, affine=False) if features.width > 1 else nn.Identity()
        self.classes = nn.Conv2d(features.width, classes, 1, bias=features.width > 1)
        for parameter in self.classes.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        return self.classes(self.norm(self.features(images)))

    def begin_with(self, counts: Tensor) -> None:
        """Initialize the logits of all pixels to the logarithms of the class frequencies. counts: pixels per class."""
        shares = (counts.float() + 1) / (counts.sum() + len(counts))
        with torch.no_grad():
            (self.classes.weight[:, 0, 0, 0] if self.classes.bias is None else self.classes.bias).copy_(shares.log())


def constant(classes: int, channels: int = 3) -> PixelClassifier:
    """Build a network with one number per class, which give the frequencies of the classes."""
    return PixelClassifier(FixedFeatures(channels), classes)


def colors(classes: int, channels: int = 3) -> PixelClassifier:
    """Build a network that classifies each pixel by the colors around it, see `ColorStatistics`."""
    return PixelClassifier(ColorStatistics(channels), classes)
