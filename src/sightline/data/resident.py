"""Training images on the device: the whole split if it fits, else prefetched batches. Both give the same batches."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Literal

import torch

from ..errors import ENVIRONMENT, SightlineError
from .decode.decoding import size_text
from .types import Batch, Decoded, Resident

ResidentMode = Literal["auto", "always", "never"]
MEMORY_SHARE = 1 / 3
"""Share of the free device memory that the images may take in mode `auto`; training steps need the rest."""


def fits(mode: ResidentMode, nbytes: int, free: int | None) -> bool:
    """Whether to copy a split of `nbytes` to a device with `free` bytes. free: None for the CPU, where the cache is
    memory-mapped. SightlineError if `mode` is "always" and the split does not fit."""
    if mode == "always" and free is not None and nbytes > free:
        why = f"they take {size_text(nbytes)}, and {size_text(free)} are free there"
        what = "the training images do not fit on the device"
        cure = "--data.resident auto, or a smaller --data.size"
        raise SightlineError(what, where="data.resident", why=why, cure=cure, status=ENVIRONMENT)
    return mode == "always" or (mode == "auto" and free is not None and nbytes <= MEMORY_SHARE * free)


def resident(decoded: Decoded, mode: ResidentMode, device: torch.device) -> Resident | None:
    """Copy the split to the device; None if its batches are read from the cache instead."""
    arrays = [decoded.images] if decoded.targets is None else [decoded.images, decoded.targets]
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    if not fits(mode, sum(array.nbytes for array in arrays), free):
        return None
    images, *labels = (torch.from_numpy(array).to(device, copy=True) for array in arrays)
    return Resident(images, labels[0] if labels else None)


def prefetch(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the same batches; a second thread prepares the next one meanwhile, on a separate CUDA stream."""
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
    """Synchronize `stream` with the copies on `side`, and keep the batch's memory allocated until `stream` used it."""
    stream.wait_stream(side)
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor) and value.is_cuda:
            value.record_stream(stream)
