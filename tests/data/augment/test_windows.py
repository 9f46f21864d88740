"""Windows of image-mask pairs: equal geometry, no interpolation of masks, rare classes, reproducibility."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from sightline import SightlineError
from sightline.config.schema import Augment
from sightline.data.augment import geometry
from sightline.data.augment.windows import Boxes, check_window, find_anchors, nearest, pair_augmentation

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def cut(
    images: torch.Tensor,
    masks: torch.Tensor,
    boxes: Boxes,
    window: tuple[int, int],
    mirrored: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resize the boxes of images and masks to the window."""
    return geometry.resized_crop(images, *boxes, window, mirrored), nearest(masks, boxes, window, mirrored)


def pairs(count: int = 6, height: int = 40, width: int = 56, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose red channel is 50 times the class in the mask, in blocks of 8 pixels."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, classes, (count, height // 8, width // 8))
    masks = blocks.repeat(8, 1).repeat(8, 2).astype(np.uint8)
    images = np.stack([masks * 50, 255 - masks * 50, np.full_like(masks, 7)], 1)
    return torch.from_numpy(images), torch.from_numpy(masks)


def sizes_of(masks: torch.Tensor) -> torch.Tensor:
    return torch.tensor([list(masks.shape[1:])] * len(masks))


def run(augment: Augment, epoch: int = 0, samples: torch.Tensor | None = None, anchors: object = None) -> tuple:
    images, masks = pairs()
    samples = torch.arange(len(images)) if samples is None else samples
    transform = pair_augmentation(augment, MEAN, STD)
    sizes = sizes_of(masks)
    return transform(images[samples], masks[samples], sizes[samples], anchors, samples, 3, epoch)


GEOMETRY = Augment(window=(16, 24), horizontal_flip=0.5, vertical_flip=0.5, rotate90=0.5)


def test_image_and_mask_are_transformed_equally() -> None:
    images, masks = run(GEOMETRY)
    assert images.shape == (6, 3, 16, 24) and masks.shape == (6, 16, 24) and masks.dtype == torch.uint8
    torch.testing.assert_close(images[:, 0] * 255, masks.float() * 50, atol=1e-3, rtol=0)
    square, turned = run(GEOMETRY.model_copy(update={"window": (16, 16), "rotate90": 1.0}))
    torch.testing.assert_close(square[:, 0] * 255, turned.float() * 50, atol=1e-3, rtol=0)


def test_scaled_masks_have_original_values_only() -> None:
    images, masks = run(GEOMETRY.model_copy(update={"scale": (0.5, 2.0)}))
    assert set(masks.unique().tolist()) <= set(range(5))
    inner = (
        images[:, 0] * 255 - masks.float() * 50
    ).abs() < 1  # away from the edges of the blocks, where images are interpolated
    assert inner.float().mean() > 0.6


def test_a_sample_does_not_depend_on_its_batch_and_changes_with_the_epoch() -> None:
    augment = GEOMETRY.model_copy(update={"scale": (0.5, 2.0), "brightness": 0.3})
    images, masks = run(augment)
    some, their = run(augment, samples=torch.tensor([4, 1]))
    assert torch.equal(some, images[[4, 1]]) and torch.equal(their, masks[[4, 1]])
    assert not torch.equal(run(augment, epoch=1)[1], masks)


def test_fused_mirroring_equals_mirroring_the_window() -> None:
    images, masks = pairs(3)
    boxes = tuple(torch.tensor(values) for values in ([3, 0, 1], [5, 8, 2], [30, 16, 20], [40, 24, 21]))
    plain, mirrored = cut(images, masks, boxes, (20, 18)), cut(images, masks, boxes, (20, 18), torch.tensor([1, 0, 1]))
    for before, after in zip(plain, mirrored, strict=True):
        assert torch.equal(after[::2], before[::2].flip(-1)) and torch.equal(after[1], before[1])


def test_color_augmentations_do_not_change_masks() -> None:
    plain = run(Augment(window=(16, 24)))
    colored = run(Augment(window=(16, 24), brightness=0.5, hue=0.2, grayscale=0.5, blur=0.5))
    assert torch.equal(plain[1], colored[1]) and not torch.allclose(plain[0], colored[0])


def test_windows_equal_interpolation_of_the_box() -> None:
    images, masks = pairs(2)
    boxes = tuple(torch.tensor(values) for values in ([3, 0], [5, 8], [30, 16], [40, 24]))
    parts, labels = cut(images, masks, boxes, (20, 20))
    for number in range(2):
        top, left, height, width = (int(edge[number]) for edge in boxes)
        part = images[number : number + 1, :, top : top + height, left : left + width].float() / 255
        whole = functional.interpolate(part, (20, 20), mode="bilinear", antialias=True)
        torch.testing.assert_close(parts[number : number + 1], whole, atol=1e-4, rtol=0)
        mask = masks[number : number + 1, None, top : top + height, left : left + width].float()
        exact = functional.interpolate(mask, (20, 20), mode="nearest-exact")
        assert torch.equal(labels[number].float(), exact[0, 0])


def test_windows_do_not_include_padding() -> None:
    images, masks = pairs(4)
    masks[:, 24:], masks[:, :, 32:] = 255, 255  # padding
    sizes = torch.tensor([[24, 32]] * 4)
    transform = pair_augmentation(Augment(window=(16, 16), scale=(0.3, 2.0)), MEAN, STD)
    for epoch in range(20):
        _, labels = transform(images, masks, sizes, None, torch.arange(4), 0, epoch)
        assert (labels != 255).all()


def test_windows_around_rare_classes_contain_them() -> None:
    masks = np.zeros((3, 64, 64), np.uint8)
    masks[0, 10, 60] = 1  # one pixel in image 0, none elsewhere
    masks[2] = 255
    sizes = np.array([[64, 64]] * 3)
    anchors = find_anchors(masks, sizes, 2, seed=0)
    assert anchors.chances[0, 1] > 0.99 and anchors.chances[1].tolist() == [1, 0] and not anchors.chances[2].any()
    assert anchors.points[0, 1].unique(dim=0).tolist() == [[10, 60]]
    augment = Augment(window=(16, 16), rare_crops=1.0)
    transform = pair_augmentation(augment, MEAN, STD)
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    found, positions = [], set()
    for epoch in range(30):
        _, labels = transform(
            images, torch.from_numpy(masks), torch.from_numpy(sizes), anchors, torch.arange(3), 0, epoch
        )
        found.append(bool((labels[0] == 1).any()))
        positions |= {tuple(position) for position in (labels[0] == 1).nonzero().tolist()}
    assert sum(found) >= 29 and len(positions) > 5, "the pixel is in nearly every window, at different positions"


def test_nearest_without_scaling_is_exact() -> None:
    mask = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)
    box = tuple(torch.tensor([value]) for value in (0, 0, 3, 4))
    assert torch.equal(nearest(mask, box, (3, 4)), mask)
    assert nearest(mask, box, (6, 8))[0, ::2, ::2].tolist() == mask[0].tolist()


def test_all_settings_of_classification_are_in_one_error() -> None:
    with pytest.raises(SightlineError) as caught:
        check_window(Augment(crop="random", mixup=0.2, scale=(0.5, 2.0), policy="trivial"))
    for key in ("augment.crop", "augment.mixup", "augment.scale", "augment.policy"):
        assert key in caught.value.why
