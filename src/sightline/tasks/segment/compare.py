"""Comparison of segmenters: mean IoU on the same images, IoU by class, masks of all runs."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...data.decode.masks import MAX_PIXELS, image_size, padded, read_mask
from ...data.decode.palettes import Palette, display_colors
from ...engine.training_state import subsampled
from ...errors import SightlineError
from ...insight.curves import number
from ...insight.mask_figures import (
    PAGE_INCHES,
    class_legend,
    column_titles,
    hatched,
    panel_grid,
    score_text,
    show_pixels,
)
from ...insight.style import short, styled
from ...report.compare.kinds import ComparedRun, Comparison, ImageResults, PairedNumbers, TaskComparison
from ...report.compare.matching import aligned_to
from ...report.drawing import Plan
from ...report.formatting import section
from ...report.html import Child, missing_note
from ...report.run import UNREADABLE, RunFiles, attempt, read_arrays
from ...report.sections import Figures, figure
from ...stats.groups import ids_in, read_groups
from ...stats.intervals import Interval
from ...stats.nested import mean_iou_values
from ...stats.paired import counted_by_one, iou_difference, paired_ious
from ...stats.segmentation import interval, mean_iou, pixel_accuracy, rare_classes, summed
from ...stats.units import FEWEST
from .report import read_palette
from .results import counts_file, mask_names

ROWS = 3
"""Number of images shown on which the runs are better than the reference, and of those on which they are worse. They
are divided among the runs, with at least one for each run."""


def image_results(files: RunFiles) -> tuple[ImageResults | None, str, str]:
    """(the confusion matrices of the validation images or None, why they are missing, what to do)."""
    missing: list[str] = []
    results = attempt(counts_file(files.split), files.path, lambda path: read_counts(path, files), missing, None)
    cure = f"sightline evaluate {shlex.quote(str(files.path))} --split {files.split}" if files.split != "val" else ""
    return results, f"has no confusion matrices to compare ({''.join(missing)})", cure


def read_counts(path: Path, files: RunFiles) -> ImageResults:
    """Read the confusion matrices of a run's images. Raises ValueError if their shape does not match its classes."""
    classes = files.classes
    arrays = read_arrays(path)
    counts, names = arrays["confusion"].astype(np.int64), tuple(map(str, arrays["names"]))
    if counts.shape != (len(names), len(classes), len(classes)) or not names:
        raise ValueError(f"counts {counts.shape} of {len(names)} images and {len(classes)} classes")
    groups = files.group_ids(names)
    return ImageResults(names, classes, counts.sum(-1), counts, np.zeros(0), np.arange(len(names)), groups=groups)


def image_scores(run: Path, split: str) -> tuple[tuple[str, ...], np.ndarray, str]:
    """(names of the images of a split; float64 [N], the part of each in the mean IoU of all; why no interval can be
    given, or "")."""
    arrays = read_arrays(run / counts_file(split))
    names, counts = tuple(map(str, arrays["names"])), arrays["confusion"].astype(np.int64)
    groups = read_groups(run, names, split)
    rare, units = int(rare_classes(counts, ids_in(groups)).sum()), "groups" if groups else "images"
    why = f"no interval can be given, because fewer than {FEWEST} {units} have one of {rare} classes" if rare else ""
    return names, mean_iou_values(counts), why


def result(results: ImageResults, files: RunFiles) -> tuple[float, Interval | None]:
    """Mean IoU and its 95 % interval, None if it cannot be given."""
    low, high = interval(results.predicted, groups=results.groups)
    return float(mean_iou(summed(results.predicted))), (float(low), float(high)) if np.isfinite(low) else None


def paired(a: ImageResults, b: ImageResults) -> PairedNumbers:
    """Compare two segmenters on the same images: mean IoU, pixel accuracy, IoU by class."""
    # NaN without labeled pixels, which no count includes.
    apart = pixel_accuracy(b.predicted) - pixel_accuracy(a.predicted)
    counts = {"first better": apart < 0, "equal": apart == 0, "second better": apart > 0}
    agreement = {name: int(which.sum()) for name, which in counts.items()}
    difference = iou_difference(a.predicted, b.predicted, groups=a.groups)
    return PairedNumbers(difference, agreement, {"IoU": paired_ious(a.predicted, b.predicted, a.groups)})


