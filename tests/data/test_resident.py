"""Where the images lie changes no batch: in the cache, on the device, or one batch ahead."""

import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from parts_toys import build
from sightline.config.schema import Augment, Config, Data, Model, Train
from sightline.data.loader import fits, prefetch, resident, training_batches
from sightline.data.types import Batch, Decoded
from sightline.errors import ENVIRONMENT, SightlineError

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (23, 3, 4, 5), dtype=np.uint8)
MASKS = RANDOM.integers(0, 3, (23, 4, 5), dtype=np.uint8)
NAMES = tuple(map(str, range(23)))
SPLITS = {
    "labels": Decoded(IMAGES, np.arange(23) * 10, NAMES, (), "", IMAGES.nbytes),
    "none": Decoded(IMAGES, None, NAMES, (), "", IMAGES.nbytes),
    "masks": Decoded(IMAGES, None, NAMES, (), "", 0, masks=MASKS, sizes=np.full((23, 2), 4), counts=np.ones((23, 3))),
}


@pytest.mark.parametrize(
    ("wanted", "nbytes", "free", "kept"),
    [
        ("auto", 10, 30, True),
        ("auto", 11, 30, False),
        ("auto", 1, None, False),
        ("always", 30, 30, True),
        ("always", 30, None, True),
        ("never", 1, 30, False),
    ],
)
def test_what_fits(wanted: Literal["auto", "always", "never"], nbytes: int, free: int | None, kept: bool) -> None:
    assert fits(wanted, nbytes, free) is kept


def test_what_cannot_fit_is_refused() -> None:
    with pytest.raises(SightlineError, match="do not fit") as caught:
        fits("always", 31, 30)
    assert caught.value.status == ENVIRONMENT


def same(ones: Iterator[Batch], others: Iterator[Batch]) -> bool:
    """Whether all batches are equal to the bit, in order."""
    return all(
        (a == b if not isinstance(a, torch.Tensor) else a.dtype == b.dtype and torch.equal(a, b))
        for one, other in zip(ones, others, strict=True)
        for a, b in ((getattr(one, field.name), getattr(other, field.name)) for field in fields(Batch))
    )


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_batches_are_the_same_wherever_images_lie(split: Decoded) -> None:
    held = resident(split, "always", CPU)
    assert held and resident(split, "auto", CPU) is None
    for first in (0, 2):
        assert same(training_batches(held, 5, 3, 1, first), training_batches(split, 5, 3, 1, first))
        ahead = prefetch(training_batches(split, 5, 3, 1, first), CPU)
        assert same(ahead, training_batches(split, 5, 3, 1, first))


def test_what_a_step_does_to_a_batch_stays_in_it() -> None:
    held = resident(SPLITS["labels"], "always", CPU)
    assert held
    for batch in training_batches(held, 5, 0, 0):
        batch.images.fill_(99)
    assert torch.equal(held.images, torch.from_numpy(IMAGES))
    held.images.fill_(99)
    assert IMAGES.max() > 99


def test_one_batch_is_made_ahead_and_no_more() -> None:
    made, ready = [], [threading.Event() for _ in range(4)]

    def batches() -> Iterator[Batch]:
        for number, batch in enumerate(training_batches(SPLITS["none"], 5, 0, 0)):
            made.append(number)
            ready[number].set()
            yield batch
            if number == 2:
                raise OSError("the disk is gone")

    ahead = prefetch(batches(), CPU)
    for number in range(2):
        next(ahead)
        assert ready[number + 1].wait(5) and made == list(range(number + 2))
    next(ahead)
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def test_a_run_says_where_its_images_lie(tmp_path: Path) -> None:
    config = Config(
        data=Data(path="sklearn:digits", size=8, resident="always"),
        model=Model(name="small_cnn", args={"widths": [4], "hidden": 8}),
        augment=Augment(normalize="half"),
        train=Train(epochs=1, precision="fp32", device="cpu"),
    )
    said: list[str] = []
    parts = build(config, said.append)
    assert parts.resident and np.array_equal(parts.resident.images.numpy(), parts.train.images)
    assert parts.facts["resident"] is True and any("all on cpu" in line for line in said)
