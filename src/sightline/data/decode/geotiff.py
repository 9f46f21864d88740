"""Read large TIFF files in windows, and write masks in windows with the same georeference. Requires rasterio (the
extra `geo`). Files that are not read in windows are read by decode/images.py."""

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from ...errors import SightlineError
from ...runs.atomic import atomic_path, disk_error
from .faults import COPY
from .images import ORIENTATION, planes, to_rgb
from .kinds import tiff_tags

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

SUFFIXES = (".tif", ".tiff")
GEO = "pip install 'sightline-vision[geo]'"
CACHE_BYTES = 64 * 2**20
"""Size of GDAL's block cache; its default is 5 % of the memory."""
BLOCK = 512

# The filter is set once, because `warnings.catch_warnings` is not safe in the threads that decode images.
warnings.filterwarnings("ignore", message="Dataset has no geotransform")

Window = tuple[tuple[int, int], tuple[int, int]]
"""(first row, row after the last), (first column, column after the last)."""


@dataclass(frozen=True)
class Scene:
    """An image that may be larger than memory, read in windows.

    read: function (top, left, height, width) -> pixels [C, height, width] of a window, uint8 for RGB. valid: function
    (top, left, height, width) -> bool [height, width], False for nodata values and fully transparent pixels; None if
    all pixels are valid. georeference: coordinate system and transform, as arguments of rasterio.
    """

    height: int
    width: int
    read: Callable[[int, int, int, int], np.ndarray]
    georeference: dict[str, Any]
    valid: Callable[[int, int, int, int], np.ndarray] | None = None

    @classmethod
    def of_array(cls, image: np.ndarray) -> Self:
        """The scene of an image [C, H, W] in memory."""

        def read(top: int, left: int, height: int, width: int) -> np.ndarray:
            return image[:, top : top + height, left : left + width]

        return cls(*image.shape[1:], read=read, georeference={})


def has_rasterio() -> bool:
    """Whether rasterio is installed."""
    return importlib.util.find_spec("rasterio") is not None


def has_windows(path: Path, max_pixels: int, rgb: bool = True) -> bool:
    """Whether to read a file in windows: a TIFF with a georeference or more than `max_pixels` pixels. rgb: whether to
    read it as 8-bit RGB."""
    return check_header(path, lambda image: is_windowed(image, max_pixels, rgb))


def loses_georeference(path: Path, max_pixels: int, rgb: bool = True) -> bool:
    """Whether a TIFF has a coordinate system but is not read in windows, so that its mask will lack it."""
    return check_header(path, lambda image: image.crs is not None and not is_windowed(image, max_pixels, rgb))


def check_header(path: Path, predicate: Callable[["DatasetReader"], bool]) -> bool:
    """Open a TIFF file and return predicate(file); False for other files and for those that rasterio cannot open."""
    if path.suffix.lower() not in SUFFIXES or not has_rasterio():
        return False
    try:
        with opened(path) as image:
            return predicate(image)
    except (OSError, UnicodeEncodeError):  # GDAL opens only paths in UTF-8
        return False


def is_windowed(image: "DatasetReader", max_pixels: int, rgb: bool) -> bool:
    """Whether an opened TIFF file can and should be read in windows.

    It should if it is georeferenced or has more than `max_pixels` pixels. It can if it has blocks of at most
    `max_pixels` and orientation 1 (GDAL ignores the orientation), and to be read as `rgb`, if it is uint8 gray, RGB or
    RGBA.
    """
    from rasterio.enums import ColorInterp

    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    kinds = [(ColorInterp.gray,), colors, (*colors, ColorInterp.alpha)]
    mapped = image.crs is not None or not image.transform.is_identity
    blocks = all(height * width <= max_pixels for height, width in image.block_shapes)
    fits = not rgb or (tuple(image.colorinterp) in kinds and set(image.dtypes) == {"uint8"})
    return (
        (mapped or image.width * image.height > max_pixels) and fits and blocks and orientation(Path(image.name)) == 1
    )


def orientation(path: Path) -> int:
    """The orientation in the header of a TIFF file, 1 (upright) to 8."""
    with open(path, "rb") as file:
        return int(tiff_tags(file).get(ORIENTATION, 1))


@contextlib.contextmanager
def environment() -> Generator[None]:
    """Context manager: configure GDAL: a limited cache, no sidecar files."""
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_PAM_ENABLED=False):
        yield


@contextlib.contextmanager
def opened(path: Path, driver: str = "GTiff") -> Generator["DatasetReader"]:
    """Context manager: open a TIFF file. Other GDAL drivers are excluded, because some open further files. driver: that
    of another format."""
    import rasterio

    with environment(), rasterio.open(path, driver=driver) as image:
        yield image


