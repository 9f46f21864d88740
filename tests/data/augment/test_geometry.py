"""Each operation equals torchvision's, with separate parameters per image."""

import math

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from sightline.data.augment import geometry


def random_images(count: int = 6, height: int = 24, width: int = 24, seed: int = 0) -> torch.Tensor:
    """Random images uint8 [N, 3, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("padding", [0, 1, 5])
def test_pad(mode, padding):
    images = random_images(2, 11, 8)
    expected = reference.pad(images, [padding] * 4, padding_mode="constant" if mode == "zeros" else mode)
    assert torch.equal(geometry.pad(images, padding, mode), expected)


@pytest.mark.parametrize(
    "convert", [lambda x: x, geometry.to_unit, lambda x: x.contiguous(memory_format=torch.channels_last)]
)
def test_crop_uses_one_corner_per_image(convert):
    images = convert(random_images(6, 20, 24))
    tops, lefts = torch.tensor([0, 1, 4, 3, 2, 4]), torch.tensor([0, 8, 3, 5, 1, 8])
    crops = geometry.crop(images, tops, lefts, 16)
    for i in range(6):
        assert torch.equal(crops[i], reference.crop(images[i], int(tops[i]), int(lefts[i]), 16, 16))


def test_rotate90():
    images = random_images(8)
    turned = geometry.rotate90(images, torch.arange(8) % 4)
    for i in range(8):
        assert torch.equal(turned[i], reference.rotate(images[i], 90.0 * (i % 4)))


@pytest.mark.parametrize("side", [9, 24, 40])
def test_resize(side):
    images = random_images(2, 24, 30)
    expected = reference.resize(images.float() / 255, [side, side], antialias=True)
    torch.testing.assert_close(geometry.resize(images, side), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [7, 16, 45])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_resized_crop_is_antialiased_with_one_box_per_image(side, as_bytes, monkeypatch):
    monkeypatch.setattr(geometry, "CACHED_PIXELS", 4 * 3 * 40 * 31)  # blocks of 4, 4 and 2 images
    images = random_images(10, 40, 31)
    generator = torch.Generator().manual_seed(1)
    heights, widths = (torch.randint(1, extent + 1, (10,), generator=generator) for extent in (40, 31))
    heights[0], widths[0] = 40, 31
    tops = (torch.rand(10, generator=generator) * (41 - heights)).long()
    lefts = (torch.rand(10, generator=generator) * (32 - widths)).long()
    result = geometry.resized_crop(images if as_bytes else images / 255, tops, lefts, heights, widths, (side, side))
    assert result.shape == (10, 3, side, side) and result.is_contiguous()
    for i in range(10):
        box = int(tops[i]), int(lefts[i]), int(heights[i]), int(widths[i])
        expected = reference.resized_crop(images[i] / 255, *box, [side, side], antialias=True)
        torch.testing.assert_close(result[i], expected, atol=1e-5, rtol=0)


def test_random_boxes_have_the_distribution_of_torchvision():
    from torchvision.transforms import RandomResizedCrop

    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(20_000, 20, generator=generator)
    heights, widths, found = geometry.random_boxes(draws, (0.08, 1.0), (3 / 4, 4 / 3), 64, 64)
    assert found.all() and heights.min() >= 1 and max(heights.max(), widths.max()) <= 64
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(3, 64, 64)
        boxes = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    other_heights, other_widths = torch.tensor(boxes).T[2:]
    from scipy.stats import ks_2samp

    for ours, theirs in [
        (heights, other_heights),
        (widths, other_widths),
        (heights * widths, other_heights * other_widths),
    ]:
        assert ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3
    assert len(set(zip(heights[:50].tolist(), widths[:50].tolist(), strict=True))) > 40


def test_boxes_that_cannot_fit_are_replaced_by_the_central_box():
    found = geometry.random_boxes(torch.rand(5, 20), (0.9, 1.0), (3.0, 3.0), 30, 30)[2]
    assert not found.any()
    assert geometry.central_box((3.0, 4.0), 30) == (10, 30)
    assert geometry.central_box((0.2, 0.5), 30) == (30, 15)
    assert geometry.central_box((0.75, 4 / 3), 30) == (30, 30)


def test_warp_by_whole_pixels_is_a_shift_with_black_outside():
    images = geometry.to_unit(random_images(2))
    matrices = torch.tensor([[[1.0, 0, -3], [0, 1, 0]], [[1.0, 0, 0], [0, 1, 24]]])
    moved = geometry.warp(images, matrices)
    assert torch.equal(moved[0, :, :, 3:], images[0, :, :, :-3]) and not moved[0, :, :, :3].any()
    assert not moved[1].any()


def test_box_mask():
    mask = geometry.box_mask(*(torch.tensor(v) for v in ([1, 0], [2, 0], [3, 0], [6, 9])), 5, 9)
    expected = torch.zeros(2, 1, 5, 9, dtype=torch.bool)
    expected[0, 0, 1:3, 2:6] = True
    assert torch.equal(mask, expected)


def test_taps_are_weights_within_the_box():
    starts, lengths = torch.tensor([0, 3, 10]), torch.tensor([50, 1, 17])
    indices, weights = geometry.resampling_taps(starts, lengths, 50, 16)
    assert (indices >= starts[:, None, None]).all() and (indices < (starts + lengths)[:, None, None]).all()
    assert weights.min() >= 0 and indices.shape[2] == math.ceil(2 * 50 / 16)
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 16))
