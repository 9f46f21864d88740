import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn import metrics as reference
from sklearn.neighbors import KNeighborsClassifier

from sightline.errors import SightlineError
from sightline.stats.metrics import (
    accuracy,
    alignment,
    calibration_error,
    confusion_matrix,
    effective_rank,
    feature_std,
    knn_accuracy,
    knn_votes,
    most_confused,
    per_class,
    reliability,
    top_k,
    uniformity,
)


def scores_and_labels(count: int = 500, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    scores = rng.normal(size=(count, classes)) + np.eye(classes)[labels]
    return scores, labels


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_top_k_equals_scikit_learn(k):
    scores, labels = scores_and_labels()
    expected = reference.top_k_accuracy_score(labels, scores, k=k)
    assert top_k(scores, labels, k) == pytest.approx(expected)
    assert top_k(torch.from_numpy(scores), torch.from_numpy(labels), k) == pytest.approx(expected)


def test_accuracy_equals_that_of_argmax_also_with_ties():
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 3, (400, 4)).astype(np.float32), rng.integers(0, 4, 400)
    assert accuracy(scores, labels) == (scores.argmax(1) == labels).mean()
    assert accuracy(np.zeros((4, 4)), np.arange(4)) == 0.25
    assert top_k(np.zeros((4, 4)), np.arange(4), 2) == 0.5


def test_nan_scores_are_wrong():
    assert accuracy(np.full((3, 4), np.nan), np.zeros(3, dtype=int)) == 0
    assert accuracy(np.array([[np.nan, 5.0], [0.0, 5.0]]), np.array([1, 1])) == 0.5


def test_k_above_the_number_of_classes():
    assert top_k(np.eye(3), np.array([2, 2, 2]), 5) == 1


def test_half_precision_tensors():
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2]], dtype=torch.bfloat16)
    assert accuracy(scores, torch.tensor([1, 1])) == 0.5


def test_confusion_matrix_equals_scikit_learn_with_true_classes_as_rows():
    scores, labels = scores_and_labels()
    predictions = scores.argmax(1)
    confusion = confusion_matrix(predictions, labels, 9)
    assert confusion.dtype == np.int64
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels, predictions, labels=range(9)))
    np.testing.assert_array_equal(confusion_matrix(np.array([1, 1, 0]), np.array([0, 0, 0]), 2), [[1, 2], [0, 0]])


def test_confusion_matrix_of_uint8_masks_does_not_overflow():
    masks = np.full((2, 3, 3), 200, dtype=np.uint8)
    confusion = confusion_matrix(masks, masks, 201)
    assert confusion[200, 200] == confusion.sum() == 18


@pytest.mark.parametrize("wrong", [-1, 3])
@pytest.mark.parametrize("argument", ["predictions", "labels"])
def test_values_outside_the_classes_raise_an_error(wrong, argument):
    arrays = {"predictions": np.array([0, 1]), "labels": np.array([1, 0])}
    arrays[argument] = np.array([0, wrong])
    with pytest.raises(SightlineError, match=str(wrong)):
        confusion_matrix(**arrays, classes=3)


def test_per_class_equals_scikit_learn():
    scores, labels = scores_and_labels(60)
    predictions = scores.argmax(1)
    predictions[predictions == 4] = 5  # a class that is never predicted
    labels[labels == 6] = 0  # a class without images
    ours = per_class(confusion_matrix(predictions, labels, 8))
    expected = reference.precision_recall_fscore_support(labels, predictions, labels=range(8), zero_division=0)
    for mine, theirs in zip((ours.precision, ours.recall, ours.f1, ours.support), expected, strict=True):
        np.testing.assert_allclose(mine, theirs)
    assert ours.support[7] == ours.recall[7] == ours.f1[7] == ours.precision[4] == 0


def test_most_confused():
    confusion = np.array([[50, 3, 0], [7, 40, 3], [0, 1, 60]])
    assert most_confused(confusion, 3) == [(1, 0, 7), (0, 1, 3), (1, 2, 3)]
    assert most_confused(confusion) == [(1, 0, 7), (0, 1, 3), (1, 2, 3), (2, 1, 1)]
    assert most_confused(np.diag([4, 5])) == []
    assert most_confused(np.ones((20, 20), dtype=int), 2) == [(0, 1, 1), (0, 2, 1)]


CONFIDENCE = np.array([0.25, 0.35, 0.65, 0.65, 0.95, 0.95, 1.0, 1.0], dtype=np.float32)
CORRECT = np.array([0, 1, 1, 0, 1, 1, 1, 0], dtype=bool)


def test_calibration_error_of_known_values():
    # Bins: [0.25, 0.5) has 0.25 and 0.35 with 1 hit, [0.5, 0.75) has 0.65 twice with 1 hit, [0.75, 1) has 0.95 twice
    # with 2 hits, and {1} has 1 twice with 1 hit: (|1 - 0.6| + |1 - 1.3| + |2 - 1.9| + |1 - 2|) / 8.
    assert calibration_error(CONFIDENCE, CORRECT, bins=4) == pytest.approx((0.4 + 0.3 + 0.1 + 1.0) / 8)


def test_calibration_error_equals_torchmetrics():
    # multiclass_calibration_error(p, y, 10, n_bins=15) of torchmetrics 1.9.0 on these p and y
    generator = torch.Generator().manual_seed(2)
    p = (torch.randn(5000, 10, generator=generator) * 9).softmax(1)
    y = p.argmax(1)
    flip = torch.rand(5000, generator=generator) < 0.3
    y[flip] = torch.randint(10, (int(flip.sum()),), generator=generator)
    confidence, predicted = p.max(1)
    assert calibration_error(confidence, predicted == y) == pytest.approx(0.208011, abs=5e-6)


