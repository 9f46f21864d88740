"""`sightline masks`: input and output files, resuming, and errors."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

import sightline
from raster_toys import random_pixels, write_raster
from sam_toys import scene, write_sam
from sightline import SightlineError
from sightline.__main__ import run
from sightline.errors import INTERRUPTED
from sightline.runs.lock import lock_run
from sightline.segment_anything import generation, outputs
from sightline.segment_anything.automatic import Settings
from sightline.segment_anything.outputs import borders, outlined, plan_images

Masks = Callable[..., Path]


@pytest.fixture
def masks(tiny_sam: Path, folder: Path, tmp_path: Path) -> Masks:
    """masks(**options): generate masks of the three images, by default with settings that keep all masks."""

    def call(**more: object) -> Path:
        given = {"out": tmp_path / "out", "model": str(tiny_sam), "points_per_side": 4, "quality": 0, "stability": 0}
        options: dict = given | more
        return sightline.masks(options.pop("images", folder), **options)

    return call


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images whose masks were generated."""
    names: list[str] = []
    write = outputs.write_image

    def spy(image: outputs.PlannedImage, *rest: object) -> object:
        names.append(image.name)
        return write(image, *rest)  # ty: ignore[invalid-argument-type]

    monkeypatch.setattr(generation, "write_image", spy)
    return names


def tree(folder: Path) -> list[str]:
    """All files in a folder and its subfolders, without the lock."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def save(path: Path, seed: int = 0, height: int = 40, width: int = 60) -> Path:
    """Write an image file; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(seed, height, width).transpose(1, 2, 0)).save(path)
    return path


