"""Read the image files of a data set: 8-bit images with Pillow, files with more bits or channels (`kinds.py`) with
rasterio, and each only if it holds what the set holds."""

import contextlib
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import ENVIRONMENT, SightlineError
from ..channels import RGB, Channels, shown_channels
from .crash_guard import record_decoding
from .faults import TooLarge, image_error
from .geotiff import GEO, band_values, has_rasterio, opened
from .images import decode_rgb, open_image, planes, to_rgb
from .kinds import PLAIN, FileHeader, Kind, Raster, file_header, header_like

CONVERT = "--data.channels rgb"
MOST_CHANNELS = 16
"""Largest number of channels of an image of `max_pixels` pixels, such as all of Sentinel-2; smaller images may have
more. All channels of a file count, because GDAL decodes blocks with all of them even to read one."""


@dataclass(frozen=True)
class Reading:
    """How the image files of a data set are read.

    channels: of the images that are returned; 8-bit RGB is returned as images of Pillow, anything else as `Raster`.
    kind: what every file must hold; None: anything, converted to 8-bit RGB. picked: indices of the file's channels;
    empty: all. alpha_is_channel: whether samples that are tagged as transparency are channels.
    """

    channels: Channels = RGB
    kind: Kind | None = PLAIN
    picked: tuple[int, ...] = ()
    alpha_is_channel: bool = False

    def read(self, path: str, max_pixels: int, side: int = 0) -> Image.Image | Raster:
        """Decode an image file; `side` as for `images.open_image`. Raises SightlineError, which names the path, if the
        file is damaged or of another kind, and of status ENVIRONMENT if rasterio is needed and missing."""
        header = file_header(path, self.alpha_is_channel)
        if header is not None and self.kind is not None and header.kind != self.kind:
            raise other_kind(path, header.kind, self.kind)
        if header is None or header.kind.plain:
            image = open_image(path, max_pixels, side)
            if header is None and self.kind not in (None, PLAIN):
                raise image_error(path, ValueError("its header is damaged"))
            return Raster(planes(image)[list(self.picked)]) if self.picked else image
        if not has_rasterio():  # no fault of this image, so it must not become one of the unreadable images
            why = f"it holds {header.kind}, which rasterio reads, and rasterio is not installed"
            raise SightlineError("this image cannot be read", where=path, why=why, cure=GEO, status=ENVIRONMENT)
        if self.kind is None:
            return read_as_rgb(path, header, max_pixels, self.channels.deep)
        return read_raster(path, header, max_pixels, self.picked)


def read_for(path: str, channels: Channels, max_pixels: int, side: int = 0) -> Image.Image | Raster:
    """Decode an image file to the channels of a trained model; `side` as for `images.open_image`. Raises SightlineError
    if the file lacks one of them or has other numbers."""
    return reading_for(path, channels).read(path, max_pixels, side)


def reading_for(path: str, channels: Channels) -> Reading:
    """How to read a file so that it has the channels of a trained model, by name. Raises SightlineError as `read_for`;
    a damaged file is reported when it is read."""
    header = header_like(path, channels)
    kind = PLAIN if header is None else header.kind
    if channels.plain and (kind.plain or not channels.opaque):
        has_colors = kind.number == "uint8" and {*channels.names} <= {*kind.names}
        if not has_colors and not channels.deep:
            raise other_kind(path, kind, PLAIN, model=True)
        return Reading(channels, None)
    trained = Kind(False, channels.names, channels.dtype)
    if header is None:
        return Reading(channels, trained)
    usual = kind.number if kind.number in ("uint8", "uint16") else "float32"
    if usual != channels.dtype or not {*channels.names} <= {*kind.names}:
        raise other_kind(path, kind, trained, model=True)
    picked = tuple(kind.names.index(name) for name in channels.names)
    return Reading(channels, kind, picked, not header.alpha)


def other_kind(path: str, found: Kind, usual: Kind, model: bool = False) -> SightlineError:
    """The SightlineError for a file that does not hold what the other files of the data set hold, or with `model` the
    images on which a model was trained."""
    cure = f"convert it or remove it; or convert all images to 8-bit RGB: {CONVERT}"
    cure = "give images like those that the model was trained on" if model else cure
    why = f"it holds {found}, and {'the model was trained on' if model else 'the other images hold'} {usual}"
    return SightlineError("this image cannot be used", where=path, why=why, cure=cure)


