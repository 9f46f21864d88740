"""Every number of the report, computed once from a run's files."""

from dataclasses import dataclass

import numpy as np

from ..insight.curves import History, history, number
from ..insight.projection import FEWEST, EpochMap, epoch_maps
from ..stats.intervals import bootstrap_interval
from ..stats.metrics import PerClass, calibration_error, confusion_matrix, most_confused, per_class
from .run import Pictures, Predictions, RunFiles, Snapshot

PAIRS = 12
TILES = 24
TILES_PER_PAIR = 8


@dataclass(frozen=True)
class Verdict:
    """What predictions/val.csv says. accuracy, interval (95 %, bootstrap over images) and baseline (always the most
    frequent class) are shares; confusion int64 [K, K], rows the truth; pairs (truth, prediction, count)."""

    accuracy: float
    interval: tuple[float, float]
    baseline: float
    confidence: np.ndarray
    correct: np.ndarray
    confusion: np.ndarray
    classes: PerClass
    pairs: list[tuple[int, int, int]]
    calibration: float


@dataclass(frozen=True)
class Tile:
    """One validation image with what the model says of it. image: uint8 [3, h, w]."""

    image: np.ndarray
    name: str
    truth: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Findings:
    """The content of the report. Lists are empty and the verdict None where the run lacks their files; `maps` are of
    the samples with `map_labels`, int64 [M]. `notes` say why something could not be computed. `training_maps`: the same
    of training images, where these were followed."""

    past: History
    verdict: Verdict | None
    wrong: list[Tile]
    confused: list[tuple[str, str, int, list[Tile]]]
    maps: list[EpochMap]
    map_labels: np.ndarray
    notes: tuple[str, ...]
    training_maps: list[EpochMap]
    training_labels: np.ndarray


def find(files: RunFiles, neighbors: bool = True) -> Findings:
    """All numbers, pictures and maps of the report. neighbors: t-SNE too, which takes seconds an epoch."""
    predictions, notes = files.predictions, []
    verdict = judge(predictions, seed_of(files)) if predictions else None
    labels, why = map_labels(files)
    if why:
        notes.append(why)
    maps = [] if why else maps_of(files.snapshots, None if files.grouped else labels, neighbors)
    taught, training_maps = np.zeros(0, dtype=np.int64), []
    if files.train_samples is not None:
        taught, why = labels_of(files.train_samples, files.train_snapshots, len(files.classes))
        training_maps = [] if why else maps_of(files.train_snapshots, taught, neighbors)
        notes += [f"of the training images: {why}"] * bool(why)
    wrong, confused = [], []
    if predictions and verdict:
        pictures = pictures_by_row(files, len(predictions.names))
        wrong = most_wrong(predictions, verdict.correct, pictures)
        confused = confused_pairs(predictions, verdict.pairs, pictures)
    past = history(files.records)
    return Findings(past, verdict, wrong, confused, maps, labels, tuple(notes), training_maps, taught)


def maps_of(snapshots: tuple[Snapshot, ...], labels: np.ndarray | None, neighbors: bool = True) -> list[EpochMap]:
    """The maps of the snapshots' epochs."""
    return epoch_maps([s.epoch for s in snapshots], [s.features for s in snapshots], labels, neighbors)


def seed_of(files: RunFiles) -> int:
    """The run's seed, so that the interval is the one that training printed."""
    train = files.recipe.get("train")
    return max(0, int(number(train.get("seed"), 0))) if isinstance(train, dict) else 0


def judge(predictions: Predictions, seed: int) -> Verdict:
    """The numbers of the predictions."""
    correct = predictions.predicted == predictions.truth
    confusion = confusion_matrix(predictions.predicted, predictions.truth, len(predictions.classes))
    return Verdict(
        accuracy=float(correct.mean()),
        interval=bootstrap_interval(correct, seed=seed),
        baseline=float(confusion.sum(1).max() / len(correct)),
        confidence=predictions.confidence,
        correct=correct,
        confusion=confusion,
        classes=per_class(confusion),
        pairs=most_confused(confusion, PAIRS),
        calibration=calibration_error(predictions.confidence, correct),
    )


def map_labels(files: RunFiles) -> tuple[np.ndarray, str]:
    """True classes int64 [M] of the samples in the snapshots, and why there can be no maps, or ""."""
    none = np.zeros(0, dtype=np.int64)
    if not files.snapshots:
        return none, "no maps: the run kept no features (report.samples: 0, or no epoch is done yet)"
    if files.samples is None or files.samples.labels is None:
        return none, "no maps: their labels are in snapshots/samples.npz, which is written when training ends"
    return labels_of(files.samples, files.snapshots, len(files.classes))


def labels_of(samples: Pictures, snapshots: tuple[Snapshot, ...], classes: int) -> tuple[np.ndarray, str]:
    """True classes int64 [M] of samples, and why there can be no maps of their snapshots, or ""."""
    none, labels = np.zeros(0, dtype=np.int64), samples.labels
    if labels is None:
        return none, "no maps: the samples have no labels"
    if any(len(snapshot.features) != len(labels) for snapshot in snapshots):
        return none, "no maps: snapshots/samples.npz is of other samples than the features"
    if len(labels) < FEWEST:
        return none, f"no maps: {len(labels)} samples are too few, {FEWEST} are needed"
    if labels.min() < 0 or labels.max() >= classes:
        return none, "no maps: snapshots/samples.npz has labels outside of the classes"
    return labels, ""


def pictures_by_row(files: RunFiles, count: int) -> dict[int, np.ndarray]:
    """Thumbnail of each row of predictions/val.csv that has one; mistakes first, most confident first."""
    found: dict[int, np.ndarray] = {}
    for pictures in (files.mistakes, files.samples):
        found |= {row: image for row, image in rows_of(pictures, count) if row not in found}
    return found


def rows_of(pictures: Pictures | None, count: int) -> list[tuple[int, np.ndarray]]:
    """(row, image) of pictures whose row exists."""
    if pictures is None:
        return []
    return [(int(r), image) for r, image in zip(pictures.rows, pictures.images, strict=True) if 0 <= r < count]


def tile(predictions: Predictions, row: int, image: np.ndarray) -> Tile:
    """One row of the predictions with its picture."""
    classes = predictions.classes
    truth, predicted = classes[predictions.truth[row]], classes[predictions.predicted[row]]
    return Tile(image, predictions.names[row], truth, predicted, float(predictions.confidence[row]))


def most_wrong(predictions: Predictions, correct: np.ndarray, pictures: dict[int, np.ndarray]) -> list[Tile]:
    """The wrong predictions with a picture, most confident first."""
    rows = sorted((row for row in pictures if not correct[row]), key=lambda row: (-predictions.confidence[row], row))
    return [tile(predictions, row, pictures[row]) for row in rows[:TILES]]


def confused_pairs(
    predictions: Predictions, pairs: list[tuple[int, int, int]], pictures: dict[int, np.ndarray]
) -> list[tuple[str, str, int, list[Tile]]]:
    """(truth, prediction, count, tiles) of the most confused pairs; a pair may have fewer pictures than mistakes."""
    result = []
    for truth, predicted, count in pairs:
        both = (predictions.truth == truth) & (predictions.predicted == predicted)
        rows = [int(row) for row in np.flatnonzero(both) if int(row) in pictures]
        rows.sort(key=lambda row: (-predictions.confidence[row], row))
        tiles = [tile(predictions, row, pictures[row]) for row in rows[:TILES_PER_PAIR]]
        result.append((predictions.classes[truth], predictions.classes[predicted], count, tiles))
    return result
