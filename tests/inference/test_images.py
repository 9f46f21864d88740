"""Images in memory become the same pixels as their files; other objects are errors with a cure."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline import SightlineError
from sightline.data.channels import RGB
from sightline.data.decode.images import open_image
from sightline.inference.images import GivenImage, images_in, is_several, item_image
from sightline.inference.inputs import InputImage

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)


def pixels_of(image: Any) -> np.ndarray:
    return np.asarray(item_image(image, "images[7]").read(10**6, 0))


@pytest.mark.parametrize(
    "image",
    [
        *(PIXELS, PIXELS / 255, (PIXELS / 255).astype(np.float16), PIXELS[:, :, ::-1][:, :, ::-1]),
        np.dstack([PIXELS, np.full((6, 9), 255, np.uint8)]),
        *(TENSOR, TENSOR / 255, (TENSOR / 255).double().requires_grad_(), TENSOR.contiguous()),
        *(Image.fromarray(PIXELS), Image.fromarray(PIXELS).convert("RGBA")),
    ],
)
def test_every_kind_of_image_has_the_same_pixels(image: Any) -> None:
    np.testing.assert_array_equal(pixels_of(image), PIXELS)


def test_floats_are_rounded() -> None:
    assert (pixels_of(np.full((2, 2), 0.999)) == 255).all()


def test_gray_images_become_rgb() -> None:
    gray = PIXELS[:, :, 0]
    for image in (gray, gray[:, :, None], torch.from_numpy(gray), torch.from_numpy(gray)[None], Image.fromarray(gray)):
        np.testing.assert_array_equal(pixels_of(image), np.dstack([gray] * 3))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pil_images_are_rotated_as_files_are(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(PIXELS).save(path, kind, exif=exif)
    expected = np.asarray(open_image(str(path), 10**6))
    assert expected.shape[:2] == ((9, 6) if orientation > 4 else (6, 9))
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels_of(image), expected)
        if kind != "TIFF":  # Pillow rotates TIFF files itself
            assert image.size == (9, 6), "the image of the caller must not be rotated"
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels_of(image.convert("RGB")), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_pil_images_of_every_mode_are_converted_as_files_are(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(PIXELS).convert("RGBA" if "A" in mode else "RGB").convert(mode).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
        np.testing.assert_array_equal(pixels_of(image), np.asarray(open_image(str(path), 10**6)))


def test_deep_pil_images_are_scaled_as_the_files_of_the_training_or_refused() -> None:
    deep = Image.fromarray(np.arange(54, dtype=np.uint16).reshape(6, 9) * 75)  # 12 bits
    channels = replace(RGB, deep=4095.0)
    found = np.asarray(GivenImage("a", deep).read(10**6, 0, channels))
    np.testing.assert_array_equal(found[:, :, 0], np.rint(np.asarray(deep) * (255 / 4095)))
    with pytest.raises(SightlineError, match="not the values of an image") as caught:
        pixels_of(deep)
    assert "uint16 from 0 to 3,975" in caught.value.why
    low = Image.fromarray(PIXELS[:, :, 0]).convert("I")
    np.testing.assert_array_equal(pixels_of(low)[:, :, 0], PIXELS[:, :, 0])


def wide(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.float32), "F")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (PIXELS.transpose(2, 0, 1), ("[3, 6, 9]", "np.moveaxis")),
        (TENSOR.permute(1, 2, 0), ("[6, 9, 3]", "permute")),
        (PIXELS[None], ("[1, 6, 9, 3]",)),
        (PIXELS[:0], ("[0, 9, 3]",)),
        (np.zeros((6, 9, 2), np.uint8), ("[6, 9, 2]",)),
        (PIXELS.astype(np.int64), ("int64 from 0 to 249", "image / 255")),
        (PIXELS > 5, ("bool",)),
        (PIXELS / 1.0, ("float64 from 0 to 249",)),
        (TENSOR / 100 - 1, ("torch.float32 from -1 to 1.49", "before normalization")),
        (np.full((6, 9), np.nan), ("nan",)),
        (wide(PIXELS[:, :, 0] / 100), ("floats from 0",)),
        (b"\x89PNG", ("bytes", "io.BytesIO")),
        (3, ("int",)),
        (None, ("NoneType",)),
    ],
)
def test_other_objects_are_errors_with_the_position(image: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(SightlineError) as caught:
        pixels_of(image)
    error = caught.value
    assert error.where == "images[7]" and error.cure and all(word in str(error) for word in words), str(error)


def test_a_closed_or_truncated_pil_image_is_an_error(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as closed:
        pass
    truncated = Image.open(io.BytesIO((tmp_path / "a.png").read_bytes()[:150]))
    for image in (closed, truncated):
        with pytest.raises(SightlineError, match="cannot be read") as caught:
            pixels_of(image)
        assert caught.value.where == "images[7]"


def test_one_image_or_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b[1].png"):
        Image.fromarray(PIXELS).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("a.png\nb[1].png\n")
    monkeypatch.chdir(tmp_path)
    one = ["a.png", Path("a.png"), "b[1].png", PIXELS, PIXELS[:, :, 0], TENSOR, Image.fromarray(PIXELS)]
    for image in one:
        assert not is_several(image) and len(list(images_in(image))) == 1
    several: list[Any] = [
        "*.png",
        ".",
        tmp_path,
        "list.txt",
        [PIXELS] * 2,
        ("a.png", "b[1].png"),
        np.stack([PIXELS] * 2),
    ]
    several += [torch.stack([TENSOR] * 2), np.array(["a.png", "b[1].png"]), np.array([Path("a.png")] * 2, object)]
    for images in several:
        assert is_several(images) and len(list(images_in(images))) == 2
    assert is_several(tmp_path.glob("*.png")) and len(list(images_in(tmp_path.glob("*.png")))) == 2


def test_names_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").touch()
    path = str(tmp_path / "a.png")
    assert [image.name for image in images_in(tmp_path)] == ["a.png"]
    assert "skipped: 1 .txt file" in capsys.readouterr().out
    assert list(images_in([path])) == [InputImage(path, path)]
    found = list(images_in([TENSOR, path, PIXELS]))
    assert [image.name for image in found] == ["images[0]", path, "images[2]"]
    assert [image.name for image in images_in(TENSOR)] == ["image"] and isinstance(found[2], GivenImage)


@pytest.mark.parametrize("images", [[], (), np.zeros((0, 6, 9, 3), np.uint8), torch.zeros(0, 3, 6, 9)])
def test_no_images_are_an_error(images: Any) -> None:
    with pytest.raises(SightlineError, match="no images"):
        list(images_in(images))
