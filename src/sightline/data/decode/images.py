"""Any image file to RGB, by stated rules, or a SightlineError with the path. Pillow is the only decoder.

What is done, in this order: the first frame of animations and multi-page files; rotation by the EXIF orientation (what
is corrupt of an EXIF block is ignored, and noted in the image's `info`); transparency composited on white; all to 8-bit
RGB. Color profiles are not applied.
"""

import io
import os
import stat
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageFile

from ...errors import SightlineError
from .crash_guard import reading
from .exif import TORN, is_torn
from .truncation import ends_early

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""The only decoders that Pillow may try: others start programs (EPS) or have no place in a data set."""
VERSION = 1
"""Raised whenever the pixels that come out of this file change, so that caches are built anew."""
DRAFT_FACTOR = 2
"""JPEG files may be decoded at 1/2, 1/4 or 1/8 of their size as long as this many times the wanted side remains.
Measured on 3000x2000 pixels of 1/f noise to 224x224: 35 instead of 51 ms, 0.46 of 255 levels mean difference."""
REDUCING_GAP = 3.0
"""Pillow: from 3 on, a result that is nearly the same as without; large images shrink by box averaging first."""
ORIENTATION = 0x0112
SWAPPED = (5, 6, 7, 8)
"""Orientations that exchange width and height."""
TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's warnings name no file, so as lines in the terminal they help nobody. The one on size, between once and twice
# its limit, becomes an error that does; those on damaged metadata are dropped, for metadata is not used. This is set
# once and not around each call, because filters belong to the process and decoding runs in threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass
class Header:
    """What a file says of its image. size: width and height as stored. deep: more than 8 bits a channel. frames: of an
    animation, or pages. turn: the EXIF orientation. torn: its block is damaged."""

    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    deep: bool = False
    transparent: bool = False
    frames: int = 1
    turn: int = 1
    torn: bool = False

    def note(self, image: ImageFile.ImageFile) -> None:
        """Fill in what an opened image tells before its pixels are read."""
        layout = image.tile[0][3] if image.tile else ""
        raw = layout[0] if isinstance(layout, tuple) else layout
        self.format, self.mode, self.size = image.format or "", image.mode, image.size
        self.deep = image.mode == "F" or image.mode.startswith("I") or ";16" in str(raw)
        self.transparent = image.has_transparency_data
        if image.format in ("GIF", "TIFF", "WEBP", "PNG"):  # an MPO's further frames are previews of the first
            self.frames = getattr(image, "n_frames", 1)


def open_image(path: str, max_pixels: int, side: int = 0, header: Header | None = None) -> Image.Image:
    """The image in a file as 8-bit RGB; `header` is filled in.

    With `side` > 0 a JPEG file may come smaller than stored, but not below DRAFT_FACTOR * side in either direction.
    Raises SightlineError naming the path for everything that is not an intact image of at most `max_pixels` pixels.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SightlineError("is not a regular file")
        with reading(path):
            return opened(path, max_pixels, side, header)
    except Exception as error:  # decoders raise nearly every type there is, and only the file can be at fault
        raise refusal(path, error) from error


def image_in(content: bytes, max_pixels: int, side: int = 0) -> Image.Image:
    """`open_image` of the bytes of a file that somebody has sent; errors name no path, and a cure for the sender."""
    try:
        return opened(io.BytesIO(content), max_pixels, side, None)
    except Exception as error:  # as above
        raise refusal_of_sent(content, error) from error


def size_in(content: bytes) -> tuple[int, int]:
    """(height, width) that `image_in` will give, from the head of the file alone; errors as there."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return upright_size(image)
    except Exception as error:  # as above
        raise refusal_of_sent(content, error) from error


def refusal_of_sent(content: bytes, error: Exception) -> SightlineError:
    """`refusal` for bytes that somebody has sent: no path, and a cure for the sender."""
    problem = refusal("", error, content)
    return SightlineError(problem.what, why=problem.why, cure="send it smaller, or as PNG or JPEG")


def opened(source: str | io.BytesIO, max_pixels: int, side: int, header: Header | None) -> Image.Image:
    """The image in a file or its bytes; raises whatever the decoder raises."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # process-wide and only upwards, so threads cannot disagree
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
    """Why a file is not used, in words that lead to a cure. content: its bytes, where it has no path."""
    if isinstance(error, SightlineError):
        return SightlineError("this image cannot be used", where=path, why=error.what, cure=cure_of(error.what))
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return SightlineError("this image cannot be used", where=path, why=str(error), cure=RESAVE)
    why, cure = diagnosis(path, error) if content is None else diagnosis_of(content, error)
    return SightlineError("this image cannot be read", where=path, why=why, cure=cure)


