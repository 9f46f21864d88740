"""Predict the label sets of images with a trained network: a table, or a web page."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...data.label_arrays import SEPARATOR
from ...inference.inputs import PredictOptions
from ...inference.loaded import LoadedPredictor
from ...inference.predictor import Decision, Predictor
from ...inference.prelabels import predict_choices
from ...runs.checkpoint import checked_description
from ...runs.run_folder import shipped_checkpoints
from ...serve.models import ServedModel
from ..contract import Say
from ..whole_image.predict import predict_with_maps, predictor
from ..whole_image.serve import served_classifier
from .config import MultilabelConfig
from .evaluate import with_own_splits
from .predictions import confidences, load_thresholds
from .task import MultilabelLearner, logit_mean


def decision(thresholds: np.ndarray) -> Decision:
    """Sigmoid probabilities; the label is the names of the classes at or above their threshold, float64 [K]."""

    def label(probabilities: np.ndarray, classes: Sequence[str]) -> tuple[str, float]:
        """(names in class order, separated by SEPARATOR; the highest probability of one of them, 0 without any)."""
        chosen = np.flatnonzero(probabilities >= thresholds)
        return SEPARATOR.join(classes[index] for index in chosen), float(confidences(probabilities, thresholds))

    return Decision(torch.sigmoid, lambda logits, mirrored: logit_mean(torch.stack([logits, mirrored]).float()), label)


def load_predictor(folder: Path, config: MultilabelConfig, features: bool) -> Predictor:
    """Load the final weights and thresholds of a run."""
    with checked_description(shipped_checkpoints(folder)[0]) as description:
        thresholds = load_thresholds(folder, tuple(description["classes"]))
    return predictor(MultilabelLearner, folder, config, features, decision(thresholds))


def predict(
    folder: Path, config: MultilabelConfig, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
) -> Path:
    """Write a table with a row per image: the labels above their thresholds, and a probability per class. With
    `options.overlay`, also pictures of the class activation maps."""
    load = partial(load_predictor, folder, config, options.features)
    return predict_with_maps(folder, config, inputs, out, options, load, say)


def prelabel(
    folder: Path, config: MultilabelConfig, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
) -> Path:
    """Write the predictions for annotation programs: the labels of each image above their thresholds."""
    load = partial(load_predictor, folder, config, False)
    return predict_choices(folder, config, inputs, out, options, load, say)


def load(folder: Path, config: MultilabelConfig) -> LoadedPredictor:
    """The classifier of label sets of a run for Python."""
    return LoadedPredictor(folder, config, load_predictor(folder, config, features=False))


def served(folder: Path, config: MultilabelConfig, name: str, neighbors: bool, say: Say) -> ServedModel:
    """Load a classifier for the web page, with an index of its training images if the data can be read.

    Example images are taken from those with few labels to those with many.
    """
    network = load_predictor(folder, config, features=True)
    return served_classifier(
        config, network, name, neighbors, say,
        order=lambda labels: labels.sum(1), folder=folder, trained_on=partial(with_own_splits, config=config),
    )  # fmt: skip