@contextlib.contextmanager
def open_scene(path: Path, bands: Sequence[int] = (), alpha: int = 0) -> Generator[Scene]:
    """Context manager: open a GeoTIFF to read windows of it. Opening and reading raise SightlineError if the file,
    or the part that is read, is unreadable.

    bands: numbers of the bands to read with their own values; none: convert to RGB. alpha: that of the transparency."""

    @contextlib.contextmanager
    def reported(part: str = "") -> Generator[None]:
        try:
            yield
        except OSError as error:
            why = f"{part}{error.__cause__ or error}"
            raise SightlineError("this image cannot be read", where=str(path), why=why, cure=COPY) from error

    def values_of(window: Window) -> tuple[np.ndarray, np.ndarray]:
        pixels, missing = band_values(image, bands, window)
        if alpha:
            missing |= image.read(alpha, window=window) == 0
        pixels[missing] = 0  # as in the cache
        return pixels, missing

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        with reported(f"pixels from row {top:,} and column {left:,}: "):
            if bands:
                return values_of(((top, top + height), (left, left + width)))[0]
            pixels = image.read(window=((top, top + height), (left, left + width)))
        return on_white(pixels) if len(pixels) == 4 else pixels if len(pixels) == 3 else np.repeat(pixels, 3, axis=0)

    def valid(top: int, left: int, height: int, width: int) -> np.ndarray:
        with reported(f"pixels from row {top:,} and column {left:,}: "):
            if bands:
                return np.invert(values_of(((top, top + height), (left, left + width)))[1].min(0))
            return image.dataset_mask(window=((top, top + height), (left, left + width))) > 0

    with contextlib.ExitStack() as stack:
        with reported():
            image = stack.enter_context(opened(path))
        georeference = {"crs": image.crs, "transform": image.transform}
        yield Scene(image.height, image.width, read, georeference, valid if bands or has_nodata(image) else None)


def band_values(
    image: "DatasetReader", bands: Sequence[int], window: Window | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read bands of a file or of a window: (pixels uint8, uint16 or float32 [C, h, w], bool [C, h, w] where there are
    no data by the file's NoData value or mask, or because a value is not finite)."""
    from rasterio.enums import MaskFlags

    pixels, flags = image.read(list(bands), window=window), image.mask_flag_enums[0]
    with np.errstate(over="ignore"):
        pixels = pixels if pixels.dtype in (np.uint8, np.uint16) else pixels.astype(np.float32)
        missing = ~np.isfinite(pixels)
        for index, band in enumerate(bands):
            value = image.nodatavals[band - 1]
            if value is not None:
                missing[index] |= pixels[index] == value
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        missing |= image.dataset_mask(window=window) == 0
    return pixels, missing


def has_nodata(image: "DatasetReader") -> bool:
    """Whether a file has a nodata value, a mask or transparency, by which pixels can be marked as without data."""
    from rasterio.enums import MaskFlags

    return any(MaskFlags.all_valid not in flags for flags in image.mask_flag_enums)


def on_white(pixels: np.ndarray) -> np.ndarray:
    """Composite RGBA uint8 [4, h, w] on white; returns RGB uint8 [3, h, w]."""
    return planes(to_rgb(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))))


@contextlib.contextmanager
def write_scene(path: Path, scene: Scene, shape: tuple[int, ...], dtype: str) -> Generator[Callable[..., None]]:
    """Context manager: write a TIFF file in windows, with the size and georeference of `scene`.

    Yields a function (top, left, pixels [h, w, *shape]) that writes a window. shape: () for one band, (3,) for three.
    The file is renamed to `path` when complete. Raises SightlineError if it cannot be written.
    """
    import rasterio

    layout = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    size = {"height": scene.height, "width": scene.width, "count": int(np.prod(shape, dtype=int)), "dtype": dtype}
    with atomic_path(path) as temporary:
        with (
            environment(),
            rasterio.open(temporary, "w", driver="GTiff", **size, **layout, **scene.georeference) as file,
        ):

            def write(top: int, left: int, pixels: np.ndarray) -> None:
                height, width = pixels.shape[:2]
                bands = pixels.reshape(height, width, -1).transpose(2, 0, 1)
                try:
                    file.write(bands, window=((top, top + height), (left, left + width)))
                except OSError as error:
                    raise disk_error(path, OSError(str(error.__cause__ or error))) from error

            yield write
        read_back(temporary)


def read_back(path: Path) -> None:
    """Read all blocks of a written TIFF file; OSError if one is damaged. This is needed because GDAL only logs an
    error if a write fails while the file is closed."""
    with opened(path) as file:
        for _, window in file.block_windows(1):
            file.read(window=window)
