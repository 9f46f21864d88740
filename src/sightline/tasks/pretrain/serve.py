"""The model of a pre-training run for `sightline serve`: a web page with the nearest training images of an image."""

from pathlib import Path

from ...data.sources.leakage import without_copies
from ...errors import SightlineError
from ...serve.examples import Say, index_of
from ...serve.models import ExampleImages, ServedClassifier, ServedModel
from .build import open_images
from .config import PretrainConfig
from .predict import predictor
from .probe import without_probe_images


def served(folder: Path, config: PretrainConfig, name: str, neighbors: bool, say: Say) -> ServedModel:
    """Load a backbone and an index of its training images. Raises SightlineError if `neighbors` is False or the
    images cannot be read."""
    if not neighbors:
        why, cure = (
            "a pre-training run has no classes, only nearest images",
            "omit --no-neighbors, so that the nearest images are shown",
        )
        raise SightlineError("this run can serve only nearest images", where=str(folder), why=why, cure=cure)
    silent: Say = lambda text: None  # noqa: E731
    source = without_copies(open_images(config, silent), config.data, silent)
    if config.data.on_copies == "leave_out":
        source = without_probe_images(config, source, silent)
    index = index_of(source, config, say)
    network = predictor(folder, config, features=True)
    return ServedClassifier(
        name=name, config=config, classes=(), predictor=network, neighbors=index, examples=ExampleImages()
    )
