"""Comparison of segmenters: mean IoU on the same images, random swaps, IoU of each class, masks of all runs."""

import os
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
from ...insight.strips import PAGE_INCHES, class_legend, grid, hatched, head, score_text, show
from ...insight.style import short, styled
from ...report.compare.items import in_order_of
from ...report.compare.kinds import ComparedRun, Comparison, ItemResults, PairedNumbers, TaskComparison
from ...report.drawing import Plan
from ...report.html import Child, missing_note
from ...report.run import UNREADABLE, RunFiles, attempt, read_arrays
from ...report.sections import Figures, figure
from ...report.words import section
from ...stats.intervals import Interval
from ...stats.paired import paired_interval, paired_ious, randomization_test
from ...stats.segmentation import interval, mean_iou, pixel_accuracy, summed
from .report import read_palette
from .results import mask_names

COUNTS = "predictions/val-confusion.npz"
ROWS = 3
"""Images on which a run is better than the reference, and as many on which it is worse."""


def items(files: RunFiles) -> tuple[ItemResults | None, str, str]:
    """(the confusion matrix of each validation image, why there are none, the remedy)."""
    missing: list[str] = []
    found = attempt(COUNTS, files.path, lambda path: read_counts(path, files.classes), missing, None)
    return found, f"has no counts to compare ({''.join(missing)})", ""


def read_counts(path: Path, classes: tuple[str, ...]) -> ItemResults:
    """The confusion matrices of validation images. Raises ValueError where they have other classes."""
    arrays = read_arrays(path)
    counts, names = arrays["confusion"].astype(np.int64), tuple(map(str, arrays["names"]))
    if counts.shape != (len(names), len(classes), len(classes)) or not names:
        raise ValueError(f"counts {counts.shape} of {len(names)} images and {len(classes)} classes")
    return ItemResults(names, classes, counts.sum(-1), counts, np.zeros(0), np.arange(len(names)))


def result(results: ItemResults, files: RunFiles) -> tuple[float, Interval | None]:
    """Mean IoU and its interval, as on the run's own page."""
    low, high = interval(results.given)
    return float(mean_iou(summed(results.given))), (float(low), float(high)) if np.isfinite(low) else None


def paired(a: ItemResults, b: ItemResults) -> PairedNumbers:
    """Difference in mean IoU, p of random swaps, counts of images by pixel accuracy, differences of each class."""
    difference, edges = paired_interval(a.given, b.given)
    apart = pixel_accuracy(b.given) - pixel_accuracy(a.given)  # NaN, in no count, without labeled pixels
    counts = {"first better": apart < 0, "equal": apart == 0, "second better": apart > 0}
    agreement = {name: int(which.sum()) for name, which in counts.items()}
    p, classes = randomization_test(a.given, b.given), {"IoU": paired_ious(a.given, b.given)}
    return PairedNumbers(difference, edges, p, agreement, classes)


@dataclass(frozen=True)
class MaskRow:
    """One image with the masks of all runs. image: uint8 [3, h, w]; truth and each mask: uint8 [h, w], None where
    missing; counts: the confusion matrix of the full-size image for each run, None where unknown."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    masks: tuple[np.ndarray | None, ...]
    counts: tuple[np.ndarray | None, ...]


def plan(found: Comparison) -> Plan:
    """The figure of the images on which segmenters differ most."""
    palette = attempt("checkpoints/best/config.json", found.reference.files.path, read_palette, [], None)
    rows = mask_rows(found) if palette is not None and found.pairs else []
    if palette is None or not rows:
        return {}
    return {"same-images": lambda: draw_masks(rows, palette, [one.name for one in found.entries])}


def images(found: Comparison, drawn: Figures) -> list[Child]:
    """The section of the images on which segmenters differ most."""
    if "same-images" not in drawn:
        return [missing_note("No run has kept thumbnails of the images on which they differ (report.samples).")]
    text = "The images that each run gains and loses most against the reference, of those with a thumbnail"
    note = f"{text}: image, truth, and the mask of each run. Gray pixels are ignored."
    return [figure(drawn, "same-images", f"{text}, with the masks of all runs", note, wide=True)]


def mask_rows(found: Comparison) -> list[MaskRow]:
    """The images on which segmenters differ most, with the masks of all paired runs."""
    first, kept = found.reference.answers, kept_images(found)
    assert first is not None
    rows = chosen_rows(found, set(kept))
    paired_runs = found.paired
    answers = [in_order_of(first, one.answers) if one in paired_runs and one.answers else None for one in found.entries]
    masks = [masks_of(entry, one, rows) for entry, one in zip(found.entries, answers, strict=True)]
    result = []
    for index, row in enumerate(rows):
        image, truth = kept[first.names[row]]
        own = [group[index] if group else None for group in masks]
        fitting = tuple(mask if mask is not None and mask.shape == truth.shape else None for mask in own)
        counts = tuple(one.given[row] if one is not None else None for one in answers)
        result.append(MaskRow(first.names[row], image, truth, fitting, counts))
    return result


def kept_images(found: Comparison) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (image uint8 [3, h, w], true mask uint8 [h, w]) of all images that a paired run has kept."""
    kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    alike = [entry for entry in found.paired if entry.files.classes == found.reference.files.classes]
    for path in [entry.files.path for entry in reversed(alike)]:  # those of the reference take precedence
        for file, truth in (("samples.npz", "labels"), ("mistakes.npz", "truth")):
            arrays = attempt(f"snapshots/{file}", path, read_arrays, [], {})
            if {"images", "names", truth} <= arrays.keys():
                names, pairs = map(str, arrays["names"]), zip(arrays["images"], arrays[truth], strict=True)
                kept |= dict(zip(names, pairs, strict=True))
    return kept


