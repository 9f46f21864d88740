"""Segmentation metrics over a whole data set, from confusion matrices; without torch, for a fast start of `score`.

Masks hold class indices 0..K-1 or IGNORE. Pixels whose truth is IGNORE are not counted. Confusion matrices are int64,
row = true class, column = predicted class: [K, K], or [N, K, K] for one per image. A matrix [K, K + 1] has one more
column, for pixels without a predicted class. These are false negatives of their true class, and false positives of no
class.

TP, FP and FN (true positives, false positives, false negatives) of a class are summed over the whole set before
division. `segment_numbers` has the main metrics; `other_definitions` has those that other tools call mIoU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..data.decode.palettes import IGNORE
from ..errors import SightlineError
from .intervals import NONE, Estimate, jackknife
from .units import FEWEST, blocks, effective_units, ids_of, sums

BLOCK = 2**18
"""Number of pixels that are counted at a time, so that they stay in the CPU cache and memory is limited."""
HEADLINE = (
    "mean over the classes that occur in truth or prediction of TP / (TP + FP + FN), summed over the whole set without "
    "ignored pixels; MMSegmentation, Hugging Face evaluate, torchmetrics JaccardIndex average='macro'"
)


@dataclass(frozen=True)
class Counts:
    """Number of pixels of each class, int64 [..., K]: hits (TP), truth (TP + FN), predicted (TP + FP).

    All metrics can be computed from these. For many images they need less memory than confusion matrices. The functions
    of this module accept both.
    """

    hits: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray

    @property
    def union(self) -> np.ndarray:
        """TP + FP + FN; 0 if a class occurs in neither truth nor prediction."""
        return self.truth + self.predicted - self.hits


class ClassNumbers(NamedTuple):
    """One number per class, float64 [K], NaN for 0 / 0; support int64 [K] is the number of true pixels."""

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    support: np.ndarray


class Definition(NamedTuple):
    """A metric that other tools call mIoU: its value, its definition, and the names of the tools."""

    value: float
    meaning: str


Confusion = np.ndarray | Counts


def to_masks(masks: Any) -> np.ndarray:
    """Convert masks (arrays, or tensors on any device) to a NumPy array of integers."""
    array = np.asarray(masks.detach().cpu() if hasattr(masks, "detach") else masks)
    array = array.view(np.uint8) if array.dtype == bool else array
    assert array.dtype.kind in "ui", f"masks of {array.dtype}: class indices are integers"
    return array


def confusion(predicted: Any, truth: Any, classes: int, ignored: bool = False) -> np.ndarray:
    """Confusion matrix int64 [classes, classes], row = true class, over all pixels of two masks (or stacks of masks) of
    one shape.

    ignored: return [classes + 1, classes + 1] instead, in which IGNORE counts as the last class. Otherwise IGNORE may
    be predicted only where the truth is IGNORE. Raises SightlineError with the values that are neither a class nor
    IGNORE.
    """
    predicted, truth = to_masks(predicted), to_masks(truth)
    assert predicted.shape == truth.shape, f"predictions {predicted.shape} for truth {truth.shape}"
    assert 1 <= classes < IGNORE, f"{classes} classes"
    side = classes + 1
    # side^2 cells fit in a byte for up to 15 classes, which is faster, and always in 16 bits.
    cell = np.uint8 if side * side <= 256 else np.uint16
    counts = np.zeros(side * side, dtype=np.int64)
    predicted, truth = predicted.ravel(), truth.ravel()
    for start in range(0, len(truth), BLOCK):
        rows, columns = truth[start : start + BLOCK], predicted[start : start + BLOCK]
        require_class_indices(columns, rows, classes)
        rows, columns = (np.minimum(part, classes).astype(cell) for part in (rows, columns))
        counts += np.bincount(rows * cell(side) + columns, minlength=side * side)
    matrix = counts.reshape(side, side)
    if ignored:
        return matrix
    missing = int(matrix[:-1, -1].sum())
    if missing:
        raise SightlineError(
            f"{missing:,} pixels are predicted as {IGNORE} (ignored), but their true label is a class",
            cure=f"predict a class index, 0 to {classes - 1}, for every pixel",
        )
    return np.ascontiguousarray(matrix[:-1, :-1])


def require_class_indices(predicted: np.ndarray, truth: np.ndarray, classes: int) -> None:
    """Raise SightlineError for values that are neither a class nor IGNORE."""
    faults = []
    for name, values in (("predicted masks", predicted), ("true masks", truth)):
        wrong = (values >= classes) & (values != IGNORE)
        if values.dtype.kind == "i":
            wrong |= values < 0
        if wrong.any():
            found = np.unique(values[wrong]).tolist()
            faults.append(f"{name} contain {', '.join(map(str, found[:10]))}{' ...' * (len(found) > 10)}")
    if faults:
        what = f"{' and '.join(faults)}, but the class indices are 0 to {classes - 1}"
        raise SightlineError(
            what, cure=f"pass the number of classes of these masks; write {IGNORE} for pixels to ignore"
        )


def confusion_per_image(predicted: Any, truth: Any, classes: int, ignored: bool = False) -> np.ndarray:
    """Confusion matrix of each image, int64 [N, classes, classes], from masks [N, H, W]; see `confusion`."""
    pairs = zip(to_masks(predicted), to_masks(truth), strict=True)
    matrices = [confusion(*pair, classes, ignored) for pair in pairs]
    return np.array(matrices, dtype=np.int64).reshape(-1, classes + ignored, classes + ignored)


def as_counts(matrix: Confusion) -> Counts:
    """Convert confusion matrices [..., K, K] or [..., K, K + 1] to Counts [..., K]; Counts are returned unchanged."""
    if isinstance(matrix, Counts):
        return matrix
    classes = matrix.shape[-2]
    assert matrix.ndim >= 2 and matrix.shape[-1] in (classes, classes + 1), f"confusion {matrix.shape}"
    truth, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)[..., :classes]
    return Counts(np.diagonal(matrix, axis1=-2, axis2=-1), truth, predicted)


def summed(matrix: Confusion) -> Counts:
    """Counts [K] over the whole set, from a single confusion matrix, or from one matrix or Counts per image."""
    counts = as_counts(matrix)
    return Counts(*(part.reshape(-1, part.shape[-1]).sum(0) for part in (counts.hits, counts.truth, counts.predicted)))


def quotient(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole as float64, NaN where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN values; NaN if all are NaN."""
    valid = ~np.isnan(values)
    return quotient(np.where(valid, values, 0).sum(-1), valid.sum(-1))


