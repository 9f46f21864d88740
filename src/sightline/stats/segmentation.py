"""Segmentation metrics over a whole data set, out of confusion matrices; NumPy only, so that `score` starts at once.

Masks hold class indices 0..K-1 or IGNORE. A pixel whose truth is IGNORE counts nowhere, whatever was predicted there.
Confusion matrices: int64, row = truth, column = prediction; [K, K], or [N, K, K] for one an image. A last column beyond
the classes, [K, K + 1], holds pixels for which no class was predicted: missed by their class, and added to none.

TP, FP and FN of a class are summed over the whole set before they are divided: `segment_numbers` has the headline,
`other_definitions` what other tools print under the same name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..data.decode.palettes import IGNORE
from ..errors import SightlineError

BLOCK = 2**18
"""Pixels counted at a time: what is worked on stays in the processor's cache, and memory small for any mask."""
DRAWS = 2**22
"""Multinomial draws that the bootstrap holds at a time: 32 MiB."""
HEADLINE = (
    "mean over the classes that occur in truth or prediction of TP / (TP + FP + FN), summed over the whole set without "
    "ignored pixels; MMSegmentation, Hugging Face evaluate, torchmetrics JaccardIndex average='macro'"
)


@dataclass(frozen=True)
class Counts:
    """Pixels of each class, int64 [..., K]: hits (TP), truth (TP + FN), predicted (TP + FP). All measures need no more.

    Much smaller than a confusion matrix where there are many images; every function here takes either.
    """

    hits: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray

    @property
    def union(self) -> np.ndarray:
        """TP + FP + FN; 0 where a class occurs in neither truth nor prediction."""
        return self.truth + self.predicted - self.hits


class ClassNumbers(NamedTuple):
    """One number a class, float64 [K], NaN where it is 0 / 0; support int64 [K] counts the true pixels."""

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    support: np.ndarray


class Definition(NamedTuple):
    """A number that goes by the name mIoU somewhere, and in a sentence what it is and who prints it."""

    value: float
    meaning: str


Confusion = np.ndarray | Counts


def to_masks(masks: Any) -> np.ndarray:
    """A NumPy array of the same integers; torch tensors of any device will do."""
    array = np.asarray(masks.detach().cpu() if hasattr(masks, "detach") else masks)
    array = array.view(np.uint8) if array.dtype == bool else array
    assert array.dtype.kind in "ui", f"masks of {array.dtype}: class indices are whole numbers"
    return array


def confusion(predicted: Any, truth: Any, classes: int, ignored: bool = False) -> np.ndarray:
    """int64 [classes, classes], rows the truth, of two masks or stacks of masks of one shape, over all their pixels.

    With `ignored` it is [classes + 1, classes + 1], and the last row and column count IGNORE as if it were a class:
    [:-1] of it is the matrix of the classes. Without, IGNORE may be predicted only where the truth is IGNORE as well.
    Raises SightlineError naming the values that are neither a class nor IGNORE, on either side.
    """
    predicted, truth = to_masks(predicted), to_masks(truth)
    assert predicted.shape == truth.shape, f"predictions {predicted.shape} for truth {truth.shape}"
    assert 1 <= classes < IGNORE, f"{classes} classes"
    side = classes + 1
    # (side)^2 cells fit a byte up to 15 classes and 16 bits always; bytes are what is fast.
    cell = np.uint8 if side * side <= 256 else np.uint16
    counts = np.zeros(side * side, dtype=np.int64)
    predicted, truth = predicted.ravel(), truth.ravel()
    for start in range(0, len(truth), BLOCK):
        rows, columns = truth[start : start + BLOCK], predicted[start : start + BLOCK]
        refuse_strangers(columns, rows, classes)
        rows, columns = (np.minimum(part, classes).astype(cell) for part in (rows, columns))
        counts += np.bincount(rows * cell(side) + columns, minlength=side * side)
    whole = counts.reshape(side, side)
    if ignored:
        return whole
    unanswered = int(whole[:-1, -1].sum())
    if unanswered:
        raise SightlineError(
            f"{unanswered:,} pixels are predicted as {IGNORE} (ignored) where the truth is a class",
            cure=f"predict a class everywhere, 0 to {classes - 1}",
        )
    return np.ascontiguousarray(whole[:-1, :-1])


def refuse_strangers(predicted: np.ndarray, truth: np.ndarray, classes: int) -> None:
    """SightlineError where a value is neither a class nor IGNORE: it would silently count in another cell."""
    faults = []
    for name, values in (("predicted masks", predicted), ("true masks", truth)):
        wrong = (values >= classes) & (values != IGNORE)
        if values.dtype.kind == "i":
            wrong |= values < 0
        if wrong.any():
            found = np.unique(values[wrong]).tolist()
            faults.append(f"{name} hold {', '.join(map(str, found[:10]))}{' ...' * (len(found) > 10)}")
    if faults:
        what = f"{' and '.join(faults)}, outside of the classes 0 to {classes - 1}"
        raise SightlineError(what, cure=f"use the class list that the masks were made with; {IGNORE} is ignored")


