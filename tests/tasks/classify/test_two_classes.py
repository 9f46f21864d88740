"""The area under the ROC curve of a classifier of two classes: in its numbers and on its page."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import sightline
from accessibility import violations_of_file
from conftest import figures
from sightline.report.formatting import percent
from sightline.tasks.classify.two_classes import threshold_row

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def run(
    make_photos: Callable[..., Path], tiny: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> sightline.Run:
    folder = tmp_path_factory.mktemp("two")
    photos = make_photos(folder / "photos", classes=2, val=12)
    with figures(lambda figure: "roc" in figure[1]):
        return sightline.train("photos_scratch", photos, out=folder / "run", quiet=True, **tiny)


def test_the_number_is_that_of_scikit_learn_on_the_written_predictions(run: sightline.Run) -> None:
    with open(run.path / "predictions" / "val.csv") as file:
        rows = list(csv.DictReader(file))
    truth = np.array([row["truth"] == "class_1" for row in rows])
    scores = np.array([float(list(row.values())[5]) for row in rows])
    assert run.metrics["auc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    low, high = run.metrics["auc_interval"]
    assert 0 <= low <= run.metrics["auc"] <= high <= 1
    assert sightline.evaluate(run, quiet=True)["auc"] == pytest.approx(run.metrics["auc"], abs=1e-6)


def test_the_page_has_the_curve_and_recall_at_thresholds(run: sightline.Run, browser: "Browser") -> None:
    page = run.report.read_text()
    assert f"Area under the ROC curve: {percent(run.metrics['auc'])}%" in page and 'id="figure-roc"' in page
    assert "Recall of class_1, %" in page
    assert (run.path / "figures" / "roc.png").stat().st_size > 5000, "it is drawn"
    assert violations_of_file(browser, run.report) == []


def test_more_classes_have_none(photos: Path, tiny: dict[str, object], tmp_path: Path, no_figures: None) -> None:
    run = sightline.train("photos_scratch", photos, out=tmp_path / "run", quiet=True, **tiny)
    assert "auc" not in run.metrics and "ROC curve" not in run.report.read_text()


def test_recall_of_both_classes_at_a_threshold() -> None:
    scores, positive = np.array([0.9, 0.5, 0.4, 0.3, 0.6]), np.array([True, True, True, False, False])
    cells = threshold_row(scores, positive, None, 0.5)
    assert [cells[0], cells[1], cells[3]] == ["50%", "66.7", "50.0"]
    alone = threshold_row(scores, positive, np.zeros(5, np.int64), 0.5)
    assert [alone[2], alone[4]] == ["none", "none"], "all images are of one group"
