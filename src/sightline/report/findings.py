"""Compute the metrics, images and maps of a report from the files of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..insight.curves import History, history
from ..insight.features import unit_rows
from ..insight.projection import EpochMap, epoch_maps, why_no_map
from ..stats.calibration import SignedError, signed_error
from ..stats.groups import Groups, ids_in, read_groups
from ..stats.intervals import mean_interval
from ..stats.metrics import PerClass, calibration_error, confusion_matrix, most_confused, per_class
from ..stats.paired import holm
from ..stats.units import ids_of
from .formatting import epochs_text
from .run import Predictions, RunFiles, Snapshot, Thumbnails

PAIRS = 12
GALLERY_IMAGES = 24
IMAGES_PER_PAIR = 8
FEW = 5
"""Minimum number of images of a class for a statement on it; with fewer, it is too uncertain."""
MOST_GROUPS, MEMBERS = 10, 20
"""Maximum number of k-means clusters; minimum mean number of images per cluster."""


@dataclass(frozen=True)
class PredictionSummary:
    """Metrics of the N predictions in predictions/val.csv.

    interval: 95 % interval of the accuracy. groups: of the images, or None. confidence: float64 [N], of the predicted
    class. correct: bool [N]. confusion: int64 [K, K], rows: true class, columns: predicted class. classes: measures of
    each class. recall_intervals, precision_intervals: float64 [K, 2], over images or their groups; NaN without any, and
    with too few groups. pairs: (true class, predicted class, number of images) of the most confused classes.
    calibration: the expected calibration error. overconfidence: mean confidence minus accuracy. by_class: the same for
    the predictions of each class, with p values after Holm's correction for all classes.
    """

    accuracy: float
    interval: tuple[float, float]
    groups: Groups | None
    confidence: np.ndarray
    correct: np.ndarray
    confusion: np.ndarray
    classes: PerClass
    recall_intervals: np.ndarray
    precision_intervals: np.ndarray
    pairs: list[tuple[int, int, int]]
    calibration: float
    overconfidence: SignedError
    by_class: list[SignedError]


@dataclass(frozen=True)
class GalleryImage:
    """One validation image with its true and predicted class. image: uint8 [3, h, w]."""

    image: np.ndarray
    name: str
    truth: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Findings:
    """The content of a report on features and predicted classes.

    If the run lacks the files for a part, its list is empty or `summary` is None, and `notes` has the reason. wrong:
    the most confident mistakes. confused: (true class, predicted class, number of images, some of them) of the most
    confused classes. maps: PCA and t-SNE maps of the features of the M sample images. map_labels: int64 [M], their
    classes. training_maps, training_labels: the same for training images.
    """

    past: History
    summary: PredictionSummary | None
    wrong: list[GalleryImage]
    confused: list[tuple[str, str, int, list[GalleryImage]]]
    maps: list[EpochMap]
    map_labels: np.ndarray
    notes: tuple[str, ...]
    training_maps: list[EpochMap]
    training_labels: np.ndarray


def compute_findings(files: RunFiles, neighbors: bool = True) -> Findings:
    """Compute the content of the report. neighbors: whether to compute t-SNE, which takes seconds per epoch."""
    predictions, classes = files.predictions, len(files.classes)
    summary = summarize(predictions, read_groups(files.path, predictions.names)) if predictions else None
    labels, notes = labels_of(files.samples, files.snapshots, classes)
    maps = maps_of(files.snapshots, None if files.clustered else labels, neighbors) if len(labels) else []
    training, training_maps = np.zeros(0, dtype=np.int64), []
    if files.train_samples is not None:
        training, why = labels_of(files.train_samples, files.train_snapshots, classes)
        training_maps = maps_of(files.train_snapshots, training, neighbors) if len(training) else []
        notes += [f"of the training images: {reason}" for reason in why]
    wrong, confused = [], []
    if predictions and summary:
        images = images_by_row(files, len(predictions.names))
        wrong = most_wrong(predictions, summary.correct, images)
        confused = confused_pairs(predictions, summary.pairs, images)
    past = history(files.records)
    return Findings(past, summary, wrong, confused, maps, labels, tuple(notes), training_maps, training)


def maps_of(snapshots: tuple[Snapshot, ...], labels: np.ndarray | None, neighbors: bool = True) -> list[EpochMap]:
    """The maps of the features in the snapshots, one per epoch.

    labels: int64 [M], the classes for the k-NN accuracy and the silhouette; None to omit these.
    """
    return epoch_maps([s.epoch for s in snapshots], [s.features for s in snapshots], labels, neighbors)


def summarize(predictions: Predictions, groups: Groups | None) -> PredictionSummary:
    """Compute the metrics of the predictions. groups: of the images, or None."""
    correct, ids = predictions.predicted == predictions.truth, ids_in(groups)
    confusion = confusion_matrix(predictions.predicted, predictions.truth, len(predictions.classes))
    return PredictionSummary(
        accuracy=float(correct.mean()),
        interval=mean_interval(correct, ids),
        groups=groups,
        confidence=predictions.confidence,
        correct=correct,
        confusion=confusion,
        classes=per_class(confusion),
        recall_intervals=share_intervals(correct, predictions.truth, len(predictions.classes), ids),
        precision_intervals=share_intervals(correct, predictions.predicted, len(predictions.classes), ids),
        pairs=most_confused(confusion, PAIRS),
        calibration=calibration_error(predictions.confidence, correct),
        overconfidence=signed_error(predictions.confidence, correct, ids),
        by_class=overconfidence_by_class(predictions, correct, ids),
    )


def share_intervals(correct: np.ndarray, of: np.ndarray, classes: int, ids: np.ndarray | None) -> np.ndarray:
    """The interval of the share of correct images among those of each class, float64 [K, 2]; NaN if there is none. of:
    int64 [N], the class of each image. ids: int64 [N], of groups, or None."""
    edges = np.full((classes, 2), np.nan)
    for index in np.unique(of).tolist():
        rows = np.flatnonzero(of == index)
        edges[index] = mean_interval(correct[rows], None if ids is None else ids_of(ids[rows].tolist()))
    return edges


def without_map(snapshots: Sequence[Snapshot]) -> list[str]:
    """Notes on the epochs that have no map: their numbers and the reason."""
    reasons: dict[str, list[float]] = {}
    for one in snapshots:
        reasons.setdefault(why_no_map(one.features), []).append(one.epoch)
    return [f"no maps of {epochs_text(epochs)}: {why}" for why, epochs in reasons.items() if why]


def overconfidence_by_class(
    predictions: Predictions, correct: np.ndarray, groups: np.ndarray | None
) -> list[SignedError]:
    """The signed calibration error of the predictions of each class, with p values after Holm's correction.

    correct: bool [N]. groups: int64 [N] or None. A class with too few predictions, or groups, has the p value NaN.
    """
    found = []
    for index in range(len(predictions.classes)):
        rows = predictions.predicted == index
        ids = None if groups is None else ids_of(groups[rows].tolist())
        one = signed_error(predictions.confidence[rows], correct[rows], ids)
        found.append(one if rows.sum() >= FEW and one.low > -1 else one._replace(p=float("nan")))
    return [one._replace(p=p) for one, p in zip(found, holm([one.p for one in found]), strict=True)]


def labels_of(
    samples: Thumbnails | None, snapshots: tuple[Snapshot, ...], classes: int
) -> tuple[np.ndarray, list[str]]:
    """(class indices int64 [M] of the sample images, why maps of all or of some epochs cannot be drawn).

    The first is an empty array if no map can be drawn. classes: number of classes.
    """
    labels, why, notes = samples.labels if samples else None, "", without_map(snapshots)
    if not snapshots:
        why = "no maps: the run has no stored features (report.samples is 0, or no epoch has ended)"
    elif all(why_no_map(snapshot.features) for snapshot in snapshots):
        return np.zeros(0, dtype=np.int64), notes
    elif labels is None:
        why = "no maps: the labels are in snapshots/samples.npz, which is written when training ends"
    elif any(len(snapshot.features) != len(labels) for snapshot in snapshots):
        why = "no maps: the numbers of samples and of features differ in snapshots/"
    elif labels.min() < 0 or labels.max() >= classes:
        why = "no maps: snapshots/samples.npz has invalid labels"
    return (np.zeros(0, dtype=np.int64), [why]) if why or labels is None else (labels, notes)


def images_by_row(files: RunFiles, count: int) -> dict[int, np.ndarray]:
    """Thumbnails uint8 [3, h, w] of validation images, by the image's row in predictions/val.csv.

    Misclassified images come first, then the sample images. count: number of rows of the file.
    """
    found: dict[int, np.ndarray] = {}
    for kept in filter(None, (files.mistakes, files.samples)):
        rows = zip(kept.rows.tolist(), kept.images, strict=True)
        found |= {row: image for row, image in rows if 0 <= row < count and row not in found}
    return found


def gallery_image(predictions: Predictions, row: int, image: np.ndarray) -> GalleryImage:
    """The gallery image of one row of the predictions. image: its thumbnail, uint8 [3, h, w]."""
    classes = predictions.classes
    truth, predicted = classes[predictions.truth[row]], classes[predictions.predicted[row]]
    return GalleryImage(image, predictions.names[row], truth, predicted, float(predictions.confidence[row]))


def most_wrong(predictions: Predictions, correct: np.ndarray, images: Mapping[int, np.ndarray]) -> list[GalleryImage]:
    """The misclassified images with a thumbnail, the most confident mistake first, at most GALLERY_IMAGES.

    correct: bool [N], whether each prediction is correct. images: thumbnails by row in predictions/val.csv.
    """
    rows = sorted((row for row in images if not correct[row]), key=lambda row: (-predictions.confidence[row], row))
    return [gallery_image(predictions, row, images[row]) for row in rows[:GALLERY_IMAGES]]


def confused_pairs(
    predictions: Predictions, pairs: list[tuple[int, int, int]], images: Mapping[int, np.ndarray]
) -> list[tuple[str, str, int, list[GalleryImage]]]:
    """(true class, predicted class, number of images, images) of the most confused classes.

    pairs: (true class, predicted class, number of images). Only images with a thumbnail are included.
    """
    result = []
    for truth, predicted, count in pairs:
        both = (predictions.truth == truth) & (predictions.predicted == predicted)
        examples = most_wrong(predictions, ~both, images)[:IMAGES_PER_PAIR]
        result.append((predictions.classes[truth], predictions.classes[predicted], count, examples))
    return result


def with_clusters(files: RunFiles) -> RunFiles:
    """If the sample images of a run have no labels, use clusters of their features as classes; else return `files`
    unchanged.

    The clusters are computed by k-means on the features of the last epoch that has a map, normalized to unit length,
    and numbered by descending size. An accuracy must not be computed with them, because they depend on the features.
    """
    samples, snapshots = files.samples, files.snapshots
    usable = [one.features for one in snapshots if not why_no_map(one.features)]
    if samples is None or samples.labels is not None or not usable or len(usable[-1]) != len(samples.rows):
        return files
    labels = cluster_labels(usable[-1])
    names = tuple(f"group {number}" for number in range(1, int(labels.max()) + 2))
    return replace(files, samples=replace(samples, labels=labels), classes=names, clustered=True)


def cluster_labels(features: np.ndarray) -> np.ndarray:
    """The k-means cluster of each row of `features` [N, D], int64 [N]. Deterministic.

    Clusters are numbered from 0 by descending size.
    """
    from sklearn.cluster import KMeans

    unit = unit_rows(features)
    count = min(max(2, min(MOST_GROUPS, len(unit) // MEMBERS)), len(np.unique(unit, axis=0)))
    found = KMeans(count, n_init=4, random_state=0).fit(unit).labels_
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    return np.argsort(order, kind="stable")[found].astype(np.int64)
