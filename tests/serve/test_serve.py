"""Predictions equal those of `sightline predict`, for one and for many clients; image formats; errors as JSON."""

import base64
import csv
import importlib
import io
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import sightline
from sightline import SightlineError
from sightline.runs.atomic import sha256
from sightline.serve import bind, load, load_all, serving
from sightline.serve.models import ServedClassifier, ServedSegmenter
from sightline.serve.worker import InferenceWorker, QueueFull

from .conftest import served


def bytes_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def validation(run: Path) -> dict[str, dict[str, str]]:
    """predictions/val.csv by file name."""
    with open(run / "predictions" / "val.csv", newline="", encoding="utf-8") as file:
        return {row["filename"]: row for row in csv.DictReader(file)}


def answer(client: httpx.Client, content: bytes, model: int = 0, **options: Any) -> dict[str, Any]:
    found = client.post(f"/api/predict?model={model}", content=content, params=options or None)
    assert found.status_code == 200, found.text
    return found.json()


def test_predictions_equal_those_of_the_run(client: httpx.Client, classifier_run: Path, photos: Path) -> None:
    for name, row in validation(classifier_run).items():
        (path,) = photos.rglob(f"{Path(name).parent.name}/{Path(name).name}")
        (said,) = answer(client, path.read_bytes())["answers"]
        assert said["label"] == row["label"] and said["confidence"] == pytest.approx(float(row["confidence"]), abs=1e-5)
        assert len(said["probabilities"]) == 4
        for one in said["probabilities"]:
            assert one["probability"] == pytest.approx(float(row[one["name"]]), abs=1e-5)
        likely = [one["probability"] for one in said["probabilities"]]
        assert likely == sorted(likely, reverse=True) and sum(likely) == pytest.approx(1, abs=1e-4)


def test_masks_equal_those_of_predict(
    client: httpx.Client, segmenter: ServedSegmenter, segmenter_run: Path, tmp_path: Path
) -> None:
    scenes = segmenter_run.parent / "land" / "validation"
    sightline.predict(segmenter_run, scenes, out=tmp_path / "masks", quiet=True)
    for path in scenes.glob("*_sat.jpg"):
        (said,) = answer(client, path.read_bytes(), 1)["answers"]
        mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(said["mask"]))))
        written = np.asarray(Image.open(tmp_path / "masks" / path.name.replace("_sat.jpg", "_mask.png")))
        colors = [tuple(bytes.fromhex(one["color"][1:])) for one in said["classes"]]
        assert (np.array(colors)[mask] == written).all() and (said["width"], said["height"]) == (32, 32)
        for index, one in enumerate(said["classes"]):
            assert one["share"] == pytest.approx((mask == index).mean())


def test_the_nearest_image_to_a_training_image_is_itself(
    client: httpx.Client, classifier: ServedClassifier, photos: Path
) -> None:
    assert classifier.neighbors is not None
    for place in (0, 17, 40):
        name = classifier.neighbors.train.names[place]
        (path,) = photos.rglob(f"{Path(name).parent.name}/{Path(name).name}")
        near = answer(client, path.read_bytes())["answers"][0]["near"]
        assert len(near) == 8 and near[0]["picture"] == place and near[0]["similarity"] == pytest.approx(1, abs=1e-3)
        assert near[0]["name"] == name and near[0]["label"] == path.parent.name
        shown = client.get(f"/api/models/0/training/{place}.png")
        assert shown.headers["content-type"] == "image/png"
        assert (np.asarray(Image.open(io.BytesIO(shown.content))) == np.asarray(Image.open(path))).all()


def test_sixteen_clients_get_the_predictions_of_one(client: httpx.Client, photos: Path, segmenter_run: Path) -> None:
    images = [path.read_bytes() for path in sorted((photos / "val").rglob("*.png"))]
    images += [path.read_bytes() for path in sorted((segmenter_run.parent / "land").rglob("*_sat.jpg"))]
    alone = [answer(client, picture, place % 2)["answers"] for place, picture in enumerate(images)]

    def asking(number: int) -> int:
        wrong = 0
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            for place, picture in list(enumerate(images))[number % 5 :]:
                (mine,), (other,) = answer(own, picture, place % 2)["answers"], alone[place]
                if mine["kind"] == "mask":
                    wrong += mine != other
                    continue
                probabilities = {one["name"]: one["probability"] for one in mine["probabilities"]}
                wrong += mine["label"] != other["label"] or any(
                    abs(probabilities[one["name"]] - one["probability"]) > 1e-5 for one in other["probabilities"]
                )
                wrong += [one["picture"] for one in mine["near"]][:3] != [one["picture"] for one in other["near"]][:3]
        return wrong

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(asking, range(16))) == [0] * 16


