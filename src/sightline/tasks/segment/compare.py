"""How runs of segmenters are compared: mean IoU on the same images, random swaps, IoU of each class, masks."""

from pathlib import Path

import numpy as np

from ...report.compare.kinds import ItemResults, PairedNumbers, TaskComparison
from ...report.compare.pictures import same_masks
from ...report.run import RunFiles, attempt
from ...stats.intervals import Interval
from ...stats.paired import paired_interval, paired_ious, swap_test
from ...stats.segmentation import interval, mean_iou, pixel_accuracy, summed
from .report import read_arrays

COUNTS = "predictions/val-confusion.npz"


def items(files: RunFiles) -> tuple[ItemResults | None, str, str]:
    """(the confusion matrix of each validation image, why there are none, what helps)."""
    missing: list[str] = []
    found = attempt(COUNTS, files.path, lambda path: read_counts(path, files.classes), missing, None)
    return found, f"has no counts to compare ({''.join(missing)})", ""


def read_counts(path: Path, classes: tuple[str, ...]) -> ItemResults:
    """The counts of a segmenter's validation images. Raises ValueError where they are not of these classes."""
    arrays = read_arrays(path)
    counts, names = arrays["confusion"].astype(np.int64), tuple(map(str, arrays["names"]))
    if counts.shape != (len(names), len(classes), len(classes)) or not names:
        raise ValueError(f"counts {counts.shape} of {len(names)} images and {len(classes)} classes")
    return ItemResults(names, classes, counts.sum(-1), counts, np.zeros(0), np.arange(len(names)))


def result(results: ItemResults, files: RunFiles) -> tuple[float, Interval | None]:
    """Mean IoU and its interval, the same numbers as on the run's own page."""
    low, high = interval(results.given)
    return float(mean_iou(summed(results.given))), (float(low), float(high)) if np.isfinite(low) else None


def paired(a: ItemResults, b: ItemResults) -> PairedNumbers:
    """Difference in mean IoU, p of random swaps, agreement, and differences of each class."""
    difference, edges = paired_interval(a.given, b.given)
    p, classes = swap_test(a.given, b.given), {"IoU": paired_ious(a.given, b.given)}
    return PairedNumbers(difference, edges, p, better_images(a, b), classes)


def better_images(a: ItemResults, b: ItemResults) -> dict[str, int]:
    """Images by which of two segmenters has the larger share of their pixels right; those without a pixel to count
    are in none."""
    apart = pixel_accuracy(b.given) - pixel_accuracy(a.given)
    return {
        "first better": int((apart < 0).sum()),
        "equal": int((apart == 0).sum()),
        "second better": int((apart > 0).sum()),
    }


COMPARISON = TaskComparison(
    field="mean_iou",
    name="mean IoU",
    title="Mean IoU",
    does="segments images",
    items=items,
    result=result,
    paired=paired,
    test="p: 10,000 random swaps of the two runs' results, image by image.",
    class_note="Sorted by the difference. ",
    decoding=(),
    masks=same_masks,
)
