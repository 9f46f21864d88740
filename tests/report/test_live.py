"""The JSON blocks for the page's scripts: escaping, encoded numbers, positions of thumbnails."""

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.insight.curves import MetricCurve, history
from sightline.insight.projection import EpochMap
from sightline.report import live
from sightline.report.findings import compute_findings
from sightline.report.run import RunFiles, Snapshot, read_run, with_predictions, with_samples

ACCURACY = MetricCurve("accuracy", "Accuracy", second=("accuracy_top5", "top 5"))


def read_all(run: Path) -> RunFiles:
    return with_samples(with_predictions(read_run(run)))


def values_of(markup: str) -> dict:
    found = re.fullmatch(r'<script type="application/json" id="[^"]*">(.*)</script>', markup, re.S)
    assert found
    return json.loads(found[1])


def uint16(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<u2")


def test_text_cannot_close_its_block() -> None:
    said = {"name": "</script><script>alert(1)</script><!--", "sign": "\u2028 犬 &"}
    markup = live.block("data", said)
    assert markup.count("<") == 2 and values_of(markup) == said


def test_shares_are_encoded_with_16_bits() -> None:
    shares = np.array([0.0, 1.0, 0.123456, 2.0, -1.0])
    np.testing.assert_allclose(uint16(live.shares(shares)) / 65535, shares.clip(0, 1), atol=0.5 / 65535)
    assert uint16(live.numbers(np.array([0, 1, 65535]))).tolist() == [0, 1, 65535]


@pytest.mark.parametrize(("count", "height", "width"), [(7, 6, 8), (300, 20, 12), (9, 2000, 1500)])
def test_thumbnails_are_at_their_positions_in_the_sheets(count: int, height: int, width: int) -> None:
    images = np.broadcast_to((np.arange(count) * 7 % 256)[:, None, None, None], (count, 3, height, width))
    found = live.sheets(images.astype(np.uint8))
    sheets = [Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))) for text in found["sheets"]]
    assert all(max(sheet.size) <= live.SHEET_PIXELS for sheet in sheets)
    for index in range(count):
        sheet, place = divmod(index, found["perSheet"])
        x, y = place % found["columns"] * width + width // 2, place // found["columns"] * height + height // 2
        pixel = np.array(sheets[sheet].convert("RGB").getpixel((x, y)), float)
        assert np.abs(pixel - index * 7 % 256).max() <= 12, index


def test_maps_share_a_square_and_have_the_predictions_of_each_epoch() -> None:
    points = np.array([[0.0, 0.0], [4.0, 1.0], [2.0, -1.0]])
    maps = [EpochMap(e, points * e, points + e, 0.5, 0.25, 2, None) for e in (1, 3)]
    snapshots = [Snapshot(e, points, np.array([0, 1, e]), np.array([0.5, 1.0, 0.0])) for e in (1, 3)]
    values = values_of(live.map_block("map-data", maps, snapshots, 4))
    first, last = (uint16(text).reshape(-1, 2) / 65535 for text in values["kinds"]["pca"])
    # both epochs together span x 0..12, y -3..3: a square of 12 around (6, 0)
    np.testing.assert_allclose(first * 12 + [0, -6], points, atol=1e-3)
    np.testing.assert_allclose(last * 12 + [0, -6], points * 3, atol=1e-3)
    assert [uint16(text).tolist() for text in values["predicted"]] == [[0, 1, 1], [0, 1, 3]]
    assert values["epochs"][1] == {"epoch": 3, "knn": "25.0%", "silhouette": "", "explained": "50.0%"}
    assert values_of(live.map_block("map-data", maps, snapshots, 3))["predicted"] is None, "a class that is not there"
    more = [Snapshot(2, points, np.array([3, 3, 3])), *snapshots[::-1]]
    assert values_of(live.map_block("map-data", maps, more, 4))["predicted"] == values["predicted"], "by their epochs"
    bare = [Snapshot(e, points) for e in (1, 3)]
    assert values_of(live.map_block("map-data", maps, bare, 4))["confidence"] is None


