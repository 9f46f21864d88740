"""Large TIFF files: reading and writing in windows, the georeference, and no partial files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from sightline import SightlineError
from sightline.data.decode import geotiff
from sightline.data.decode.geotiff import has_windows, loses_georeference, open_scene, write_scene
from sightline.data.decode.images import open_image, planes
from sightline.errors import ENVIRONMENT

PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_650_000)}


def write(path: Path, pixels: np.ndarray, **more: object) -> Path:
    bands, height, width = pixels.shape
    layout = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"} | PLACE | more
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=pixels.dtype, **layout
    ) as file:
        file.write(pixels)
    return path


def noise(bands: int = 3, height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (bands, height, width), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([1, 3, 4]))
def test_any_window_equals_that_part_of_the_image(tmp_path_factory: pytest.TempPathFactory, data, bands) -> None:
    path = write(tmp_path_factory.mktemp("scene") / "a.tif", noise(bands), **({"alpha": "YES"} if bands == 4 else {}))
    whole = planes(open_image(str(path), 10**6))
    top, left = data.draw(st.integers(0, 49)), data.draw(st.integers(0, 69))
    height, width = data.draw(st.integers(1, 50 - top)), data.draw(st.integers(1, 70 - left))
    with open_scene(path) as scene:
        assert (scene.height, scene.width) == (50, 70)
        part = scene.read(top, left, height, width)
    np.testing.assert_array_equal(part, whole[:, top : top + height, left : left + width])


def test_windows_are_written_at_their_positions_with_the_georeference(tmp_path: Path) -> None:
    path, pixels = write(tmp_path / "a.tif", noise()), noise()
    with open_scene(path) as scene, write_scene(tmp_path / "out" / "b.tif", scene, (3,), "uint8") as fill:
        for top, left, height, width in ((0, 0, 20, 70), (20, 0, 30, 33), (20, 33, 30, 37)):
            fill(top, left, pixels[:, top : top + height, left : left + width].transpose(1, 2, 0))
    with rasterio.open(tmp_path / "out" / "b.tif") as found:
        np.testing.assert_array_equal(found.read(), pixels)
        assert found.crs == PLACE["crs"] and found.transform == PLACE["transform"]
    assert os.listdir(tmp_path / "out") == ["b.tif"]


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise())
    with (
        pytest.raises(KeyboardInterrupt),
        open_scene(path) as scene,
        write_scene(tmp_path / "out" / "b.tif", scene, (), "uint8") as fill,
    ):
        fill(0, 0, np.zeros((20, 70), np.uint8))
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_georeferenced_or_large_plain_files_are_read_in_windows(tmp_path: Path) -> None:
    assert has_windows(write(tmp_path / "map.tif", noise()), 10**6)
    plain = write(tmp_path / "plain.tif", noise(), crs=None, transform=None)
    assert not has_windows(plain, 10**6) and has_windows(plain, 3000)
    for name, pixels, more in (
        ("deep.tif", noise().astype(np.uint16), {}),
        ("five.tif", noise(5), {"photometric": "RGB"}),
        ("white.tif", noise(1), {"photometric": "MINISWHITE"}),
        ("slab.tif", noise(height=4000, width=4000), {"blockxsize": 4000, "blockysize": 4000}),
    ):
        assert not has_windows(write(tmp_path / name, pixels, **more), 10**6), name
    with rasterio.open(write(tmp_path / "palette.tif", noise(1)), "r+") as file:
        file.write_colormap(1, {0: (255, 0, 0), 1: (0, 255, 0)})
        assert file.colorinterp == (ColorInterp.palette,)
    assert not has_windows(tmp_path / "palette.tif", 10**6) and loses_georeference(tmp_path / "palette.tif", 10**6)
    assert not loses_georeference(tmp_path / "map.tif", 10**6) and not loses_georeference(plain, 10**6)
    (tmp_path / "torn.tif").write_bytes((tmp_path / "map.tif").read_bytes()[:40])
    (tmp_path / "text.tif").write_text("<VRTDataset rasterXSize='2' rasterYSize='2'></VRTDataset>")
    for name in ("torn.tif", "text.tif", "missing.tif"):
        assert not has_windows(tmp_path / name, 10**6), name


def test_without_rasterio_no_file_is_read_in_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "map.tif", noise())
    monkeypatch.setattr(geotiff, "has_rasterio", lambda: False)
    assert not has_windows(path, 10**6)


def test_damaged_blocks_are_reported_with_their_position(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(height=200, width=200))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    with open_scene(path) as scene, pytest.raises(SightlineError, match="cannot be read") as caught:
        scene.read(0, 0, 200, 200)
    assert caught.value.where == str(path) and "row 0" in caught.value.why and caught.value.cure


def test_missing_files_and_names_that_are_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="cannot be read"), open_scene(tmp_path / "gone.tif"):
        pass
    assert not has_windows(tmp_path / os.fsdecode(b"\xff.tif"), 10**6)


FULL = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from sightline.data.decode.geotiff import Scene, write_scene
from sightline.errors import SightlineError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
scene, noise = Scene(1024, 1024, lambda *window: None, {}), np.random.default_rng(0)
try:
    with write_scene(Path(sys.argv[1]), scene, (), "uint8") as fill:
        for top in range(0, 1024, 256):
            fill(top, 0, noise.integers(0, 256, (256, 1024), dtype=np.uint8))
except SightlineError as error:
    print(error.status, error.what)
"""


def test_a_full_disk_at_closing_leaves_no_mask(tmp_path: Path) -> None:
    """GDAL keeps blocks until it closes the file, and raises no error if they cannot be written then."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "out.tif")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{ENVIRONMENT} cannot write out.tif", result.stderr
    assert os.listdir(tmp_path) == []