def class_iou(matrix: Confusion) -> np.ndarray:
    """TP / (TP + FP + FN) of each class, float64 [..., K]; NaN for classes in neither truth nor prediction."""
    counts = as_counts(matrix)
    return quotient(counts.hits, counts.union)


def mean_iou(matrix: Confusion) -> np.ndarray:
    """Mean of the IoU over the classes that occur in truth or prediction, [...]; NaN if all pixels are ignored."""
    return nan_mean(class_iou(matrix))


per_image_iou = mean_iou
"""Mean IoU of each image from matrices [N, K, K]: float64 [N]; NaN for images of ignored pixels only."""


def pixel_accuracy(matrix: Confusion) -> np.ndarray:
    """Share of the pixels that have the correct class, [...]; ignored pixels are not counted."""
    counts = as_counts(matrix)
    return quotient(counts.hits.sum(-1), counts.truth.sum(-1))


def micro_iou(matrix: Confusion) -> np.ndarray:
    """TP / (TP + FP + FN), [...]; each of the three is summed over the classes before division."""
    counts = as_counts(matrix)
    return quotient(counts.hits.sum(-1), counts.union.sum(-1))


def class_numbers(matrix: Confusion) -> ClassNumbers:
    """IoU, precision, recall and support of each class over the whole set."""
    counts = summed(matrix)
    precision, recall = quotient(counts.hits, counts.predicted), quotient(counts.hits, counts.truth)
    return ClassNumbers(class_iou(counts), precision, recall, counts.truth)


