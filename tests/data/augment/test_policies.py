"""The batched policies compared with torchvision's: operations, limits, levels and frequencies."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from sightline.data.augment import policies


def smooth(count: int, side: int = 32) -> torch.Tensor:
    """Blurred noise, float [N, 3, side, side], so that a rounding difference in a position changes little."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(count, 3, side, side, generator=generator)
    return reference.autocontrast(reference.gaussian_blur(noise, [9, 9], [2.0, 2.0]))


def theirs(image: torch.Tensor, name: str, strength: float) -> torch.Tensor:
    """The result of torchvision's operation `name` at a signed strength."""
    names = {"identity": "Identity", "autocontrast": "AutoContrast"}
    title = names.get(name, "".join(part.capitalize() for part in name.split("_")))
    if name == "posterize":
        strength = 8 - round(abs(strength))
        image = (image * 255).round().byte()
    elif name == "equalize":
        image = (image * 255).round().byte()
    elif name == "solarize":
        strength = 1 - abs(strength)
    policy = v2.TrivialAugmentWide()
    result = policy._apply_image_or_video_transform(
        image, title, strength, interpolation=v2.InterpolationMode.NEAREST, fill={}
    )
    assert isinstance(result, torch.Tensor)
    return result / 255 if result.dtype == torch.uint8 else result


@pytest.mark.parametrize("name", policies.OPERATIONS)
@pytest.mark.parametrize("limits", [policies.TRIVIAL_LIMITS, policies.rand_limits(32, 32)])
def test_every_operation_equals_torchvision(name, limits):
    levels = torch.tensor([0.0, 7, 16, 23, 30, 30]) / 30
    signs = torch.tensor([0.1, 0.9, 0.2, 0.7, 0.4, 0.6])
    images = smooth(6)
    draws = torch.full((6,), (policies.OPERATIONS.index(name) + 0.5) / 14)
    result = policies.apply_operations(images, draws, levels, signs, limits)
    for i in range(6):
        strength = float(limits.get(name, 0) * levels[i] * (-1 if signs[i] < 0.5 else 1))
        expected = theirs(images[i], name, strength)
        # In transformed images a few pixels may differ: positions halfway between two pixels are rounded.
        different = (result[i] - expected).abs().amax(0) > (0.003 if name in ("posterize", "equalize") else 1e-4)
        assert different.float().mean() <= (0.01 if name in policies.GEOMETRIC else 0)


def test_images_of_one_batch_get_different_operations():
    images = smooth(1).expand(64, -1, -1, -1)
    draws = torch.rand(64, 3, generator=torch.Generator().manual_seed(3))
    results = policies.trivial_augment(images, draws)
    assert len({result.numpy().tobytes() for result in results}) > 36
    results = policies.rand_augment(images, draws[:, [0, 2, 1, 2]], 9)
    assert len({result.numpy().tobytes() for result in results}) > 40


def test_trivial_augment_uses_all_levels_and_both_signs():
    count = 31
    images = torch.full((2 * count, 3, 4, 4), 0.4)
    brightness = (policies.OPERATIONS.index("brightness") + 0.5) / 14
    levels = (torch.arange(count) + 0.5) / count
    draws = torch.stack([torch.full((count,), brightness), levels, torch.zeros(count)], 1)
    signed = torch.cat([draws, draws + torch.tensor([0, 0, 0.9])])
    result = policies.trivial_augment(images, signed)[:, 0, 0, 0] / 0.4
    strengths = torch.linspace(0, 0.99, 31)
    torch.testing.assert_close(result, torch.cat([1 - strengths, 1 + strengths]))


def test_the_smallest_and_largest_draws_select_the_first_and_last_operation():
    images = smooth(2)
    draws = torch.tensor([0.0, 1 - 2.0**-24])
    result = policies.apply_operations(images, draws, torch.ones(2), torch.ones(2), policies.TRIVIAL_LIMITS)
    assert torch.equal(result[0], images[0])
    assert policies.OPERATIONS[-1] == "equalize" and not torch.equal(result[1], images[1])


def test_rand_augment_applies_its_operations_in_order():
    images = smooth(1)
    number = {name: (i + 0.5) / 14 for i, name in enumerate(policies.OPERATIONS)}
    draws = torch.tensor([[number["solarize"], 0.9, number["brightness"], 0.1]])
    result = policies.rand_augment(images, draws, 15)
    expected = reference.adjust_brightness(reference.solarize(images, 0.5), 1 - 0.45)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    reverse = policies.rand_augment(images, draws[:, [2, 3, 0, 1]], 15)
    assert (reverse - result).abs().max() > 0.05
