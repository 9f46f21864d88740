"""ONNX export of a classifier: a graph from images of any size to class probabilities."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...data.sources.open import open_source
from ...export.contract import Cost, Say, TaskGraph
from ...export.parity import Parity
from ...export.session import OnnxSession
from ...stats.groups import groups_of, ids_in
from ...stats.nested import paired_difference
from ..whole_image.export import ImageGraph
from .config import ClassifyConfig
from .evaluate import with_classes
from .results import evaluate_checkpoints
from .task import ClassifyLearner


class ClassifierExport(TaskGraph):
    """The network of a classifier, or of an ensemble of its epochs, and its validation images."""

    outputs = {"probabilities": "float32 [N, classes]"}
    smallest = 1

    def __init__(self, folder: Path, config: ClassifyConfig, say: Say):
        source = open_source(config.data, config.data.split_seed)
        own = ImageGraph(ClassifyLearner, folder, config, source, with_classes, say)
        self.config, self.own, self.network, self.sample = config, own, own.network, own.sample
        self.channels = own.parts.channels
        self.split, self.digest, self.train = own.split, own.digest, source.splits["train"]

    def compare(self, graph: OnnxSession) -> Iterator[Parity]:
        """Compare PyTorch, and the run's table of predictions, with the exported graph on cached images; then PyTorch
        with it on the image files if their size differs."""
        own, batch = self.own, self.config.train.eval_batch_size
        parts = own.parts
        _, arrays = evaluate_checkpoints(parts.learner, own.folders, own.decoded, batch, parts.device)
        found = own.probabilities(graph)
        self.correct = found.argmax(1) == own.decoded.labels
        yield self.parity(arrays["probabilities"], found)
        if own.stored is not None:
            yield self.parity(own.stored, found, stored=own.table)
        resized = own.from_files(graph, found)
        if resized is not None:
            yield self.parity(arrays["probabilities"], resized, from_files=True)

    def parity(self, own: np.ndarray, found: np.ndarray, from_files: bool = False, stored: str = "") -> Parity:
        """Agreement of the probabilities [N, K] of PyTorch or of a table, `own`, and of the exported graph, `found`."""
        labels, truth = (own.argmax(1), found.argmax(1)), self.own.decoded.labels
        low, high = (float((predicted == truth).mean()) for predicted in labels)
        parity = Parity("accuracy", from_files=from_files, stored=stored, values=(low, high))
        parity.add(self.own.decoded.names, (own, found), labels)
        return parity

    def cost(self, graph: OnnxSession) -> Cost:
        """The change in accuracy from this graph to another, such as a quantized one, paired by image."""
        correct = self.own.probabilities(graph).argmax(1) == self.own.decoded.labels
        groups = groups_of(self.own.decoded, self.config.data)
        apart = paired_difference(self.correct, correct, ids_in(groups))
        lost, won = int((self.correct & ~correct).sum()), int((~self.correct & correct).sum())
        changed = f"{lost:,} of {len(correct):,} become wrong, {won:,} right"
        return Cost(
            "accuracy", (float(self.correct.mean()), float(correct.mean())), apart.value, apart.interval(), changed
        )
