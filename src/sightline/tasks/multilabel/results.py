"""Results of a multi-label run: metrics with intervals, thresholds, predictions and the worst mistakes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ...data.image_cache import decode
from ...data.label_arrays import label_texts
from ...data.types import Batch, Decoded
from ...engine.evaluate import evaluate
from ...engine.parts import Arrays
from ...engine.state import Training
from ...engine.training_state import save_arrays, thumbnails
from ...insight.figures import draw_preview
from ...runs.atomic import write_json
from ...runs.checkpoint import load_model
from ...runs.run_folder import THRESHOLDS_FILE, shipped_checkpoints
from ...stats.groups import Groups, ids_in, said, write_groups
from ...stats.intervals import bracketed, effective_images
from ..whole_image.baselines import image_baselines
from ..whole_image.class_maps import save_class_maps
from .build import THRESHOLDS
from .metrics import MEANS, average_precision, choose_thresholds, decision_intervals, decisions, precision_intervals
from .predictions import write_predictions
from .task import MultilabelLearner

MISTAKES = 200
"""Maximum number of wrong validation images that are stored for the report."""


def results(training: Training) -> tuple[dict[str, Any], str]:
    """(the final metrics with their intervals, a sentence). Writes thresholds.json, predictions/val.csv and
    snapshots/mistakes.npz."""
    parts, folder, config = training.parts, training.folder, training.config
    size = config.train.eval_batch_size
    parts.learner.parameters().load_state_dict(load_model(shipped_checkpoints(folder)[0])[0])
    thresholds = np.full(len(parts.val.classes), 0.5)
    if THRESHOLDS in parts.source.splits:
        inner = decode(parts.source, THRESHOLDS, config.data.size, config.data, lambda text: None)
        assert isinstance(parts.learner, MultilabelLearner)
        learner = replace(parts.learner, feature_mask=None, fixed=None)  # both are of the validation images
        _, found = evaluate(learner, inner, size, parts.device)
        thresholds = choose_thresholds(found["label_probabilities"], found["labels"])
    write_json(folder / THRESHOLDS_FILE, dict(zip(parts.val.classes, thresholds.tolist(), strict=True)))
    numbers, arrays = evaluate(parts.learner, parts.val, size, parts.device)
    groups = write_groups(folder, "val", parts.val, config.data, parts.train.names)
    final: dict[str, Any] = {**numbers, **measured(arrays, thresholds, groups)}
    write_predictions(folder / "predictions" / "val.csv", parts.val, arrays["label_probabilities"], thresholds)
    save_mistakes(folder, parts.val, arrays, thresholds)
    assert isinstance(parts.learner, MultilabelLearner)
    save_class_maps(folder, config, parts.learner, parts.val, *explained(arrays, thresholds))
    if parts.dtype == torch.bfloat16 and parts.learner.fixed is None:  # fixed features are evaluated in float32 only
        _, half = evaluate(parts.learner, parts.val, size, parts.device, parts.dtype)
        changed = (half["label_probabilities"] >= thresholds) != (arrays["label_probabilities"] >= thresholds)
        final["bfloat16"] = {"changed": int(changed.sum()), "of": changed.size, "unit": "labels"}
    interval = bracketed(final["mean_average_precision_interval"])
    return final, f"mean average precision {final['mean_average_precision']:.4f}{interval}{said(groups, final)}"


def measured(arrays: Arrays, thresholds: np.ndarray, groups: Groups | None) -> dict[str, Any]:
    """The metrics with their intervals, from the arrays of `MultilabelLearner.numbers`."""
    probabilities, truth = arrays["label_probabilities"], arrays["labels"]
    ids = ids_in(groups)
    ranked = precision_intervals(probabilities, truth, ids)
    predicted = probabilities >= thresholds
    made, edges = decisions(predicted, truth), decision_intervals(predicted, truth, ids)
    return {
        "mean_average_precision": ranked.mean,
        "mean_average_precision_interval": list(ranked.interval),
        "classes_without_positive": int((~truth.any(0)).sum()),
        "classes_with_few_positives": ranked.few,
        **{name: float(getattr(made, name)[0]) for name in MEANS},
        **{f"{name}_interval": list(edges[name]) for name in MEANS},
        **(groups.facts(effective_images((predicted == truth).all(1), ids)) if groups else {}),
    }


def baselines(training: Training, flops: float) -> tuple[dict[str, float], list[str]]:
    """Mean average precisions that need no training, see `ImageBaselines`. flops: floating-point operations of the
    training."""

    def score(scores: np.ndarray, labels: np.ndarray) -> float:
        return float(np.nanmean(average_precision(scores, labels)))

    return image_baselines(training, flops, "class_frequencies", score)


def preview(training: Training, batch: Batch) -> Figure:
    """A figure of a training batch after augmentation, with its labels."""
    parts = training.parts
    assert isinstance(parts.learner, MultilabelLearner)
    images, targets = parts.learner.prepare(batch)
    texts = label_texts(targets.cpu().numpy() >= 0.5, parts.train.classes)
    distinct = tuple(dict.fromkeys(texts))
    rows = np.array([distinct.index(text) for text in texts])
    return draw_preview(images.float().cpu().numpy(), *parts.normalization, rows, distinct, parts.train.channels)


def save_mistakes(folder: Path, val: Decoded, arrays: Arrays, thresholds: np.ndarray) -> None:
    """Write snapshots/mistakes.npz: thumbnails of images with a wrong label set, those with the largest loss first."""
    worst = explained(arrays, thresholds)[0][:MISTAKES, 0]
    save_arrays(folder / "snapshots" / "mistakes.npz", {"images": thumbnails(val, worst), "index": worst})


def explained(arrays: Arrays, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (image, class) int64 [M, 2] of the images with a wrong label set, those with the largest loss first, each
    with its class that is decided wrongly by the largest margin; and of the others with a label, each with its most
    probable one."""
    probabilities, labels = arrays["label_probabilities"], arrays["labels"].astype(bool)
    different = (probabilities >= thresholds) != labels
    wrong, right = np.flatnonzero(different.any(1)), np.flatnonzero(~different.any(1) & labels.any(1))
    wrong = wrong[np.argsort(-arrays["losses"][wrong], kind="stable")]
    margin = np.where(different, np.abs(probabilities - thresholds), -1.0)[wrong].argmax(1)
    return np.stack([wrong, margin], 1), np.stack([right, probabilities[right].argmax(1)], 1)
