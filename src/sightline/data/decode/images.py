"""Decode image files to 8-bit RGB with Pillow, by fixed rules.

In this order: take the first frame of animations and multi-page files; rotate by the EXIF orientation (damaged entries
are ignored); composite transparency on white; convert to 8-bit RGB. Color profiles are not applied.
"""

import contextlib
import io
import os
import stat
import struct
import warnings
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps

from ...config.schema import Data
from ...errors import SightlineError
from ..channels import Channels
from .crash_guard import record_decoding
from .faults import TooLarge, image_error
from .formats import FORMATS
from .kinds import ORIENTATION, Raster, header_of

VERSION = 2
"""Version of the decoding, part of the names of cache entries. Increment it whenever the decoded pixels change."""
DRAFT_FACTOR = 2
"""A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size if the result still has at least this many times the
requested side. Measured for 3000x2000 pixels of 1/f noise to 224x224: 35 instead of 51 ms, mean difference 0.46 of
255 levels."""
REDUCING_GAP = 3.0
"""Argument of Pillow's `resize`: reduce large images by box averaging first. With 3, the result is nearly unchanged."""
SWAPPED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
EXIF_DAMAGED = "torn_exif"
"""Key that decoding adds to the `info` of an image if its EXIF block is damaged."""
EXIF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value in an EXIF block, by the number of its type (TIFF 6.0)."""
# Pillow's warnings have no path. Its warning for sizes between one and two times its limit becomes an error, which is
# reported with the path; warnings on damaged metadata are ignored, because metadata is not used. The filters are set
# once, because they are global to the process and images are decoded in threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass
class Header:
    """Properties of an image file.

    size: width and height as stored. frames: number of frames or pages. orientation: by EXIF, 1 to 8. damaged_exif:
    whether the EXIF block is damaged.
    """

    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    transparent: bool = False
    frames: int = 1
    orientation: int = 1
    damaged_exif: bool = False

    def update_from(self, image: ImageFile.ImageFile) -> None:
        """Set all fields except `orientation` and `damaged_exif` from an opened, not yet decoded image."""
        self.format, self.mode, self.size = image.format or "", image.mode, image.size
        self.transparent = image.has_transparency_data
        if image.format in ("GIF", "TIFF", "WEBP", "PNG"):  # further frames of an MPO file are previews
            self.frames = getattr(image, "n_frames", 1)


def open_image(path: str, max_pixels: int, side: int = 0, header: Header | None = None) -> Image.Image:
    """Decode an image file to 8-bit RGB. header: if given, its fields are set.

    With `side` > 0, a JPEG file may be decoded at a reduced size of at least DRAFT_FACTOR * side in both dimensions.
    Raises SightlineError, which names the path, if the file is damaged or has more than `max_pixels` pixels.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SightlineError("this path is not a regular file", cure="remove it from the data")
        with record_decoding(path):
            return decode_rgb(path, max_pixels, side, header)
    except Exception as error:  # decoders raise many types, always because of the file
        raise image_error(path, error) from error


def image_of(content: bytes, where: str, max_pixels: int, side: int = 0) -> Image.Image:
    """Decode an 8-bit image that is stored in another file, given as bytes; arguments and errors as of `open_image`."""
    try:
        header = header_of(io.BytesIO(content))
        if header is not None and not header.kind.plain:
            cure = "train on image files in folders"
            raise SightlineError(f"it holds {header.kind}; only 8-bit images are read from such files", cure=cure)
        return decode_rgb(io.BytesIO(content), max_pixels, side, None)
    except Exception as error:  # as above
        raise image_error(where, error, content) from error


def image_in(content: bytes, max_pixels: int, side: int = 0) -> Image.Image:
    """Decode an uploaded image, given as the bytes of its file, to 8-bit RGB; arguments as in `open_image`. Errors
    are SightlineError without a path, with a cure that addresses the sender of the image."""
    try:
        return decode_rgb(io.BytesIO(content), max_pixels, side, None)
    except Exception as error:  # as above
        raise upload_error(content, error) from error


