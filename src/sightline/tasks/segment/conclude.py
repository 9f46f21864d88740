"""The end of a segmentation run: final numbers with their intervals, predicted masks, numbers of each image."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...data.decode.masks import padded, read_mask
from ...data.decode.palettes import Palette, display_colors, from_dict
from ...data.loader import Batch
from ...data.pair_cache import DecodedPairs
from ...engine.state import Training
from ...engine.training_state import save_arrays, shrunk
from ...insight.figures import draw_sheet
from ...insight.preview import denormalized
from ...insight.strips import overlay
from ...runs.checkpoint import load_model
from ...runs.run_folder import shipped_checkpoints
from .metrics import pixel_accuracy
from .results import mask_names, measure
from .task import Segment

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
    assert isinstance(val, DecodedPairs)
    palette = from_dict(parts.description["palette"])
    (best,) = shipped_checkpoints(folder)
    parts.learner.parameters().load_state_dict(load_model(best)[0])
    masks = folder / "predictions" / "val"
    assert isinstance(parts.learner, Segment)
    numbers, arrays = measure(parts.learner, val, palette, config, parts.device, parts.dtype, masks)
    counts = {name: arrays[name] for name in ("confusion", "with_ignored")}
    save_arrays(folder / "predictions" / "val-confusion.npz", counts | {"names": np.array(val.names)})
    keep_worst(folder, val, pixel_accuracy(arrays["confusion"]), masks, palette)
    low, high = numbers["mean_iou_interval"]
    edges = f" [{low:.4f}, {high:.4f}]" if np.isfinite(low) else ", of one image, which has no interval"
    headline = f"validation mean IoU {numbers['mean_iou']:.4f}{edges}"
    return numbers, headline


def keep_worst(folder: Path, val: DecodedPairs, scores: np.ndarray, masks: Path, palette: Palette) -> None:
    """snapshots/mistakes.npz: the images with the lowest scores, their true and predicted masks, the worst first.

    Scores are pixel accuracies: the mean IoU of one image punishes a few pixels of a class that is not in it too hard.
    """
    worst = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")[:WORST]
    targets = mask_names(val.names)
    predicted = padded([read_mask(str(masks / targets[place]), palette) for place in worst], val.labels.shape[1:])
    arrays = {"images": val.images[worst], "truth": val.labels[worst], "predicted": predicted}
    names = np.array([val.names[place] for place in worst], dtype=str)
    small = {name: shrunk(array) for name, array in arrays.items()}
    save_arrays(folder / "snapshots" / "mistakes.npz", small | {"index": worst, "names": names})


def preview(training: Training, batch: Batch) -> Figure:
    """A sheet of what the model sees: training windows, and below each the same with its mask laid over."""
    parts = training.parts
    assert isinstance(parts.learner, Segment)
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
