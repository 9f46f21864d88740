"""Every kind of image file is decoded to RGB, or is an error with its path."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from torchvision import transforms

from sightline.data.decode.images import EXIF_DAMAGED, Header, Square, image_in, is_exif_damaged, open_image, to_rgb
from sightline.errors import SightlineError

LIMIT = 89_478_485


def saved(image: Image.Image, path: Path, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def reopened(image: Image.Image, path: Path, **options: object) -> np.ndarray:
    opened = open_image(saved(image, path, **options), LIMIT)
    assert opened.mode == "RGB"
    return np.asarray(opened)


@pytest.mark.parametrize(
    ("ending", "options"), [(".png", {}), (".bmp", {}), (".tif", {}), (".webp", {"lossless": True})]
)
def test_lossless_formats_keep_every_pixel(tmp_path: Path, ending: str, options: dict[str, object]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(reopened(Image.fromarray(pixels), tmp_path / f"x{ending}", **options), pixels)


def test_jpeg_and_gif_are_close_to_the_original(tmp_path: Path) -> None:
    plain = Image.new("RGB", (16, 16), (200, 40, 90))
    for name in ("x.jpg", "x.gif"):
        assert np.abs(reopened(plain, tmp_path / name).astype(int) - (200, 40, 90)).max() <= 3


def test_only_the_first_frame_is_used(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    for name in ("x.gif", "x.tif"):
        pixels = reopened(frames[0], tmp_path / name, save_all=True, append_images=frames[1:])
        assert (pixels == (255, 0, 0)).all()


def test_8_bit_and_1_bit_gray(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(reopened(Image.fromarray(ramp), tmp_path / "x.png"), np.stack([ramp] * 3, 2))
    bits = Image.fromarray(ramp > 100)
    assert bits.mode == "1"
    assert np.array_equal(reopened(bits, tmp_path / "y.png")[..., 0], np.where(ramp > 100, 255, 0))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bit_gray_is_scaled_and_not_clipped(tmp_path: Path, ending: str) -> None:
    ramp = np.linspace(0, 65535, 4096).round().astype(np.uint16).reshape(64, 64)
    pixels = reopened(Image.fromarray(ramp), tmp_path / f"x{ending}")
    assert np.abs(pixels[..., 0] - ramp / 257).max() <= 0.5
    assert len(np.unique(pixels)) == 256


def test_16_bit_gray_in_all_byte_orders() -> None:
    ramp = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    big = Image.frombytes("I;16B", (4, 1), ramp.astype(">u2").tobytes())
    wide = Image.fromarray(ramp.astype(np.int32))
    assert wide.mode == "I"
    for image in (big, wide, Image.fromarray(ramp)):
        assert np.asarray(to_rgb(image))[0, :, 1].tolist() == [0, 1, 128, 255]


def test_floats_and_32_bit_integers_are_converted_or_an_error(tmp_path: Path) -> None:
    unit = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert reopened(Image.fromarray(unit), tmp_path / "x.tif")[0, :, 0].tolist() == [0, 128, 255]
    for name, values in {
        "f.tif": np.array([[0.0, 300.0]], dtype=np.float32),
        "n.tif": np.array([[0.0, np.nan]], dtype=np.float32),
        "i.tif": np.array([[0, 70000]], dtype=np.int32),
    }.items():
        path = saved(Image.fromarray(values), tmp_path / name)
        with pytest.raises(SightlineError, match="only 0 to") as caught:
            open_image(path, LIMIT)
        assert caught.value.where == path and caught.value.cure


def test_16_bit_color_keeps_the_high_byte(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + struct.pack(">6H", 0xFF00, 0x8000, 0x0100, 0, 0xFFFF, 0x4000)
    head = chunk(b"IHDR", struct.pack(">2I5B", 2, 1, 16, 2, 0, 0, 0))
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b""))
    assert np.asarray(open_image(str(path), LIMIT)).tolist() == [[[255, 128, 1], [0, 255, 64]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_transparency_is_composited_on_white(mode: str) -> None:
    rgba = np.array([[[200, 200, 200, 255], [200, 200, 200, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    image = Image.fromarray(rgba)
    through = {"La": "LA", "PA": "P"}
    converted = image.convert(through[mode]) if mode in through else image
    if mode == "PA":
        converted = Image.merge("PA", (Image.fromarray(rgba[..., 0]), image.getchannel("A")))
        converted.putpalette([value for value in range(256) for _ in range(3)])
    else:
        converted = converted.convert(mode)
    assert converted.mode == mode
    assert np.abs(np.asarray(to_rgb(converted))[0].astype(int) - [[200] * 3, [255] * 3, [127] * 3]).max() <= 1


def test_colors_of_transparent_pixels_are_not_visible(tmp_path: Path) -> None:
    assert (reopened(Image.new("RGBA", (2, 2), (255, 0, 0, 0)), tmp_path / "x.png") == 255).all()


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert reopened(image, tmp_path / "a.png")[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert reopened(image, tmp_path / "b.png", transparency=0)[0].tolist() == [[255] * 3, [200, 100, 50]]
    colors = Image.fromarray(np.array([[[9, 9, 9], [1, 2, 3]]], dtype=np.uint8))
    assert reopened(colors, tmp_path / "c.png", transparency=(9, 9, 9))[0].tolist() == [[255] * 3, [1, 2, 3]]


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = reopened(ink, tmp_path / "x.jpg", quality=100)[8, 8]
    assert red < 30 and green > 200 and blue > 200


def test_lab_and_hsv() -> None:
    lab = Image.merge("LAB", [Image.new("L", (2, 2), value) for value in (255, 128, 128)])
    assert np.asarray(to_rgb(lab)).min() >= 250
    assert np.asarray(to_rgb(Image.new("HSV", (1, 1), (0, 255, 255)))).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
def test_orientation_is_applied_once(tmp_path: Path, ending: str) -> None:
    stored = Image.new("RGB", (48, 32), "white")
    stored.paste("black", (0, 0, 24, 16))  # dark in the upper left
    dark = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    for orientation, (down, right) in dark.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = reopened(stored, tmp_path / f"{orientation}{ending}", exif=exif)
        assert pixels.shape[:2] == ((32, 48) if orientation < 5 else (48, 32))
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        corner = pixels[down * height : (down + 1) * height, right * width : (right + 1) * width]
        assert corner.mean() < 40 and pixels.mean() > 180, (ending, orientation)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_corrupt_exif_is_ignored(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (6, 4), "red"), tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff")
    assert open_image(path, LIMIT).size == (6, 4)


def test_wrong_extensions_are_accepted_and_other_formats_are_not(tmp_path: Path) -> None:
    png = Path(saved(Image.new("RGB", (3, 3), "blue"), tmp_path / "x.png"))
    assert open_image(str(png.rename(tmp_path / "x.jpg")), LIMIT).size == (3, 3)
    eps = tmp_path / "y.png"
    Image.new("RGB", (3, 3)).save(eps, format="EPS")
    with pytest.raises(SightlineError, match="not an intact PNG"):
        open_image(str(eps), LIMIT)


BAD = {
    "empty": (b"", r"empty \(0 bytes\)"),
    "html": (b"\n<!DOCTYPE html><html>404</html>", "a download failed"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "text": (b"hello there", "not an intact"),
}


@pytest.mark.parametrize("kind", BAD)
def test_files_that_are_not_images_are_identified(tmp_path: Path, kind: str) -> None:
    content, expected = BAD[kind]
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(SightlineError, match=expected) as caught:
        open_image(str(path), LIMIT)
    assert str(path) in str(caught.value) and caught.value.cure


@pytest.mark.parametrize("ending", [".jpg", ".png", ".gif", ".tif", ".webp", ".bmp"])
def test_truncated_and_mutated_files_raise_sightline_error_only(tmp_path: Path, ending: str) -> None:
    random = np.random.default_rng(1)
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
        buffer, Image.registered_extensions()[ending]
    )
    content = buffer.getvalue()
    path = tmp_path / f"x{ending}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SightlineError):
        open_image(str(path), LIMIT)
    for _ in range(60):
        mutated = bytearray(content)
        for index in random.integers(0, len(content), 8):
            mutated[index] = random.integers(256)
        path.write_bytes(mutated)
        try:
            assert open_image(str(path), 10_000_000).mode == "RGB"
        except SightlineError as error:
            assert error.where == str(path)


def test_decompression_bombs_are_rejected_by_the_header(tmp_path: Path) -> None:
    path = saved(Image.new("1", (12_000, 9_000)), tmp_path / "x.png")
    with pytest.raises(SightlineError, match="pixels"):
        open_image(path, LIMIT)
    small = saved(Image.new("L", (100, 50)), tmp_path / "y.png")
    with pytest.raises(SightlineError, match=r"100 x 50 pixels; the limit --data\.max_pixels is 4,999") as caught:
        open_image(small, 4_999)
    assert "to train with its size: --data.max_pixels" in caught.value.cure, "other commands do not have this option"
    assert open_image(small, 5_000).size == (100, 50)


def test_max_pixels_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    path = saved(Image.new("L", (100, 50)), tmp_path / "x.png")
    assert open_image(path, 10_000).size == (100, 50)


def test_broken_links_folders_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    expected = {
        "link.png": "target of the link does not exist",
        "folder.png": "not a regular file",
        "gone.png": "No such file",
    }
    for name, why in expected.items():
        with pytest.raises(SightlineError, match=why):
            open_image(str(tmp_path / name), LIMIT)


def test_draft_mode_decodes_at_a_reduced_size(tmp_path: Path) -> None:
    waves = np.add.outer(np.sin(np.arange(600) / 40), np.cos(np.arange(900) / 60))
    pixels = np.stack([128 + 60 * waves, 128 - 50 * waves, 128 + 30 * waves], 2).astype(np.uint8)
    path = saved(Image.fromarray(pixels), tmp_path / "x.jpg", quality=92)
    drafted = open_image(path, LIMIT, side=64)
    assert drafted.size == (225, 150)
    assert open_image(path, LIMIT, side=300).size == (900, 600)
    full = Square(64).of(open_image(path, LIMIT)).astype(int)
    assert np.abs(Square(64).of(drafted) - full).mean() < 1


def test_squash_resizes_with_antialiasing() -> None:
    stripes = np.zeros((64, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = Square(16).of(Image.fromarray(stripes))
    assert small.shape == (3, 16, 16) and small.dtype == np.uint8
    assert np.abs(small.astype(int) - 127).max() <= 2  # without antialiasing it would be 0 or 255
    assert Square(8).of(Image.new("RGB", (20_000, 1), "red")).shape == (3, 8, 8)


@pytest.mark.parametrize("shape", [(60, 41), (40, 75)])
def test_fit_crop_equals_resize_and_center_crop_of_torchvision(shape: tuple[int, int]) -> None:
    """Resize the shorter side to 20 pixels and crop the center. torchvision rounds the crop to whole pixels."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack([3 * rows, 3 * columns, 2 * rows + columns], 2).astype(np.uint8)
    image = Image.fromarray(pixels)
    reference = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(20)])(image)
    found = Square(20, fit="crop").of(image).astype(int)
    assert np.abs(found - np.asarray(reference).transpose(2, 0, 1)).max() <= 6, "half a pixel of the small image"
    squashed = Square(20).of(image).astype(int)
    assert np.abs(squashed - found).max() > 20, "otherwise the comparison proves nothing"


