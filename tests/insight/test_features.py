import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from sightline.insight.features import silhouette, unit_rows


@pytest.mark.parametrize("seed", [0, 1])
def test_silhouette_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = np.r_[rng.integers(0, 4, 60), 9]  # a class of one image too
    features = rng.normal(size=(61, 8)) + 2 * np.eye(8)[labels % 8]
    assert silhouette(features, labels) == pytest.approx(silhouette_score(features, labels, metric="cosine"), abs=1e-9)


def test_silhouette_needs_two_classes_and_a_repeated_one():
    features = np.random.default_rng(0).normal(size=(4, 3))
    assert silhouette(features, np.zeros(4, dtype=int)) is None
    assert silhouette(features, np.arange(4)) is None


def test_dead_features_stay_finite():
    features = np.zeros((6, 3), dtype=np.float16)
    assert not unit_rows(features).any()
    assert silhouette(features, np.array([0, 0, 0, 1, 1, 1])) == 0


def test_many_samples_need_no_table_of_their_distances():
    random = np.random.default_rng(0)
    labels = np.arange(20_000) % 5
    features = random.normal(size=(20_000, 8)) + 2 * np.eye(8)[labels]
    tracemalloc.start()
    found = silhouette(features, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6, "the distances alone would have 3.2 GB"
    assert found == pytest.approx(silhouette_score(features[:2000], labels[:2000], metric="cosine"), abs=0.02)