def absent_classes(entries: Sequence[ComparedRun]) -> list[str]:
    """Notes on runs whose mean IoU is over other classes than that of the reference."""
    reference, notes = entries[0], []
    for other in entries[1:]:
        a, b = reference.results, other.results
        if a is None or b is None or {*a.names} != {*b.names} or {*a.classes} != {*b.classes}:
            continue
        classes = np.array(a.classes)[counted_by_one(a.predicted, aligned_to(a, b).predicted)]
        if classes.size:
            notes.append(
                f"No true mask has {', '.join(classes.tolist())}, which one of {reference.name} and {other.name} "
                "predicts. Their mean IoUs are over different classes, so the difference has no interval; compare the "
                "IoU of each class."
            )
    return notes


@dataclass(frozen=True)
class MaskRow:
    """One image with its true mask and the masks that several runs predicted.

    image: uint8 [3, h, w], reduced for display. truth: uint8 [h, w]. masks: for each run uint8 [h, w], or None if its
    mask is missing. counts: for each run the confusion matrix of the image at its original size, or None.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    masks: tuple[np.ndarray | None, ...]
    counts: tuple[np.ndarray | None, ...]


def plan(comparison: Comparison) -> Plan:
    """Plan the figure of the images on which the segmenters differ most; returns {} if no image can be shown."""
    palette = attempt("checkpoints/best/config.json", comparison.reference.files.path, read_palette, [], None)
    rows = mask_rows(comparison) if palette is not None and comparison.pairs else []
    if palette is None or not rows:
        return {}
    return {"same-images": lambda: draw_masks(rows, palette, [one.name for one in comparison.entries])}


def images(comparison: Comparison, drawn: Figures) -> list[Child]:
    """Section: the images on which the segmenters differ most."""
    if "same-images" not in drawn:
        return [missing_note("No thumbnails of images on which the runs differ are stored (report.samples).")]
    text = "Images with stored thumbnails on which each run's share of right pixels differs most from the reference"
    note = f"{text}: image, truth, and the mask of each run. Gray pixels are ignored."
    return [figure(drawn, "same-images", f"{text}, with the masks of all runs", note, wide=True)]


def mask_rows(comparison: Comparison) -> list[MaskRow]:
    """The images on which the segmenters differ most, with the true mask and the predicted masks of all runs."""
    first, kept = comparison.reference.results, kept_images(comparison)
    assert first is not None
    rows = chosen_rows(comparison, set(kept))
    paired_runs = comparison.paired
    results = [
        aligned_to(first, one.results) if one in paired_runs and one.results else None for one in comparison.entries
    ]
    masks = [masks_of(entry, one, rows) for entry, one in zip(comparison.entries, results, strict=True)]
    result = []
    for index, row in enumerate(rows):
        image, truth = kept[first.names[row]]
        own = [group[index] if group else None for group in masks]
        fitting = tuple(mask if mask is not None and mask.shape == truth.shape else None for mask in own)
        counts = tuple(one.predicted[row] if one is not None else None for one in results)
        result.append(MaskRow(first.names[row], image, truth, fitting, counts))
    return result


def kept_images(comparison: Comparison) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The thumbnails that the compared runs have stored: image name -> (image uint8 [3, h, w], true mask uint8 [h,
    w])."""
    kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    alike = [entry for entry in comparison.paired if entry.files.classes == comparison.reference.files.classes]
    for path in [entry.files.path for entry in reversed(alike)]:  # those of the reference take precedence
        for file, truth in (("samples.npz", "labels"), ("mistakes.npz", "truth")):
            arrays = attempt(f"snapshots/{file}", path, read_arrays, [], {})
            if {"images", "names", truth} <= arrays.keys():
                names, pairs = map(str, arrays["names"]), zip(arrays["images"], arrays[truth], strict=True)
                kept |= dict(zip(names, pairs, strict=True))
    return kept


