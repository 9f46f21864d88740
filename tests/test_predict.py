"""Prediction: what the run measured, on any folder; bad files become rows."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import sightline
from sightline import SightlineError
from sightline.config import Config
from sightline.settings import resolve

pytestmark = pytest.mark.usefixtures("quick_figures")


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


def test_an_image_is_never_overwritten_and_a_folder_gets_a_table(
    run: sightline.Run, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "val", tmp_path / "in")
    picture = next((tmp_path / "in" / "class_0").iterdir())
    before = picture.read_bytes()
    with pytest.raises(SightlineError, match="are a table"):
        sightline.predict(run.path, tmp_path / "in", out=picture, overwrite=True)
    assert picture.read_bytes() == before
    assert sightline.predict(run.path, picture, out=tmp_path, quiet=True) == tmp_path / "predictions.csv"


def test_test_time_flip_is_used_as_in_the_run(photos: Path, tiny: dict, tmp_path: Path) -> None:
    settings = tiny | {"report.samples": 0, "train.flip_test": True, "train.epochs": 1}
    run = sightline.train(resolve(Config(), settings), photos, out=tmp_path / "run", quiet=True)
    path = sightline.predict(run.path, photos / "val", out=tmp_path / "p.csv", quiet=True)
    ours = {row["filename"]: row for row in rows_of(path)}
    for row in rows_of(run.path / "predictions" / "val.csv"):
        mine = ours[row["filename"].removeprefix("val/")]
        assert float(mine["confidence"]) == pytest.approx(float(row["confidence"]), abs=1e-6)


@pytest.mark.parametrize("square", [{"data.fit": "crop"}, {"data.filter": "bicubic"}])
def test_pictures_become_squares_as_in_the_run(
    square: dict, make_photos: Callable[..., Path], tiny: dict, tmp_path: Path
) -> None:
    data = make_photos(tmp_path / "data", size=20)
    for path in data.glob("*/*/*.png"):
        with Image.open(path) as picture:
            wide = picture.resize((40, 20))
        wide.save(path)
    settings = tiny | square | {"report.samples": 0, "train.epochs": 1, "optim.lr": 0.001}
    run = sightline.train(resolve(Config(), settings), data, out=tmp_path / "run", quiet=True)
    ours = {row["filename"]: row for row in rows_of(sightline.predict(run.path, data / "val", out=tmp_path / "p.csv"))}
    for row in rows_of(run.path / "predictions" / "val.csv"):
        mine = ours[row["filename"].removeprefix("val/")]
        assert float(mine["confidence"]) == pytest.approx(float(row["confidence"]), abs=1e-6)


def test_a_prediction_does_not_depend_on_the_other_images(
    run: sightline.Run, photos: Path, tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    small = make_photos(tmp_path / "small", train=1, val=1, size=11) / "val" / "class_1" / "10000.png"
    mixed = tmp_path / "mixed"
    shutil.copytree(photos / "val" / "class_1", mixed)
    shutil.copy(small, mixed / "a.png")
    (alone,) = rows_of(sightline.predict(run.path, small, out=tmp_path / "alone.csv", quiet=True))
    first = rows_of(sightline.predict(run.path, mixed, out=tmp_path / "mixed.csv", quiet=True))
    among = next(row for row in first if row["filename"] == "a.png")
    for name in ("class_0", "class_1", "class_2", "class_3"):
        assert float(among[name]) == pytest.approx(float(alone[name]), abs=1e-6)


def test_classes_named_like_columns_keep_their_own(
    make_photos: Callable[..., Path], tiny: dict, tmp_path: Path
) -> None:
    data = make_photos(tmp_path / "data", classes=3)
    for split in ("train", "val"):
        for old, new in (("class_0", "label"), ("class_1", "error"), ("class_2", "confidence")):
            (data / split / old).rename(data / split / new)
    settings = tiny | {"report.samples": 4, "train.epochs": 1}
    run = sightline.train(resolve(Config(), settings), data, out=tmp_path / "run", quiet=True)
    row = rows_of(run.path / "predictions" / "val.csv")[0]
    assert list(row)[4:] == ["class confidence", "class error", "class label"] and row["label"] in run_classes(run)
    assert "class label" not in run.report.read_text(), "the report shows the names themselves"
    path = sightline.predict(run.path, data / "val", out=tmp_path / "p.csv", quiet=True)
    assert rows_of(path)[0]["error"] == ""


def run_classes(run: sightline.Run) -> list[str]:
    return json.loads((run.path / "checkpoints/best/config.json").read_text())["classes"]