def read_raster(path: str, header: FileHeader, max_pixels: int, picked: tuple[int, ...] = ()) -> Raster:
    """Read the channels `picked` (all if empty) of a file that Pillow cannot hold. Values without data, by the file's
    NoData value or mask, its transparency, or because they are not finite, are 0. Raises SightlineError."""
    try:
        pixels, missing, alpha = stored_pixels(path, header, max_pixels, picked)
        if alpha is not None:
            if ((alpha > 0) & (alpha < alpha.max())).any():
                cure = f"to put it on white, as 8-bit RGB: {CONVERT}"
                raise SightlineError("it is partly transparent, and has more than 8 bits", cure=cure)
            missing |= alpha == 0
    except Exception as error:  # GDAL raises several types, always because of the file
        raise image_error(path, error) from error
    pixels[missing] = 0
    count = int(missing.sum())
    return Raster(pixels, np.all(missing, axis=0) if count else None, count)


def read_as_rgb(path: str, header: FileHeader, max_pixels: int, top: float) -> Image.Image:
    """Read a file that Pillow cannot hold as 8-bit RGB. `top`, of floats 1.0, becomes 255; transparency is put on
    white."""
    try:
        chosen = tuple(dict.fromkeys(shown_channels(header.kind.names)))  # a gray image has one
        pixels, missing, alpha = stored_pixels(path, header, max_pixels, chosen)
        pixels[missing] = 0
        most = 1.0 if header.kind.number.startswith("float") else 255.0 if header.kind.number == "uint8" else top
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= most):
            cure = "scale its values, remove it, or read its values as they are: --data.channels auto"
            raise SightlineError(f"its values are {low:g} to {high:g}; only 0 to {most:g} can become 8 bits", cure=cure)
        shades = [Image.fromarray(np.rint(plane * (255 / most)).astype(np.uint8)) for plane in pixels]
        image = Image.merge("RGB", shades * (3 // len(shades)))
        if alpha is not None:
            image.putalpha(Image.fromarray(np.rint(alpha * (255 / max(1, alpha.max()))).astype(np.uint8)))
        return to_rgb(image)
    except Exception as error:  # as above
        raise image_error(path, error) from error


def stored_pixels(
    path: str, header: FileHeader, max_pixels: int, picked: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Read a file with rasterio: (pixels uint8, uint16 or float32 [C, H, W], bool [C, H, W] where there are no data,
    the transparency [H, W] or None). Errors are those of rasterio."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise SightlineError("this path is not a regular file", cure="remove it from the data")
    height, width = header.size
    count, size = len(header.kind.names), f"{width:,} x {height:,}"
    if width * height > max_pixels:
        raise TooLarge(f"{size} pixels", max_pixels)
    if width * height * (count + header.alpha) > MOST_CHANNELS * max_pixels:
        raise TooLarge(f"{size} x {count:,} values", max_pixels, MOST_CHANNELS)
    if header.fault:
        raise SightlineError(header.fault, cure="convert it to RGB or gray, or remove it")
    with record_decoding(path), readable(path, header.driver) as image:
        stored = (width, height) if header.orientation >= 5 else (height, width)
        if image.count != count + header.alpha or image.shape != stored:
            raise ValueError("its tags contradict each other")
        bands = [index + 1 for index in picked] or list(range(1, count + 1))
        pixels, missing = band_values(image, bands)
        alpha = image.read(count + 1) if header.alpha else None
    most = int(pixels.max(where=~missing, initial=0)) if header.bits else 0
    if header.bits and most >= 2**header.bits:
        cure = "remove the wrong tag: tiffset -u 281 FILE"
        raise SightlineError(f"it has values up to {most:,}, and {header.bits} bits by its tags", cure=cure)
    pixels, missing = (upright_planes(part, header.orientation) for part in (pixels, missing))
    return pixels, missing, None if alpha is None else upright_planes(alpha[None], header.orientation)[0]


@contextlib.contextmanager
def readable(path: str, driver: str):
    """Context manager: open a file with rasterio. Errors have the cause that GDAL names."""
    from rasterio.errors import RasterioIOError

    try:
        with opened(Path(path), driver) as image:
            yield image
    except RasterioIOError as error:
        raise OSError(str(error.__cause__ or error)) from error


def upright_planes(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror [C, H, W] by an EXIF orientation, 1 to 8."""
    pixels = pixels.swapaxes(1, 2) if orientation >= 5 else pixels
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:, :: -1 if rows else 1, :: -1 if columns else 1])


if __name__ == "__main__":  # the subprocess of `crash_guard.crash_of`
    found = file_header(sys.argv[1])
    for shortest in (0, 224):
        with contextlib.suppress(Exception):
            if found is None or found.kind.plain:
                decode_rgb(sys.argv[1], 2**27, shortest, None)
            else:
                stored_pixels(sys.argv[1], found, 2**27, ())
