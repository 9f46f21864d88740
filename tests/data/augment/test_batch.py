"""Random numbers, the augmentation pipeline, mixup and cutmix, and normalization."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms.v2 import functional as reference

from sightline.config.schema import Augment
from sightline.data.augment import batch as augment
from sightline.data.augment import geometry
from sightline.data.augment.batch import (
    CROP,
    NORMALIZATIONS,
    evaluation_transform,
    flips,
    mix,
    random_resized,
    resize_and_crop,
    training_augmentation,
    uniform,
)
from sightline.data.augment.statistics import channel_statistics
from sightline.errors import SightlineError

IMAGENET = NORMALIZATIONS["imagenet"]
UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # a normalization without effect

EVERYTHING: dict[str, Any] = {
    "resize": 22,
    "crop": "random",
    "padding": 3,
    "horizontal_flip": 0.5,
    "vertical_flip": 0.3,
    "rotate90": 0.5,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "jitter": 0.8,
    "grayscale": 0.3,
    "blur": 0.5,
    "erase": 0.5,
}


def random_images(count: int, side: int = 20, seed: int = 0) -> torch.Tensor:
    """Random images uint8 [N, 3, side, side]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def augmented(
    images: torch.Tensor, size: int, epoch: int = 0, samples: Any = None, normalization: Any = UNIT, **changes: Any
) -> torch.Tensor:
    samples = torch.arange(len(images)) if samples is None else samples
    return training_augmentation(Augment(**changes), size, *normalization)(images, samples, 7, epoch)


# The random numbers


def test_random_numbers_are_uniform():
    draws = uniform(3, 5, torch.arange(20_000), 2, 5)
    assert draws.shape == (20_000, 5) and draws.dtype == torch.float32
    assert draws.min() >= 0 and draws.max() < 1
    for column in draws.T.double().numpy():
        assert stats.kstest(column, "uniform").pvalue > 1e-3
        assert stats.chisquare(np.bincount((column * 256).astype(int), minlength=256)).pvalue > 1e-3
    low_bits = (draws.double().numpy() * 2**24).astype(int) & 255
    assert stats.chisquare(np.bincount(low_bits.ravel(), minlength=256)).pvalue > 1e-3


def test_random_numbers_are_uncorrelated():
    samples = torch.arange(20_000)
    rows = [
        uniform(seed, epoch, samples, stream)[:, 0] for seed in range(3) for epoch in range(3) for stream in range(3)
    ]
    rows += list(uniform(9, 9, samples, 9, 4).T)
    rows += [rows[0].roll(1), rows[0].roll(2), rows[0].roll(64)]
    correlations = np.corrcoef(torch.stack(rows).double().numpy()) - np.eye(len(rows))
    assert np.abs(correlations).max() < 5 / 20_000**0.5
    pairs = (rows[0] * 16).long() * 16 + (rows[1] * 16).long()
    assert stats.chisquare(np.bincount(pairs.numpy(), minlength=256)).pvalue > 1e-3


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**70),
    epoch=st.integers(0, 10_000),
    stream=st.integers(0, 20),
    samples=st.lists(st.integers(0, 2**62), min_size=1, max_size=20),
    count=st.integers(1, 6),
)
def test_random_numbers_depend_on_the_sample_only(seed, epoch, stream, samples, count):
    together = uniform(seed, epoch, torch.tensor(samples), stream, count)
    assert together.min() >= 0 and together.max() < 1
    for row, sample in zip(together, samples, strict=True):
        assert torch.equal(uniform(seed, epoch, torch.tensor([sample]), stream, count)[0], row)
    assert torch.equal(uniform(seed, epoch, torch.tensor(samples), stream, 1), together[:, :1])


