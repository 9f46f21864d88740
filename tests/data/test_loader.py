"""Order of the images, batches, resident images and prefetching."""

import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parts_toys import build
from sightline.config.schema import Augment, Config, Data, Model, Train
from sightline.data.loader import (
    batch_parts,
    batches_per_epoch,
    epoch_order,
    evaluation_batch_size,
    evaluation_batches,
    prefetch,
    resident,
    should_be_resident,
    training_batches,
)
from sightline.data.parallel import Share
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


def decoded(count: int, labeled: bool = True) -> Decoded:
    """A split whose images are filled with their own index."""
    images = np.zeros((count, 3, 2, 2), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    labels = np.arange(count, dtype=np.int64) * 10 if labeled else None
    return Decoded(images, labels, tuple(map(str, range(count))), (), "", images.nbytes)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**70), st.integers(0, 5000), st.integers(0, 400))
def test_the_order_is_a_reproducible_permutation(seed: int, epoch: int, count: int) -> None:
    order = epoch_order(seed, epoch, count)
    assert order.dtype == torch.int64 and sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, epoch_order(seed, epoch, count))


def test_orders_differ_between_seeds_and_epochs_and_ignore_global_state() -> None:
    orders = {tuple(epoch_order(seed, epoch, 50).tolist()) for seed in (0, 1, 2, 2**32) for epoch in range(5)}
    assert len(orders) == 20
    torch.manual_seed(5)
    np.random.seed(5)
    assert tuple(epoch_order(0, 0, 50).tolist()) in orders


def test_the_order_equals_recorded_values() -> None:
    """If this fails, no run of earlier versions can be repeated or resumed."""
    assert epoch_order(0, 0, 8).tolist() == [6, 3, 1, 4, 5, 2, 7, 0]
    assert epoch_order(7, 3, 8).tolist() == [2, 1, 4, 3, 5, 7, 6, 0]


def test_every_position_is_equally_likely() -> None:
    orders = torch.stack([epoch_order(0, epoch, 10) for epoch in range(2000)])
    counts = torch.stack([torch.bincount(orders[:, position], minlength=10) for position in range(10)])
    assert (counts - 200).abs().max() < 75  # 5.6 standard deviations of a fair draw


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (10, 5, [5, 5]),
        (11, 5, [3, 4, 4]),
        (12, 5, [4, 4, 4]),
        (7, 3, [2, 2, 3]),
        (3, 5, [3]),
        (1, 5, [1]),
        (3, 1, [1, 1, 1]),
        (5, 2, [2, 2]),  # batch normalization cannot train on a single image
        (0, 5, []),
    ],
)
def test_an_epoch_is_divided_into_batches_of_almost_equal_size(count: int, size: int, sizes: list[int]) -> None:
    assert batches_per_epoch(count, size) == len(sizes)
    assert [len(batch.samples) for batch in training_batches(decoded(count), size, 0, 0)] == sizes


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 6), st.data())
def test_batches_have_each_image_once_whatever_the_processes_and_the_first_batch(
    count: int, size: int, world: int, data: st.DataObject
) -> None:
    order = epoch_order(0, 0, count)
    batches = [part.indices for part in batch_parts(order, size)]
    sizes = [len(batch) for batch in batches]
    assert len(batches) == batches_per_epoch(count, size) and max(sizes, default=0) <= size
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert min(sizes, default=2) > 1 or count == 1 or size == 1
    seen = [index for batch in batches for index in batch.tolist()]
    assert seen == order.tolist()[: count - (size == 2 and count > 1 and count % 2)]
    first = data.draw(st.integers(0, len(batches)))
    ranks = [list(batch_parts(order, size, first, Share(rank, world))) for rank in range(world)]
    for number, parts in enumerate(zip(*ranks, strict=True), first):
        divided = sizes[number] >= world
        whole = torch.cat([part.indices for part in parts]) if divided else parts[0].indices
        assert torch.equal(whole, batches[number])
        assert {len(part.indices) for part in parts} <= {
            sizes[number] // world,
            -(-sizes[number] // world),
        } or not divided
    assert {len(parts) for parts in ranks} == {len(batches) - first}


def test_images_labels_and_samples_of_a_batch_match() -> None:
    seen = []
    for batch in training_batches(decoded(50), 8, seed=3, epoch=2):
        assert batch.images.dtype == torch.uint8 and batch.images.shape[1:] == (3, 2, 2) and batch.epoch == 2
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.samples) and torch.equal(
            batch.labels, batch.samples * 10
        )
        seen += batch.samples.tolist()
    assert seen == epoch_order(3, 2, 50).tolist()


