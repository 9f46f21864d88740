"""The order is a function of seed and epoch, every image comes once, and a resumed epoch goes on where it was."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.loader import epoch_order, evaluation_batches, steps_per_epoch, training_batches
from sightline.data.types import Decoded


def decoded(count: int, labeled: bool = True) -> Decoded:
    """Images that are filled with their own index."""
    images = np.zeros((count, 3, 2, 2), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    labels = np.arange(count, dtype=np.int64) * 10 if labeled else None
    return Decoded(images, labels, tuple(map(str, range(count))), (), "", images.nbytes)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**70), st.integers(0, 5000), st.integers(0, 400))
def test_the_order_is_a_permutation_of_its_own(seed: int, epoch: int, count: int) -> None:
    order = epoch_order(seed, epoch, count)
    assert order.dtype == torch.int64 and sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, epoch_order(seed, epoch, count))


def test_orders_differ_between_seeds_and_epochs_and_ignore_global_state() -> None:
    orders = {tuple(epoch_order(seed, epoch, 50).tolist()) for seed in (0, 1, 2, 2**32) for epoch in range(5)}
    assert len(orders) == 20
    torch.manual_seed(5)
    np.random.seed(5)
    assert tuple(epoch_order(0, 0, 50).tolist()) in orders


def test_the_order_stays_the_same_over_versions() -> None:
    """A recorded order: if this fails, no run can be repeated or resumed with the new version."""
    assert epoch_order(0, 0, 8).tolist() == [6, 3, 1, 4, 5, 2, 7, 0]
    assert epoch_order(7, 3, 8).tolist() == [2, 1, 4, 3, 5, 7, 6, 0]


def test_every_place_is_equally_likely() -> None:
    orders = torch.stack([epoch_order(0, epoch, 10) for epoch in range(2000)])
    counts = torch.stack([torch.bincount(orders[:, place], minlength=10) for place in range(10)])
    assert (counts - 200).abs().max() < 75  # 5.6 standard deviations of a fair draw


@pytest.mark.parametrize(
    ("count", "size", "steps"),
    [(10, 5, 2), (11, 5, 2), (12, 5, 3), (1, 5, 1), (3, 5, 1), (6, 5, 1), (3, 1, 3), (0, 5, 0)],
)
def test_a_last_batch_of_one_is_dropped(count: int, size: int, steps: int) -> None:
    assert steps_per_epoch(count, size) == steps
    batches = list(training_batches(decoded(count), size, 0, 0))
    assert len(batches) == steps
    assert all(len(batch.samples) > 1 for batch in batches) or count == 1 or size == 1


def test_images_labels_and_samples_belong_together() -> None:
    seen = []
    for batch in training_batches(decoded(50), 8, seed=3, epoch=2):
        assert batch.images.dtype == torch.uint8 and batch.images.shape[1:] == (3, 2, 2) and batch.epoch == 2
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.samples) and torch.equal(
            batch.labels, batch.samples * 10
        )
        seen += batch.samples.tolist()
    assert seen == epoch_order(3, 2, 50).tolist()


def test_resuming_within_an_epoch() -> None:
    whole = list(training_batches(decoded(50), 8, seed=3, epoch=2))
    rest = list(training_batches(decoded(50), 8, seed=3, epoch=2, first_batch=4))
    assert [batch.samples.tolist() for batch in rest] == [batch.samples.tolist() for batch in whole[4:]]


def test_a_batch_is_a_copy() -> None:
    data = decoded(6)
    for batch in (*training_batches(data, 3, 0, 0), *evaluation_batches(data, 3)):
        batch.images.fill_(99)
    assert data.images.max() == 5


def test_evaluation_is_in_order_and_complete() -> None:
    batches = list(evaluation_batches(decoded(11, labeled=False), 5))
    assert [len(batch.samples) for batch in batches] == [5, 5, 1]
    assert torch.cat([batch.samples for batch in batches]).tolist() == list(range(11))
    assert all(batch.labels is None for batch in batches)
    assert torch.cat([batch.images for batch in batches])[:, 0, 0, 0].tolist() == list(range(11))