def chosen_rows(comparison: Comparison, kept: set[str]) -> list[int]:
    """Indices of the images on which the runs differ most from the reference in pixel accuracy, in both directions.

    kept: names of the images with thumbnails; only these are chosen.
    """
    rows: list[int] = []
    each = max(1, ROWS // len(comparison.pairs))
    for pair in comparison.pairs:
        a, b = pair.results
        apart = np.nan_to_num(pixel_accuracy(b.predicted) - pixel_accuracy(a.predicted))
        order = [int(row) for row in np.argsort(-apart, kind="stable") if a.names[row] in kept]
        rows += [row for row in order[:each] if apart[row] > 0]
        rows += [row for row in order[: -each - 1 : -1] if apart[row] < 0]
    return list(dict.fromkeys(rows))


def masks_of(entry: ComparedRun, results: ImageResults | None, rows: Sequence[int]) -> list[np.ndarray | None]:
    """The masks uint8 [h, w] that a run predicts for some images, in the size of the thumbnails.

    results: the run's results in the order of the reference. rows: indices of the images in `results`. The masks have
    the class indices of `results`. A mask that cannot be read is None; the list is empty if no mask can be read.
    """
    palette = attempt("checkpoints/best/config.json", entry.files.path, read_palette, [], None)
    if results is None or palette is None or entry.results is None:
        return []
    limit = int(number(section(entry.files.recipe, "data").get("max_pixels"), MAX_PIXELS))
    folder = entry.files.path / "predictions" / entry.files.split
    files = [str(folder / name) for name in mask_names(entry.results.names)]
    try:
        sizes = [image_size(file, limit) for file in files if os.path.exists(file)]
    except SightlineError:
        return []
    padded_size = tuple(map(int, np.max(sizes, 0))) if sizes else (0, 0)
    return [one_mask(files[results.rows[row]], palette, results.classes, padded_size, limit) for row in rows]


def one_mask(
    file: str, palette: Palette, classes: tuple[str, ...], padded_size: tuple[int, ...], limit: int
) -> np.ndarray | None:
    """Read a predicted mask; None if it cannot be read.

    classes: the mask has indices into these. It is padded to `padded_size` (height, width) and then reduced in the same
    way as the thumbnails. limit: maximum number of pixels.
    """
    try:
        mask = read_mask(file, palette, limit)
    except UNREADABLE:
        return None
    table = np.arange(256, dtype=np.uint8)
    table[: len(classes)] = [classes.index(name) for name in palette.classes]
    return subsampled(padded([table[mask]], (padded_size[0], padded_size[1])))[0]


@styled
def draw_masks(rows: Sequence[MaskRow], palette: Palette, names: Sequence[str]) -> Figure:
    """Draw one row per image: the image, its true mask, and the mask of each run above its scores."""
    titles, colors = ["image", "truth", *(short(name, 22) for name in names)], display_colors(palette)
    figure, panels = panel_grid([row.image for row in rows], min(len(titles), 10))
    for axes, row in zip(panels, rows, strict=True):
        show_pixels(axes[0], row.image.transpose(1, 2, 0), short(row.name, round(PAGE_INCHES * 13 / len(titles))))
        show_pixels(axes[1], hatched(row.truth, colors), "")
        for panel, mask, counts in zip(axes[2:], row.masks, row.counts, strict=False):
            if mask is None:
                show_pixels(panel, np.full((*row.truth.shape, 3), 255, np.uint8), "missing")
            else:
                show_pixels(panel, hatched(mask, colors), score_text(counts) if counts is not None else "")
    column_titles(panels, titles)
    class_legend(figure, palette.classes, colors, any((row.truth == 255).any() for row in rows))
    return figure


def comparison() -> TaskComparison:
    """Return the `TaskComparison` of segmenters: how several runs are compared."""
    return TaskComparison(
        field="mean_iou",
        title="Mean IoU",
        image_results=image_results,
        result=result,
        paired=paired,
        test="p: t test with the standard error of a paired jackknife over images or their groups.",
        class_note="Sorted by the difference. ",
        agreement={
            "first better": "{first} has more correct pixels",
            "equal": "Equally many",
            "second better": "This run has more",
        },
        decoding=(),
        plan=plan,
        images=images,
        notes=absent_classes,
    )
