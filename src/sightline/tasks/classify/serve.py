"""The model of a classifier for `sightline serve`, a web page for predictions."""

from pathlib import Path

from ...runs import run_folder
from ...serve.examples import Say
from ...serve.models import ServedModel
from ..whole_image.predict import predictor
from ..whole_image.serve import served_classifier
from .config import ClassifyConfig
from .task import ClassifyLearner

ENSEMBLE = "The run is an ensemble of several epochs, whose features cannot be compared: no nearest images."


def served(folder: Path, config: ClassifyConfig, name: str, neighbors: bool, say: Say) -> ServedModel:
    """Load a classifier for the web page.

    neighbors: whether to index the training images, so that the page shows the nearest ones. Without readable data,
    there is no index.
    """
    single = len(run_folder.shipped_checkpoints(folder)) == 1
    network = predictor(ClassifyLearner, folder, config, features=single)
    note = "" if single else ENSEMBLE
    return served_classifier(config, network, name, neighbors and single, say, note=note, folder=folder)
