"""Served models of images with other channels than 8-bit RGB."""

import base64
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
from PIL import Image

import sightline
from channel_toys import BANDS, land, make_tiles, write_bands
from config_toys import configured
from serve.conftest import served, without_reports
from sightline.serve import load


@pytest.fixture(scope="module")
def tile_run(tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("serve_channels")
    with without_reports(folder / "cache"):
        config = configured(tiny | {"augment.normalize": "dataset", "data.val_fraction": 0.25})
        return sightline.train(config, make_tiles(folder / "tiles", 8), out=folder / "tiles-run", quiet=True).path


@pytest.fixture(scope="module")
def tile_client(tile_run: Path) -> Iterator[httpx.Client]:
    model = load(tile_run, "bands", True, print)
    with served([model]) as client:
        yield client


def test_an_upload_is_predicted_as_the_file(tile_client: httpx.Client, tile_run: Path) -> None:
    path = tile_run.parent / "tiles/forest/0.tif"
    found = tile_client.post("/api/predict?preview=true", content=path.read_bytes()).json()
    known = sightline.load(tile_run).predict(path)
    (answer,) = found["answers"]
    assert answer["label"] == known.label and answer["confidence"] == pytest.approx(known.confidence, abs=1e-6)
    preview = Image.open(io.BytesIO(base64.b64decode(found["preview"])))
    assert (preview.mode, preview.size) == ("RGB", (16, 16)) == (preview.mode, (found["width"], found["height"]))
    assert np.ptp(np.asarray(preview)) > 200  # stretched: the values are 900 of 4,095


def test_examples_are_shown_in_colors_and_sent_with_all_bands(tile_client: httpx.Client, tile_run: Path) -> None:
    """The page shows the small image, and sends the other one back."""
    with open(tile_run / "predictions/val.csv", newline="", encoding="utf-8") as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    examples = tile_client.get("/api/models").json()["models"][0]["examples"]
    assert len(examples) == 4
    for number, one in enumerate(examples):
        shown = tile_client.get(f"/api/models/0/examples/{number}.png?side=8")
        assert Image.open(io.BytesIO(shown.content)).size == (8, 8)
        complete = tile_client.get(f"/api/models/0/examples/{number}.png")
        assert complete.headers["content-type"] == "image/tiff"
        (answer,) = tile_client.post("/api/predict", content=complete.content).json()["answers"]
        assert answer["confidence"] == pytest.approx(float(rows[one["name"]]["confidence"]), abs=1e-6)
    assert Image.open(io.BytesIO(tile_client.get("/api/models/0/training/0.png").content)).mode == "RGB"


def test_the_page_says_what_it_needs(tile_client: httpx.Client) -> None:
    page = tile_client.get("/").text
    assert "It needs TIFF files with 12 channels (B1, B2, B3, B4, ...) of 16 bits." in page and "@image.tif" in page
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, "PNG")
    for wrong in (content.getvalue(), b"", land(0).tobytes()):
        found = tile_client.post("/api/predict", content=wrong)
        assert found.status_code == 400 and "sightline-upload" not in found.text
    found = tile_client.post("/api/predict", content=content.getvalue()).json()["error"]
    assert "12 channels" in found["why"] and "8-bit color" in found["why"]


def test_errors_of_rasters_name_no_settings(tile_client: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    size = {"count": 12, "height": 7100, "width": 7100, "dtype": "uint16"}
    with rasterio.open(path, "w", driver="GTiff", photometric="MINISBLACK", tiled=True, SPARSE_OK=True, **size) as file:
        file.descriptions = BANDS  # no pixels, which would be 1.2 GB
    found = tile_client.post("/api/predict", content=path.read_bytes()).json()["error"]
    assert found["why"] == "the image has 7,100 x 7,100 pixels; the limit is 50,000,000"
    assert found["cure"] == "send a smaller image"
    content = bytearray(write_bands(tmp_path / "damaged.tif", land(0), compress="deflate").read_bytes())
    content[1000:3000] = b"\xff" * 2000  # of the pixels
    found = tile_client.post("/api/predict", content=bytes(content)).json()["error"]
    assert found["what"] == "this image cannot be read" and found["cure"] == "send the image again, or another one"


@pytest.mark.parametrize("preview", ["false", "true"])
def test_a_model_of_deep_files_as_rgb_predicts_them(tile_run: Path, tiny: dict[str, Any], preview: str) -> None:
    """With `data.channels rgb` the network has 8-bit RGB, and the files of its training have 12 bands of 16 bits."""
    folder, path = tile_run.parent, tile_run.parent / "tiles/forest/0.tif"
    if not (run := folder / "rgb-run").exists():
        with without_reports(folder / "cache"):
            config = configured(tiny | {"data.channels": "rgb", "data.val_fraction": 0.25})
            sightline.train(config, folder / "tiles", out=run, quiet=True)
    known = sightline.load(run).predict(path)
    with served([load(run, "rgb", True, print)]) as client:
        reply = client.post(f"/api/predict?preview={preview}", content=path.read_bytes())
        assert reply.status_code == 200, reply.text
        found = reply.json()
        (answer,) = found["answers"]
        assert answer["label"] == known.label and answer["confidence"] == pytest.approx(known.confidence, abs=1e-6)
        assert (found["width"], found["height"]) == (16, 16)
        example = client.get("/api/models/0/examples/0.png").content  # of 8 bits
        shown = client.post(f"/api/predict?preview={preview}", content=example).json()
        for given in (found, shown) if preview == "true" else ():
            assert Image.open(io.BytesIO(base64.b64decode(given["preview"]))).size == (16, 16)
