"""Images with more bits or other channels than RGB, against the pixels that another program wrote: GDAL (through
rasterio) writes every file here, unless Pillow is named."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.shutil import copy

from raster_toys import random_pixels, write_raster
from sightline.data.channels import RGB, Channels
from sightline.data.decode.images import Square, open_image, planes
from sightline.data.decode.kinds import PLAIN, Raster, file_header
from sightline.data.decode.rasters import Reading, read_for, read_raster
from sightline.errors import SightlineError

LIMIT = 10**6


def read(path: Path) -> Raster:
    """Read a raster, whatever it holds."""
    header = file_header(str(path))
    assert header is not None
    return read_raster(str(path), header, LIMIT)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"]),
    bands=st.integers(1, 13),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    compression=st.sampled_from(["none", "lzw", "deflate", "zstd", "packbits"]),
    layout=st.sampled_from(["pixel", "band"]),
    tiled=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pixels_are_those_of_the_writer(tmp_path_factory, dtype, bands, size, compression, layout, tiled, seed):
    pixels = random_pixels(seed, (bands, *size), dtype)
    path = tmp_path_factory.mktemp("r") / "a.tif"
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tiled else {}
    write_raster(path, pixels, compress=compression, interleave=layout, photometric="MINISBLACK", **options)
    header = file_header(str(path))
    assert header is not None and header.size == size
    if header.kind.plain:
        assert dtype == "uint8" and bands == 1
        np.testing.assert_array_equal(np.asarray(open_image(str(path), LIMIT))[..., 0], pixels[0])
        return
    found = read(path)
    np.testing.assert_array_equal(found.pixels, pixels.astype(dtype if dtype in ("uint8", "uint16") else "float32"))
    assert len(header.kind.names) == bands and header.kind.number == dtype and found.empty is None


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_packed_bits_are_in_the_header_and_not_scaled(tmp_path, bits):
    pixels = random_pixels(1, (3, 9, 7), top=2**bits - 1)
    path = write_raster(tmp_path / "a.tif", pixels, nbits=bits)
    np.testing.assert_array_equal(read(path).pixels, pixels)
    assert file_header(str(path)).bits == bits


@pytest.mark.parametrize("count", [1, 3])
def test_png_of_16_bits_keeps_them(tmp_path, count):
    pixels = random_pixels(2, (count, 8, 6), top=65535)
    path = write_raster(tmp_path / "a.png", pixels)
    found = read(path)
    assert found.pixels.dtype == np.uint16
    np.testing.assert_array_equal(found.pixels, pixels)


def test_png_of_16_bits_by_pillow(tmp_path):
    pixels = random_pixels(2, (1, 8, 6), top=65535)
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png").pixels, pixels)


def test_an_extra_sample_is_transparency_only_by_its_tag(tmp_path):
    pixels = np.zeros((4, 8, 8), np.uint8) + np.array([200, 100, 50, 0], np.uint8)[:, None, None]
    untagged = write_raster(tmp_path / "a.tif", pixels, photometric="RGB")
    named = write_raster(tmp_path / "b.tif", pixels, ("red", "green", "blue", "nir"))  # tagged as transparency by GDAL
    tagged = write_raster(tmp_path / "c.tif", pixels, alpha="YES", photometric="RGB")
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "d.tif")
    for path, names in ((untagged, ("red", "green", "blue", "4")), (named, ("red", "green", "blue", "nir"))):
        found = read(path)
        np.testing.assert_array_equal(found.pixels, pixels)
        assert file_header(str(path)).kind.names == names
    for path in (tagged, tmp_path / "d.tif"):
        assert file_header(str(path)).kind == PLAIN
        assert open_image(str(path), LIMIT).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr"])
def test_8_bit_tiffs_of_pillow_are_plain(tmp_path, mode):
    image = Image.linear_gradient("L").resize((9, 7)).convert("RGB" if mode in ("LAB", "YCbCr") else mode)
    if mode == "LAB":
        image = Image.merge("LAB", image.split())
    image.convert(image.mode if mode != "YCbCr" else "YCbCr").save(tmp_path / "a.tif")
    assert file_header(str(tmp_path / "a.tif")).kind == PLAIN
    expected = open_image(str(tmp_path / "a.tif"), LIMIT)
    assert Reading().read(str(tmp_path / "a.tif"), LIMIT).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("nodata", "dtype"),
    [(-9999.0, "float32"), (0.0, "float32"), (float("nan"), "float32"), (-3.4028234663852886e38, "float32"),
     (-1.7976931348623157e308, "float64"), (1e300, "float64")],
)  # fmt: skip
def test_values_without_data_are_zero_and_counted(tmp_path, nodata, dtype):
    pixels = random_pixels(3, (2, 6, 5), dtype)
    pixels[0, :2] = nodata
    pixels[:, 5, 4] = nodata
    pixels[1, 3, 3] = np.inf
    found = read(write_raster(tmp_path / "a.tif", pixels, nodata=nodata))
    assert found.missing == 2 * 5 + 2 + 1
    assert found.empty is not None and found.empty.sum() == 1 and found.empty[5, 4]
    assert (found.pixels[0, :2] == 0).all() and np.isfinite(found.pixels).all()
    np.testing.assert_array_equal(found.pixels[1, :3], pixels[1, :3].astype(np.float32))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_cloud_optimized_file_with_a_mask(tmp_path):
    """Tiles, overviews and a mask inside the file, as GDAL's driver COG writes them."""
    pixels, mask = random_pixels(3, (4, 600, 520)), np.full((600, 520), 255, np.uint8)
    mask[:10] = 0
    path = write_raster(tmp_path / "a.tif", pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    copy(path, tmp_path / "cog.tif", driver="COG", compress="zstd")
    found = read(tmp_path / "cog.tif")
    assert found.missing == 4 * 10 * 520 and found.empty is not None and found.empty[:10].all()
    np.testing.assert_array_equal(found.pixels[:, 10:], pixels[:, 10:])


def test_transparent_pixels_of_16_bits_have_no_data(tmp_path):
    pixels = random_pixels(4, (4, 6, 5), top=60000)
    pixels[3] = 65535
    pixels[3, 0] = 0
    path = write_raster(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES")
    found = read(path)
    assert found.pixels.shape == (3, 6, 5) and found.missing == 15 and (found.pixels[:, 0] == 0).all()
    pixels[3, 1] = 30000
    with pytest.raises(SightlineError, match="cannot be used") as caught:
        read(write_raster(path, pixels, photometric="RGB", alpha="YES"))
    assert "partly transparent" in caught.value.why and "--data.channels rgb" in caught.value.cure


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_as_pillow_does(tmp_path, orientation):
    gray = random_pixels(5, (1, 5, 8), "uint16", 65535)
    Image.fromarray(gray[0]).save(tmp_path / "a.tif", tiffinfo={274: orientation})
    with open(tmp_path / "a.tif", "rb") as file, Image.open(file) as image:  # given a path, Pillow 13.0 garbles it
        image.load()
        expected = np.asarray(image)
    found = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.pixels[0], expected)
    assert file_header(str(tmp_path / "a.tif")).size == expected.shape


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("square", [Square(16), Square(5, "crop", "bicubic"), Square(40)])
def test_each_channel_is_resized_like_a_gray_image(dtype, square):
    pixels = random_pixels(6, (5, 18, 30), dtype)
    found = square.of(Raster(pixels))
    assert found.shape == (5, square.side, square.side) and found.dtype == pixels.dtype
    assert found.min() >= pixels.min() and found.max() <= pixels.max()
    if dtype == "uint8":  # Pillow rounds after each of its two passes
        rgb = square.of(Image.fromarray(np.ascontiguousarray(pixels[:3].transpose(1, 2, 0))))
        assert np.abs(found[:3].astype(int) - rgb).max() <= 1


def test_resizing_does_not_exceed_the_values_of_a_channel():
    pixels = np.zeros((1, 8, 8), np.uint16)
    pixels[:, :, 4:] = 4095
    found = Square(32, "squash", "bicubic").of(Raster(pixels))
    assert found.min() == 0 and found.max() == 4095


def test_tags_that_contradict_the_pixels_are_an_error(tmp_path):
    path = str(write_raster(tmp_path / "a.tif", random_pixels(1, (2, 6, 7))))
    header = file_header(path)
    for wrong in ({"size": (7, 6)}, {"bits": 11}, {"kind": header.kind._replace(names=("1", "2", "3"))}):
        with pytest.raises(SightlineError, match="this image cannot be"):
            read_raster(path, replace(header, **wrong), LIMIT)
    for most, bits in ((4095, 12), (65535, 0), (3921, 12)):
        Image.fromarray(random_pixels(1, (1, 6, 7))[0]).save(tmp_path / "b.tif", tiffinfo={281: most})
        assert file_header(str(tmp_path / "b.tif")).bits == bits


def test_a_truncated_file_is_called_truncated(tmp_path):
    path = write_raster(tmp_path / "a.tif", random_pixels(1, (2, 30, 30)), ("1", "2"))  # the tags are at the end
    kind = file_header(str(path)).kind
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SightlineError) as caught:
        Reading(Channels(kind.names, "uint16", 4095.0), kind).read(str(path), LIMIT)
    assert "truncated: it ends after 200 bytes" in caught.value.why
    with pytest.raises(SightlineError) as caught:
        read_for(str(path), Channels(kind.names, "uint16", 4095.0), LIMIT)
    assert "truncated: it ends after 200 bytes" in caught.value.why, "for a trained model too"


