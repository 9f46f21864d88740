"""Decode image files to 8-bit RGB with Pillow, by fixed rules.

In this order: take the first frame of animations and multi-page files; rotate by the EXIF orientation (damaged entries
are ignored); composite transparency on white; convert to 8-bit RGB. Color profiles are not applied.
"""

import contextlib
import io
import os
import stat
import struct
import sys
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps

from ...errors import SightlineError
from .crash_guard import record_decoding

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""The only formats that Pillow may try: decoding others can start programs (EPS) or serves no purpose here."""
VERSION = 1
"""Incremented whenever the decoded pixels change, so that cache entries are rebuilt."""
DRAFT_FACTOR = 2
"""JPEG files are decoded at 1/2, 1/4 or 1/8 of their size if at least this many times the requested side remains.
Measured for 3000x2000 pixels of 1/f noise to 224x224: 35 instead of 51 ms, mean difference 0.46 of 255 levels."""
REDUCING_GAP = 3.0
"""Argument of Pillow's resize: reduce large images by box averaging first; at 3 the result is nearly unchanged."""
ORIENTATION = 0x0112
SWAPPED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
EXIF_DAMAGED = "torn_exif"
"""Key in the `info` of an image whose EXIF block is damaged."""
EXIF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value by its type number (TIFF 6.0)."""
HEAD = 64
"""Number of leading bytes that are inspected if a file cannot be decoded."""
RESAVE = "save it smaller or as 8-bit PNG or JPEG, allow its size with --data.max_pixels NUMBER, or remove it"
STRIP = "save it again without text chunks and color profile: convert IN -strip OUT, or remove it"
COPY = (
    "copy the image again from its source, or remove it; to train without a few such images (not in segmentation): "
    "--data.on_bad_image skip"
)

# Pillow's warnings have no path. Its warning for sizes between one and two times its limit becomes an error, which is
# reported with the path; warnings on damaged metadata are ignored, because metadata is not used. The filters are set
# once, because they are global to the process and images are decoded in threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass
class Header:
    """Properties of an image file. size: width and height as stored. deep: more than 8 bits per channel. frames: number
    of frames or pages. orientation: by EXIF, 1 to 8. damaged_exif: whether the EXIF block is damaged."""

    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    deep: bool = False
    transparent: bool = False
    frames: int = 1
    orientation: int = 1
    damaged_exif: bool = False

    def update_from(self, image: ImageFile.ImageFile) -> None:
        """Set all fields but `orientation` and `damaged_exif` from an opened image, before its pixels are decoded."""
        layout = image.tile[0][3] if image.tile else ""
        raw = layout[0] if isinstance(layout, tuple) else layout
        self.format, self.mode, self.size = image.format or "", image.mode, image.size
        self.deep = image.mode == "F" or image.mode.startswith("I") or ";16" in str(raw)
        self.transparent = image.has_transparency_data
        if image.format in ("GIF", "TIFF", "WEBP", "PNG"):  # further frames of an MPO file are previews
            self.frames = getattr(image, "n_frames", 1)


def open_image(path: str, max_pixels: int, side: int = 0, header: Header | None = None) -> Image.Image:
    """Decode an image file to 8-bit RGB, and set the fields of `header`.

    With `side` > 0 a JPEG file may be decoded at a reduced size, at least DRAFT_FACTOR * side in both dimensions.
    Raises SightlineError, which names the path, if the file is damaged or has more than `max_pixels` pixels.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SightlineError("this path is not a regular file", cure="remove it from the data")
        with record_decoding(path):
            return decode_rgb(path, max_pixels, side, header)
    except Exception as error:  # decoders raise many types, always because of the file
        raise image_error(path, error) from error


def image_in(content: bytes, max_pixels: int, side: int = 0) -> Image.Image:
    """Decode an uploaded image to 8-bit RGB as `open_image` does; raises SightlineError without a path, with a cure for
    the sender."""
    try:
        return decode_rgb(io.BytesIO(content), max_pixels, side, None)
    except Exception as error:  # as above
        raise upload_error(content, error) from error


def size_in(content: bytes) -> tuple[int, int]:
    """(height, width) of an uploaded image after rotation, read from its header; errors as in `image_in`."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return upright_size(image)
    except Exception as error:  # as above
        raise upload_error(content, error) from error


def upload_error(content: bytes, error: Exception) -> SightlineError:
    """`image_error` for an uploaded file: without a path, and with a cure for the sender."""
    problem = image_error("", error, content)
    return SightlineError(problem.what, why=problem.why, cure="send a smaller image, or send it as PNG or JPEG")


def raise_pillow_limit(max_pixels: int) -> None:
    """Raise Pillow's limit on image sizes to `max_pixels`. It is global to the process, and never lowered."""
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(max_pixels, Image.MAX_IMAGE_PIXELS)


