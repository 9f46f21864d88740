"""The class activation maps of a run: which images, what is stored, and what a report makes of other files."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sightline
from config_toys import configured
from conftest import TINY
from sightline.report.run import read_arrays
from sightline.tasks.whole_image.class_maps import FILE, SHOWN, usable

SECTION = 'id="class-activation-maps"'


KNN = {"model.head": "knn", "optim.name": "knn", "model.freeze": True, "train.epochs": 1}
KNN |= {"augment.crop": "none", "augment.padding": 0, "augment.horizontal_flip": 0.0}


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> sightline.Run:
    settings = TINY | {"report.samples": 20, "train.epochs": 1, "optim.lr": 1e-6, "data.size": 32}  # many mistakes
    return sightline.train(configured(settings), photos, out=tmp_path_factory.mktemp("maps") / "run", quiet=True)


def page_of(run: Path) -> str:
    return sightline.report(run, quiet=True).read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_reports")
def test_wrong_images_have_the_maps_of_both_classes_and_right_ones_of_one(run: sightline.Run) -> None:
    arrays = read_arrays(run.path / FILE)
    assert usable(arrays, 4) and arrays["maps"].max((1, 2)).max() == 1 and arrays["maps"].min() == 0
    with (run.path / "predictions/val.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    of_image = [arrays["classes"][arrays["places"] == place].tolist() for place in range(len(arrays["index"]))]
    names = [f"class_{number}" for number in range(4)]
    for row, classes in zip(arrays["index"].tolist(), of_image, strict=True):
        predicted, truth = table[row]["label"], table[row]["truth"]
        assert [names[label] for label in classes] == ([truth] if predicted == truth else [predicted, truth])
    wrong = [row for row, values in enumerate(table) if values["label"] != values["truth"]]
    surest = sorted(wrong, key=lambda row: -float(table[row]["confidence"]))[:SHOWN]
    assert arrays["index"][: len(surest)].tolist() == surest
    page = page_of(run.path)
    assert page.count("map: true class") == page.count("map: predicted class") == len(surest) and SECTION in page


@pytest.mark.usefixtures("no_reports")
@pytest.mark.parametrize(
    "damage",
    [
        {"classes": lambda values: values + 10},
        {"classes": lambda values: values - 10},
        {"places": lambda values: values + 100},
        {"maps": lambda values: values * np.nan},
        {"maps": lambda values: values[1:]},
        {"images": lambda values: values.astype(np.float32)},
        {"index": lambda values: values[1:]},
        {"maps": lambda values: values[:, :0]},
    ],
)
def test_a_damaged_file_is_left_out(
    run: sightline.Run, tmp_path: Path, damage: dict[str, Callable[[Any], Any]]
) -> None:
    copied = Path(shutil.copytree(run.path, tmp_path / "run"))
    arrays = read_arrays(copied / FILE)
    for name, change in damage.items():
        arrays[name] = change(arrays[name])
    np.savez_compressed(copied / FILE, allow_pickle=False, **arrays)
    assert not usable(read_arrays(copied / FILE), 4) and SECTION not in page_of(copied)


@pytest.mark.usefixtures("no_reports")
@pytest.mark.parametrize(
    "settings", [{"data.size": 16}, {"data.size": 32, "report.samples": 0}, {"data.size": 32, **KNN}]
)
def test_runs_without_maps(settings: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    run = sightline.train(
        configured(TINY | {"report.samples": 20} | settings), photos, out=tmp_path / "run", quiet=True
    )
    assert not (run.path / FILE).exists() and SECTION not in page_of(run.path)
