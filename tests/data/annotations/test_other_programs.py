"""Files that libraries of other programs wrote are read by `doctor` and `train`: all masks, labels and splits.

benchmarks/annotation_writers.py has written tests/fixtures/annotations, with what the libraries themselves read.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sightline
from config_toys import configured
from multilabel_toys import SETTINGS
from sightline.config.schema import Config, Data
from sightline.data.pair_cache import decode_pairs
from sightline.data.sources.pairs import open_pairs

pytestmark = pytest.mark.usefixtures("no_reports")
FOLDERS = sorted((Path(__file__).parents[2] / "fixtures" / "annotations").iterdir())
EXPECTED = {folder.name: dict(np.load(folder / "expected.npz")) for folder in FOLDERS}
MASKED = [folder for folder in FOLDERS if "masks" in EXPECTED[folder.name]]
LABELED = [folder for folder in FOLDERS if folder.name != "datasets-masks"]


def named(folder: Path) -> str:
    return folder.name


def doctor(folder: Path, out: Path, **reading: Any) -> Any:
    """The diagnosis of the data in a folder, which has no errors."""
    found = sightline.doctor(folder / "data", out=out, quiet=True, **reading)
    assert not [each.what for each in found.findings if each.severity == "error"]
    return found


@pytest.mark.parametrize("folder", MASKED, ids=named)
def test_masks_are_those_that_the_library_reads(folder: Path, toy: Callable[..., Config], tmp_path: Path) -> None:
    expected = EXPECTED[folder.name]
    classes = ["background", *expected["classes"].tolist()]
    reading = {"data.classes": classes} if folder.name == "datasets-masks" else {}
    found = doctor(folder, tmp_path / "doctor", **reading)
    assert found.task == "segment" and [*found.classes] == classes
    settings = {"data.palette": "", "augment.window": [16, 16], "train.epochs": 1} | reading
    sightline.train(toy(**settings), folder / "data", out=tmp_path / "run", quiet=True)
    data = Data.model_validate({"path": str(folder / "data"), "classes": reading.get("data.classes", [])})
    source, palette = open_pairs(data, 0, hold_out=False)
    assert {*source.splits} == {*expected["splits"].tolist()}
    for split in source.splits:
        own = expected["splits"] == split
        decoded = decode_pairs(source, split, palette, data, lambda line: None)
        names = [Path(name).name for name in expected["names"][own]]
        assert source.layout == "parquet" or [Path(name).name for name in decoded.names] == names
        assert decoded.masks is not None and expected["near"].mean() < 0.25
        different = (decoded.masks != expected["masks"][own]) & ~expected["near"][own]
        assert not different.any(), different.sum((1, 2))


@pytest.mark.parametrize("folder", LABELED, ids=named)
def test_labels_are_those_that_were_written(folder: Path, tiny: dict[str, object], tmp_path: Path) -> None:
    expected = EXPECTED[folder.name]
    several = any(";" in labels for labels in expected["labels"].tolist())
    reading = {"data.labels": "several"} if several else {}
    found = doctor(folder, tmp_path / "doctor", **reading)
    assert {*found.classes} == {*";".join(expected["labels"].tolist()).split(";")}
    small = {"data.size": 8, "model.args": {"widths": [4, 4, 4], "hidden": 8}, "train.epochs": 1, "report.samples": 0}
    config = configured(
        (SETTINGS if several else tiny) | small | ({"multilabel.threshold_fraction": 0} if several else {})
    )
    run = sightline.train(config, folder / "data", out=tmp_path / "run", quiet=True)
    with open(run.path / "splits.csv", newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["filename"])
    assert [row["label"] for row in rows] == expected["labels"].tolist()
    assert "all" in expected["splits"] or [row["split"] for row in rows] == expected["splits"].tolist()