def test_random_numbers_equal_splitmix64():
    """Runs are repeatable only if these values do not depend on torch or the machine."""
    import hashlib

    def scrambled(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    golden = 0x9E3779B97F4A7C15
    key = int.from_bytes(hashlib.blake2b(b"12 34 5", digest_size=8).digest(), "little")
    for sample in (0, 1, 49_999, 2**40):
        state = scrambled((sample * golden + key) % 2**64)
        expected = [(scrambled((state + j * golden) % 2**64) >> 40) / 2**24 for j in (1, 2, 3)]
        assert uniform(12, 34, torch.tensor([sample]), 5, 3)[0].tolist() == expected


# The pipeline


@pytest.mark.parametrize(
    "changes",
    [
        EVERYTHING,
        EVERYTHING | {"crop": "resized", "padding": 0, "policy": "trivial"},
        {"policy": "rand", "alternate_flip": True, "horizontal_flip": 0.5},
    ],
)
def test_a_sample_does_not_depend_on_its_batch(changes):
    images, samples = random_images(33), torch.arange(100, 133)
    whole = augmented(images, 17, samples=samples, **changes)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augmented(images[order], 17, samples=samples[order], **changes), whole[order])
    for part in (slice(0, 1), slice(5, 6), slice(3, 20), slice(32, 33)):
        assert torch.equal(augmented(images[part], 17, samples=samples[part], **changes), whole[part])


def test_augmentation_is_reproducible_and_changes_with_the_epoch():
    images = random_images(16)
    state = torch.get_rng_state()
    first, again = augmented(images, 20, **EVERYTHING), augmented(images, 20, **EVERYTHING)
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, augmented(images, 20, epoch=1, **EVERYTHING))


@pytest.mark.parametrize(
    "changes",
    [
        {"crop": "random", "padding": 4},
        {"crop": "resized"},
        {"horizontal_flip": 0.5},
        {"vertical_flip": 0.5},
        {"rotate90": 0.5},
        {"policy": "trivial"},
        {"policy": "rand"},
        {"brightness": 0.5},
        {"contrast": 0.5},
        {"saturation": 0.5},
        {"hue": 0.5},
        {"grayscale": 0.5},
        {"blur": 1.0},
        {"erase": 1.0},
    ],
)
def test_each_augmentation_varies_within_a_batch(changes):
    images = random_images(1).expand(16, -1, -1, -1)
    before = images.clone()
    result = augmented(images, 20, **changes)
    assert len({image.numpy().tobytes() for image in result}) >= 2
    if changes.keys() & {"crop", "blur", "erase", "brightness", "contrast", "saturation", "hue"}:
        assert len({image.numpy().tobytes() for image in result}) >= 12
    assert torch.equal(images, before)


@pytest.mark.parametrize("changes", [{}, EVERYTHING, {"crop": "resized"}, {"crop": "random", "resize": 30}])
def test_results_are_float32_channels_last_of_the_set_size(changes):
    result = augmented(random_images(4, 26), 16, normalization=IMAGENET, **changes)
    assert result.shape == (4, 3, 16, 16) and result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert result.isfinite().all()


def test_without_augmentation_training_equals_evaluation():
    images = random_images(5, 24)
    for size in (24, 16, 30):
        expected = reference.normalize(
            reference.resize(images / 255, [size, size], antialias=True), list(IMAGENET[0]), list(IMAGENET[1])
        )
        evaluated = evaluation_transform(size, *IMAGENET)(images)
        torch.testing.assert_close(evaluated, expected, atol=2e-5, rtol=0)
        assert evaluated.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(augmented(images, size, normalization=IMAGENET), evaluated)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_random_crops_are_uniform_windows_of_the_padded_image(mode):
    image = random_images(1, 8)
    result = augmented(image.expand(2000, -1, -1, -1), 8, crop="random", padding=2, padding_mode=mode)
    padded = reference.pad(image[0], [2] * 4, padding_mode="constant" if mode == "zeros" else mode)
    windows = {padded[:, y : y + 8, x : x + 8].numpy().tobytes(): (y, x) for y in range(5) for x in range(5)}
    counts = np.zeros((5, 5), int)
    for crop in (result * 255).round().byte():
        counts[windows[crop.contiguous().numpy().tobytes()]] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("height_width", [(50, 37), (40, 40), (24, 24)])
