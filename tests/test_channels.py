"""Runs on images with other channels than 8-bit RGB, from training to the exported graph: tiles with 12 bands of 16
bits as rasterio writes them, and RGB with near infrared."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import rasterio
import torch
from PIL import Image
from safetensors.torch import load_file

import sightline
from channel_toys import BANDS, COLORS, land, make_four_channels, make_land_pairs, make_tiles, write_bands
from config_toys import configured
from sightline.config.schema import Config
from sightline.data.decode.kinds import Raster
from sightline.data.decode.rasters import read_for
from sightline.errors import ENVIRONMENT, SightlineError
from sightline.export.session import OnnxSession
from sightline.inference.reading import channels_of_run, open_channels
from sightline.runs.atomic import read_json
from sightline.runs.run_folder import holds_run_of, with_absolute_paths
from sightline.segment_anything.clean_up import open_clean_up
from sightline.tasks.files import load_recipe_file
from sightline.tasks.pretrain.config import PretrainConfig

pytestmark = pytest.mark.usefixtures("no_figures")
NARROW = {"widths": [16, 32, 32], "hidden": 64, "dropout": 0.0}  # of small_cnn
UNET = {"model.args": {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [16, 16, 16], "context": False}}
SELDOM = {"train.evaluate_every": 8, "report.samples": 0}
LEARNS = {"optim.name": "adamw", "optim.lr": 3e-3, "augment.normalize": "dataset", "data.val_fraction": 0.25}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("channels")


@pytest.fixture(scope="module")
def tiles(folder: Path) -> Path:
    return make_tiles(folder / "tiles", 16)


@pytest.fixture(scope="module")
def tile_run(folder: Path, tiles: Path, tiny: dict[str, Any]) -> Path:
    """A classifier of tiles with 12 bands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_CACHE", str(folder / "cache"))
        config = configured(tiny | LEARNS | {"train.epochs": 3, "model.args": NARROW})
        return sightline.train(config, tiles, out=folder / "run", quiet=True).path


@pytest.fixture(scope="module")
def tile_graph(tile_run: Path, folder: Path) -> Path:
    """The exported graph of `tile_run`."""
    return sightline.export(tile_run, out=folder / "m.onnx", quiet=True)


@pytest.fixture(scope="module")
def pairs(folder: Path) -> Path:
    return make_land_pairs(folder / "pairs")