def test_reliability_of_known_values():
    curve = reliability(CONFIDENCE, CORRECT, bins=4)
    np.testing.assert_allclose(curve.edges, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(curve.count, [0, 2, 2, 4])
    np.testing.assert_allclose(curve.confidence, [0, 0.3, 0.65, 3.9 / 4], rtol=1e-6)
    np.testing.assert_allclose(curve.accuracy, [0, 0.5, 0.5, 0.75])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=50), st.integers(1, 20))
def test_calibration_counts_every_prediction_and_stays_in_range(pairs, bins):
    confidence, correct = np.array([c for c, _ in pairs], dtype=np.float32), np.array([r for _, r in pairs])
    curve = reliability(confidence, correct, bins)
    assert curve.count.sum() == len(pairs) and len(curve.count) == bins
    assert 0 <= calibration_error(confidence, correct, bins) <= 1
    assert calibration_error(confidence, correct, 1) >= abs(confidence.mean(dtype=float) - correct.mean()) - 1e-6


def test_knn_accuracy_equals_leave_one_out_of_scikit_learn():
    features, labels = datasets.load_digits(return_X_y=True)
    features, labels = features[:600], labels[:600]
    model = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    expected = (model.fit(features, labels).predict(None) == labels).mean()
    assert 0.9 < expected < 1
    assert knn_accuracy(features, labels) == pytest.approx(expected)


def test_knn_votes_equal_scikit_learn_also_with_autocast():
    features, labels = datasets.load_digits(return_X_y=True)
    bank, queries = features[:400], features[400:500]
    model = KNeighborsClassifier(15, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    expected = model.fit(bank, labels[:400]).predict_proba(queries)
    tensors = [torch.from_numpy(value) for value in (bank, labels[:400].astype(np.int64), queries)]
    with torch.autocast("cpu", torch.bfloat16):
        votes = knn_votes(*tensors, classes=10, k=15)
    np.testing.assert_allclose(votes / votes.sum(1, keepdim=True), expected, atol=1e-4)


def test_feature_std_is_0_for_one_direction_and_1_for_opposite_ones():
    assert feature_std(torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.5, 1.0]])) == pytest.approx(0, abs=1e-7)
    assert feature_std(torch.tensor([[2.0, 0.0], [-5.0, 0.0], [0.0, 1.0], [0.0, -7.0]])) == pytest.approx(1)
    mixed = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # the squared length of the mean direction is 1/2
    assert feature_std(mixed) == pytest.approx(0.5**0.5)
    rng = torch.Generator().manual_seed(0)
    healthy = torch.nn.functional.normalize(torch.randn(4000, 64, generator=rng), dim=1)
    assert feature_std(healthy) == pytest.approx(float(healthy.std(0).mean()) * 64**0.5, rel=0.01)  # SimSiam's


def test_effective_rank_of_known_features():
    line = torch.outer(torch.arange(5.0), torch.tensor([1.0, 2.0, 3.0]))
    assert effective_rank(line) == pytest.approx(1, abs=1e-6)
    assert effective_rank(torch.ones(6, 4)) == 1
    square = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert effective_rank(square) == pytest.approx(2)
    assert effective_rank(square + 100) == pytest.approx(2), "the mean has no effect"
    values = np.array([4.0, 2.0, 1.0])
    shares = values / values.sum()
    known = torch.from_numpy(np.vstack([np.diag(values), -np.diag(values)]))
    assert effective_rank(known) == pytest.approx(float(np.exp(-(shares * np.log(shares)).sum())))


def test_knn_accuracy_does_not_depend_on_the_block_size(monkeypatch):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(300, 4)).astype(np.float16), rng.integers(0, 3, 300)
    whole = knn_accuracy(features, labels, k=5)
    products = []
    multiply = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: products.append(len(a)) or multiply(a, b))
    monkeypatch.setattr("sightline.stats.metrics.BLOCK", 300 * 70)
    assert knn_accuracy(features, labels, k=5) == whole
    assert products == [70, 70, 70, 70, 20]


def test_nearer_neighbors_have_larger_weights():
    # cosines with the first: 1.00, 0.71, 0.71; its class has exp(0.29 / 0.07) = 66 votes, the other class 2
    features, labels = np.array([[1.0, 0], [1, 0.01], [1, 1], [1, -1]]), np.array([0, 0, 1, 1])
    assert knn_accuracy(features, labels, k=3) == 0.5
    assert knn_accuracy(features, labels, k=3, temperature=10) == 0


def test_no_image_is_its_own_neighbor():
    # each point has its own class: it would be right only as its own neighbor
    assert knn_accuracy(np.eye(4), np.arange(4), k=1) == 0
    assert knn_accuracy(np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), np.array([0, 0, 1, 1]), k=1) == 1
    assert knn_accuracy(np.array([[1.0, 0], [1, 0.1]]), np.array([1, 1]), k=20) == 1


def test_alignment_and_uniformity_on_hand_numbers() -> None:
    """Rows are scaled to length 1 first; orthogonal rows have the squared distance 2."""
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert alignment(first, 5 * first) == pytest.approx(0)
    assert alignment(first, first.flip(0)) == pytest.approx(2)
    assert uniformity(first) == pytest.approx(-4)
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0)
    assert uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(-8)
    three = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # pairs at 0, 2 and 2
    assert uniformity(three) == pytest.approx(np.log((1 + 2 * np.exp(-4)) / 3))
    assert np.isnan(uniformity(first[:1]))
    random = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert uniformity(random) == pytest.approx(-4 + 2 / 16, abs=0.1)