@pytest.mark.parametrize(
    "changes",
    [
        {"crop": "random", "padding": 4, "padding_mode": "zeros"},
        {"crop": "random", "padding": 4, "padding_mode": "reflect", "resize": 40},
        {"crop": "random", "resize": 40},
        {"crop": "resized"},
        {},
    ],
)
def test_fused_resize_crop_and_flip_equal_separate_steps(changes, height_width):
    count, size, side = 16, 32, changes.get("resize", 32)
    images, samples = random_images(count, 50)[:, :, : height_width[0], : height_width[1]], torch.arange(count) * 7
    config = Augment(horizontal_flip=0.5, **changes)
    draw, mirrored = partial(uniform, 1, 2, samples), flips(config, samples, 1, 2)
    expected = images if height_width == (side, side) else geometry.resize(images, side)
    if config.crop == "random":
        corners = (draw(CROP, 2) * (side + 2 * config.padding - size + 1)).long()
        padded = geometry.pad(expected, config.padding, config.padding_mode)
        expected = geometry.crop(padded, corners[:, 0], corners[:, 1], size)
    elif config.crop == "resized":
        expected = geometry.resized_crop(expected, *random_resized(config, side, draw), (size, size))
    expected = torch.stack(
        [image.flip(2) if turned else image for image, turned in zip(expected, mirrored, strict=True)]
    )
    assert 0 < int(mirrored.sum()) < count
    assert torch.equal(resize_and_crop(images, config, size, draw, mirrored), expected)


def test_flips_and_rotations_are_exact_and_have_the_set_probability():
    image = random_images(1, 9)
    batch = image.expand(2000, -1, -1, -1)
    unchanged = augmented(image, 9)
    cases: list[tuple[dict[str, Any], list[torch.Tensor], float]] = [
        ({"horizontal_flip": 0.3}, [unchanged.flip(3)], 0.3),
        ({"vertical_flip": 0.3}, [unchanged.flip(2)], 0.3),
        ({"rotate90": 0.6}, [unchanged.rot90(k, (2, 3)) for k in (1, 2, 3)], 0.2),
    ]
    for changes, variants, share in cases:
        result = augmented(batch, 9, **changes)
        found = torch.stack([(result == variant).flatten(1).all(1) for variant in variants])
        assert ((found.float().mean(1) - share).abs() < 0.05).all()
        assert ((result == unchanged).flatten(1).all(1) ^ found.any(0)).all()


def test_alternate_flip_mirrors_each_image_in_every_second_epoch():
    images = random_images(400, 6)
    straight = augmented(images, 6)
    epochs = [augmented(images, 6, epoch=e, horizontal_flip=0.5, alternate_flip=True) for e in range(4)]
    flipped = torch.stack([(result == straight.flip(3)).flatten(1).all(1) for result in epochs])
    assert torch.equal(flipped[0], ~flipped[1]) and torch.equal(flipped[0], flipped[2])
    assert torch.equal(flipped[1], flipped[3])
    assert 0.4 < flipped[0].float().mean() < 0.6
    assert all(
        torch.equal(torch.where(f[:, None, None, None], straight.flip(3), straight), e)
        for f, e in zip(flipped, epochs, strict=True)
    )


def test_jitter_equals_torchvision_in_a_fixed_order():
    images = random_images(12)
    result = augmented(images, 20, brightness=0.4, contrast=1.5, saturation=0.3, hue=0.2)
    draws = uniform(7, 0, torch.arange(12), augment.FACTORS, 4)
    for i, (b, c, s, h) in enumerate(draws.tolist()):
        expected = reference.adjust_brightness(images[i] / 255, 0.6 + 0.8 * b)
        expected = reference.adjust_contrast(expected, 2.5 * c)
        expected = reference.adjust_saturation(expected, 0.7 + 0.6 * s)
        expected = reference.adjust_hue(expected, 0.4 * h - 0.2)
        torch.testing.assert_close(result[i], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({"brightness": 0.5, "jitter": 0.3}, 0.3),
        ({"grayscale": 0.2}, 0.2),
        ({"blur": 0.4}, 0.4),
        ({"erase": 0.25}, 0.25),
    ],
)
def test_augmentations_have_the_set_probability(changes, share):
    images = random_images(2000, 8)
    result, unchanged = augmented(images, 8, **changes), augmented(images, 8)
    changed = ((result - unchanged).abs() > 1e-6).flatten(1).any(1).float().mean()
    assert abs(changed - share) < 0.05


