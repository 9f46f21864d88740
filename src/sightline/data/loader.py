"""Training and evaluation batches. The order of an epoch is a function of (seed, epoch): any batch can be repeated."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from .parallel import Share, permutation
from .types import Batch, Decoded, Resident

WHOLE = Share(0, 1)


class BatchPart(NamedTuple):
    """What one process takes of a batch. indices: int64 [N] in the split. whole, start, lead: as in `Batch`."""

    indices: torch.Tensor
    whole: torch.Tensor | None = None
    start: int = 0
    lead: int = 0


def epoch_order(seed: int, epoch: int, count: int) -> torch.Tensor:
    """A permutation int64 [count] for one epoch."""
    return torch.from_numpy(permutation(count, seed, epoch))


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Batches in an epoch of `count` images. A last partial batch counts, unless it is a single image beside full
    batches: batch normalization cannot train on one."""
    full, rest = divmod(count, batch_size)
    return full + (1 if rest > 1 or (rest == 1 and full == 0) else 0)


def training_batches(
    decoded: Decoded | Resident,
    batch_size: int,
    seed: int,
    epoch: int,
    first_batch: int = 0,
    device: torch.device | str = "cpu",
    share: Share = WHOLE,
    lead: bool = False,
) -> Iterator[Batch]:
    """The batches of one epoch in its order, from number `first_batch` on, as a resumed run needs them.

    share: only the part of this process of each batch. lead: with the image before that part at its front, see `Batch`.
    """
    if isinstance(decoded, Decoded) and decoded.stream is not None:
        yield from decoded.stream.batches(batch_size, seed, epoch, first_batch, device, share, lead)
        return
    order = epoch_order(seed, epoch, len(decoded.images))
    for part in batch_parts(order, batch_size, first_batch, share, lead):
        batch = gather(decoded, part.indices, epoch, torch.device(device))
        yield replace(batch, whole=part.whole, start=part.start, lead=part.lead)


def batch_parts(
    order: torch.Tensor, batch_size: int, first_batch: int = 0, share: Share = WHOLE, lead: bool = False
) -> Iterator[BatchPart]:
    """The batches of an epoch with this order, int64 [N]; further options as in `training_batches`."""
    for step in range(first_batch, steps_per_epoch(len(order), batch_size)):
        whole = order[step * batch_size : (step + 1) * batch_size]
        if share == WHOLE or len(whole) < share.world:  # each process takes all of so few images
            yield BatchPart(whole)
            continue
        start, stop = part_of(len(whole), share)
        own = whole[start:stop]
        own = torch.cat([whole[start - 1 :][:1], own]) if lead else own  # before the first part: the last image of all
        yield BatchPart(own, whole, start, int(lead))


def part_of(count: int, share: Share) -> tuple[int, int]:
    """(start, stop) of a process's part of `count` items; lengths of parts differ by at most one."""
    return share.rank * count // share.world, (share.rank + 1) * count // share.world


def evaluation_batches(
    decoded: Decoded, batch_size: int, device: torch.device | str = "cpu", share: Share = WHOLE
) -> Iterator[Batch]:
    """All images in the order of the split, each exactly once; the epoch of these batches is 0.

    Pairs of different sizes come in batches of one size each, without the padding in the arrays. share: the batches of
    one process; several processes take whole batches in turn, so that each batch is the same as in one process.
    """
    indices = torch.arange(len(decoded.images))
    changes = np.flatnonzero((np.diff(decoded.sizes, axis=0) != 0).any(1)) + 1
    batches = [batch for alike in torch.tensor_split(indices, changes.tolist()) for batch in alike.split(batch_size)]
    for chosen in batches[share.rank :: share.world]:
        batch = gather(decoded, chosen, 0, torch.device(device))
        if decoded.masks is not None and batch.labels is not None:
            height, width = decoded.sizes[int(chosen[0])]
            images, masks = batch.images[:, :, :height, :width], batch.labels[:, :height, :width]
            batch = replace(batch, images=images, labels=masks)
        yield batch


def gather(decoded: Decoded | Resident, indices: torch.Tensor, epoch: int, device: torch.device) -> Batch:
    """The images at `indices` int64 [N] by one indexing operation, on the device if the split is resident there, else
    from the memory map. For a GPU they are pinned, and the copy to the device is asynchronous."""
    if isinstance(decoded, Resident):
        here = indices.to(device)
        labels = None if decoded.labels is None else decoded.labels.index_select(0, here)
        return Batch(decoded.images.index_select(0, here), labels, here, epoch)
    if decoded.stream is not None:
        return decoded.stream.gather(indices, epoch, device)
    stored, targets = torch.from_numpy(decoded.images), decoded.targets
    images = torch.empty((len(indices), *stored.shape[1:]), dtype=torch.uint8, pin_memory=device.type == "cuda")
    torch.index_select(stored, 0, indices, out=images)
    labels = None if targets is None else torch.from_numpy(targets).index_select(0, indices)
    return to_device(images, labels, indices, epoch, device)


def to_device(
    images: torch.Tensor, labels: torch.Tensor | None, indices: torch.Tensor, epoch: int, device: torch.device
) -> Batch:
    """A batch on its device; for a GPU `images` are pinned already."""
    pinned = device.type == "cuda"
    if pinned:
        indices, labels = indices.pin_memory(), None if labels is None else labels.pin_memory()
    return Batch(
        images=images.to(device, non_blocking=pinned),
        labels=None if labels is None else labels.to(device, non_blocking=pinned),
        samples=indices.to(device, non_blocking=pinned),
        epoch=epoch,
    )
