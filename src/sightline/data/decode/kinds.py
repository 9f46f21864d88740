"""What the pixels of an image file are, by the tags in its header: number of channels, bits, names, transparency.

Images of up to 8 bits that Pillow reads without loss are plain. All others are rasters: TIFF and PNG files with more
than 8 bits, signed or float numbers, or extra samples that are not transparency.
"""

import html
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import TiffImagePlugin

from ..channels import Channels

BITS, PHOTOMETRIC, ORIENTATION, SAMPLES, MAX_VALUE, EXTRA, FORMAT, METADATA = 258, 262, 274, 277, 281, 338, 339, 42112
"""Tags of TIFF 6.0, and the tag in which GDAL stores the names of bands."""
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG = b"\x89PNG\r\n\x1a\n"
COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3}
"""Number of samples of a color, by TIFF's tag PhotometricInterpretation."""
BLACK_IS_ZERO, RGB_COLOR = 1, 2
NUMBERS = {1: "uint", 2: "int", 3: "float", 4: "uint"}
"""Type of the numbers by TIFF's tag SampleFormat; 5 and 6 are complex numbers."""
NAME = re.compile(r'<Item name="\w+" sample="(\d+)" role="(description|colorinterp)">([^<]*)</Item>')
ALPHAS = ("", "alpha", "transparency")


class Kind(NamedTuple):
    """What the pixels of a file are. Two files of one kind can be in one data set.

    plain: whether Pillow reads them as 8-bit colors; then the other fields have their defaults. names: one per channel,
    without transparency. number: as in the file, such as `uint16`.
    """

    plain: bool = True
    names: tuple[str, ...] = ("red", "green", "blue")
    number: str = "uint8"

    def __str__(self) -> str:
        if self.plain:
            return "8-bit color or gray"
        shown = ", ".join(self.names[:4]) + ", ..." * (len(self.names) > 4)
        many = "channels" if len(self.names) > 1 else "channel"
        return f"{len(self.names)} {many} ({shown}) of {bits_text(self.number)}"


PLAIN = Kind()


@dataclass(frozen=True)
class FileHeader:
    """The header of an image file. size: (height, width) after the rotation by `orientation`. bits: number of bits of
    the values by the tags; 0 if the tags do not limit them. alpha: whether the last sample is transparency. fault: why
    the pixels cannot be used, or ""."""

    kind: Kind
    size: tuple[int, int] = (0, 0)
    bits: int = 0
    alpha: bool = False
    orientation: int = 1
    fault: str = ""
    driver: str = ""


@dataclass(frozen=True)
class Raster:
    """An image whose pixels Pillow cannot hold. pixels: uint8, uint16 or float32 [C, H, W]. empty: bool [H, W], the
    pixels without data in all channels; None if there are none. missing: number of values without data. info: as of
    Pillow's images."""

    pixels: np.ndarray
    empty: np.ndarray | None = None
    missing: int = 0
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[2], self.pixels.shape[1]


def bits_text(number: str) -> str:
    """A type of numbers for the user, such as `16 bits`, `32-bit float`."""
    kind, bits = number.rstrip("0123456789"), number.lstrip("uintfloacmpex")
    return f"{bits} bits" if kind == "uint" else f"{bits}-bit {'float' if kind == 'float' else 'signed integers'}"


def file_header(path: str, alpha_is_channel: bool = False) -> FileHeader | None:
    """Read the header of an image file; None if it is damaged or missing, which decoding reports.

    alpha_is_channel: whether a sample that is tagged as transparency is a channel. Files other than PNG and TIFF are
    plain and have the size (0, 0).
    """
    try:
        with open(path, "rb") as file:
            return header_of(file, alpha_is_channel)
    except (OSError, ValueError):
        return None


def header_like(path: str, channels: Channels) -> FileHeader | None:
    """Read the header of an image file; a sample that is tagged as transparency is a channel if it is one in other
    images, which have the given channels."""
    header = file_header(path, channels.opaque)
    if header is not None and header.alpha and not {*channels.names} <= {*header.kind.names}:
        return file_header(path, alpha_is_channel=True)
    return header


