"""Final metrics of a pre-training run, and a preview of its augmented views."""

from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure

from ...data.types import Batch
from ...engine.evaluate import evaluate
from ...engine.state import Training
from ...insight.figures import denormalized, draw_image_grid
from ...runs.checkpoint import load_model
from ...runs.run_folder import shipped_checkpoints
from ...stats.groups import said, write_groups
from ...stats.intervals import bracketed
from ...stats.metrics import accuracy
from ..whole_image.baselines import ImageBaselines
from .build import build_siamese
from .config import PretrainConfig
from .probe import evaluated_data
from .task import PretrainLearner, pretraining_intervals

COLUMNS, PREVIEWED = 8, 16
"""Maximum numbers of views in a row of the preview, if an image has no more, and of its images."""


def results(training: Training) -> tuple[dict[str, Any], str]:
    """Evaluate the trained network; returns (metrics with their intervals, a sentence on the result)."""
    parts, size = training.parts, training.config.train.eval_batch_size
    (shipped,) = shipped_checkpoints(training.folder)
    parts.learner.parameters().load_state_dict(load_model(shipped)[0])
    numbers, arrays = evaluate(parts.learner, parts.val, size, parts.device)
    assert isinstance(training.config, PretrainConfig) and isinstance(parts.learner, PretrainLearner)
    bank = parts.learner.bank.images.names if parts.learner.bank else ()
    known = {*parts.train.names, *bank}
    groups = write_groups(training.folder, "val", parts.val, evaluated_data(training.config), known)
    final: dict[str, Any] = numbers | pretraining_intervals(arrays, groups)
    spread = f"spread {numbers['feature_std']:.3f} of 1, effective rank {numbers['effective_rank']:.1f}"
    if "knn_accuracy" not in numbers:
        return final, f"pre-trained without labels: {spread}"
    if parts.dtype == torch.bfloat16:
        _, half = evaluate(parts.learner, parts.val, size, parts.device, parts.dtype)
        changed = half["predictions"] != arrays["predictions"]
        final["bfloat16"] = {"changed": int(changed.sum()), "of": changed.size, "unit": "images by k-NN"}
    edges = bracketed(final["knn_accuracy_interval"])
    return final, f"k-NN accuracy {numbers['knn_accuracy']:.4f}{edges}{said(groups, final)}; {spread}"


def baselines(training: Training, flops: float) -> tuple[dict[str, float], list[str]]:
    """Accuracies that need no training, with the same labeled images as the k-NN accuracy; ({}, []) if there are none.
    flops: floating-point operations of the training."""
    learner: Any = training.parts.learner
    config: Any = training.config
    if learner.bank is None or training.parts.val.labels is None:
        return {}, []
    known, network = learner.bank.images, partial(build_siamese, config, len(training.parts.train.channels))
    found = ImageBaselines(training, "most_frequent_class", accuracy, known, network, config.pretrain.neighbors)
    return found.compute(flops)


def preview(training: Training, batch: Batch) -> Figure:
    """Draw the augmented views of each image of a training batch side by side, the small ones too."""
    parts = training.parts
    assert isinstance(parts.learner, PretrainLearner)
    large, small = parts.learner.prepare(batch)
    arrays = (view[:PREVIEWED].float().cpu().numpy() for view in (*large, *small))
    views = [denormalized(view, *parts.normalization, parts.train.channels) for view in arrays]
    images = [image for each in zip(*views, strict=True) for image in each]
    titles = ["view 1", "view 2", *["small view"] * len(small)]
    return draw_image_grid(images, titles * len(views[0]), len(titles) * max(1, COLUMNS // len(titles)))
