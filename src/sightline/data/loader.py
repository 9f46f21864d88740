"""Training and evaluation batches. The order of an epoch is a function of (seed, epoch), so that runs resume
exactly.

On a GPU, all training images are copied to the device once if they fit; else a second thread prepares each batch in
advance. On a CPU, batches are read from the memory-mapped cache. The batches are the same.
"""

import contextlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ENVIRONMENT, SightlineError
from .decode.decoding import size_text
from .label_arrays import are_numbers, strata
from .parallel import Share, permutation
from .types import Batch, Decoded, Resident

SINGLE_PROCESS = Share(0, 1)
CPU_PIXELS, MIN_CPU_BATCH = 16 * 128 * 128, 8
"""On a CPU, a batch of a forward pass without gradients has at most so many pixels, but at least so many images."""
POWERS = {"balanced": 0.0, "sqrt": 0.5}
TIES, DRAWS = 1, 2
"""Keys of the permutations of classes and of draws by `data.sampler`."""
ResidentMode = Literal["auto", "always", "never"]
MEMORY_SHARE = 1 / 3
"""With `data.resident auto`, the images may take this share of the free device memory; training steps need the rest."""


class BatchPart(NamedTuple):
    """One process's part of a batch. indices: int64 [N], in the split. The other fields are those of `Batch`."""

    indices: Tensor
    global_samples: Tensor | None = None
    start: int = 0
    overlap: int = 0


