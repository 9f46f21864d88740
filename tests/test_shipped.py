"""The final results of runs trained in bfloat16 are those of `predict`, `evaluate`, `load` and the exported graph.

The networks are hardly trained, and there are many classes: several outputs are almost equal, so that bfloat16 changes
the predicted classes of some images.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import sightline
from config_toys import configured
from multilabel_toys import SETTINGS, read_rows, write_quarters
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.engine.evaluate import bfloat16_line
from sightline.export import onnx_file

pytestmark = pytest.mark.usefixtures("quick_figures")

HARDLY = {"train.precision": "bf16", "train.epochs": 1, "optim.lr": 1e-6, "report.samples": 0}
MANY = {"classes": 100, "train": 1, "val": 3}


def changed(run: sightline.Run) -> int:
    """The number of classes that bfloat16 would change."""
    return run.metrics["bfloat16"]["changed"]


def label_of(path: Path) -> int:
    """The class index of an image of `make_photos`."""
    return int(path.parent.name.removeprefix("class_"))


def graph_outputs(run: sightline.Run, paths: list[Path]) -> list[np.ndarray]:
    """The outputs of the exported graph for image files of one size."""
    graph = onnxruntime.InferenceSession(run.path / "export" / "model.onnx", providers=["CPUExecutionProvider"])
    images = np.stack([np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in paths])
    return graph.run(None, {"images": images})


def exported(run: sightline.Run) -> Path:
    """The graph of the run; exports it if that was not done yet."""
    path = run.path / "export" / "model.onnx"
    return path if path.is_file() else sightline.export(run.path, quiet=True)


def stored_check(run: sightline.Run, name: str) -> dict[str, Any]:
    """Export the run; the check of the graph against the predictions in the run folder."""
    exported(run)
    checks = json.loads((run.path / "export" / "model.json").read_text())["checks"]
    (check,) = [check for check in checks if name in check]
    return check


def labels_of(run: sightline.Run, images: Path, out: Path, **options: Any) -> dict[str, str]:
    """The labels that `predict` writes, by file name."""
    return {row["filename"]: row["label"] for row in read_rows(sightline.predict(run, images, out=out, **options))}


@pytest.fixture(scope="module")
def classifier(
    make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, tiny: dict, quick_figures: None
) -> sightline.Run:
    folder = tmp_path_factory.mktemp("classifier")
    data = make_photos(folder / "photos", **MANY)
    return sightline.train(resolve(Config(name="t"), tiny | HARDLY), data, out=folder / "run", quiet=True)


def test_classes_are_those_of_predict_and_of_the_graph(classifier: sightline.Run, tmp_path: Path) -> None:
    run, images = classifier, classifier.path.parent / "photos" / "val"
    rows = read_rows(run.path / "predictions" / "val.csv")
    own = {row["filename"].removeprefix("val/"): row["label"] for row in rows}
    assert labels_of(run, images, tmp_path / "a.csv", quiet=True) == own
    half = labels_of(run, images, tmp_path / "b.csv", quiet=True, precision="bf16")
    assert sum(half[name] != label for name, label in own.items()), "bfloat16 does change classes"
    model = sightline.load(run)
    assert {image.name: image.label for image in model.predict(images)} == own
    assert stored_check(run, "predictions/val.csv")["differ"] == 0
    probabilities = graph_outputs(run, [images / name for name in own])[0]
    assert [model.classes[index] for index in probabilities.argmax(1)] == list(own.values())
    assert changed(run) and run.metrics["bfloat16"] == {"changed": changed(run), "of": 300, "unit": "images"}


def test_other_stored_predictions_are_reported_and_the_cure_repairs_them(
    classifier: sightline.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The graph is traced only once, because the network stays the same."""
    run, table = classifier, classifier.path / "predictions" / "val.csv"
    text = table.read_text()
    graph = onnx.load(exported(run))
    monkeypatch.setattr(onnx_file, "traced", lambda *_: graph)
    first, *rows = text.splitlines()
    table.write_text("\n".join([first, *(",".join([*row.split(",")[:4], *row.split(",")[:3:-1]]) for row in rows)]))
    sightline.export(run, overwrite=True)
    assert f"again: sightline evaluate {run.path}" in capsys.readouterr().out
    sightline.evaluate(run, quiet=True)
    assert table.read_text() == text
    table.write_text(text.replace("val/class_0", "val/class_x"))
    sightline.export(run, overwrite=True)
    assert "not compared with" in capsys.readouterr().out
    table.write_text(text)


