"""Baselines of tasks that predict classes for a whole image: constant scores, and k-NN on features without training."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...data.augment.batch import evaluation_transform
from ...data.cache import BASELINES, cache_root, key_of
from ...data.label_arrays import class_counts
from ...data.loader import evaluation_batch_size
from ...data.types import Decoded
from ...engine.device import autocast, precision_name
from ...engine.parts import initialize_from_images
from ...engine.state import Training
from ...errors import SightlineError
from ...models import build_model, forward_flops
from ...runs.atomic import atomic_write, read_json
from ...runs.code_file import loaded_code
from ...stats.baselines import neighbor_scores, stratified_rows

MOST_IMAGES = 10_000
"""Maximum number of images among which neighbors are searched, and of images that are classified by them."""
FEWEST_IMAGES = 100
"""There is no k-NN on the network with random weights if its cost allows fewer labeled images than this."""
SIDE = 32
"""Larger images are resized to this height and width for k-NN on raw pixels."""
SHARE, FREE_FLOPS = 0.02, 2e11
"""The untrained network may take this share of the floating-point operations of the training or, if that is more, this
number of operations, which take a CPU one to four seconds."""

Rows = tuple[np.ndarray, np.ndarray]
"""Indices of the images that are used of the bank and of the validation split."""


@dataclass(frozen=True)
class ImageBaselines:
    """Computes the baselines of a run.

    constant: name of the baseline that gives every image the class frequencies of the bank. score: (scores [M, K],
    labels of M images) -> the metric of the task. bank: labeled images among which neighbors are searched. network:
    builds the untrained network, which has `backbone` and `features`. k: maximum number of neighbors.
    """

    training: Training
    constant: str
    score: Callable[[np.ndarray, np.ndarray], float]
    bank: Decoded
    network: Callable[[], Any]
    k: int = 20

    @property
    def splits(self) -> tuple[Decoded, Decoded]:
        return self.bank, self.training.parts.val

    def compute(self, flops: float) -> tuple[dict[str, float], list[str]]:
        """(the baselines by name, notes on what was left out). flops: floating-point operations of the training."""
        config, (bank, val) = self.training.config, self.splits
        assert bank.labels is not None and val.labels is not None
        frequencies = class_counts(bank.labels, len(bank.classes)) / len(bank.labels)
        scores = np.broadcast_to(frequencies, (len(val.labels), len(frequencies)))
        found = {self.constant: self.score(scores, val.labels)}
        if bank.stream is not None or val.stream is not None:
            return found, ["no k-NN, because the images are in shards"]
        rows = self.rows(1.0)
        found["knn_raw_pixels"] = self.remembered(rows, [SIDE], lambda: self.knn(rows, self.pixels, centered=True))
        notes = self.notes("k-NN", rows)
        torch.manual_seed(config.train.seed)
        network, channels = self.network(), len(self.training.parts.train.channels)
        affordable = max(SHARE * flops, FREE_FLOPS) / forward_flops(network.backbone, config.data.size, channels)
        fewer = self.rows(min(1.0, affordable / sum(map(len, rows))))
        if len(fewer[0]) < min(FEWEST_IMAGES, len(rows[0])):
            return found, [
                *notes,
                "no k-NN on the network with random weights: it would take over 2% of the training",
            ]

        def untrained() -> float:
            self.training.log.say("computing k-NN on the network with random weights (report.baselines)")
            return self.knn(fewer, self.features_of(network))

        found["knn_untrained"] = self.remembered(fewer, self.network_content(), untrained)
        if len(fewer[0]) < len(rows[0]):
            notes += self.notes("k-NN on the network with random weights", fewer)
        return found, notes

    def network_content(self) -> list[Any]:
        """What the features of the untrained network depend on; a FastNet's first layer, on the training images."""
        config, parts, code = self.training.config, self.training.parts, loaded_code()
        network = [config.model.name, config.model.args, config.model.head, config.train.seed]
        images = [precision_name(parts.dtype), parts.normalization, parts.train.digest]
        return [*network, *images, code.digest if code else ""]

    def rows(self, share: float) -> Rows:
        """The images to use: of the bank and of the validation split this share of at most MOST_IMAGES."""
        bank, val = (
            stratified_rows(split.labels, max(1, int(share * min(len(split.names), MOST_IMAGES))), 0)
            for split in self.splits
            if split.labels is not None
        )
        return bank, val

    def notes(self, what: str, rows: Rows) -> list[str]:
        """A note if not all images are used, else []."""
        parts = [f"{len(each):,} of {len(split.names):,}" for each, split in zip(rows, self.splits, strict=True)]
        whole = all(len(each) == len(split.names) for each, split in zip(rows, self.splits, strict=True))
        return [] if whole else [f"{what}: of {parts[1]} validation images, by {parts[0]} training images"]

    def remembered(self, rows: Rows, content: list[Any], compute: Callable[[], float]) -> float:
        """Return a value from the cache folder, or compute and store it. content: what it depends on besides data."""
        data, digests = self.training.config.data, [split.digest for split in self.splits]
        what = [digests, [len(each) for each in rows], data.size, data.eval_crop, self.k]
        path = cache_root(data) / f"{BASELINES}{key_of([*what, self.constant, *content])}.json"
        known = read_json(path)
        if isinstance(known, float):
            return known
        value = compute()
        with contextlib.suppress(SightlineError):  # a full or read-only cache folder costs time only
            atomic_write(path, json.dumps(value))
        return value

    @torch.inference_mode()
    def knn(self, rows: Rows, features: Callable[[Tensor], Tensor], centered: bool = False) -> float:
        """The metric of k-NN on features of images [N, C, H, W]. centered: subtract the bank's mean feature."""
        device, limit = self.training.parts.device, self.training.config.train.eval_batch_size

        def batched(split: Decoded, chosen: np.ndarray) -> Tensor:
            size = evaluation_batch_size(split.images.shape, limit, device)
            batches = np.array_split(chosen, -(-len(chosen) // size))
            return torch.cat([features(torch.from_numpy(split.images[each]).to(device)).float() for each in batches])

        bank, queries = (batched(*each) for each in zip(self.splits, rows, strict=True))
        if centered:
            mean = bank.mean(0)
            bank, queries = bank - mean, queries - mean
        (known, asked), classes = self.splits, len(self.bank.classes)
        assert known.labels is not None and asked.labels is not None
        k = max(1, min(self.k, len(rows[0]) // classes))
        return self.score(neighbor_scores(bank, known.labels[rows[0]], queries, classes, k), asked.labels[rows[1]])

    def pixels(self, images: Tensor) -> Tensor:
        """The pixels of images as the model gets them, but not normalized and at most SIDE x SIDE: [N, D], 0 to 1."""
        data = self.training.config.data
        channels = self.training.parts.train.channels
        zeros, ones = (0.0,) * len(channels), (1.0,) * len(channels)
        found = evaluation_transform(data.size, zeros, ones, data.eval_crop, channels)(images)
        if data.size > SIDE:
            found = functional.interpolate(found, (SIDE, SIDE), mode="bilinear", antialias=True)
        return found.flatten(1)

    def features_of(self, network: Any) -> Callable[[Tensor], Tensor]:
        """A function images -> features [N, D] of the untrained network, in the precision of the training."""
        parts: Any = self.training.parts
        initialize_from_images(network.backbone, parts.train, parts.learner.transform)
        network.to(parts.device).to(memory_format=torch.channels_last).eval()

        def features(images: Tensor) -> Tensor:
            with autocast(parts.device, parts.dtype):
                return network.features(parts.learner.transform(images))

        return features


def image_baselines(
    training: Training, flops: float, constant: str, score: Callable[[np.ndarray, np.ndarray], float]
) -> tuple[dict[str, float], list[str]]:
    """The baselines of a task whose network has one output for each class; see `ImageBaselines`."""
    parts, config, chosen = training.parts, training.config, training.config.model

    def network() -> Any:
        rest = (config.data.size, dict(chosen.args), chosen.head, len(parts.train.channels))
        return build_model(chosen.name, len(parts.val.classes), *rest)

    return ImageBaselines(training, constant, score, parts.train, network).compute(flops)
