"""`sightline export` on runs of seconds: the files are used as an outsider would, without Sightline."""

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

import sightline
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.errors import ENVIRONMENT
from sightline.export import onnx_file, weights

pytestmark = pytest.mark.usefixtures("quick_figures")
WITHOUT = "import runpy, sys; sys.modules['sightline'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_nothing_is_written_down_for_the_maker_of_onnxruntime(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "graph", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "home").mkdir()
    code = "import sys; from sightline.export.check import Graph; Graph(open(sys.argv[1], 'rb').read())"
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    environ["HOME"] = str(tmp_path / "home")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.onnx")], env=environ, check=True)
    assert not list((tmp_path / "home").rglob("*onnxruntime*"))


def as_input(*paths: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in paths])


@pytest.fixture(scope="module")
def classifier(
    tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path], tiny: dict, quick_figures: None
) -> Path:
    """An ensemble of two epochs, of pictures that have to shrink from 40 to 16 pixels, exported."""
    place = tmp_path_factory.mktemp("classifier")
    data = make_photos(place / "photos", size=40, val=6)
    more = {"optim.lr": 0.01, "report.samples": 0, "train.ensemble": 2, "loss.smoothing": 0.4}
    run = sightline.train(resolve(Config(name="t"), tiny | more), data, out=place / "run", quiet=True)
    sightline.export(run.path, int8=True, quiet=True)
    return run.path


@pytest.fixture(scope="module")
def segmenter(
    tmp_path_factory: pytest.TempPathFactory,
    make_scenes: Callable[..., Path],
    toy: Callable[..., Config],
    quick_figures: None,
) -> Path:
    place = tmp_path_factory.mktemp("segmenter")
    data = make_scenes(place / "scenes", size=40)  # 40 is no multiple of 32: the graph has to pad
    settings = {"train.epochs": 1, "report.samples": 0, "train.flip_test": True, "augment.window": [32, 32]}
    run = sightline.train(toy(**settings), data, out=place / "run", quiet=True)
    sightline.export(run.path, quiet=True)
    return run.path


def test_the_graph_takes_files_as_they_are_and_repeats_the_runs_predictions(classifier: Path) -> None:
    graph = session(classifier / "export" / "model.onnx")
    with open(classifier / "predictions" / "val.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (data,) = classifier.parent.glob("photos")
    facts = {key: json.loads(text) for key, text in graph.get_modelmeta().custom_metadata_map.items()}
    found = graph.run(["probabilities"], {"images": as_input(*(data / row["filename"] for row in rows))})[0]
    expected = np.array([[float(row[name]) for name in facts["classes"]] for row in rows])
    assert np.abs(found - expected).max() < 0.05  # Pillow's resize and the graph's differ by a level here and there
    top = np.sort(expected, 1)
    clear = top[:, -1] - top[:, -2] > 0.1
    assert clear.sum() > 5
    labels = np.array([facts["classes"][place] for place in found.argmax(1)])
    assert (labels == np.array([row["label"] for row in rows]))[clear].all()
    one = graph.run(None, {"images": as_input(data / rows[0]["filename"])})[0]
    assert np.allclose(one, found[:1], atol=1e-5)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert facts["task"] == "classify" and facts["preprocessing"]["size"] == 16


def test_what_the_check_found_lies_beside_the_graph(classifier: Path) -> None:
    facts = json.loads((classifier / "export" / "model.json").read_text(encoding="utf-8"))
    same, files = facts["checks"]
    assert same["items"] == 24 and same["differ"] == same["ties"] and same["largest_difference"] < 1e-4
    assert same["pytorch"] == sightline.evaluate(classifier, quiet=True)["accuracy"]
    assert files["items"] == 24 and same["largest_difference"] <= files["largest_difference"] < 0.05
    small = facts["int8"]
    assert 0 < small["bytes"] < 0.6 * facts["bytes"]
    low, high = small["interval"]
    assert low <= small["difference"] <= high and small["int8"] - small["float32"] == pytest.approx(small["difference"])
    assert min(small["images_per_second"].values()) > 0
    kinds = [node.op_type for node in onnx.load(classifier / "export" / "model-int8.onnx").graph.node]
    assert "QuantizeLinear" in kinds


def test_the_graph_says_nothing_of_the_machine_that_wrote_it(classifier: Path) -> None:
    content = (classifier / "export" / "model.onnx").read_bytes()
    for private in (str(Path.home()), str(Path(sightline.__file__).parent), "stack_trace"):
        assert private.encode() not in content


def spoiled(
    classifier: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray] = lambda head: head
) -> None:
    """Let the exporter write the graph with other weights in the heads, as a faulty translation would."""
    model = onnx.load(classifier / "export" / "model.onnx")
    heads = [tensor for tensor in model.graph.initializer if tensor.name.endswith(("head.bias", "head.weight"))]
    assert len(heads) == 4, [tensor.name for tensor in heads]
    for tensor in heads:
        tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), tensor.name))
    monkeypatch.setattr(onnx_file, "traced", lambda *arguments: model)
    monkeypatch.setattr(onnx_file, "with_resize", lambda model, *arguments: model)