def test_an_epoch_can_start_at_any_batch() -> None:
    whole = list(training_batches(decoded(50), 8, seed=3, epoch=2))
    rest = list(training_batches(decoded(50), 8, seed=3, epoch=2, first_batch=4))
    assert [batch.samples.tolist() for batch in rest] == [batch.samples.tolist() for batch in whole[4:]]


def test_a_batch_is_a_copy() -> None:
    data = decoded(6)
    for batch in (*training_batches(data, 3, 0, 0), *evaluation_batches(data, 3)):
        batch.images.fill_(99)
    assert data.images.max() == 5


def test_evaluation_batches_are_complete_and_in_order() -> None:
    batches = list(evaluation_batches(decoded(11, labeled=False), 5))
    assert [len(batch.samples) for batch in batches] == [5, 5, 1]
    assert torch.cat([batch.samples for batch in batches]).tolist() == list(range(11))
    assert all(batch.labels is None for batch in batches)
    assert torch.cat([batch.images for batch in batches])[:, 0, 0, 0].tolist() == list(range(11))


# -------------------------------------------------------------------------------- resident images and prefetching


@pytest.mark.parametrize(
    ("mode", "nbytes", "free", "expected"),
    [
        ("auto", 10, 30, True),
        ("auto", 11, 30, False),
        ("auto", 1, None, False),
        ("always", 30, 30, True),
        ("always", 30, None, True),
        ("never", 1, 30, False),
    ],
)
def test_resident_mode_and_free_memory_decide_what_is_copied(
    mode: Literal["auto", "always", "never"], nbytes: int, free: int | None, expected: bool
) -> None:
    assert should_be_resident(mode, nbytes, free) is expected


def test_resident_always_is_an_error_if_the_images_do_not_fit() -> None:
    with pytest.raises(SightlineError, match="do not fit") as caught:
        should_be_resident("always", 31, 30)
    assert caught.value.status == ENVIRONMENT


def same(ones: Iterator[Batch], others: Iterator[Batch]) -> bool:
    """Whether two sequences of batches are bitwise equal."""
    return all(
        (a == b if not isinstance(a, torch.Tensor) else a.dtype == b.dtype and torch.equal(a, b))
        for one, other in zip(ones, others, strict=True)
        for a, b in ((getattr(one, field.name), getattr(other, field.name)) for field in fields(Batch))
    )


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_resident_and_prefetched_batches_equal_those_of_the_cache(split: Decoded) -> None:
    held = resident(split, "always", CPU)
    assert held and resident(split, "auto", CPU) is None
    for first in (0, 2):
        assert same(training_batches(held, 5, 3, 1, first), training_batches(split, 5, 3, 1, first))
        ahead = prefetch(training_batches(split, 5, 3, 1, first), CPU)
        assert same(ahead, training_batches(split, 5, 3, 1, first))


def test_changing_a_batch_does_not_change_the_images() -> None:
    held = resident(SPLITS["labels"], "always", CPU)
    assert held
    for batch in training_batches(held, 5, 0, 0):
        batch.images.fill_(99)
    assert torch.equal(held.images, torch.from_numpy(IMAGES))
    held.images.fill_(99)
    assert IMAGES.max() > 99


def test_one_batch_is_prefetched() -> None:
    prepared, ready = [], [threading.Event() for _ in range(4)]

    def batches() -> Iterator[Batch]:
        for number, batch in enumerate(training_batches(SPLITS["none"], 5, 0, 0)):
            prepared.append(number)
            ready[number].set()
            yield batch
            if number == 2:
                raise OSError("the disk failed")

    ahead = prefetch(batches(), CPU)
    for number in range(2):
        next(ahead)
        assert ready[number + 1].wait(5) and prepared == list(range(number + 2))
    next(ahead)
    with pytest.raises(OSError, match="failed"):
        next(ahead)


def test_a_run_reports_that_its_images_are_resident(tmp_path: Path) -> None:
    config = Config(
        data=Data(path="sklearn:digits", size=8, resident="always"),
        model=Model(name="small_cnn", args={"widths": [4], "hidden": 8}),
        augment=Augment(normalize="half"),
        train=Train(epochs=1, precision="fp32", device="cpu"),
    )
    messages: list[str] = []
    parts = build(config, messages.append)
    assert parts.resident and np.array_equal(parts.resident.images.numpy(), parts.train.images)
    assert parts.facts["resident"] is True and any("all on cpu" in line for line in messages)


@pytest.mark.parametrize(
    ("side", "limit", "device", "size"),
    [(32, 256, "cpu", 256), (128, 256, "cpu", 16), (224, 256, "cpu", 8), (512, 4, "cpu", 4), (224, 256, "cuda", 256)],
)
def test_batches_without_gradients_fit_into_the_caches_of_a_processor(side, limit, device, size):
    assert evaluation_batch_size((9, 3, side, side), limit, device) == size
