"""Final results of a classifier: metrics with intervals, predictions, and the most confident mistakes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ...data.types import Batch, Decoded
from ...engine.evaluate import evaluate
from ...engine.parts import Arrays, Learner
from ...engine.state import Training
from ...engine.training_state import save_arrays, thumbnails
from ...insight.figures import draw_preview
from ...runs.atomic import atomic_write
from ...runs.checkpoint import load_model
from ...runs.csv_io import RUN_COLUMNS, class_columns, csv_text
from ...runs.run_folder import shipped_checkpoints
from ...stats.groups import said, write_groups
from ...stats.intervals import bracketed
from ...stats.metrics import accuracy, knn_votes
from ..whole_image.baselines import image_baselines
from ..whole_image.class_maps import save_class_maps
from .task import ClassifyLearner, classification_intervals, classification_numbers, negative_log_likelihood

MISTAKES = 200
"""Maximum number of misclassified validation images that are stored for the report."""


def results(training: Training) -> tuple[dict[str, Any], str]:
    """Evaluate the trained classifier; returns (metrics with their intervals, a sentence on the result).

    A linear evaluation also has `knn_accuracy`, that of k-nearest neighbors by the same features. Writes
    predictions/val.csv and snapshots/mistakes.npz.
    """
    parts, folder = training.parts, training.folder
    folders, size = shipped_checkpoints(folder), training.config.train.eval_batch_size
    numbers, arrays = evaluate_checkpoints(parts.learner, folders, parts.val, size, parts.device)
    groups = write_groups(folder, "val", parts.val, training.config.data, parts.train.names)
    intervals = classification_intervals(arrays, groups)
    write_predictions(folder / "predictions" / "val.csv", parts.val, arrays["probabilities"])
    save_mistakes(folder, parts.val, arrays)
    assert isinstance(parts.learner, ClassifyLearner)
    save_class_maps(folder, training.config, parts.learner, parts.val, *explained(arrays))
    if parts.dtype == torch.bfloat16 and parts.learner.fixed is None:  # fixed features are evaluated in float32 only
        _, half = evaluate_checkpoints(parts.learner, folders, parts.val, size, parts.device, parts.dtype)
        changed = half["probabilities"].argmax(1) != arrays["probabilities"].argmax(1)
        intervals["bfloat16"] = {"changed": int(changed.sum()), "of": changed.size, "unit": "images"}
    edges = bracketed(intervals["accuracy_interval"])
    sentence = f"validation accuracy {numbers['accuracy']:.4f}{edges}{said(groups, intervals)}"
    if "auc" in intervals:
        sentence += f", AUC {intervals['auc']:.4f}{bracketed(intervals['auc_interval'])}"
    if training.config.optim.name == "lbfgs":
        assert parts.learner.fixed is not None
        bank, queries = (features() for features in parts.learner.fixed)
        numbers |= {"knn_accuracy": nearest_accuracy(bank, parts.train.labels, queries, parts.val.labels)}
        sentence += f", k-NN {numbers['knn_accuracy']:.4f}"
    return numbers | intervals, sentence


def neighbors(learner: Learner, splits: tuple[Decoded, Decoded], batch_size: int, device: torch.device) -> float:
    """Accuracy of k-nearest neighbors by features in float32, of the second split by the images of the first."""
    assert isinstance(learner, ClassifyLearner)
    parts = []
    for split in splits:
        _, arrays = evaluate(learner, split, batch_size, device, torch.float32, learner.plain_features)
        parts += [torch.from_numpy(arrays["features"]), split.labels]
    return nearest_accuracy(*parts)


def nearest_accuracy(
    bank: torch.Tensor, labels: np.ndarray | None, queries: torch.Tensor, truth: np.ndarray | None
) -> float:
    """Accuracy of k-nearest-neighbor classification (`knn_votes`) of `queries` [M, D] by the images of `bank` [N, D].

    labels: int64 [N], of the bank. truth: int64 [M].
    """
    assert labels is not None and truth is not None
    classes = int(max(labels.max(), truth.max())) + 1
    predicted = knn_votes(bank, torch.from_numpy(labels).to(bank.device), queries, classes).argmax(1)
    return float((predicted.cpu().numpy() == truth).mean())


def baselines(training: Training, flops: float) -> tuple[dict[str, float], list[str]]:
    """Accuracies that need no training, see `ImageBaselines`. flops: floating-point operations of the training."""
    return image_baselines(training, flops, "most_frequent_class", accuracy)


def preview(training: Training, batch: Batch) -> Figure:
    """Draw the images of a training batch after augmentation, with their labels."""
    parts = training.parts
    assert isinstance(parts.learner, ClassifyLearner)
    images, targets = parts.learner.prepare(batch)
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    pixels = images.float().cpu().numpy()
    return draw_preview(pixels, *parts.normalization, labels.cpu().numpy(), parts.train.classes, parts.train.channels)


def save_mistakes(folder: Path, val: Decoded, arrays: Arrays) -> None:
    """Write snapshots/mistakes.npz: thumbnails of up to MISTAKES misclassified images, the most confident mistake
    first."""
    worst = explained(arrays)[0][:MISTAKES, 0]
    save_arrays(folder / "snapshots" / "mistakes.npz", {"images": thumbnails(val, worst), "index": worst})


def explained(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """(the wrong predictions, the most confident first: int64 [M, 3], rows (image, predicted class, true class); the
    right ones in the order of the images: int64 [N - M, 2], rows (image, class))."""
    probabilities, labels = arrays["probabilities"], arrays["labels"]
    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    wrong, right = np.flatnonzero(predicted != labels), np.flatnonzero(predicted == labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return np.stack([wrong, predicted[wrong], labels[wrong]], 1), np.stack([right, predicted[right]], 1)


def evaluate_checkpoints(
    learner: Learner,
    folders: list[Path],
    decoded: Decoded,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> tuple[dict[str, Any], Arrays]:
    """(metrics, arrays) of one checkpoint or of an ensemble, whose probabilities are the mean over its members.

    folders: the checkpoints. For an ensemble, the metrics also have its members (`ensemble`) and the best accuracy of a
    single member (`best_single`).
    """
    members = []
    for folder in folders:
        learner.parameters().load_state_dict(load_model(folder)[0])
        members.append(evaluate(learner, decoded, batch_size, device, dtype))
    numbers, arrays = members[-1]
    if len(folders) == 1:
        return numbers, arrays
    probabilities = np.stack([found["probabilities"] for _, found in members]).mean(0, dtype=np.float64)
    mean, labels = torch.from_numpy(probabilities.astype(np.float32)), torch.from_numpy(arrays["labels"])
    losses, best = negative_log_likelihood(mean, labels), max(found["accuracy"] for found, _ in members)
    numbers = classification_numbers(mean, labels, losses)
    arrays |= {"probabilities": mean.numpy(), "losses": losses.numpy()}
    return numbers | {"ensemble": [folder.name for folder in folders], "best_single": best}, arrays


def write_predictions(path: Path, decoded: Decoded, probabilities: np.ndarray) -> Path:
    """Write a CSV with one row per image: filename, label (predicted), truth, confidence, the probability of each
    class.

    truth is empty without labels. probabilities: float [N, K], written with nine digits, so that a float32 is read back
    exactly.
    """
    predicted = probabilities.argmax(1)
    confidence = probabilities.max(1)
    truth = [""] * len(predicted) if decoded.labels is None else [decoded.classes[i] for i in decoded.labels]

    def rows() -> Iterator[list[str]]:
        yield [*RUN_COLUMNS, *class_columns(decoded.classes)]
        for row, name in enumerate(decoded.names):
            values = [f"{value:.9g}" for value in probabilities[row]]
            yield [name, decoded.classes[predicted[row]], truth[row], f"{confidence[row]:.9g}", *values]

    return atomic_write(path, csv_text(rows()))