def test_erasing_sets_one_box_per_image_to_the_mean():
    images = random_images(300, 32)
    result = augmented(images, 32, normalization=IMAGENET, erase=1.0)
    unchanged = augmented(images, 32, normalization=IMAGENET)
    erased = (result != unchanged).any(1)
    assert (result * erased[:, None] == 0).all()
    rows, columns = erased.any(2), erased.any(1)
    heights, widths = rows.sum(1), columns.sum(1)
    assert torch.equal(erased, rows[:, :, None] & columns[:, None, :])
    areas = heights * widths / 32**2
    assert areas.min() > 0.01 and areas.max() < 0.36 and 0.15 < areas.mean() < 0.2
    assert heights.unique().numel() > 10 and widths.unique().numel() > 10


def test_resized_crops_without_a_fitting_box_are_central():
    images = random_images(3, 30)
    result = augmented(images, 10, resize=30, crop="resized", crop_scale=(0.9, 1.0), crop_ratio=(3.0, 3.0))
    expected = reference.resized_crop(images / 255, 10, 0, 10, 30, [10, 10], antialias=True)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_full_resized_crops_are_the_resized_image():
    images = random_images(3, 30)
    result = augmented(images, 12, resize=30, crop="resized", crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    torch.testing.assert_close(result, augmented(images, 12), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"crop": "random", "resize": 20}, ["augment.resize 20", "augment.padding 0", "data.size 32"]),
        ({"crop": "random", "padding": 32}, ["augment.padding 32", "reflect"]),
        ({"padding": 4}, ["augment.padding 4", "augment.crop"]),
        (
            {"crop": "random", "padding": 5, "resize": 5},
            ["augment.resize 5", "augment.padding 5", "data.size 32", "below the side"],
        ),
    ],
)
def test_all_invalid_settings_are_in_one_error(changes, names):
    with pytest.raises(SightlineError) as caught:
        training_augmentation(Augment(**changes), 32, *IMAGENET)
    assert all(name in str(caught.value) for name in names)


def test_padding_of_zeros_may_be_as_large_as_the_image():
    result = augmented(random_images(2, 4), 4, crop="random", padding=4, padding_mode="zeros")
    assert result.shape == (2, 3, 4, 4)


# Mixing


