"""Predicted masks of files, and of georeferenced TIFF scenes, which keep their coordinates."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

import sightline
from sightline import SightlineError
from sightline.config.schema import Config
from sightline.data.decode.geotiff import has_windows, orientation
from sightline.errors import INTERRUPTED
from sightline.inference.inputs import InputImage
from sightline.runs.lock import lock_output
from sightline.tasks.segment import predict as predict_masks

pytestmark = pytest.mark.usefixtures("no_reports")

PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_650_000)}


@pytest.fixture(scope="module")
def run(
    make_scenes: Callable[..., Path], toy: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> sightline.Run:
    scenes = make_scenes(tmp_path_factory.mktemp("scenes"), train=4, val=2)
    return sightline.train(toy(**{"train.epochs": 1}), scenes, out=tmp_path_factory.mktemp("run") / "run", quiet=True)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)


def as_map(path: Path, pixels: np.ndarray, count: int = 3) -> Path:
    layout = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "lzw"} | PLACE
    size = {"height": pixels.shape[0], "width": pixels.shape[1], "count": count, "dtype": "uint8"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **size, **layout) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def test_a_georeferenced_scene_keeps_its_coordinates(run: sightline.Run, pixels: np.ndarray, tmp_path: Path) -> None:
    as_map(tmp_path / "in" / "town.tif", pixels)
    Image.fromarray(pixels).save(tmp_path / "in" / "flat.png")
    out = sightline.predict(run.path, tmp_path / "in", out=tmp_path / "out", overlay=True, tile=64, quiet=True)
    assert sorted(path.name for path in out.iterdir()) == [
        *("flat_mask.png", "flat_overlay.png", "town_mask.tif", "town_overlay.tif")
    ]
    for kind in ("mask", "overlay"):
        with rasterio.open(out / f"town_{kind}.tif") as found, Image.open(out / f"flat_{kind}.png") as expected:
            np.testing.assert_array_equal(found.read().transpose(1, 2, 0), np.asarray(expected.convert("RGB")))
            assert found.crs == PLACE["crs"] and found.transform == PLACE["transform"]
    with pytest.raises(SightlineError, match="exists"):
        sightline.predict(run.path, tmp_path / "in", out=out, quiet=True)


@pytest.mark.parametrize("kind", ["nodata", "alpha"])
def test_pixels_without_data_are_ignored_in_the_mask(
    run: sightline.Run, pixels: np.ndarray, tmp_path: Path, kind: str
) -> None:
    """Such pixels are black with the palette landcover; all other pixels are unchanged."""
    gap = np.zeros(pixels.shape[:2], bool)
    gap[30:70, 100:] = True
    pictured = np.where(gap[..., None], 255, np.maximum(pixels, 1)).astype(np.uint8)
    as_map(tmp_path / "whole" / "town.tif", pictured)
    if kind == "alpha":
        as_map(tmp_path / "gap" / "town.tif", np.dstack([pictured, np.where(gap, 0, 255).astype(np.uint8)]), count=4)
    else:
        with rasterio.open(as_map(tmp_path / "gap" / "town.tif", pictured), "r+") as file:
            file.nodata = 255
    masks = {}
    for name in ("whole", "gap"):
        out = sightline.predict(run.path, tmp_path / name, out=tmp_path / f"{name}-out", tile=64, quiet=True)
        with rasterio.open(out / "town_mask.tif") as file:
            masks[name] = file.read().transpose(1, 2, 0)
    expected = np.where(gap[..., None], 0, masks["whole"])
    np.testing.assert_array_equal(masks["gap"], expected)
    assert masks["whole"][gap].any()


def test_a_scene_above_max_pixels_is_read_in_windows(
    run: sightline.Run, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    recipe = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(recipe.replace("max_pixels: 89478485", "max_pixels: 2000"))
    as_map(tmp_path / "in" / "town.tif", pixels)
    Image.fromarray(pixels).save(tmp_path / "in" / "large.png")
    out = sightline.predict(copy, tmp_path / "in", out=tmp_path / "out", tile=64)
    assert sorted(path.name for path in out.iterdir()) == ["errors.csv", "town_mask.tif"]
    assert "large.png" in (out / "errors.csv").read_text() and "sightline-vision[geo]" not in capsys.readouterr().out
    monkeypatch.setattr(predict_masks, "has_windows", lambda path, most, rgb: False)
    monkeypatch.setattr(predict_masks, "has_rasterio", lambda: False)
    with pytest.raises(SightlineError, match="no image could be read"):
        sightline.predict(copy, tmp_path / "in", out=tmp_path / "plain", tile=64)
    assert "pip install 'sightline-vision[geo]'" in capsys.readouterr().out


def test_a_damaged_scene_is_a_row_and_leaves_no_partial_mask(
    run: sightline.Run, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = as_map(tmp_path / "in" / "torn.tif", pixels)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4] + bytes(len(content) // 4))
    as_map(tmp_path / "in" / "whole.tif", pixels)
    out = sightline.predict(run.path, tmp_path / "in", out=tmp_path / "out", tile=32, quiet=True)
    assert sorted(path.name for path in out.iterdir()) == ["errors.csv", "whole_mask.tif"]
    assert "torn.tif" in (out / "errors.csv").read_text()


def test_the_true_masks_beside_the_images_are_never_overwritten(
    run: sightline.Run, make_scenes: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_scenes(tmp_path / "data", train=2, val=1) / "train"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SightlineError, match="would overwrite an input") as caught:
        sightline.predict(run.path, folder, out=folder, overwrite=True, quiet=True)
    assert "2 input files" in caught.value.why and "overwrite" not in caught.value.cure
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_earlier_outputs_are_not_inputs(run: sightline.Run, pixels: np.ndarray, tmp_path: Path, capsys) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "flat.png")
    Image.fromarray(pixels).save(tmp_path / "in" / "lone_mask.png")
    sightline.predict(run.path, tmp_path / "in", out=tmp_path / "in" / "out", overlay=True)
    assert "2 masks written" in capsys.readouterr().out
    sightline.predict(run.path, tmp_path / "in", out=tmp_path / "again")
    said = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["flat_mask.png", "lone_mask_mask.png"]
    assert "skipped 4 files" in said


@pytest.mark.parametrize(("image", "mask"), [("images/{}.jpg", "masks/{}.png"), ("val/{}.png", "valannot/{}.png")])
def test_masks_in_their_own_folder_are_not_inputs(
    run: sightline.Run, pixels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], image: str, mask: str
) -> None:
    """They were predicted as if they were images. A folder of images named `labels` has no other images."""
    for template in (image, mask):
        for number in range(2):
            path = tmp_path / "land" / template.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    sightline.predict(run.path, tmp_path / "land", out=tmp_path / "out")
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert written == [f"{image.partition('/')[0]}/{number}_mask.png" for number in range(2)]
    assert "skipped 2 files" in capsys.readouterr().out
    (tmp_path / "land" / image.partition("/")[0]).rename(tmp_path / "labels")
    sightline.predict(run.path, tmp_path / "labels", out=tmp_path / "out2", quiet=True)
    assert len([*(tmp_path / "out2").glob("*_mask.png")]) == 2


def test_nothing_readable_is_an_error(run: sightline.Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    with pytest.raises(SightlineError, match="no image could be read") as caught:
        sightline.predict(run.path, tmp_path / "in", out=tmp_path / "out", quiet=True)
    assert "text.jpg" in caught.value.why and (tmp_path / "out" / "errors.csv").is_file()


def test_lost_coordinates_are_reported(run: sightline.Run, pixels: np.ndarray, tmp_path: Path, capsys) -> None:
    path = as_map(tmp_path / "in" / "palette.tif", pixels[:, :, :1], count=1)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {value: (value, 0, 0) for value in range(256)})
    sightline.predict(run.path, tmp_path / "in", out=tmp_path / "out")
    assert (
        "1 mask without coordinates, because the image is not 8-bit gray, RGB or RGBA; the first: palette.tif"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_with_an_orientation_is_not_read_in_windows(pixels: np.ndarray, tmp_path: Path, big: bool) -> None:
    """GDAL ignores the orientation; images.py applies it."""
    for turn in (1, 6):
        path = tmp_path / f"{turn}.tif"
        Image.fromarray(pixels).save(path, tiffinfo={0x0112: turn, 278: 16}, big_tiff=big)  # strips of 16 rows
        assert orientation(path) == turn
        assert has_windows(path, 5000) == (turn == 1)


def test_invalid_tiles_are_errors_and_overlays_are_not_overwritten(
    run: sightline.Run, pixels: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "flat.png")
    with pytest.raises(SightlineError, match="too small"):
        sightline.predict(run.path, tmp_path / "in", out=tmp_path / "out", tile=0, quiet=True)
    for options in ({"out": tmp_path / "out"}, {"out": tmp_path / "p.json", "format": "coco"}):
        with pytest.raises(SightlineError, match="computed in float32") as caught:
            sightline.predict(run.path, tmp_path / "in", precision="bf16", quiet=True, **options)
        assert caught.value.where == "--precision bf16"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "flat_overlay.png").write_text("mine")
    with pytest.raises(SightlineError, match="exists"):
        sightline.predict(run.path, tmp_path / "in", out=tmp_path / "out", overlay=True, quiet=True)
    assert (tmp_path / "out" / "flat_overlay.png").read_text() == "mine"


def test_folders_lists_and_patterns_are_inputs_for_masks(
    run: sightline.Run, make_scenes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_scenes(tmp_path / "a", train=2, val=1)
    make_scenes(tmp_path / "b", train=1, val=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("a/train/0001_sat.jpg\nb/validation/0900_sat.jpg\nnowhere.jpg\n")
    out = sightline.predict(run.path, ["list.txt", "a/val*/*_sat.jpg"], out="out", quiet=True)
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / out).rglob("*") if path.is_file())
    assert found == ["a/train/0001_mask.png", "a/validation/0900_mask.png", "b/validation/0900_mask.png", "errors.csv"]
    one = sightline.predict(run.path, "b/validation/0900_sat.jpg", out="one", quiet=True)
    assert (one / "0900_mask.png").read_bytes() == (Path("out") / "b/validation/0900_mask.png").read_bytes()
    with pytest.raises(SightlineError, match="same output file"):
        sightline.predict(run.path, ["list.txt", "a/train/0001_sat.jpg"], out="twice", quiet=True)
    away = sightline.predict(run.path, ["../" + tmp_path.name + "/list.txt"], out="away", quiet=True)
    assert (away / "a/train/0001_mask.png").is_file()


def test_paths_from_the_root_or_above_stay_below_the_output(tmp_path: Path) -> None:
    images = [InputImage("/data/a.png", "/data/a.png"), InputImage("../../b.png", "../../b.png")]
    jobs = predict_masks.mask_jobs(images, tmp_path / "out", 10**6)
    assert [job.target for job in jobs] == [tmp_path / "out/data/a_mask.png", tmp_path / "out/up/up/b_mask.png"]


def test_an_interrupted_folder_of_masks_is_resumed(
    run: sightline.Run, make_scenes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    scenes = make_scenes(tmp_path / "in", train=5, val=1) / "train"
    whole = sightline.predict(run.path, scenes, out=tmp_path / "whole", quiet=True)
    predict_one, done = predict_masks.predict_one, []

    def three_times(parts: object, job: predict_masks.MaskJob, *rest: object) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(job.name)
        predict_one(parts, job, *rest)  # ty: ignore[invalid-argument-type]

    monkeypatch.setattr(predict_masks, "predict_one", three_times)
    with pytest.raises(SightlineError, match="interrupted") as caught:
        sightline.predict(run.path, scenes, out=tmp_path / "out", quiet=True)
    assert caught.value.status == INTERRUPTED and "interrupted after 3 of 5 masks" in str(caught.value)
    with pytest.raises(SightlineError, match="unfinished") as caught:
        sightline.predict(run.path, scenes, out=tmp_path / "out", tile=64, quiet=True)
    assert "different values of: tile" in str(caught.value)
    other = make_scenes(tmp_path / "other", train=5, val=1) / "train"  # with the same names
    with pytest.raises(SightlineError, match="unfinished") as caught:
        sightline.predict(run.path, other, out=tmp_path / "out", quiet=True)
    assert "different values of: images" in str(caught.value)
    done.clear()
    monkeypatch.setattr(predict_masks, "predict_one", lambda *all: done.append(all[1].name) or predict_one(*all))
    out = sightline.predict(run.path, scenes, out=tmp_path / "out")
    assert len(done) == 2 and "resuming after 3 masks" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in whole.iterdir())
    with pytest.raises(SightlineError, match="exists"):
        sightline.predict(run.path, scenes, out=tmp_path / "out", quiet=True)


def test_an_interrupted_overwriting_is_resumed_without_the_masks_of_the_earlier_run(
    run: sightline.Run, make_scenes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    scenes, out = make_scenes(tmp_path / "in", train=4, val=1) / "train", tmp_path / "out"
    sightline.predict(run.path, scenes, out=out, quiet=True)
    for path in out.iterdir():
        path.write_bytes(b"mask of another run")
    predict_one, done = predict_masks.predict_one, []

    def once(parts: object, job: predict_masks.MaskJob, *rest: object) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(job.name)
        predict_one(parts, job, *rest)  # ty: ignore[invalid-argument-type]

    with monkeypatch.context() as patch:
        patch.setattr(predict_masks, "predict_one", once)
        with pytest.raises(SightlineError, match="interrupted") as caught:
            sightline.predict(run.path, scenes, out=out, overwrite=True, quiet=True)
    assert caught.value.cure == "repeat the command without --overwrite to predict the rest"
    capsys.readouterr()
    sightline.predict(run.path, scenes, out=out)
    assert "resuming after 1 mask\n" in capsys.readouterr().out
    masks = [path.read_bytes() for path in out.iterdir()]
    assert len(masks) == 4 and b"mask of another run" not in masks


def test_masks_are_written_by_one_process_and_resumed_from_the_same_folder_of_images(
    run: sightline.Run, make_scenes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        make_scenes(tmp_path / name, train=2, val=1)
    monkeypatch.chdir(tmp_path / "one")
    with lock_output(tmp_path / "out/predict.part.json"), pytest.raises(SightlineError, match="another command"):
        sightline.predict(run.path, "train", out=tmp_path / "out", quiet=True)
    assert not [*(tmp_path / "out").iterdir()]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(predict_masks, "predict_one", stop)
    with pytest.raises(SightlineError, match="interrupted"):
        sightline.predict(run.path, "train", out=tmp_path / "out", quiet=True)
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(SightlineError, match="unfinished") as caught:
        sightline.predict(run.path, "train", out=tmp_path / "out", quiet=True)
    assert caught.value.why.endswith("images")


def test_processes_of_torchrun_share_the_masks(
    run: sightline.Run, make_scenes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = make_scenes(tmp_path / "in", train=5, val=1) / "train"
    (scenes / "torn_sat.jpg").write_bytes(b"no picture")
    counts = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        out = sightline.predict(run.path, scenes, out=tmp_path / "out", quiet=True)
        counts.append(len(list(out.glob("*_mask.png"))))
    assert counts == [3, 5]
    assert [path.name for path in out.glob("*.csv")] == ["errors.rank-1-of-2.csv"] and not list(out.glob("*.part*"))


def test_masks_are_not_written_among_other_images(run: sightline.Run, pixels: np.ndarray, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels[:, :, :3]).save(tmp_path / folder / "a.png")
    with pytest.raises(SightlineError, match="the output folder has other images") as caught:
        sightline.predict(run.path, tmp_path / "images", out=tmp_path / "masks", quiet=True)
    assert "a.png is no mask" in str(caught.value.why) and "--overwrite" in str(caught.value.cure)
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.png"]