def test_unsupported_colors_are_named(tmp_path):
    pixels = random_pixels(1, (4, 6, 7))
    path = str(write_raster(tmp_path / "a.tif", pixels, photometric="CMYK"))
    with pytest.raises(SightlineError) as caught:
        read_raster(path, file_header(path), LIMIT)
    assert "color space (TIFF 5) needs 8 bits" in caught.value.why
    waves = write_raster(tmp_path / "b.tif", (pixels[:1] + 1j).astype("complex64"))
    assert "complex" in file_header(str(waves)).fault
    with pytest.raises(SightlineError, match="cannot be used") as caught:
        read_raster(str(tmp_path / "b.tif"), file_header(str(waves)), 5)
    assert "--data.max_pixels is 5" in caught.value.why


def test_floats_become_rgb_only_from_0_to_1(tmp_path):
    reading = Reading(RGB, None)
    shades = np.linspace(0, 1, 3 * 6 * 7, dtype=np.float32).reshape(3, 6, 7)
    found = planes(reading.read(str(write_raster(tmp_path / "a.tif", shades, photometric="RGB")), LIMIT))
    np.testing.assert_array_equal(found, np.rint(shades * 255).astype(np.uint8))
    with pytest.raises(SightlineError, match="cannot be used") as caught:
        reading.read(str(write_raster(tmp_path / "b.tif", shades * 3)), LIMIT)
    assert "only 0 to 1 can become 8 bits" in caught.value.why


