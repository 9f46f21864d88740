"""Mean and deviation of the channels of images, for their normalization."""

import math

import numpy as np
from torch import Tensor

from ..types import Decoded
from .batch import Triple

NORMAL_SPREAD = 4.107
"""98th minus 2nd percentile of the standard normal distribution."""
STATISTICS_PIXELS = 2**20


def channel_statistics(images: np.ndarray | Tensor) -> tuple[Triple, Triple]:
    """Means and standard deviations of the channels of uint8 images [N, 3, H, W], exact, for pixel values in 0..1.
    Standard deviations are at least 1/255, so that constant channels can be normalized."""
    counts = np.zeros((3, 256))
    for start in range(0, len(images), 256):
        block = np.asarray(images[start : start + 256])
        counts += [np.bincount(block[:, channel].ravel(), minlength=256) for channel in range(3)]
    values = np.arange(256) / 255
    means = [float((row * values).sum() / row.sum()) for row in counts]
    variances = [(row * (values - m) ** 2).sum() / row.sum() for row, m in zip(counts, means, strict=True)]
    stds = [max(math.sqrt(v), 1 / 255) for v in variances]
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])


def robust_statistics(decoded: Decoded) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Medians and robust standard deviations of the channels of a split, for pixels divided by `top`.

    The deviation is (98th - 2nd percentile) / NORMAL_SPREAD, which is that of a normal distribution. About
    STATISTICS_PIXELS random pixels of all images are used. If the split has values without data, zeros are left out.
    """
    count, each = len(decoded.images), -(-STATISTICS_PIXELS // len(decoded.images))
    sizes = decoded.sizes if len(decoded.sizes) else np.tile(decoded.images.shape[2:], (count, 1))
    rng, parts = np.random.default_rng(0), []
    for image, (height, width) in zip(decoded.images, sizes.tolist(), strict=True):
        rows, columns = rng.integers(0, height, each), rng.integers(0, width, each)
        parts.append(image[:, rows, columns])
    means, stds = [], []
    for values in np.concatenate(parts, 1).astype(np.float64) / decoded.channels.top:
        values = values[values != 0] if decoded.missing and values.any() else values
        low, middle, high = np.percentile(values, (2, 50, 98)).tolist()
        means.append(middle)
        stds.append((high - low) / NORMAL_SPREAD or float(values.std()) or 1.0)
    return tuple(means), tuple(stds)
