"""Which training pictures look most like a picture to a model: cosine similarity of its penultimate features."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..data.cache import Decoded
from ..inference.predictor import Predictor

MOST = 50_000
"""Training pictures that are looked at; of more, so many are drawn."""
BATCH = 64


@dataclass
class Near:
    """Training pictures and their features of length 1, float32 [M, D], the first `done` of which are known.

    train: the decoded split. rows: places in it of the M pictures. note: what a reader should know.
    """

    train: Decoded
    rows: np.ndarray
    note: str = ""
    features: np.ndarray | None = None
    done: int = 0

    def steps(self, answers: Predictor) -> Iterator[None]:
        """Compute the features, a batch at each step."""
        for start in range(0, len(self.rows), BATCH):
            pixels = torch.from_numpy(np.ascontiguousarray(self.train.images[self.rows[start : start + BATCH]]))
            _, found = answers.of(pixels)
            assert found is not None
            if self.features is None:
                self.features = np.zeros((len(self.rows), found.shape[1]), np.float32)
            self.features[start : start + len(found)] = unit(found)
            self.done = start + len(found)
            yield

    def nearest(self, feature: np.ndarray, count: int) -> list[tuple[int, float]]:
        """(place in the training split, cosine similarity) of the pictures nearest to a feature [D], nearest first."""
        if self.features is None or not np.isfinite(feature).all():
            return []
        similar = self.features[: self.done] @ unit(feature[None])[0]
        best = np.argsort(-similar, kind="stable")[:count]
        return [(int(self.rows[place]), float(similar[place])) for place in best]


def chosen(count: int, seed: int, most: int = MOST) -> np.ndarray:
    """Places of at most `most` of `count` pictures, drawn by `seed`, in an order that mixes the classes: an index that
    is half done is then a fair sample."""
    return np.random.default_rng([seed, count]).permutation(count)[:most]


def unit(features: np.ndarray) -> np.ndarray:
    """Features [N, D] of length 1; those of length 0 stay."""
    lengths = np.linalg.norm(features.astype(np.float32), axis=1, keepdims=True)
    return features.astype(np.float32) / np.where(lengths > 0, lengths, 1)
