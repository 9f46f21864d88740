"""What a data set holds is found from its files, said, and the same for all of them. GDAL (through rasterio) writes
the files, unless Pillow is named."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raster_toys import SENTINEL, random_pixels, raster_folders, write_raster
from sightline.config.resolve import resolve
from sightline.config.schema import Config, Data
from sightline.data.channels import RGB, Channels
from sightline.data.decode import survey
from sightline.data.decode.images import planes
from sightline.data.decode.rasters import read_for
from sightline.data.decode.survey import with_top
from sightline.data.image_cache import decode
from sightline.data.pair_cache import decode_pairs
from sightline.data.sources.pairs import open_pairs
from sightline.data.types import Decoded, Source
from sightline.errors import ENVIRONMENT, SightlineError
from sightline.inference.reading import open_channels, read_upload
from source_toys import open_error, opened


def decoded(source: Source, split: str = "train", **changes: object) -> Decoded:
    return decode(source, split, 24, Data(path=source.path, size=24, **changes), lambda text: None)


def test_rgb_and_near_infrared_as_gdal_writes_them_keep_their_pixels(tmp_path: Path) -> None:
    """Row 1 of the data that were misread: GDAL tags the fourth band of uint8 files as transparency."""
    for folder in "ab":
        for index in range(3):
            pixels = random_pixels(index, (4, 20, 20), "uint8", 255)
            pixels[:, 0, 0] = 200, 100, 50, 0
            write_raster(tmp_path / folder / f"{index}.tif", pixels)
    source = opened(tmp_path)
    assert source.channels.names == ("red", "green", "blue", "4") and source.channels.dtype == "uint8"
    assert any("tagged as transparency" in note and "--data.channels rgb" in note for note in source.notes)
    found = decoded(source)
    assert found.images.shape[1:] == (4, 20, 20) and found.channels.top == 255
    assert (found.images[:, :, 0, 0] == [200, 100, 50, 0]).all()


@pytest.mark.parametrize("chosen", [("1", "2", "3"), ("red", "green", "blue"), ("3", "2", "1"), ("1",)])
def test_near_infrared_that_is_not_chosen_is_no_transparency(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    """Neither in training nor in predictions, for which config.json of the run describes the channels."""
    every = [random_pixels(seed, (4, 20, 20), "uint8", 255) for seed in range(4)]
    for name, pixels in zip(("a/0.tif", "a/1.tif", "b/0.tif", "b/1.tif"), every, strict=True):
        write_raster(tmp_path / name, pixels)
    source = opened(tmp_path, channels=chosen, hold_out=False)
    pixels = every[0]
    expected = pixels[[("red", "green", "blue").index(name) for name in source.channels.names]]
    assert any("tagged as transparency" in note for note in source.notes)
    np.testing.assert_array_equal(planes(source.splits["all"].read(0)), expected)
    channels = Channels.of_description(source.channels.description())
    np.testing.assert_array_equal(planes(read_for(str(tmp_path / "a/0.tif"), channels, 1000)), expected)
    with open_channels(tmp_path / "a/0.tif", channels) as scene:
        np.testing.assert_array_equal(scene.read(0, 0, 20, 20), expected)
    upload = read_upload((tmp_path / "a/0.tif").read_bytes(), channels, 1000)
    np.testing.assert_array_equal(planes(upload), expected)
    again = opened(tmp_path)
    assert again.channels.opaque and len(again.channels.names) == 4


def test_12_bits_in_16_bit_files_are_scaled_by_one_rule(tmp_path: Path) -> None:
    """Row 2 of the data that were misread: they were divided by 257."""
    source = opened(raster_folders(tmp_path / "data"))
    assert any(note.startswith("images have 12 channels (B01, B02,") and "of 16 bits" in note for note in source.notes)
    assert source.channels.names == SENTINEL and source.channels.shown == (3, 2, 1)
    said: list[str] = []
    data = Data(path=source.path, size=24)
    train = decode(source, "train", 24, data, said.append)
    assert "largest value 3,921: 12 bits, so 4,095 becomes 1.0" in said
    assert train.images.dtype == np.uint16 and train.channels.top == 4095
    row = train.names.index("a/0.tif") if "a/0.tif" in train.names else 0
    seed = 10 * int(Path(train.names[row]).stem) + (train.names[row][0] == "b")
    np.testing.assert_array_equal(train.images[row], random_pixels(seed, (12, 20, 24)))


def test_the_bits_are_those_of_the_training_images(tmp_path: Path) -> None:
    for split, top in (("train", 900), ("val", 60000)):
        raster_folders(tmp_path / split, 2, names=("1", "2"), top=top)
    source = opened(tmp_path)
    assert decoded(source, "val").channels.top == decoded(source, "train").channels.top == 1023
    assert decoded(source, "val").images.max() == 60000


def test_bits_in_the_tags_need_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in "ab":
        for index in range(2):
            write_raster(tmp_path / folder / f"{index}.tif", random_pixels(index, (2, 8, 8), top=500), nbits=12)
    source = opened(tmp_path)
    monkeypatch.setattr(survey, "largest_value", None)
    assert with_top(source, Data(path=str(tmp_path)), print).top == 4095


def test_the_largest_value_is_read_once(tmp_path: Path) -> None:
    source, said = opened(raster_folders(tmp_path)), []
    data = Data(path=source.path)
    with_top(source, data, said.append)
    for name in source.splits["train"].names:
        os.truncate(tmp_path / name, 1000)
    assert with_top(source, data, said.append).top == 4095 and said[0] == said[1]


def test_names_and_numbers_choose_channels_in_their_order(tmp_path: Path) -> None:
    root = raster_folders(tmp_path)
    source = opened(root, channels=("B08", "4", "b02"))
    assert source.channels.names == ("B08", "B04", "B02")
    assert any("3 channels, chosen from 12 (B08, B04, B02)" in note for note in source.notes)
    found = decoded(source, channels=("B08", "4", "b02"))
    every = decoded(opened(root))
    rows = [every.names.index(name) for name in found.names]
    np.testing.assert_array_equal(found.images, every.images[rows][:, [7, 3, 1]])
    error = open_error(root, channels=("nir",))
    assert "no channel 'nir'" in error.what and "B01, B02" in error.cure
    assert "several times" in open_error(root, channels=("B01", "1")).what


def test_a_channel_of_8_bit_images_can_be_chosen(photos: Path) -> None:
    blue = decoded(opened(photos, channels=("blue",)), channels=("blue",))
    plain = decoded(opened(photos))
    np.testing.assert_array_equal(blue.images, plain.images[:, 2:])
    assert blue.channels.names == ("blue",) and plain.channels == RGB


@pytest.mark.parametrize(
    ("text", "value"),
    [("rgb", "rgb"), ("B04", ("B04",)), ("[4, 3, 2]", ("4", "3", "2")), ("[red, nir]", ("red", "nir")), ("2", ("2",))],
)
def test_the_setting_accepts_names_and_numbers(text: str, value: object) -> None:
    assert resolve(Config(), {"data.channels": text}).data.channels == value


@pytest.mark.parametrize("value", ["", "[]", [], [1, True], [[1]], 1.5, None])
def test_other_values_of_the_setting_are_errors(value: object) -> None:
    with pytest.raises(SightlineError) as caught:
        resolve(Config(), {"data.channels": value})
    assert "give auto, rgb, or names or numbers of channels" in str(caught.value)


@pytest.mark.parametrize("count", [2, 40])
def test_rasters_are_converted_to_8_bit_rgb_by_one_rule(tmp_path: Path, count: int) -> None:
    raster_folders(tmp_path, count, names=("red", "green", "blue", "nir"))
    Image.new("RGB", (24, 20), (9, 8, 7)).save(tmp_path / "a" / "plain.png")
    source = opened(tmp_path, channels="rgb")
    assert source.channels == RGB and source.channels.deep == 4095
    assert any("largest value 3,921, 4,095 becomes 255" in note for note in source.notes)
    found = decoded(source, channels="rgb")
    row = next(i for i, name in enumerate(found.names) if name.startswith("b/"))
    pixels = random_pixels(10 * int(Path(found.names[row]).stem) + 1, (4, 20, 24))[:3]
    np.testing.assert_array_equal(found.images[row], np.rint(pixels * (255 / 4095)).astype(np.uint8))


def test_another_rule_decodes_again(tmp_path: Path) -> None:
    for split in ("train", "val"):
        raster_folders(tmp_path / split, 2, names=("red", "green", "blue"))
    first = decoded(opened(tmp_path, channels="rgb"), "val", channels="rgb")
    write_raster(tmp_path / "train" / "a" / "x.tif", random_pixels(1, (3, 20, 24), top=9000))
    second = decoded(opened(tmp_path, channels="rgb"), "val", channels="rgb")
    assert (first.channels.deep, second.channels.deep) == (4095, 16383)
    np.testing.assert_allclose(first.images / 4, second.images, atol=1)


def test_images_of_several_kinds_are_an_error_with_counts(tmp_path: Path) -> None:
    raster_folders(tmp_path, 3, names=("1", "2"))
    write_raster(tmp_path / "a" / "x.tif", random_pixels(1, (3, 20, 24)), photometric="RGB")
    Image.new("RGB", (24, 20)).save(tmp_path / "b" / "x.png")
    error = open_error(tmp_path)
    assert "6 images: 2 channels (1, 2) of 16 bits, such as a/0.tif" in error.why
    assert "1 image: 3 channels (red, green, blue) of 16 bits" in error.why and "8-bit color or gray" in error.why
    assert "--data.channels rgb" in error.cure


def test_a_raster_among_many_8_bit_images_is_an_error_of_that_file(tmp_path: Path) -> None:
    for seed in range(40):
        path = tmp_path / "ab"[seed % 2] / f"{seed:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random_pixels(seed, (8, 8, 3), "uint8", 255)).save(path)
    write_raster(tmp_path / "a" / "021.png", random_pixels(1, (3, 8, 8), top=65535))
    source = opened(tmp_path)
    assert source.channels == RGB
    with pytest.raises(SightlineError, match="1 of") as caught:
        decoded(source)
    assert "021.png: it holds 3 channels (red, green, blue) of 16 bits" in caught.value.why


def test_without_rasterio_one_sentence_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "has_rasterio", lambda: False)
    error = open_error(raster_folders(tmp_path))
    assert error.what.startswith("12 of 12 images have other pixels than 8-bit RGB") and error.status == ENVIRONMENT
    assert error.cure == "pip install 'sightline-vision[geo]'"


def test_true_transparency_stays_transparency(tmp_path: Path) -> None:
    for folder in "ab":
        for index in range(2):
            pixels = random_pixels(index, (4, 20, 20), "uint8", 255)
            pixels[3] = np.where(pixels[3] > 40, 255, 0)
            write_raster(tmp_path / folder / f"{index}.tif", pixels)
    source = opened(tmp_path)
    assert source.channels == RGB
    assert opened(tmp_path, channels=("1", "2", "3", "4")).channels.names == ("red", "green", "blue", "4")
    assert opened(tmp_path, channels="rgb").channels == RGB


def test_pixels_of_pairs_without_data_are_ignored(tmp_path: Path) -> None:
    for index in range(4):
        pixels = random_pixels(index, (3, 12, 10 + index), "float32")
        pixels[:, :2] = -9999
        pixels[0, 5] = -9999
        write_raster(tmp_path / "images" / f"{index}.tif", pixels, nodata=-9999)
        mask = np.tile(np.array([0, 1], np.uint8), (12, (11 + index) // 2))[:, : 10 + index]
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
    data = Data(path=str(tmp_path), classes=("land", "water"), val_fraction=0.25)
    source, palette = open_pairs(data, 0)
    said: list[str] = []
    found = decode_pairs(source, "train", palette, data, said.append)
    assert found.images.dtype == np.float32 and found.images.shape[1] == 3 and found.channels.top == 1
    assert found.masks is not None
    assert (found.masks[:, :2] == 255).all() and (found.masks[:, 2:, :10] != 255).all()
    assert found.missing == sum(3 * 2 * width + width for width in found.sizes[:, 1])
    assert any("values of train have no data" in note for note in said)
    again = decode_pairs(source, "train", palette, data, said.append)
    assert again.digest == found.digest and again.missing == found.missing
