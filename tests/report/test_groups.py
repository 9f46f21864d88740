"""Groups of pictures without labels."""

import numpy as np
import pytest

from sightline.report.groups import groups_of


def clouds(sizes: tuple[int, ...], width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Features around one direction each, of any length, and which direction it is."""
    generator = np.random.default_rng(3)
    truth = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    near = np.eye(width)[truth] + 0.02 * generator.normal(size=(len(truth), width))
    return near * generator.uniform(0.5, 20, (len(truth), 1)), truth


def test_directions_are_found_whatever_the_length_and_the_largest_is_first() -> None:
    features, truth = clouds((25, 60, 35, 40, 20, 60 + 1))
    groups = groups_of(features)
    pairs = {(a, b) for a, b in zip(truth.tolist(), groups.tolist(), strict=True)}
    assert len({a for a, _ in pairs}) == 6 and all(
        len({a for a, b in pairs if b == group}) == 1 for group in set(groups)
    )
    counts = np.bincount(groups)
    assert (np.diff(counts) <= 0).all() and (counts > 0).all()


def test_the_same_features_give_the_same_groups() -> None:
    features, _ = clouds((30, 30, 30))
    assert (groups_of(features) == groups_of(features.copy())).all()


@pytest.mark.parametrize("features", [np.ones((40, 3)), np.zeros((12, 2)), np.eye(2)[np.arange(12) % 2]])
def test_few_different_features_are_few_groups(features: np.ndarray) -> None:
    groups = groups_of(features)
    assert groups.max() + 1 == len(np.unique(features, axis=0))
