"""The end of a segmentation run: final numbers with their intervals, predicted masks, numbers of each image."""

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from .checkpoint import load_model
from .data.loader import Batch
from .data.masks import read_mask, write_mask
from .data.pair_cache import DecodedPairs
from .data.palettes import IGNORE, Palette, display_colors, from_dict
from .evaluate import evaluate
from .files import atomic_write
from .insight.figures import draw_sheet
from .insight.preview import denormalized
from .insight.strips import overlay
from .runs import shipped_checkpoints
from .saving import save_arrays, shrunk
from .segment_metrics import interval, per_image_iou
from .tasks.segment import Segment

if TYPE_CHECKING:
    from .train import Training

PREVIEWED = 16
WORST = 12
"""Validation images with the smallest share of right pixels that are kept for the report."""


def conclude_segment(training: "Training") -> tuple[dict[str, Any], str]:
    """(the final numbers with their intervals, the headline).

    Written: predictions/val/*.png, predictions/val.csv with the numbers of each image, predictions/val-confusion.npz,
    and the worst images for the report.
    """
    parts, config, folder = training.parts, training.config, training.folder
    val = parts.val
    assert isinstance(val, DecodedPairs)
    palette = from_dict(parts.description["palette"])
    (best,) = shipped_checkpoints(folder)
    parts.task.parameters().load_state_dict(load_model(best)[0])
    masks = folder / "predictions" / "val"
    assert isinstance(parts.task, Segment)
    measure = partial(parts.task.metrics, each=mask_writer(masks, val.names, palette))
    size = config.train.eval_batch_size
    numbers, arrays = evaluate(parts.task, val, size, parts.device, parts.dtype, measure)
    confusion = arrays["confusion"]
    save_arrays(folder / "predictions" / "val-confusion.npz", {"confusion": confusion, "names": np.array(val.names)})
    scores = write_image_scores(folder / "predictions" / "val.csv", val.names, confusion)
    keep_worst(folder, val, scores, masks, palette)
    low, high = interval(confusion, seed=config.train.seed)
    headline = f"validation mean IoU {numbers['mean_iou']:.4f} [{low:.4f}, {high:.4f}]"
    return {**numbers, "mean_iou_interval": [low, high]}, headline


def mask_writer(folder: Path, names: Sequence[str], palette: Palette) -> Callable[[Batch, np.ndarray], None]:
    """What `metrics` calls with every batch: writes each predicted mask as a file named after its image."""
    targets = mask_names(names)

    def write(batch: Batch, predicted: np.ndarray) -> None:
        for sample, mask in zip(batch.samples.tolist(), predicted, strict=True):
            atomic_write(folder / targets[sample], write_mask(mask, palette))

    return write


def mask_names(names: Sequence[str]) -> list[str]:
    """Where the masks of images go: `val/0013_sat.jpg` -> `0013_mask.png`; with their folders where these clash."""
    paths = [PurePosixPath(name) for name in names]
    files = [f"{path.stem.removesuffix('_sat')}_mask.png" for path in paths]
    if len(set(files)) == len(files):
        return files
    return [str(path.with_name(file)) for path, file in zip(paths, files, strict=True)]


def write_image_scores(path: Path, names: Sequence[str], confusion: np.ndarray) -> np.ndarray:
    """CSV filename, mean_iou, pixel_accuracy of each image; returns the accuracies, float64 [N], NaN: no pixel."""
    ious, totals = per_image_iou(confusion), confusion.sum((1, 2))
    hits = np.trace(confusion, axis1=1, axis2=2)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filename", "mean_iou", "pixel_accuracy"])
    for name, iou, hit, total in zip(names, ious, hits, totals, strict=True):
        writer.writerow([name, f"{iou:.6f}", f"{hit / total:.6f}" if total else ""])
    atomic_write(path, text.getvalue().encode("utf-8", "surrogateescape"))
    return np.where(totals > 0, hits / np.maximum(totals, 1), np.nan)


def keep_worst(folder: Path, val: DecodedPairs, scores: np.ndarray, masks: Path, palette: Palette) -> None:
    """snapshots/mistakes.npz: the images with the lowest scores, their true and predicted masks, the worst first.

    Scores are pixel accuracies: the mean IoU of one image punishes a few pixels of a class that is not in it too hard.
    """
    worst = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")[:WORST]
    targets = mask_names(val.names)
    height, width = val.labels.shape[1:]
    predicted = np.full((len(worst), height, width), IGNORE, np.uint8)
    for row, place in enumerate(worst):
        mask = read_mask(str(masks / targets[place]), palette)
        predicted[row, : mask.shape[0], : mask.shape[1]] = mask
    arrays = {"images": val.images[worst], "truth": val.labels[worst], "predicted": predicted}
    names = np.array([val.names[place] for place in worst], dtype=str)
    small = {name: shrunk(array) for name, array in arrays.items()}
    save_arrays(folder / "snapshots" / "mistakes.npz", small | {"index": worst, "names": names})


def masked_preview(training: "Training", batch: Batch) -> Figure:
    """A sheet of what the model sees: training windows, and below each the same with its mask laid over."""
    parts = training.parts
    assert isinstance(parts.task, Segment)
    images, masks = parts.task.prepare(batch)
    colors = display_colors(from_dict(parts.description["palette"]))
    shown = denormalized(images.float().cpu().numpy(), *parts.normalization)[:PREVIEWED]
    laid = [
        overlay(image, mask, colors).transpose(2, 0, 1) for image, mask in zip(shown, masks.cpu().numpy(), strict=False)
    ]
    columns = min(8, len(shown))
    shown, laid = shown[: len(shown) // columns * columns], laid[: len(laid) // columns * columns]
    rows = [*shown[:columns], *laid[:columns], *shown[columns:], *laid[columns:]]
    return draw_sheet(rows, [""] * len(rows), columns)
