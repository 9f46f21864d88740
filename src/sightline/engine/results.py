"""The end of a run: the task's results, logged."""

from ..data.loader import training_batches
from ..errors import SightlineError, counted
from ..insight.style import png
from ..runs.atomic import atomic_write
from .parts import training_flops
from .state import Training

PREVIEWED = 48
"""Images of a preview, at most."""


def log_results(training: Training) -> None:
    """Evaluate the shipped weights, write predictions and what the report shows, and log the final numbers."""
    progress, parts, log, folder = training.progress, training.parts, training.log, training.folder
    if progress.best is None:
        why = "the validation loss was not finite after any epoch"
        cure = "begin again with a lower rate: sightline train ... --optim.lr, or --train.precision fp32"
        raise SightlineError("the run has no best epoch", where=str(folder), why=why, cure=cure)
    numbers, sentence = training.functions.results(training)
    images = len(parts.train.names)
    epochs = progress.step / training.epoch_steps
    flops = training_flops(training.config, parts.flops, images, epochs) + parts.once * images
    best = progress.best_epoch
    chosen = {} if training.config.train.best_metric == "epoch" else {"best_epoch": best}
    log.event("done", step=progress.step, epoch=training.epoch, **chosen, train_flops=flops, **numbers)
    what = f"mean of {counted(len(progress.ensemble), 'epoch')}" if progress.ensemble else f"epoch {best}"
    log.say(f"{sentence} ({what}, {len(parts.val.names):,} images)")


def save_preview(training: Training) -> None:
    """figures/preview.png: the first batch of the first epoch as the model sees it."""
    config, parts = training.config, training.parts
    size = min(PREVIEWED, config.train.batch_size)
    batch = next(training_batches(parts.train, size, config.train.seed, 0, 0, parts.device))
    path = atomic_write(training.folder / "figures" / "preview.png", png(training.functions.preview(training, batch)))
    training.log.say(f"what the model sees: {path}")
