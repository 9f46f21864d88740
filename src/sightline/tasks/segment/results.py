"""Results of a segmenter: numbers with their interval, a mask and the scores of each image, the worst images."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ...config.schema import Config
from ...data.decode.masks import padded, read_mask, write_mask
from ...data.decode.palettes import Palette, display_colors, from_dict
from ...data.types import Batch, Decoded
from ...engine.evaluate import evaluate
from ...engine.parts import Arrays
from ...engine.state import Training
from ...engine.training_state import save_arrays, subsampled
from ...insight.figures import draw_sheet
from ...insight.preview import denormalized
from ...insight.strips import overlay
from ...runs.atomic import atomic_write
from ...runs.checkpoint import load_model
from ...runs.csv_io import csv_text
from ...runs.run_folder import shipped_checkpoints
from ...stats.segmentation import interval, per_image_iou, pixel_accuracy
from .task import SegmentLearner

PREVIEWED = 16
WORST = 12
"""Validation images with the smallest share of right pixels that are kept for the report."""


def results(training: Training) -> tuple[dict[str, Any], str]:
    """(the final numbers with their intervals, the headline).

    Written: predictions/val/*.png, predictions/val.csv with the numbers of each image, predictions/val-confusion.npz,
    and the worst images for the report.
    """
    parts, config, folder = training.parts, training.config, training.folder
    val = parts.val
    assert isinstance(val, Decoded)
    palette = from_dict(parts.description["palette"])
    (best,) = shipped_checkpoints(folder)
    parts.learner.parameters().load_state_dict(load_model(best)[0])
    masks = folder / "predictions" / "val"
    assert isinstance(parts.learner, SegmentLearner)
    numbers, arrays = measure(parts.learner, val, palette, config, parts.device, parts.dtype, masks)
    counts = {name: arrays[name] for name in ("confusion", "with_ignored")}
    save_arrays(folder / "predictions" / "val-confusion.npz", counts | {"names": np.array(val.names)})
    keep_worst(folder, val, pixel_accuracy(arrays["confusion"]), masks, palette)
    low, high = numbers["mean_iou_interval"]
    edges = f" [{low:.4f}, {high:.4f}]" if np.isfinite(low) else ", of one image, which has no interval"
    headline = f"validation mean IoU {numbers['mean_iou']:.4f}{edges}"
    return numbers, headline


def keep_worst(folder: Path, val: Decoded, scores: np.ndarray, masks: Path, palette: Palette) -> None:
    """snapshots/mistakes.npz: the images with the lowest scores, their true and predicted masks, the worst first.

    Scores are pixel accuracies: the mean IoU of one image punishes a few pixels of a class that is not in it too hard.
    """
    worst = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")[:WORST]
    targets = mask_names(val.names)
    predicted = padded([read_mask(str(masks / targets[place]), palette) for place in worst], val.images.shape[2:])
    assert val.masks is not None
    arrays = {"images": val.images[worst], "truth": val.masks[worst], "predicted": predicted}
    names = np.array([val.names[place] for place in worst], dtype=str)
    small = {name: subsampled(array) for name, array in arrays.items()}
    save_arrays(folder / "snapshots" / "mistakes.npz", small | {"index": worst, "names": names})


def preview(training: Training, batch: Batch) -> Figure:
    """A sheet of what the model sees: training windows, and below each the same with its mask laid over."""
    parts = training.parts
    assert isinstance(parts.learner, SegmentLearner)
    images, masks = parts.learner.prepare(batch)
    colors = display_colors(from_dict(parts.description["palette"]))
    shown = denormalized(images.float().cpu().numpy(), *parts.normalization)[:PREVIEWED]
    laid = [
        overlay(image, mask, colors).transpose(2, 0, 1) for image, mask in zip(shown, masks.cpu().numpy(), strict=False)
    ]
    columns = min(8, len(shown))
    blank = [np.full_like(laid[0], 255)] * (-len(laid) % columns)
    rows: list[np.ndarray] = []
    for start in range(0, len(laid), columns):
        for pictures in ([*shown, *blank], [*laid, *blank]):
            rows += pictures[start : start + columns]
    return draw_sheet(rows, [""] * len(rows), columns)


def measure(
    task: SegmentLearner,
    decoded: Decoded,
    palette: Palette,
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
    masks: Path | None,
) -> tuple[dict[str, Any], Arrays]:
    """(the numbers and the interval of the mean IoU, the arrays of `SegmentLearner.metrics`) of a split.

    masks: the folder for the predicted masks, `predictions/val`; beside it `val.csv` gets the scores of each image.
    None: nothing is written.
    """
    each = mask_writer(masks, decoded.names, palette) if masks else None
    metrics = partial(task.metrics, each=each)
    numbers, arrays = evaluate(task, decoded, config.train.eval_batch_size, device, dtype, metrics)
    if masks:
        write_image_scores(masks.with_name(f"{masks.name}.csv"), decoded.names, arrays["confusion"])
    low, high = interval(arrays["confusion"])  # not by the run's seed: `score` gives the same and knows of no run
    return {**numbers, "mean_iou_interval": [low, high]}, arrays


def mask_writer(folder: Path, names: Sequence[str], palette: Palette) -> Callable[[Batch, np.ndarray], None]:
    """What `metrics` calls with every batch: writes each predicted mask as a file named after its image."""
    targets = mask_names(names)

    def write(batch: Batch, predicted: np.ndarray) -> None:
        for sample, mask in zip(batch.samples.tolist(), predicted, strict=True):
            atomic_write(folder / targets[sample], write_mask(mask, palette))

    return write


def mask_names(names: Sequence[str]) -> list[str]:
    """Where the masks of images go: `val/0013_sat.jpg` -> `0013_mask.png`; with their folders where these clash.

    All lies below the folder that they are for, whatever the names are: those of shards are a stranger's.
    """
    paths = [within(name) for name in names]
    files = [f"{path.stem.removesuffix('_sat')}_mask.png" for path in paths]
    if len(set(files)) == len(files):
        return files
    whole = [str(path.parent / file) for path, file in zip(paths, files, strict=True)]
    if len(set(whole)) == len(whole):
        return whole
    return [str(path.parent / f"{path.stem}_mask.png") for path in paths]


def within(name: str) -> PurePosixPath:
    """The path without its root, and with `up` for `..` in it."""
    path = PurePosixPath(name)
    return PurePosixPath(*("up" if part == ".." else part for part in path.parts if part != path.anchor))


def write_image_scores(path: Path, names: Sequence[str], confusion: np.ndarray) -> None:
    """CSV filename, mean_iou, pixel_accuracy of each image; both are empty where no pixel counts."""
    rows: list[list[str]] = [["filename", "mean_iou", "pixel_accuracy"]]
    for name, iou, share in zip(names, per_image_iou(confusion), pixel_accuracy(confusion), strict=True):
        rows.append([name, *("" if np.isnan(value) else f"{value:.6f}" for value in (iou, share))])
    atomic_write(path, csv_text(rows))
