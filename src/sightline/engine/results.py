"""The end of a run: best weights, final numbers with their interval, predictions, mistakes, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.cache import Decoded
from ..data.loader import training_batches
from ..errors import SightlineError, counted
from ..runs.atomic import atomic_write
from ..runs.run_folder import Run, shipped_checkpoints
from ..tasks.classify.task import Classify, classification_intervals
from ..tasks.contract import Arrays
from ..tasks.pretrain.task import Byol, pretraining_intervals
from .evaluate import evaluate_checkpoints, write_predictions
from .parts import training_flops
from .training_state import save_arrays, thumbnails

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from ..train import Training

MISTAKES, PREVIEWED = 200, 48


def finish(training: "Training") -> Run:
    """Evaluate the weights that the run ships, write predictions, what the report shows, and the report."""
    from ..report.page import write_report

    progress, parts, log, folder = training.progress, training.parts, training.log, training.folder
    if progress.best is None:
        why = "the validation loss was not finite after any epoch"
        cure = "begin again with a lower rate: sightline train ... --optim.lr, or --train.precision fp32"
        raise SightlineError("the run has no best epoch", where=str(folder), why=why, cure=cure)
    if training.config.task == "segment":
        from ..tasks.segment.conclude import conclude_segment as conclude
    else:
        conclude = {"classify": conclude_classify, "byol": conclude_pretraining}[training.config.task]
    numbers, sentence = conclude(training)
    images = len(parts.train.names)
    epochs = progress.step / training.epoch_steps
    flops = training_flops(training.config, parts.flops, images, epochs) + parts.once * images
    best = progress.best_epoch
    chosen = {} if training.config.train.best_metric == "epoch" else {"best_epoch": best}
    log.event("done", step=progress.step, epoch=training.epoch, **chosen, train_flops=flops, **numbers)
    what = f"mean of {counted(len(progress.ensemble), 'epoch')}" if progress.ensemble else f"epoch {best}"
    log.say(f"{sentence} ({what}, {len(parts.val.names):,} images)")
    log.say(f"report: {write_report(folder)}")
    return Run(folder)


def conclude_classify(training: "Training") -> tuple[dict[str, Any], str]:
    """(the final numbers with their intervals, the headline); predictions/val.csv and the mistakes are written."""
    parts, folder = training.parts, training.folder
    assert isinstance(parts.val, Decoded)
    numbers, arrays = final_numbers(training)
    intervals = classification_intervals(arrays, training.config.train.seed)
    write_predictions(folder / "predictions" / "val.csv", parts.val, arrays["probabilities"])
    save_mistakes(folder, parts.val, arrays)
    low, high = intervals["accuracy_interval"]
    return numbers | intervals, f"validation accuracy {numbers['accuracy']:.4f} [{low:.4f}, {high:.4f}]"


def conclude_pretraining(training: "Training") -> tuple[dict[str, Any], str]:
    """(the final numbers with their intervals, the headline)."""
    numbers, arrays = final_numbers(training)
    numbers |= pretraining_intervals(arrays, training.config.train.seed)
    spread = f"spread {numbers['feature_std']:.3f} of 1, effective rank {numbers['effective_rank']:.1f}"
    if "knn_accuracy" not in numbers:
        return numbers, f"pre-trained without labels: {spread}"
    low, high = numbers["knn_accuracy_interval"]
    return numbers, f"k-NN accuracy {numbers['knn_accuracy']:.4f} [{low:.4f}, {high:.4f}]; {spread}"


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
    from ..insight.preview import draw_preview
    from ..insight.style import png

    config, parts = training.config, training.parts
    size = min(PREVIEWED, config.train.batch_size)
    batch = next(training_batches(parts.train, size, config.train.seed, 0, 0, parts.device))
    if isinstance(parts.task, Classify):
        images, targets = parts.task.prepare(batch)
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        pixels = images.float().cpu().numpy()
        figure = draw_preview(pixels, *parts.normalization, labels.cpu().numpy(), parts.train.classes)
    elif isinstance(parts.task, Byol):
        figure = draw_views(parts.task.prepare(batch), parts.normalization)
    else:
        from ..tasks.segment.conclude import masked_preview

        figure = masked_preview(training, batch)
    path = atomic_write(training.folder / "figures" / "preview.png", png(figure))
    training.log.say(f"what the model sees: {path}")


def draw_views(
    prepared: "tuple[list[Tensor], list[Tensor]]", normalization: tuple[tuple[float, ...], tuple[float, ...]]
) -> "Figure":
    """A sheet of views: each image's two side by side."""
    from ..insight.figures import draw_sheet
    from ..insight.preview import denormalized

    first, second = (denormalized(view.float().cpu().numpy(), *normalization) for view in prepared[0])
    pictures = [picture for pair in zip(first, second, strict=True) for picture in pair]
    return draw_sheet(pictures, ["view 1", "view 2"] * len(first), 8)
