"""Augmentation and normalization of images with other channels or more bits than 8-bit RGB."""

import numpy as np
import pytest
import torch

from sightline.config.schema import Augment, Config
from sightline.data.augment.batch import check_colors, evaluation_transform, training_augmentation
from sightline.data.augment.statistics import robust_statistics
from sightline.data.augment.windows import pair_augmentation
from sightline.data.channels import RGB, Channels
from sightline.data.loader import training_batches
from sightline.data.types import Decoded, Resident
from sightline.engine.parts import normalization
from sightline.errors import SightlineError

FIVE = Channels(("1", "2", "3", "4", "5"), "uint16", 4095.0)
DEEP_RGB = Channels(RGB.names, "uint16", 65535.0)
GEOMETRY = Augment(crop="random", padding=2, horizontal_flip=0.5, vertical_flip=0.5, rotate90=0.5, erase=0.5, blur=0.5)


def images_of(channels: Channels, count: int = 6, side: int = 16) -> np.ndarray:
    """Random images [N, C, side, side] of the type of `channels`."""
    values = np.random.default_rng(0).integers(0, int(channels.top) + 1, (count, len(channels), side, side))
    return values.astype(channels.dtype)


def split_of(images: np.ndarray, channels: Channels, **changes: object) -> Decoded:
    names = tuple(map(str, range(len(images))))
    return Decoded(images, None, names, (), "", images.nbytes, channels=channels, **changes)  # ty: ignore


@pytest.mark.parametrize("augment", [GEOMETRY, Augment(crop="resized"), Augment(resize=20, crop="random")])
def test_16_bits_are_augmented_like_the_same_values_as_floats(augment: Augment) -> None:
    images, samples = torch.from_numpy(images_of(FIVE)), torch.arange(6)
    mean, std = (0.4,) * 5, (0.3,) * 5
    found = training_augmentation(augment, 16, mean, std, FIVE)(images, samples, 1, 2)
    floats = Channels(FIVE.names, "float32", 1.0)
    scaled = images.to(torch.float32) / 4095
    expected = training_augmentation(augment, 16, mean, std, floats)(scaled, samples, 1, 2)
    assert found.shape == (6, 5, 16, 16) and torch.equal(found, expected)


def test_8_bits_of_any_channels_are_augmented_like_rgb_in_each_channel() -> None:
    images, samples = torch.from_numpy(images_of(RGB)), torch.arange(6)
    six = Channels(tuple("123456"), "uint8", 255.0)
    plain = training_augmentation(GEOMETRY, 16, (0.5,) * 3, (0.2,) * 3)(images, samples, 1, 2)
    found = training_augmentation(GEOMETRY, 16, (0.5,) * 6, (0.2,) * 6, six)(images.repeat(1, 2, 1, 1), samples, 1, 2)
    assert torch.equal(found, plain.repeat(1, 2, 1, 1))


def test_evaluation_divides_by_top() -> None:
    images = images_of(FIVE)
    found = evaluation_transform(16, (0.0,) * 5, (1.0,) * 5, 1.0, FIVE)(torch.from_numpy(images))
    np.testing.assert_allclose(found.numpy(), images / 4095, rtol=1e-6)
    with pytest.raises(AssertionError):  # 16 bits are never taken for 8
        evaluation_transform(16, (0.0,) * 5, (1.0,) * 5)(torch.from_numpy(images))


def test_pairs_of_16_bits() -> None:
    images, masks = torch.from_numpy(images_of(FIVE)), torch.zeros(6, 16, 16, dtype=torch.uint8)
    augment = Augment(window=(8, 8), horizontal_flip=0.5, brightness=0.2)
    sizes = torch.full((6, 2), 16)
    change = pair_augmentation(augment, (0.0,) * 5, (1.0,) * 5, FIVE)
    found, _ = change(images, masks, sizes, None, torch.arange(6), 0, 0)
    assert found.shape == (6, 5, 8, 8) and found.min() >= 0 and 0.5 < found.max() < 2


