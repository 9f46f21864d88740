"""Compute features of images with a pre-trained backbone."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from ...config.resolve import resolve
from ...data.augment.batch import evaluation_transform
from ...data.channels import Channels
from ...data.decode.images import Square
from ...engine.device import pick_device, use_threads
from ...errors import SightlineError
from ...inference.inputs import PredictOptions
from ...inference.loaded import LoadedPredictor
from ...inference.predictor import Predictor
from ...inference.tables import predict_table
from ...runs import run_folder
from ...runs.checkpoint import checked_description, load_model
from ..contract import Say
from .build import build_siamese
from .config import PretrainConfig


def predictor(folder: Path, config: PretrainConfig, features: bool) -> Predictor:
    """Load the backbone of a pre-training run, which computes features and has no classes."""
    run_folder.require_weights(folder)
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    (shipped,) = run_folder.shipped_checkpoints(folder)
    with checked_description(shipped) as description:
        preprocessing, built = description["preprocessing"], description["model"]
        size, decoded_size = preprocessing["size"], tuple(preprocessing["kept"])
        square = Square.of_description(preprocessing)
        channels = Channels.of_description(preprocessing.get("channels"))
        mean, std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
        transform = evaluation_transform(size, mean, std, square.share, channels)
        known = {"data.size": size, "model.name": built["name"], "model.args": built["args"]}
    model = build_siamese(resolve(config, known), len(channels))
    model.load_state_dict(load_model(shipped)[0])
    model.to(device).to(memory_format=torch.channels_last)
    rest = (square, decoded_size, device)
    return Predictor([model.eval()], (), transform, *rest, flip=False, features=True, channels=channels)


def predict(
    folder: Path, config: PretrainConfig, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
) -> Path:
    """Write the features of each image to `out`; returns the path. Raises SightlineError unless options.features is
    set, because a pre-training run has no classes to predict."""
    if not options.features:
        why = "a pre-training run has no classes to predict"
        cure = (
            "add --features, or first train a classifier from its weights: "
            f"sightline train RECIPE --data DATA --model.weights {shlex.quote(str(folder))}"
        )
        raise SightlineError("a pre-training run predicts only features", where=str(folder), why=why, cure=cure)
    return predict_table(folder, config, inputs, out, options, lambda: predictor(folder, config, True), say)


def load(folder: Path, config: PretrainConfig) -> LoadedPredictor:
    """The backbone of a pre-training run for Python."""
    return LoadedPredictor(folder, config, predictor(folder, config, features=True))
