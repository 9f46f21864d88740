"""Large TIFF files window by window: read without decoding the whole, written without holding it, in their place on
the map. Needs rasterio (the extra `geo`); everything else is read by images.py."""

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, TiffImagePlugin

from ...errors import SightlineError
from ...runs.atomic import atomic_path, disk_error
from .images import COPY, ORIENTATION, planes, to_rgb

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

SUFFIXES = (".tif", ".tiff")
CACHE_BYTES = 64 * 2**20
"""GDAL's cache of blocks, which would else take a twentieth of the machine's memory."""
BLOCK = 512


@dataclass(frozen=True)
class Scene:
    """An image that may be larger than memory. read: (top, left, height, width) -> uint8 [3, height, width].

    map: its coordinate system and transform, as rasterio writes them. seen: of the same window, bool [height, width],
    where the image has data: not its nodata value, and not fully transparent. None: everywhere.
    """

    height: int
    width: int
    read: Callable[[int, int, int, int], np.ndarray]
    map: dict[str, Any]
    seen: Callable[[int, int, int, int], np.ndarray] | None = None


def rasterio_is_here() -> bool:
    """Whether large TIFF files can be read window by window."""
    return importlib.util.find_spec("rasterio") is not None


def has_windows(path: Path, max_pixels: int) -> bool:
    """Whether a file is to be read window by window: a plain 8-bit TIFF that lies on a map, or is very large.

    One that is neither, or that cannot be read at all, is left to images.py, which knows every kind of pixel.
    """
    return header_says(path, lambda image: is_windowed(image, max_pixels))


def loses_map(path: Path, max_pixels: int) -> bool:
    """Whether a TIFF file lies on a map that its mask will not keep, because it is not of a kind that has windows."""
    return header_says(path, lambda image: image.crs is not None and not is_windowed(image, max_pixels))


def header_says(path: Path, question: Callable[["DatasetReader"], bool]) -> bool:
    """The answer to a question about a TIFF file; no where it is none, or rasterio cannot open it."""
    if path.suffix.lower() not in SUFFIXES or not rasterio_is_here():
        return False
    try:
        with opened(path) as image:
            return question(image)
    except (OSError, UnicodeEncodeError):  # GDAL takes no names that are not UTF-8
        return False


def is_windowed(image: "DatasetReader", max_pixels: int) -> bool:
    """`has_windows` of an open file."""
    mapped = image.crs is not None or not image.transform.is_identity
    return (mapped or image.width * image.height > max_pixels) and is_plain(image, max_pixels)


def is_plain(image: "DatasetReader", max_pixels: int) -> bool:
    """Whether bands are gray, RGB or RGBA, in blocks of at most `max_pixels`, for a block is decoded whole, and the
    first row is the top: GDAL takes no notice of an orientation, and images.py does."""
    from rasterio.enums import ColorInterp

    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    kinds = [(ColorInterp.gray,), colors, (*colors, ColorInterp.alpha)]
    blocks = all(height * width <= max_pixels for height, width in image.block_shapes)
    plain = tuple(image.colorinterp) in kinds and set(image.dtypes) == {"uint8"} and blocks
    return plain and orientation(Path(image.name)) == 1


def orientation(path: Path) -> int:
    """The orientation that a TIFF file's header states, 1 to 8; 1: none, the first row is the top."""
    with open(path, "rb") as file:
        head = file.read(8)
        directory = TiffImagePlugin.ImageFileDirectory_v2(head + (file.read(8) if 43 in head[2:4] else b""))
        file.seek(directory.next)
        directory.load(file)
    return int(directory.get(ORIENTATION, 1))


@contextlib.contextmanager
def opened(path: Path) -> Generator["DatasetReader"]:
    """The TIFF file `path`. No other format of GDAL's is tried: some of them open files that a file names."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_PAM_ENABLED=False):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver="GTiff") as image:
            yield image


@contextlib.contextmanager
def open_scene(path: Path) -> Generator[Scene]:
    """A file that `has_windows`. SightlineError naming it where a part of it cannot be read."""

    def refused(error: OSError, place: str = "") -> SightlineError:
        why = f"{place}{error.__cause__ or error}"
        return SightlineError("this image cannot be read", where=str(path), why=why, cure=COPY)

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        try:
            pixels = image.read(window=((top, top + height), (left, left + width)))
        except OSError as error:
            raise refused(error, f"the pixels from row {top:,} and column {left:,} on: ") from error
        return on_white(pixels) if len(pixels) == 4 else pixels if len(pixels) == 3 else np.repeat(pixels, 3, axis=0)

    def seen(top: int, left: int, height: int, width: int) -> np.ndarray:
        try:
            return image.dataset_mask(window=((top, top + height), (left, left + width))) > 0
        except OSError as error:
            raise refused(error, f"the pixels from row {top:,} and column {left:,} on: ") from error

    with contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(opened(path))
        except OSError as error:
            raise refused(error) from error
        place = {"crs": image.crs, "transform": image.transform}
        yield Scene(image.height, image.width, read, place, seen if has_gaps(image) else None)


def has_gaps(image: "DatasetReader") -> bool:
    """Whether a file says that some of its pixels have no data."""
    from rasterio.enums import MaskFlags

    return any(MaskFlags.all_valid not in flags for flags in image.mask_flag_enums)


def on_white(pixels: np.ndarray) -> np.ndarray:
    """RGBA uint8 [4, h, w] as RGB [3, h, w], as images.py has it."""
    return planes(to_rgb(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))))


@contextlib.contextmanager
def write_scene(path: Path, scene: Scene, shape: tuple[int, ...], dtype: str) -> Generator[Callable[..., None]]:
    """A function (top, left, pixels [h, w, ...]) that fills the TIFF file `path`, of the scene's size and place.

    shape: of one pixel, () or (3,). The file appears when it is complete. SightlineError where it cannot be written.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    layout = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    size = {"height": scene.height, "width": scene.width, "count": int(np.prod(shape, dtype=int)), "dtype": dtype}
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with (
            rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_PAM_ENABLED=False),
            rasterio.open(temporary, "w", driver="GTiff", **size, **layout, **scene.map) as file,
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
    """OSError where a block of a TIFF file is not whole: what GDAL cannot write at the end, it only logs."""
    with opened(path) as file:
        for _, window in file.block_windows(1):
            file.read(window=window)
