"""Likely wrong labels: planted ones are found, and none in a run with correct labels."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sightline
from config_toys import configured
from sightline.__main__ import run
from sightline.doctor.labels import likely_wrong, wrong_chances
from sightline.errors import SightlineError
from sightline.runs.run_folder import write_config


def probabilities_of(labels: np.ndarray, classes: int, seed: int = 0) -> np.ndarray:
    """Probabilities of a good model: about 0.8 for the true class."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 0.5, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += 3
    odds = np.exp(logits)
    return odds / odds.sum(1, keepdims=True)


def test_planted_wrong_labels_are_found() -> None:
    truth = np.arange(400) % 4
    given = truth.copy()
    wrong = np.array([3, 50, 77, 130, 201, 399])
    given[wrong] = (given[wrong] + 1) % 4
    found = likely_wrong(given, probabilities_of(truth, 4))
    assert set(found.tolist()) <= set(wrong.tolist()) and len(found) >= len(wrong) - 1


def test_mistakes_of_an_overconfident_model_are_not_wrong_labels() -> None:
    """30 % of the predictions are wrong with a confidence of 0.97: its confidence says nothing."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 400)
    predicted = np.where(random.random(400) < 0.7, truth, (truth + random.integers(1, 4, 400)) % 4)
    probabilities = np.full((400, 4), 0.01)
    probabilities[np.arange(400), predicted] = 0.97
    assert wrong_chances(truth, probabilities).max() < 0.75


def test_chances_are_ordered_and_finite_for_extreme_probabilities() -> None:
    labels = np.array([0, 1, 0, 1, 1])
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.2, 0.8], [1.0, 0.0]])
    chances = wrong_chances(labels, probabilities)
    assert np.isfinite(chances).all() and chances.argmax() == 4
    assert np.isfinite(wrong_chances(np.zeros(3, np.int64), np.ones((3, 1)))).all()


@pytest.fixture
def made(photos: Path, tmp_path: Path) -> Callable[[bool], Path]:
    """A run folder on `photos` with its predictions; two of its validation labels may be wrong."""

    def make(mistakes: bool) -> Path:
        folder = tmp_path / "run"
        write_config(folder, configured({"data.path": str(photos), "data.size": 16}))
        names = sorted(str(path.relative_to(photos)) for path in (photos / "val").rglob("*.png"))
        truth = np.array([int(name.split("/")[1][-1]) for name in names])
        given = truth.copy()
        given[[2, 9]] = (given[[2, 9]] + 2) % 4 if mistakes else given[[2, 9]]
        (folder / "predictions").mkdir()
        with open(folder / "predictions" / "val.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "label", "truth", "confidence", *(f"class_{k}" for k in range(4))])
            for name, label, row in zip(names, given, probabilities_of(truth, 4), strict=True):
                writer.writerow([name, f"class_{row.argmax()}", f"class_{label}", row.max(), *row])
        return folder

    return make


def test_likely_wrong_labels_of_a_run_are_reported(made: Callable[[bool], Path], tmp_path: Path) -> None:
    folder = made(True)
    assert run(["doctor", str(folder), "--out", str(tmp_path / "out"), "--quiet"]) == 5
    report = json.loads((tmp_path / "out" / "doctor.json").read_text())
    (finding,) = report["findings"]
    assert finding["kind"] == "wrong_label" and len(finding["files"]) == 2
    assert "labeled class_2" in finding["groups"][0]["note"] or "labeled class_0" in finding["groups"][0]["note"]
    assert (tmp_path / "out" / "doctor.html").read_text().count("data:image/") == 2


def test_right_labels_and_missing_predictions(made: Callable[[bool], Path], tmp_path: Path) -> None:
    folder = made(False)
    assert run(["doctor", str(folder), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    shutil.rmtree(folder / "predictions")
    with pytest.raises(SightlineError, match="the predictions of this run cannot be read"):
        sightline.doctor(folder, out=tmp_path / "out", quiet=True)


def test_one_class_for_every_image_shows_no_wrong_labels(made: Callable[[bool], Path], tmp_path: Path) -> None:
    path = made(False) / "predictions" / "val.csv"
    header, *rows = path.read_text().splitlines()
    constant = [f"{row.split(',')[0]},class_0,{row.split(',')[2]},0.7,0.7,0.1,0.1,0.1" for row in rows]
    path.write_text("\n".join([header, *constant]))
    with pytest.raises(SightlineError, match="cannot show wrong labels") as caught:
        sightline.doctor(path.parent.parent, out=tmp_path / "out", quiet=True)
    assert "predicts class_0 for every validation image" in caught.value.why
