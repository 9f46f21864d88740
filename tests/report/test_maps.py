"""The maps on the page, with their thumbnails and epochs, and the table of the features."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sightline.insight.projection import EpochMap
from sightline.report.findings import compute_findings
from sightline.report.maps import features_table, maps
from sightline.report.page import write_report
from sightline.report.run import RunFiles, read_run, with_predictions, with_samples


def test_each_number_is_below_its_heading() -> None:
    points = np.zeros((3, 2))
    shown = [EpochMap(7, points, None, 0.5, 0.25, 2, -0.125), EpochMap(9, points, None, 0.75, 0.5, 2, None)]
    rows = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", str(features_table(shown, True)))
    heads = ["Epoch", "k-NN accuracy (k = 2), %", "Silhouette, -1 to 1", "Variance on the PCA map, %"]
    assert rows == [*heads, "7", "25.0", "-0.125", "50.0", "9", "50.0", "none", "75.0"]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", str(features_table(shown, False)))[-1] == "75.0"


def test_the_map_of_training_images_has_their_thumbnails_and_predictions(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", epochs=(1, 2))
    rng, labels = np.random.default_rng(2), np.arange(12) % 4
    images = rng.integers(0, 256, (12, 3, 6, 8)).astype(np.uint8)
    np.savez(run / "snapshots" / "train-samples.npz", images=images, labels=labels, index=np.arange(12))
    for epoch in (1, 2):
        predictions = {"predictions": (labels + epoch) % 4, "confidence": np.full(12, 0.5)}
        path = run / "snapshots" / f"epoch-{epoch:05d}" / "train-features.npz"
        np.savez(path, features=rng.normal(size=(12, 5)), **predictions)
    files = with_samples(with_predictions(read_run(run)))
    text = "".join(map(str, maps(files, {}, compute_findings(files, neighbors=False))))
    sources = re.findall(r'data-source="([^"]*)" data-items="([^"]*)"', text)
    assert sources == [("map-data", "items-data"), ("map-data-training", "items-training")]
    blocks = {name: json.loads(value) for name, value in re.findall(r'id="([^"]*)">({.*?})</script>', text, re.S)}
    assert blocks["map-data-training"]["count"] == len(blocks["items-training"]["names"]) == 12
    assert blocks["map-data"]["count"] == 24
    assert blocks["map-data-training"]["predicted"] != blocks["map-data"]["predicted"]
    assert len(set(blocks["map-data-training"]["predicted"])) == 2


def test_the_page_says_that_its_maps_are_of_a_part_of_the_images(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", epochs=(1,))
    complete = write_report(run).read_text(encoding="utf-8")
    monkeypatch.setattr(sys.modules[RunFiles.__module__], "MOST_POINTS", 12)
    text = write_report(run).read_text(encoding="utf-8")
    assert "features of 24 images are stored" in text and "a random 12 of them (seed 0)" in text
    assert "a random" not in complete
    summaries = [re.findall(r"classifies [^<]*", page)[0] for page in (text, complete)]
    assert summaries[0] == summaries[1] and "of 24 validation images" in summaries[0]