def segment_numbers(matrix: Confusion) -> dict[str, float]:
    """Metrics of a set of images: mean_iou, pixel_accuracy, frequency_weighted_iou, mean_accuracy.

    mean_iou: mean of TP / (TP + FP + FN) over the classes that occur in truth or prediction. mean_accuracy: mean of TP
    / (TP + FN) over the classes that occur in the truth. frequency_weighted_iou: mean of the IoU, weighted by the share
    of true pixels (Long et al., arXiv 1411.4038). Raises SightlineError if all pixels are ignored.
    """
    counts = summed(matrix)
    if not counts.truth.sum():
        why, cure = (
            "every pixel of the true masks is ignored",
            "correct --data.ignore, and check that these are the right masks",
        )
        raise SightlineError("no pixel can be evaluated", why=why, cure=cure)
    weighted = np.where(counts.truth > 0, counts.truth * class_iou(counts), 0).sum() / counts.truth.sum()
    numbers = {
        "mean_iou": mean_iou(counts),
        "pixel_accuracy": pixel_accuracy(counts),
        "frequency_weighted_iou": weighted,
        "mean_accuracy": nan_mean(quotient(counts.hits, counts.truth)),
    }
    return {name: float(value) for name, value in numbers.items()}


def other_definitions(per_image: Confusion, with_ignored: np.ndarray | None = None) -> dict[str, Definition]:
    """Metrics that other tools call mIoU, by name. Means over images leave out images that have only ignored pixels.

    per_image: [N, K, K], [N, K, K + 1] or Counts [N, K]. with_ignored: confusion matrix [K + 1, K + 1] over the whole
    set, in which IGNORE is the last class (`confusion` with `ignored`); None leaves out the two definitions that need
    it.

    The definitions are those in the code of the tools; torchmetrics 1.9 and segmentation_models_pytorch 0.6 were also
    run on the same masks.
    """
    images, total = as_counts(per_image), summed(per_image)
    counted = images.truth.sum(-1) > 0
    iou, images_iou = class_iou(total), class_iou(images)[counted]
    definitions: dict[str, tuple[Any, str]] = {
        "micro_iou": (
            micro_iou(total),
            "pixels of all classes pooled before division, so that frequent classes dominate; TorchGeo, "
            "segmentation_models_pytorch reduction='micro', torchmetrics JaccardIndex average='micro'",
        ),
        "mean_iou_absent_0": (
            np.nan_to_num(iou).mean(),
            "classes that do not occur count as 0; MMSegmentation and Hugging Face evaluate with nan_to_num=0",
        ),
        "mean_iou_absent_1": (
            np.nan_to_num(iou, nan=1.0).mean(),
            "classes that do not occur count as 1; segmentation_models_pytorch reduction='macro'",
        ),
        "mean_iou_over_images": (
            nan_mean(nan_mean(images_iou)),
            "mean over images of each image's mean over the classes that occur in it; torchmetrics' function mean_iou",
        ),
        "mean_iou_over_images_absent_0": (
            nan_mean(np.nan_to_num(images_iou).mean(-1)),
            "mean over images of each image's mean over all classes, 0 for those that do not occur in it; torchmetrics "
            "segmentation.MeanIoU until 1.7.0",
        ),
        "mean_iou_over_images_absent_1": (
            nan_mean(np.nan_to_num(images_iou, nan=1.0).mean(-1)),
            "mean over images of each image's mean over all classes, 1 for those that do not occur in it; "
            "segmentation_models_pytorch reduction='macro-imagewise'",
        ),
        "mean_iou_over_pairs": (
            nan_mean(images_iou.ravel()),
            "mean over all pairs of an image and a class in it; torchmetrics segmentation.MeanIoU since 1.7.1",
        ),
        "micro_iou_over_images": (
            nan_mean(micro_iou(images)),
            "mean over images of each image's pooled IoU; segmentation_models_pytorch reduction='micro-imagewise'",
        ),
    }
    if with_ignored is not None:
        definitions["mean_iou_with_ignored"] = (
            mean_iou(with_ignored),
            "ignored pixels are one more class; any tool in which the ignored class is not configured",
        )
        definitions["mean_iou_course"] = (
            nan_mean(class_iou(with_ignored)[:-1]),
            "mean over the classes without the ignored one, counted over all pixels: a class predicted on an ignored "
            "pixel is a false positive; the course reports that the recipes follow",
        )
    return {name: Definition(float(value), meaning) for name, (value, meaning) in definitions.items()}


