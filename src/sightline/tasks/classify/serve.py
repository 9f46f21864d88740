"""The model of a classifier for `sightline serve`, a web page for predictions."""

from pathlib import Path

import numpy as np

from ...data.image_cache import decode
from ...data.sources.open import open_source
from ...runs import run_folder
from ...serve.examples import Say, if_readable, index_of, spread
from ...serve.models import ExampleImages, ServedClassifier, ServedModel
from ..whole_image.predict import predictor
from .config import ClassifyConfig
from .task import ClassifyLearner


def served(folder: Path, config: ClassifyConfig, name: str, neighbors: bool, say: Say) -> ServedModel:
    """Load a classifier for the web page.

    neighbors: whether to index the training images, so that the page shows the nearest ones. Without readable data,
    there is no index.
    """

    def examples() -> ExampleImages:
        val = decode(open_source(config.data, config.data.split_seed), "val", config.data.size, config.data, say)
        assert val.labels is not None
        rows = np.argsort(val.labels, kind="stable")[spread(len(val.names))]
        return ExampleImages(
            [np.array(val.images[row]) for row in rows],
            [val.names[row] for row in rows],
            [val.classes[val.labels[row]] for row in rows],
        )

    single = len(run_folder.shipped_checkpoints(folder)) == 1
    index, note = None, ""
    if not single:
        note = "The run is an ensemble of several epochs, whose features cannot be compared: no nearest images."
    elif neighbors:
        index, note = if_readable(
            lambda: index_of(open_source(config.data, config.data.split_seed), config, say), name, say
        )
    network = predictor(ClassifyLearner, folder, config, features=single)
    return ServedClassifier(
        name=name, config=config, classes=network.classes, predictor=network, neighbors=index, note=note,
        examples=if_readable(examples, name, say)[0] or ExampleImages(),
    )  # fmt: skip