def test_a_file_of_another_kind_is_an_error_of_that_file(tmp_path):
    deep = write_raster(tmp_path / "a.png", random_pixels(7, (3, 8, 8), top=65535))
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    with pytest.raises(SightlineError) as caught:
        Reading().read(str(deep), LIMIT)
    assert "3 channels (red, green, blue) of 16 bits" in caught.value.why and "a.png" in caught.value.where
    kind = file_header(str(deep)).kind
    with pytest.raises(SightlineError, match="cannot be used"):
        Reading(Channels(kind.names, "uint16", 65535.0), kind).read(str(tmp_path / "b.png"), LIMIT)


def test_a_file_is_read_with_the_channels_of_a_model(tmp_path):
    names = ("red", "green", "blue", "nir")
    pixels = random_pixels(8, (4, 6, 7), "uint8")
    path = str(write_raster(tmp_path / "a.tif", pixels, photometric="RGB"))  # the fourth band is called 4
    found = read_for(path, Channels(("4", "green"), "uint8", 255.0), LIMIT)
    np.testing.assert_array_equal(planes(found), pixels[[3, 1]])
    np.testing.assert_array_equal(planes(read_for(path, RGB, LIMIT)), pixels[:3])
    with pytest.raises(SightlineError, match="cannot be used") as caught:
        read_for(path, Channels(names, "uint8", 255.0), LIMIT)
    assert "the model was trained on 4 channels" in caught.value.why
    default = str(write_raster(tmp_path / "b.tif", pixels))  # tagged as transparency
    np.testing.assert_array_equal(planes(read_for(default, Channels((*names[:3], "4")), LIMIT)), pixels)
    deep = str(write_raster(tmp_path / "c.tif", random_pixels(9, (3, 6, 7)), photometric="RGB"))
    with pytest.raises(SightlineError, match="cannot be used"):
        read_for(deep, RGB, LIMIT)
    shades = planes(read_for(deep, Channels(deep=4095.0), LIMIT))
    np.testing.assert_array_equal(shades, np.rint(random_pixels(9, (3, 6, 7)) / 4095 * 255).astype(np.uint8))