@pytest.fixture(scope="module")
def land_run(folder: Path, pairs: Path, toy: Callable[..., Config]) -> Path:
    """A segmenter of pairs with 12 bands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_CACHE", str(folder / "cache"))
        config = toy(
            **LEARNS, **{"data.palette": "", "data.classes": ["water", "forest"], "train.epochs": 8}, **UNET, **SELDOM
        )
        return sightline.train(config, pairs, out=folder / "land", quiet=True).path


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def probabilities(path: Path) -> dict[str, float]:
    return {row["filename"]: float(row["forest"]) for row in rows_of(path) if not row.get("error")}


def preprocessing(run: Path) -> dict[str, Any]:
    return json.loads((run / "checkpoints/best/config.json").read_text())["preprocessing"]


def test_a_classifier_of_tiles(tile_run: Path, tiles: Path, tmp_path: Path) -> None:
    """Trained, evaluated, used and reported; only the near infrared tells its classes apart."""
    channels = preprocessing(tile_run)["channels"]
    assert channels["names"] == list(BANDS) and (channels["dtype"], channels["top"]) == ("uint16", 4095)
    assert channels["shown"] == [3, 2, 1]  # B4, B3, B2
    found = sightline.evaluate(tile_run, quiet=True)
    assert found["accuracy"] == 1 and found["images"] == 8
    table = sightline.predict(tile_run, tiles, out=tmp_path / "p.csv", quiet=True)
    stored, again = probabilities(tile_run / "predictions/val.csv"), probabilities(table)
    assert len(again) == 32 and all(again[name] == pytest.approx(value, abs=1e-6) for name, value in stored.items())
    page = sightline.report(tile_run).read_text()
    assert "The images have 12 channels: B1, B2, " in page and "B4, B3 and B2 as red, green and blue" in page
    assert np.load(tile_run / "snapshots/samples.npz")["images"].shape[1:] == (3, 16, 16)


def test_the_graph_of_a_classifier_takes_the_values_of_the_files(tile_run: Path, tile_graph: Path, tiles: Path) -> None:
    checks = read_json(tile_graph.with_suffix(".json"))["checks"]
    assert [check["differ"] for check in checks] == [0, 0] and "predictions/val.csv" in checks[1]
    model = onnx.load(tile_graph)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT16
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert "uint16 [N, 12, H, W]" in facts["input"] and "B8A" in facts["input"]
    graph, stored = OnnxSession(tile_graph.read_bytes()), probabilities(tile_run / "predictions/val.csv")
    for name, value in stored.items():
        with rasterio.open(tiles / name) as file:
            assert graph(file.read()[None])["probabilities"][0, 0] == pytest.approx(value, abs=1e-5)


def test_other_sizes_are_resized_alike(tile_run: Path, tile_graph: Path, tmp_path: Path) -> None:
    """Files larger than the network's input: `predict` and the graph resize them in the same way."""
    graph = OnnxSession(tile_graph.read_bytes())
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4096, (12, 40, 56)).astype(np.uint16)
    write_bands(tmp_path / "large.tif", pixels)
    (row,) = rows_of(sightline.predict(tile_run, tmp_path / "large.tif", out=tmp_path / "p.csv", quiet=True))
    assert graph(pixels[None])["probabilities"][0, 0] == pytest.approx(float(row["forest"]), abs=1e-3)


def test_exported_weights_predict_the_same(tile_run: Path, tiles: Path, tmp_path: Path) -> None:
    small = sightline.export(tile_run, format="safetensors", out=tmp_path / "small", quiet=True)
    first, second = (
        sightline.predict(run, tiles / "water", out=tmp_path / f"{index}.csv", quiet=True)
        for index, run in enumerate((tile_run, small))
    )
    assert first.read_bytes() == second.read_bytes()


def test_channels_are_found_by_name(tile_run: Path, tiles: Path, tmp_path: Path) -> None:
    """A file with other bands besides, in another order, is read as the training images."""
    with rasterio.open(tiles / "forest/3.tif") as file:
        pixels = file.read()
    write_bands(tmp_path / "in/more.tif", np.concatenate([pixels[:1] * 0, pixels[::-1]]), ("B10", *BANDS[::-1]))
    write_bands(tmp_path / "in/same.tif", pixels)
    found = probabilities(sightline.predict(tile_run, tmp_path / "in", out=tmp_path / "p.csv", quiet=True))
    assert found["more.tif"] == found["same.tif"]


