"""Training images on the device: the whole split where it fits, else batches that are prefetched.

The batches and their content are the same either way.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Literal

import torch

from ..errors import ENVIRONMENT, SightlineError
from .decode.decoding import size_text
from .types import Batch, Decoded, Resident

Wanted = Literal["auto", "always", "never"]
MOST = 1 / 3
"""Share of the device's free memory that the images may take in mode `auto`; the steps need the rest."""


def fits(wanted: Wanted, nbytes: int, free: int | None) -> bool:
    """Whether to copy a split of `nbytes` to a device with `free` bytes; None: the CPU, where they are mapped.
    SightlineError where a copy is required and does not fit."""
    if wanted == "always" and free is not None and nbytes > free:
        why = f"they take {size_text(nbytes)}, and {size_text(free)} are free there"
        what = "the training images do not fit on the device"
        cure = "--data.resident auto, or a smaller --data.size"
        raise SightlineError(what, where="data.resident", why=why, cure=cure, status=ENVIRONMENT)
    return wanted == "always" or (wanted == "auto" and free is not None and nbytes <= MOST * free)


def resident(decoded: Decoded, wanted: Wanted, device: torch.device) -> Resident | None:
    """A copy of the split on the device; None where it stays in the cache."""
    arrays = [decoded.images] if decoded.targets is None else [decoded.images, decoded.targets]
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    if not fits(wanted, sum(array.nbytes for array in arrays), free):
        return None
    images, *labels = (torch.from_numpy(array).to(device, copy=True) for array in arrays)
    return Resident(images, labels[0] if labels else None)


def prefetch(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches; another thread gathers and copies the next one meanwhile, on a CUDA stream of its own."""
    side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def fetch() -> Batch | None:
        with torch.cuda.stream(side) if side else contextlib.nullcontext():
            return next(batches, None)

    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(fetch)
        while (batch := coming.result()) is not None:
            if side:
                wait_for(batch, side, torch.cuda.current_stream(device))
            coming = worker.submit(fetch)
            yield batch


def wait_for(batch: Batch, side: torch.cuda.Stream, stream: torch.cuda.Stream) -> None:
    """Make `stream` wait until the batch is copied, and keep the batch's memory until `stream` has used it."""
    stream.wait_stream(side)
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor) and value.is_cuda:
            value.record_stream(stream)
