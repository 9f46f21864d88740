"""Prediction with a classifier's run."""

from collections.abc import Sequence
from pathlib import Path

from ...errors import SightlineError
from ...inference.options import PredictOptions
from ...inference.predictor import Predictor, with_weights
from ...inference.tables import predict_table
from ...runs import run_folder
from ..contract import Say
from .build import build_for_inference
from .config import ClassifyConfig


def predictor(folder: Path, config: ClassifyConfig, features: bool) -> Predictor:
    """The shipped weights of a run. SightlineError for the features of an ensemble: its members have different ones."""
    parts = build_for_inference(folder, config, run_folder.precision_of(folder))
    shipped = run_folder.shipped_checkpoints(folder)
    if features and len(shipped) > 1:
        why = f"the run ships {len(shipped)} epochs, whose features are unrelated"
        raise SightlineError("an ensemble has no features", where=str(folder), why=why, cure="leave out --features")
    models = [with_weights(parts.model, checkpoint) for checkpoint in shipped]
    rest = (parts.square, parts.kept, parts.device, parts.dtype, config.train.flip_test, features)
    return Predictor(models, parts.classes, parts.transform, *rest)


def predict(
    folder: Path, config: ClassifyConfig, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
) -> Path:
    """Write a table with a row for each image: label, confidence, a probability for each class."""
    return predict_table(folder, config, inputs, out, options, lambda: predictor(folder, config, options.features), say)
