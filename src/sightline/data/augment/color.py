"""What pixels become: color, contrast, sharpness. Each image of a batch has its own factor.

Images are float [N, 3, H, W] in 0..1, factors float [N]; nothing is changed in place. The definitions are those of
torchvision.transforms.v2.functional on float images; where an operation is one on 256 levels (posterize, equalize)
they are those on uint8 images. Fused multiply-adds are avoided for the reason given in geometry.py.
"""

from collections.abc import Callable

import torch

from .geometry import Taps, precise, separable

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601, rounded as in torchvision)."""


def apply_to(
    images: torch.Tensor,
    chosen: torch.Tensor,
    operation: Callable[..., torch.Tensor],
    *parameters: torch.Tensor,
) -> torch.Tensor:
    """operation(images, *parameters) for the images where chosen (bool [N]) holds; the others as they are."""
    rows = chosen.nonzero()[:, 0]
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return operation(images, *parameters)
    changed = operation(images.index_select(0, rows), *(p.index_select(0, rows) for p in parameters))
    return images.index_copy(0, rows, changed)


def blend(images: torch.Tensor, others: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """others + factors * (images - others), cut to 0..1: factor 1 is the image, 0 the other, above 1 away from it."""
    return (images * per_image(factors)).add_(others * per_image(1 - factors)).clamp_(0, 1)


def per_image(values: torch.Tensor) -> torch.Tensor:
    """[N] to [N, 1, 1, 1]."""
    return values[:, None, None, None]


def luma(images: torch.Tensor) -> torch.Tensor:
    """Gray values [N, 1, H, W]."""
    red, green, blue = (images[:, c : c + 1] * weight for c, weight in enumerate(LUMA))
    return red.add_(green).add_(blue)


def grayscale(images: torch.Tensor) -> torch.Tensor:
    """Gray in three equal channels."""
    return luma(images).expand_as(images).contiguous()


def brightness(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """The image times its factor."""
    return (images * per_image(factors)).clamp_(0, 1)


def contrast(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Away from (factor > 1) or towards the image's own mean gray."""
    # Row by row, because a sum over everything is split differently when the batch is a single image.
    means = luma(images).mean(3).mean(2)[:, :, None, None]
    return blend(images, means, factors)


def saturation(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Away from (factor > 1) or towards gray. PIL and the policies call this "color"."""
    return blend(images, luma(images), factors)


def hue(images: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """The hue turned by shifts (float [N], in whole circles: 0.5 is the opposite color); value and saturation stay."""
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


def blur(images: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Gaussian blur with sigmas in pixels; mirrored at the edges.

    The kernel is a tenth of the side wide, as in SimCLR (arXiv 2002.05709), odd and at least 3: 23 pixels at 224.
    """
    rows, columns = (gaussian_taps(sigmas, extent, kernel_width(extent) // 2) for extent in images.shape[2:])
    return separable(images, rows, columns)


def kernel_width(extent: int) -> int:
    """Width in pixels of the Gaussian kernel for an image side; sides below 3 pixels are not blurred (1)."""
    return max(3, extent // 10 | 1) if extent >= 3 else 1


def gaussian_taps(sigmas: torch.Tensor, extent: int, half: int) -> Taps:
    """Taps that blur `extent` pixels with kernels of 2 * half + 1."""
    distances = torch.arange(-half, half + 1, device=sigmas.device)
    # In double precision, because the last bit of exp may differ with the place in the batch.
    bell = (-0.5 * (distances / sigmas[:, None].to(precise(sigmas.device))).square()).exp()
    weights = (bell / bell.sum(1, keepdim=True)).float()
    places = (torch.arange(extent, device=sigmas.device)[:, None] + distances).abs()
    places = torch.minimum(places, 2 * (extent - 1) - places)
    return places.expand(len(sigmas), -1, -1), weights[:, None].expand(-1, extent, -1)


def posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Only the highest bits (int64 [N], 0 to 8) of each pixel's byte are kept."""
    step = per_image(2.0 ** (8 - bits))
    return images.mul(255).round_().div_(step).floor_().mul_(step).div_(255)


def solarize(images: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """Pixels at or above the image's threshold (0..1) are inverted."""
    return torch.where(images >= per_image(thresholds), 1 - images, images)


def autocontrast(images: torch.Tensor) -> torch.Tensor:
    """Each channel stretched to 0..1; a channel of one value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high
    return (images - torch.where(flat, 0.0, low)).div_(torch.where(flat, 1.0, high - low)).clamp_(0, 1)


def equalize(images: torch.Tensor) -> torch.Tensor:
    """Each channel's histogram of 256 levels made even, by Pillow's rule; a channel of one value stays."""
    levels = images.flatten(2).mul(255).round_().long()
    histogram = torch.zeros(*levels.shape[:2], 256, dtype=torch.long, device=images.device)
    histogram.scatter_add_(2, levels, torch.ones_like(levels))
    last = histogram.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - last) // 255
    below = histogram.cumsum(2) - histogram
    table = (below + step // 2) // step.clamp_min(1)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table.clamp_(0, 255))
    return table.float().div_(255).gather(2, levels).view_as(images)


def sharpness(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Away from (factor > 1) or towards a 3 x 3 smoothing (center 5, neighbors 1, over 13); the border stays."""
    if min(images.shape[2:]) < 3:
        return images
    inner = images[..., 1:-1, 1:-1]
    rows = images[..., :-2, :] + images[..., 1:-1, :] + images[..., 2:, :]
    smooth = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(inner * 4).div_(13)
    result = images.clone()
    result[..., 1:-1, 1:-1] = blend(inner, smooth, factors)
    return result
