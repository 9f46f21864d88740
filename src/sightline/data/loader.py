"""The order of training images and their batches: a function of (seed, epoch), so that any batch can be made again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..inference.sharded_predict import Share
from .cache import Decoded
from .pair_cache import DecodedPairs

WHOLE = Share(0, 1)


@dataclass(frozen=True)
class Batch:
    """images: uint8 [N, C, H, W]. labels: int64 [N] or None; of pairs their masks, uint8 [N, H, W]. samples: int64 [N],
    places in the split. On one device.

    Of a run of several processes it is one's part. whole: int64 [M], the samples of the parts of all, in their order;
    None: this is all. start: where in it this part begins. lead: so many images at the front are another part's, there
    only for others to be mixed with.
    """

    images: torch.Tensor
    labels: torch.Tensor | None
    samples: torch.Tensor
    epoch: int
    whole: torch.Tensor | None = None
    start: int = 0
    lead: int = 0

    @property
    def every(self) -> torch.Tensor:
        """The samples of the batch in all processes."""
        return self.samples if self.whole is None else self.whole

    @property
    def share(self) -> float:
        """How much of the batch this is, 0 to 1."""
        return (len(self.samples) - self.lead) / len(self.every)


@dataclass(frozen=True)
class Resident:
    """A split that lies on a device as a whole. images: uint8 [N, 3, H, W]. labels: int64 [N], masks uint8 [N, H, W],
    or None."""

    images: torch.Tensor
    labels: torch.Tensor | None


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
    decoded: Decoded | DecodedPairs | Resident,
    batch_size: int,
    seed: int,
    epoch: int,
    first_batch: int = 0,
    device: torch.device | str = "cpu",
    share: Share = WHOLE,
    lead: bool = False,
) -> Iterator[Batch]:
    """The batches of one epoch in its order, from number `first_batch` on: resuming gives those that were left.

    share: of each batch only the part of this process. lead: with the image before it at its front, see `Batch`.
    """
    if not isinstance(decoded, Resident) and decoded.stream is not None:
        yield from decoded.stream.batches(batch_size, seed, epoch, first_batch, device, share, lead)
        return
    order = epoch_order(seed, epoch, len(decoded.images))
    for step in range(first_batch, steps_per_epoch(len(order), batch_size)):
        whole = order[step * batch_size : (step + 1) * batch_size]
        if share == WHOLE or len(whole) < share.world:  # of so few images each process takes all
            yield gather(decoded, whole, epoch, torch.device(device))
            continue
        start, stop = part_of(len(whole), share)
        own = whole[start:stop]
        own = torch.cat([whole[start - 1 :][:1], own]) if lead else own  # the first part's is the last image of all
        part = gather(decoded, own, epoch, torch.device(device))
        yield replace(part, whole=whole, start=start, lead=int(lead))


def part_of(count: int, share: Share) -> tuple[int, int]:
    """From where to where a process's part of `count` things goes; parts differ by one in length at most."""
    return share.rank * count // share.world, (share.rank + 1) * count // share.world


def evaluation_batches(
    decoded: Decoded | DecodedPairs, batch_size: int, device: torch.device | str = "cpu", share: Share = WHOLE
) -> Iterator[Batch]:
    """All images in the order of the split, each exactly once; the epoch of these batches is 0.

    Pairs of different sizes come in batches of one size each, without what lies beyond them in the arrays.
    share: of these batches those of one process; several take them in turn, so that each batch is what it would be in
    one process alone.
    """
    places = torch.arange(len(decoded.images))
    if isinstance(decoded, Decoded):
        for chosen in places.split(batch_size)[share.rank :: share.world]:
            yield gather(decoded, chosen, 0, torch.device(device))
        return
    changes = np.flatnonzero((np.diff(decoded.sizes, axis=0) != 0).any(1)) + 1
    number = -1
    for alike in torch.tensor_split(places, changes.tolist()):
        height, width = decoded.sizes[int(alike[0])]
        for chosen in alike.split(batch_size):
            number += 1
            if number % share.world != share.rank:
                continue
            batch = gather(decoded, chosen, 0, torch.device(device))
            assert batch.labels is not None
            images, masks = batch.images[:, :, :height, :width], batch.labels[:, :height, :width]
            yield Batch(images, masks, batch.samples, batch.epoch)


def gather(decoded: Decoded | DecodedPairs | Resident, places: torch.Tensor, epoch: int, device: torch.device) -> Batch:
    """The images at `places` int64 [N] by one indexing operation, on the device where they lie there, else out of the
    memory map. For a GPU these land in pinned memory, and the copy to the device goes on by itself."""
    if isinstance(decoded, Resident):
        here = places.to(device)
        labels = None if decoded.labels is None else decoded.labels.index_select(0, here)
        return Batch(decoded.images.index_select(0, here), labels, here, epoch)
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
