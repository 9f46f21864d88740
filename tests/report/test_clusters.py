"""Clusters of images without labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sightline.report.findings import MEMBERS, cluster_labels, with_clusters
from sightline.report.run import read_run, with_predictions, with_samples


def clouds(sizes: tuple[int, ...], width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Features of random length around one direction per cluster, and their clusters."""
    generator = np.random.default_rng(3)
    truth = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    near = np.eye(width)[truth] + 0.02 * generator.normal(size=(len(truth), width))
    return near * generator.uniform(0.5, 20, (len(truth), 1)), truth


def test_clusters_depend_on_the_direction_only_and_are_sorted_by_size() -> None:
    features, truth = clouds((25, 60, 35, 40, 20, 60 + 1))
    clusters = cluster_labels(features)
    pairs = {(a, b) for a, b in zip(truth.tolist(), clusters.tolist(), strict=True)}
    assert len({a for a, _ in pairs}) == 6 and all(
        len({a for a, b in pairs if b == group}) == 1 for group in set(clusters)
    )
    counts = np.bincount(clusters)
    assert (np.diff(counts) <= 0).all() and (counts > 0).all()


def test_clusters_are_deterministic() -> None:
    features, _ = clouds((30, 30, 30))
    assert (cluster_labels(features) == cluster_labels(features.copy())).all()
    assert cluster_labels(np.random.default_rng(0).normal(size=(3 * MEMBERS + 1, 9))).max() == 2, (
        "three clusters of twenty"
    )


def test_a_run_without_labels_has_the_clusters_of_its_last_epoch(make_run: Callable[..., Path], tmp_path: Path) -> None:
    files = with_samples(with_predictions(read_run(make_run(tmp_path / "run", epochs=(1, 2, 6)))))
    assert files.samples and with_clusters(files) is files, "it has labels"
    bare = replace(files, samples=replace(files.samples, labels=None))
    found = with_clusters(bare)
    assert found.clustered and found.samples and found.samples.labels is not None and found.classes[0] == "group 1"
    first, last = (cluster_labels(files.snapshots[index].features) for index in (0, -1))
    assert (found.samples.labels == last).all() and (first != last).any() and len(found.classes) == last.max() + 1
    assert with_clusters(replace(bare, snapshots=())).samples == bare.samples


@pytest.mark.parametrize("features", [np.ones((40, 3)), np.zeros((12, 2)), np.eye(2)[np.arange(12) % 2]])
def test_few_distinct_features_have_few_clusters(features: np.ndarray) -> None:
    clusters = cluster_labels(features)
    assert clusters.max() + 1 == len(np.unique(features, axis=0))