def exchanged(head: np.ndarray) -> np.ndarray:
    """The classes in another order."""
    return np.roll(head, 1, head.shape.index(4))


def softened(head: np.ndarray) -> np.ndarray:
    """Less sure of everything, but of one mind."""
    return head * np.float32(0.2)


@pytest.mark.parametrize("change", [exchanged, softened])
def test_a_graph_that_differs_is_not_called_exported(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Also where every label may stay the same, and the probabilities alone are wrong."""
    spoiled(classifier, monkeypatch, change)
    with pytest.raises(SightlineError, match="not exported") as caught:
        sightline.export(classifier, out=tmp_path / "mine.onnx", quiet=True)
    assert caught.value.status == ENVIRONMENT
    assert "differ" in caught.value.why
    if change is exchanged:
        assert "val/class_" in caught.value.why, "pictures that differ are named"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.refused.onnx"]
    assert str(tmp_path / "mine.refused.onnx") in caught.value.cure


def test_the_untouched_graph_passes_through_the_same_door(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiled(classifier, monkeypatch)
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
    (found,) = checks
    assert found["items"] == 4 * 40 * 40 and found["differ"] == found["ties"] and found["unit"] == "pixels"
    shown = facts["palette"]
    written = np.asarray(Image.open(segmenter / "predictions" / "val" / "0900_mask.png").convert("RGB"))
    colors = np.array([shown["colors"][shown["names"].index(name)] for name in facts["classes"]], np.uint8)
    assert (colors[mask[0]] == written).all(2).mean() > 0.999
    other = np.random.default_rng(0).integers(0, 256, (1, 3, 33, 70), np.uint8)
    assert graph.run(["mask"], {"images": other})[0].shape == (1, 33, 70)


def without_sightline(folder: Path, pictures: list[Path], *more: str) -> str:
    """What load.py prints where `import sightline` is impossible."""
    command = [sys.executable, "-c", WITHOUT, str(folder / "load.py"), *map(str, pictures), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_weights_load_without_sightline(
    make_photos: Callable[..., Path], tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_photos(tmp_path / "photos", train=4, val=2)  # 8 pictures: as many as the export runs its script on
    settings = tiny | {"model.name": "resnet18", "train.epochs": 1, "report.samples": 0}
    run = sightline.train(resolve(Config(name="t"), settings), data, out=tmp_path / "run", quiet=True)
    said: list[str] = []

    def spied(*arguments: object) -> str:
        said.append(without_sightline(*arguments))  # ty: ignore[invalid-argument-type]
        return said[-1]

    monkeypatch.setattr(weights, "run_script", spied)
    folder = sightline.export(run.path, format="safetensors", out=tmp_path / "weights", quiet=True)
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "load.py", "model.safetensors"}
    with open(run.path / "predictions" / "val.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, line in zip(rows, said[0].splitlines(), strict=True):
        _, label, confidence = line.rsplit(" ", 2)
        assert label == row["label"] and float(confidence) == pytest.approx(float(row["confidence"]), abs=1e-4)


def test_a_script_that_says_something_else_is_refused(
    make_photos: Callable[..., Path], tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_photos(tmp_path / "photos", train=4, val=2)
    settings = tiny | {"train.epochs": 1, "report.samples": 0}
    run = sightline.train(resolve(Config(name="t"), settings), data, out=tmp_path / "run", quiet=True)
    monkeypatch.setattr(weights, "run_script", lambda *arguments: "a.png nonsense 0.25\n" * 8)
    with pytest.raises(SightlineError, match="differs from PyTorch"):
        sightline.export(run.path, format="safetensors", out=tmp_path / "weights", quiet=True)
    assert not (tmp_path / "weights").exists()


def test_what_a_plain_script_would_not_repeat_is_refused(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="does not say what this run says") as caught:
        sightline.export(classifier, format="safetensors", out=tmp_path / "w", quiet=True)
    assert "--format onnx" in caught.value.cure and not (tmp_path / "w").exists()


def test_data_that_has_moved_is_named_anew(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled(classifier, monkeypatch)
    shutil.copytree(classifier, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    recipe = tmp_path / "run" / "recipe.yaml"
    photos = classifier.parent / "photos"
    recipe.write_text(recipe.read_text().replace(str(photos), str(tmp_path / "gone")))
    with pytest.raises(SightlineError) as caught:
        sightline.export(tmp_path / "run", quiet=True)
    assert "--data PATH" in caught.value.cure
    assert sightline.export(tmp_path / "run", data=photos, quiet=True).is_file()


def test_wrong_wishes_are_refused(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="no format"):
        sightline.export(classifier, format="tflite", quiet=True)
    with pytest.raises(SightlineError, match="int8"):
        sightline.export(classifier, format="safetensors", int8=True, quiet=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(SightlineError, match="not empty"):
        sightline.export(classifier, format="safetensors", out=tmp_path / "mine", overwrite=True, quiet=True)
