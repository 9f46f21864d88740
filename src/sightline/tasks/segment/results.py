"""Final results of a segmenter: metrics with intervals, masks and scores of all images, the worst images."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure

from ...data.decode.masks import padded, read_mask, write_mask
from ...data.decode.palettes import Palette, display_colors, from_dict
from ...data.types import Batch, Decoded
from ...engine.evaluate import evaluate
from ...engine.parts import Arrays, Parts
from ...engine.state import Training
from ...engine.training_state import save_arrays, subsampled
from ...errors import some_of
from ...insight.figures import denormalized, draw_image_grid
from ...insight.mask_figures import overlay
from ...runs.atomic import atomic_write
from ...runs.checkpoint import load_model
from ...runs.csv_io import csv_text
from ...runs.run_folder import shipped_checkpoints
from ...stats.groups import Groups, ids_in, said, write_groups
from ...stats.intervals import bracketed
from ...stats.segmentation import (
    effective_images,
    interval,
    per_image_iou,
    pixel_accuracy,
    rare_classes,
    segment_numbers,
)
from ...stats.units import FEWEST
from .score import MASK_ENDING
from .task import SegmentLearner

PREVIEWED = 16
"""Maximum number of images in the preview of a training batch."""
WORST = 12
"""Number of validation images with the lowest pixel accuracy that are stored for the report."""


def results(training: Training) -> tuple[dict[str, Any], str]:
    """Evaluate the trained segmenter; returns (metrics with their intervals, a sentence on the result).

    Writes predictions/val/*.png, predictions/val.csv with the scores of each image, predictions/val-confusion.npz and
    snapshots/mistakes.npz.
    """
    parts, folder, val = training.parts, training.folder, training.parts.val
    palette = from_dict(parts.description["palette"])
    (best,) = shipped_checkpoints(folder)
    parts.learner.parameters().load_state_dict(load_model(best)[0])
    masks = folder / "predictions" / "val"
    groups = write_groups(folder, "val", val, training.config.data, parts.train.names)
    numbers, arrays = measure(parts, val, palette, masks, groups)
    save_counts(folder, "val", val, arrays)
    keep_worst(folder, val, pixel_accuracy(arrays["confusion"]), masks, palette)
    if parts.dtype == torch.bfloat16:
        numbers["bfloat16"] = bfloat16_changes(parts, masks, palette)
    rare = rare_classes(arrays["confusion"], ids_in(groups))
    edges = bracketed(numbers["mean_iou_interval"])
    if rare.any() and not (groups and groups.count < FEWEST):
        few = some_of([palette.classes[index] for index in np.flatnonzero(rare)])
        edges += f", because fewer than {FEWEST} {'groups' if groups else 'images'} have {few}"
    return numbers, f"validation mean IoU {numbers['mean_iou']:.4f}{edges}{said(groups, numbers)}"


def bfloat16_changes(parts: Parts, masks: Path, palette: Palette) -> dict[str, Any]:
    """The number of pixels of the validation images that get another class in bfloat16, the number of all, the unit.
    masks: folder of the masks predicted in float32."""
    targets, changed, learner = mask_names(parts.val.names), [], cast(SegmentLearner, parts.learner)

    def compare(batch: Batch, predicted: np.ndarray) -> None:
        for sample, mask in zip(batch.samples.tolist(), predicted, strict=True):
            differs = read_mask(str(masks / targets[sample]), palette) != mask
            changed.append((int(differs.sum()), differs.size))

    metrics = partial(learner.metrics, each=compare)
    evaluate(learner, parts.val, learner.config.train.eval_batch_size, parts.device, parts.dtype, metrics)
    pixels, total = (sum(counts) for counts in zip(*changed, strict=True))
    return {"changed": pixels, "of": total, "unit": "pixels"}


def baselines(training: Training, flops: float) -> tuple[dict[str, float], list[str]]:
    """Mean IoU and pixel accuracy of the class that is most frequent in the training masks, predicted for every pixel.

    They are computed from the pixels of each class, so `flops`, the cost of the training, is not used.
    """
    train, val = training.parts.train.counts.sum(0), training.parts.val.counts.sum(0)
    matrix = np.zeros((len(val), len(val)), np.int64)
    matrix[:, train.argmax()] = val
    numbers = segment_numbers(matrix)
    return {
        "most_frequent_class": numbers["mean_iou"],
        "most_frequent_class_pixel_accuracy": numbers["pixel_accuracy"],
    }, []


def counts_file(split: str) -> str:
    """The file in a run folder with the confusion matrices of a split's images."""
    return f"predictions/{split}-confusion.npz"


def save_counts(folder: Path, split: str, decoded: Decoded, arrays: Arrays) -> None:
    """Write the confusion matrices of a split's images, with which runs are compared. arrays: as of `measure`."""
    counts = {name: arrays[name] for name in ("confusion", "with_ignored")}
    save_arrays(folder / counts_file(split), counts | {"names": np.array(decoded.names)})


def keep_worst(folder: Path, val: Decoded, scores: np.ndarray, masks: Path, palette: Palette) -> None:
    """Write snapshots/mistakes.npz: images, true masks and predicted masks of the WORST images with the lowest scores,
    the lowest first.

    scores: pixel accuracy of each image [N]. The mean IoU is not used, because a few wrongly predicted pixels of a
    class that the image lacks would lower it too much. masks: folder of the predicted masks.
    """
    worst = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")[:WORST]
    targets = mask_names(val.names)
    predicted = padded([read_mask(str(masks / targets[index]), palette) for index in worst], val.images.shape[2:])
    assert val.masks is not None
    arrays = {"images": val.channels.composite(val.images[worst]), "truth": val.masks[worst], "predicted": predicted}
    names = np.array([val.names[index] for index in worst], dtype=str)
    small = {name: subsampled(array) for name, array in arrays.items()}
    save_arrays(folder / "snapshots" / "mistakes.npz", small | {"index": worst, "names": names})


def preview(training: Training, batch: Batch) -> Figure:
    """Draw the windows of a training batch after augmentation, each above the same window blended with its mask."""
    parts = training.parts
    assert isinstance(parts.learner, SegmentLearner)
    windows, masks = parts.learner.prepare(batch)
    colors = display_colors(from_dict(parts.description["palette"]))
    shown = denormalized(windows.float().cpu().numpy(), *parts.normalization, parts.train.channels)[:PREVIEWED]
    pairs = zip(shown, masks.cpu().numpy(), strict=False)
    overlays = [overlay(image, mask, colors).transpose(2, 0, 1) for image, mask in pairs]
    columns = min(8, len(shown))
    blank = [np.full_like(overlays[0], 255)] * (-len(shown) % columns)
    tiles: list[np.ndarray] = []
    for start in range(0, len(shown), columns):
        for images in ([*shown, *blank], [*overlays, *blank]):
            tiles += images[start : start + columns]
    return draw_image_grid(tiles, [""] * len(tiles), columns)


def measure(
    parts: Any, decoded: Decoded, palette: Palette, masks: Path | None, groups: Groups | None
) -> tuple[dict[str, Any], Arrays]:
    """Evaluate a split; returns (metrics with the interval of the mean IoU, arrays of `SegmentLearner.metrics`).

    parts: `Parts` or `MaskInference`, for learner and device. masks: folder to which the predicted masks are
    written, such as predictions/val; the scores of each image are then written to the CSV file beside it,
    predictions/val.csv. None: nothing is written. groups: of the images, or None.
    """
    each = mask_writer(masks, decoded.names, palette) if masks else None
    learner, metrics = parts.learner, partial(parts.learner.metrics, each=each)
    size = learner.config.train.eval_batch_size
    numbers, arrays = evaluate(learner, decoded, size, parts.device, metrics=metrics)
    if masks:
        write_image_scores(masks.with_name(f"{masks.name}.csv"), decoded.names, arrays["confusion"])
    ids = ids_in(groups)
    found = {**numbers, "mean_iou_interval": list(interval(arrays["confusion"], groups=ids))}
    return found | (groups.facts(effective_images(arrays["confusion"], groups.ids)) if groups else {}), arrays


def mask_writer(folder: Path, names: Sequence[str], palette: Palette) -> Callable[[Batch, np.ndarray], None]:
    """Return a function that writes the predicted masks of a batch to `folder`, named after their images."""
    targets = mask_names(names)

    def write(batch: Batch, predicted: np.ndarray) -> None:
        for sample, mask in zip(batch.samples.tolist(), predicted, strict=True):
            atomic_write(folder / targets[sample], write_mask(mask, palette))

    return write


def mask_names(names: Sequence[str]) -> list[str]:
    """Unique relative paths for the masks of images: `val/0013_sat.jpg` -> `0013_mask.png`.

    If these are not unique, the folders of the images are kept in the paths, and then their endings. No path is outside
    of the output folder, even for names in untrusted shards.
    """
    paths = [within(name) for name in names]
    files = [f"{path.stem.removesuffix('_sat')}{MASK_ENDING}.png" for path in paths]
    if len(set(files)) == len(files):
        return files
    for nested in (
        [str(path.parent / file) for path, file in zip(paths, files, strict=True)],
        [str(path.parent / f"{path.stem}{MASK_ENDING}.png") for path in paths],
    ):
        if len(set(nested)) == len(nested):
            return nested
    return [str(path.parent / f"{path.name}{MASK_ENDING}.png") for path in paths]


def within(name: str | PurePath) -> PurePosixPath:
    """Convert a path of this system to a relative path that stays inside any folder: drive and root are removed, and
    `..` is replaced by `up`."""
    path = PurePath(name) if isinstance(name, str) else name
    return PurePosixPath(*("up" if part == ".." else part for part in path.parts if part != path.anchor))


def write_image_scores(path: Path, names: Sequence[str], confusion: np.ndarray) -> None:
    """Write a CSV with filename, mean_iou and pixel_accuracy of each image.

    Both values are empty for an image whose pixels are all ignored. confusion: int64 [N, K, K].
    """
    rows: list[list[str]] = [["filename", "mean_iou", "pixel_accuracy"]]
    for name, iou, share in zip(names, per_image_iou(confusion), pixel_accuracy(confusion), strict=True):
        rows.append([name, *("" if np.isnan(value) else f"{value:.6f}" for value in (iou, share))])
    atomic_write(path, csv_text(rows))
