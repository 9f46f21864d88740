"""Serve a network with one output vector per image on a web page."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...config.checks import has_fixed_features
from ...config.schema import Config
from ...data.image_cache import decode
from ...data.label_arrays import label_texts
from ...data.sources.leakage import without_copies
from ...data.sources.open import open_source
from ...data.types import Source
from ...inference.evaluation import warn_if_changed
from ...inference.predictor import Predictor
from ...models import Classifier
from ...runs.sampling import evenly_spread
from ...serve.examples import EXAMPLES, Say, if_readable, index_of
from ...serve.models import ExampleImages, ServedClassifier
from ...serve.neighbors import NeighborIndex
from .features import FeatureExtractor


def indexed(
    config: Config, network: Predictor, say: Say, trained_on: Callable[[Source], Source] = lambda source: source
) -> NeighborIndex:
    """The index of the training images, without copies that training left out. Features of a frozen backbone are those
    that training stored in the cache folder, if it still has them. trained_on: as of `served_classifier`."""
    source = without_copies(open_source(config.data, config.data.split_seed), config.data, lambda text: None)
    index = index_of(trained_on(source), config, say)
    model = network.models[-1]
    if not has_fixed_features(config) or not isinstance(model, Classifier):
        return index
    preprocessing = [*network.normalization, config.data.eval_crop, index.train.channels.description()]
    found = FeatureExtractor(config, model, network.transform, preprocessing, network.device, say).stored(index.train)
    return index if found is None else index.with_features(found.numpy())


def served_classifier(
    config: Config,
    network: Predictor,
    name: str,
    neighbors: bool,
    say: Say,
    order: Callable[[np.ndarray], np.ndarray] = lambda labels: labels,
    note: str = "",
    folder: Path | None = None,
    trained_on: Callable[[Source], Source] = lambda source: source,
) -> ServedClassifier:
    """A classifier for the web page, with examples from the validation images if the data can be read.

    neighbors: whether to index the training images, so that the page shows the nearest ones. order: labels of N images
    -> the values [N] by which the images are sorted before examples are taken at equal distances. note: why there is no
    index. folder: of the run, to warn if its validation images have changed. trained_on: the data -> those whose
    training images the network has learned from.
    """

    def examples() -> ExampleImages:
        val = decode(open_source(config.data, config.data.split_seed), "val", config.data.size, config.data, say)
        assert val.labels is not None
        if folder is not None:
            warn_if_changed(folder, "val", val.digest, say)
        rows = np.argsort(order(val.labels), kind="stable")[evenly_spread(len(val.names), EXAMPLES)]
        return ExampleImages(
            [np.array(val.images[row]) for row in rows],
            [val.names[row] for row in rows],
            label_texts(val.labels[rows], val.classes),
        )

    index = None
    if neighbors:
        index, note = if_readable(lambda: indexed(config, network, say, trained_on), name, say)
    return ServedClassifier(
        name=name, config=config, classes=network.classes, predictor=network, neighbors=index, note=note,
        examples=if_readable(examples, name, say)[0] or ExampleImages(),
    )  # fmt: skip
