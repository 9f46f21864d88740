"""Nearest neighbors of some images over the epochs."""

import numpy as np
import pytest

from sightline.insight.neighbors import NEIGHBORS, QUERIES, agreement, draw_neighbors, nearest, queries
from sightline.insight.style import BLUE, ORANGE


def test_queries_are_of_different_classes_and_reproducible() -> None:
    labels = np.arange(100) % 50
    chosen = queries(labels, 100)
    assert len(set(labels[chosen].tolist())) == len(chosen) == QUERIES and (np.diff(chosen) > 0).all()
    assert (chosen == queries(labels, 100)).all()


def test_with_few_classes_each_has_equally_many_queries() -> None:
    labels = np.r_[np.zeros(90, np.int64), np.ones(5, np.int64), np.full(5, 2)]
    assert np.bincount(labels[queries(labels, 100)]).tolist() == [4, 4, 4]


def test_without_labels_or_with_few_images_all_are_distinct() -> None:
    assert len(set(queries(None, 100).tolist())) == QUERIES
    assert queries(None, 5).tolist() == [0, 1, 2, 3, 4]


def test_neighbors_are_those_of_scikit_learn_without_the_image_itself() -> None:
    from sklearn.neighbors import NearestNeighbors

    features = np.random.default_rng(0).normal(size=(60, 5)) * np.linspace(0.1, 9, 60)[:, None]
    rows = np.array([0, 7, 59])
    reference = NearestNeighbors(metric="cosine").fit(features).kneighbors(features[rows], NEIGHBORS + 1)[1]
    assert (nearest(features, rows) == reference[:, 1:]).all()


def test_copies_of_an_image_are_its_neighbors_but_it_is_not() -> None:
    features = np.eye(6)[[0, 0, 1, 2, 3, 4]]
    assert nearest(features, np.array([0]))[0, 0] == 1 and 0 not in nearest(features, np.array([0]))


def test_agreement_is_the_share_of_neighbors_of_the_same_class() -> None:
    assert agreement(np.array([[1, 2], [0, 3]]), np.array([0, 1]), np.array([0, 0, 1, 1])) == pytest.approx(0.5)


def test_frames_show_the_class() -> None:
    images, labels = np.zeros((6, 3, 4, 4), np.uint8), np.array([0, 0, 1, 1, 1, 0])
    figure = draw_neighbors(images, np.array([0]), [np.array([[1, 2]])], [3], labels)
    framed = [axes for axes in figure.axes if axes.spines["top"].get_visible()]
    assert [axes.spines["top"].get_edgecolor()[:3] for axes in framed] == [rgb(BLUE), rgb(ORANGE)]
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["neighbors after epoch 3"]
    plain = draw_neighbors(images, np.array([0]), [np.array([[1, 2]])], [3], None)
    assert not any(axes.spines["top"].get_visible() for axes in plain.axes)


def rgb(color: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(color)
