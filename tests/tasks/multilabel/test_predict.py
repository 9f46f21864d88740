"""A table, the web page, and exported graphs and weights give the labels of predictions/val.csv."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
from PIL import Image

import sightline
from multilabel_toys import COLORS, read_rows
from serve.conftest import pages_of, served
from sightline.serve import load

CLASSES = tuple(sorted(COLORS))
Rows = list[dict[str, str]]


def by_file(rows: Rows) -> dict[str, dict[str, str]]:
    """Rows by the file name without folder."""
    return {Path(row["filename"]).name: row for row in rows}


def same_predictions(found: Rows, own: Rows) -> None:
    """The labels are equal, and the probabilities up to rounding."""
    known = by_file(own)
    assert len(found) == len(own)
    for name, row in by_file(found).items():
        assert row["label"] == known[name]["label"]
        for column in (*CLASSES, "confidence"):
            assert float(row[column]) == pytest.approx(float(known[name][column]), abs=1e-6)


def test_a_table_of_predictions(trained: Path, quarters: Path, predictions: Rows, tmp_path: Path) -> None:
    sightline.predict(trained, quarters.parent / "val", out=tmp_path / "p.csv", quiet=True)
    rows = read_rows(tmp_path / "p.csv")
    assert list(rows[0]) == ["filename", "label", "confidence", *CLASSES, "error"]
    same_predictions(rows, predictions)
    assert {row["label"].count(";") for row in rows} >= {0, 1}


def test_a_loaded_model_predicts_the_labels(trained: Path, quarters: Path, predictions: Rows) -> None:
    loaded = sightline.load(trained)
    assert loaded.classes == CLASSES
    found = loaded.predict([str(quarters.parent / row["filename"]) for row in predictions])
    assert [one.label for one in found] == [row["label"] for row in predictions]
    for one, row in zip(found, predictions, strict=True):
        assert one.probabilities == pytest.approx([float(row[name]) for name in CLASSES], abs=1e-6)
        chosen = [probability for name, probability in zip(CLASSES, one.probabilities, strict=True)
                  if name in one.label.split(";")]  # fmt: skip
        assert one.confidence == max(chosen, default=0.0)


def test_mirror_images_are_averaged(train_with: Callable[..., sightline.Run], quarters: Path, tmp_path: Path) -> None:
    run = train_with(**{"train.flip_test": True})
    sightline.predict(run.path, quarters.parent / "val", out=tmp_path / "p.csv", quiet=True)
    same_predictions(read_rows(tmp_path / "p.csv"), read_rows(run.path / "predictions" / "val.csv"))


def test_features_and_a_damaged_image(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 12), (240, 20, 20)).save(tmp_path / "images" / "red.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG")
    sightline.predict(trained, tmp_path / "images", out=tmp_path / "p.csv", features=True, quiet=True)
    rows = by_file(read_rows(tmp_path / "p.csv"))
    assert rows["broken.png"]["error"] and not rows["broken.png"]["label"] and float(rows["red.png"]["red"]) > 0
    assert list(tmp_path.glob("p*.np[yz]")), "the features are written"


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "model.onnx"
    return sightline.export(trained, out=out, int8=True, quiet=True)


def test_the_graph_alone_gives_the_labels(exported: Path, quarters: Path, predictions: Rows) -> None:
    graph = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    facts = {key: json.loads(text) for key, text in graph.get_modelmeta().custom_metadata_map.items()}
    assert facts["task"] == "multilabel" and facts["classes"] == list(CLASSES)
    images = np.stack([np.asarray(Image.open(quarters.parent / row["filename"])) for row in predictions])
    (found,) = graph.run(["probabilities"], {"images": images.transpose(0, 3, 1, 2)})
    cuts = np.array([facts["thresholds"][name] for name in facts["classes"]])
    for row, values in zip(predictions, found, strict=True):
        assert values == pytest.approx([float(row[name]) for name in CLASSES], abs=1e-5)
        chosen = np.flatnonzero(values >= cuts)
        assert ";".join(facts["classes"][k] for k in chosen) == row["label"]


def test_the_checks_of_the_graph(exported: Path, trained: Path, predictions: Rows) -> None:
    facts = json.loads(exported.with_suffix(".json").read_text(encoding="utf-8"))
    same, stored = facts["checks"]
    assert stored["predictions/val.csv"] == same["onnx"] and stored["differ"] == stored["ties"]
    assert same["items"] == 4 * len(predictions) and same["differ"] == same["ties"] and same["unit"] == "labels"
    assert same["largest_difference"] < 1e-4
    assert same["pytorch"] == pytest.approx(sightline.Run(trained).metrics["mean_average_precision"])
    low, high = facts["int8"]["interval"]
    assert low <= facts["int8"]["difference"] <= high
    assert facts["int8"]["metric"] == "share of images with all labels right"


def test_exported_weights_predict_as_the_run(trained: Path, quarters: Path, predictions: Rows, tmp_path: Path) -> None:
    folder = sightline.export(trained, format="safetensors", out=tmp_path / "weights", quiet=True)
    sightline.predict(folder, quarters.parent / "val", out=tmp_path / "p.csv", quiet=True)
    same_predictions(read_rows(tmp_path / "p.csv"), predictions)
    assert "thresholds.json" in (folder / "README.md").read_text()


def test_the_page_and_its_answers(trained: Path, quarters: Path, predictions: Rows, browser) -> None:
    model = load(trained, "quarters", True, print)
    with served([model]) as client:
        described = client.get("/api/models").json()
        assert "multilabel" in json.dumps(described)
        for name, row in list(by_file(predictions).items())[:8]:
            said = answer(client, (quarters.parent / "val" / name).read_bytes())
            assert said["label"] == row["label"] and said["confidence"] == pytest.approx(
                float(row["confidence"]), abs=1e-5
            )
            for one in said["probabilities"]:
                assert one["probability"] == pytest.approx(float(row[one["name"]]), abs=1e-5)
        several = next(row for row in predictions if ";" in row["label"])
        with pages_of(browser, str(client.base_url)) as open_page:
            page = open_page()
            page.locator("input[type=file]").first.set_input_files(quarters.parent / several["filename"])
            page.locator(".predicted strong").wait_for()
            shown = page.locator(".predicted").inner_text()
            assert all(label in shown for label in several["label"].split(";"))
            assert page.locator(".bars li:visible").count() == 4


def answer(client: httpx.Client, content: bytes) -> dict:
    found = client.post("/api/predict?model=0", content=content)
    assert found.status_code == 200, found.text
    return found.json()["answers"][0]


def test_the_page_shows_only_images_that_the_network_has_learned_from(trained: Path) -> None:
    """Those on which the thresholds were chosen are no training images."""
    said: list[str] = []
    model = load(trained, "run", True, said.append)
    counts = json.loads((trained / "provenance.json").read_text())["data"]["counts"]
    assert model.neighbors is not None and len(model.neighbors.train.names) == counts["train"]
    assert not [line for line in said if "changed" in line]