def test_images_with_other_channels_are_refused(tile_run: Path, photos: Path, tmp_path: Path) -> None:
    rgb, wide = tmp_path / "in/rgb.png", land(0)
    write_bands(tmp_path / "in/bytes.tif", (wide // 20).clip(0, 255).astype(np.uint8))
    write_bands(tmp_path / "in/few.tif", wide[:4], BANDS[:4])
    write_bands(tmp_path / "in/good.tif", wide)
    Image.new("RGB", (16, 16)).save(rgb)
    rows = {
        row["filename"]: row for row in rows_of(sightline.predict(tile_run, tmp_path / "in", out=tmp_path / "p.csv"))
    }
    assert rows["good.tif"]["label"] and not rows["good.tif"]["error"]
    for name, holds in {
        "rgb.png": "8-bit color or gray",
        "bytes.tif": "12 channels (B1, B2, B3, B4, ...) of 8 bits",
        "few.tif": "4 channels (B1, B2, B3, B4) of 16 bits",
    }.items():
        assert f"it holds {holds}" in rows[name]["error"] and "of 16 bits" in rows[name]["error"]
    with pytest.raises(SightlineError, match="other channels"):
        sightline.evaluate(tile_run, data=photos, quiet=True)


def test_without_rasterio_a_prediction_is_one_error_with_the_command(
    tile_run: Path, tiles: Path, land_run: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no fault of the images, so that they are no rows with an error each."""
    monkeypatch.setitem(sys.modules, "rasterio", None)
    for call in (
        lambda: sightline.predict(tile_run, tiles, out=tmp_path / "p.csv", quiet=True),
        lambda: sightline.predict(land_run, pairs / "images", out=tmp_path / "masks", quiet=True),
        lambda: sightline.load(tile_run).predict(tiles / "forest/0.tif"),
    ):
        with pytest.raises(SightlineError) as caught:
            call()
        assert caught.value.status == ENVIRONMENT and caught.value.cure == "pip install 'sightline-vision[geo]'"
        assert "12 channels (B1, B2, B3, B4, ...) of 16 bits" in caught.value.why


def test_arrays_have_the_values_of_the_files(tile_run: Path, tiles: Path) -> None:
    loaded, path = sightline.load(tile_run), tiles / "forest/5.tif"
    with rasterio.open(path) as file:
        pixels = file.read()
    known = loaded.predict(path).probabilities
    for given in (pixels, torch.from_numpy(pixels.astype(np.int32)), pixels.astype(np.int64)):
        assert np.array_equal(loaded.predict(given).probabilities, known)
    several = loaded.predict(np.stack([pixels, pixels]))
    assert len(several) == 2 and loaded.transform(path).shape == (12, 16, 16)
    for wrong in (pixels[:3], pixels.transpose(1, 2, 0), pixels / 4095, pixels.astype(np.int32) - 5000, "RGB"):
        image = Image.new("RGB", (16, 16)) if isinstance(wrong, str) else wrong
        with pytest.raises(SightlineError, match="not the channels") as caught:
            loaded.predict(image)
        assert "uint16 [12, H, W]" in caught.value.cure


def test_four_channels_of_8_bits(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """RGB with near infrared, which GDAL tags as transparency: a first layer widened from a run on RGB, and all steps
    after it."""
    data = make_four_channels(tmp_path / "four")
    config = configured(tiny | LEARNS | {"model.args": NARROW})
    rgb = sightline.train(config, data, out=tmp_path / "rgb", quiet=True, **{"data.channels": list(COLORS[:3])})
    settings = {"train.epochs": 3, "model.weights": str(rgb.path)}
    run = sightline.train(config, data, out=tmp_path / "run", quiet=True, **settings).path
    weights = read_json(run / "provenance.json")["weights"]
    assert weights["new"] == [] and any("nir get the mean of red, green, blue" in note for note in weights["notes"])
    assert preprocessing(run)["channels"]["names"] == list(COLORS)
    assert sightline.evaluate(run, quiet=True)["accuracy"] == 1
    path = sightline.export(run, quiet=True)
    assert [check["differ"] for check in read_json(path.with_suffix(".json"))["checks"]] == [0, 0]


def test_a_first_layer_that_cannot_be_widened_is_computed_from_the_images(
    tiles: Path, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    """The number of outputs of FastNet's first layer depends on the channels; it whitens the new images."""
    model = {"model.name": "fastnet", "model.args": {"widths": [16, 128], "blocks": [1, 2]}}
    config = configured(tiny | LEARNS | model | {"train.epochs": 1})
    three = {"data.channels": ["B4", "B3", "B2"]}
    rgb = sightline.train(config, tiles, out=tmp_path / "rgb", quiet=True, **three).path
    run = sightline.train(config, tiles, out=tmp_path / "run", quiet=True, **{"model.weights": str(rgb)}).path
    assert "backbone.stem.weight" in read_json(run / "provenance.json")["weights"]["new"]
    stem = load_file(run / "checkpoints/best/model.safetensors")["backbone.stem.weight"]
    assert stem.shape == (216, 12, 3, 3) and torch.equal(stem[:108], -stem[108:])  # filters and their negatives


@pytest.mark.parametrize("chosen", ["auto", ["1", "2", "3"]])
def test_a_tagged_fourth_channel_is_the_one_of_the_training(
    tmp_path: Path, tiny: dict[str, Any], chosen: str | list[str]
) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (16, 4, 16, 16)).astype(np.uint8)
    for index, image in enumerate(pixels):
        path = tmp_path / "data" / ("low", "high")[index % 2] / f"{index}.tif"
        write_bands(path, image, (), photometric="RGB", alpha="YES")  # as GDAL writes uint8 unless told otherwise
    config = configured(tiny | LEARNS | {"data.channels": chosen})
    run = sightline.train(config, tmp_path / "data", out=tmp_path / "run", quiet=True).path
    assert len(preprocessing(run)["channels"]["names"]) == (4 if chosen == "auto" else 3)
    assert preprocessing(run)["channels"]["opaque"]
    found = rows_of(sightline.predict(run, tmp_path / "data", out=tmp_path / "p.csv", quiet=True))
    known = {row["filename"]: float(row["low"]) for row in rows_of(run / "predictions/val.csv")}
    again = {row["filename"]: float(row["low"]) for row in found if row["filename"] in known}
    assert again == pytest.approx(known, abs=1e-6)  # batches of other sizes round differently on some processors


def test_a_conversion_to_8_bits_is_repeated(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """With `data.channels rgb`, files of 12 bits are scaled in predictions as in the training."""
    for index in range(16):
        values = np.random.default_rng(index).integers(0, 4096, (16, 16)) // (1 + index % 2)
        path = tmp_path / "data" / ("bright", "dark")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(np.uint16)).save(path)
    config = configured(tiny | LEARNS | {"data.channels": "rgb"})
    run = sightline.train(config, tmp_path / "data", out=tmp_path / "run", quiet=True).path
    assert preprocessing(run)["channels"]["deep"] == 4095
    found = rows_of(sightline.predict(run, tmp_path / "data/dark", out=tmp_path / "p.csv", quiet=True))
    known = {row["filename"]: row["dark"] for row in rows_of(run / "predictions/val.csv")}
    assert {row["dark"] for row in found if f"dark/{row['filename']}" in known} <= set(known.values())
    assert all(row["error"] == "" for row in found)


def test_other_data_are_evaluated_as_they_are_predicted(
    tmp_path: Path, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not by the largest value of the other data, which are 4 times as dark here."""
    for folder, factor in (("data", 4), ("other", 1)):
        for index in range(16):
            values = np.random.default_rng(index).integers(0, 1024 // (1 + index % 2), (16, 16)) * factor
            path = tmp_path / folder / ("bright", "dark")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint16)).save(path)
    config = configured(tiny | LEARNS | {"data.channels": "rgb", "train.epochs": 4})
    run = sightline.train(config, tmp_path / "data", out=tmp_path / "run", quiet=True).path
    assert preprocessing(run)["channels"]["deep"] == 4095
    rows = rows_of(sightline.predict(run, tmp_path / "other", out=tmp_path / "p.csv", quiet=True))
    right = [row["label"] == row["filename"].split("/")[0] for row in rows]
    found = sightline.evaluate(run, data=tmp_path / "other")
    assert "images with more than 8 bits: 4,095 becomes 255, as in training" in capsys.readouterr().out
    losses = [-np.log(float(row[row["filename"].split("/")[0]])) for row in rows]
    assert found["accuracy"] == np.mean(right) and found["loss"] == pytest.approx(np.mean(losses), abs=1e-4)


def test_values_of_another_number_of_bits_are_said(
    tile_run: Path, land_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predicted, as brighter scenes must be, and counted."""
    for index in range(12):
        factor = 16 if index < 2 else 1.3  # above 4,095, and brighter than the training images
        write_bands(tmp_path / f"in/forest/{index}.tif", (land(index, 32) * factor).clip(0, 65535).astype(np.uint16))
        write_bands(tmp_path / f"dark/{index}.tif", land(index, 32) // 64)
    rows = rows_of(sightline.predict(tile_run, tmp_path / "in", out=tmp_path / "p.csv"))
    assert all(row["label"] and not row["error"] for row in rows)
    said = capsys.readouterr().out
    assert "warning: 12 images have values above 4,095, the 12 bits of the training images: up to " in said
    assert "in forest/" in said and "scale their values first" in said
    sightline.predict(land_run, tmp_path / "in", out=tmp_path / "masks", tile=32)
    assert "warning: 12 images have values above 4,095" in capsys.readouterr().out
    sightline.load(land_run).predict(tmp_path / "dark")
    assert "warning: the largest value is " in capsys.readouterr().out
    sightline.evaluate(tile_run, data=tmp_path / "in")
    assert "warning: these images have 16 bits, and the training images had 12" in capsys.readouterr().out
    write_bands(tmp_path / "usual/0.tif", land(0))
    sightline.predict(tile_run, tmp_path / "usual", out=tmp_path / "q.csv")
    assert "warning" not in capsys.readouterr().out


def test_a_segmenter_of_12_bands_cannot_clean_up_masks(land_run: Path) -> None:
    with pytest.raises(SightlineError, match="cannot predict") as caught:
        open_clean_up(land_run, None, [])
    assert "needs 12 channels" in caught.value.why and "--run RUN" in caught.value.cure


@pytest.mark.slow
def test_a_segmenter_of_tiles(land_run: Path, pairs: Path, tmp_path: Path) -> None:
    found = sightline.evaluate(land_run, quiet=True)
    assert found["mean_iou"] > 0.6  # near infrared alone tells forest from water
    assert "12 channels" in sightline.report(land_run).read_text()
    path = sightline.export(land_run, out=tmp_path / "m.onnx", quiet=True)
    assert [check["differ"] for check in read_json(path.with_suffix(".json"))["checks"]] == [0, 0]
    loaded = sightline.load(land_run)
    out = sightline.predict(land_run, pairs / "images", out=tmp_path / "masks", overlay=True, quiet=True)
    with rasterio.open(out / "0_mask.tif") as mask, rasterio.open(pairs / "images/0.tif") as image:
        assert (mask.crs, mask.transform) == (image.crs, image.transform)
        assert np.array_equal(mask.read(1), loaded.predict(image.read()))
    with rasterio.open(out / "0_overlay.tif") as overlay:
        assert overlay.count == 3 and np.ptp(overlay.read()) > 100


def test_a_large_scene_is_read_in_windows(land_run: Path, tmp_path: Path) -> None:
    """A scene of 12 bands in windows has the pixels of the cache, and in one tile the mask of its array."""
    forest = np.add.outer(np.arange(96), np.arange(96)) > 96
    pixels, channels = land(5, 96, forest), channels_of_run(land_run)
    pixels[2, :, :4], pixels[:, :8] = 65535, 65535  # no data in a part of one band, and in all bands
    path = write_bands(tmp_path / "scene.tif", np.concatenate([pixels[:1], pixels]), ("B0", *BANDS), nodata=65535)
    with open_channels(path, channels) as scene:
        window, known = scene.read(4, 0, 10, 12), read_for(str(path), channels, 10**6)
        assert isinstance(known, Raster) and np.array_equal(window, known.pixels[:, 4:14, :12])
        assert scene.valid is not None and np.array_equal(scene.valid(4, 0, 10, 12)[:, 0], np.arange(4, 14) >= 8)
    masks = [sightline.predict(land_run, path, out=tmp_path / str(tile), tile=tile, quiet=True) for tile in (64, 1024)]
    tiled, whole = (rasterio.open(out / "scene_mask.tif").read(1) for out in masks)
    assert np.array_equal(whole, sightline.load(land_run).predict(np.where(pixels == 65535, 0, pixels)))
    assert (tiled == whole).mean() > 0.8


def test_the_overlay_of_a_scene_has_one_range_of_values(land_run: Path, tmp_path: Path) -> None:
    """Its rows are written in parts, which are not stretched one by one."""
    pixels = land(5, 128)
    pixels[:, 64:] += 2000
    path = write_bands(tmp_path / "scene.tif", pixels)
    out = sightline.predict(land_run, path, out=tmp_path / "masks", tile=32, overlay=True, quiet=True)
    with rasterio.open(out / "scene_overlay.tif") as overlay:
        shown = overlay.read().astype(int)
    assert shown[:, 64:].mean() - shown[:, :64].mean() > 60


def test_a_scene_that_the_segmenter_cannot_use_is_named(land_run: Path, tmp_path: Path) -> None:
    write_bands(tmp_path / "in/few.tif", land(0, 32)[:3], BANDS[:3])
    write_bands(tmp_path / "in/good.tif", land(0, 32))
    out = sightline.predict(land_run, tmp_path / "in", out=tmp_path / "masks", quiet=True)
    (row,) = rows_of(out / "errors.csv")
    assert row["filename"] == "few.tif" and "3 channels (B1, B2, B3) of 16 bits" in row["error"]


def test_a_backbone_of_tiles(
    tiles: Path, tmp_path: Path, small: Callable[..., Config], tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Pre-trained without operations on colors, evaluated, and its first layer taken as it is by a classifier of the
    same bands."""
    with pytest.raises(SightlineError, match="policy needs RGB images"):  # all that changes these views
        sightline.train(small(**{"augment.policy": "trivial"}), tiles, out=tmp_path / "refused", quiet=True)
    run = sightline.train(small(), tiles, out=tmp_path / "backbone").path
    said = "switched off, because the images are not red, green and blue: augment.saturation, augment.hue, augment."
    assert f"{said}grayscale, pretrain.second_solarize\n" in capsys.readouterr().out
    recipe = load_recipe_file(run / "recipe.yaml")
    assert isinstance(recipe, PretrainConfig) and recipe.pretrain.second_solarize == 0 == recipe.augment.hue
    assert recipe.augment.brightness == small().augment.brightness > 0
    assert holds_run_of(run, with_absolute_paths(small(**{"data.path": str(tiles)})))  # started again by torchrun
    assert preprocessing(run)["channels"]["names"] == list(BANDS)
    assert sightline.evaluate(run, quiet=True)["knn_accuracy"] > 0.5
    out = sightline.predict(run, tiles, out=tmp_path / "p.csv", features=True, quiet=True)
    assert (
        np.isfinite(np.load(out.with_suffix(".features.npy"))).all()
        and "12 channels" in sightline.report(run).read_text()
    )
    settings = {"model.args": {"widths": [16, 32, 32], "dropout": 0.0}, "model.weights": str(run)}
    tuned = sightline.train(configured(tiny | LEARNS | settings), tiles, out=tmp_path / "tuned", quiet=True).path
    weights = read_json(tuned / "provenance.json")["weights"]
    assert weights["new"] == ["head.weight", "head.bias"] and not any(
        "first layer" in note for note in weights["notes"]
    )


def test_runs_before_channels_are_rgb(photos: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    run = sightline.train(configured(tiny), photos, out=tmp_path / "run", quiet=True).path
    assert "channels" not in preprocessing(run)
    write_bands(tmp_path / "in/tile.tif", land(0))
    shutil.copy(next((photos / "val").rglob("*.png")), tmp_path / "in/photo.png")
    rows = rows_of(sightline.predict(run, tmp_path / "in", out=tmp_path / "p.csv", quiet=True))
    assert [bool(row["error"]) for row in rows] == [False, True] and "12 channels" in rows[1]["error"]
    assert "8-bit color or gray" in rows[1]["error"]
