"""`sightline export` on small runs: graphs are used with onnxruntime alone, folders of weights with `predict`."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from safetensors.torch import load_file

import sightline
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.data.types import Items
from sightline.errors import ENVIRONMENT
from sightline.export import onnx_file
from sightline.export.quantize import CALIBRATION, CalibrationImages
from sightline.export.tracing import serialized

pytestmark = pytest.mark.usefixtures("no_reports")


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.slow
def test_onnxruntime_records_no_telemetry(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "graph", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "home").mkdir()
    code = "import sys; from sightline.export.session import OnnxSession; OnnxSession(open(sys.argv[1], 'rb').read())"
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    environ["HOME"] = str(tmp_path / "home")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.onnx")], env=environ, check=True)
    assert not list((tmp_path / "home").rglob("*onnxruntime*"))


def as_input(*paths: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in paths])


@pytest.fixture(scope="module")
def classifier(
    tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path], tiny: dict, no_reports: None
) -> Path:
    """An exported ensemble of two epochs, trained on images that shrink from 40 to 16 pixels."""
    folder = tmp_path_factory.mktemp("classifier")
    data = make_photos(folder / "photos", size=40, val=6)
    more = {"data.fit": "crop", "optim.lr": 0.01, "report.samples": 0, "train.ensemble": 2, "loss.smoothing": 0.4}
    run = sightline.train(resolve(Config(name="t"), tiny | more), data, out=folder / "run", quiet=True)
    sightline.export(run.path, int8=True, quiet=True)
    return run.path


@pytest.fixture(scope="module")
def segmenter(
    tmp_path_factory: pytest.TempPathFactory,
    make_scenes: Callable[..., Path],
    toy: Callable[..., Config],
    no_reports: None,
) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    data = make_scenes(folder / "scenes", size=40)  # 40 is not a multiple of 32: the graph has to pad
    network = {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [16], "context": False}  # few operations to translate
    settings = {"train.epochs": 1, "report.samples": 0, "train.flip_test": True, "augment.window": [32, 32]}
    settings |= {"model.args": network}
    run = sightline.train(toy(**settings), data, out=folder / "run", quiet=True)
    sightline.export(run.path, quiet=True)
    return run.path


def test_the_graph_repeats_the_runs_predictions_from_image_files(classifier: Path) -> None:
    graph = session(classifier / "export" / "model.onnx")
    with open(classifier / "predictions" / "val.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (data,) = classifier.parent.glob("photos")
    facts = {key: json.loads(text) for key, text in graph.get_modelmeta().custom_metadata_map.items()}
    found = graph.run(["probabilities"], {"images": as_input(*(data / row["filename"] for row in rows))})[0]
    expected = np.array([[float(row[name]) for name in facts["classes"]] for row in rows])
    assert np.abs(found - expected).max() < 0.05  # Pillow and the graph differ by one level at some pixels
    top = np.sort(expected, 1)
    clear = top[:, -1] - top[:, -2] > 0.1
    assert clear.sum() > 5
    labels = np.array([facts["classes"][index] for index in found.argmax(1)])
    assert (labels == np.array([row["label"] for row in rows]))[clear].all()
    one = graph.run(None, {"images": as_input(data / rows[0]["filename"])})[0]
    assert np.allclose(one, found[:1], atol=1e-5)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert facts["task"] == "classify" and facts["preprocessing"]["size"] == 16


@pytest.mark.slow
def test_a_vision_transformer_is_exported(photos: Path, tiny: dict, tmp_path: Path) -> None:
    small = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 32, "num_heads": 2}
    network = {"model.name": "timm/vit_tiny_patch16_224", "model.args": small, "data.size": 32, "report.samples": 0}
    run = sightline.train(resolve(Config(name="t"), tiny | network), photos, out=tmp_path / "run", quiet=True)
    graph = session(sightline.export(run.path, quiet=True))
    with open(run.path / "predictions" / "val.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = json.loads(graph.get_modelmeta().custom_metadata_map["classes"])
    for row in rows[::5]:
        (values,) = graph.run(["probabilities"], {"images": as_input(photos / row["filename"])})[0]
        assert values == pytest.approx([float(row[name]) for name in classes], abs=0.01)


def test_the_results_of_the_check_are_saved_beside_the_graph(classifier: Path) -> None:
    facts = json.loads((classifier / "export" / "model.json").read_text(encoding="utf-8"))
    same, stored, files = facts["checks"]
    assert (
        stored["items"] == 24 and stored["differ"] == stored["ties"] and stored["predictions/val.csv"] == same["onnx"]
    )
    assert same["items"] == 24 and same["differ"] == same["ties"] and same["largest_difference"] < 1e-4
    assert same["pytorch"] == sightline.evaluate(classifier, quiet=True)["accuracy"]
    assert files["items"] == 24 and same["largest_difference"] <= files["largest_difference"] < 0.05
    small = facts["int8"]
    assert 0 < small["bytes"] < 0.6 * facts["bytes"]
    assert small["interval"] == [None, None], "the images of a color are near copies: fewer than 10 groups"
    assert small["int8"] - small["float32"] == pytest.approx(small["difference"])
    assert min(small["images_per_second"].values()) > 0
    kinds = [node.op_type for node in onnx.load(classifier / "export" / "model-int8.onnx").graph.node]
    assert "QuantizeLinear" in kinds


def test_the_graph_contains_no_paths_of_the_machine(classifier: Path) -> None:
    content = (classifier / "export" / "model.onnx").read_bytes()
    for private in (str(Path.home()), str(Path(sightline.__file__).parent), "stack_trace"):
        assert private.encode() not in content


def export_with_heads(
    classifier: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray] = lambda head: head
) -> None:
    """Let the exporter write the graph with changed weights of the heads, as a wrong translation would."""
    model = onnx.load(classifier / "export" / "model.onnx")
    heads = [tensor for tensor in model.graph.initializer if tensor.name.endswith(("head.bias", "head.weight"))]
    assert len(heads) == 4, [tensor.name for tensor in heads]
    for tensor in heads:
        tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), tensor.name))
    monkeypatch.setattr(onnx_file, "traced", lambda *arguments: model)


def test_files_of_other_programs_are_not_replaced(classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('["cat"]')
    with pytest.raises(SightlineError, match="another program") as caught:
        sightline.export(classifier, out=tmp_path / "labels.onnx", overwrite=True, quiet=True)
    assert "labels.json" in caught.value.where and (tmp_path / "labels.json").read_text() == '["cat"]'


def test_names_that_are_not_utf_8_are_escaped_in_the_metadata() -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "graph", ends[:1], ends[1:]))
    content = serialized(model, {"classes": ["gr\udcfcn", "grün"]})
    (entry,) = onnx.load_from_string(content).metadata_props
    assert json.loads(entry.value) == ["gr\udcfcn", "grün"]


def exchanged(head: np.ndarray) -> np.ndarray:
    """The classes in another order."""
    return np.roll(head, 1, head.shape.index(4))


def softened(head: np.ndarray) -> np.ndarray:
    """Lower confidence, the same labels."""
    return head * np.float32(0.2)


@pytest.mark.parametrize("change", [exchanged, softened])
def test_a_graph_that_differs_from_pytorch_is_rejected(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Also if all labels are the same and only the probabilities are wrong."""
    export_with_heads(classifier, monkeypatch, change)
    with pytest.raises(SightlineError, match="not exported") as caught:
        sightline.export(classifier, out=tmp_path / "mine.onnx", quiet=True)
    assert caught.value.status == ENVIRONMENT
    assert "differ" in caught.value.why
    if change is exchanged:
        assert "val/class_" in caught.value.why, "images that differ are named"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.refused.onnx"]
    assert str(tmp_path / "mine.refused.onnx") in caught.value.cure