def test_output_files_of_images_and_the_page(
    masks: Masks, folder: Path, no_network: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    out = masks()
    endings = ("_overlay.png", "_segments.json", "_segments.png")
    expected = [base + ending for base in ("a", "b", "deep/c") for ending in endings]
    assert tree(out) == sorted([*expected, "segments.html", "segments.json"])
    record = json.loads((out / "segments.json").read_text())
    assert record["complete"] and [p["file_name"] for p in record["images"]] == ["a.png", "b_sat.png", "deep/c.png"]
    assert record["settings"] == {
        **{"points_per_side": 4, "points_per_batch": 64, "quality": 0, "stability": 0, "nms": 0.7}
    }
    assert re.fullmatch("[0-9a-f]{64}", record["checkpoint"]["sha256"])
    assert record["versions"]["transformers"] and record["seconds_per_image"] > 0 and record["errors"] == []
    output = capsys.readouterr().out
    total = sum(p["masks"] for p in record["images"])
    assert f"{total} masks in 3 images" in output and "1 .txt file" in output and no_network == []


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_ids_run_lengths_and_overlay_agree(masks: Masks, folder: Path) -> None:
    out = masks()
    for name, base in (("a.png", "a"), ("deep/c.png", "deep/c")):
        facts = json.loads((out / f"{base}_segments.json").read_text())
        with Image.open(out / f"{base}_segments.png") as png:
            assert png.mode == "I;16"
            ids = np.asarray(png)
        assert facts["image"]["file_name"] == name and (facts["image"]["height"], facts["image"]["width"]) == (40, 60)
        found = facts["annotations"]
        assert len(found) > 2 and [a["id"] for a in found] == list(range(1, len(found) + 1))
        expected = np.zeros((40, 60), int)
        for one in found:
            mask = coco.decode(one["segmentation"])
            assert one["area"] == mask.sum() and one["bbox"] == coco.toBbox(one["segmentation"]).tolist()
            assert set(one) == {
                *("id", "area", "bbox", "predicted_iou", "stability_score", "point", "segmentation"),
            }
            expected[mask > 0] = one["id"]
        np.testing.assert_array_equal(ids, expected)
        assert [a["area"] for a in found] == sorted((a["area"] for a in found), reverse=True)
        assert facts["image"]["covered"] == pytest.approx((ids > 0).mean(), abs=1e-6)
        overlay = np.asarray(Image.open(out / f"{base}_overlay.png"))
        image = np.asarray(Image.open(folder / name))
        edge = borders(ids.astype(np.uint16))
        assert (overlay[edge] == 255).all() and not (image[edge] == 255).all()
        plain = (ids == 0) & ~edge
        np.testing.assert_array_equal(overlay[plain], image[plain])
        inside = (ids > 0) & ~edge
        assert np.abs(overlay[inside].astype(int) - image[inside]).mean() > 10


def test_the_same_command_writes_the_same_bytes(masks: Masks, tmp_path: Path) -> None:
    """points_per_batch may change the last digits of a score, and nothing else."""
    first, second, third = (
        masks(out=tmp_path / "1"),
        masks(out=tmp_path / "2"),
        masks(out=tmp_path / "3", points_per_batch=5),
    )
    for name in tree(first):
        if name.endswith("_segments.json"):
            one, two, other = (json.loads((out / name).read_text())["annotations"] for out in (first, second, third))
            assert one == two and [a["segmentation"] for a in one] == [a["segmentation"] for a in other]
        elif name.endswith(".png"):
            assert (first / name).read_bytes() == (second / name).read_bytes() == (third / name).read_bytes()


@pytest.mark.parametrize(("function", "file"), [("write_json", "b_segments.json"), ("atomic_write", "b_overlay.png")])
def test_an_interrupted_call_is_resumed(
    masks: Masks,
    generated: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    function: str,
    file: str,
) -> None:
    """Ctrl-C during the second image, before its JSON or its overlay is written."""
    write = getattr(outputs, function)

    def interrupted(path: Path, value: object) -> None:
        if path.name == file:
            raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(outputs, function, interrupted)
    with pytest.raises(SightlineError, match="interrupted") as caught:
        masks()
    assert caught.value.status == INTERRUPTED and "repeat the command" in caught.value.cure
    assert not json.loads((tmp_path / "out" / "segments.json").read_text())["complete"]
    monkeypatch.setattr(outputs, function, write)
    out = masks()
    assert generated == ["a.png", "b_sat.png", "b_sat.png", "deep/c.png"]
    assert "reusing the masks of 1 of 3 images" in capsys.readouterr().out
    assert len(json.loads((out / "segments.json").read_text())["images"]) == 3
    complete = masks(out=tmp_path / "complete")
    for ending in outputs.ENDINGS[1:]:
        assert (out / f"b{ending}").read_bytes() == (complete / f"b{ending}").read_bytes()


def test_finished_images_are_not_processed_again_and_need_no_model(
    masks: Masks, generated: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = masks(points_per_batch=3)
    save(folder / "new.png", 9)
    masks()
    assert generated == ["a.png", "b_sat.png", "deep/c.png", "new.png"]
    monkeypatch.setattr(generation, "load", None)
    monkeypatch.setattr(generation, "read_for", None)
    masks(images=[folder / "a.png", folder / "new.png"], out=out)
    assert len(generated) == 4


def test_masks_of_other_settings_weights_or_images_are_not_mixed(
    masks: Masks, generated: list[str], folder: Path, tmp_path: Path
) -> None:
    out = masks()
    before = {name: (out / name).read_bytes() for name in tree(out)}
    for more, changed in (
        ({"points_per_side": 5}, "a.png: changed points_per_side"),
        ({"quality": 0.5}, "a.png: changed quality"),
        ({"model": str(write_sam(tmp_path / "other", seed=7))}, "a.png: changed weights"),
    ):
        with pytest.raises(SightlineError, match="generated with other settings") as caught:
            masks(**more)
        assert changed in caught.value.why and "--overwrite" in caught.value.cure
    save(folder / "a.png", 3)
    with pytest.raises(SightlineError, match="generated with other settings") as caught:
        masks()
    assert "1 of 3 images" in caught.value.why and "a.png: changed image" in caught.value.why
    assert {name: (out / name).read_bytes() for name in tree(out)} == before and len(generated) == 3
    masks(points_per_side=5, overwrite=True)
    assert len(generated) == 6 and json.loads((out / "segments.json").read_text())["settings"]["points_per_side"] == 5


def test_interrupted_overwriting_is_resumed_without_overwrite(
    masks: Masks, generated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks()
    write = outputs.write_json

    def interrupted(path: Path, value: object) -> None:
        if path.name == "c_segments.json":
            raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(outputs, "write_json", interrupted)
    with pytest.raises(SightlineError, match="interrupted"):
        masks(points_per_side=5, overwrite=True)
    monkeypatch.setattr(outputs, "write_json", write)
    masks(points_per_side=5)
    assert generated[6:] == ["deep/c.png"]


@pytest.mark.parametrize("ending", ["_segments.json", "_segments.png", "_overlay.png"])
def test_other_files_are_not_overwritten(masks: Masks, tmp_path: Path, ending: str) -> None:
    path = tmp_path / "out" / f"a{ending}"
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(SightlineError, match="the output exists"):
        masks()
    assert path.read_text() == "mine"
    masks(overwrite=True)
    assert path.read_bytes() != b"mine"


def test_a_record_of_another_program_is_not_overwritten(masks: Masks, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "segments.json").write_text('{"mine": 1}')
    with pytest.raises(SightlineError, match="the output exists"):
        masks()
    assert (tmp_path / "out" / "segments.json").read_text() == '{"mine": 1}'


def test_results_beside_the_images_are_not_inputs_of_the_next_call(
    masks: Masks, generated: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "a.png").read_bytes()
    masks(out=folder)
    masks(out=folder)
    assert generated == ["a.png", "b_sat.png", "deep/c.png"] and (folder / "a.png").read_bytes() == before
    assert "skipped 6 files" in capsys.readouterr().out
    save(folder / "x.png")
    save(folder / "x_segments.png", 8)
    with pytest.raises(SightlineError, match="would overwrite an input"):
        masks(out=folder, overwrite=True)
    results = ["a_segments.png", "a_overlay.png", "a_mask.png", "deep/b_segments.png"]
    for name in ("lone_segments.png", *results):
        save(folder / "more" / name)
    save(folder / "more" / "deep" / "a.png")
    planned = plan_images(folder / "more", folder, print)[0]
    assert [image.name for image in planned] == ["lone_segments.png", "deep/a.png", "deep/b_segments.png"]


def test_images_that_would_share_a_name_are_an_error(masks: Masks, folder: Path) -> None:
    save(folder / "b.png")
    with pytest.raises(SightlineError, match="several images have the same output file"):
        masks()


def test_results_of_images_of_several_folders_stay_within_the_output_folder(
    masks: Masks, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of images may have any paths."""
    save(tmp_path / "else" / "d.png", 4)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "names.txt").write_text(f"../in/a.png\n{tmp_path / 'else' / 'd.png'}\n")
    out = masks(images="names.txt")
    assert [name for name in tree(out) if name.endswith("_segments.png")] == [
        *("else/d_segments.png", "in/a_segments.png"),
    ]
    assert tree(tmp_path / "else") == ["d.png"]
    single = masks(images=[str(folder / "a.png")], out=tmp_path / "single")
    assert "a_segments.png" in tree(single)


def test_unreadable_images_are_rows_and_the_command_continues(
    masks: Masks, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.png").write_bytes(b"")
    (folder / "broken.jpg").write_text("<html>")
    out = masks()
    rows = (out / "errors.csv").read_text().splitlines()
    assert rows[0] == "filename,error" and [row.split(",")[0] for row in rows[1:]] == ["a.png", "broken.jpg"]
    assert "0 bytes" in rows[1] and "2 images could not be read" in capsys.readouterr().out
    record, page = json.loads((out / "segments.json").read_text()), (out / "segments.html").read_text()
    assert [error["filename"] for error in record["errors"]] == ["a.png", "broken.jpg"] and "0 bytes" in page
    save(folder / "a.png")
    (folder / "broken.jpg").unlink()
    masks()
    assert not (out / "errors.csv").exists()


def test_images_of_more_bits_or_other_channels_are_errors(masks: Masks, folder: Path, tmp_path: Path) -> None:
    """Not dark: 12 bits were read as a 16th of the brightness."""
    write_raster(folder / "deep.tif", random_pixels(0, (3, 40, 60)))
    write_raster(folder / "bands.tif", random_pixels(1, (4, 40, 60), "uint8", 255), ("a", "b", "c", "d"))
    colors = write_raster(
        folder / "nir.tif", random_pixels(2, (4, 40, 60), "uint8", 255), ("red", "green", "blue", "nir")
    )
    out = masks()
    bands, deep, *more = (out / "errors.csv").read_text().splitlines()[1:]
    assert not more and colors.stem in {path.name.split("_")[0] for path in out.iterdir()}
    assert deep.startswith("deep.tif") and "of 16 bits, and the model was trained on 8-bit color or gray" in deep
    assert bands.startswith("bands.tif") and "it holds 4 channels (a, b, c, d) of 8 bits" in bands


def test_without_any_mask_the_message_has_a_cure(masks: Masks, capsys: pytest.CaptureFixture[str]) -> None:
    out = masks(quality=1, stability=1)
    assert "0 masks in 3 images" in (output := capsys.readouterr().out) and "lower --quality" in output
    assert json.loads((out / "a_segments.json").read_text())["annotations"] == []
    with Image.open(out / "a_segments.png") as ids:
        assert not np.asarray(ids).any()


def test_no_readable_image_is_an_error(masks: Masks, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_text("text")
    with pytest.raises(SightlineError, match="no image could be read") as caught:
        masks(images=tmp_path / "bad")
    assert "x.jpg" in caught.value.why and (tmp_path / "out" / "errors.csv").exists()


def test_an_image_of_more_pixels_than_allowed_is_a_row(masks: Masks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "MAX_PIXELS", 2000)
    with pytest.raises(SightlineError) as caught:
        masks()
    assert "60 x 40 pixels; the limit --data.max_pixels is 2,000" in caught.value.why


def test_two_calls_do_not_write_into_one_folder(masks: Masks, tmp_path: Path) -> None:
    with lock_run(tmp_path / "out"), pytest.raises(SightlineError, match="writing into this folder"):
        masks()


def test_too_little_memory_is_explained(masks: Masks, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 GB")

    monkeypatch.setattr(generation, "find_segments", full)
    with pytest.raises(SightlineError, match="out of memory") as caught:
        masks()
    assert caught.value.status == 3 and "--points-per-batch 16" in caught.value.cure


def test_names_on_the_page_are_escaped(masks: Masks, tmp_path: Path) -> None:
    save(tmp_path / "odd" / "<b>.png")
    save(tmp_path / "odd" / os.fsdecode(b"\xff.png"))
    out = masks(images=tmp_path / "odd", out=tmp_path / "<i>out")
    page = (out / "segments.html").read_text()
    assert "&lt;b&gt;.png" in page and "<b>.png" not in page and "<i>" not in page and "\\udcff.png" in page
    sources = re.findall(r"<(?:img|link|iframe|object)[^>]* (?:src|href)=.(.{5})", page)
    assert len(sources) >= 6 and {*sources} == {"data:"} and "default-src &#x27;none&#x27;" in page


def test_the_page_shows_the_first_images_and_counts_the_rest(masks: Masks, monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.segment_anything import page

    whole = (masks() / "segments.html").read_text()
    assert whole.count("<figure") == 9 and "more image" not in whole
    monkeypatch.setattr(page, "SHOWN", 1)
    less = (masks() / "segments.html").read_text()
    assert less.count("<figure") == 3 and "2 more images" in less


def test_a_missing_overlay_is_written_again(masks: Masks, generated: list[str]) -> None:
    out = masks()
    (out / "a_overlay.png").unlink()
    assert (masks() / "a_overlay.png").is_file() and generated[3:] == ["a.png"]


INVALID_ARGUMENTS = {
    "no images": (["--out", "o"], "no images are given to segment"),
    "not there": (["nowhere", "--out", "o"], "this path does not exist"),
    "a file": (["in", "--out", "masks.png"], "--out must be a folder"),
    "truth alone": (["in", "--out", "o", "--truth", "in"], "classes: --run RUN"),
    "points": (["in", "--out", "o", "--points-per-side", "0"], "1 to 128"),
    "quality": (["in", "--out", "o", "--quality", "88"], "--quality"),
    "no run": (["in", "--out", "o", "--run", "in"], "not a run"),
    "no such model": (["in", "--out", "o", "--model", "sam"], "vit_b"),
    "a pickle": (["in", "--out", "o", "--model", "sam.pth"], "pickle"),
}


@pytest.mark.parametrize("case", INVALID_ARGUMENTS)
def test_invalid_arguments_are_one_message(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    tokens, message = INVALID_ARGUMENTS[case]
    assert run(["masks", *tokens]) == 2
    error = capsys.readouterr().err
    assert message in error and "cure:" in error and "Traceback" not in error and not Path("o").exists()


def test_the_command_takes_all_its_options(
    folder: Path, tiny_sam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--points-per-side", "3", "--points-per-batch", "5", "--quality", "0", "--stability", "0"]
    command = ["masks", str(folder), "--out", str(tmp_path / "o"), "--model", str(tiny_sam), *options]
    assert run([*command, "--quiet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'o'}\n"
    settings = json.loads((tmp_path / "o" / "segments.json").read_text())["settings"]
    assert settings == {"points_per_side": 3, "points_per_batch": 5, "quality": 0.0, "stability": 0.0, "nms": 0.7}


def test_borders_of_masks_and_their_width() -> None:
    ids = np.zeros((5, 6), np.uint16)
    ids[2:, 3:] = 1
    thin = borders(ids)
    assert thin[2, 3:].all() and thin[2:, 3].all() and thin.sum() == 5
    assert borders(ids, 2).sum() > thin.sum()
    image = np.full((3, 5, 6), 100, np.uint8)
    assert (outlined(image, ids)[:2] == 100).all() and (image == 100).all()


def test_the_default_arguments_are_those_of_settings() -> None:
    import inspect

    given = {name: one.default for name, one in inspect.signature(sightline.masks).parameters.items()}
    assert Settings(*(given[name] for name in ("points_per_side", "points_per_batch", "quality", "stability"))) == (
        Settings()
    )
