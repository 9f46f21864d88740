"""Nearest training images of an image, by cosine similarity of penultimate features."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..data.types import Decoded
from ..inference.predictor import Predictor

MOST = 50_000
"""Maximum number of training images in an index; of larger training sets, a random sample is used."""
BATCH = 64


@dataclass
class NeighborIndex:
    """Training images with their penultimate features float32 [M, D], scaled to unit length.

    train: the decoded training split. rows: indices of the M images in that split. note: text for the page. features:
    None before the first are computed. done: number of images whose features are computed.
    """

    train: Decoded
    rows: np.ndarray
    note: str = ""
    features: np.ndarray | None = None
    done: int = 0

    def with_features(self, features: np.ndarray) -> "NeighborIndex":
        """The index with the features float32 [N, D] of all training images, so that none are computed."""
        return replace(self, features=normalized(features[self.rows]), done=len(self.rows))

    def steps(self, predictor: Predictor) -> Iterator[None]:
        """Iterator that computes the features that are missing, one batch of images per step."""
        for start in range(self.done, len(self.rows), BATCH):
            pixels = torch.from_numpy(np.ascontiguousarray(self.train.images[self.rows[start : start + BATCH]]))
            _, found = predictor.predict(pixels)
            assert found is not None
            if self.features is None:
                self.features = np.zeros((len(self.rows), found.shape[1]), np.float32)
            self.features[start : start + len(found)] = normalized(found)
            self.done = start + len(found)
            yield

    def nearest(self, feature: np.ndarray, count: int) -> list[tuple[int, float]]:
        """The `count` training images nearest to the features [D], nearest first: (index in the training split, cosine
        similarity).

        Only images whose features are already computed are compared.
        """
        if self.features is None or not np.isfinite(feature).all():
            return []
        similarity = self.features[: self.done] @ normalized(feature[None])[0]
        best = np.argsort(-similarity, kind="stable")[:count]
        return [(int(self.rows[index]), float(similarity[index])) for index in best]


def sampled_rows(count: int, seed: int, most: int = MOST) -> np.ndarray:
    """Indices of at most `most` out of `count` images, in random order, so that an incomplete index is a random
    sample too."""
    return np.random.default_rng([seed, count]).permutation(count)[:most]


def normalized(features: np.ndarray) -> np.ndarray:
    """Features [N, D] scaled to unit length; zero vectors are unchanged."""
    lengths = np.linalg.norm(features.astype(np.float32), axis=1, keepdims=True)
    return features.astype(np.float32) / np.where(lengths > 0, lengths, 1)
