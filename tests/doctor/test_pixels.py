"""What the doctor finds and prints about pixels; GDAL (through rasterio) writes the files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from raster_toys import random_pixels, raster_folders, write_raster


def printed(root: Path, out: Path, capsys: pytest.CaptureFixture[str], **settings: object) -> tuple[dict, str]:
    """The findings by kind, and what was printed."""
    found = sightline.doctor(root, out=out, **settings)
    return {finding.kind: finding for finding in found.findings}, capsys.readouterr().out


def test_channels_bits_and_values_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, text = printed(raster_folders(tmp_path / "data"), tmp_path / "out", capsys)
    assert not found
    assert "12 channels (B01, B02, B03, B04, ...) of 16 bits; values 0 to 3,921 (12 bits are used); TIFF" in text


@pytest.mark.parametrize("count", [4, 20])  # with 20, the odd file is not among the sampled headers
def test_images_of_other_channels_are_an_error_with_counts(
    tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    root = raster_folders(tmp_path / "data", count, names=("1", "2"))
    write_raster(root / "a" / "2x.tif", random_pixels(1, (3, 20, 24)), ("1", "2", "3"))
    Image.new("RGB", (24, 20)).save(root / "b" / "3x.png")
    found, text = printed(root, tmp_path / "out", capsys)
    assert found["other_pixels"].severity == "error"
    assert set(found["other_pixels"].files) == {"a/2x.tif", "b/3x.png"}
    assert f"{2 * count} images: 2 channels (1, 2) of 16 bits; 1 image: " in found["other_pixels"].why
    assert "unreadable" not in found and "becomes 255" not in text
    assert "other_pixels" not in printed(root, tmp_path / "out", capsys, **{"data.channels": "rgb"})[0]


def test_images_that_differ_in_a_channel_that_is_not_shown_are_no_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(4):
        pixels = np.concatenate([random_pixels(1, (3, 20, 20)), random_pixels(index, (1, 20, 20))])
        write_raster(tmp_path / "data" / "ab"[index % 2] / f"{index}.tif", pixels, ("red", "green", "blue", "nir"))
    found, _ = printed(tmp_path / "data", tmp_path / "out", capsys)
    assert not {"duplicate", "conflicting_labels"} & {*found}


def test_missing_data_are_printed_and_empty_images_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(6):
        pixels = random_pixels(index, (2, 20, 20), "float32")
        pixels[:, : 19 if index == 5 else 1] = -9999
        write_raster(tmp_path / "data" / "ab"[index % 2] / f"{index}.tif", pixels, nodata=-9999)
    found, text = printed(tmp_path / "data", tmp_path / "out", capsys)
    assert found["no_data"].files == ("b/5.tif",) and "95% without data" in text
    assert "of 32-bit float; values -" in text and "20.0% without data" in text
