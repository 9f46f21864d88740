"""Evaluation of a learner over a split: the same function for the training loop and for the commands."""

from collections.abc import Callable, Iterable

import torch

from ..data.cache import Decoded
from ..data.loader import Batch, evaluation_batches
from ..data.pair_cache import DecodedPairs
from .device import autocast
from .distributed import align_buffers, told, world
from .learner import Arrays, Learner


@torch.inference_mode()
def evaluate(
    learner: Learner,
    decoded: Decoded | DecodedPairs,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    metrics: Callable[[Iterable[Batch]], tuple[dict[str, float], Arrays]] | None = None,
) -> tuple[dict[str, float], Arrays]:
    """The learner's metrics and arrays over a whole split, in evaluation mode; training mode is restored.

    metrics: in place of the learner's own. Metrics are over the data set, not averaged over batches. The same batch size,
    precision and thread count give the same numbers to the bit, also of several processes, which share the batches:
    all of them return the numbers, the first one the arrays.
    """
    module = learner.parameters()
    training = module.training
    module.eval()
    try:
        with autocast(device, dtype):
            align_buffers(module)
            numbers, arrays = (metrics or learner.metrics)(
                evaluation_batches(decoded, batch_size, device, world().share)
            )
            return told(numbers), arrays
    finally:
        module.train(training)