def confusion_per_image(predicted: Any, truth: Any, classes: int, ignored: bool = False) -> np.ndarray:
    """One confusion matrix an image, int64 [N, classes, classes], of masks [N, H, W]; arguments as in `confusion`."""
    pairs = zip(to_masks(predicted), to_masks(truth), strict=True)
    matrices = [confusion(mine, true, classes, ignored) for mine, true in pairs]
    return np.array(matrices, dtype=np.int64).reshape(-1, classes + ignored, classes + ignored)


def as_counts(matrix: Confusion) -> Counts:
    """Counts [..., K] of confusion matrices [..., K, K] or [..., K, K + 1]; counts stay as they are."""
    if isinstance(matrix, Counts):
        return matrix
    classes = matrix.shape[-2]
    assert matrix.ndim >= 2 and matrix.shape[-1] in (classes, classes + 1), f"confusion {matrix.shape}"
    truth, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)[..., :classes]
    return Counts(np.diagonal(matrix, axis1=-2, axis2=-1), truth, predicted)


def summed(matrix: Confusion) -> Counts:
    """Counts [K] of the whole set, of one matrix or of one an image."""
    counts = as_counts(matrix)
    return Counts(*(part.reshape(-1, part.shape[-1]).sum(0) for part in (counts.hits, counts.truth, counts.predicted)))


