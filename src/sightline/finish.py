"""The end of a run: best weights, final numbers with their interval, predictions, mistakes, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .data.augment import training_augmentation
from .data.cache import Decoded
from .data.loader import training_batches
from .evaluate import evaluate_checkpoints, write_predictions
from .files import atomic_write
from .runs import Run, shipped_checkpoints
from .saving import save_arrays, thumbnails
from .statistics import bootstrap_interval
from .tasks import Arrays

if TYPE_CHECKING:
    from .train import Training

MISTAKES, PREVIEWED = 200, 48


def finish(training: "Training") -> Run:
    """Evaluate the weights that the run ships, write predictions, thumbnails and the report."""
    from .report.page import write_report

    progress, parts, log, folder = training.progress, training.parts, training.log, training.folder
    if progress.best is None:
        return Run(folder)
    numbers, arrays = final_numbers(training)
    correct = arrays["probabilities"].argmax(1) == arrays["labels"]
    low, high = bootstrap_interval(correct, seed=training.config.train.seed)
    write_predictions(folder / "predictions" / "val.csv", parts.val, arrays["probabilities"])
    save_mistakes(folder, parts.val, arrays)
    log.event(
        "done",
        step=progress.step,
        epoch=training.epoch,
        best_epoch=progress.best_epoch,
        accuracy_interval=[low, high],
        **numbers,
    )
    what = f"mean of {len(progress.ensemble)} epochs" if progress.ensemble else f"epoch {progress.best_epoch}"
    log.say(f"validation accuracy {numbers['accuracy']:.4f} [{low:.4f}, {high:.4f}] ({what}, {len(correct):,} images)")
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
    batch = next(training_batches(parts.train, min(PREVIEWED, config.train.batch_size), config.train.seed, 0))
    augment = training_augmentation(config.augment, config.data.size, *parts.normalization)
    images = augment(batch.images, batch.samples, config.train.seed, 0)
    labels = None if batch.labels is None else batch.labels.numpy()
    figure = draw_preview(images.numpy(), *parts.normalization, labels, parts.train.classes)
    path = atomic_write(training.folder / "figures" / "preview.png", png(figure))
    training.log.say(f"what the model sees: {path}")
