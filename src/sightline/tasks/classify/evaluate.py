"""Evaluate a trained classifier on a split of its own data, or on other data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...config.checks import FITTED
from ...data.label_arrays import are_sets
from ...data.types import Decoded
from ...engine.parts import training_images
from ...errors import SightlineError
from ...inference.evaluation import log_test_evaluation, training_names
from ...runs import run_folder
from ...stats.groups import write_groups
from ..contract import Say
from ..whole_image.build import build_for_inference
from ..whole_image.evaluate import open_split
from ..whole_image.frozen import of_images, of_run
from .config import ClassifyConfig
from .results import evaluate_checkpoints, nearest_accuracy, neighbors, write_predictions
from .task import ClassifyLearner, classification_intervals


def evaluate(folder: Path, config: ClassifyConfig, data: str, split: str | None, say: Say) -> dict[str, Any]:
    """Evaluate the final weights of a run on a split; returns the metrics with their intervals.

    data: path of data other than the run's own, or "". split: name of the split, or None for the default, see
    `sightline.evaluate`. For the run's own data, the predictions are written to predictions/SPLIT.csv.
    """
    source, split, decoded, tests = open_split(folder, config, data, split, say)
    parts = build_for_inference(ClassifyLearner, folder, config)
    decoded = with_classes(decoded, parts.classes, source.path)
    folders, size = run_folder.shipped_checkpoints(folder), config.train.eval_batch_size
    features, learner = of_run(parts, config, say), parts.learner
    if config.optim.name in FITTED:
        learner = replace(learner, fixed=of_images(features, decoded, split))
    numbers, arrays = evaluate_checkpoints(learner, folders, decoded, size, parts.device)
    if config.optim.name == "lbfgs" and not data:
        train = training_images(config, source, say)
        if train.stream is not None:
            numbers["knn_accuracy"] = neighbors(parts.learner, (train, decoded), size, parts.device)
        else:
            bank, queries = features(train, "training").half(), features(decoded, split).half()
            numbers["knn_accuracy"] = nearest_accuracy(bank, train.labels, queries, decoded.labels)
    groups = write_groups(None if data else folder, split, decoded, config.data, training_names(folder))
    numbers |= classification_intervals(arrays, groups)
    looks = {}
    if tests:
        moment = parts.step, parts.epoch
        looks = log_test_evaluation(folder, moment, split, source, numbers, say, decoded)
    if not data:
        write_predictions(folder / "predictions" / f"{split}.csv", decoded, arrays["probabilities"])
    return {"split": split, "images": len(decoded.names), **numbers, **looks}


def with_classes(decoded: Decoded, classes: tuple[str, ...], where: str) -> Decoded:
    """Replace the labels of `decoded` by indices into `classes`, matched by class name.

    Raises SightlineError if the data have classes that the run was not trained on, or no labels. where: path of the
    data, for messages.
    """
    unknown = [name for name in decoded.classes if name not in classes]
    if unknown:
        why = "the run was not trained on: " + ", ".join(unknown[:10])
        cure = (
            "rename or remove the classes that the run was not trained on; the run has: "
            f"{', '.join(classes[:10])}{' ...' * (len(classes) > 10)}"
        )
        raise SightlineError("the classes of the data differ from those of the run", where=where, why=why, cure=cure)
    if decoded.labels is None:
        cure = "use labeled data: --data PATH; or predict without labels: sightline predict RUN IMAGES"
        raise SightlineError("evaluation needs labels", where=where, cure=cure)
    if are_sets(decoded.labels):
        why, cure = "these images may have several labels", "give data with one label for each image: --data PATH"
        raise SightlineError("this run predicts one label per image", where=where, why=why, cure=cure)
    order = np.array([classes.index(name) for name in decoded.classes])
    return replace(decoded, labels=order[decoded.labels], classes=classes)
