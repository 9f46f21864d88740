"""ONNX export of a classifier: a graph from images of any size to class probabilities."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch import nn

from ...data.decode.images import planes
from ...data.image_cache import decode
from ...data.sources.open import open_source
from ...export.contract import Cost, Say, TaskGraph
from ...export.networks import ClassifierGraph, Normalized, Resize
from ...export.parity import Parity
from ...export.session import OnnxSession
from ...inference.evaluation import chosen_split
from ...inference.predictor import with_weights
from ...runs import run_folder
from ...runs.checkpoint import checked_description
from ...stats.intervals import paired_bootstrap
from ..whole_image.build import build_for_inference
from .config import ClassifyConfig
from .evaluate import with_classes
from .results import evaluate_checkpoints
from .task import ClassifyLearner

CHUNK = 32
"""Number of images per batch when the exported graph is compared with PyTorch."""


class ClassifierExport(TaskGraph):
    """The network of a classifier or of an ensemble of its epochs for export, and validation images for the check."""

    outputs = {"probabilities": "float32 [N, classes]"}
    smallest = 1
    metric = "accuracy"

    def __init__(self, folder: Path, config: ClassifyConfig, say: Say):
        self.config, self.parts = config, build_for_inference(ClassifyLearner, folder, config, "fp32")
        source = open_source(config.data, config.data.split_seed)
        self.split, square = chosen_split(None, source), self.parts.square
        decoded = decode(source, self.split, square.side, config.data, say)
        self.decoded = with_classes(decoded, self.parts.classes, source.path)
        self.digest = decoded.digest
        self.train, self.items = source.splits["train"], source.splits[self.split]
        self.sample = np.ascontiguousarray(decoded.images[:CHUNK])
        self.folders = run_folder.shipped_checkpoints(folder)
        with checked_description(self.folders[0]) as description:
            normalized = Normalized(description["preprocessing"]["mean"], description["preprocessing"]["std"])
        members = [with_weights(self.parts.learner.model, member) for member in self.folders]
        prepare = nn.Sequential(Resize(square, self.parts.decoded_size), normalized)
        self.network = ClassifierGraph(prepare, members, config.train.flip_test)

    def compare(self, graph: OnnxSession) -> Iterator[Parity]:
        """Compare the predictions of PyTorch with those of the exported graph.

        First the graph gets the resized images in the cache. If the image files have other sizes, it then gets the
        files and resizes them itself.
        """
        batch, parts = self.config.train.eval_batch_size, self.parts
        _, arrays = evaluate_checkpoints(parts.learner, self.folders, self.decoded, batch, parts.device, parts.dtype)
        found = self.probabilities(graph)
        self.correct = found.argmax(1) == self.decoded.labels
        yield self.parity(arrays["probabilities"], found)
        resized = self.from_files(graph, found)
        if resized is not None:
            yield self.parity(arrays["probabilities"], resized, from_files=True)

    def parity(self, own: np.ndarray, found: np.ndarray, from_files: bool = False) -> Parity:
        """Compare class probabilities [N, K].

        own: of PyTorch. found: of the exported graph. from_files: whether the graph resized the image files.
        """
        labels = own.argmax(1), found.argmax(1)
        low, high = (float((predicted == self.decoded.labels).mean()) for predicted in labels)
        parity = Parity("accuracy", from_files=from_files, values=(low, high))
        parity.add(self.decoded.names, (own, found), labels)
        return parity

    def probabilities(self, graph: OnnxSession) -> np.ndarray:
        """The graph's class probabilities float32 [N, K] for the validation images in the cache."""
        starts = range(0, len(self.decoded.names), CHUNK)
        return np.concatenate([graph(self.decoded.images[at : at + CHUNK])["probabilities"] for at in starts])

    def from_files(self, graph: OnnxSession, cached: np.ndarray) -> np.ndarray | None:
        """The graph's class probabilities float32 [N, K] if the graph itself resizes the image files.

        None if every file already has the size of the cached images. cached: the result of `probabilities`, used for
        files of that size.
        """
        rows = {name: row for row, name in enumerate(self.items.names)}  # unreadable images may have been left out
        found, any_other = cached.copy(), False
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self.decoded.names), CHUNK):
                names = self.decoded.names[start : start + CHUNK]
                images = pool.map(lambda name: planes(self.items.read(rows[name])), names)
                for row, image in enumerate(images, start):
                    if image.shape != self.decoded.images.shape[1:]:
                        found[row], any_other = graph(image[None])["probabilities"][0], True
        return found if any_other else None

    def cost(self, graph: OnnxSession) -> Cost:
        """The change in accuracy from the compared graph to `graph`, such as a quantized one, paired by image."""
        correct = self.probabilities(graph).argmax(1) == self.decoded.labels
        difference, interval = paired_bootstrap(self.correct, correct, seed=self.config.train.seed)
        lost, won = int((self.correct & ~correct).sum()), int((~self.correct & correct).sum())
        changed = f"{lost:,} of {len(correct):,} become wrong, {won:,} right"
        return Cost("accuracy", (float(self.correct.mean()), float(correct.mean())), difference, interval, changed)
