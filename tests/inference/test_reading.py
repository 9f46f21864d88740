"""Uploads are decoded in memory, or read from a temporary file that is removed."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raster_toys import random_pixels, write_raster
from sightline import SightlineError
from sightline.data.channels import RGB, Channels
from sightline.data.decode.images import planes
from sightline.inference import reading
from sightline.inference.reading import read_upload

BANDS = Channels(("a", "b", "c", "d"), "uint16", 4095.0)


@pytest.mark.parametrize("name", ["image.png", "image.tif", "image.jpg"])
def test_8_bit_images_are_decoded_in_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    Image.fromarray(random_pixels(0, (20, 24, 3), "uint8", 255)).save(path)
    expected = planes(reading.read_for(str(path), RGB, 10_000))
    for kind in ("TemporaryDirectory", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, kind, None)
    np.testing.assert_array_equal(planes(read_upload(path.read_bytes(), RGB, 10_000)), expected)
    with pytest.raises(SightlineError) as caught:
        read_upload(path.read_bytes()[:30], RGB, 10_000)
    assert not caught.value.where


def test_a_raster_is_in_a_closed_file_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, a file of `tempfile` that is still open cannot be opened by its name."""
    pixels = random_pixels(0, (4, 20, 24))
    path = write_raster(tmp_path / "image.tif", pixels, BANDS.names)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", None)
    np.testing.assert_array_equal(planes(read_upload(path.read_bytes(), BANDS, 10_000)), pixels)
    with pytest.raises(SightlineError) as caught:
        read_upload(path.read_bytes(), RGB, 10_000)
    assert not caught.value.where and not list((tmp_path / "temporary").iterdir())
