"""Evaluate a trained classifier of label sets on a split of its own data, or on other data."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...config.checks import FITTED
from ...data.label_arrays import are_sets
from ...data.types import Decoded, Source
from ...engine.evaluate import evaluate as evaluate_split
from ...errors import SightlineError, some_of
from ...inference.evaluation import log_test_evaluation, training_names
from ...runs import run_folder
from ...runs.checkpoint import load_model
from ...stats.groups import write_groups
from ..contract import Say
from ..whole_image.build import build_for_inference
from ..whole_image.evaluate import open_split
from ..whole_image.frozen import of_images, of_run
from .build import check_label_sets, with_threshold_split
from .config import MultilabelConfig
from .predictions import load_thresholds, write_predictions
from .results import measured
from .task import MultilabelLearner


def evaluate(folder: Path, config: MultilabelConfig, data: str, split: str | None, say: Say) -> dict[str, Any]:
    """Metrics of the final weights on a split. data: path of other data, or "". See `sightline.evaluate`."""
    own_splits = partial(with_own_splits, config=config)
    source, split, decoded, tests = open_split(folder, config, data, split, say, own_splits)
    parts = build_for_inference(MultilabelLearner, folder, config)
    decoded = with_classes(decoded, parts.classes, source.path)
    parts.learner.parameters().load_state_dict(load_model(run_folder.shipped_checkpoints(folder)[0])[0])
    size, learner = config.train.eval_batch_size, parts.learner
    if config.optim.name in FITTED:
        learner = replace(learner, fixed=of_images(of_run(parts, config, say), decoded, split))
    numbers, arrays = evaluate_split(learner, decoded, size, parts.device)
    thresholds = load_thresholds(folder, parts.classes)
    groups = write_groups(None if data else folder, split, decoded, config.data, training_names(folder))
    found: dict[str, Any] = {**numbers, **measured(arrays, thresholds, groups)}
    looks = {}
    if tests:
        moment = parts.step, parts.epoch
        looks = log_test_evaluation(folder, moment, split, source, found, say, decoded)
    if not data:
        write_predictions(folder / "predictions" / f"{split}.csv", decoded, arrays["label_probabilities"], thresholds)
    return {"split": split, "images": len(decoded.names), **found, **looks}


def with_own_splits(source: Source, config: MultilabelConfig) -> Source:
    """The splits as in training: with the images of the thresholds held out of the training images.

    Raises SightlineError if the data no longer have label sets.
    """
    check_label_sets(source, config.data)
    return with_threshold_split(source, config.data, config.multilabel.threshold_fraction, lambda text: None)


def with_classes(decoded: Decoded, classes: tuple[str, ...], where: str) -> Decoded:
    """Map the label sets of `decoded` to the indices of `classes` by class name.

    Raises SightlineError, with the path `where`, for classes that the run does not have and for other labels.
    """
    if not are_sets(decoded.labels):
        cure = "give a table with the labels of each image, such as cat;dog, or use `sightline predict`"
        raise SightlineError("this run needs images with label sets", where=where, cure=cure)
    unknown = [name for name in decoded.classes if name not in classes]
    if unknown:
        why = f"the run was not trained on: {some_of(unknown)}"
        cure = f"rename or remove those labels; the run has: {some_of(classes)}"
        raise SightlineError("the classes of the data differ from those of the run", where=where, why=why, cure=cure)
    assert decoded.labels is not None
    labels = np.zeros((len(decoded.names), len(classes)), bool)
    labels[:, [classes.index(name) for name in decoded.classes]] = decoded.labels
    return replace(decoded, labels=labels, classes=classes)