def quotient(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole as float64, NaN where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    return quotient(np.where(known, values, 0).sum(-1), known.sum(-1))


def class_iou(matrix: Confusion) -> np.ndarray:
    """TP / (TP + FP + FN) of each class, float64 [..., K]; NaN for a class that occurs in neither."""
    counts = as_counts(matrix)
    return quotient(counts.hits, counts.union)


def mean_iou(matrix: Confusion) -> np.ndarray:
    """Mean of `class_iou` over the classes that occur in truth or prediction, [...]; NaN where no pixel counts."""
    return mean_of_known(class_iou(matrix))


per_image_iou = mean_iou
"""Of [N, K, K] it is the mean IoU of each image, float64 [N]; NaN for one without a counted pixel."""


def pixel_accuracy(matrix: Confusion) -> np.ndarray:
    """Share of the counted pixels that are predicted as their class, [...]."""
    counts = as_counts(matrix)
    return quotient(counts.hits.sum(-1), counts.truth.sum(-1))


def micro_iou(matrix: Confusion) -> np.ndarray:
    """TP / (TP + FP + FN), each summed over the classes first, [...]."""
    counts = as_counts(matrix)
    return quotient(counts.hits.sum(-1), counts.union.sum(-1))


def class_numbers(matrix: Confusion) -> ClassNumbers:
    """IoU, precision, recall and support of each class over the whole set."""
    counts = summed(matrix)
    precision, recall = quotient(counts.hits, counts.predicted), quotient(counts.hits, counts.truth)
    return ClassNumbers(class_iou(counts), precision, recall, counts.truth)


def segment_numbers(matrix: Confusion) -> dict[str, float]:
    """The numbers of a set: mean_iou, pixel_accuracy, frequency_weighted_iou, mean_accuracy.

    mean_iou: over the classes that occur in truth or prediction, of TP / (TP + FP + FN). mean_accuracy: over the
    classes that occur in the truth, of TP / (TP + FN). frequency_weighted_iou: IoU weighted by the share of the true
    pixels (Long et al., arXiv 1411.4038). Raises SightlineError where no pixel counts.
    """
    counts = summed(matrix)
    if not counts.truth.sum():
        why, cure = "every pixel of the truth is ignored", "check the masks, and what data.ignore leaves of them"
        raise SightlineError("there is nothing to measure", why=why, cure=cure)
    weighted = np.where(counts.truth > 0, counts.truth * class_iou(counts), 0).sum() / counts.truth.sum()
    numbers = {
        "mean_iou": mean_iou(counts),
        "pixel_accuracy": pixel_accuracy(counts),
        "frequency_weighted_iou": weighted,
        "mean_accuracy": mean_of_known(quotient(counts.hits, counts.truth)),
    }
    return {name: float(value) for name, value in numbers.items()}


def other_definitions(per_image: Confusion, with_ignored: np.ndarray | None = None) -> dict[str, Definition]:
    """Other numbers that tools print as mIoU, by name. Images without a counted pixel are left out of means of images.

    per_image: [N, K, K], [N, K, K + 1] or Counts [N, K]. with_ignored: [K + 1, K + 1] over the whole set, IGNORE as its
    last class (`confusion` with `ignored`); without it that definition is missing. The tools' code was read, and those
    of torchmetrics 1.9 and segmentation_models_pytorch 0.6 were run on the same masks.
    """
    images, whole = as_counts(per_image), summed(per_image)
    counted = images.truth.sum(-1) > 0
    iou, images_iou = class_iou(whole), class_iou(images)[counted]
    found: dict[str, tuple[Any, str]] = {
        "micro_iou": (
            micro_iou(whole),
            "pixels of all classes pooled before dividing, so that frequent classes decide; TorchGeo, "
            "segmentation_models_pytorch reduction='micro', torchmetrics JaccardIndex average='micro'",
        ),
        "mean_iou_absent_0": (
            np.nan_to_num(iou).mean(),
            "a class that occurs nowhere counts as 0; MMSegmentation and Hugging Face evaluate with nan_to_num=0",
        ),
        "mean_iou_absent_1": (
            np.nan_to_num(iou, nan=1.0).mean(),
            "a class that occurs nowhere counts as 1; segmentation_models_pytorch reduction='macro'",
        ),
        "mean_iou_over_images": (
            mean_of_known(mean_of_known(images_iou)),
            "mean over images of each image's mean over the classes that occur in it; torchmetrics' function mean_iou",
        ),
        "mean_iou_over_images_absent_0": (
            mean_of_known(np.nan_to_num(images_iou).mean(-1)),
            "the same, and a class that does not occur in an image counts as 0 there; torchmetrics "
            "segmentation.MeanIoU until 1.7.0",
        ),
        "mean_iou_over_images_absent_1": (
            mean_of_known(np.nan_to_num(images_iou, nan=1.0).mean(-1)),
            "the same, and a class that does not occur in an image counts as 1 there; segmentation_models_pytorch "
            "reduction='macro-imagewise'",
        ),
        "mean_iou_over_pairs": (
            mean_of_known(images_iou.ravel()),
            "mean over all pairs of an image and a class in it; torchmetrics segmentation.MeanIoU since 1.7.1",
        ),
        "micro_iou_over_images": (
            mean_of_known(micro_iou(images)),
            "mean over images of each image's pooled IoU; segmentation_models_pytorch reduction='micro-imagewise'",
        ),
    }
    if with_ignored is not None:
        found["mean_iou_with_ignored"] = (
            mean_iou(with_ignored),
            "the ignored class counts as one more class; any tool that was not told what to ignore",
        )
    return {name: Definition(float(value), meaning) for name, (value, meaning) in found.items()}


def interval(
    per_image: Confusion,
    statistic: Callable[[Counts], np.ndarray] = mean_iou,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Any, Any]:
    """(low, high) of a percentile bootstrap over images; deterministic by `seed`.

    per_image: [N, K, K] or Counts [N, K]. statistic: of Counts [resamples, K], such as `mean_iou` (then low and high
    are numbers) or `class_iou` (then float64 [K]). A statistic that is NaN in a resample, as the IoU of a class that
    is not in it, is left out there. NaN where fewer than two images have a counted pixel: nothing can vary.
    """
    counts = as_counts(per_image)
    values = np.concatenate([statistic(part) for part in resampled(counts, resamples, seed)])
    blank = np.isnan(values).all(axis=0) | ((counts.truth.sum(-1) > 0).sum() < 2)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.nanquantile(np.where(blank, 0.0, values), tails, axis=0)  # NumPy warns of columns of NaN
    return np.where(blank, np.nan, low)[()], np.where(blank, np.nan, high)[()]


def class_intervals(
    per_image: Confusion, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """`interval` of each class's IoU, (low, high), float64 [K] each; NaN for one that fewer than two images show."""
    counts = as_counts(per_image)
    low, high = interval(counts, class_iou, level, resamples, seed)
    alone = (counts.union > 0).sum(0) < 2
    return np.where(alone, np.nan, low), np.where(alone, np.nan, high)


def resampled(counts: Counts, resamples: int, seed: int) -> Iterator[Counts]:
    """Counts summed over N images drawn with replacement, [rows, K] at a time, `resamples` rows in all.

    How often each image is drawn is multinomial, and the sums are then one product of matrices.
    """
    flat = np.concatenate([counts.hits, counts.truth, counts.predicted], axis=-1).astype(np.float64)
    assert flat.ndim == 2 and len(flat), f"one row of counts an image, not {flat.shape}"
    rng, n = np.random.default_rng(seed), len(flat)
    rows = max(1, DRAWS // n)
    for start in range(0, resamples, rows):
        draws = rng.multinomial(n, np.full(n, 1 / n), min(rows, resamples - start))
        yield Counts(*np.split(draws @ flat, 3, axis=1))