def test_responses_on_one_connection_are_not_delayed(client: httpx.Client) -> None:
    """Nagle's algorithm and delayed acknowledgments would delay each by 40 ms."""
    took = []
    for _ in range(20):
        start = time.perf_counter()
        client.get("/api/models")
        took.append(time.perf_counter() - start)
    assert np.median(took) < 0.035


def test_both_models_predict_one_image(client: httpx.Client, photos: Path) -> None:
    found = client.post("/api/predict", content=next(photos.rglob("*.png")).read_bytes()).json()
    assert [(said["model"], said["kind"]) for said in found["answers"]] == [("corners", "classes"), ("fields", "mask")]
    models = client.get("/api/models").json()["models"]
    assert [(model["name"], model["task"], model["classes"]) for model in models] == [
        ("corners", "classify", 4),
        ("fields", "segment", 6),
    ]


def image_file(kind: str, mode: str) -> bytes:
    """An image of 30 x 20 pixels; empty if the format does not support the mode."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    try:
        return bytes_of(image.convert(mode), kind)
    except (OSError, ValueError, KeyError):
        return b""


KINDS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
IMAGES = {
    f"{kind} {mode}": content
    for kind in KINDS
    for mode in ("RGB", "L", "P", "CMYK", "RGBA", "1")
    if (content := image_file(kind, mode))
}


@pytest.mark.parametrize("content", IMAGES.values(), ids=IMAGES.keys())
def test_every_format_and_mode(client: httpx.Client, content: bytes) -> None:
    found = answer(client, content, preview=True)
    assert (found["width"], found["height"]) == (30, 20)
    assert Image.open(io.BytesIO(base64.b64decode(found["preview"]))).size == (30, 20)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_image_of_other_bits_is_refused(client: httpx.Client, kind: str) -> None:
    deep = Image.fromarray(np.full((20, 30), 4000, np.uint16))
    found = client.post("/api/predict", content=bytes_of(deep, kind))
    assert found.status_code == 400 and "1 channel (gray) of 16 bits" in found.json()["error"]["why"]
    assert "sightline-upload" not in found.text  # the name of the temporary file


def test_a_photograph_on_its_side_is_turned(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = answer(client, bytes_of(Image.new("RGB", (30, 20)), "JPEG", exif=exif), 1)
    assert (found["width"], found["height"]) == (20, 30)
    assert (found["answers"][0]["width"], found["answers"][0]["height"]) == (20, 30)


def test_examples_are_validation_images_with_the_runs_predictions(client: httpx.Client, classifier_run: Path) -> None:
    rows = validation(classifier_run)
    examples = client.get("/api/models").json()["models"][0]["examples"]
    assert len(examples) == 8 and len({one["label"] for one in examples}) == 4
    for place, one in enumerate(examples):
        picture = client.get(f"/api/models/0/examples/{place}.png").content
        (said,) = answer(client, picture)["answers"]
        row = rows[one["name"]]
        assert row["truth"] == one["label"]
        assert said["confidence"] == pytest.approx(float(row["confidence"]), abs=1e-5)
    assert Image.open(io.BytesIO(client.get("/api/models/1/examples/0.png?side=8").content)).size == (8, 8)


WRONG = {
    "nothing": b"",
    "text": b"hello",
    "page": b"<!doctype html><title>x</title>",
    "cut": bytes_of(Image.new("RGB", (64, 64), "red"))[:60],
    "pickle": b"\x80\x04\x95",
    "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "gif head": b"GIF89a",
}


@pytest.mark.parametrize("kind", WRONG)
def test_files_that_are_not_images_are_errors_and_the_server_continues(client: httpx.Client, kind: str) -> None:
    found = client.post("/api/predict", content=WRONG[kind])
    assert found.status_code == 400 and found.json()["error"]["what"] and "Traceback" not in found.text
    assert client.get("/api/models").status_code == 200


def test_a_decompression_bomb_is_rejected_from_its_header(client: httpx.Client) -> None:
    content = bytes_of(Image.new("1", (9000, 9000)))
    assert len(content) < 20_000
    found = client.post("/api/predict", content=content)
    assert found.status_code == 400
    error = found.json()["error"]
    assert error["why"] == "the image has 9,000 x 9,000 pixels; the limit is 50,000,000", "the sender has no settings"
    assert error["cure"] == "send a smaller image"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/predict?model=2", 404),
        ("POST", "/api/predict?model=-1", 400),
        ("POST", "/api/predict?model=x", 400),
        ("POST", "/api/predict?preview=perhaps", 400),
        ("GET", "/api/models/0/examples/0.png?side=100000", 400),
        ("GET", "/api/models/1/training/0.png", 404),
        ("GET", "/api/models/0/training/64.png", 404),
        ("GET", "/api/predict", 405),
        ("DELETE", "/api/models", 405),
        ("GET", "/docs", 404),
        ("POST", "/api/segment/pictures", 404),
    ],
)
def test_invalid_requests_have_one_form_of_error(client: httpx.Client, method: str, path: str, status: int) -> None:
    content = bytes_of(Image.new("RGB", (8, 8))) if method == "POST" else None
    found = client.request(method, path, content=content)
    assert found.status_code == status and set(found.json()["error"]) == {"what", "why", "cure"}


def test_openapi_describes_every_route(client: httpx.Client) -> None:
    found = client.get("/openapi.json").json()
    assert found["openapi"].startswith("3.") and set(found["paths"]) == {
        "/api/models",
        "/api/predict",
        "/api/models/{model}/training/{picture}.png",
        "/api/models/{model}/examples/{picture}.png",
    }
    predict = found["paths"]["/api/predict"]["post"]
    assert predict["requestBody"]["content"] == {"image/*": {"schema": {"type": "string", "format": "binary"}}}
    assert {"200", "default"} <= set(predict["responses"])


def test_a_model_that_raises_is_a_logged_fault_and_the_server_continues(
    classifier: ServedClassifier, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(ServedClassifier):
        def compute(self, images: Any) -> Any:
            raise RuntimeError("out of memory in /home/someone")

    broken = Broken(**vars(classifier))
    with served([broken, classifier]) as client:
        found = client.post("/api/predict?model=0", content=bytes_of(Image.new("RGB", (16, 16))))
        assert found.status_code == 500 and "someone" not in found.text
        mark = found.json()["error"]["why"].split()[-1]
        assert f"error {mark} in /api/predict" in (log := capsys.readouterr().err) and "out of memory" in log
        assert answer(client, bytes_of(Image.new("RGB", (16, 16))), 1)["answers"][0]["label"]


def test_a_full_queue_is_status_503_with_retry_after(
    classifier: ServedClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> Any:
        raise QueueFull

    monkeypatch.setattr(InferenceWorker, "submit", full)
    with served([replace(classifier, neighbors=None)]) as client:
        found = client.post("/api/predict", content=bytes_of(Image.new("RGB", (16, 16))))
        assert found.status_code == 503 and found.headers["retry-after"] == "1"


def test_nothing_is_written(client: httpx.Client, classifier_run: Path, segmenter_run: Path, photos: Path) -> None:
    def state() -> dict[str, str]:
        folders = (classifier_run, segmenter_run, photos)
        return {str(path): sha256(path) for folder in folders for path in folder.rglob("*") if path.is_file()}

    before = state()
    for path in list(photos.rglob("*.png"))[:3]:
        client.post("/api/predict", content=path.read_bytes())
    assert state() == before


def test_a_run_without_its_data_is_served_without_neighbors(
    classifier_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(classifier_run, tmp_path / "moved")
    text = (moved / "recipe.yaml").read_text(encoding="utf-8")
    path = next(line for line in text.splitlines() if line.strip().startswith("path:"))
    (moved / "recipe.yaml").write_text(text.replace(path, "  path: /nowhere/photos"), encoding="utf-8")
    model = load(moved, "moved", True, print)
    assert isinstance(model, ServedClassifier) and model.neighbors is None and not model.examples.names
    assert "/nowhere/photos" in capsys.readouterr().out
    said = model.compute([np.zeros((3, 16, 16), np.uint8)])[0]
    assert said.label and said.near == [] and "No training images" in said.note


def test_an_ensemble_has_no_neighbors_and_a_note(
    photos: Path, tiny: dict[str, object], tmp_path: Path, quick_figures: None
) -> None:
    sightline.train("photos_scratch", photos, out=tmp_path / "e", quiet=True, **tiny | {"train.ensemble": 2})
    model = load(tmp_path / "e", "e", True, print)
    assert isinstance(model, ServedClassifier) and len(model.predictor.models) == 2 and model.neighbors is None
    assert "several epochs" in model.compute([np.zeros((3, 16, 16), np.uint8)])[0].note


def test_a_pre_training_is_served_with_neighbors_only(
    photos: Path, small: Callable[..., Any], tmp_path: Path, quick_figures: None
) -> None:
    sightline.train(small(), photos, out=tmp_path / "p", quiet=True)
    model = load(tmp_path / "p", "p", True, print)
    assert isinstance(model, ServedClassifier) and model.neighbors is not None
    for _ in model.background():
        pass
    pixels = np.array(model.neighbors.train.images[5])
    said = model.compute([pixels])[0]
    assert said.probabilities == [] and said.near[0].picture == 5 and model.info().task == "pretrain"
    with pytest.raises(SightlineError, match="only nearest images"):
        load(tmp_path / "p", "p", False, print)


def test_names_are_escaped_in_responses(classifier: ServedClassifier) -> None:
    hostile, shown = "\udcff\x1b[2J\u202e<b>", "\\udcff\\x1b[2J\\u202e<b>"
    assert classifier.neighbors is not None
    names = (hostile,) * len(classifier.neighbors.train.names)
    train = replace(classifier.neighbors.train, names=names, classes=(hostile,) * 4)
    examples = replace(classifier.examples, names=(hostile,) * len(classifier.examples.names))
    neighbors = replace(classifier.neighbors, train=train)
    model = replace(classifier, classes=(hostile,) * 4, neighbors=neighbors, examples=examples)
    said = model.response(np.full(4, 0.25), None)
    assert {one.name for one in said.probabilities} == {said.label} == {shown}
    neighbor = model.neighbor(0, 1.0)
    assert (neighbor.name, neighbor.label) == (shown, shown)
    assert {example.name for example in model.info().examples} == {shown}
    assert "\x1b" not in said.model_dump_json() and "\u202e" not in said.model_dump_json()


def test_runs_of_one_name_are_numbered(classifier_run: Path) -> None:
    names = [model.name for model in load_all([classifier_run, classifier_run], False, print)]
    assert names == ["corners 1", "corners 2"]


def test_ports() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SightlineError, match=f"cannot use port {port}") as caught:
            bind(port)
        assert caught.value.status == 3 and "--port" in caught.value.cure
        assert caught.value.why.startswith("another program uses it")
    with bind(None) as first, bind(None) as second:
        assert first.getsockname()[1] != second.getsockname()[1]
    with pytest.raises(SightlineError, match="invalid port") as caught:
        bind(99999)
    assert caught.value.cure and caught.value.status == 2


def test_the_address_is_reused_only_where_a_port_in_use_is_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reused in (("posix", True), ("nt", False)):
        monkeypatch.setattr(importlib.import_module("sightline.serve"), "os", SimpleNamespace(name=name))
        with bind(0) as listening:
            assert bool(listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) == reused


def test_only_this_machine_can_connect(classifier: ServedClassifier) -> None:
    with bind(0) as listening, serving([classifier], listening) as (_, url):
        assert listening.getsockname()[0] == "127.0.0.1" and url.startswith("http://127.0.0.1:")


def test_user_mistakes_are_raised_before_anything_is_served(
    classifier_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SightlineError, match="size"):
        sightline.serve(classifier_run, max_mb=0)
    with pytest.raises(SightlineError):
        sightline.serve(tmp_path)
    with pytest.raises(SightlineError):
        sightline.serve(classifier_run, tmp_path / "none")
    module = importlib.import_module("sightline.serve")
    try:
        with (
            monkeypatch.context() as patch,
            pytest.raises(SightlineError, match="a package that is not installed") as caught,
        ):
            patch.setitem(sys.modules, "uvicorn", None)
            importlib.reload(module)
            sightline.serve(classifier_run)
    finally:
        importlib.reload(module)
    assert "uvicorn" in caught.value.why and caught.value.status == 3
    assert "sightline-vision[serve]" in caught.value.cure


def test_the_guides_program_runs(
    client: httpx.Client, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```py\n(.*?)```", guide, re.DOTALL)
    shutil.copy(next(photos.rglob("*.png")), tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/")), "serve.md", "exec"), {})
    assert capsys.readouterr().out.startswith("class_")
