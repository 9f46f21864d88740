"""Images with other channels than RGB, written with rasterio: tiles in the manner of Sentinel-2, and RGB with near
infrared."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio import Affine

BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
"""The bands of Sentinel-2's product L2A."""
NIR = 7
COLORS = ("red", "green", "blue", "nir")


def write_bands(path: Path, pixels: np.ndarray, names: tuple[str, ...] = BANDS, **options: Any) -> Path:
    """Write [C, H, W] as a TIFF file with coordinates and named bands. options: of GDAL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": str(pixels.dtype)}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500000, 0, -10, 5200000)}
    with rasterio.open(path, "w", driver="GTiff", **size, **place, **{"photometric": "MINISBLACK"} | options) as file:
        file.write(pixels)
        if names:
            file.descriptions = names
    return path


def land(seed: int, size: int = 16, forest: np.ndarray | bool = True) -> np.ndarray:
    """A tile with the 12 BANDS, uint16 [12, size, size]: reflectances times 10,000. Forest and water look alike in all
    bands but the near infrared. forest: bool [size, size] or one value."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(900, 120, (12, size, size))
    pixels[NIR] = np.where(forest, 3400, 500) + rng.normal(0, 150, (size, size))
    return pixels.clip(1, 10000).round().astype(np.uint16)


def make_tiles(folder: Path, count: int = 12, size: int = 16) -> Path:
    """A folder with `count` tiles of each of the classes `forest` and `water`."""
    for index in range(count):
        for name in ("forest", "water"):
            write_bands(folder / name / f"{index}.tif", land(2 * index + (name == "water"), size, name == "forest"))
    return folder


def make_four_channels(folder: Path, count: int = 12, size: int = 16) -> Path:
    """As `make_tiles`, as uint8 images of red, green, blue and near infrared."""
    for index in range(count):
        for name in ("forest", "water"):
            pixels = land(2 * index + (name == "water"), size, name == "forest")[[3, 2, 1, NIR]]
            write_bands(folder / name / f"{index}.tif", (pixels // 20).clip(0, 255).astype(np.uint8), COLORS)
    return folder


def make_land_pairs(folder: Path, count: int = 8, size: int = 32) -> Path:
    """Pairs of a tile with 12 bands and a mask: 1 for forest, 0 for water."""
    for index in range(count):
        forest = np.add.outer(np.arange(size), np.arange(size) * (index % 3 - 1)) > size // 2
        write_bands(folder / "images" / f"{index}.tif", land(index, size, forest))
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(forest.astype(np.uint8)).save(folder / "masks" / f"{index}.png")
    return folder
