import numpy as np
import pytest
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_info, threadpool_limits

from sightline.insight import projection
from sightline.insight.projection import (
    epoch_maps,
    first_middle_last,
    principal_components,
    rotated_to,
    tsne,
    why_no_map,
    why_not_separable,
)


@pytest.fixture(scope="module", autouse=True)
def all_iterations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "EXAGGERATED", 150)
        patch.setattr(projection, "ITERATIONS", 300)
        yield


def clusters(seed: int, count: int = 45, width: int = 12, apart: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return rng.normal(size=(count, width)) + apart * np.eye(width)[labels], labels


@pytest.mark.parametrize("shape", [(40, 7), (15, 30)])
def test_pca_equals_scikit_learn_up_to_sign(shape):
    features = np.random.default_rng(0).normal(size=shape) * np.linspace(3, 0.5, shape[1])
    scores, shares, spread = principal_components(features, 5)
    reference = PCA(5, svd_solver="full").fit(features)
    np.testing.assert_allclose(np.abs(scores), np.abs(reference.transform(features)), atol=1e-8)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, atol=1e-10)
    assert spread == pytest.approx(np.sqrt(features.var(0, ddof=1).sum()))


def test_the_largest_score_of_every_component_is_positive():
    features, _ = clusters(0)
    for sign in (1, -1):
        scores = principal_components(sign * features, 3)[0]
        assert (scores[np.abs(scores).argmax(0), range(3)] > 0).all()


def test_pca_of_one_dimension_and_of_constant_features_has_two_columns():
    assert principal_components(np.arange(5.0)[:, None], 50)[0].shape == (5, 2)
    scores, shares, _ = principal_components(np.ones((6, 4)), 50)
    assert np.allclose(scores, 0) and np.allclose(shares, 0)


def test_eigenvectors_are_computed_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """SciPy's threads wait for each other where others compute: with two, the map of a run took eight times as long."""
    used, eigh = [], projection.scipy.linalg.eigh

    def watched(*args, **options):
        used.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return eigh(*args, **options)

    monkeypatch.setattr(projection.scipy.linalg, "eigh", watched)
    with threadpool_limits(2, "blas"):
        principal_components(np.random.default_rng(0).normal(size=(20, 6)), 3)
    assert set(used) <= {1}  # Accelerate of macOS is not listed


def test_alignment_inverts_rotation_and_reflection_and_keeps_distances():
    points = np.random.default_rng(1).normal(size=(20, 2))
    points -= points.mean(0)
    rotated = points @ np.array([[0.6, 0.8], [0.8, -0.6]])
    np.testing.assert_allclose(rotated_to(rotated, points), points, atol=1e-12)
    stretched = rotated_to(3 * rotated, points)
    np.testing.assert_allclose(stretched, 3 * points, atol=1e-12)


def test_tsne_separates_clusters_and_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clusters(0)
    scores = principal_components(features, 50)[0]
    first = tsne(scores, None)
    np.testing.assert_array_equal(first, tsne(scores, None))
    monkeypatch.setattr(projection, "processors", lambda: 6)
    np.testing.assert_array_equal(first, tsne(scores, None), "three threads")
    distance = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e9 * np.eye(len(first))
    assert (labels[distance.argmin(1)] == labels).mean() > 0.9


def test_maps_of_several_epochs_are_aligned():
    features, labels = clusters(0)
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(12, 12)))[0]
    maps = epoch_maps([1, 4, 9], [features @ rotation, -2 * features, features], labels)
    assert [one.epoch for one in maps] == [1, 4, 9]
    for one in maps:  # equal up to rotation and scale: equal after alignment
        np.testing.assert_allclose(one.pca, maps[-1].pca, atol=1e-6)
        assert one.knn == 1 and one.silhouette is not None and one.silhouette > 0.3
    centers = [np.array([one.tsne[labels == c].mean(0) for c in range(3)]) for one in maps]
    side = np.linalg.norm(centers[0][0] - centers[0][1])
    assert np.linalg.norm(centers[0] - centers[2], axis=1).max() < side / 2


@pytest.mark.parametrize(("count", "neighbors"), [(12, 11), (45, 20)])
def test_a_map_has_the_k_of_its_knn_accuracy(count, neighbors):
    features, labels = clusters(0, count)
    assert epoch_maps([1], [features], labels)[0].neighbors == neighbors


@pytest.mark.parametrize(
    ("kept", "chosen"),
    [
        ([], []),
        ([3], [3]),
        ([1, 2], [1, 2]),
        ([1, 2, 3, 4, 10], [1, 4, 10]),
        ([1, 3, 6, 9, 12, 15, 19, 24], [1, 12, 24]),
    ],
)
def test_first_middle_last(kept, chosen):
    assert first_middle_last(kept) == chosen


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (np.eye(9), "9 images, but at least 10"),
        (np.full((12, 3), 7.0), "are the same"),
        (np.zeros((12, 3)), "are the same"),
        (np.where(np.eye(12, 3) > 0, 1 + 2**-10, 1.0), "are the same"),  # the next float16
        (np.where(np.eye(12, 3) > 0, 1 + 2**-9, 1.0), ""),
        (np.where(np.eye(12, 3) > 0, 1e-3, [100.0, 0.0, 0.0]), ""),  # small differences beside a large constant
        (np.where(np.eye(12, 3) > 0, np.nan, 1.0), "limit of float16"),
        (np.where(np.eye(12, 3) > 0, 7e4, 1.0), "limit of float16"),
    ],
)
def test_features_without_a_map(features, why):
    assert why in why_no_map(features) if why else not why_no_map(features)


def test_epochs_whose_features_have_no_map_are_left_out():
    features, labels = clusters(0)
    arrays = [np.ones_like(features), features, np.full_like(features, np.nan)]
    assert [one.epoch for one in epoch_maps([1, 2, 3], arrays, labels)] == [2]
    assert epoch_maps([1], arrays[:1], labels) == []


def test_one_class_and_one_image_a_class_have_no_measures():
    features, labels = clusters(0, 12)
    for alone, why in ((np.zeros(12, np.int64), "of one class"), (np.arange(12), "only one of its class")):
        assert why in why_not_separable(alone)
        (found,) = epoch_maps([1], [features], alone, with_tsne=False)
        assert found.knn is None and found.silhouette is None
    assert not why_not_separable(labels)
