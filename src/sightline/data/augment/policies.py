"""TrivialAugmentWide (arXiv 2103.10158) and RandAugment (arXiv 1909.13719) for batches, random per image.

Operations, their ranges and the 31 levels are those of torchvision, with nearest-neighbor sampling and black outside
the image. Unlike in torchvision, images are not rounded to uint8 between two operations.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from . import color
from .geometry import precise, warp

LEVELS = 31
"""Number of levels of strength of an operation, evenly spaced from 0 to the operation's limit."""

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")

Operation = Callable[[Tensor, Tensor], Tensor]

COLORS: dict[str, Operation] = {  # functions of images and signed strengths
    "brightness": lambda images, strengths: color.brightness(images, 1 + strengths),
    "color": lambda images, strengths: color.saturation(images, 1 + strengths),
    "contrast": lambda images, strengths: color.contrast(images, 1 + strengths),
    "sharpness": lambda images, strengths: color.sharpness(images, 1 + strengths),
    "posterize": lambda images, strengths: color.posterize(images, 8 - strengths.abs().round().long()),
    "solarize": lambda images, strengths: color.solarize(images, 1 - strengths.abs()),
    "autocontrast": lambda images, strengths: color.autocontrast(images),
    "equalize": lambda images, strengths: color.equalize(images),
}

OPERATIONS = ("identity", *GEOMETRIC, *COLORS)


TRIVIAL_LIMITS = dict.fromkeys(("shear_x", "shear_y", "brightness", "color", "contrast", "sharpness"), 0.99) | {
    "translate_x": 32.0, "translate_y": 32.0, "rotate": 135.0, "posterize": 6.0, "solarize": 1.0
}  # fmt: skip
"""Limit of each operation in TrivialAugmentWide: its strength at the highest level. In pixels for translations,
degrees for rotations, bits for posterize, else shares."""


def rand_limits(height: int, width: int) -> dict[str, float]:
    """Limit of each operation in RandAugment: its strength at the highest level. height, width: of the images, which
    limit the translations in pixels."""
    share = 150 / 331
    geometry = {"shear_x": 0.3, "shear_y": 0.3, "rotate": 30.0}
    shifts = {"translate_x": share * width, "translate_y": share * height}
    colors = dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.9)
    return geometry | shifts | colors | {"posterize": 4.0, "solarize": 1.0}


def trivial_augment(images: Tensor, draws: Tensor) -> Tensor:
    """Apply one random operation at a random level to each image. images: float [N, 3, H, W] in 0..1. draws: random
    numbers [N, 3] in [0, 1)."""
    levels = (draws[:, 1] * LEVELS).floor() / (LEVELS - 1)
    return apply_operations(images, draws[:, 0], levels, draws[:, 2], TRIVIAL_LIMITS)


def rand_augment(images: Tensor, draws: Tensor, magnitude: int) -> Tensor:
    """Apply several random operations to each image in sequence, all at level `magnitude` (0 to 30). images: float
    [N, 3, H, W] in 0..1. draws: random numbers [N, 2 * number of operations] in [0, 1)."""
    limits = rand_limits(*images.shape[2:])
    levels = torch.full_like(draws[:, 0], magnitude / (LEVELS - 1))
    for pair in draws.view(len(draws), -1, 2).unbind(1):
        images = apply_operations(images, pair[:, 0], levels, pair[:, 1], limits)
    return images


def apply_operations(
    images: Tensor, draws: Tensor, levels: Tensor, signs: Tensor, limits: Mapping[str, float]
) -> Tensor:
    """Apply one operation to each image.

    draws: [N] in [0, 1), which select the operations. levels: [N] in 0..1; the strength of an operation is its level
    times its limit in `limits`. signs: [N] in [0, 1); strengths are negative where the sign is below 1/2.
    """
    choice = (draws * len(OPERATIONS)).long()
    reach = torch.tensor([limits.get(name, 0.0) for name in OPERATIONS], device=images.device)
    strengths = reach[choice] * levels * torch.where(signs < 0.5, -1.0, 1.0)
    numbers = {name: number for number, name in enumerate(OPERATIONS)}
    moved = (choice >= numbers[GEOMETRIC[0]]) & (choice <= numbers[GEOMETRIC[-1]])
    images = color.apply_to(images, moved, warp, matrices(choice, strengths, *images.shape[2:]))
    for name, operation in COLORS.items():
        images = color.apply_to(images, choice == numbers[name], operation, strengths)
    return images


def matrices(choice: Tensor, strengths: Tensor, height: int, width: int) -> Tensor:
    """Matrices float32 [N, 2, 3] for `warp`, by the operation that was chosen for each image.

    These are shear from the upper left corner, translation by whole pixels, and counterclockwise rotation; the identity
    for all other operations.
    """

    def where(name: str) -> Tensor:
        return torch.where(choice == OPERATIONS.index(name), strengths, 0.0)

    shear_x, shear_y, angle = where("shear_x"), where("shear_y"), where("rotate").to(precise(choice.device)).deg2rad()
    shift_x = shear_x * (height / 2) - where("translate_x").trunc()
    shift_y = shear_y * (width / 2) - where("translate_y").trunc()
    cosine, sine = angle.cos().float(), angle.sin().float()
    rows = [cosine, shear_x - sine, shift_x, shear_y + sine, cosine, shift_y]
    return torch.stack(rows, 1).view(-1, 2, 3)
