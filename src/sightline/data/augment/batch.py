"""Augmentation of whole batches on their device, random per image and repeatable.

Every random number is a hash of (seed, epoch, sample, stream): no generator has a state, so an image's augmentation
depends neither on its batch, its place in it or the images before it, nor on workers, ranks or a resumed run.
On a processor the pixels are then the same to the bit; on a GPU, whose matrix products and sums may be ordered by the
size of the batch, to float rounding. Only `mix` looks at other images of the batch.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import torch

from ...config.schema import Augment
from ...errors import SightlineError
from . import color, geometry
from .policies import rand_augment, trivial_augment

Triple = tuple[float, float, float]
Draw = Callable[..., torch.Tensor]
"""(stream, count=1) to random numbers float32 [N, count] of the batch at hand."""

NORMALIZATIONS: dict[str, tuple[Triple, Triple]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of red, green and blue in 0..1."""

# One stream per purpose, so that switching one augmentation on leaves the draws of the others as they were.
CROP, FLIP, FLOP, TURN, POLICY, JITTER, FACTORS, GRAYSCALE, BLUR, ERASE, MIX, SOLARIZE = range(12)

GOLDEN, MULTIPLIER_1, MULTIPLIER_2 = (c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""The constants of splitmix64 (Steele, Lea and Flood, OOPSLA 2014) as signed integers."""

BETA_STEPS = 4096


def uniform(seed: int, epoch: int, samples: torch.Tensor, stream: int, count: int = 1) -> torch.Tensor:
    """float32 [N, count] in [0, 1), multiples of 2^-24: a pure function of the arguments, on every device the same.

    samples: int64 [N]. A counter-based generator: splitmix64 of the sample, keyed by a hash of seed, epoch and stream.
    """
    text = f"{seed} {epoch} {stream}".encode()
    key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)
    state = scramble(samples * GOLDEN + key)
    counters = torch.arange(1, count + 1, device=samples.device) * GOLDEN
    bits = scramble(state[:, None] + counters)
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32).mul_(2.0**-24)


def scramble(values: torch.Tensor) -> torch.Tensor:
    """The finalizer of splitmix64, a bijection of 64 bits: products wrap around, masks make shifts logical."""
    values = (values ^ ((values >> 30) & (2**34 - 1))) * MULTIPLIER_1
    values = (values ^ ((values >> 27) & (2**37 - 1))) * MULTIPLIER_2
    return values ^ ((values >> 31) & (2**33 - 1))


def training_augmentation(
    augment: Augment, size: int, mean: Sequence[float], std: Sequence[float]
) -> Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor]:
    """A function (images uint8 [N, 3, H, W], samples int64 [N], seed, epoch) to float32 [N, 3, size, size].

    The result is channels_last and normalized. The order: resize, crop, flips, turns, policy, brightness, contrast,
    saturation, hue, grayscale, blur, solarization, normalization, erasing (with zeros, the mean after normalization).
    Only what is switched on is computed; crops, flips and turns on bytes where no resize comes before them.
    Raises SightlineError naming every setting that cannot work (`check_augment`).
    """
    check_augment(augment, size)

    def transform(images: torch.Tensor, samples: torch.Tensor, seed: int, epoch: int) -> torch.Tensor:
        samples = samples.to(images.device)
        draw = partial(uniform, seed, epoch, samples)
        mirrored = flips(augment, samples, seed, epoch) if augment.horizontal_flip else None
        images = frame(images, augment, size, draw, mirrored)
        if augment.vertical_flip:
            images = geometry.pick([images, images.flip(2)], (draw(FLOP)[:, 0] < augment.vertical_flip).long())
        if augment.rotate90:
            draws = draw(TURN, 2)
            quarters = torch.where(draws[:, 0] < augment.rotate90, 1 + (draws[:, 1] * 3).long(), 0)
            images = geometry.turn(images, quarters)
        images = recolor(images, augment, draw)
        images = normalize(images, mean, std)
        if augment.erase:
            images = erase(images, augment, draw)
        return images.contiguous(memory_format=torch.channels_last)

    return transform


def frame(images: torch.Tensor, augment: Augment, size: int, draw: Draw, mirrored: torch.Tensor | None) -> torch.Tensor:
    """Resize, crop and mirror: [N, 3, H, W] to [N, 3, size, size], still uint8 where pixels are only copied.

    What is resized is cropped and mirrored in the same pass, to the same bits as one after the other.
    """
    side = size if augment.crop == "none" else augment.resize or size
    fits, cropped = images.shape[2:] == (side, side), augment.crop == "random"
    if augment.crop == "resized":
        images = images if fits else geometry.resize(images, side)
        return geometry.resized_crop(images, *random_resized(augment, side, draw), (size, size), mirrored)
    corners = (draw(CROP, 2) * (side + 2 * augment.padding - size + 1)).long()  # all 0 where nothing is cropped
    if not fits:
        padding = (side, augment.padding, augment.padding_mode)
        rows, columns = (geometry.padded_places(corners[:, axis], size, *padding) for axis in (0, 1))
        return geometry.resize(images, side, (rows, geometry.mirrored_where(columns, mirrored)))
    if cropped:
        images = geometry.pad(images, augment.padding, augment.padding_mode)
        images = geometry.crop(images, corners[:, 0], corners[:, 1], size)
    return images if mirrored is None else geometry.pick([images, images.flip(3)], mirrored)


def random_resized(augment: Augment, side: int, draw: Draw) -> tuple[torch.Tensor, ...]:
    """Boxes of random area and shape within side x side: tops, lefts, heights and widths int64 [N]."""
    attempts = 2 * geometry.ATTEMPTS
    draws = draw(CROP, attempts + 2)
    scale, ratio = augment.crop_scale, augment.crop_ratio
    heights, widths, found = geometry.random_boxes(draws[:, :attempts], scale, ratio, side, side)
    central = geometry.central_box(ratio, side)
    tops, lefts = place(draws[:, attempts:], heights, widths, side)
    boxes = [(tops, (side - central[0]) // 2), (lefts, (side - central[1]) // 2)]
    boxes += [(heights, central[0]), (widths, central[1])]
    return tuple(torch.where(found, drawn, fallback) for drawn, fallback in boxes)


def place(
    draws: torch.Tensor, heights: torch.Tensor, widths: torch.Tensor, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform upper left corners (tops, lefts) int64 [N] of boxes within a side x side image; draws: [N, 2]."""
    return (draws[:, 0] * (side - heights + 1)).long(), (draws[:, 1] * (side - widths + 1)).long()


def flips(augment: Augment, samples: torch.Tensor, seed: int, epoch: int) -> torch.Tensor:
    """Which images are mirrored, int64 [N] of 0 and 1: at random, or alternating from a random start per image.

    Alternating (arXiv 2404.00498): the two epochs 2k and 2k + 1 together show each image and its mirror image once.
    """
    if augment.alternate_flip:
        return (uniform(seed, 0, samples, FLIP)[:, 0] < 0.5).long() ^ (epoch & 1)
    return (uniform(seed, epoch, samples, FLIP)[:, 0] < augment.horizontal_flip).long()


def recolor(images: torch.Tensor, augment: Augment, draw: Draw) -> torch.Tensor:
    """Policy, jitter, grayscale, blur and solarization on images in 0..1; untouched (uint8 too) where none is on."""
    if augment.policy == "trivial":
        images = trivial_augment(geometry.to_unit(images), draw(POLICY, 3))
    elif augment.policy == "rand":
        images = rand_augment(geometry.to_unit(images), draw(POLICY, 2 * augment.rand_ops), augment.rand_magnitude)
    if augment.jitter and (augment.brightness or augment.contrast or augment.saturation or augment.hue):
        chosen = draw(JITTER)[:, 0] < augment.jitter
        images = color.apply_to(geometry.to_unit(images), chosen, partial(jitter, augment=augment), draw(FACTORS, 4))
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
    return images


def jitter(images: torch.Tensor, draws: torch.Tensor, augment: Augment) -> torch.Tensor:
    """Brightness, contrast, saturation, hue, in this order; draws: [N, 4].

    Factors are uniform in [max(0, 1 - x), 1 + x] and the shift of hue in [-x, x], as in torchvision's ColorJitter,
    which draws the order too.
    """
    adjustments = [
        (color.brightness, augment.brightness),
        (color.contrast, augment.contrast),
        (color.saturation, augment.saturation),
    ]
    for column, (adjust, strength) in enumerate(adjustments):
        if strength:
            low = max(0.0, 1 - strength)
            images = adjust(images, low + draws[:, column] * (1 + strength - low))
    return color.hue(images, augment.hue * (2 * draws[:, 3] - 1)) if augment.hue else images


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(x - mean) / std per channel, of uint8 images (taken as 0..1) or float ones; a new float32 tensor."""
    top = 1.0 if images.is_floating_point() else 255.0
    scale = torch.tensor([1 / (top * s) for s in std], device=images.device)[:, None, None]
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=images.device)[:, None, None]
    return (images.to(torch.float32) * scale).sub_(shift)


def erase(images: torch.Tensor, augment: Augment, draw: Draw) -> torch.Tensor:
    """Random erasing (arXiv 1708.04896): one box of zeros; none where torchvision's ten attempts would find none."""
    side, attempts = images.shape[3], 2 * geometry.ATTEMPTS
    draws = draw(ERASE, attempts + 3)
    heights, widths, found = geometry.random_boxes(
        draws[:, :attempts], augment.erase_scale, augment.erase_ratio, side, side - 1
    )
    tops, lefts = place(draws[:, attempts : attempts + 2], heights, widths, side)
    chosen = found & (draws[:, attempts + 2] < augment.erase)
    boxes = geometry.box_mask(tops, lefts, tops + heights * chosen, lefts + widths, side, side)
    return images * ~boxes


def evaluation_transform(
    size: int, mean: Sequence[float], std: Sequence[float]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function (images uint8 [N, 3, H, W]) to float32 [N, 3, size, size], channels_last.

    Resized (bilinear, antialiased) where the sides differ from `size`, and normalized.
    """

    def transform(images: torch.Tensor) -> torch.Tensor:
        if images.shape[2:] != (size, size):
            images = geometry.resize(images, size)
        return normalize(images, mean, std).contiguous(memory_format=torch.channels_last)

    return transform


def mix(
    images: torch.Tensor, targets: torch.Tensor, samples: torch.Tensor, seed: int, epoch: int, augment: Augment
) -> tuple[torch.Tensor, torch.Tensor]:
    """mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899): images [N, C, H, W] and targets [N, K], mixed alike.

    The partner of image i is image i - 1 of the batch, that of the first is the last. Each image mixes with
    `mix_probability`; with both alphas on it takes one of the two with equal probability. Its own share is
    Beta(alpha, alpha), for each image its own; cutmix corrects it to the area that the box, cut off at the edge,
    leaves.
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


def beta_quantile(draws: torch.Tensor, alpha: float) -> torch.Tensor:
    """Where the distribution function of Beta(alpha, alpha) reaches draws [N]: turns uniform draws into Beta's."""
    table = beta_table(alpha).to(draws.device)
    places = draws * BETA_STEPS
    below = places.long()
    low, high = table[below], table[below + 1]
    return low + (places - below) * (high - low)


@lru_cache
def beta_table(alpha: float) -> torch.Tensor:
    """The quantiles of Beta(alpha, alpha) at BETA_STEPS + 1 evenly spaced probabilities, float32."""
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, np.linspace(0, 1, BETA_STEPS + 1))).float()


