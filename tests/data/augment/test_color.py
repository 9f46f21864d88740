"""Each color operation equals torchvision's, with one factor per image."""

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from sightline.data.augment import color

FACTORS = [0.0, 0.35, 1.0, 1.4, 1.99]


def bytes_of(count: int = 5, height: int = 20, width: int = 17) -> torch.Tensor:
    """Noise uint8 [N, 3, H, W] of different ranges; the third image is gray, the last has one color."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    images[1] = images[1] // 3 + 60
    images[2] = images[2, :1]
    images[-1] = torch.tensor([200, 90, 31], dtype=torch.uint8)[:, None, None]
    return images


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (color.brightness, reference.adjust_brightness, FACTORS),
        (color.contrast, reference.adjust_contrast, FACTORS),
        (color.saturation, reference.adjust_saturation, FACTORS),
        (color.sharpness, reference.adjust_sharpness, FACTORS),
        (color.hue, reference.adjust_hue, [-0.5, -0.21, 0.0, 0.1, 0.5]),
        (color.solarize, reference.solarize, [0.0, 0.3, 0.5, 0.9, 1.0]),
    ],
)
def test_equals_torchvision_with_a_factor_per_image(ours, theirs, values):
    images = bytes_of() / 255
    before = images.clone()
    result = ours(images, torch.tensor(values))
    assert torch.equal(images, before), "the input was changed"
    assert result.min() >= 0 and result.max() <= 1
    for i, value in enumerate(values):
        torch.testing.assert_close(result[i], theirs(images[i], value), atol=2e-6, rtol=0)


def test_two_equal_images_with_two_factors_differ():
    images = (bytes_of()[:1] / 255).expand(2, -1, -1, -1)
    for operation in (color.brightness, color.contrast, color.saturation, color.sharpness):
        first, second = operation(images, torch.tensor([0.5, 1.5]))
        assert (first - second).abs().max() > 0.05
    for operation, pair in [(color.hue, (-0.2, 0.3)), (color.blur, (0.4, 2.0)), (color.solarize, (0.2, 0.8))]:
        first, second = operation(images, torch.tensor(pair))
        assert (first - second).abs().max() > 0.05
    first, second = color.posterize(images, torch.tensor([2, 5]))
    assert (first - second).abs().max() > 0.05


def test_grayscale():
    images = bytes_of() / 255
    torch.testing.assert_close(
        color.grayscale(images), reference.rgb_to_grayscale(images, num_output_channels=3), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("side", "width"), [(32, 3), (64, 7), (96, 9), (224, 23)])
def test_blur(side, width):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, side, side, generator=generator)
    assert color.kernel_width(side) == width
    sigmas = torch.tensor([0.1, 0.8, 2.0])
    result = color.blur(images, sigmas)
    for i in range(3):
        expected = reference.gaussian_blur(images[i], [width, width], [float(sigmas[i])] * 2)
        torch.testing.assert_close(result[i], expected, atol=2e-6, rtol=0)


def test_blur_of_the_smallest_images():
    images = torch.rand(2, 3, 2, 1)
    torch.testing.assert_close(color.blur(images, torch.tensor([0.5, 2.0])), images)


def test_posterize_and_equalize_equal_those_of_uint8_images():
    images = bytes_of(9)
    bits = torch.arange(9)
    posterized = color.posterize(images / 255, bits).mul(255).round().byte()
    equalized = color.equalize(images / 255).mul(255).round().byte()
    for i in range(9):
        assert torch.equal(posterized[i], reference.posterize(images[i], i))
        assert torch.equal(equalized[i], reference.equalize(images[i]))


def test_autocontrast():
    images = bytes_of() / 255
    result = color.autocontrast(images)
    for i in range(5):
        torch.testing.assert_close(result[i], reference.autocontrast(images[i]), atol=2e-6, rtol=0)


@pytest.mark.parametrize("chosen", [[True, False, True, False, False], [False] * 5, [True] * 5])
def test_apply_to_changes_only_the_chosen_images(chosen):
    images = bytes_of() / 255
    factors = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    result = color.apply_to(images, torch.tensor(chosen), color.brightness, factors)
    for i, changed in enumerate(chosen):
        assert torch.equal(result[i], images[i] * factors[i] if changed else images[i])
