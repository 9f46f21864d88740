"""Out-of-memory errors: messages with a cure, smaller parts of a batch, settings of glibc's allocator."""

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
from .distributed import world
from .state import Training

MALLOC_SETTINGS = {-3: 2**30, -1: 2**31 - 1, -2: 2**28}
"""Options of glibc's `mallopt` and their values: M_MMAP_THRESHOLD 1 GiB, M_TRIM_THRESHOLD 2 GiB, M_TOP_PAD 256 MiB."""

ALLOCATOR_VARIABLES = (
    *("GLIBC_TUNABLES", "LD_PRELOAD"),
    *("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"),
)
"""Environment variables that select another memory allocator or configure glibc's. If one is set, it is respected."""

MIN_IMAGES = 2  # batch normalization cannot train on one image

# Messages of RuntimeErrors of torch's CPU allocator and of accelerator libraries, which have no exception type.
PHRASES = ("not enough memory", "can't allocate memory", "out of memory", "cannot allocate memory")


@contextlib.contextmanager
def explain_out_of_memory(config: Config, recipe: str = "", cure: str = "", resumed: bool = False) -> Generator[None]:
    """Context manager: convert out-of-memory errors within the block to SightlineError with status ENVIRONMENT.

    By default the error's cure suggests options of training, see `memory_options`. recipe: for commands without these
    options, the path of the recipe in which to reduce `train.eval_batch_size`. cure: a text that replaces both.
    resumed: whether a run is resumed in the block.
    """
    several = world().size > 1
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        why = (str(error).splitlines() or ["an allocation failed"])[0]
        if not cure and recipe:
            cure = f"set `eval_batch_size` in {recipe} to less than the present {config.train.eval_batch_size}"
        cure = cure or memory_options(config, resumed, several)
        raise SightlineError("out of memory", why=why, cure=cure, status=ENVIRONMENT) from error


def memory_options(config: Config, resumed: bool, several: bool) -> str:
    """Options with which training needs less memory. resumed: leave out those that a resumed run cannot change.
    several: whether the run has several processes, in which batches cannot be halved."""
    train, options = config.train, []
    if not resumed:
        half = f"--train.batch_size {max(1, train.batch_size // 2)} --optim.accumulate {2 * config.optim.accumulate}"
        options.append(f"use smaller batches, with the same mean gradient: {half}")
        options.append("or use smaller images (--data.size NUMBER) or a smaller model (--model.name NAME)")
    if several:
        options.append("or use more processes, which share each batch: torchrun --nproc-per-node NUMBER")
    elif train.on_out_of_memory == "stop":
        options.append("or split batches that do not fit: --train.on_out_of_memory halve")
    options.append(f"if this happened during evaluation: --train.eval_batch_size {max(1, train.eval_batch_size // 2)}")
    return "; ".join(options).removeprefix("or ")


def keep_freed_memory() -> bool:
    """Configure glibc's allocator to reuse freed memory for the next step; return whether it was configured.

    By default glibc returns large freed blocks to the operating system, and allocating them again in the next step
    causes thousands of page faults. Does nothing without glibc, or if an environment variable of ALLOCATOR_VARIABLES is
    set. Measurements: docs/performance.md.
    """
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in ALLOCATOR_VARIABLES):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  AttributeError for other C libraries
        return all([library.mallopt(name, value) == 1 for name, value in MALLOC_SETTINGS.items()])
    except (OSError, AttributeError):
        return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory is exhausted, by its type or message."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(phrase in str(error).lower() for phrase in PHRASES)


def split_if_out_of_memory(
    add_gradients: Callable[[Training, list[Batch]], torch.Tensor],
) -> Callable[[Training, list[Batch]], torch.Tensor]:
    """Decorator of `add_gradients`: if a batch does not fit into memory, split this batch and all later ones into
    smaller parts.

    The gradients of the parts are weighted by their numbers of images, as for `optim.accumulate`. This requires the
    setting `train.on_out_of_memory: halve`; otherwise the error is raised.
    """

    @functools.wraps(add_gradients)
    def add_gradients_of_parts(training: Training, group: list[Batch]) -> torch.Tensor:
        while True:
            size = part_size(training)
            try:
                return add_gradients(training, [part for batch in group for part in split(batch, size)])
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                allowed = training.config.train.on_out_of_memory == "halve" and size > MIN_IMAGES
                if not allowed or not is_out_of_memory(error):
                    raise
            halve(training)  # outside `except`: the exception references the tensors of the step

    return add_gradients_of_parts


def part_size(training: Training) -> int:
    """Largest number of images in a part, if batches are split to fit into memory."""
    return max(MIN_IMAGES, -(-training.config.train.batch_size // training.progress.parts))


def split(batch: Batch, size: int) -> list[Batch]:
    """Split a batch into equal parts of at most `size` images, but of at least MIN_IMAGES each."""
    count = len(batch.samples)
    pieces = min(-(-count // size), max(1, count // MIN_IMAGES))
    if pieces == 1:
        return [batch]
    optional = [[None] * pieces if part is None else part.tensor_split(pieces) for part in (batch.labels, batch.draws)]
    columns = zip(batch.images.tensor_split(pieces), batch.samples.tensor_split(pieces), *optional, strict=True)
    return [Batch(images, labels, samples, batch.epoch, draws=draws) for images, samples, labels, draws in columns]


def halve(training: Training) -> None:
    """Halve the images per part from this step on; record it in the log, metrics.jsonl and provenance.json."""
    training.optimizer.zero_grad(set_to_none=True)
    if training.parts.device.type == "cuda":
        torch.cuda.empty_cache()
    progress = training.progress
    progress.parts *= 2
    step, size = progress.step + 1, part_size(training)
    note = (
        f"out of memory at step {step:,}: from this step on, batches are split into parts of {counted(size, 'image')}; "
        "the gradient is the mean over the batch, but batch normalization and mixing use only the images of a part"
    )
    training.log.warn(note)
    training.log.event("out_of_memory", step=progress.step, epoch=progress.step / training.epoch_steps, part=size)
    record = run_folder.provenance(training.folder)
    notes = [*record.get("notes", []), note]
    write_json(training.folder / "provenance.json", record | {"notes": notes})
