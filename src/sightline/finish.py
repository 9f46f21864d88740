"""The end of a run: best weights, final numbers with their interval, predictions, mistakes, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .data.cache import Decoded
from .evaluate import evaluate_checkpoints, write_predictions
from .runs import Run, shipped_checkpoints
from .saving import save_arrays
from .statistics import bootstrap_interval
from .tasks import Arrays

if TYPE_CHECKING:
    from .train import Training

MISTAKES, THUMBNAIL = 200, 64


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
    save_thumbnails(folder, parts.val, parts.rows, arrays)
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


def save_thumbnails(folder: Path, val: Decoded, rows: np.ndarray, arrays: Arrays) -> None:
    """snapshots/samples.npz and mistakes.npz: the pictures that the report shows, so that it needs no data."""
    probabilities, labels = arrays["probabilities"], arrays["labels"]
    confidence = probabilities.max(1)
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    names = np.array([val.names[row] for row in rows], dtype=str)
    sample = {"images": thumbnails(val.images, rows), "labels": labels[rows], "names": names, "index": rows}
    save_arrays(folder / "snapshots" / "samples.npz", sample)
    save_arrays(folder / "snapshots" / "mistakes.npz", {"images": thumbnails(val.images, worst), "index": worst})


def thumbnails(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """uint8 [len(rows), 3, h, w] with the longest side at most THUMBNAIL pixels, from images uint8 [N, 3, H, W]."""
    chosen = torch.from_numpy(np.ascontiguousarray(images[rows]))
    height, width = chosen.shape[2:]
    scale = THUMBNAIL / max(height, width)
    if scale >= 1 or not len(rows):
        return chosen.numpy()
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = nn.functional.interpolate(chosen.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8).numpy()
