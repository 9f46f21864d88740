"""The end of a run: best weights, final numbers with their interval, predictions, mistakes, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .build import training_flops
from .data.cache import Decoded
from .data.loader import training_batches
from .errors import SightlineError
from .evaluate import evaluate_checkpoints, write_predictions
from .files import atomic_write
from .runs import Run, shipped_checkpoints
from .saving import save_arrays, thumbnails
from .tasks import Arrays
from .tasks.classify import Classify, classification_intervals

if TYPE_CHECKING:
    from .train import Training

MISTAKES, PREVIEWED = 200, 48


def finish(training: "Training") -> Run:
    """Evaluate the weights that the run ships, write predictions, thumbnails and the report."""
    from .report.page import write_report

    progress, parts, log, folder = training.progress, training.parts, training.log, training.folder
    if progress.best is None:
        why = "the validation loss was not finite after any epoch"
        cure = "begin again with a lower rate: sightline train ... --optim.lr, or --train.precision fp32"
        raise SightlineError("the run has no best epoch", where=str(folder), why=why, cure=cure)
    numbers, arrays = final_numbers(training)
    intervals = classification_intervals(arrays, training.config.train.seed)
    write_predictions(folder / "predictions" / "val.csv", parts.val, arrays["probabilities"])
    save_mistakes(folder, parts.val, arrays)
    log.event(
        "done",
        step=progress.step,
        epoch=training.epoch,
        best_epoch=progress.best_epoch,
        train_flops=training_flops(training.config, parts.flops, len(parts.train.names), training.epoch),
        **numbers,
        **intervals,
    )
    low, high = intervals["accuracy_interval"]
    images = f"{len(parts.val.names):,} images"
    what = f"mean of {len(progress.ensemble)} epochs" if progress.ensemble else f"epoch {progress.best_epoch}"
    log.say(f"validation accuracy {numbers['accuracy']:.4f} [{low:.4f}, {high:.4f}] ({what}, {images})")
    report = write_report(folder)
    log.say(f"report: {report}")
    return Run(folder)


def final_numbers(training: "Training") -> tuple[dict[str, Any], Arrays]:
    """Validation numbers of the best epoch or, with `train.ensemble`, of the mean probabilities of the k best."""
    parts, size = training.parts, training.config.train.eval_batch_size
    folders = shipped_checkpoints(training.folder)
    return evaluate_checkpoints(parts.task, folders, parts.val, size, parts.device, parts.dtype)


def save_mistakes(folder: Path, val: Decoded, arrays: Arrays) -> None:
    """snapshots/mistakes.npz: pictures of the wrong predictions, the most confident first."""
    probabilities, labels = arrays["probabilities"], arrays["labels"]
    confidence = probabilities.max(1)
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    save_arrays(folder / "snapshots" / "mistakes.npz", {"images": thumbnails(val.images, worst), "index": worst})


def save_preview(training: "Training") -> None:
    """figures/preview.png: the first batch of the first epoch as the model sees it."""
    from .insight.preview import draw_preview
    from .insight.style import png

    config, parts = training.config, training.parts
    assert isinstance(parts.task, Classify)
    size = min(PREVIEWED, config.train.batch_size)
    images, targets = parts.task.prepare(
        next(training_batches(parts.train, size, config.train.seed, 0, 0, parts.device))
    )
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    pixels = images.float().cpu().numpy()
    figure = draw_preview(pixels, *parts.normalization, labels.cpu().numpy(), parts.train.classes)
    path = atomic_write(training.folder / "figures" / "preview.png", png(figure))
    training.log.say(f"what the model sees: {path}")