HEAD = 64
RESAVE = "save it smaller or as 8-bit PNG or JPEG, raise data.max_pixels if its size is right, or remove it"
CURES = {"is not a regular file": "remove it from the data"}
CRASHES = "save it anew with another program, or remove it; data.on_bad_image = skip leaves out a few"


def cure_of(why: str) -> str:
    """The cure for an image that is refused for a reason of ours."""
    return CRASHES if why.startswith(("its decoder crashes", "reading it does not")) else CURES.get(why, RESAVE)


MOST_READ = 1 << 28
"""Bytes up to which a file that did not decode is read once more, to tell what it lacks: any 8-bit picture has less."""
UNTOLD = "save it anew without texts and profile: convert IN -strip OUT, or remove it"
COPY = "copy it again from where it came, or remove it; data.on_bad_image = skip leaves out a few"


def diagnosis(path: str, error: Exception) -> tuple[str, str]:
    """(why, cure) of a file that did not decode."""
    try:
        with open(path, "rb") as file:
            whole = os.fstat(file.fileno()).st_size <= MOST_READ
            content = file.read() if whole else file.read(HEAD)
    except (OSError, ValueError) as problem:
        broken = os.path.islink(path) and not os.path.exists(path)
        why = "the link points to nothing" if broken else getattr(problem, "strerror", None) or str(problem)
        return why, "mend the link or the permissions (chmod u+r FILE), or remove it"
    return diagnosis_of(content, error, whole)


def diagnosis_of(content: bytes, error: Exception, whole: bool = True) -> tuple[str, str]:
    """(why, cure) from the bytes of a file that did not decode; not `whole`: from its first ones."""
    head = content[:HEAD]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty (0 bytes)", COPY
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the image", "fetch the images: git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg", b"{")):
        return f"it starts with {text[:12].decode('ascii', 'replace')!r}, not an image; a failed download?", COPY
    if whole and (early := ends_early(content)):
        return early, COPY
    if "MAX_TEXT" in str(error):
        return "its texts or its color profile unfold to more than any picture needs (a bomb?)", UNTOLD
    if isinstance(error, Image.UnidentifiedImageError) and head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        why = "it is a TIFF file of bits, bands or a compression that cannot be read here"
        return why, "convert it to 8-bit RGB: gdal_translate -ot Byte -scale -b 1 -b 2 -b 3 IN OUT"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it is not an intact {', '.join(FORMATS)} file; it starts with {head[:8]!r}", COPY
    return f"{type(error).__name__}: {error}", COPY


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; a corrupt EXIF block counts as none. Pillow turns TIFF itself."""
    turn = TRANSPOSED.get(turn_of(image))
    return image if turn is None else image.transpose(turn)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) that an opened image will have once it is upright."""
    turned = image.format != "TIFF" and turn_of(image) in SWAPPED  # Pillow gives TIFF's size as turned
    return image.size if turned else image.size[::-1]


def turn_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the block is damaged."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # the parser of a damaged block raises many types, and the pixels are fine
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB.

    Transparency (RGBA, LA, PA, palette or color key) is composited on white, so that hidden colors stay hidden. 16-bit
    gray is divided by 257 and rounded, not clipped. Mode I (32-bit) must lie in 0..65535 and is taken as 16-bit; mode F
    must lie in 0..1 and is multiplied by 255; both are refused otherwise. CMYK and Lab go through Pillow's conversions.
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
    """Gray of 16 or 32 bits (modes I;16, I, F) as 8-bit gray."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):
            raise SightlineError(f"its values are floats from {low:g} to {high:g}; only 0 to 1 have a meaning here")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if low < 0 or high > 65535:
        raise SightlineError(
            f"its values are 32-bit integers from {low} to {high}; only 0 to 65535 have a meaning here"
        )
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


@dataclass(frozen=True)
class Square:
    """How an image becomes a square of `side` pixels. fit, filter: as in `config.Data`.

    With antialiasing where it shrinks. Only plain squashing can be left to the model's own resize on its device.
    """

    side: int
    fit: str = "squash"
    filter: str = "bilinear"

    @property
    def plain(self) -> bool:
        """Whether small images may be kept at their own size until they are on the device."""
        return (self.fit, self.filter) == ("squash", "bilinear")

    def of(self, image: Image.Image) -> np.ndarray:
        """An RGB image as uint8 [3, side, side]."""
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
