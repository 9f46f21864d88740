"""Baselines: stratified choice of images, votes of neighbors, and reading them from the log of a run."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from sightline.stats.baselines import baselines_of, baselines_text, neighbor_scores, stratified_rows


def by_similarity(distances: np.ndarray) -> np.ndarray:
    """The weights of neighbors, for scikit-learn: exp(similarity / 0.07)."""
    return np.exp((1 - distances) / 0.07)


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features of 90 known images, their classes, features of 40 other images)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(90, 6)), rng.integers(0, 5, 90), rng.normal(size=(40, 6))


def test_votes_for_classes_are_those_of_scikit_learn(points: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    bank, labels, queries = points
    reference = KNeighborsClassifier(7, weights=by_similarity, metric="cosine").fit(bank, labels)
    found = neighbor_scores(torch.from_numpy(bank), labels, torch.from_numpy(queries), 5, 7)
    assert found.shape == (40, 5) and (found.argmax(1) == reference.predict(queries)).all()


def test_votes_for_label_sets_are_weighted_means(points: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    bank, labels, queries = points
    sets = np.stack([labels > 1, labels == 3, labels < 0], axis=1)
    reference = KNeighborsRegressor(7, weights=by_similarity, metric="cosine").fit(bank, sets)
    found = neighbor_scores(torch.from_numpy(bank), sets, torch.from_numpy(queries), 3, 7)
    np.testing.assert_allclose(found, reference.predict(queries), atol=1e-4)


def test_rows_keep_the_share_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    rows = stratified_rows(labels, 50, 0)
    assert np.bincount(labels[rows]).tolist() == [30, 15, 5] and (np.diff(rows) > 0).all()
    assert (stratified_rows(labels, 50, 0) == rows).all() and (stratified_rows(labels, 50, 1) != rows).any()
    assert stratified_rows(labels, 5000, 0).tolist() == list(range(1000))


def test_baselines_are_those_of_the_last_end_of_each_run() -> None:
    records = [
        {"event": "done", "baselines": {"knn_untrained": 0.1}},
        {"event": "done", "baselines": {"knn_raw_pixels": 0.25, "knn_untrained": None, "of a later version": 1.0}},
        {"event": "eval", "baselines": {"knn_untrained": 0.3}},
    ]
    assert baselines_of(records) == {"knn_raw_pixels": 0.25}
    assert baselines_text({"knn_raw_pixels": 0.25}) == "without training: k-NN on raw pixels 0.2500"
    other = [{"event": "done", "baselines": {"knn_raw_pixels": 0.75, "knn_untrained": 0.5}}]
    assert baselines_of(records, other, []) == {"knn_raw_pixels": 0.5, "knn_untrained": 0.5}
    for damaged in ([], [{"event": "done"}], [{"event": "done", "baselines": [0.1]}]):
        assert baselines_of(damaged) == {}