def test_features_of_a_frozen_backbone_are_computed_in_float32_for_the_results(
    classifier: sightline.Run, tmp_path: Path, tiny: dict
) -> None:
    """During training they are computed once, in bfloat16."""
    frozen = HARDLY | {"model.freeze": True, "augment.crop": "none", "augment.horizontal_flip": 0.0}
    settings = tiny | frozen | {"augment.padding": 0, "model.weights": str(classifier.path), "train.epochs": 2}
    data = classifier.path.parent / "photos"
    run = sightline.train(resolve(Config(name="t"), settings), data, out=tmp_path / "run", quiet=True)
    table = run.path / "predictions" / "val.csv"
    own = [(row["filename"].removeprefix("val/"), row["label"]) for row in read_rows(table)]
    assert labels_of(run, data / "val", tmp_path / "a.csv", quiet=True) == dict(own)
    half = labels_of(run, data / "val", tmp_path / "b.csv", quiet=True, precision="bf16")
    assert sum(half[name] != label for name, label in own) and "bfloat16" not in run.metrics


def test_label_sets_are_those_of_predict_and_of_the_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_quarters(tmp_path / "quarters", val=200)
    run = sightline.train(configured(SETTINGS | HARDLY), table, out=tmp_path / "run")
    said = capsys.readouterr().out
    own = {row["filename"]: row["label"] for row in read_rows(run.path / "predictions" / "val.csv")}
    found = labels_of(run, table.parent, tmp_path / "a.csv", quiet=True)
    assert {name: found[name] for name in own} == own
    assert stored_check(run, "predictions/val.csv")["differ"] == 0
    names = sightline.load(run).classes
    thresholds = json.loads((run.path / "thresholds.json").read_text())
    probabilities = graph_outputs(run, [table.parent / name for name in own])[0]
    sets = [
        ";".join(name for name, value in zip(names, row, strict=True) if value >= thresholds[name])
        for row in probabilities
    ]
    assert sets == list(own.values())
    assert changed(run) and f"would change the predictions of {changed(run)} of 800 labels" in said


@pytest.mark.slow
def test_masks_are_those_of_predict_and_of_the_graph(
    make_scenes: Callable[..., Path], toy: Callable[..., Config], tmp_path: Path
) -> None:
    data = make_scenes(tmp_path / "scenes")
    small = {"model.args": {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [16, 16, 16]}}
    run = sightline.train(toy(**HARDLY, **small), data, out=tmp_path / "run", quiet=True)
    sightline.predict(run, data / "validation", out=tmp_path / "masks", quiet=True)
    for path in (run.path / "predictions" / "val").iterdir():
        assert path.read_bytes() == (tmp_path / "masks" / path.name).read_bytes()
    assert sightline.evaluate(run, quiet=True)["mean_iou"] == run.metrics["mean_iou"]
    check = stored_check(run, "predictions/val")
    assert check["differ"] == 0 and check["predictions/val"] == check["onnx"] == run.metrics["mean_iou"]
    assert changed(run) > 3 and run.metrics["bfloat16"]["of"] == 4 * 32 * 32


def test_neighbors_of_a_pretraining_are_those_of_the_features_of_predict(
    make_photos: Callable[..., Path], small: Callable[..., Config], tmp_path: Path
) -> None:
    data = make_photos(tmp_path / "photos", classes=40, train=4, val=3)
    narrow = {"model.args": {"widths": [8, 16, 16], "dropout": 0.0}}
    run = sightline.train(small(**HARDLY, **narrow), data, out=tmp_path / "run", quiet=True)
    assert sightline.evaluate(run, quiet=True)["knn_accuracy"] == run.metrics["knn_accuracy"]
    model = sightline.load(run)
    queries, bank = (sorted((data / split).rglob("*.png")) for split in ("val", "train"))
    features = [model.features(paths) for paths in (queries, bank)]
    a, b = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in features)
    k = min(small().pretrain.neighbors, len(bank) // 40)
    votes = np.zeros((len(queries), 40))
    similarity = a @ b.T
    for row, near in enumerate(np.argsort(-similarity, 1)[:, :k]):
        for index in near:
            votes[row, label_of(bank[index])] += np.exp(similarity[row, index] / 0.07)
    right = votes.argmax(1) == [label_of(path) for path in queries]
    assert right.mean() == pytest.approx(run.metrics["knn_accuracy"])
    assert changed(run) > 3 and run.metrics["bfloat16"]["unit"] == "images by k-NN"


def test_the_line_on_bfloat16() -> None:
    found = bfloat16_line({"changed": 9, "of": 2500, "unit": "images"})
    assert found.endswith("bfloat16, used in training, would change the predictions of 9 of 2,500 images")
    assert bfloat16_line({"largest_change": 0.0312}).endswith("would change the predicted numbers by at most 0.031")


def test_a_run_in_float32_says_nothing_about_bfloat16(photos: Path, tmp_path: Path, tiny: dict, capsys) -> None:
    run = sightline.train(resolve(Config(name="t"), tiny | {"train.epochs": 1}), photos, out=tmp_path / "run")
    assert "bfloat16" not in capsys.readouterr().out and "bfloat16" not in run.metrics