def size_in(content: bytes) -> tuple[int, int]:
    """(height, width) of an uploaded image after its EXIF rotation, read from its header; errors as in `image_in`."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return upright_size(image)
    except Exception as error:  # as above
        raise upload_error(content, error) from error


def upload_error(content: bytes, error: Exception, formats: str = ", as PNG or JPEG") -> SightlineError:
    """The SightlineError for an uploaded file that cannot be decoded: no path, no settings, and a cure for the sender.
    formats: what to send if the image is not too large."""
    problem = image_error("", error, content)
    large = isinstance(error, TooLarge | Image.DecompressionBombError | Image.DecompressionBombWarning)
    cure = "send a smaller image" if large else f"send the image again, or another one{formats}"
    return SightlineError(problem.what, why=error.upload if isinstance(error, TooLarge) else problem.why, cure=cure)


def raise_pillow_limit(max_pixels: int) -> None:
    """Increase Pillow's global limit on the pixels of an image to `max_pixels`. It is never decreased."""
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(max_pixels, Image.MAX_IMAGE_PIXELS)


def decode_rgb(source: str | io.BytesIO, max_pixels: int, side: int, header: Header | None) -> Image.Image:
    """Decode an image file, or its bytes, to RGB; arguments as in `open_image`. Errors are those of Pillow."""
    raise_pillow_limit(max_pixels)
    with Image.open(source, formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise TooLarge(f"{width:,} x {height:,} pixels", max_pixels)
        if header is not None:
            header.update_from(image)
        if side:
            image.draft(None, (DRAFT_FACTOR * side, DRAFT_FACTOR * side))
        image.load()
        block = image.info.get("exif")
        damaged_exif = isinstance(block, bytes) and bool(block) and is_exif_damaged(block)
        if header is not None:
            header.orientation, header.damaged_exif = exif_orientation(image), damaged_exif
        rgb = to_rgb(upright(image))
        rgb.info[EXIF_DAMAGED] = damaged_exif
        return rgb


def upright(image: Image.Image) -> Image.Image:
    """Rotate an opened image by its EXIF orientation, in place; ignore a damaged EXIF block. TIFF files are left
    unchanged here, because Pillow rotates them itself."""
    with contextlib.suppress(Exception):  # the parser raises many types for a damaged block; the pixels are intact
        ImageOps.exif_transpose(image, in_place=True)
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) that an opened image has after the rotation by its EXIF orientation."""
    swapped = image.format != "TIFF" and exif_orientation(image) in SWAPPED  # for TIFF files `size` is the rotated size
    return image.size if swapped else image.size[::-1]


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 (upright) if the EXIF block is damaged."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # as above
        return 1


def is_exif_damaged(block: bytes) -> bool:
    """Whether the first directory of an EXIF block, or a value in that, extends beyond the end of the block."""
    content = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4], "")
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        entries = [struct.unpack_from(f"{order}HHII", content, start + 2 + 12 * index) for index in range(count)]
    except struct.error:
        return True
    sizes = [(EXIF_SIZES.get(kind, 0) * values, offset) for _, kind, values, offset in entries]
    return not order or any(size > 4 and offset + size > len(content) for size, offset in sizes)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    Transparency (RGBA, LA, PA, palette or color key) is composited on white. 16-bit gray is divided by 257 and rounded,
    not clipped. Values of mode I (32-bit) must be 0 to 65535 and are treated as 16-bit; values of mode F must be 0 to 1
    and are multiplied by 255. Pillow converts CMYK and Lab. Raises SightlineError for values outside these ranges.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return deep_gray(image).convert("RGB")
    if image.has_transparency_data:
        through = {"La": "LA", "RGBa": "RGBA"}
        rgba = image.convert(through.get(image.mode, "RGBA")).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)
    return image.convert("RGB")


def deep_gray(image: Image.Image) -> Image.Image:
    """Convert a gray image of 16 or 32 bits (modes I;16, I, F) to 8 bits; `to_rgb` describes how."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    kind, most = ("floats", 1) if image.mode == "F" else ("integers", 65535)
    if not (low >= 0 and high <= most):
        raise SightlineError(
            f"the pixels of the image are {kind} from {low:g} to {high:g}; only 0 to {most} is supported"
        )
    if image.mode == "F":
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


