"""A pre-training run as a served model: the nearest training images."""

from pathlib import Path

from ...errors import SightlineError
from ...serve.examples import Say, index_of
from ...serve.models import ExampleImages, ServedClassifier, ServedModel
from .build import open_images
from .config import PretrainConfig
from .predict import predictor


def served(folder: Path, config: PretrainConfig, name: str, neighbors: bool, say: Say) -> ServedModel:
    """A pre-training without labels: only the nearest training images, so its data is required."""
    if not neighbors:
        why, cure = "a pre-training without labels has no classes, only nearest images", "leave out --no-neighbors"
        raise SightlineError("this run has nothing to serve", where=str(folder), why=why, cure=cure)
    index = index_of(open_images(config, lambda text: None), config, say)
    network = predictor(folder, config, features=True)
    return ServedClassifier(
        name=name, config=config, classes=(), predictor=network, neighbors=index, examples=ExampleImages()
    )
