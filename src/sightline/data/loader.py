"""The order of training images and their batches: a function of (seed, epoch), so that any batch can be made again."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .cache import Decoded
from .pair_cache import DecodedPairs


@dataclass(frozen=True)
class Batch:
    """images: uint8 [N, C, H, W]. labels: int64 [N] or None; of pairs their masks, uint8 [N, H, W]. samples: int64 [N],
    places in the split. On one device."""

    images: torch.Tensor
    labels: torch.Tensor | None
    samples: torch.Tensor
    epoch: int


def epoch_order(seed: int, epoch: int, count: int) -> torch.Tensor:
    """A permutation int64 [count] for one epoch.

    Sorts random 64-bit keys instead of calling NumPy's `permutation`: NumPy promises that the raw stream of PCG64 stays
    the same over its versions (NEP 19) and promises no such thing of the methods built on it.
    """
    keys = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch,))).random_raw(count)
    return torch.from_numpy(np.argsort(keys, kind="stable").astype(np.int64))


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Batches in an epoch of `count` images. A last partial batch counts, unless it is a single image beside full
    batches: batch normalization cannot train on one."""
    full, rest = divmod(count, batch_size)
    return full + (1 if rest > 1 or (rest == 1 and full == 0) else 0)


def training_batches(
    decoded: Decoded | DecodedPairs,
    batch_size: int,
    seed: int,
    epoch: int,
    first_batch: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """The batches of one epoch in its order, from number `first_batch` on: resuming gives those that were left."""
    if decoded.stream is not None:
        yield from decoded.stream.batches(batch_size, seed, epoch, first_batch, device)
        return
    order = epoch_order(seed, epoch, len(decoded.images))
    for step in range(first_batch, steps_per_epoch(len(order), batch_size)):
        yield gather(decoded, order[step * batch_size : (step + 1) * batch_size], epoch, torch.device(device))


def evaluation_batches(
    decoded: Decoded | DecodedPairs, batch_size: int, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """All images in the order of the split, each exactly once; the epoch of these batches is 0.

    Pairs of different sizes come in batches of one size each, without what lies beyond them in the arrays.
    """
    places = torch.arange(len(decoded.images))
    if isinstance(decoded, Decoded):
        for chosen in places.split(batch_size):
            yield gather(decoded, chosen, 0, torch.device(device))
        return
    changes = np.flatnonzero((np.diff(decoded.sizes, axis=0) != 0).any(1)) + 1
    for alike in torch.tensor_split(places, changes.tolist()):
        height, width = decoded.sizes[int(alike[0])]
        for chosen in alike.split(batch_size):
            batch = gather(decoded, chosen, 0, torch.device(device))
            assert batch.labels is not None
            images, masks = batch.images[:, :, :height, :width], batch.labels[:, :height, :width]
            yield Batch(images, masks, batch.samples, batch.epoch)


def gather(decoded: Decoded | DecodedPairs, places: torch.Tensor, epoch: int, device: torch.device) -> Batch:
    """The images at `places` int64 [N] by one indexing operation out of the memory map. For a GPU they land in pinned
    memory, and the copy to the device goes on while the processor prepares the next batch."""
    if decoded.stream is not None:
        return decoded.stream.gather(places, epoch, device)
    stored = torch.from_numpy(decoded.images)
    pinned = device.type == "cuda"
    images = torch.empty((len(places), *stored.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
    torch.index_select(stored, 0, places, out=images)
    labels = None if decoded.labels is None else torch.from_numpy(decoded.labels).index_select(0, places)
    return to_device(images, labels, places, epoch, device)


def to_device(
    images: torch.Tensor, labels: torch.Tensor | None, places: torch.Tensor, epoch: int, device: torch.device
) -> Batch:
    """A batch on its device; for a GPU `images` lie in pinned memory already."""
    pinned = device.type == "cuda"
    if pinned:
        places, labels = places.pin_memory(), None if labels is None else labels.pin_memory()
    return Batch(
        images=images.to(device, non_blocking=pinned),
        labels=None if labels is None else labels.to(device, non_blocking=pinned),
        samples=places.to(device, non_blocking=pinned),
        epoch=epoch,
    )