@pytest.mark.parametrize(("fit", "size"), [("crop", 20), ("squash", (20, 20))])
def test_a_central_share_equals_resize_and_center_crop_of_torchvision(fit: str, size: int | tuple[int, int]) -> None:
    """Resize to 20 pixels, crop the 16 in the center: a share of 0.8. torchvision rounds the crop to whole pixels."""
    rows, columns = np.mgrid[:60, :100]
    image = Image.fromarray(np.stack([3 * rows, 2 * columns, 2 * rows + columns], 2).astype(np.uint8))
    reference = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(16)])(image)
    found = Square(16, fit, share=0.8).of(image).astype(int)
    assert np.abs(found - np.asarray(reference).transpose(2, 0, 1)).max() <= 3, "half a pixel of the small image"
    assert np.abs(Square(16, fit).of(image) - found).max() > 15, "otherwise the comparison proves nothing"
    exact = Image.fromarray(np.asarray(image)[:16, :16])
    assert np.array_equal(Square(16, fit, share=0.8).of(exact), np.asarray(exact).transpose(2, 0, 1))


def test_bicubic_equals_pillow() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    found = Square(12, filter="bicubic").of(image)
    expected = np.asarray(image.resize((12, 12), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.array_equal(found, expected) and not np.array_equal(found, Square(12).of(image))


@pytest.mark.parametrize("kind", ["photo.jpg", "turned.jpg", "deep.png"])
def test_uploads_are_decoded_like_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    pixels = np.random.default_rng(0).integers(0, 255, (120, 90, 3)).astype(np.uint8)
    if kind == "deep.png":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6 if kind == "turned.jpg" else 1
        Image.fromarray(pixels).save(path, exif=exif)
    of_bytes = image_in(path.read_bytes(), 10**6, side=16)
    assert of_bytes.tobytes() == open_image(str(path), 10**6, side=16).tobytes()


def test_invalid_uploads_have_the_error_messages_of_files(tmp_path: Path) -> None:
    for content in (b"", b"<html>", b"version https://git-lfs", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"x" * 90):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(SightlineError) as of_file:
            open_image(str(tmp_path / "x"), 10**6)
        with pytest.raises(SightlineError) as of_bytes:
            image_in(content, 10**6)
        assert of_bytes.value.what == of_file.value.what and of_bytes.value.why[:20] == of_file.value.why[:20]
        assert of_bytes.value.where == "" and "PNG" in of_bytes.value.cure
    with pytest.raises(SightlineError, match="cannot be used"):
        image_in(bmp(), 10)


def bmp() -> bytes:
    """A BMP file of 8 x 8 pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.mark.parametrize("keep", [0.02, 0.4, 0.8])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp", ".gif"])
def test_a_truncated_file_is_reported_as_truncated(tmp_path: Path, ending: str, keep: float) -> None:
    pixels = np.random.default_rng(1).integers(1, 256, (480, 64, 3), dtype=np.uint8)
    path = tmp_path / f"x{ending}"
    Image.fromarray(pixels).save(path, quality=90)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    for decode in (lambda: open_image(str(path), LIMIT), lambda: image_in(path.read_bytes(), LIMIT)):
        with pytest.raises(SightlineError) as caught:
            decode()
        assert caught.value.why == f"it is truncated: it ends after {int(keep * len(whole)):,} bytes"


def test_a_damaged_complete_file_is_not_reported_as_truncated(tmp_path: Path) -> None:
    png = saved(Image.new("RGB", (64, 64), "red"), tmp_path / "x.png")
    content = bytearray(Path(png).read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    Path(png).write_bytes(content)
    with pytest.raises(SightlineError) as caught:
        open_image(png, LIMIT)
    assert "truncated" not in caught.value.why


# ------------------------------------------------------------------------------------------------------- EXIF blocks


def exif_block(orientation: int, position: int = 0) -> bytes:
    """An EXIF block with an orientation and a text of 20 bytes, at the offset `position` or after the directory."""
    entries = struct.pack("<HHIIHHII", 0x010E, 2, 20, position or 8 + 2 + 24 + 4, 0x0112, 3, 1, orientation)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0) + b"x" * 20


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_damaged_exif_blocks_are_detected(tmp_path: Path, ending: str) -> None:
    image = Image.new("RGB", (6, 4), "red")
    whole = image.getexif()
    whole[0x010E], whole[0x0112] = "a description", 6
    for block, damaged in ((whole.tobytes(), False), (exif_block(6), False), (exif_block(6, 5000), True)):
        header = Header()
        found = open_image(saved(image, tmp_path / f"x{ending}", exif=block), LIMIT, header=header)
        size = (6, 4) if damaged else (4, 6)  # Pillow stops reading at the damaged entry
        assert (found.size, bool(found.info.get(EXIF_DAMAGED)), header.damaged_exif) == (size, damaged, damaged)
    for block in (b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff", exif_block(6)[:24], b"Exif\0\0nonsense"):
        assert is_exif_damaged(block)
        found = open_image(saved(image, tmp_path / f"x{ending}", exif=block), LIMIT)
        assert found.size == (6, 4) and found.info.get(EXIF_DAMAGED)
    assert not open_image(saved(image, tmp_path / f"y{ending}"), LIMIT).info.get(EXIF_DAMAGED)


# ------------------------------------------------------------------------------------------------- bombs in metadata


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


LARGE, TEXT = zlib.compress(bytes(8 << 20)), zlib.compress(bytes(1_000_000))  # 8 MB and 1 MB when decompressed
METADATA = {
    "zTXt": [chunk(b"zTXt", b"Comment\0\0" + LARGE)],
    "iTXt": [chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE)],
    "iCCP": [chunk(b"iCCP", b"profile\0\0" + LARGE)],
    "many": [chunk(b"zTXt", b"Comment%d\0\0" % number + TEXT) for number in range(70)],
}


OMITTED = (("iCCP", "after"), ("many", "before"))
"""A color profile is always before the pixels; the slow case is tested once."""


@pytest.mark.parametrize(
    ("kind", "position"),
    [(kind, position) for kind in METADATA for position in ("before", "after") if (kind, position) not in OMITTED],
)
def test_decompression_bombs_in_texts_and_profiles_are_rejected(tmp_path: Path, kind: str, position: str) -> None:
    assert (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY) == (1 << 20, 64 << 20), (
        "another module raised them"
    )
    whole = Path(saved(Image.new("L", (8, 8), 9), tmp_path / "x.png")).read_bytes()
    cut = whole.index(b"IDAT") - 4 if position == "before" else whole.index(b"IEND") - 4
    path = tmp_path / "bomb.png"
    path.write_bytes(whole[:cut] + b"".join(METADATA[kind]) + whole[cut:])
    tracemalloc.start()
    try:
        with pytest.raises(SightlineError, match="cannot be read") as caught:
            open_image(str(path), LIMIT)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.where == str(path) and "once decompressed" in caught.value.why and "-strip" in caught.value.cure
    assert most < (100 << 20 if kind == "many" else 4 << 20), most
