"""Comparison of two runs on the same images: the difference, its interval and test, agreement, files and notes."""

import csv
import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import sightline
from config_toys import configured
from conftest import figures
from multilabel_toys import SETTINGS, read_rows
from sightline.report.compare.numbers import compare
from sightline.report.run import read_run
from sightline.tasks.multilabel.metrics import paired_precision
from sightline.tasks.multilabel.predictions import read_label_sets

BLANK = b"\x89PNG\r\n\x1a\n" + bytes(8) + (64).to_bytes(4, "big") * 2


@pytest.fixture(scope="module")
def other(quarters: Path, trained: Path) -> Path:
    """A second run with another seed, for two epochs."""
    with figures(lambda figure: False):
        config = configured(SETTINGS | {"train.seed": 1, "report.samples": 16, "name": "other"})
        return sightline.train(config, quarters, out=trained.parent / "other", quiet=True).path


def test_the_numbers_of_a_comparison(trained: Path, other: Path) -> None:
    found = compare([trained, other])
    (pair,) = found.pairs
    a, b = (read_label_sets(read_run(run))[1] for run in (trained, other))
    assert a is not None and b is not None
    apart, classes = paired_precision(a.probabilities, b.probabilities, a.truth)
    assert pair.difference == apart.value and not np.isfinite([*pair.interval, pair.p, apart.p]).any()
    assert "without an interval" in pair.sentence, "a class has fewer than 10 images"
    ends = [sightline.Run(run).metrics for run in (trained, other)]
    values = [end["mean_average_precision"] for end in ends]
    assert [one.quality for one in found.entries] == pytest.approx(values)
    assert apart.value == pytest.approx(values[1] - values[0])
    assert [one.interval for one in found.entries] == [None, None], "a class has fewer than 10 images"
    assert [end["mean_average_precision_interval"] for end in ends] == [[None, None]] * 2
    right = [(each.predicted == each.truth).all(1) for each in (a, b)]
    agreement = pair.numbers.agreement
    assert agreement["both right"] == (right[0] & right[1]).sum()
    assert agreement["only first right"] == (right[0] & ~right[1]).sum()
    assert agreement["only second right"] == (~right[0] & right[1]).sum()
    assert sum(agreement[name] for name in agreement if name != "same labels") == 24
    assert agreement["same labels"] == (a.predicted == b.predicted).all(1).sum()
    assert (classes.difference == pair.numbers.classes["average precision"].difference).all()


def test_the_files_of_a_comparison(
    trained: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.import_module("sightline.report.compare.files"), "png", lambda figure: BLANK)
    page = sightline.report(trained, other, out=tmp_path / "both").read_text(encoding="utf-8")
    assert "mean average precision" in capsys.readouterr().out
    with open(tmp_path / "both" / "compare.csv", newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert float(first["mean_average_precision"]) > 0 and float(second["difference"]) and not second["p"]
    for text in (
        "Both exactly right",
        "Only run exactly right",
        "Same labels predicted",
        "paired jackknife over images",
    ):
        assert text in page
    assert "run is right, other is wrong" in page and "data:image/png" in page


def test_a_run_without_predictions_and_a_run_of_other_labels(trained: Path, other: Path, copied: Path) -> None:
    (copied / "predictions" / "val.csv").unlink()
    found = compare([trained, other, copied])
    (unpaired,) = found.unpaired
    assert unpaired.name == "copied" and "has no predictions" in unpaired.why and "sightline evaluate" in unpaired.cure


def test_images_in_another_order_are_matched_and_other_labels_are_reported(trained: Path, copied: Path) -> None:
    path = copied / "predictions" / "val.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    (pair,) = compare([trained, copied]).pairs
    assert pair.difference == 0 and pair.numbers.agreement["same labels"] == 24
    rows = read_rows(path)
    changed = next(row for row in rows if row["truth"] == "blue")
    changed["truth"] = "red"
    path.write_text("\n".join([header, *(",".join(row.values()) for row in rows)]) + "\n")
    (unpaired,) = compare([trained, copied]).unpaired
    assert f"{changed['filename']} is blue in run and red in copied" in unpaired.why


def test_a_classifier_is_not_compared_with_a_run_of_label_sets(
    trained: Path, photos: Path, tmp_path: Path, tiny
) -> None:
    with figures(lambda figure: False):
        run = sightline.train(configured(tiny | {"train.epochs": 1}), photos, out=tmp_path / "one", quiet=True)
    with pytest.raises(sightline.SightlineError) as caught:
        compare([trained, run.path])
    assert "finds all labels of images" in caught.value.why and "classifies images" in caught.value.why


def test_the_page_of_a_run_whose_data_are_gone(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("labels.csv", "gone.csv"))
    assert compare([trained, copy]).pairs[0].difference == 0
    assert json.loads((copy / "thresholds.json").read_text())
