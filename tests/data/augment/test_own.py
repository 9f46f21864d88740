"""Augmentations of the user's own: random numbers, shape, order."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sightline.config.schema import Augment
from sightline.data.augment.batch import training_augmentation
from sightline.data.augment.own import AUGMENTATIONS
from sightline.errors import SightlineError

Draw = Callable[[int], Tensor]
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def darker(images: Tensor, draw: Draw) -> Tensor:
    return images * draw(2)[:, :1, None, None]


def lighter(images: Tensor, draw: Draw) -> Tensor:
    return 1 - (1 - images) * draw(1)[:, :, None, None]


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (darker, lighter):
        monkeypatch.setitem(AUGMENTATIONS, function.__name__, function)


def augmented(samples: list[int], *names: str, epoch: int = 0) -> Tensor:
    """White images of these samples, augmented."""
    images = torch.full((len(samples), 3, 8, 8), 255, dtype=torch.uint8)
    transform = training_augmentation(Augment(own=names), 8, ZERO, ONE)
    return transform(images, torch.tensor(samples), 3, epoch)


def test_random_numbers_depend_on_sample_epoch_and_name_and_not_on_the_batch() -> None:
    whole = augmented([0, 1, 2, 3], "darker")
    assert torch.equal(whole[2:], augmented([2, 3], "darker"))
    assert len(whole[:, 0, 0, 0].unique()) == 4 and not torch.equal(whole, augmented([0, 1, 2, 3], "darker", epoch=1))
    AUGMENTATIONS["again"] = darker
    assert not torch.equal(whole, augmented([0, 1, 2, 3], "again"))
    del AUGMENTATIONS["again"]


def test_augmentations_are_applied_in_the_given_order() -> None:
    assert augmented([5], "lighter", "darker").mean() < 1
    assert augmented([5], "darker", "lighter").mean() > augmented([5], "lighter", "darker").mean()


@pytest.mark.parametrize(
    "wrong", [lambda images, draw: images[:1], lambda images, draw: images.long(), lambda images, draw: None]
)
def test_a_wrong_result_is_an_error(monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., object]) -> None:
    monkeypatch.setitem(AUGMENTATIONS, "darker", wrong)
    with pytest.raises(SightlineError, match="the augmentation 'darker' has a wrong result") as caught:
        augmented([0, 1], "darker")
    assert "[2, 3, 8, 8]" in caught.value.why


def test_no_augmentation_leaves_the_images_unchanged() -> None:
    assert torch.equal(augmented([0]), torch.ones(1, 3, 8, 8))