def test_further_misclassified_images_come_after_the_samples(make_run: Callable[..., Path], tmp_path: Path) -> None:
    files = read_all(make_run(tmp_path / "run", epochs=(1,)))
    assert files.samples and files.mistakes and files.predictions
    few = replace(files.samples, images=files.samples.images[:7], rows=files.samples.rows[:7], labels=None)
    cut = replace(files, samples=few)
    values = values_of(live.items("items-data", cut, few, files.mistakes))
    rows = [0, 1, 2, 3, 4, 5, 6, 10, 15, 20]  # 0 and 5 are also misclassified
    assert values["names"] == [f"val/{row}.png" for row in rows]
    assert uint16(values["truth"]).tolist() == [row % 4 for row in rows]
    assert uint16(values["predicted"]).tolist() == [(row + (row % 5 == 0)) % 4 for row in rows]
    sure = uint16(values["confidence"]) / 65535
    np.testing.assert_allclose(sure, files.predictions.confidence[rows], atol=0.5 / 65535)
    sheet = np.array(Image.open(io.BytesIO(base64.b64decode(values["sheets"][0].partition(",")[2]))).convert("RGB"))
    for place, row in enumerate(rows):
        y, x = place // values["columns"] * 6, place % values["columns"] * 8
        original = files.samples.images[row].transpose(1, 2, 0).astype(int)
        assert np.abs(sheet[y : y + 6, x : x + 8] - original).mean() < 55, "random pixels; another picture is at 85"
    training = values_of(live.items("items-training", files, replace(files.samples), None))
    assert training["names"][:2] == ["image 1", "image 2"] and training["predicted"] is training["confidence"] is None
    assert uint16(training["truth"]).tolist() == [row % 4 for row in range(24)]


def test_thumbnails_without_predictions_are_not_an_error(make_run: Callable[..., Path], tmp_path: Path) -> None:
    files = read_all(make_run(tmp_path / "run", epochs=(1,)))
    assert files.samples and files.mistakes
    other = replace(files.samples, rows=files.samples.rows + 1)
    values = values_of(live.items("items-data", files, other, files.mistakes))
    assert values["predicted"] is None and len(values["names"]) == 24
    cut = replace(files, samples=replace(files.samples, rows=files.samples.rows + 1))
    assert values_of(live.items("items-data", cut, cut.samples, files.mistakes))["predicted"] is None
    gone = replace(files.mistakes, rows=files.mistakes.rows + 1000)
    assert len(values_of(live.items("items-data", files, files.samples, gone))["names"]) == 24


def test_the_matrix_can_be_sorted_by_recall(make_run: Callable[..., Path], tmp_path: Path) -> None:
    files = read_all(make_run(tmp_path / "run", images=70, epochs=(1,)))
    found = compute_findings(files, neighbors=False)
    values = values_of(live.confusion_block("confusion-data", found, files.classes) or "")
    recall = [row[place] / sum(row) for place, row in enumerate(values["counts"])]
    assert [recall[place] for place in values["orders"]["worst"]] == sorted(recall) and len(set(recall)) > 1
    assert [files.classes[place] for place in values["orders"]["name"]] == sorted(files.classes)
    assert sorted(values["orders"]["similar"]) == [0, 1, 2, 3] and values["counts"][1][2] == 4


def test_shares_are_in_percent_and_an_early_stop_is_marked() -> None:
    place = {"step": 9, "epoch": 3, "seconds": 1.0}
    records = [{"event": "eval", **place, "split": "val", "loss": 1.0, "accuracy": 0.25, "accuracy_top5": 0.5}]
    for reason, kinds in (("no better accuracy for 2 epochs", ["stopped"]), ("all epochs done", [])):
        past = history([*records, {"event": "stop", **place, "reason": reason}])
        _, accuracy = values_of(live.curves_block("curves-data", past, [ACCURACY]) or "")
        assert [line["y"] for line in accuracy["lines"]] == [[25.0], [50.0]]
        assert [mark["kind"] for mark in accuracy["marks"] if mark["kind"] != "best"] == kinds


def test_a_subsampled_curve_keeps_its_ends_and_marks() -> None:
    records = [{"event": "train", "step": s, "epoch": s / 1000, "seconds": s, "loss": 1 / s} for s in range(1, 9000)]
    records += [{"event": "resume", "step": 9000, "epoch": 4.5, "seconds": 1.0}]
    records += [{"event": "eval", "step": 8999, "epoch": 9, "split": "val", "loss": 0.5, "best": True}]
    (loss,) = values_of(live.curves_block("curves-data", history(records), [ACCURACY]) or "")
    train, validation = loss["lines"]
    assert (train["kind"], validation["kind"], validation["y"]) == ("train", "validation", [0.5])
    assert len(train["x"]) <= live.MOST_POINTS + 1 and (train["x"][0], train["x"][-1]) == (0.001, 8.999)
    assert {mark["kind"]: mark["at"] for mark in loss["marks"]} == {"best": 9, "resumed": 4.5}
    assert live.curves_block("curves-data", history([]), [ACCURACY]) is None
