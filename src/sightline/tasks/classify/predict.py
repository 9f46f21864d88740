"""Predict the classes of images with a trained classifier."""

from collections.abc import Sequence
from pathlib import Path

from ...errors import SightlineError
from ...inference.options import PredictOptions
from ...inference.predictor import Predictor, with_weights
from ...inference.tables import predict_table
from ...runs import run_folder
from ..contract import Say
from ..whole_image.build import build_for_inference
from .config import ClassifyConfig
from .task import ClassifyLearner


def predictor(folder: Path, config: ClassifyConfig, features: bool) -> Predictor:
    """Load the final weights of a run for prediction.

    features: whether to compute the penultimate features too. Raises SightlineError if they are requested from an
    ensemble.
    """
    parts = build_for_inference(ClassifyLearner, folder, config, run_folder.precision_of(folder))
    shipped = run_folder.shipped_checkpoints(folder)
    if features and len(shipped) > 1:
        why = (
            f"the run is an ensemble of {len(shipped)} epochs, and the features of different epochs cannot be averaged"
        )
        raise SightlineError(
            "no features can be computed with an ensemble", where=str(folder), why=why, cure="omit --features"
        )
    models = [with_weights(parts.learner.model, checkpoint) for checkpoint in shipped]
    rest = (parts.square, parts.decoded_size, parts.device, parts.dtype, config.train.flip_test, features)
    return Predictor(models, parts.classes, parts.learner.transform, *rest)


def predict(
    folder: Path, config: ClassifyConfig, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
) -> Path:
    """Write a table with one row per image: label, confidence and the probability of each class; returns the path of
    the table."""
    return predict_table(folder, config, inputs, out, options, lambda: predictor(folder, config, options.features), say)
