"""Metrics of a classifier, and the loss of confident errors."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

import sightline
from config_toys import configured
from film_toys import write_films
from sightline import SightlineError
from sightline.data.types import Decoded
from sightline.inference.predictor import mirror_mean
from sightline.tasks.classify.evaluate import with_classes
from sightline.tasks.classify.task import ClassifyLearner, classification_intervals, negative_log_likelihood


def test_the_loss_of_confident_errors_is_computed_from_logits() -> None:
    logits = torch.tensor([[300.0, 0.0], [0.0, 200.0], [3.0, 1.0]])
    learner: Any = mock.Mock(spec=ClassifyLearner)
    numbers, arrays = ClassifyLearner.numbers(learner, logits, torch.tensor([1, 0, 0]))
    expected = [300.0, 200.0, float(np.log1p(np.exp(-2)))]
    np.testing.assert_allclose(arrays["losses"], expected, rtol=1e-6)
    assert numbers["loss"] == pytest.approx(np.mean(expected)) and numbers["accuracy"] == pytest.approx(1 / 3)
    many = {name: np.repeat(array, 10, 0) for name, array in arrays.items()}
    low, high = classification_intervals(many, None)["loss_interval"]
    assert 0 < low < numbers["loss"] < high <= 300


def test_mirrored_logits_are_those_of_the_mean_and_stay_finite() -> None:
    one, other = torch.tensor([[2.0, 0.0, -1.0], [500.0, 0.0, 1.0]]), torch.tensor([[1.0, 3.0, 0.0], [400.0, 2.0, 0.0]])
    mean = mirror_mean(one, other)
    torch.testing.assert_close(mean.softmax(1), (one.softmax(1) + other.softmax(1)) / 2)
    assert mean.isfinite().all()


def test_the_loss_of_probabilities_is_limited_by_float32() -> None:
    """Ensembles average probabilities and have no logits."""
    probabilities = torch.tensor([[1.0, 0.0]])
    assert float(negative_log_likelihood(probabilities, torch.tensor([1]))) == pytest.approx(87.5, abs=0.01)


@pytest.mark.parametrize(("classes", "known"), [(5, False), (6, True)])
def test_the_top_5_accuracy_of_five_classes_has_no_interval(classes: int, known: bool) -> None:
    arrays = {
        "probabilities": np.eye(classes, dtype=np.float32),
        "labels": np.arange(classes),
        "losses": np.ones(classes),
    }
    assert ("accuracy_top5_interval" in classification_intervals(arrays, None)) == known


def test_label_sets_are_no_labels_of_a_classifier() -> None:
    empty = np.zeros((2, 3, 4, 4), np.uint8)
    decoded: Any = Decoded(empty, np.array([[True, True], [False, True]]), ("a", "b"), ("cat", "dog"), "", 0)
    with pytest.raises(SightlineError, match="one label per image"):
        with_classes(decoded, ("cat", "dog"), "other.csv")


@pytest.mark.usefixtures("no_reports")
def test_evaluating_a_run_keeps_the_warning_of_known_films(tmp_path: Path, tiny: dict) -> None:
    films = write_films(tmp_path / "films", ("train", "val"))
    run = sightline.train(configured(tiny | {"report.samples": 0}), films, out=tmp_path / "run", quiet=True)
    groups = run.path / "predictions" / "val-groups.json"
    before = json.loads(groups.read_text())
    assert before["shared"] == 60
    sightline.evaluate(run, quiet=True)
    assert json.loads(groups.read_text()) == before
