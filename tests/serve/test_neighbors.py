"""The neighbor index: largest cosine similarity among the images computed so far."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from sightline.serve import neighbors
from sightline.serve.neighbors import BATCH, NeighborIndex, sampled_rows


def computed_index(features: np.ndarray, steps: int | None = None) -> NeighborIndex:
    """An index of images whose pixels encode their row, after all or some steps of a model that returns `features`."""
    pixels = np.zeros((len(features), 3, 1, 1), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(features)) % 256
    pixels[:, 1, 0, 0] = np.arange(len(features)) // 256
    train: Any = SimpleNamespace(images=pixels, names=tuple(map(str, range(len(features)))))

    def predict(batch: torch.Tensor) -> tuple[None, np.ndarray]:
        return None, features[(batch[:, 0, 0, 0].int() + 256 * batch[:, 1, 0, 0].int()).numpy()]

    index, model = NeighborIndex(train, sampled_rows(len(features), seed=3)), SimpleNamespace(predict=predict)
    for number, _ in enumerate(index.steps(model) if steps != 0 else ()):  # ty: ignore[invalid-argument-type]
        if number + 1 == steps:
            break
    return index


def test_the_nearest_have_the_largest_cosine() -> None:
    features = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    index = computed_index(features)
    query = np.random.default_rng(1).normal(size=6)
    cosines = features @ query / np.linalg.norm(features, axis=1) / np.linalg.norm(query)
    best = np.argsort(-cosines)[:8]
    rows, similarities = zip(*index.nearest(query, 8), strict=True)
    assert list(rows) == best.tolist() and np.allclose(similarities, cosines[best], atol=1e-5)
    assert np.allclose(index.nearest(100 * query, 8)[0][1], similarities[0], atol=1e-5), "the length is irrelevant"


def test_a_partial_index_returns_what_is_computed() -> None:
    features = np.random.default_rng(0).normal(size=(3 * BATCH, 4)).astype(np.float32)
    assert computed_index(features, steps=0).nearest(features[0], 3) == []
    index = computed_index(features, steps=1)
    assert index.done == BATCH
    assert {row for row, _ in index.nearest(features[0], 1000)} == set(index.rows[:BATCH].tolist())


def test_zero_and_nan_features_give_no_nan() -> None:
    features = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    features[4] = 0
    index = computed_index(features)
    assert all(np.isfinite(similarity) for _, similarity in index.nearest(np.zeros(4), 10))
    assert index.nearest(np.full(4, np.nan), 3) == []
    assert dict(index.nearest(features[0], 10))[4] == 0


def test_large_sets_are_sampled_reproducibly() -> None:
    rows = sampled_rows(1000, seed=1, most=100)
    assert len(set(rows.tolist())) == 100 and (rows == sampled_rows(1000, seed=1, most=100)).all()
    assert (rows != sampled_rows(1000, seed=2, most=100)).any() and 350 < rows.mean() < 650
    assert sorted(sampled_rows(50, seed=1).tolist()) == list(range(50)) and neighbors.MOST >= 22_500
