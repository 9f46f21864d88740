"""What the ONNX export of whole-image tasks shares: the network, and the graph's probabilities of validation images."""

import csv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch import nn

from ...config.schema import Config
from ...data.decode.images import planes
from ...data.image_cache import decode
from ...data.types import Decoded, Source
from ...export.contract import Say
from ...export.networks import ClassifierGraph, Normalized, Resize
from ...export.session import OnnxSession
from ...inference.evaluation import chosen_split
from ...inference.predictor import with_weights
from ...models.folding import unfold_norms
from ...report.run import UNREADABLE
from ...runs import run_folder
from ...runs.checkpoint import checked_description
from ...runs.csv_io import RUN_COLUMNS, classes_of
from .build import build_for_inference
from .learner import ImageLearner

CHUNK = 32
"""Batch size of the comparison with the exported graph."""


class ImageGraph:
    """The network of a run to export, or an ensemble of its epochs, with the validation images to compare it on.

    parts: the same in PyTorch, in float32. folders: its checkpoints. network: images [N, C, H, W] of any size ->
    probabilities [N, K]. source, split, decoded: the data, the name of the compared split, and its images. table: the
    path of the run's own predictions of this split, in the run folder. stored: their probabilities float64 [N, K], or
    None if they are missing or of other images.
    """

    def __init__(
        self,
        learner_class: type[ImageLearner],
        folder: Path,
        config: Config,
        source: Source,
        with_classes: Callable[[Decoded, tuple[str, ...], str], Decoded],
        say: Say,
        activation: nn.Module | None = None,
    ):
        """with_classes: maps the labels of the images to the classes of the run. activation: see `ClassifierGraph`."""
        self.parts, self.source = build_for_inference(learner_class, folder, config), source
        unfold_norms(self.parts.learner.model)
        self.split, square = chosen_split(None, source), self.parts.square
        decoded = decode(source, self.split, square.side, config.data, say)
        self.digest, self.decoded = decoded.digest, with_classes(decoded, self.parts.classes, source.path)
        self.table = f"predictions/{self.split}.csv"
        self.stored = stored_probabilities(folder / self.table, self.decoded.names, self.parts.classes, say)
        self.folders = run_folder.shipped_checkpoints(folder)
        with checked_description(self.folders[0]) as description:
            preprocessing, channels = description["preprocessing"], self.parts.channels
            normalized = Normalized(preprocessing["mean"], preprocessing["std"], channels.top)
        members = [with_weights(self.parts.learner.model, member) for member in self.folders]
        prepare = nn.Sequential(Resize(square, self.parts.decoded_size, channels), normalized)
        self.network = ClassifierGraph(prepare, members, config.train.flip_test, activation)

    @property
    def sample(self) -> np.ndarray:
        """Some decoded validation images, [n, C, H, W]."""
        return np.ascontiguousarray(self.decoded.images[:CHUNK])

    def probabilities(self, graph: OnnxSession) -> np.ndarray:
        """The graph's probabilities float32 [N, K] for the validation images in the cache."""
        starts = range(0, len(self.decoded.names), CHUNK)
        return np.concatenate([graph(self.decoded.images[at : at + CHUNK])["probabilities"] for at in starts])

    def from_files(self, graph: OnnxSession, cached: np.ndarray) -> np.ndarray | None:
        """The graph's probabilities float32 [N, K] for the image files, which the graph resizes itself.

        None if every file has the size of the cached images. cached: the result of `probabilities`, for such files.
        """
        items = self.source.splits[self.split]
        rows = {name: row for row, name in enumerate(items.names)}  # unreadable images may have been left out
        found, any_other = cached.copy(), False
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self.decoded.names), CHUNK):
                names = self.decoded.names[start : start + CHUNK]
                images = pool.map(lambda name: planes(items.read(rows[name])), names)
                for row, image in enumerate(images, start):
                    if image.shape != self.decoded.images.shape[1:]:
                        found[row], any_other = graph(image[None])["probabilities"][0], True
        return found if any_other else None


def stored_probabilities(path: Path, names: Sequence[str], classes: tuple[str, ...], say: Say) -> np.ndarray | None:
    """The probabilities float64 [N, K] of a run's table of predictions; None, with a message, if the table is not one
    of these images and classes."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            header, *rows = csv.reader(file)
        if classes_of(header[len(RUN_COLUMNS) :]) == classes and [row[0] for row in rows] == list(names):
            return np.array([row[len(RUN_COLUMNS) :] for row in rows], np.float64)
        why = "it has other images or classes"
    except UNREADABLE as error:
        why = f"it cannot be read ({type(error).__name__})"
    say(f"note: the graph is not compared with {path}: {why}")
    return None
