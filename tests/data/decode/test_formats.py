"""AVIF (written by Pillow's libavif) and HEIC (written by pillow_heif's libheif and x265), and files of other kinds."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from sightline.config.schema import Data
from sightline.data.decode import formats
from sightline.data.decode.formats import FOREIGN, conversion_hint, foreign_content
from sightline.data.decode.images import image_in, open_image, size_in
from sightline.data.decode.masks import read_mask
from sightline.data.decode.palettes import palette_of
from sightline.errors import SightlineError
from sightline.inference.inputs import input_images
from source_toys import open_error, opened

LIMIT = 89_478_485
SMOOTH = np.stack(np.broadcast_arrays(np.arange(0, 240, 5)[:, None], np.arange(0, 128, 4), 90), 2).astype(np.uint8)


def heic(pixels: np.ndarray, orientation: int = 1) -> bytes:
    image, file = Image.fromarray(pixels), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    heif = pillow_heif.from_pillow(image)
    heif.save(file, quality=-1, chroma=444, exif=exif.tobytes())
    return file.getvalue()


def avif(pixels: np.ndarray, orientation: int = 1) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("write", [heic, avif])
@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_the_format_is_found_by_content(tmp_path: Path, write, ending: str) -> None:
    path = tmp_path / f"x.{write.__name__}{ending}"
    path.write_bytes(write(SMOOTH))
    found = open_image(str(path), LIMIT)
    assert found.mode == "RGB" and abs(np.asarray(found).astype(int) - SMOOTH).max() <= 3
    assert size_in(path.read_bytes()) == SMOOTH.shape[:2] and image_in(path.read_bytes(), LIMIT).size == found.size


@pytest.mark.parametrize("write", [heic, avif])
def test_the_orientation_is_applied_once(write) -> None:
    found = np.asarray(image_in(write(SMOOTH, 6), LIMIT)).astype(int)
    assert found.shape == (32, 48, 3) and abs(found - np.rot90(SMOOTH, -1)).max() <= 3
    assert size_in(write(SMOOTH, 6)) == (32, 48)


@pytest.mark.parametrize("write", [heic, avif])
def test_a_lossy_mask_is_refused(tmp_path: Path, write) -> None:
    (tmp_path / "mask.avif").write_bytes(write(np.zeros((16, 16, 3), np.uint8)))
    with pytest.raises(SightlineError) as caught:
        read_mask(str(tmp_path / "mask.avif"), palette_of(Data(palette="binary")))
    assert "lossy" in f"{caught.value.what} {caught.value.why}"


def test_class_folders_of_phone_photographs_are_read(tmp_path: Path) -> None:
    for index in range(4):
        path = tmp_path / "ab"[index % 2] / f"{index}.HEIC"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(heic(np.roll(SMOOTH, 3 * index, 0)))
    source = opened(tmp_path)
    assert source.classes == ("a", "b") and sum(len(items.names) for items in source.splits.values()) == 4


def test_without_the_library_one_sentence_has_the_count_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(6):
        path = tmp_path / "ab"[index % 2] / f"{index}.heic"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.setitem(formats.OPTIONAL, "HEIF", False)
    error = open_error(tmp_path)
    assert error.what == "6 HEIC images cannot be read, because a library is missing"
    assert error.cure == "pip install 'sightline-vision[heif]'"
    monkeypatch.setattr("sightline.data.decode.images.FORMATS", ("PNG", "JPEG"))
    (tmp_path / "x.jpg").write_bytes(heic(SMOOTH))
    with pytest.raises(SightlineError) as caught:
        open_image(str(tmp_path / "x.jpg"), LIMIT)
    assert "it is a HEIC image; to read it: pip install 'sightline-vision[heif]'" in caught.value.why


@pytest.mark.parametrize("ending", [".dcm", ".mp4", ".NEF", ".psd", ".jxl", ".npy", ".zip"])
def test_other_formats_are_named_with_a_command(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"one{ending}").write_bytes(b"x")
    error = open_error(tmp_path)
    kind, command = FOREIGN[ending.lower()]
    assert error.what == "there are no images in this folder"
    assert f"{kind} files ({ending.lower()}) must be converted first: {command}" in error.cure
    with pytest.raises(SightlineError) as caught:
        list(input_images([str(tmp_path)], Counter()))
    assert command in caught.value.cure


def test_files_of_other_kinds_are_recognized_by_content(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(9))
    assert "DICOM files (without extension)" in open_error(tmp_path).cure
    assert conversion_hint(Counter({".txt": 3})) == "" == foreign_content(b"\x89PNG\r\n")[0]
    buffer = io.BytesIO()
    np.save(buffer, SMOOTH)
    for head, kind in ((buffer.getvalue(), "NumPy"), (b"\0\0\0\x18ftypisom", "video"), (b"8BPS", "Photoshop")):
        (tmp_path / "x.png").write_bytes(head.ljust(200, b"\0"))
        with pytest.raises(SightlineError) as caught:
            open_image(str(tmp_path / "x.png"), LIMIT)
        assert f"it is a {kind} file; convert it: " in caught.value.why and caught.value.cure in caught.value.why
