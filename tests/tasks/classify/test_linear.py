"""Linear evaluation: logistic regression by L-BFGS on the features of a frozen backbone, and k-NN."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import sightline
from config_toys import configured
from sightline import SightlineError
from sightline.tasks.classify.linear import fit_head, logistic_regression, nearest_accuracy

pytestmark = pytest.mark.usefixtures("quick_figures")

SETTINGS = {
    "task": "classify",
    "data.size": 16,
    "model.name": "fastnet",
    "model.args": {"widths": [8, 16, 16]},
    "model.freeze": True,
    "optim.name": "lbfgs",
    "optim.weight_decay": 0.01,
    "train.epochs": 1,
    "train.batch_size": 16,
    "train.precision": "fp32",
    "train.threads": 1,
    "report.samples": 0,
}


def test_it_is_scikit_learns_logistic_regression_of_standardized_features() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    features = (rng.normal(size=(4, 12))[labels] + rng.normal(size=(300, 12))) * rng.uniform(0.01, 50, 12) + 7
    weights, biases = logistic_regression(features, labels, 4, 0.03)
    standard = (features - features.mean(0)) / features.std(0)
    reference = LogisticRegression(C=1 / (300 * 0.03), tol=1e-8, max_iter=5000).fit(standard, labels)
    expected = reference.decision_function(standard)
    found = features @ weights.T + biases
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=2e-2
    )


def test_features_that_are_constant_or_classes_without_images_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)
    features[:, 2] = 3.0
    head = torch.nn.Linear(5, 3)
    fit_head(head, torch.from_numpy(features), torch.from_numpy(labels), 1e-4)
    with torch.no_grad():
        predicted = head(torch.from_numpy(features).float()).argmax(1)
    assert torch.isfinite(head.weight).all() and 2 not in predicted.tolist()


def test_nearest_neighbors_of_separate_classes() -> None:
    bank = torch.eye(3).repeat(5, 1)
    labels = torch.arange(3).repeat(5)
    assert nearest_accuracy(bank, labels, torch.eye(3), torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)


def test_a_run_with_lbfgs_is_an_ordinary_run(photos: Path, tmp_path: Path) -> None:
    run = sightline.train(configured(SETTINGS), photos, out=tmp_path / "run", quiet=True)
    chance, trained = 0.25, run.metrics["accuracy"]
    assert trained > 2 * chance and run.metrics["knn_accuracy"] > 1.5 * chance
    again = sightline.evaluate(run, quiet=True)
    assert again["accuracy"] == trained and again["knn_accuracy"] == pytest.approx(run.metrics["knn_accuracy"])
    steps = sightline.train(
        configured(SETTINGS | {"optim.name": "sgd", "optim.lr": 1e-9}), photos, out=tmp_path / "sgd", quiet=True
    )
    assert steps.metrics["loss"] > run.metrics["loss"], "one epoch of SGD with a tiny rate learns nothing"
    assert len(list((tmp_path / "run" / "predictions").iterdir())) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.freeze": False}, "model.freeze true"),
        ({"augment.horizontal_flip": 0.5}, "no augmentation"),
        ({"train.epochs": 3}, "train.epochs 1"),
        ({"loss.smoothing": 0.1}, "minimizes cross-entropy"),
        ({"task": "multilabel", "data.labels": "several"}, "one label per image only"),
    ],
)
def test_lbfgs_is_for_linear_evaluation_only(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError, match=words):
        configured(SETTINGS | changes)


def test_the_metric_epoch_keeps_the_last_weights(photos: Path, tmp_path: Path) -> None:
    config = configured(
        SETTINGS | {"model.freeze": False, "optim.name": "sgd", "train.epochs": 4, "train.best_metric": "epoch"}
    )
    run = sightline.train(config, photos, out=tmp_path / "run", quiet=True)
    last, best = ((tmp_path / "run/checkpoints" / name / "model.safetensors").read_bytes() for name in ("last", "best"))
    assert last == best and "best_epoch" not in run.metrics
    assert "choice of the best epoch" not in run.report.read_text(encoding="utf-8")