class Sampling(NamedTuple):
    """How often images are drawn. strata: int64 [N], the class of each training image. power: the draws of a class
    with n images are proportional to n ** power."""

    strata: np.ndarray
    power: float

    def quotas(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each class with images: (number of images, number of draws in an epoch), int64 [K] each.

        There are as many draws as images. Draws that do not divide evenly go to the classes with the largest remainder;
        among equal ones to other classes in each epoch.
        """
        sizes = np.unique(self.strata, return_counts=True)[1]
        exact = sizes**self.power * (sizes.sum() / (sizes**self.power).sum())
        draws = np.floor(exact + 1e-9).astype(np.int64)
        ranked = np.lexsort((permutation(len(sizes), seed, epoch, TIES), np.round(draws - exact, 9)))
        draws[ranked[: sizes.sum() - draws.sum()]] += 1
        return sizes, draws


def sampling_of(decoded: Decoded, sampler: str) -> Sampling | None:
    """The setting `data.sampler` for a training split; None for `shuffle`. An image with a label set counts for the
    rarest of its classes. Raises SightlineError for images without classes, and for shards."""
    if sampler == "shuffle":
        return None
    if decoded.stream is not None:
        raise SightlineError(
            "images in shards are read in the order in which they are stored, and cannot be drawn by class",
            where="data.sampler",
            cure="leave out --data.sampler; to weight the classes instead: --loss.class_weights balanced",
        )
    if decoded.labels is None or are_numbers(decoded.labels):
        cure = "leave out --data.sampler; for rare classes in masks: --augment.rare_crops 0.5"
        raise SightlineError(f"--data.sampler {sampler} needs images with classes", where="data.sampler", cure=cure)
    return Sampling(strata(decoded.labels), POWERS[sampler])


def epoch_order(seed: int, epoch: int, count: int, sampling: Sampling | None = None) -> Tensor:
    """The draws of an epoch, int64 [count]: the index of an image, plus `count` times the number of its earlier draws
    in this epoch. Without `sampling` each image is drawn once: a permutation.

    With `sampling`, the images of a class are drawn equally often, up to one draw, which is random.
    """
    order = permutation(count, seed, epoch)
    if sampling is None:
        return torch.from_numpy(order)
    sizes, draws = sampling.quotas(seed, epoch)
    order = order[np.argsort(sampling.strata[order], kind="stable")]  # by class, each in random order
    position = np.arange(count) - np.repeat(np.cumsum(draws) - draws, draws)
    repeat, row = np.divmod(position, np.repeat(sizes, draws))
    keys = order[np.repeat(np.cumsum(sizes) - sizes, draws) + row] + count * repeat
    return torch.from_numpy(keys[permutation(count, seed, epoch, DRAWS)])


def batches_per_epoch(count: int, batch_size: int) -> int:
    """Number of batches in an epoch of `count` images: the fewest of at most `batch_size` images. In batches of two,
    the last of an odd number of images is left out, because batch normalization cannot train on a single image."""
    return count // 2 if batch_size == 2 and count > 1 else -(-count // batch_size)


def training_batches(
    decoded: Decoded | Resident,
    batch_size: int,
    seed: int,
    epoch: int,
    first_batch: int = 0,
    device: torch.device | str = "cpu",
    share: Share = SINGLE_PROCESS,
    overlap: bool = False,
    sampling: Sampling | None = None,
) -> Iterator[Batch]:
    """Yield the batches of one epoch, starting with the batch of index `first_batch`.

    share: rank and number of processes; only this process's part of each batch is yielded. overlap: put the image that
    precedes the part before it, as its partner for mixup and cutmix; see `Batch`. sampling: not for shards.
    """
    if isinstance(decoded, Decoded) and decoded.stream is not None:
        yield from decoded.stream.batches(batch_size, seed, epoch, first_batch, device, share, overlap)
        return
    count = len(decoded.images)
    order = epoch_order(seed, epoch, count, sampling)
    for part in batch_parts(order, batch_size, first_batch, share, overlap):
        batch = gather(decoded, part.indices % count, epoch, torch.device(device))
        draws = part.indices.to(device) if sampling else None
        samples = None if part.global_samples is None else part.global_samples % count
        yield replace(batch, global_samples=samples, start=part.start, overlap=part.overlap, draws=draws)


def batch_parts(
    order: Tensor, batch_size: int, first_batch: int = 0, share: Share = SINGLE_PROCESS, overlap: bool = False
) -> Iterator[BatchPart]:
    """Yield, for each batch of an epoch, the indices of the images that this process computes. order: int64 [N], the
    order of the epoch. The other arguments are those of `training_batches`. The sizes of the batches differ by at most
    one."""
    batches = batches_per_epoch(len(order), batch_size)
    count = min(len(order), batches * batch_size)
    for number in range(first_batch, batches):
        batch = order[slice(*part_range(count, number, batches))]
        if share.world == 1 or len(batch) < share.world:  # a batch with fewer images than processes is not divided
            yield BatchPart(batch)
            continue
        start, stop = part_range(len(batch), *share)
        own = batch[start:stop]
        if overlap:  # the first part is preceded by the last image of the batch
            own = torch.cat([batch[start - 1 :][:1], own])
        yield BatchPart(own, batch, start, int(overlap))


def part_range(count: int, part: int, parts: int) -> tuple[int, int]:
    """One of `parts` consecutive parts of `count` items: (start, stop). Their lengths differ by at most one."""
    return part * count // parts, (part + 1) * count // parts


def evaluation_batches(
    decoded: Decoded, batch_size: int, device: torch.device | str = "cpu", share: Share = SINGLE_PROCESS
) -> Iterator[Batch]:
    """Yield all images of a split once, in order.

    Image-mask pairs of different sizes are batched by size, without padding. batch_size: an upper limit, see
    `evaluation_batch_size`. share: rank and number of processes, which take complete batches in turn; so the batches do
    not depend on the number of processes.
    """
    batch_size = evaluation_batch_size(decoded.images.shape, batch_size, device)
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


def evaluation_batch_size(shape: tuple[int, ...], limit: int, device: torch.device | str) -> int:
    """The number of images [..., H, W] of this shape in a batch of a forward pass without gradients, at most `limit`.

    On a CPU, the outputs of a network's first layers should fit into its caches. With `CPU_PIXELS`, the time of a
    forward pass is 0.31 (EfficientNet-Lite0) to 0.76 (ConvNeXt-atto) of that with 256 images of 128x128 pixels, and the
    memory of EfficientNet-Lite0 at 224 pixels 1.0 instead of 4.2 GB (one core of an AMD EPYC, float32).
    """
    if torch.device(device).type != "cpu":
        return limit
    return min(limit, max(MIN_CPU_BATCH, CPU_PIXELS // math.prod(shape[-2:])))


def gather(decoded: Decoded | Resident, indices: Tensor, epoch: int, device: torch.device) -> Batch:
    """Make a batch on `device` of the images at `indices` int64 [N], from a split on the device, in the cache or in
    shards. Copies to a GPU are asynchronous, from pinned memory."""
    if isinstance(decoded, Resident):
        here = indices.to(device)
        labels = None if decoded.labels is None else decoded.labels.index_select(0, here)
        return Batch(selected(decoded.images, here), labels, here, epoch)
    if decoded.stream is not None:
        return decoded.stream.gather(indices, epoch, device)
    stored, targets = torch.from_numpy(decoded.images), decoded.targets
    images = torch.empty((len(indices), *stored.shape[1:]), dtype=stored.dtype, pin_memory=device.type == "cuda")
    selected(stored, indices, out=images)
    labels = None if targets is None else torch.from_numpy(targets).index_select(0, indices)
    return to_device(images, labels, indices, epoch, device)


def selected(images: Tensor, indices: Tensor, out: Tensor | None = None) -> Tensor:
    """The images at `indices`, of any type; written to `out` if given."""
    if images.dtype != torch.uint16:
        return torch.index_select(images, 0, indices, out=out)
    signed = None if out is None else out.view(torch.int16)  # not every device can select values of type uint16
    return torch.index_select(images.view(torch.int16), 0, indices, out=signed).view(torch.uint16)


def to_device(images: Tensor, labels: Tensor | None, indices: Tensor, epoch: int, device: torch.device) -> Batch:
    """Copy a batch to its device; for a GPU `images` must be in pinned memory."""
    pinned = device.type == "cuda"
    if pinned:
        indices, labels = indices.pin_memory(), None if labels is None else labels.pin_memory()
    return Batch(
        images=images.to(device, non_blocking=pinned),
        labels=None if labels is None else labels.to(device, non_blocking=pinned),
        samples=indices.to(device, non_blocking=pinned),
        epoch=epoch,
    )


def should_be_resident(mode: ResidentMode, nbytes: int, free: int | None) -> bool:
    """Whether to copy a split of `nbytes` bytes to a device with `free` free bytes, by the setting `data.resident`
    (`mode`).

    free: None for the CPU, where the cache is memory-mapped. Raises SightlineError if `mode` is "always" and the split
    does not fit.
    """
    if mode == "always" and free is not None and nbytes > free:
        why = f"they need {size_text(nbytes)}, but only {size_text(free)} of device memory are free"
        what = "the training images do not fit on the device"
        cure = (
            "read the images from the cache if they do not fit: --data.resident auto; or use smaller images: "
            "--data.size NUMBER"
        )
        raise SightlineError(what, where="data.resident", why=why, cure=cure, status=ENVIRONMENT)
    return mode == "always" or (mode == "auto" and free is not None and nbytes <= MEMORY_SHARE * free)


def resident(decoded: Decoded, mode: ResidentMode, device: torch.device) -> Resident | None:
    """Copy a split to the device; None if, by `mode` or for lack of memory, batches are read from the cache instead."""
    arrays = [decoded.images] if decoded.targets is None else [decoded.images, decoded.targets]
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    if not should_be_resident(mode, sum(array.nbytes for array in arrays), free):
        return None
    images, *labels = (torch.from_numpy(array).to(device, copy=True) for array in arrays)
    return Resident(images, labels[0] if labels else None)


def prefetch(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the same batches, while a second thread prepares the next batch, on a separate CUDA stream."""
    side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def fetch() -> Batch | None:
        with torch.cuda.stream(side) if side else contextlib.nullcontext():
            return next(batches, None)

    with ThreadPoolExecutor(1) as worker:
        upcoming = worker.submit(fetch)
        while (batch := upcoming.result()) is not None:
            if side:
                wait_for(batch, side, torch.cuda.current_stream(device))
            upcoming = worker.submit(fetch)
            yield batch


def wait_for(batch: Batch, side: torch.cuda.Stream, stream: torch.cuda.Stream) -> None:
    """Make `stream` wait for a batch's copies on the stream `side`; keep its memory until `stream` used it."""
    stream.wait_stream(side)
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and value.is_cuda:
            value.record_stream(stream)
