"""What a segmentation run finds on a split: its numbers with their interval, a mask and the scores of each image."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from ...config.schema import Config
from ...data.decode.masks import write_mask
from ...data.decode.palettes import Palette
from ...data.loader import Batch
from ...data.pair_cache import DecodedPairs
from ...engine.evaluate import evaluate
from ...engine.parts import Arrays
from ...runs.atomic import atomic_write
from ...runs.csv_io import csv_text
from .metrics import interval, per_image_iou, pixel_accuracy
from .task import Segment


def measure(
    task: Segment,
    decoded: DecodedPairs,
    palette: Palette,
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
    masks: Path | None,
) -> tuple[dict[str, Any], Arrays]:
    """(the numbers and the interval of the mean IoU, the arrays of `Segment.metrics`) of a split.

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
