"""Augmentation of batches on their device, random per image and reproducible.

Every random number is a hash of (seed, epoch, sample, stream); there is no generator state. The augmentation of an
image therefore does not depend on its batch, its position in the batch, the number of processes, or whether the run was
resumed. On a CPU the resulting pixels are bitwise equal. On a GPU they may differ by rounding with the batch size. Only
`mix` combines images.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config.schema import Augment
from ...errors import SightlineError, listing
from ..channels import RGB, Channels
from . import color, geometry
from .own import augmented, check_own
from .policies import rand_augment, trivial_augment

Triple = tuple[float, float, float]
Draw = Callable[..., Tensor]
"""Function (stream, count=1) -> random numbers float32 [N, count] for the N images of a batch. Each use of random
numbers has another `stream`, an integer or a text."""

NORMALIZATIONS: dict[str, tuple[Triple, Triple]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of red, green and blue, for pixels in 0..1."""

# One stream per augmentation, so that switching one on does not change the random numbers of the others.
CROP, FLIP, FLOP, TURN, POLICY, JITTER, FACTORS, GRAYSCALE, BLUR, ERASE, MIX, SOLARIZE = range(12)

GOLDEN, MULTIPLIER_1, MULTIPLIER_2 = (c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""The constants of splitmix64 (Steele, Lea and Flood, OOPSLA 2014) as signed integers."""

BETA_STEPS = 4096
"""Intervals in the table of quantiles of a beta distribution."""


def uniform(seed: int, epoch: int, samples: Tensor, stream: int | str, count: int = 1) -> Tensor:
    """Uniform random numbers float32 [N, count] in [0, 1), multiples of 2^-24, equal on every device. A
    counter-based generator: splitmix64 of `samples` int64 [N], keyed by a hash of seed, epoch and stream."""
    text = f"{seed} {epoch} {stream}".encode()
    key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)
    state = scramble(samples * GOLDEN + key)
    counters = torch.arange(1, count + 1, device=samples.device) * GOLDEN
    bits = scramble(state[:, None] + counters)
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32).mul_(2.0**-24)


def scramble(values: Tensor) -> Tensor:
    """The finalizer of splitmix64 for each value, int64: a bijection, in the arithmetic of
    unsigned 64-bit integers."""
    values = (values ^ ((values >> 30) & (2**34 - 1))) * MULTIPLIER_1
    values = (values ^ ((values >> 27) & (2**37 - 1))) * MULTIPLIER_2
    return values ^ ((values >> 31) & (2**33 - 1))


def training_augmentation(
    augment: Augment, size: int, mean: Sequence[float], std: Sequence[float], channels: Channels = RGB
) -> Callable[[Tensor, Tensor, int, int], Tensor]:
    """Make the function that augments training batches.

    Its arguments are (images [N, C, H, W] as in the cache, samples int64 [N], seed, epoch). It returns float32 [N, C,
    size, size], normalized and channels_last. mean, std: per channel, for the normalization.

    The order: resize, crop, flips, rotation by 90 degrees, policy, brightness, contrast, saturation, hue, grayscale,
    blur, solarization, `augment.own`, normalization, erasing (with zeros, the mean after normalization). Crops, flips
    and rotations are computed on uint8 unless the images are resized first; images of more bits are scaled to float32
    at first. Raises SightlineError with all invalid settings (`check_augment`, `check_colors`).
    """
    check_augment(augment, size)
    check_colors(augment, channels)

    def transform(images: Tensor, samples: Tensor, seed: int, epoch: int) -> Tensor:
        samples, images = samples.to(images.device), geometry.scaled(images, channels)
        draw = partial(uniform, seed, epoch, samples)
        mirrored = flips(augment, samples, seed, epoch) if augment.horizontal_flip else None
        images = resize_and_crop(images, augment, size, draw, mirrored)
        if augment.vertical_flip:
            images = geometry.pick([images, images.flip(2)], (draw(FLOP)[:, 0] < augment.vertical_flip).long())
        if augment.rotate90:
            draws = draw(TURN, 2)
            quarters = torch.where(draws[:, 0] < augment.rotate90, 1 + (draws[:, 1] * 3).long(), 0)
            images = geometry.rotate90(images, quarters)
        images = recolor(images, augment, draw, channels.colors)
        images = normalize(images, mean, std)
        if augment.erase:
            images = erase(images, augment, draw)
        return images.contiguous(memory_format=torch.channels_last)

    return transform


def resize_and_crop(images: Tensor, augment: Augment, size: int, draw: Draw, mirrored: Tensor | None) -> Tensor:
    """Resize, crop and mirror images [N, 3, H, W] to [N, 3, size, size] in one pass, with the same result as in
    sequence.

    uint8 images remain uint8 if they are not resized. mirrored: int64 [N], 1 for images to mirror, else 0; None for
    none.
    """
    side = size if augment.crop == "none" else augment.resize or size
    fits, cropped = images.shape[2:] == (side, side), augment.crop == "random"
    if augment.crop == "resized":
        images = images if fits else geometry.resize(images, side)
        return geometry.resized_crop(images, *random_resized(augment, side, draw), (size, size), mirrored)
    corners = (draw(CROP, 2) * (side + 2 * augment.padding - size + 1)).long()  # all 0 without a crop
    if not fits:
        padding = (side, augment.padding, augment.padding_mode)
        rows, columns = (geometry.padded_indices(corners[:, axis], size, *padding) for axis in (0, 1))
        return geometry.resize(images, side, (rows, geometry.mirror_columns(columns, mirrored)))
    if cropped:
        images = geometry.pad(images, augment.padding, augment.padding_mode)
        images = geometry.crop(images, corners[:, 0], corners[:, 1], size)
    return images if mirrored is None else geometry.pick([images, images.flip(3)], mirrored)


def random_resized(augment: Augment, side: int, draw: Draw) -> tuple[Tensor, ...]:
    """Boxes of random area and aspect ratio in side x side pixels: (tops, lefts, heights, widths), int64 [N] each."""
    attempts = 2 * geometry.ATTEMPTS
    draws = draw(CROP, attempts + 2)
    scale, ratio = augment.crop_scale, augment.crop_ratio
    heights, widths, found = geometry.random_boxes(draws[:, :attempts], scale, ratio, side, side)
    central = geometry.central_box(ratio, side)
    tops, lefts = random_corners(draws[:, attempts:], heights, widths, side)
    boxes = [(tops, (side - central[0]) // 2), (lefts, (side - central[1]) // 2)]
    boxes += [(heights, central[0]), (widths, central[1])]
    return tuple(torch.where(found, drawn, fallback) for drawn, fallback in boxes)


def random_corners(draws: Tensor, heights: Tensor, widths: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Uniform random upper left corners (tops, lefts), int64 [N] each, of boxes with `heights` and `widths` in an
    image of side x side pixels. draws: random numbers [N, 2] in [0, 1)."""
    return (draws[:, 0] * (side - heights + 1)).long(), (draws[:, 1] * (side - widths + 1)).long()


def flips(augment: Augment, samples: Tensor, seed: int, epoch: int) -> Tensor:
    """Choose the images to mirror, int64 [N]: 1 to mirror, else 0. With `augment.alternate_flip` (arXiv 2404.00498),
    each image is mirrored in exactly one of the epochs 2k and 2k + 1."""
    if augment.alternate_flip:
        return (uniform(seed, 0, samples, FLIP)[:, 0] < 0.5).long() ^ (epoch & 1)
    return (uniform(seed, epoch, samples, FLIP)[:, 0] < augment.horizontal_flip).long()


def recolor(images: Tensor, augment: Augment, draw: Draw, colors: bool = True) -> Tensor:
    """Apply policy, color jitter, grayscale, blur, solarization and the user's own augmentations. colors: whether the
    channels are red, green and blue.

    Returns float images in 0..1, or the uint8 input unchanged if none of these is switched on.
    """
    if augment.policy == "trivial":
        images = trivial_augment(geometry.to_unit(images), draw(POLICY, 3))
    elif augment.policy == "rand":
        images = rand_augment(geometry.to_unit(images), draw(POLICY, 2 * augment.rand_ops), augment.rand_magnitude)
    if augment.jitter and (augment.brightness or augment.contrast or augment.saturation or augment.hue):
        chosen = draw(JITTER)[:, 0] < augment.jitter
        change = partial(jitter, augment=augment, colors=colors)
        images = color.apply_to(geometry.to_unit(images), chosen, change, draw(FACTORS, 4))
    if augment.grayscale:
        images = color.apply_to(geometry.to_unit(images), draw(GRAYSCALE)[:, 0] < augment.grayscale, color.grayscale)
    if augment.blur:
        draws = draw(BLUR, 2)
        low, high = augment.blur_sigma
        sigmas = low + draws[:, 1] * (high - low)
        images = color.apply_to(geometry.to_unit(images), draws[:, 0] < augment.blur, color.blur, sigmas)
    if augment.solarize:
        chosen = draw(SOLARIZE)[:, 0] < augment.solarize
        halves = torch.full((len(images),), 0.5, device=images.device)
        images = color.apply_to(geometry.to_unit(images), chosen, color.solarize, halves)
    for name in augment.own:
        images = augmented(name, geometry.to_unit(images), partial(draw, f"own {name}"))
    return images


def jitter(images: Tensor, draws: Tensor, augment: Augment, colors: bool = True) -> Tensor:
    """Change brightness, contrast, saturation and hue at random, in this order; draws: random numbers [N, 4] in [0, 1).

    For a setting x, the factors are uniform in [max(0, 1 - x), 1 + x], and the shift of hue in [-x, x]. torchvision's
    ColorJitter has the same ranges, but a random order. colors: False for channels that are not red, green and blue.
    """
    adjustments = [
        (color.brightness if colors else color.gain, augment.brightness),
        (color.contrast if colors else color.spread, augment.contrast),
        (color.saturation, augment.saturation),
    ]
    for column, (adjust, strength) in enumerate(adjustments):
        if strength:
            low = max(0.0, 1 - strength)
            images = adjust(images, low + draws[:, column] * (1 + strength - low))
    return color.hue(images, augment.hue * (2 * draws[:, 3] - 1)) if augment.hue else images


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x - mean) / std per channel, as a new float32 tensor; uint8 images are scaled to 0..1 first."""
    assert images.dtype != torch.uint16  # see `geometry.scaled`
    top = 1.0 if images.is_floating_point() else 255.0
    about: dict[str, Any] = {"dtype": torch.float32, "device": images.device}
    scale = torch.tensor([1 / (top * s) for s in std], **about)[:, None, None]
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], **about)[:, None, None]
    return (images.to(torch.float32) * scale).sub_(shift)


def erase(images: Tensor, augment: Augment, draw: Draw) -> Tensor:
    """Random erasing (arXiv 1708.04896): set one random box to 0. As in torchvision, nothing is erased if ten random
    boxes do not fit into the image."""
    side, attempts = images.shape[3], 2 * geometry.ATTEMPTS
    draws = draw(ERASE, attempts + 3)
    scale, ratio = augment.erase_scale, augment.erase_ratio
    heights, widths, found = geometry.random_boxes(draws[:, :attempts], scale, ratio, side, side - 1)
    tops, lefts = random_corners(draws[:, attempts : attempts + 2], heights, widths, side)
    chosen = found & (draws[:, attempts + 2] < augment.erase)
    boxes = geometry.box_mask(tops, lefts, tops + heights * chosen, lefts + widths, side, side)
    return images * ~boxes


def evaluation_transform(
    size: int, mean: Sequence[float], std: Sequence[float], share: float = 1.0, channels: Channels = RGB
) -> Callable[[Tensor], Tensor]:
    """Make a function images [N, C, H, W] as in the cache -> float32 [N, C, size, size], normalized, channels_last.

    Images of another size than `size` are resized (bilinear, antialiased). share: `data.eval_crop`, the side of the
    central part that is used of such images, which are training images stored for random crops.
    """

    def transform(images: Tensor) -> Tensor:
        images = geometry.scaled(images, channels)
        if images.shape[2:] != (size, size):
            height, width = (round(extent * share) for extent in images.shape[2:])
            top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
            images = geometry.resize(images[:, :, top : top + height, left : left + width], size)
        return normalize(images, mean, std).contiguous(memory_format=torch.channels_last)

    return transform


def mix(
    images: Tensor, targets: Tensor, samples: Tensor, seed: int, epoch: int, augment: Augment
) -> tuple[Tensor, Tensor]:
    """mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899) of images [N, C, H, W] and targets [N, K].

    Image i is mixed with its partner, image i - 1 of the batch; the first is mixed with the last. Each image is mixed
    with probability `mix_probability`. If mixup and cutmix are both on, one of them is chosen with equal probability.
    The weight of the image itself is drawn from Beta(alpha, alpha) per image, and its partner has the rest; for cutmix
    the weight of the image is the area outside the clipped box.
    """
    height, width = images.shape[2:]
    draws = uniform(seed, epoch, samples.to(images.device), MIX, 5)
    mixes = draws[:, 0] < augment.mix_probability
    cuts = mixes & (draws[:, 1] < (0.5 if augment.mixup else 1.0)) if augment.cutmix else torch.zeros_like(mixes)
    shares = torch.ones_like(draws[:, 2])
    if augment.mixup:
        shares = torch.where(mixes & ~cuts, beta_quantile(draws[:, 2], augment.mixup), shares)
    weights = color.per_image(shares)
    if augment.cutmix:
        halves = 0.5 * (1 - beta_quantile(draws[:, 2], augment.cutmix)).sqrt()
        centers_y, centers_x = (draws[:, 3] * height).long(), (draws[:, 4] * width).long()
        half_y, half_x = (halves * height).long(), (halves * width).long()
        tops, bottoms = (centers_y - half_y).clamp_min(0), (centers_y + half_y).clamp_max(height)
        lefts, rights = (centers_x - half_x).clamp_min(0), (centers_x + half_x).clamp_max(width)
        box = geometry.box_mask(tops, lefts, bottoms, rights, height, width)
        weights = torch.where(box & color.per_image(cuts), 0.0, weights)
        remaining = 1 - (bottoms - tops) * (rights - lefts) / (height * width)
        shares = torch.where(cuts, remaining, shares)
    mixed = images * weights + images.roll(1, 0) * (1 - weights)
    shares = shares[:, None]
    return mixed.contiguous(memory_format=torch.channels_last), targets * shares + targets.roll(1, 0) * (1 - shares)


def beta_quantile(draws: Tensor, alpha: float) -> Tensor:
    """Quantiles of Beta(alpha, alpha) at the probabilities `draws` [N], by linear interpolation in `beta_table`."""
    table = beta_table(alpha).to(draws.device)
    positions = draws * BETA_STEPS
    below = positions.long()
    low, high = table[below], table[below + 1]
    return low + (positions - below) * (high - low)


@lru_cache
def beta_table(alpha: float) -> Tensor:
    """Quantiles of Beta(alpha, alpha) at evenly spaced probabilities 0..1, float32 [BETA_STEPS + 1]."""
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, np.linspace(0, 1, BETA_STEPS + 1))).float()


def check_colors(augment: Augment, channels: Channels) -> None:
    """Raise SightlineError with all settings that need red, green and blue, if the images have other channels."""
    color_only = ("policy", "saturation", "hue", "grayscale", "solarize")
    used = [f"augment.{name}" for name in color_only if getattr(augment, name) not in (0, "none")]
    if channels.colors or not used:
        return
    why = f"the images have {len(channels)} channel{'s' * (len(channels) > 1)} ({', '.join(channels.names[:8])}) of "
    why += f"{channels.dtype}; without red, green and blue, augment.brightness and augment.contrast are available"
    off = " ".join(f"--{name} {'none' if name.endswith('policy') else 0}" for name in used)
    cure = f"switch them off: {off}; or convert the images to 8-bit RGB: --data.channels rgb"
    many = "need" if len(used) > 1 else "needs"
    raise SightlineError(f"{', '.join(used)} {many} RGB images", where="augment", why=why, cure=cure)


def check_augment(augment: Augment, size: int) -> None:
    """Raise SightlineError with all crop and padding settings that are invalid for `data.size` `size`."""
    side, padding = augment.resize or size, augment.padding
    faults = []
    if augment.crop == "random" and side + 2 * padding < size:
        padded = f"an image of augment.resize {side} and augment.padding {padding} is {side + 2 * padding} pixels wide"
        faults.append(f"{padded}, which is smaller than the crops of data.size {size}")
    if augment.crop == "random" and augment.padding_mode == "reflect" and padding >= side:
        faults.append(f"augment.padding {padding} with augment.padding_mode reflect must be below the side, {side}")
    if augment.crop != "random" and padding:
        faults.append(f"augment.padding {padding} has no effect without augment.crop random: set it to 0")
    if augment.crop == "none" and augment.resize:
        faults.append(f"augment.resize {augment.resize} has no effect without a crop: set augment.crop, or resize 0")
    reject_faults(faults, "change augment.crop, augment.padding, augment.resize or data.size")
    check_own(augment.own)


def reject_faults(faults: list[str], cure: str) -> None:
    """Raise SightlineError with all faults in the settings of augmentation, if there are any."""
    if faults:
        raise SightlineError("invalid augmentation settings", where="augment", why="\n" + listing(faults), cure=cure)