Statistic = Callable[[Counts], np.ndarray]
"""A metric of Counts [..., K], such as `mean_iou` ([...]) or `class_iou` ([..., K])."""


def estimate(per_image: Confusion, statistic: Statistic = mean_iou, groups: np.ndarray | None = None) -> Estimate:
    """Estimate a metric, a share of 1, of a set of images by a jackknife over the images or their groups.

    per_image: confusion matrices [N, K, K] or Counts [N, K]. Images whose pixels are all ignored are left out.
    """
    counts, groups = labeled(as_counts(per_image), groups)
    full, left_out = left_out_values(counts, statistic, groups)
    effective = effective_units(len(counts.truth), groups)
    if np.ndim(full):  # a value for each class
        effective = np.minimum(effective, units_with_class(counts, groups))
    return jackknife(full, left_out, effective, share=True)


def interval(
    per_image: Confusion, statistic: Statistic = mean_iou, groups: np.ndarray | None = None
) -> tuple[Any, Any]:
    """The 95 % interval (low, high) of a metric, see `estimate`; NaN for fewer than FEWEST images or groups.

    The mean IoU has none either if any of its classes has true pixels in fewer: one image would decide its IoU.
    """
    if statistic is mean_iou and rare_classes(per_image, groups).any():
        return NONE
    return estimate(per_image, statistic, groups).interval()


def effective_images(per_image: Confusion, groups: np.ndarray) -> float:
    """The number of independent images whose mean IoU is as precise as that of these images in groups, at most N."""
    alone, together = (float(estimate(per_image, mean_iou, ids).error) for ids in (None, groups))
    count = len(as_counts(per_image).truth)
    return count * min(1.0, (alone / together) ** 2) if together > 0 else float(count)


def class_intervals(per_image: Confusion, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Intervals (low, high) of each class's IoU, float64 [K] each; NaN if in fewer than FEWEST images or groups."""
    counts = as_counts(per_image)
    low, high = estimate(counts, class_iou, groups).interval()
    few = units_with_class(counts, groups) < FEWEST
    return np.where(few, np.nan, low), np.where(few, np.nan, high)


def labeled(counts: Counts, groups: np.ndarray | None) -> tuple[Counts, np.ndarray | None]:
    """The counts and groups of the images that have a pixel that is not ignored."""
    kept = counts.truth.sum(-1) > 0
    if kept.all():
        return counts, groups
    groups = None if groups is None else ids_of(groups[kept].tolist())
    return Counts(counts.hits[kept], counts.truth[kept], counts.predicted[kept]), groups


def units_with_class(counts: Counts, groups: np.ndarray | None) -> np.ndarray:
    """In how many images or groups each class has true pixels, int64 [K]."""
    return (sums(counts.truth.astype(np.int64), groups) > 0).sum(0)


def rare_classes(per_image: Confusion, groups: np.ndarray | None = None) -> np.ndarray:
    """Which classes count in the mean IoU, but have true pixels in fewer than FEWEST images or groups, bool [K]."""
    counts = as_counts(per_image)
    return (summed(counts).union > 0) & (units_with_class(counts, groups) < FEWEST)


def left_out_values(counts: Counts, statistic: Statistic, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(the statistic of all images, its values [B, ...] without each block of complete images or groups)."""
    flat = np.stack([counts.hits, counts.truth, counts.predicted], axis=1).astype(np.float64)
    parts, total = sums(flat, blocks(len(flat), groups)), flat.sum(0)
    rest = np.moveaxis(total - parts, 1, 0)
    return statistic(Counts(*total)), statistic(Counts(*rest))
