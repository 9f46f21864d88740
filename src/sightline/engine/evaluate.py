"""Evaluation of a split, during training and by the commands, and the final results of a run."""

from collections.abc import Callable, Iterable

import torch

from ..data.loader import evaluation_batches
from ..data.types import Batch, Decoded
from ..errors import SightlineError, counted
from .device import autocast
from .distributed import align_buffers, broadcast_json, world
from .parts import Arrays, Learner, training_flops
from .state import Training


@torch.inference_mode()
def evaluate(
    learner: Learner,
    decoded: Decoded,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    metrics: Callable[[Iterable[Batch]], tuple[dict[str, float], Arrays]] | None = None,
) -> tuple[dict[str, float], Arrays]:
    """The learner's metrics and arrays of a whole split, in evaluation mode; the training mode is restored.

    metrics: replaces the learner's own. Numbers are of the whole data set, not averaged over batches, and bit-identical
    for equal batch size, precision and thread count, also with several processes, which share the batches: all
    processes return the numbers, rank 0 the arrays.
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
            return broadcast_json(numbers), arrays
    finally:
        module.train(training)


def log_results(training: Training) -> None:
    """Compute the task's final results, log them, and print their sentence."""
    progress, parts, log, folder = training.progress, training.parts, training.log, training.folder
    if progress.best is None:
        why = "the validation loss was not finite after any epoch"
        cure = "start again with a lower learning rate: sightline train ... --optim.lr, or --train.precision fp32"
        raise SightlineError("the run has no best epoch", where=str(folder), why=why, cure=cure)
    numbers, sentence = training.functions.results(training)
    images = len(parts.train.names)
    epochs = progress.step / training.epoch_steps
    flops = training_flops(training.config, parts.flops, images, epochs) + parts.once_flops * images
    best = progress.best_epoch
    chosen = {} if training.config.train.best_metric == "epoch" else {"best_epoch": best}
    log.event("done", step=progress.step, epoch=training.epoch, **chosen, train_flops=flops, **numbers)
    what = f"mean of {counted(len(progress.ensemble), 'epoch')}" if progress.ensemble else f"epoch {best}"
    log.say(f"{sentence} ({what}, {len(parts.val.names):,} images)")