def chosen_rows(found: Comparison, kept: set[str]) -> list[int]:
    """Rows of the kept images that each run gains and loses most against the reference."""
    rows: list[int] = []
    each = max(1, ROWS // len(found.pairs))
    for pair in found.pairs:
        a, b = pair.answers
        apart = np.nan_to_num(pixel_accuracy(b.given) - pixel_accuracy(a.given))
        order = [int(row) for row in np.argsort(-apart, kind="stable") if a.names[row] in kept]
        rows += [row for row in order[:each] if apart[row] > 0]
        rows += [row for row in order[: -each - 1 : -1] if apart[row] < 0]
    return list(dict.fromkeys(rows))


def masks_of(entry: ComparedRun, answers: ItemResults | None, rows: Sequence[int]) -> list[np.ndarray | None]:
    """The predicted masks uint8 [h, w] of these rows at the size of the thumbnails, in the classes of the reference."""
    palette = attempt("checkpoints/best/config.json", entry.files.path, read_palette, [], None)
    if answers is None or palette is None or entry.answers is None:
        return []
    limit = int(number(section(entry.files.recipe, "data").get("max_pixels"), MAX_PIXELS))
    folder = entry.files.path / "predictions" / "val"
    files = [str(folder / name) for name in mask_names(entry.answers.names)]
    try:
        sizes = [image_size(file, limit) for file in files if os.path.exists(file)]
    except SightlineError:
        return []
    room = tuple(map(int, np.max(sizes, 0))) if sizes else (0, 0)
    return [one_mask(files[answers.rows[row]], palette, answers.classes, room, limit) for row in rows]


def one_mask(
    file: str, palette: Palette, classes: tuple[str, ...], room: tuple[int, ...], limit: int
) -> np.ndarray | None:
    """A predicted mask, padded and reduced like the thumbnails; None where it cannot be read."""
    try:
        mask = read_mask(file, palette, limit)
    except UNREADABLE:
        return None
    table = np.arange(256, dtype=np.uint8)
    table[: len(classes)] = [classes.index(name) for name in palette.classes]
    return subsampled(padded([table[mask]], (room[0], room[1])))[0]


@styled
def draw_masks(rows: Sequence[MaskRow], palette: Palette, names: Sequence[str]) -> Figure:
    """Draw one row per image: the image, its truth, the mask of each run with its scores below."""
    titles, colors = ["image", "truth", *(short(name, 22) for name in names)], display_colors(palette)
    figure, panels = grid([row.image for row in rows], min(len(titles), 10))
    for axes, row in zip(panels, rows, strict=True):
        show(axes[0], row.image.transpose(1, 2, 0), short(row.name, round(PAGE_INCHES * 13 / len(titles))))
        show(axes[1], hatched(row.truth, colors), "")
        for panel, mask, counts in zip(axes[2:], row.masks, row.counts, strict=False):
            if mask is None:
                show(panel, np.full((*row.truth.shape, 3), 255, np.uint8), "missing")
            else:
                show(panel, hatched(mask, colors), score_text(counts) if counts is not None else "")
    head(panels, titles)
    class_legend(figure, palette.classes, colors, any((row.truth == 255).any() for row in rows))
    return figure


COMPARISON = TaskComparison(
    field="mean_iou",
    title="Mean IoU",
    items=items,
    result=result,
    paired=paired,
    test="p: 10,000 random swaps of the two runs' results, image by image.",
    class_note="Sorted by the difference. ",
    agreement={
        "first better": "{first} has more correct pixels",
        "equal": "Equally many",
        "second better": "This run has more",
    },
    decoding=(),
    plan=plan,
    images=images,
)
