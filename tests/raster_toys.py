"""Rasters written by GDAL, through rasterio, for the tests of images with other pixels than 8-bit RGB."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

SENTINEL = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


def write_raster(path: Path, pixels: np.ndarray, names: tuple[str, ...] = (), **options: Any) -> Path:
    """Write pixels [C, H, W] as GDAL does; options: of the driver. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
        with rasterio.open(path, "w", driver=driver, **shape, **options) as file:
            file.write(pixels)
            if names:
                file.descriptions = names
    return path


def random_pixels(seed: int, shape: tuple[int, int, int], dtype: str = "uint16", top: int = 3921) -> np.ndarray:
    """Random pixels; integers from 0 to `top`, floats from a normal distribution."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.normal(0, 5, shape).astype(dtype)
    low = -top if dtype.startswith("int") else 0
    pixels = rng.integers(low, min(top, np.iinfo(dtype).max) + 1, shape)
    pixels[0, 0, 0] = min(top, np.iinfo(dtype).max)
    return pixels.astype(dtype)


def raster_folders(root: Path, count: int = 6, names: tuple[str, ...] = SENTINEL, **options: Any) -> Path:
    """Two class folders `a` and `b` with `count` rasters each of 12 bits; options: of `random_pixels`."""
    for label, folder in enumerate("ab"):
        for index in range(count):
            pixels = random_pixels(10 * index + label, (len(names), 20, 24), **options)
            write_raster(root / folder / f"{index}.tif", pixels, names)
    return root
