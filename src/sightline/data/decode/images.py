"""Decode any image file to 8-bit RGB by fixed rules, or raise a SightlineError with the path. Pillow decodes.

In this order: the first frame of animations and multi-page files; rotation by the EXIF orientation (damaged entries of
an EXIF block are ignored, and noted in the image's `info`); transparency composited on white; conversion to 8-bit RGB.
Color profiles are not applied.
"""

import contextlib
import io
import os
import stat
import sys
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps

from ...errors import SightlineError
from .crash_guard import record_decoding
from .exif import TORN, is_torn

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""The only formats that Pillow may try: decoding others starts programs (EPS), or they have no use in a data set."""
VERSION = 1
"""Incremented whenever this file computes other pixels, so that caches are rebuilt."""
DRAFT_FACTOR = 2
"""JPEG files may be decoded at 1/2, 1/4 or 1/8 of their size as long as this many times the requested side remains.
Measured on 3000x2000 pixels of 1/f noise to 224x224: 35 instead of 51 ms, 0.46 of 255 levels mean difference."""
REDUCING_GAP = 3.0
"""Pillow: large images are first reduced by box averaging; from 3 on the result is nearly the same as without."""
ORIENTATION = 0x0112
SWAPPED = (5, 6, 7, 8)
"""Orientations that exchange width and height."""
HEAD = 64
"""First bytes of a file that are inspected if it cannot be decoded."""
RESAVE = "save it smaller or as 8-bit PNG or JPEG, raise data.max_pixels if its size is right, or remove it"
STRIP = "save it again without texts and profile: convert IN -strip OUT, or remove it"
COPY = "copy it again from where it came, or remove it; data.on_bad_image = skip leaves out a few"

# Pillow's warnings name no file. The one on size, between once and twice its limit, becomes an error, which is reported
# with the path; those on damaged metadata are dropped, because metadata is not used. The filters are set once and not
# around each call, because they belong to the process and images are decoded in threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass
class Header:
    """Properties of an image file. size: width and height as stored. deep: more than 8 bits a channel. frames: of an
    animation, or pages. turn: the EXIF orientation. torn: whether the EXIF block is damaged."""

    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    deep: bool = False
    transparent: bool = False
    frames: int = 1
    turn: int = 1
    torn: bool = False

    def note(self, image: ImageFile.ImageFile) -> None:
        """Fill in what is known of an opened image before its pixels are decoded."""
        layout = image.tile[0][3] if image.tile else ""
        raw = layout[0] if isinstance(layout, tuple) else layout
        self.format, self.mode, self.size = image.format or "", image.mode, image.size
        self.deep = image.mode == "F" or image.mode.startswith("I") or ";16" in str(raw)
        self.transparent = image.has_transparency_data
        if image.format in ("GIF", "TIFF", "WEBP", "PNG"):  # an MPO's further frames are previews of the first
            self.frames = getattr(image, "n_frames", 1)


def open_image(path: str, max_pixels: int, side: int = 0, header: Header | None = None) -> Image.Image:
    """Decode an image file to 8-bit RGB, and fill in `header`.

    With `side` > 0 a JPEG file may be decoded at a reduced size, at least DRAFT_FACTOR * side in both directions.
    Raises SightlineError naming the path for everything that is not an intact image of at most `max_pixels` pixels.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SightlineError("is not a regular file", cure="remove it from the data")
        with record_decoding(path):
            return opened(path, max_pixels, side, header)
    except Exception as error:  # decoders raise nearly every type there is, and only the file can be at fault
        raise refusal(path, error) from error


def image_in(content: bytes, max_pixels: int, side: int = 0) -> Image.Image:
    """Decode the content of an uploaded file as `open_image` does; errors have no path, and a cure for the sender."""
    try:
        return opened(io.BytesIO(content), max_pixels, side, None)
    except Exception as error:  # as above
        raise refusal_of_upload(content, error) from error


