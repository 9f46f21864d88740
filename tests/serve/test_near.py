"""The nearest training pictures: those of the largest cosine, out of what has been looked at."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from sightline.serve import near
from sightline.serve.near import BATCH, Near, chosen


def table(features: np.ndarray) -> tuple[Near, Any]:
    """Training pictures whose pixels number them, and a model that gives `features` for them."""
    pixels = np.zeros((len(features), 3, 1, 1), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(features)) % 256
    pixels[:, 1, 0, 0] = np.arange(len(features)) // 256
    train: Any = SimpleNamespace(images=pixels, names=tuple(map(str, range(len(features)))))

    def of(batch: torch.Tensor) -> tuple[None, np.ndarray]:
        return None, features[(batch[:, 0, 0, 0].int() + 256 * batch[:, 1, 0, 0].int()).numpy()]

    return Near(train, chosen(len(features), seed=3)), SimpleNamespace(of=of)


def test_the_nearest_are_those_of_the_largest_cosine() -> None:
    features = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    found, model = table(features)
    for _ in found.steps(model):
        pass
    wanted = np.random.default_rng(1).normal(size=6)
    cosines = features @ wanted / np.linalg.norm(features, axis=1) / np.linalg.norm(wanted)
    best = np.argsort(-cosines)[:8]
    rows, similar = zip(*found.nearest(wanted, 8), strict=True)
    assert list(rows) == best.tolist() and np.allclose(similar, cosines[best], atol=1e-5)
    assert np.allclose(found.nearest(100 * wanted, 8)[0][1], similar[0], atol=1e-5), "length does not count"


def test_a_half_done_index_answers_with_what_it_has() -> None:
    features = np.random.default_rng(0).normal(size=(3 * BATCH, 4)).astype(np.float32)
    found, model = table(features)
    assert found.nearest(features[0], 3) == []
    steps = found.steps(model)
    next(steps)
    assert found.done == BATCH
    assert {row for row, _ in found.nearest(features[0], 1000)} == set(found.rows[:BATCH].tolist())


def test_features_that_are_nothing_have_no_neighbors_that_are_nan() -> None:
    features = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    features[4] = 0
    found, model = table(features)
    for _ in found.steps(model):
        pass
    assert all(np.isfinite(similar) for _, similar in found.nearest(np.zeros(4), 10))
    assert found.nearest(np.full(4, np.nan), 3) == []
    assert dict(found.nearest(features[0], 10))[4] == 0


def test_of_too_many_some_are_drawn_the_same_ones_each_time() -> None:
    rows = chosen(1000, seed=1, most=100)
    assert len(set(rows.tolist())) == 100 and (rows == chosen(1000, seed=1, most=100)).all()
    assert (rows != chosen(1000, seed=2, most=100)).any() and 350 < rows.mean() < 650
    assert sorted(chosen(50, seed=1).tolist()) == list(range(50)) and near.MOST >= 22_500