def header_of(file: IO[bytes], alpha_is_channel: bool = False) -> FileHeader | None:
    """Read the header of an opened image file; as `file_header`."""
    try:
        head = file.read(26)
        if head.startswith(PNG):
            return png_header(head)
        if not head.startswith(TIFF):
            return FileHeader(PLAIN) if head else None
        return tiff_header(tiff_tags(file), alpha_is_channel)
    except Exception:  # the parser raises many types, always because of the file
        return None


def png_header(head: bytes) -> FileHeader:
    """The header of a PNG file from its first 26 bytes. The chunk sBIT is not used: by the standard, values of fewer
    bits are scaled to the full range."""
    width, height, depth, color = struct.unpack_from(">IIBB", head, 16)
    if depth < 16:
        return FileHeader(PLAIN, (height, width))
    names = ("gray",) if color in (0, 4) else PLAIN.names
    return FileHeader(Kind(False, names, "uint16"), (height, width), alpha=color in (4, 6), driver="PNG")


def tiff_tags(file: IO[bytes]) -> Mapping[int, Any]:
    """The tags of the first page of an opened TIFF file."""
    file.seek(0)
    head = file.read(8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(head + (file.read(8) if 43 in head[2:4] else b""))
    file.seek(directory.next)
    directory.load(file)
    return directory


def tiff_header(tags: Mapping[int, Any], alpha_is_channel: bool) -> FileHeader:
    """The header of a TIFF file by its tags. Extra samples are transparency only if the tag ExtraSamples says so and
    GDAL's name of the band does not contradict."""
    samples, photometric = int(tags.get(SAMPLES, 1)), int(tags.get(PHOTOMETRIC, BLACK_IS_ZERO))
    bits = (tags.get(BITS) or (1,))[0]
    extras = samples - COLORS.get(photometric, samples)
    named = {int(index): html.unescape(name) for index, role, name in names_in(tags) if role == "colorinterp"}
    named |= {int(index): html.unescape(name) for index, role, name in names_in(tags) if role == "description"}
    tagged = extras > 0 and tuple(tags.get(EXTRA) or (0,))[-1] in (1, 2)
    alpha = tagged and not alpha_is_channel and named.get(samples - 1, "").lower() in ALPHAS
    number = NUMBERS.get((tags.get(FORMAT) or (1,))[0], "complex")
    orientation, size = int(tags.get(ORIENTATION, 1)), (int(tags[257]), int(tags[256]))
    size = size[::-1] if orientation in (5, 6, 7, 8) else size
    if number == "uint" and bits <= 8 and extras == int(alpha):
        return FileHeader(PLAIN, size, alpha=alpha, orientation=orientation)
    stored = next(width for width in (8, 16, 32, 64, 128) if bits <= width)
    usual = [*PLAIN.names] if photometric == RGB_COLOR else ["gray"] if samples - alpha == 1 else []
    usual += [str(index + 1) for index in range(len(usual), samples)]
    names = tuple(named.get(index) or usual[index] for index in range(samples - alpha))
    names = names if len(set(names)) == len(names) else tuple(str(index + 1) for index in range(len(names)))
    kind = Kind(False, names, f"{number}{stored}")
    fault = "" if photometric in (BLACK_IS_ZERO, RGB_COLOR) else f"its color space (TIFF {photometric}) needs 8 bits"
    fault = "its pixels are complex numbers" if number == "complex" else fault
    most = max((int(value) for value in tags.get(MAX_VALUE) or ()), default=0)
    bits = bits if bits < stored else most.bit_length() if 0 < most < 2**stored - 1 else 0
    return FileHeader(kind, size, bits if kind.number == "uint16" else 0, alpha, orientation, fault, "GTiff")


def names_in(tags: Mapping[int, Any]) -> list[tuple[str, str, str]]:
    """(index, role, name) of the bands in GDAL's metadata of a TIFF file."""
    return NAME.findall(str(tags.get(METADATA, "")))
