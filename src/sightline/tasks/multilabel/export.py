"""ONNX export of a classifier of label sets: a graph from images of any size to a probability per class."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from ...data.sources.open import open_source
from ...engine.evaluate import evaluate
from ...export.contract import Cost, Say, TaskGraph
from ...export.parity import Parity
from ...export.session import OnnxSession
from ...runs.checkpoint import load_model
from ...stats.groups import groups_of, ids_in
from ...stats.nested import paired_difference
from ..whole_image.export import ImageGraph
from .config import MultilabelConfig
from .evaluate import with_classes, with_own_splits
from .metrics import average_precision
from .predictions import load_thresholds
from .task import MultilabelLearner


class MultilabelExport(TaskGraph):
    """The network of a classifier of label sets, with its thresholds, and its validation images."""

    outputs = {"probabilities": "float32 [N, classes]"}
    smallest = 1

    def __init__(self, folder: Path, config: MultilabelConfig, say: Say):
        source = with_own_splits(open_source(config.data, config.data.split_seed), config)
        own = ImageGraph(MultilabelLearner, folder, config, source, with_classes, say, nn.Sigmoid())
        self.config, self.own, self.network, self.sample = config, own, own.network, own.sample
        self.channels = own.parts.channels
        self.split, self.digest, self.train = own.split, own.digest, source.splits["train"]
        self.thresholds = load_thresholds(folder, own.parts.classes)
        self.metadata = {"thresholds": dict(zip(own.parts.classes, self.thresholds.tolist(), strict=True))}

    def compare(self, graph: OnnxSession) -> Iterator[Parity]:
        """Compare PyTorch, and the run's table of predictions, with the exported graph on cached images; then PyTorch
        with it on the image files if their size differs."""
        own, parts = self.own, self.own.parts
        parts.learner.parameters().load_state_dict(load_model(own.folders[0])[0])
        size = self.config.train.eval_batch_size
        _, arrays = evaluate(parts.learner, own.decoded, size, parts.device)
        found = own.probabilities(graph)
        self.exact = self.exact_of(found)
        yield self.parity(arrays["label_probabilities"], found)
        if own.stored is not None:
            yield self.parity(own.stored, found, stored=own.table)
        resized = own.from_files(graph, found)
        if resized is not None:
            yield self.parity(arrays["label_probabilities"], resized, from_files=True)

    def parity(self, own: np.ndarray, found: np.ndarray, from_files: bool = False, stored: str = "") -> Parity:
        """Agreement of the probabilities [N, K] of PyTorch or of a table, `own`, and of the exported graph, `found`.

        Each label of each image is one decision; it is a tie if the probability is at its threshold up to rounding.
        """
        truth = self.own.decoded.labels
        assert truth is not None
        low, high = (float(average_precision(each, truth)[truth.any(0)].mean()) for each in (own, found))
        parity = Parity(
            "mean average precision", unit="labels", from_files=from_files, stored=stored, values=(low, high)
        )
        sides = [np.stack([each, 2 * self.thresholds - each], axis=1) for each in (own, found)]
        parity.add(self.own.decoded.names, sides, [each >= self.thresholds for each in (own, found)])
        return parity

    def exact_of(self, probabilities: np.ndarray) -> np.ndarray:
        """Whether the label set of each image is right, bool [N]."""
        return ((probabilities >= self.thresholds) == self.own.decoded.labels).all(1)

    def cost(self, graph: OnnxSession) -> Cost:
        """The change in exact matches from this graph to another, such as a quantized one, paired by image."""
        exact = self.exact_of(self.own.probabilities(graph))
        groups = groups_of(self.own.decoded, self.config.data)
        apart = paired_difference(self.exact, exact, ids_in(groups))
        lost, won = int((self.exact & ~exact).sum()), int((~self.exact & exact).sum())
        changed = f"{lost:,} of {len(exact):,} become wrong, {won:,} right"
        values = float(self.exact.mean()), float(exact.mean())
        return Cost("share of images with all labels right", values, apart.value, apart.interval(), changed)
