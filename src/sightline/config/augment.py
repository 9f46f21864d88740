"""The settings of the augmentation of training images."""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field, NonNegativeFloat, PositiveFloat

from .fields import Count, CountOrZero, Names, Probability, Range, Section, ShareRange, Window


class Augment(Section):
    """Augmentation of training images, in the order of these settings; only `erase` follows the normalization, so that
    erased pixels have the mean. Probabilities are per image. For evaluation, images are only resized and normalized."""

    resize: CountOrZero = 0
    """Side in pixels to which images are resized before the crop; 0: the value of `data.size`."""
    crop: Literal["none", "random", "resized"] = "none"
    """How training images are cropped. `random`: a square of side `data.size` of the resized, padded image, which is
    all of it unless `resize` or `padding` make it larger. `resized`: a rectangle of random area and aspect ratio, which
    is resized to `data.size`."""
    padding: CountOrZero = 0
    """Pixels added on each side before a random crop."""
    padding_mode: Literal["zeros", "reflect"] = "reflect"
    """What the padding shows: black, or the mirrored image."""
    crop_scale: ShareRange = (0.08, 1.0)
    """Smallest and largest share of the image's area in a resized crop."""
    crop_ratio: Range = (0.75, 4 / 3)
    """Smallest and largest ratio of width to height of a resized crop."""
    horizontal_flip: Probability = 0.0
    """Probability that left and right are exchanged."""
    alternate_flip: bool = False
    """Flip each image in every other epoch instead of at random (arXiv 2404.00498); needs horizontal_flip > 0."""
    vertical_flip: Probability = 0.0
    """Probability that top and bottom are exchanged."""
    rotate90: Probability = 0.0
    """Probability of a rotation by 90, 180 or 270 degrees."""
    policy: Literal["none", "trivial", "rand"] = "none"
    """Random operations on each image: TrivialAugmentWide (arXiv 2103.10158) or RandAugment (arXiv 1909.13719)."""
    rand_ops: Count = 2
    """Number of operations per image of RandAugment."""
    rand_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength of the operations of RandAugment."""
    brightness: NonNegativeFloat = 0.0
    """Largest change of the brightness: factors from 1 - value to 1 + value."""
    contrast: NonNegativeFloat = 0.0
    """Largest change of the contrast: factors from 1 - value to 1 + value."""
    saturation: NonNegativeFloat = 0.0
    """Largest change of the saturation: factors from 1 - value to 1 + value."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest rotation of the hue, in turns of the color circle."""
    jitter: Probability = 1.0
    """Probability that brightness, contrast, saturation and hue are changed."""
    grayscale: Probability = 0.0
    """Probability that the colors are removed."""
    blur: Probability = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: Range = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur."""
    solarize: Probability = 0.0
    """Probability that pixel values of half the maximum or more are inverted."""
    own: Names = ()
    """Augmentations of your own (docs/extend.md), applied in this order to pixels in 0..1, before the normalization."""
    erase: Probability = 0.0
    """Probability that a random rectangle is erased."""
    erase_scale: ShareRange = (0.02, 0.33)
    """Smallest and largest share of the image's area that is erased."""
    erase_ratio: Range = (0.3, 3.3)
    """Smallest and largest ratio of width to height of the erased rectangle."""
    normalize: Literal["imagenet", "half", "dataset", "pretrained"] = "imagenet"
    """Mean and standard deviation by which pixels are normalized. Those of ImageNet, 0.5 and 0.5, measured on the
    training split, as is always done for other channels than red, green and blue (docs/data.md), or those of the
    model's weights (docs/weights.md)."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, for pixel values from 0 to 1, in place of that of `normalize`; empty: by `normalize`."""
    std: tuple[PositiveFloat, ...] = ()
    """Standard deviation of each channel; given together with `mean`."""
    mixup: NonNegativeFloat = 0.0
    """Alpha of mixup (arXiv 1710.09412); 0: off. With cutmix on too, each image gets one of the two at random."""
    cutmix: NonNegativeFloat = 0.0
    """Alpha of cutmix (arXiv 1905.04899); 0: off."""
    mix_probability: Probability = 1.0
    """Probability that mixup or cutmix is applied to an image."""
    mix_until: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Mixup and cutmix are applied up to this fraction of the epochs."""
    progressive: tuple[tuple[Count, Probability], ...] = ()
    """Progressive resizing: (side, fraction of the epochs) pairs. Images are resized to `side` until that fraction, and
    to `data.size` after the last pair."""
    window: Window = ()
    """Height and width of the training crops of segmentation; empty: whole images, which must all have one size."""
    scale: Range = (1.0, 1.0)
    """Range of the random scale of a `window`, log-uniform. A window never extends beyond the image."""
    rare_crops: Probability = 0.0
    """Fraction of the windows that contain a pixel of a randomly chosen class; rare classes are more probable."""

    @pydantic.model_validator(mode="after")
    def _mean_has_std(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std need one number each for every channel")
        return self

    @pydantic.model_validator(mode="after")
    def _flip_can_alternate(self) -> Self:
        if self.alternate_flip and not self.horizontal_flip:
            raise ValueError("alternate_flip needs horizontal_flip above 0")
        return self
