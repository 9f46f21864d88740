import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from sightline.insight.features import silhouette, unit_rows


@pytest.mark.parametrize("seed", [0, 1])
def test_silhouette_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = np.r_[rng.integers(0, 4, 60), 9]  # also a class of one image
    features = rng.normal(size=(61, 8)) + 2 * np.eye(8)[labels % 8]
    assert silhouette(features, labels) == pytest.approx(silhouette_score(features, labels, metric="cosine"), abs=1e-9)


def test_silhouette_is_none_without_two_classes_or_with_one_sample_per_class():
    features = np.random.default_rng(0).normal(size=(4, 3))
    assert silhouette(features, np.zeros(4, dtype=int)) is None
    assert silhouette(features, np.arange(4)) is None


def test_features_of_zeros_have_a_silhouette_of_0():
    features = np.zeros((6, 3), dtype=np.float16)
    assert not unit_rows(features).any()
    assert silhouette(features, np.array([0, 0, 0, 1, 1, 1])) == 0


def test_silhouette_of_many_samples_needs_no_distance_matrix():
    random = np.random.default_rng(0)
    labels = np.arange(20_000) % 5
    features = random.normal(size=(20_000, 8)) + 2 * np.eye(8)[labels]
    tracemalloc.start()
    found = silhouette(features, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6, "a distance matrix would take 3.2 GB"
    assert found == pytest.approx(silhouette_score(features[:2000], labels[:2000], metric="cosine"), abs=0.02)
