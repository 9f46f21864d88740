"""Copies of validation and test images among training images are found by their pixels, whatever their names."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from raster_toys import random_pixels, write_raster
from sightline.config.schema import Data
from sightline.data.copies import Copies, copies_of, same_files, sentences
from source_toys import opened

Folder = Callable[[str, Mapping[str, Image.Image]], Path]


def photograph(seed: int, side: int = 24) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """folder(NAME, {path: image}): write images; returns the folder."""

    def make(name: str, images: Mapping[str, Image.Image]) -> Path:
        for path, image in images.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / name / path)
        return tmp_path / name

    return make


def splits_of(train: range, val: range, **more: Image.Image) -> dict[str, Image.Image]:
    """Images of two classes for `folder`, and more in the class `a`; the names of these have _ for /."""
    images = {f"train/{'ab'[n % 2]}/{n}.png": photograph(n) for n in train}
    images |= {f"val/{'ab'[n % 2]}/{n}.png": photograph(n) for n in val}
    return images | {name.replace("_", "/") + ".png": image for name, image in more.items()}


def found(source: Path, target: Path, side: int = 32) -> Copies:
    return copies_of(opened(source), opened(target), side, Data())


def test_identical_images_are_found_under_other_names_and_in_other_formats(folder: Folder) -> None:
    target = folder("target", splits_of(range(6), range(6, 10), test_a_0=photograph(20)))
    source = folder(
        "source", splits_of(range(30, 40), range(40, 44), train_a_x=photograph(7), train_a_y=photograph(20))
    )
    photograph(8).save(source / "train/b/z.bmp")
    photograph(9).save(source / "val/b/not_for_training.png")
    copies = {"train/a/x.png": "val/b/7.png", "train/a/y.png": "test/a/0.png", "train/b/z.bmp": "val/a/8.png"}
    assert found(source, target) == Copies(copies, {})
    assert found(target, target) == Copies({}, {}), "train images of the target are no copies of its val images"


def test_near_copies_are_found_once_with_the_most_similar_image(folder: Folder) -> None:
    darker = ImageEnhance.Brightness(photograph(7)).enhance(0.9)
    smooth = photograph(7).filter(ImageFilter.GaussianBlur(0.8))
    target = folder("target", splits_of(range(6), range(6, 10), val_a_smooth=smooth, val_b_smooth=smooth))
    source = folder("source", splits_of(range(30, 40), range(40, 44), train_a_x=darker, train_a_y=photograph(6)))
    copies = found(source, target)
    assert copies.identical == {"train/a/y.png": "val/a/6.png"}
    assert copies.near == {"train/a/x.png": "val/b/7.png"}


def test_images_of_another_stored_size_are_compared(folder: Folder) -> None:
    """The images of the target have different sizes and are enlarged to 32 pixels, those of the source are not."""
    target = folder("target", splits_of(range(6), range(6, 10), val_a_large=photograph(50, 30)))
    source = folder("source", splits_of(range(30, 40), range(40, 44), train_a_x=photograph(7)))
    assert found(source, target).identical == {"train/a/x.png": "val/b/7.png"}


def test_small_images_are_only_compared_exactly(folder: Folder) -> None:
    images = {f"{split}/{label}/0.png": photograph(ord(label), 8) for split in ("train", "val") for label in "ab"}
    images["train/a/1.png"] = ImageEnhance.Brightness(images["val/a/0.png"]).enhance(0.9)
    copies = found(folder("target", images), folder("target", images), 8)
    assert copies == Copies({"train/a/0.png": "val/a/0.png", "train/b/0.png": "val/b/0.png"}, {})


def test_sentences_list_the_first_pairs_only() -> None:
    copies = Copies({f"{n}.png": f"val/{n}.png" for n in range(1200)}, {})
    identical, near = sentences(copies, " of A", "validation images", "the accuracy")
    assert identical.startswith("1,200 training images of A are identical to validation images, so the accuracy may be")
    assert "too high: 0.png = val/0.png, 1.png" in identical and identical.endswith(", ...") and len(identical) < 400
    assert near == ""
    _, near = sentences(Copies({}, {"a": "b"}), "", "validation images", "the accuracy")
    assert near.startswith("1 training image is a near copy of one of the validation images") and near.endswith("a ~ b")


def test_copies_of_rasters_are_compared_in_all_channels(tmp_path: Path) -> None:
    names = ("red", "green", "blue", "nir")
    for index in range(4):
        colors = np.asarray(photograph(index)).transpose(2, 0, 1).astype(np.uint16) * 16
        infrared = random_pixels(index, (1, 24, 24))
        other = infrared if index < 3 else infrared[:, ::-1]
        name = f"{'xy'[index % 2]}/{index}.tif"
        one, two = np.concatenate([colors, infrared]), np.concatenate([colors, other])
        write_raster(tmp_path / "a" / ("train" if index < 2 else "val") / name, one, names)
        write_raster(tmp_path / "b" / "train" / name, two, names)
        write_raster(tmp_path / "b" / "val" / name, two + np.uint16(9), names)
    copies = found(tmp_path / "b", tmp_path / "a")
    assert copies.identical == {"train/x/2.tif": "val/x/2.tif"} and copies.near == {"train/y/3.tif": "val/y/3.tif"}


def test_files_of_equal_bytes_are_found_under_any_name(tmp_path: Path) -> None:
    contents = {"a": b"one", "b": b"two", "c": b"x" * 9000 + b"end", "d": b"y" * 9000 + b"end", "e": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "copy").write_bytes(b"one")
    (tmp_path / "long").write_bytes(contents["c"])
    paths = [str(tmp_path / name) for name in contents]
    known = [str(tmp_path / name) for name in ("copy", "long", "missing")]
    assert same_files(paths, known) == [str(tmp_path / "a"), str(tmp_path / "c")]
    assert same_files([], known) == same_files(paths, []) == []