@dataclass(frozen=True)
class Square:
    """Resize images to side x side pixels, antialiased when scaling down. fit, filter: the settings `data.fit`,
    `data.filter`. share: side of the central part that is used, as a share of the side that `fit` leaves."""

    side: int
    fit: str = "squash"
    filter: str = "bilinear"
    share: float = 1.0

    @classmethod
    def of_settings(cls, data: Data, side: int) -> Self:
        """The resizing of images to `side` pixels. `data.eval_crop` applies if this is `data.size`: the images are
        then not those from which random crops are cut."""
        return cls(side, data.fit, data.filter, data.eval_crop if side == data.size else 1.0)

    @classmethod
    def of_description(cls, preprocessing: dict[str, Any]) -> Self:
        """The resizing that config.json of a checkpoint describes; earlier versions wrote no `fit` and `eval_crop`."""
        rest = preprocessing.get("fit", "squash"), preprocessing["resize"], preprocessing.get("eval_crop", 1.0)
        return cls(preprocessing["size"], *rest)

    @property
    def plain(self) -> bool:
        """Whether `fit`, `filter` and `share` are those of the input transform of models. Smaller images can then be
        left to that transform."""
        return self == Square(self.side)

    def of(self, image: Image.Image | Raster) -> np.ndarray:
        """Resize an image to [C, side, side], uint8 [3, side, side] for RGB."""
        if isinstance(image, Raster):
            return np.stack([self.of_channel(channel) for channel in image.pixels])
        if image.size != (self.side, self.side):
            resampling = Image.Resampling[self.filter.upper()]
            image = image.resize((self.side, self.side), resampling, self.box(*image.size), reducing_gap=REDUCING_GAP)
        return planes(image)

    def of_channel(self, pixels: np.ndarray) -> np.ndarray:
        """Resize one channel [H, W] in float32 with the same filter. Values stay within those of the channel, and
        integers are rounded."""
        if pixels.shape == (self.side, self.side):
            return pixels
        image, resampling = Image.fromarray(pixels.astype(np.float32)), Image.Resampling[self.filter.upper()]
        image = image.resize((self.side, self.side), resampling, self.box(*image.size), reducing_gap=REDUCING_GAP)
        values = np.clip(np.asarray(image), pixels.min(), pixels.max())
        return values if pixels.dtype == np.float32 else np.rint(values).astype(pixels.dtype)

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of an image that is used: (left, top, right, bottom) in pixels; all of an image that `of` does not
        resize."""
        if (width, height) == (self.side, self.side):
            return 0, 0, width, height
        across, down = (width, height) if self.fit == "squash" else (min(width, height),) * 2
        left = (width - across) // 2 + across * (1 - self.share) / 2
        top = (height - down) // 2 + down * (1 - self.share) / 2
        return left, top, left + across * self.share, top + down * self.share


def encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    """Encode an image as a file. kind: format name of Pillow. options: for Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def preview(image: Image.Image | Raster, channels: Channels) -> Image.Image:
    """An image as 8-bit RGB for thumbnails and pages; without a known `top`, stretched from its smallest value to its
    largest one."""
    if not isinstance(image, Raster):
        return image
    known = channels if channels.top else replace(channels, dtype="float32")
    return Image.fromarray(np.ascontiguousarray(known.composite(image.pixels).transpose(1, 2, 0)))


def planes(image: Image.Image | Raster) -> np.ndarray:
    """The pixels of an image as [C, H, W], of an RGB image as uint8 [3, H, W]."""
    return image.pixels if isinstance(image, Raster) else np.asarray(image).transpose(2, 0, 1)