def test_many_channels_do_not_fill_the_memory(tmp_path):
    """A file of many channels is read as RGB with the memory of three, and refused by its header if it has too many."""
    pixels = random_pixels(11, (60, 100, 120), top=4095)
    path = str(write_raster(tmp_path / "a.tif", pixels, photometric="MINISBLACK"))
    reading = Reading(Channels(deep=4095.0), None)
    tracemalloc.start()
    try:
        shades = planes(reading.read(path, LIMIT))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(shades, np.rint(pixels[:3] / 4095 * 255).astype(np.uint8))
    assert peak < pixels.nbytes / 2
    limit = 60 * 100 * 120 // 16
    for allowed in (limit - 1, 100 * 120):
        with pytest.raises(SightlineError) as caught:
            reading.read(path, allowed)
        assert f"120 x 100 x 60 values; the limit 16 x --data.max_pixels is {16 * allowed:,}" in caught.value.why
    np.testing.assert_array_equal(planes(reading.read(path, limit)), shades)


@pytest.mark.parametrize("transparent", [False, True])
def test_deep_gray_files_become_rgb(tmp_path, transparent):
    pixels = random_pixels(12, (1, 6, 7), top=4095)
    opaque = np.full_like(pixels, 65535)
    layers = np.concatenate([pixels, opaque]) if transparent else pixels
    path = str(write_raster(tmp_path / "a.tif", layers, photometric="MINISBLACK", alpha="yes"))
    assert file_header(path).alpha == transparent
    found = planes(Reading(Channels(deep=4095.0), None).read(path, LIMIT))
    np.testing.assert_array_equal(found, np.repeat(np.rint(pixels / 4095 * 255).astype(np.uint8), 3, axis=0))


def damaged(content: bytes, seed: int) -> bytes:
    """The bytes of a file, truncated or with up to 20 flipped bits, most of them in the header."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return content[: rng.integers(0, len(content))]
    changed = bytearray(content)
    for _ in range(rng.integers(1, 20)):
        changed[rng.integers(0, min(len(changed), 400 if seed % 3 == 1 else len(changed)))] ^= 1 << rng.integers(0, 8)
    return bytes(changed)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("first", range(0, 100, 25))
def test_damaged_files_are_errors_or_have_their_size(tmp_path, suffix, first):
    names, options = ("a", "b", "c"), {} if suffix == ".png" else {"compress": "deflate", "tiled": False}
    pixels = random_pixels(10, (3, 24, 20), top=65535)
    path = write_raster(tmp_path / f"a{suffix}", pixels, () if suffix == ".png" else names, **options)
    kind = file_header(str(path)).kind
    reading, content = Reading(Channels(kind.names, "uint16", 65535.0), kind), path.read_bytes()
    outcomes = set()
    for seed in range(first, first + 25):
        path.write_bytes(damaged(content, seed))
        header = file_header(str(path))
        try:
            found = reading.read(str(path), 10**4)
        except SightlineError as error:
            assert error.where == str(path) and error.why and error.cure
            outcomes.add("error")
            continue
        assert isinstance(found, Raster) and header is not None
        assert found.pixels.shape == (3, *header.size) and found.pixels.dtype == np.uint16
        assert seed % 3 or (found.pixels == pixels).all(), "a truncated file"
        outcomes.add("read")
    assert "error" in outcomes
