"""Running out of memory, in words that lead to a cure."""

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Callable, Generator

import torch

from ..config.schema import Config
from ..data.types import Batch
from ..errors import ENVIRONMENT, SightlineError, counted
from ..runs import run_folder
from ..runs.atomic import write_json
from .state import Training

MALLOC_SETTINGS = {-3: 2**30, -1: 2**31 - 1, -2: 2**28}
"""Of glibc's mallopt: blocks of up to 1 GiB come from the heap, which is trimmed above 2 GiB and grows by 256 MiB."""

ALLOCATOR_VARIABLES = (
    *("GLIBC_TUNABLES", "LD_PRELOAD"),
    *("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"),
)
"""By which a user chooses an allocator or sets glibc's."""

LEAST_PART = 2  # images: batch normalization cannot train on one

# What torch's processor allocator and the accelerators' libraries say; they have no exception type of their own.
PHRASES = ("not enough memory", "can't allocate memory", "out of memory", "cannot allocate memory")


@contextlib.contextmanager
def explained_memory(config: Config, recipe: str = "", cure: str = "") -> Generator[None]:
    """Turn an allocation that failed into a SightlineError of status ENVIRONMENT that names the settings to lower.

    recipe: the file in which to lower them, for commands that take no settings. cure: in place of all that.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        size, why = config.train.batch_size, (str(error).splitlines() or ["an allocation failed"])[0]
        if cure:
            raise SightlineError("the memory is too small for this", why=why, cure=cure, status=ENVIRONMENT) from error
        cure = f"smaller batches with the same mean gradient: --train.batch_size {max(1, size // 2)} "
        cure += f"--optim.accumulate {2 * config.optim.accumulate}; or a smaller --data.size or --model.name; "
        if config.train.on_out_of_memory == "stop":
            cure += "or let it take smaller parts by itself: --train.on_out_of_memory halve; "
        cure += f"while evaluating: --train.eval_batch_size {max(1, config.train.eval_batch_size // 2)}"
        if recipe:
            cure = f"lower train.eval_batch_size, now {config.train.eval_batch_size}, in {recipe}"
        raise SightlineError("the memory is too small for this", why=why, cure=cure, status=ENVIRONMENT) from error


def keep_freed_memory() -> bool:
    """Let this process keep the memory of one step for the next; whether it will.

    glibc gives large blocks back to the system when they are freed and gets them anew, page by page and each page
    cleared, in every step: thousands of page faults. Left alone where the user has set an allocator or its settings,
    and where there is no glibc. Figures: docs/performance.md.
    """
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in ALLOCATOR_VARIABLES):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  a C library without it has a mallopt that does nothing, or none
        return all([library.mallopt(name, value) == 1 for name, value in MALLOC_SETTINGS.items()])
    except (OSError, AttributeError):
        return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(phrase in str(error).lower() for phrase in PHRASES)


def in_parts(
    add_gradients: Callable[[Training, list[Batch]], torch.Tensor],
) -> Callable[[Training, list[Batch]], torch.Tensor]:
    """`add_gradients` that takes smaller parts of its batches once they do not fit, where `train.on_out_of_memory`
    allows it. The parts weigh as much as they have images, as batches do under `optim.accumulate`."""

    @functools.wraps(add_gradients)
    def fitting(training: Training, group: list[Batch]) -> torch.Tensor:
        while True:
            size = part_size(training)
            try:
                return add_gradients(training, [part for batch in group for part in split(batch, size)])
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                allowed = training.config.train.on_out_of_memory == "halve" and size > LEAST_PART
                if not allowed or not is_out_of_memory(error):
                    raise
            halve(training)  # not within `except`: the error holds on to the tensors of the step

    return fitting


def part_size(training: Training) -> int:
    """Images whose gradient is taken at a time."""
    return max(LEAST_PART, -(-training.config.train.batch_size // training.progress.parts))


def split(batch: Batch, size: int) -> list[Batch]:
    """A batch in parts of about `size` images, none of them a single one beside others."""
    count = len(batch.samples)
    pieces = min(-(-count // size), max(1, count // LEAST_PART))
    if pieces == 1:
        return [batch]
    labels = [None] * pieces if batch.labels is None else batch.labels.tensor_split(pieces)
    columns = zip(batch.images.tensor_split(pieces), labels, batch.samples.tensor_split(pieces), strict=True)
    return [Batch(*column, batch.epoch) for column in columns]


def halve(training: Training) -> None:
    """Take parts of half the size from this step on; said to the user, in metrics.jsonl and in provenance.json."""
    training.optimizer.zero_grad(set_to_none=True)
    if training.parts.device.type == "cuda":
        torch.cuda.empty_cache()
    progress = training.progress
    progress.parts *= 2
    step, size = progress.step + 1, part_size(training)
    note = (
        f"out of memory at step {step:,}: from there on {counted(size, 'image')} of a batch at a time, with the mean "
    )
    note += "gradient of the whole batch; batch normalization and mixing see the images of a part"
    training.log.warn(note)
    training.log.event("out_of_memory", step=progress.step, epoch=progress.step / training.epoch_steps, part=size)
    record = run_folder.provenance(training.folder)
    notes = [*record.get("notes", []), note]
    write_json(training.folder / "provenance.json", record | {"notes": notes})