def test_a_correct_graph_is_accepted_and_not_overwritten(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_with_heads(classifier, monkeypatch)
    assert sightline.export(classifier, out=tmp_path / "mine.onnx") == tmp_path / "mine.onnx"
    said = capsys.readouterr().out
    assert " of 24 differ" in said and "PyTorch" in said
    with pytest.raises(SightlineError, match="exists") as caught:
        sightline.export(classifier, out=tmp_path / "mine.onnx", quiet=True)
    assert "--overwrite" in caught.value.cure


def test_masks_of_any_size_and_number(segmenter: Path) -> None:
    graph = session(segmenter / "export" / "model.onnx")
    facts = {key: json.loads(text) for key, text in graph.get_modelmeta().custom_metadata_map.items()}
    scenes = segmenter.parent / "scenes" / "validation"
    images = as_input(*sorted(scenes.glob("*_sat.jpg")))
    mask, probabilities = graph.run(["mask", "probabilities"], {"images": images})
    assert mask.dtype == np.uint8 and mask.shape == (4, 40, 40)
    assert (probabilities.argmax(1) == mask).all() and np.allclose(probabilities.sum(1), 1, atol=1e-5)
    checks = json.loads((segmenter / "export" / "model.json").read_text(encoding="utf-8"))["checks"]
    found, stored = checks
    assert stored["items"] == found["items"] and stored["differ"] == stored["ties"] and "predictions/val" in stored
    assert found["items"] == 4 * 40 * 40 and found["differ"] == found["ties"] and found["unit"] == "pixels"
    shown = facts["palette"]
    written = np.asarray(Image.open(segmenter / "predictions" / "val" / "0900_mask.png").convert("RGB"))
    colors = np.array([shown["colors"][shown["names"].index(name)] for name in facts["classes"]], np.uint8)
    assert (colors[mask[0]] == written).all(2).mean() > 0.999
    other = np.random.default_rng(0).integers(0, 256, (1, 3, 33, 70), np.uint8)
    assert graph.run(["mask"], {"images": other})[0].shape == (1, 33, 70)


def test_int8_leaves_the_resize_in_float32(classifier: Path) -> None:
    """For data.fit = crop the resize consists of two matrix products without weights."""
    graph = onnx.load(classifier / "export" / "model-int8.onnx").graph
    producers = {name: node.op_type for node in graph.node for name in node.output}
    products = [[producers.get(name) for name in node.input] for node in graph.node if node.op_type == "MatMul"]
    assert sum("DequantizeLinear" not in kinds for kinds in products) == 2
    assert "DequantizeLinear" in producers.values()


def test_the_calibration_of_int8_leaves_out_what_the_training_left_out() -> None:
    """The images drawn are replaced by others, so that their number remains."""
    bad = {1, 5, 6}

    def read(index: int, side: int = 0) -> Image.Image:
        if index in bad:
            raise SightlineError("this image cannot be read", where=str(index))
        return Image.new("RGB", (4, 4), (index % 256, 0, 0))

    names = tuple(map(str, range(CALIBRATION + len(bad))))
    items = Items(names, None, read, names)
    images = CalibrationImages(items, 0, skip_bad=True)
    found = [int(image["images"][0, 0, 0, 0]) for image in iter(images.get_next, None)]
    assert sorted(found) == [index for index in range(len(names)) if index not in bad]
    with pytest.raises(SightlineError, match="cannot be read"):
        list(iter(CalibrationImages(items, 0).get_next, None))


def test_exported_weights_predict_as_the_run_without_its_paths(classifier: Path, tmp_path: Path) -> None:
    """The folder of an ensemble has the weights of both epochs."""
    folder = sightline.export(classifier, format="safetensors", out=tmp_path / "weights", quiet=True)
    photos = classifier.parent / "photos"
    sightline.predict(folder, photos / "val", out=tmp_path / "predictions.csv", quiet=True)
    with open(tmp_path / "predictions.csv", encoding="utf-8") as file:
        found = {row["filename"]: row for row in csv.DictReader(file)}
    with open(classifier / "predictions" / "val.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            own = found[row["filename"].removeprefix("val/")]
            assert own["label"] == row["label"]
            assert float(own["confidence"]) == pytest.approx(float(row["confidence"]), abs=1e-6)
    for path in folder.rglob("*"):
        assert path.is_dir() or str(classifier.parent).encode() not in path.read_bytes(), path
    (member, _) = sorted((folder / "checkpoints").iterdir())
    tensors = load_file(member / "model.safetensors")
    assert any(name.startswith("head.") for name in tensors)


def test_exported_weights_are_verified_and_only_an_export_is_overwritten(segmenter: Path, tmp_path: Path) -> None:
    run = shutil.copytree(segmenter, tmp_path / "run")
    for _ in range(2):
        folder = sightline.export(run, format="safetensors", overwrite=True, quiet=True)
    scenes = segmenter.parent / "scenes" / "validation"
    sightline.predict(folder, scenes, out=tmp_path / "masks", quiet=True)
    for path in (segmenter / "predictions" / "val").glob("*_mask.png"):
        assert (np.asarray(Image.open(path)) == np.asarray(Image.open(tmp_path / "masks" / path.name))).all()
    with pytest.raises(SightlineError, match="not empty"):
        sightline.export(segmenter, format="safetensors", out=run, overwrite=True, quiet=True)
    weights = run / "checkpoints" / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + bytes(8))
    with pytest.raises(SightlineError):
        sightline.export(run, format="safetensors", out=tmp_path / "other", quiet=True)
    assert not (tmp_path / "other" / "recipe.yaml").exists()


def test_an_earlier_export_is_replaced_only_by_weights_that_can_be_read(
    classifier: Path, segmenter: Path, tmp_path: Path
) -> None:
    run, out = shutil.copytree(segmenter, tmp_path / "run"), tmp_path / "weights"

    def export(folder: Path) -> None:
        sightline.export(folder, format="safetensors", out=out, overwrite=True, quiet=True)

    export(classifier)
    assert len([*(out / "checkpoints").iterdir()]) == 2
    (out / "checkpoints" / "best").mkdir()
    (out / "checkpoints" / "best" / "old.txt").touch()
    (out / "thresholds.json").write_text("{}")  # of a run with thresholds; this one has none
    export(run)  # one member in place of two
    assert not (out / "thresholds.json").exists()
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["best"]
    names = sorted(path.name for path in (out / "checkpoints" / "best").iterdir())
    assert names == ["config.json", "model.safetensors", "model.safetensors.sha256"]
    copied = (out / "checkpoints" / "best" / "model.safetensors").read_bytes()
    weights = run / "checkpoints" / "best" / "model.safetensors"
    assert copied == weights.read_bytes()
    with pytest.raises(SightlineError, match="the run itself"):
        export(out)
    weights.write_bytes(copied[:-8] + bytes(8))
    with pytest.raises(SightlineError):
        export(run)
    assert (out / "checkpoints" / "best" / "model.safetensors").read_bytes() == copied


def test_data_that_was_moved_is_named_with_data(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_with_heads(classifier, monkeypatch)
    shutil.copytree(classifier, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    recipe = tmp_path / "run" / "recipe.yaml"
    photos = classifier.parent / "photos"
    recipe.write_text(recipe.read_text().replace(str(photos), str(tmp_path / "gone")))
    with pytest.raises(SightlineError) as caught:
        sightline.export(tmp_path / "run", quiet=True)
    assert "--data PATH" in caught.value.cure
    assert sightline.export(tmp_path / "run", data=photos, quiet=True).is_file()


def test_invalid_options_are_errors(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="unknown export format"):
        sightline.export(classifier, format="tflite", quiet=True)
    with pytest.raises(SightlineError, match="int8"):
        sightline.export(classifier, format="safetensors", int8=True, quiet=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(SightlineError, match="not empty"):
        sightline.export(classifier, format="safetensors", out=tmp_path / "mine", overwrite=True, quiet=True)
