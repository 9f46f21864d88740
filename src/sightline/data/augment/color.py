"""Color augmentations, with one factor per image of a batch.

Images are float [N, 3, H, W] in 0..1, factors float [N]; nothing is changed in place. The definitions are those of
torchvision.transforms.v2.functional on float images, and for posterize and equalize those on uint8 images.
Multiplications and additions are not fused, so that the result for an image does not depend on its batch (geometry.py).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .geometry import Taps, precise, separable

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601, rounded as in torchvision)."""


def apply_to(images: Tensor, chosen: Tensor, operation: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Apply operation(images, *parameters) to the images where `chosen` bool [N] is true; others do not change."""
    rows = chosen.nonzero()[:, 0]
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return operation(images, *parameters)
    changed = operation(images.index_select(0, rows), *(p.index_select(0, rows) for p in parameters))
    return images.index_copy(0, rows, changed)


def blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """others + factors * (images - others), clamped to 0..1: factor 1 gives `images`, 0 gives `others`."""
    return (images * per_image(factors)).add_(others * per_image(1 - factors)).clamp_(0, 1)


def per_image(values: Tensor) -> Tensor:
    """Reshape [N] to [N, 1, 1, 1]."""
    return values[:, None, None, None]


def luma(images: Tensor) -> Tensor:
    """Gray values of RGB images, [N, 1, H, W]."""
    red, green, blue = (images[:, c : c + 1] * weight for c, weight in enumerate(LUMA))
    return red.add_(green).add_(blue)


def grayscale(images: Tensor) -> Tensor:
    """Convert to gray, as three equal channels."""
    return luma(images).expand_as(images).contiguous()


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply each image by its factor, clamped to 0..1."""
    return (images * per_image(factors)).clamp_(0, 1)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Scale the difference of each pixel to its image's mean gray value by a factor; above 1 adds contrast."""
    # Row by row, because a sum over everything is split differently when the batch is a single image.
    means = luma(images).mean(3).mean(2)[:, :, None, None]
    return blend(images, means, factors)


def gain(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply each image by its factor, without limits: `brightness` of any channels."""
    return images * per_image(factors)


def spread(images: Tensor, factors: Tensor) -> Tensor:
    """Scale the difference of each value to the mean of its channel by a factor, without limits: `contrast` of any
    channels."""
    means = images.mean(3).mean(2)[:, :, None, None]
    return (images - means).mul_(per_image(factors)).add_(means)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Scale the difference of each pixel to its own gray value by the image's factor; above 1 saturates, 0 makes
    gray. PIL and the policies call this operation "color"."""
    return blend(images, luma(images), factors)


def hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift the hue by `shifts` float [N] in the HSV model. 1 is a full circle, 0.5 gives the opposite color."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    spread = value - images.amin(1)
    divisor = torch.where(spread == 0, 1.0, spread)
    sextant = torch.where(
        red == value,
        (green - blue).div_(divisor),
        torch.where(green == value, (blue - red).div_(divisor).add_(2), (red - green).div_(divisor).add_(4)),
    )
    sextant.add_(shifts[:, None, None] * 6)
    # HSV to RGB in closed form: f(n) = V - VS max(0, min(k, 4 - k, 1)), k = (n + H / 60 degrees) mod 6, n = 5, 3, 1.
    k = sextant[:, None] + sextant.new_tensor([5.0, 3.0, 1.0])[:, None, None]
    k.sub_((k / 6).floor_().mul_(6))
    distance = torch.minimum(k, 4 - k).clamp_(0, 1)
    return distance.mul_(spread[:, None]).neg_().add_(value[:, None])


def blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussian blur; sigmas: float [N], in pixels. Images are reflected at the edges. The kernel width is a tenth of
    the side, as in SimCLR (arXiv 2002.05709), odd and at least 3: 23 pixels at 224."""
    rows, columns = (gaussian_taps(sigmas, extent, kernel_width(extent) // 2) for extent in images.shape[2:])
    return separable(images, rows, columns)


def kernel_width(extent: int) -> int:
    """Width in pixels of the Gaussian kernel for a side of `extent` pixels; 1 (no blur) below 3 pixels."""
    return max(3, extent // 10 | 1) if extent >= 3 else 1


def gaussian_taps(sigmas: Tensor, extent: int, half: int) -> Taps:
    """`Taps` (geometry.py) that blur an axis of `extent` pixels by kernels of 2 * half + 1 pixels."""
    distances = torch.arange(-half, half + 1, device=sigmas.device)
    # In double precision, because the last bit of exp may depend on the position in the batch.
    bell = (-0.5 * (distances / sigmas[:, None].to(precise(sigmas.device))).square()).exp()
    weights = (bell / bell.sum(1, keepdim=True)).float()
    indices = (torch.arange(extent, device=sigmas.device)[:, None] + distances).abs()
    indices = torch.minimum(indices, 2 * (extent - 1) - indices)
    return indices.expand(len(sigmas), -1, -1), weights[:, None].expand(-1, extent, -1)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` (int64 [N], 0 to 8) of each 8-bit value, and set the lower bits to 0."""
    step = per_image(2.0 ** (8 - bits))
    return images.mul(255).round_().div_(step).floor_().mul_(step).div_(255)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert the pixel values at or above the threshold of their image; thresholds: float [N] in 0..1."""
    return torch.where(images >= per_image(thresholds), 1 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch the values of each channel to 0..1; a constant channel does not change."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high
    return (images - torch.where(flat, 0.0, low)).div_(torch.where(flat, 1.0, high - low)).clamp_(0, 1)


def equalize(images: Tensor) -> Tensor:
    """Equalize the histogram of 256 levels of each channel, as in Pillow; a constant channel does not change."""
    levels = images.flatten(2).mul(255).round_().long()
    histogram = torch.zeros(*levels.shape[:2], 256, dtype=torch.long, device=images.device)
    histogram.scatter_add_(2, levels, torch.ones_like(levels))
    last = histogram.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - last) // 255
    below = histogram.cumsum(2) - histogram
    table = (below + step // 2) // step.clamp_min(1)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table.clamp_(0, 255))
    return table.float().div_(255).gather(2, levels).view_as(images)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Sharpen (factor > 1) or smooth (factor < 1) by blending each image with its smoothed version. The smoothing
    kernel is 3 x 3: center 5, neighbors 1, divided by 13. The outermost pixels do not change."""
    if min(images.shape[2:]) < 3:
        return images
    inner = images[..., 1:-1, 1:-1]
    rows = images[..., :-2, :] + images[..., 1:-1, :] + images[..., 2:, :]
    smooth = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(inner * 4).div_(13)
    result = images.clone()
    result[..., 1:-1, 1:-1] = blend(inner, smooth, factors)
    return result