def channel_statistics(images: np.ndarray | torch.Tensor) -> tuple[Triple, Triple]:
    """Exact (mean, standard deviation) of each channel in 0..1, of uint8 images [N, 3, H, W].

    A standard deviation below one gray level is given as one, so that constant channels can be normalized.
    """
    counts = np.zeros((3, 256))
    for start in range(0, len(images), 256):
        block = np.asarray(images[start : start + 256])
        counts += [np.bincount(block[:, channel].ravel(), minlength=256) for channel in range(3)]
    values = np.arange(256) / 255
    means = [float((row * values).sum() / row.sum()) for row in counts]
    variances = [(row * (values - m) ** 2).sum() / row.sum() for row, m in zip(counts, means, strict=True)]
    stds = [max(math.sqrt(v), 1 / 255) for v in variances]
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])


def check_augment(augment: Augment, size: int) -> None:
    """Raise one SightlineError naming the crop and padding settings that cannot work at `size` pixels."""
    side, padding = augment.resize or size, augment.padding
    faults = []
    if augment.crop == "random" and side + 2 * padding < size:
        padded = f"an image of augment.resize {side} and augment.padding {padding} is {side + 2 * padding} pixels wide"
        faults.append(f"{padded}, too small for crops of data.size {size}")
    if augment.crop == "random" and augment.padding_mode == "reflect" and padding >= side:
        faults.append(f"augment.padding {padding} with augment.padding_mode reflect must be below the side, {side}")
    if augment.crop != "random" and padding:
        faults.append(f"augment.padding {padding} does nothing without augment.crop random: set it to 0")
    if faults:
        why = "\n    " + "\n    ".join(faults) if len(faults) > 1 else faults[0]
        cure = "change augment.crop, augment.padding, augment.resize or data.size"
        raise SightlineError("the augmentation cannot work", where="augment", why=why, cure=cure)