def decode_rgb(source: str | io.BytesIO, max_pixels: int, side: int, header: Header | None) -> Image.Image:
    """Decode an image file or its content to RGB, arguments as in `open_image`. Exceptions of the decoder propagate."""
    raise_pillow_limit(max_pixels)
    with Image.open(source, formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise SightlineError(
                f"the image has {width:,} x {height:,} pixels; the limit --data.max_pixels is {max_pixels:,}"
            )
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


def image_error(path: str, error: Exception, content: bytes | None = None) -> SightlineError:
    """The error for an image that cannot be used, with a cure.

    error: the exception of the decoder. content: the bytes of the image if it was not read from a file.
    """
    if isinstance(error, SightlineError | Image.DecompressionBombError | Image.DecompressionBombWarning):
        cure = error.cure if isinstance(error, SightlineError) else ""
        why = error.what if isinstance(error, SightlineError) else str(error)
        return SightlineError("this image cannot be used", where=path, why=why, cure=cure or RESAVE)
    why, cure = diagnosis(path, error, content)
    return SightlineError("this image cannot be read", where=path, why=why, cure=cure)


def diagnosis(path: str, error: Exception, content: bytes | None = None) -> tuple[str, str]:
    """(why, cure) for a file, or its content, that cannot be decoded."""
    if content is not None:
        return diagnosis_of(content[:HEAD], len(content), error)
    try:
        with open(path, "rb") as file:
            return diagnosis_of(file.read(HEAD), os.fstat(file.fileno()).st_size, error)
    except (OSError, ValueError) as problem:
        broken = os.path.islink(path) and not os.path.exists(path)
        why = "the target of the link does not exist" if broken else getattr(problem, "strerror", None) or str(problem)
        return why, "repair the link or the permissions (chmod u+r FILE), or remove it"


def diagnosis_of(head: bytes, size: int, error: Exception) -> tuple[str, str]:
    """(why, cure) for a file of `size` bytes that starts with `head`, from the error of its decoder."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty (0 bytes)", COPY
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the image", "fetch the images: git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg", b"{")):
        return (
            f"it starts with {text[:12].decode('ascii', 'replace')!r}, not like an image; perhaps a download failed",
            COPY,
        )
    webp_cut = head.startswith(b"RIFF") and size < 8 + int.from_bytes(head[4:8], "little")
    if webp_cut or "truncated" in str(error).lower():
        return f"it is truncated: it ends after {size:,} bytes", COPY
    if "MAX_TEXT" in str(error):
        return "its text chunks or its color profile are too large once decompressed", STRIP
    if isinstance(error, Image.UnidentifiedImageError) and head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        why = "it is a TIFF file with an unsupported number of bits or bands, or an unsupported compression"
        return why, "convert it to 8-bit RGB: gdal_translate -ot Byte -scale -b 1 -b 2 -b 3 IN OUT"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it is not an intact {', '.join(FORMATS)} file; it starts with {head[:8]!r}", COPY
    return f"{type(error).__name__}: {error}", COPY


def upright(image: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF orientation, in place; ignore damaged EXIF blocks. Pillow rotates TIFF itself."""
    with contextlib.suppress(Exception):  # the parser raises many types for a damaged block; the pixels are intact
        ImageOps.exif_transpose(image, in_place=True)
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an opened image after its rotation."""
    swapped = image.format != "TIFF" and exif_orientation(image) in SWAPPED  # for TIFF files `size` is the rotated size
    return image.size if swapped else image.size[::-1]


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 for a damaged block."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # as above
        return 1


def is_exif_damaged(block: bytes) -> bool:
    """Whether the first directory of an EXIF block, or a value in it, extends beyond the end of the block."""
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
    """Convert gray of 16 or 32 bits (modes I;16, I, F) to 8-bit gray, as described in `to_rgb`."""
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
    """Resize images to side x side pixels, antialiased when scaling down. fit, filter: `data.fit` and `data.filter`."""

    side: int
    fit: str = "squash"
    filter: str = "bilinear"

    @property
    def plain(self) -> bool:
        """Whether the input transform of models does the same resize, so that smaller images are not resized."""
        return (self.fit, self.filter) == ("squash", "bilinear")

    def of(self, image: Image.Image) -> np.ndarray:
        """Resize an RGB image to uint8 [3, side, side]."""
        if image.size != (self.side, self.side):
            resampling = Image.Resampling[self.filter.upper()]
            box = None if self.fit == "squash" else central_square(*image.size)
            image = image.resize((self.side, self.side), resampling, box, reducing_gap=REDUCING_GAP)
        return planes(image)


def central_square(width: int, height: int) -> tuple[float, float, float, float]:
    """The largest centered square of an image: (left, top, right, bottom) in pixels."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    """Encode an image as a file. kind: format name of Pillow. options: for Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def planes(image: Image.Image) -> np.ndarray:
    """Convert an RGB image to uint8 [3, H, W]."""
    return np.asarray(image).transpose(2, 0, 1)


if __name__ == "__main__":  # the subprocess of `crash_guard.crash_of`
    for shortest in (0, 224):
        with contextlib.suppress(Exception):
            decode_rgb(sys.argv[1], 2**27, shortest, None)