def mixed(count: int, side: int, **changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix images whose pixels are their index, with one-hot targets."""
    numbers = torch.arange(count, dtype=torch.float32)
    images = numbers[:, None, None, None].expand(-1, 3, side, side).contiguous(memory_format=torch.channels_last)
    return mix(images, torch.eye(count), torch.arange(count) + 50, 1, 2, Augment(**changes))


def own_shares(targets: torch.Tensor) -> torch.Tensor:
    """The share of each image itself; the rest must be the share of the previous image."""
    own, partner = targets.diagonal(), targets.roll(1, 1).diagonal()
    torch.testing.assert_close(own + partner, torch.ones(len(targets)))
    assert (targets != 0).sum(1).max() == 2
    return own


@pytest.mark.parametrize("alpha", [0.1, 0.8, 1.0, 4.0])
def test_mixup_shares_are_beta_distributed_and_equal_for_images_and_targets(alpha):
    images, targets = mixed(3000, 2, mixup=alpha)
    shares = own_shares(targets)
    # Without the ends, because for a small alpha many shares are rounded to 1 in float32.
    grid = np.linspace(0.001, 0.999, 201)
    reached = (shares.numpy()[:, None] <= grid).mean(0)
    assert np.abs(reached - stats.beta(alpha, alpha).cdf(grid)).max() < 1.95 / 3000**0.5
    numbers = torch.arange(3000.0)
    expected = numbers * shares + numbers.roll(1) * (1 - shares)
    torch.testing.assert_close(images[:, 0, 0, 0], expected)
    assert (images == images[:, :1, :1, :1]).all()


def test_cutmix_pastes_one_box_and_uses_its_area_as_share():
    images, targets = mixed(3000, 16, cutmix=1.0)
    shares = own_shares(targets)
    foreign = images != torch.arange(3000.0)[:, None, None, None]
    assert torch.equal(foreign[:, 0], foreign[:, 1])
    foreign = foreign[:, 0]
    assert torch.equal(foreign, foreign.any(2)[:, :, None] & foreign.any(1)[:, None, :])
    expected = torch.arange(3000.0).roll(1)[:, None, None].expand_as(foreign)[foreign]
    assert torch.equal(images[:, 0][foreign], expected)
    torch.testing.assert_close(shares, 1 - foreign.float().mean((1, 2)))
    assert shares.unique().numel() > 30 and foreign.float().mean((1, 2)).max() > 0.7


def test_mixup_and_cutmix_are_chosen_with_equal_probability():
    images, targets = mixed(1000, 8, mixup=1.0, cutmix=1.0)
    own_shares(targets)
    uneven = (images != images[:, :1, :1, :1]).flatten(1).any(1)
    blended = (images[:, 0, 0, 0] % 1 != 0) & ~uneven
    assert abs(blended.float().mean() - 0.5) < 0.06 and uneven.float().mean() > 0.3
    images = mixed(1000, 8, mixup=1.0, cutmix=1.0, mix_probability=0.4)[0]
    blended = ((images % 1 != 0) & (images == images[:, :1, :1, :1])).flatten(1).all(1)
    assert abs(blended.float().mean() - 0.2) < 0.05


def test_mix_probability_zero_and_a_batch_of_one_change_nothing():
    for both in ({"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.3, "cutmix": 0.3}):
        images, targets = mixed(200, 4, mix_probability=0.0, **both)
        assert torch.equal(images[:, 0, 0, 0], torch.arange(200.0)) and torch.equal(targets, torch.eye(200))
        images, targets = mixed(1, 4, **both)
        assert torch.equal(images, torch.zeros(1, 3, 4, 4)) and torch.equal(targets, torch.ones(1, 1))
    shares = own_shares(mixed(2000, 2, mixup=1.0, mix_probability=0.25)[1])
    assert abs((shares < 1).float().mean() - 0.25) < 0.04


def test_mixing_keeps_channels_last():
    images, _ = mixed(4, 6, mixup=1.0, cutmix=1.0)
    assert images.is_contiguous(memory_format=torch.channels_last)


# Normalization


def test_channel_statistics_equal_those_of_all_pixels(tmp_path):
    images = random_images(700, 5).numpy()
    images[:, 1] //= 2
    stored = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, images.shape)
    stored[:] = images
    stored.flush()
    for given_images in (torch.from_numpy(images), np.load(tmp_path / "images.npy", mmap_mode="r")):
        mean, std = channel_statistics(given_images)
        np.testing.assert_allclose(mean, (images / 255).mean((0, 2, 3)), rtol=1e-9)
        np.testing.assert_allclose(std, (images / 255).std((0, 2, 3)), rtol=1e-9)


def test_evaluation_uses_the_central_part_of_training_images_stored_larger() -> None:
    transform, plain = (evaluation_transform(16, *IMAGENET, share) for share in (0.8, 1.0))
    stored = random_images(3, 20)
    torch.testing.assert_close(transform(stored), plain(stored[:, :, 2:18, 2:18]), atol=1e-5, rtol=0)
    decoded = random_images(3, 16)
    assert torch.equal(transform(decoded), plain(decoded)), "validation images were cropped when they were decoded"


def test_a_constant_channel_can_be_normalized():
    images = torch.full((2, 3, 4, 4), 9, dtype=torch.uint8)
    mean, std = channel_statistics(images)
    assert std == (1 / 255,) * 3
    assert evaluation_transform(4, mean, std)(images).abs().max() < 1e-4


def test_the_published_normalizations():
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    assert NORMALIZATIONS["imagenet"] == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert evaluation_transform(1, *NORMALIZATIONS["half"])(
        torch.tensor([[[[0]], [[255]], [[51]]]], dtype=torch.uint8)
    ).flatten().tolist() == pytest.approx([-1, 1, -0.6])


def test_solarization_inverts_bright_pixels_of_some_images_only() -> None:
    images, samples = random_images(64), torch.arange(64)
    plain = Augment(horizontal_flip=0.5, normalize="half")
    without, some = (
        training_augmentation(plain.model_copy(update={"solarize": share}), images.shape[3], (0.0,) * 3, (1.0,) * 3)(
            images, samples, 3, 1
        )
        for share in (0.0, 0.4)
    )
    inverted = torch.where(without >= 0.5, 1 - without, without)
    changed = ((some - without).abs() > 1e-5).flatten(1).any(1)
    assert 10 < changed.sum() < 45
    torch.testing.assert_close(some[changed], inverted[changed], rtol=0, atol=1e-6)
    torch.testing.assert_close(some[~changed], without[~changed], rtol=0, atol=1e-6)
