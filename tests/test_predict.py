"""Prediction: what the run measured, on any folder; bad files become rows."""

import csv
from pathlib import Path

import pytest

import sightline
from sightline import SightlineError
from sightline.config import Config, resolve


@pytest.fixture(scope="module")
def run(photos: Path, tiny: dict, tmp_path_factory: pytest.TempPathFactory) -> sightline.Run:
    out = tmp_path_factory.mktemp("predict") / "run"
    return sightline.train(resolve(Config(), tiny | {"report.samples": 0}), photos, out=out, quiet=True)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predictions_equal_the_runs_own(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    path = sightline.predict(run.path, photos / "val", out=tmp_path / "p.csv", quiet=True)
    ours = {row["filename"]: row for row in rows_of(path)}
    for row in rows_of(run.path / "predictions" / "val.csv"):
        mine = ours[row["filename"].removeprefix("val/")]
        assert mine["label"] == row["label"] and mine["error"] == ""
        assert float(mine["confidence"]) == pytest.approx(float(row["confidence"]), abs=1e-6)


def test_a_bad_file_is_a_row_and_names_survive(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = next((photos / "val" / "class_1").iterdir()).read_bytes()
    (folder / 'a, "quoted" name.png').write_bytes(picture)
    (folder / "broken.png").write_bytes(picture[:60])
    (folder / "notes.txt").write_text("x")
    rows = rows_of(sightline.predict(run.path, folder, out=tmp_path / "p.csv", quiet=True))
    assert [row["filename"] for row in rows] == ['a, "quoted" name.png', "broken.png"]
    assert rows[0]["error"] == "" and rows[1]["error"] != "" and rows[1]["label"] == ""


def test_refusals(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SightlineError, match="no images"):
        sightline.predict(run.path, tmp_path / "empty", out=tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("mine")
    with pytest.raises(SightlineError, match="exists"):
        sightline.predict(run.path, photos / "val", out=tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == "mine"
