"""Training images on the device: all of them where they fit, else copied while the step before computes.

Which batches there are and what they hold is the same either way; only where the images lie before is not.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Literal

import torch

from ..errors import ENVIRONMENT, SightlineError
from .cache import Decoded
from .decode.decoding import size_text
from .loader import Batch, Resident
from .pair_cache import DecodedPairs

Wanted = Literal["auto", "always", "never"]
MOST = 1 / 3
"""Share of the device's free memory that the images may take by themselves; the steps need the rest."""


def fits(wanted: Wanted, nbytes: int, free: int | None) -> bool:
    """Whether a split of `nbytes` is to lie on a device with `free` bytes; None: the processor, whose memory the images
    are in anyway. SightlineError where it is asked for and cannot."""
    if wanted == "always" and free is not None and nbytes > free:
        why = f"they take {size_text(nbytes)}, and {size_text(free)} are free there"
        what = "the training images do not fit on the device"
        cure = "--data.resident auto, or a smaller --data.size"
        raise SightlineError(what, where="data.resident", why=why, cure=cure, status=ENVIRONMENT)
    return wanted == "always" or (wanted == "auto" and free is not None and nbytes <= MOST * free)


def resident(decoded: Decoded | DecodedPairs, wanted: Wanted, device: torch.device) -> Resident | None:
    """The split on the device, copied once; None where it stays in the cache."""
    arrays = [decoded.images] if decoded.labels is None else [decoded.images, decoded.labels]
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    if not fits(wanted, sum(array.nbytes for array in arrays), free):
        return None
    images, *labels = (torch.from_numpy(array).to(device, copy=True) for array in arrays)
    return Resident(images, labels[0] if labels else None)


def one_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches; the next one is gathered and copied by another thread, on a stream of its own, meanwhile."""
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
    """Let `stream` use the batch once it is copied, and keep its memory until it has been used."""
    stream.wait_stream(side)
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor) and value.is_cuda:
            value.record_stream(stream)
