"""A loaded segmenter predicts the masks of `sightline predict`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

import sightline
from sightline import SightlineError
from sightline.config.schema import Config
from sightline.data.annotations.outlines import shapes_of
from sightline.data.decode.masks import coded
from sightline.tasks.segment import load as loading

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture(scope="module")
def model(
    make_scenes: Callable[..., Path], toy: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    scenes = make_scenes(tmp_path_factory.mktemp("scenes"), train=4, val=2)
    config = toy(**{"train.epochs": 1, "train.flip_test": True})
    return sightline.load(sightline.train(config, scenes, out=tmp_path_factory.mktemp("run") / "run", quiet=True))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (90, 130, 3), dtype=np.uint8)


def test_masks_of_every_kind_of_image_equal_those_of_the_command(
    model: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    out = sightline.predict(model.run, path, out=tmp_path / "out", quiet=True)
    with Image.open(out / "a_mask.png") as file:
        expected = np.asarray(file)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (path, Image.open(path), pixels, pixels / 255, tensor):
        mask = model.predict(image)
        assert mask.shape == (90, 130) and mask.dtype == np.uint8
        np.testing.assert_array_equal(coded(mask, model.parts.palette), expected)
    several = model.predict([path, pixels])
    assert isinstance(several, list) and np.array_equal(several[0], several[1]) and np.array_equal(several[0], mask)


@pytest.fixture
def gap(pixels: np.ndarray, tmp_path: Path) -> np.ndarray:
    """The pixels with a rectangle without data; they are also in the GeoTIFF town.tif."""
    gap = pixels.copy()
    gap[30:70, 100:] = 0
    layout: dict[str, Any] = {"driver": "GTiff", "height": 90, "width": 130, "count": 3, "dtype": "uint8", "nodata": 0}
    layout |= {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_650_000)}
    with rasterio.open(tmp_path / "town.tif", "w", **layout) as file:
        file.write(gap.transpose(2, 0, 1))
    return gap


def test_pixels_of_a_geotiff_without_data_are_ignored(model: Any, gap: np.ndarray, tmp_path: Path) -> None:
    mask, expected = model.predict(tmp_path / "town.tif"), model.predict(gap)
    expected[30:70, 100:] = 255
    np.testing.assert_array_equal(mask, expected)


def test_regions_for_annotation_programs_are_those_of_the_mask(
    model: Any, gap: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a scene above data.max_pixels; pixels without data are in no region."""
    copy = Path(shutil.copytree(model.run, tmp_path / "run"))
    recipe = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(recipe.replace("max_pixels: 89478485", "max_pixels: 5000"))
    masks: list[np.ndarray] = []
    monkeypatch.setattr(loading, "shapes_of", lambda mask, *rest: (masks.append(mask), shapes_of(mask, *rest))[1])
    out = sightline.predict(copy, tmp_path / "town.tif", out=tmp_path / "p.json", format="coco", quiet=True)
    found = json.loads(out.read_text())
    assert [(image["height"], image["width"]) for image in found["images"]] == [(90, 130)] and found["annotations"]
    np.testing.assert_array_equal(masks[0], model.predict(tmp_path / "town.tif"))
    assert (masks[0][30:70, 100:] == 255).all() and (masks[0] < 255).any()


def test_large_images_are_predicted_in_tiles(model: Any, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda images: (sides.append(images.shape[3]), forward(images))[1])
    monkeypatch.setattr(loading, "TILE", 64)
    assert model.predict(pixels).shape == (90, 130) and max(sides) == 64 and len(sides) > 8


def test_the_network_with_the_transform_gives_logits(model: Any, pixels: np.ndarray) -> None:
    inputs = model.transform(pixels)
    assert inputs.shape == (3, 90, 130) and inputs.dtype == torch.float32 and not model.model.training
    with torch.inference_mode():
        both = [model.model(each[None])[0].softmax(0) for each in (inputs, inputs.flip(2))]
    mean = (both[0] + both[1].flip(2)) / 2  # the recipe sets flip_test
    assert (mean.argmax(0).numpy() == model.predict(pixels)).mean() > 0.999


def test_a_segmenter_has_no_features(model: Any, pixels: np.ndarray) -> None:
    with pytest.raises(SightlineError, match="no features"):
        model.features(pixels)
    with pytest.raises(SightlineError, match="takes one image"):
        model.transform([pixels])
    assert repr(model) == f"<sightline model unet, 6 classes, any size, {model.run}>"


def test_a_segmenter_has_no_class_map(model: Any, pixels: np.ndarray) -> None:
    with pytest.raises(SightlineError, match="only classifiers") as caught:
        model.class_map(pixels)
    assert "mask" in caught.value.cure