def test_color_operations_of_other_channels_are_refused_with_the_settings() -> None:
    augment = Augment(policy="trivial", hue=0.1, saturation=0.2, grayscale=0.1, solarize=0.1, brightness=0.4)
    with pytest.raises(SightlineError) as caught:
        check_colors(augment, FIVE)
    assert "5 channels (1, 2, 3, 4, 5)" in caught.value.why and "augment.brightness" in caught.value.why
    for name in ("policy none", "hue 0", "saturation 0", "grayscale 0", "solarize 0"):
        assert f"--augment.{name}" in caught.value.cure
    sentinel = Channels(("B04", "B03", "B02"), "uint16", 4095.0)
    for colors in (RGB, DEEP_RGB, sentinel):
        check_colors(augment, colors)
    for names in (("B02", "B03", "B04"), ("red",), ("red", "green", "blue", "nir")):
        with pytest.raises(SightlineError):
            check_colors(augment, Channels(names, "uint16", 4095.0))
    with pytest.raises(SightlineError):
        check_colors(augment, Channels(RGB.names, "float32", 1.0))


def test_deep_rgb_is_recolored_like_8_bits() -> None:
    images, samples = torch.from_numpy(images_of(RGB)), torch.arange(6)
    augment = Augment(policy="rand", saturation=0.4, hue=0.1, contrast=0.3, grayscale=0.2)
    mean, std = (0.5,) * 3, (0.2,) * 3
    expected = training_augmentation(augment, 16, mean, std)(images, samples, 0, 0)
    deep = (images.to(torch.int32) * 257).to(torch.uint16)
    found = training_augmentation(augment, 16, mean, std, DEEP_RGB)(deep, samples, 0, 0)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_brightness_and_contrast_of_floats_are_not_clipped() -> None:
    images = torch.randn(4, 2, 8, 8) * 100
    channels = Channels(("1", "2"), "float32", 1.0)
    augment = Augment(brightness=0.5, contrast=0.5)
    found = training_augmentation(augment, 8, (0.0,) * 2, (1.0,) * 2, channels)(images, torch.arange(4), 0, 0)
    ratios = found.std((2, 3)) / images.std((2, 3))
    assert (ratios[:, 0] - ratios[:, 1]).abs().max() < 1e-5 and ratios.min() > 0.2 and ratios.std() > 0.05


def test_robust_statistics_of_a_normal_distribution_are_its_mean_and_deviation() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1500, 300, (40, 2, 64, 64))
    values[:, 1] = rng.normal(700, 50, (40, 64, 64))
    values[:, :, :3] = 4000  # some clouds
    images = np.clip(np.rint(values), 1, 4095).astype(np.uint16)
    channels = Channels(("1", "2"), "uint16", 4095.0)
    clean = images.copy()
    clean[:, :, :3] = clean[:, :, 3:6]
    mean, std = robust_statistics(split_of(clean, channels))
    np.testing.assert_allclose(np.array(mean) * 4095, [1500, 700], rtol=0.01)
    np.testing.assert_allclose(np.array(std) * 4095, [300, 50], rtol=0.02)
    mean, _ = robust_statistics(split_of(images, channels))
    np.testing.assert_allclose(np.array(mean) * 4095, [1500, 700], rtol=0.03)
    clean[:, :, 20:50] = 0  # no data
    found = robust_statistics(split_of(clean, channels, missing=1))
    np.testing.assert_allclose(np.array(found) * 4095, [[1500, 700], [300, 50]], rtol=0.03)


def test_statistics_leave_out_the_padding_and_survive_constant_channels() -> None:
    images = np.zeros((3, 2, 10, 10), np.float32)
    images[:, 0, :4, :5] = 7.0
    sizes = np.tile(np.array([4, 5]), (3, 1))
    found = robust_statistics(split_of(images, Channels(("1", "2"), "float32", 1.0), sizes=sizes))
    assert found == ((7.0, 0.0), (1.0, 1.0))


def test_normalization_for_colors_is_replaced_for_other_channels() -> None:
    said: list[str] = []
    config = Config(augment=Augment(normalize="imagenet"))
    mean, _ = normalization(config, split_of(images_of(FIVE), FIVE), said.append)
    assert len(mean) == 5 and "normalize: dataset instead of imagenet" in said[0]
    assert normalization(config, split_of(images_of(DEEP_RGB), DEEP_RGB), said.append)[0][0] == 0.485
    assert len(said) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("resident", [False, True])
def test_batches_have_the_pixels_of_the_cache(dtype: str, resident: bool) -> None:
    images = images_of(Channels(FIVE.names, dtype, 255.0))
    split = split_of(images, Channels(FIVE.names, dtype, 255.0))
    source = Resident(torch.from_numpy(images), None) if resident else split
    for batch in training_batches(source, 4, 0, 0):
        assert batch.images.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(batch.images.numpy(), images[batch.samples.numpy()])
