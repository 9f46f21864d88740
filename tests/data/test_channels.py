"""Composites of channels for figures."""

import numpy as np
import pytest

from sightline.data.channels import RGB, Channels
from sightline.insight.figures import denormalized

DEEP = Channels(("blue", "green", "red", "nir"), "uint16", 4095.0, (2, 1, 0))


def test_8_bits_are_shown_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 6)).astype(np.uint8)
    np.testing.assert_array_equal(RGB.composite(images), images)
    four = Channels(("red", "green", "blue", "nir"), shown=(3, 0, 1))
    np.testing.assert_array_equal(four.composite(images[:, [0, 1, 2, 0]]), images[:, [0, 0, 1]])


def test_16_bits_are_stretched_for_each_image() -> None:
    """A dark and a bright image use the whole range, with the same limits for the three channels of an image."""
    rng = np.random.default_rng(0)
    images = rng.integers(300, 900, (2, 4, 30, 30)).astype(np.uint16) * np.array([1, 4], np.uint16)[:, None, None, None]
    shown = DEEP.composite(images)
    assert shown.dtype == np.uint8 and shown.shape == (2, 3, 30, 30)
    low, high = np.percentile(images[1, :3], (2, 98))
    expected = np.rint(np.clip((images[1, [2, 1, 0]] - low) / (high - low), 0, 1) * 255)
    assert np.abs(shown[1] - expected).max() <= 1 and np.ptp(shown[0]) == 255


@pytest.mark.parametrize("channels", [DEEP, Channels(("dem",), "float32", 1.0, (0, 0, 0))])
def test_constant_and_empty_images_have_a_composite(channels: Channels) -> None:
    constant = np.full((2, len(channels), 4, 4), 1000, channels.dtype)
    assert np.ptp(channels.composite(constant)) == 0
    assert channels.composite(constant[:0]).shape == (0, 3, 4, 4)


def test_noise_is_not_stretched() -> None:
    noise = np.random.default_rng(0).integers(1000, 1010, (4, 30, 30)).astype(np.uint16)
    assert np.ptp(DEEP.composite(noise)) < 40


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_normalization_of_any_channels_is_undone(dtype: str) -> None:
    top = {"uint8": 255.0, "uint16": 4095.0, "float32": 1.0}[dtype]
    channels = Channels(("blue", "green", "red", "nir"), dtype, top, (2, 1, 0))
    images = (np.random.default_rng(0).random((3, 4, 8, 9)) * top).astype(dtype)
    mean, std = np.array([0.2, 0.3, 0.4, 0.5]), np.array([0.1, 0.2, 0.3, 0.4])
    normalized = (images / top - mean[:, None, None]) / std[:, None, None]
    shown = denormalized(normalized, mean.tolist(), std.tolist(), channels)
    assert np.abs(shown.astype(int) - channels.composite(images)).max() <= 1
