"""Predict the classes of images with a trained classifier."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...inference.inputs import PredictOptions
from ...inference.loaded import LoadedPredictor
from ...inference.prelabels import predict_choices
from ..contract import Say
from ..whole_image.predict import predict_with_maps, predictor
from .config import ClassifyConfig
from .task import ClassifyLearner


def predict(
    folder: Path, config: ClassifyConfig, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
) -> Path:
    """Write a table with a row per image: label, confidence, and a probability per class; returns its path.
    With `options.overlay`, also pictures of the class activation maps."""
    load = partial(predictor, ClassifyLearner, folder, config, options.features)
    return predict_with_maps(folder, config, inputs, out, options, load, say)


def prelabel(
    folder: Path, config: ClassifyConfig, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
) -> Path:
    """Write the predictions for annotation programs: the class of each image, with its probability."""
    load = partial(predictor, ClassifyLearner, folder, config, False)
    return predict_choices(folder, config, inputs, out, options, load, say)


def load(folder: Path, config: ClassifyConfig) -> LoadedPredictor:
    """The classifier of a run for Python."""
    return LoadedPredictor(folder, config, predictor(ClassifyLearner, folder, config, features=False))