def size_in(content: bytes) -> tuple[int, int]:
    """(height, width) of the result of `image_in`, from the header of the file alone; errors as there."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return upright_size(image)
    except Exception as error:  # as above
        raise refusal_of_upload(content, error) from error


def refusal_of_upload(content: bytes, error: Exception) -> SightlineError:
    """`refusal` for an uploaded file: no path, and a cure for the sender."""
    problem = refusal("", error, content)
    return SightlineError(problem.what, why=problem.why, cure="send it smaller, or as PNG or JPEG")


def opened(source: str | io.BytesIO, max_pixels: int, side: int, header: Header | None) -> Image.Image:
    """Decode an image file or its content; raises whatever the decoder raises."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # of the process, and only raised: threads cannot disagree
    with Image.open(source, formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise SightlineError(f"has {width:,} x {height:,} pixels, more than data.max_pixels = {max_pixels:,}")
        if header is not None:
            header.note(image)
        if side:
            image.draft(None, (DRAFT_FACTOR * side, DRAFT_FACTOR * side))
        image.load()
        block = image.info.get("exif")
        torn = isinstance(block, bytes) and bool(block) and is_torn(block)
        if header is not None:
            header.turn, header.torn = turn_of(image), torn
        rgb = to_rgb(upright(image))
        rgb.info[TORN] = torn
        return rgb


def refusal(path: str, error: Exception, content: bytes | None = None) -> SightlineError:
    """The error of an image that cannot be used, with a cure. content: its bytes, if it has no path."""
    if isinstance(error, SightlineError | Image.DecompressionBombError | Image.DecompressionBombWarning):
        cure = error.cure if isinstance(error, SightlineError) else ""
        why = error.what if isinstance(error, SightlineError) else str(error)
        return SightlineError("this image cannot be used", where=path, why=why, cure=cure or RESAVE)
    why, cure = diagnosis(path, error, content)
    return SightlineError("this image cannot be read", where=path, why=why, cure=cure)


def diagnosis(path: str, error: Exception, content: bytes | None = None) -> tuple[str, str]:
    """(why, cure) of a file, or of a content, that cannot be decoded."""
    if content is not None:
        return diagnosis_of(content[:HEAD], len(content), error)
    try:
        with open(path, "rb") as file:
            return diagnosis_of(file.read(HEAD), os.fstat(file.fileno()).st_size, error)
    except (OSError, ValueError) as problem:
        broken = os.path.islink(path) and not os.path.exists(path)
        why = "the link points to nothing" if broken else getattr(problem, "strerror", None) or str(problem)
        return why, "repair the link or the permissions (chmod u+r FILE), or remove it"


def diagnosis_of(head: bytes, size: int, error: Exception) -> tuple[str, str]:
    """(why, cure) of a file of `size` bytes that begins with `head`, from the error of its decoder."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty (0 bytes)", COPY
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the image", "fetch the images: git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg", b"{")):
        return f"it starts with {text[:12].decode('ascii', 'replace')!r}, not an image; a failed download?", COPY
    webp_cut = head.startswith(b"RIFF") and size < 8 + int.from_bytes(head[4:8], "little")
    if webp_cut or "truncated" in str(error).lower():
        return f"it is truncated: it ends after {size:,} bytes", COPY
    if "MAX_TEXT" in str(error):
        return "its texts or its color profile are larger than any image needs once decompressed (a bomb?)", STRIP
    if isinstance(error, Image.UnidentifiedImageError) and head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        why = "it is a TIFF file with an unsupported number of bits or bands, or an unsupported compression"
        return why, "convert it to 8-bit RGB: gdal_translate -ot Byte -scale -b 1 -b 2 -b 3 IN OUT"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it is not an intact {', '.join(FORMATS)} file; it starts with {head[:8]!r}", COPY
    return f"{type(error).__name__}: {error}", COPY


def upright(image: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF orientation; a damaged EXIF block counts as none. Pillow rotates TIFF itself."""
    with contextlib.suppress(Exception):  # the parser of a damaged block raises many types, and the pixels are fine
        ImageOps.exif_transpose(image, in_place=True)
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an opened image after its rotation."""
    turned = image.format != "TIFF" and turn_of(image) in SWAPPED  # Pillow has the rotated size of TIFF files
    return image.size if turned else image.size[::-1]


def turn_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 for a damaged block."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # as above
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    Transparency (RGBA, LA, PA, palette or color key) is composited on white, so that hidden colors stay hidden. 16-bit
    gray is divided by 257 and rounded, not clipped. Values of mode I (32-bit) must be 0 to 65535 and are treated as
    16-bit; values of mode F must be 0 to 1 and are multiplied by 255. Pillow converts CMYK and Lab.
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
    """Convert gray of 16 or 32 bits (modes I;16, I, F) to 8-bit gray."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    kind, most = ("floats", 1) if image.mode == "F" else ("integers", 65535)
    if not (low >= 0 and high <= most):
        raise SightlineError(f"its values are {kind} from {low:g} to {high:g}; only 0 to {most} are supported")
    if image.mode == "F":
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


@dataclass(frozen=True)
class Square:
    """Resize images to squares of `side` pixels, antialiased when shrinking. fit, filter: as in `config.Data`."""

    side: int
    fit: str = "squash"
    filter: str = "bilinear"

    @property
    def plain(self) -> bool:
        """Whether the model can do the same resize on its device, so that small images may be kept at their own
        size."""
        return (self.fit, self.filter) == ("squash", "bilinear")

    def of(self, image: Image.Image) -> np.ndarray:
        """Resize an RGB image to uint8 [3, side, side]."""
        if image.size != (self.side, self.side):
            resampling = Image.Resampling[self.filter.upper()]
            box = None if self.fit == "squash" else central_square(*image.size)
            image = image.resize((self.side, self.side), resampling, box, reducing_gap=REDUCING_GAP)
        return planes(image)


def central_square(width: int, height: int) -> tuple[float, float, float, float]:
    """The largest square in the middle of an image: left, top, right, bottom, in whole pixels."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def planes(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 [3, H, W]."""
    return np.asarray(image).transpose(2, 0, 1)


if __name__ == "__main__":  # a process of its own, started by `crumbs.crash_of`, which a decoder may end
    for shortest in (0, 224):
        with contextlib.suppress(Exception):
            opened(sys.argv[1], 2**27, shortest, None)
