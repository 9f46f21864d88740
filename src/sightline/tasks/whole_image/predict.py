"""A predictor with the final weights of a run, for tasks that predict one vector for a whole image."""

from pathlib import Path

from ...config.schema import Config
from ...errors import SightlineError
from ...inference.predictor import Decision, Predictor, with_weights
from ...runs import run_folder
from .build import build_for_inference
from .learner import ImageLearner


def predictor(
    learner_class: type[ImageLearner],
    folder: Path,
    config: Config,
    features: bool,
    decision: Decision | None = None,
    outputs: int | None = None,
) -> Predictor:
    """Load the final weights of a run. decision: how logits become probabilities and a label; None: of one label.
    outputs: of the network for an image; None: one for each class.

    Raises SightlineError if features are requested from an ensemble.
    """
    parts = build_for_inference(learner_class, folder, config, outputs)
    shipped = run_folder.shipped_checkpoints(folder)
    if features and len(shipped) > 1:
        why = f"the run is an ensemble of {len(shipped)} epochs, whose features cannot be averaged"
        raise SightlineError("an ensemble has no features", where=str(folder), why=why, cure="omit --features")
    models = [with_weights(parts.learner.model, checkpoint) for checkpoint in shipped]
    rest = (parts.square, parts.decoded_size, parts.device, config.train.flip_test, features)
    transform, chosen = parts.learner.transform, decision or Decision()
    return Predictor(
        models, parts.classes, transform, *rest, chosen, channels=parts.channels, normalization=parts.normalization
    )
