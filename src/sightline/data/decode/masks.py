"""Decode mask files to class indices by a palette, and encode class indices as mask files.

A color or id that is not in the palette is an error, unless it matches by a tolerance or threshold that the user has
set. Such pixels are counted as inexact. Masks are never interpolated. Pillow is the only decoder.
"""

import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from PIL import Image

from ...errors import SightlineError
from .crash_guard import record_decoding
from .faults import COPY, RESAVE, diagnosis, image_error
from .formats import FORMATS
from .images import encoded, raise_pillow_limit, upright, upright_size
from .kinds import file_header
from .palettes import IGNORE, LARGEST_ID, OUTSIDE, Palette, channels, match_colors, nearest_names

MAX_PIXELS = 89_478_485
"""Default of the setting `data.max_pixels`."""
STRIP_PIXELS = 1 << 18
"""Number of pixels whose colors are looked up at a time, so that the working arrays fit the CPU cache."""
MOST_STRAYS = 1000
"""After this number of different colors outside the palette, decoding stops with an error: the file is not a mask."""
SHOWN_STRAYS = 5
NEAR = 64
"""Largest distance of a color to the palette (in any channel) for which the error suggests a tolerance."""
DEPTH_SCALE = {"L;2": 85, "L;4": 17}
"""Factor by which Pillow multiplies gray values of 2 and 4 bits, by raw mode. Class ids are divided by it."""
GRAY_MODES = ("1", "L", "LA")
COLOR_MODES = (*GRAY_MODES, "P", "PA", "RGB", "RGBA")


Numbering = dict[tuple[int, ...], tuple[int, str]]
"""For each color in palettes of masks of ids, its index and the first file with it."""


@dataclass
class MaskFacts:
    """Counts over decoded masks. inexact: number of pixels that match the palette only by tolerance, by threshold,
    or by one of its stray colors. overlap: number of pixels in shapes of different classes, if masks are drawn."""

    inexact: int = 0
    overlap: int = 0


def read_mask(
    path: str,
    palette: Palette,
    max_pixels: int = MAX_PIXELS,
    facts: MaskFacts | None = None,
    content: bytes | None = None,
    numbering: Numbering | None = None,
) -> np.ndarray:
    """Decode a mask to class indices uint8 [H, W], IGNORE for ignored classes, rotated by its EXIF orientation.

    facts: if given, the counts of this mask are added to it. content: the bytes of the mask if it is not read from a
    file; `path` is then used in messages only.

    Raises SightlineError, with the path, for unreadable files, lossy formats, transparency, channels that do not fit
    the palette, and ids or colors outside the palette (with their count, first position and a cure).
    """
    try:
        with record_decoding(path):
            image, scale = load(path, max_pixels, content)
        has_ids = palette.colors is None
        if has_ids and image.mode == "P" and numbering is not None:
            check_numbering(image, path, numbering)
        indices, inexact = decode_ids(image, palette, scale) if has_ids else decode_colors(image, palette)
    except SightlineError as error:
        cure = error.cure or RESAVE
        raise SightlineError("this mask cannot be used", where=path, why=error.what, cure=cure) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise image_error(path, error) from error
    except Exception as error:  # decoders raise many types, always because of the file
        why, cure = diagnosis(path, error, content)
        cure = "copy the mask again from its source" if cure == COPY else cure
        raise SightlineError("this mask cannot be read", where=path, why=why, cure=cure) from error
    if facts is not None:
        facts.inexact += inexact
    return indices


def load(path: str, max_pixels: int, content: bytes | None = None) -> tuple[Image.Image, int]:
    """Open and decode a mask file: (image, factor by which Pillow has multiplied its gray values). Raises
    SightlineError for files that cannot be masks."""
    raise_pillow_limit(max_pixels)
    if content is None and not stat.S_ISREG(os.stat(path).st_mode):
        raise SightlineError("this path is not a regular file", cure="remove it from the data")
    # Given a path, Pillow 13.0 memory-maps uncompressed TIFF files and garbles them for the orientations 5 to 8.
    with (
        open(path, "rb") if content is None else io.BytesIO(content) as file,
        Image.open(file, formats=FORMATS) as image,
    ):
        width, height = image.size
        if width * height > max_pixels:
            raise SightlineError(
                f"the mask has {width:,} x {height:,} pixels; the limit --data.max_pixels is {max_pixels:,}"
            )
        if lossy(image, path, content):
            cure = "export the masks again as PNG; a JPEG cannot be converted back to a mask"
            raise SightlineError(
                f"the mask is a lossy {image.format} file: compression has changed its values", cure=cure
            )
        layout = image.tile[0][3] if image.tile else ""
        name = str(layout[0]) if isinstance(layout, tuple) else str(layout)
        image.load()
        return upright(image), next((scale for mode, scale in DEPTH_SCALE.items() if name.startswith(mode)), 1)


def lossy(image: Image.Image, path: str, content: bytes | None = None) -> bool:
    """Whether an opened file is lossily compressed: JPEG, AVIF, HEIF, JPEG or WebP inside TIFF, or lossy WebP."""
    if image.format == "WEBP":
        with open(path, "rb") if content is None else io.BytesIO(content) as file:
            head = file.read(1 << 12)  # the pixel chunk follows the header or a color profile
        return b"VP8L" not in head
    return image.format in ("JPEG", "MPO", "AVIF", "HEIF") or image.info.get("compression") in (
        "jpeg",
        "tiff_jpeg",
        "webp",
    )


def reject_transparent(image: Image.Image) -> None:
    """Raise SightlineError if a pixel is not opaque, or a 16-bit image declares a transparent value."""
    if not image.has_transparency_data:
        return
    if image.mode.startswith("I") or np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        cure = (
            "export it without an alpha channel; to ignore pixels, give them a class of their own and set "
            "--data.ignore '[CLASS]'"
        )
        raise SightlineError("some pixels of the mask are transparent", cure=cure)


def decode_ids(image: Image.Image, palette: Palette, scale: int) -> tuple[np.ndarray, int]:
    """Convert a mask of class ids (gray or palette indices) to (class indices uint8 [H, W], 0 inexact pixels).

    scale: factor by which Pillow has multiplied the ids. Raises SightlineError for other image modes and for ids
    outside the palette.
    """
    if image.mode in ("RGB", "RGBA"):
        cure = "if the other masks have class ids, export this one as class ids too, or leave it out; if all have "
        cure += "colors, name those of all classes: --data.colors '{NAME: [128, 64, 128], NAME: [64, 0, 128], ...}'"
        what = f"the mask has {len(image.getbands())} channels: colors; the classes are given by ids, in 1 channel"
        raise SightlineError(what, cure=cure)
    if image.mode not in ("1", "L", "LA", "P", "PA") and not image.mode.startswith("I"):
        raise SightlineError(f"the mask has the mode {image.mode} of Pillow; class ids must be integers in 1 channel")
    if image.format == "GIF" and image.mode == "P":
        what = (
            "the mask is a GIF file; its color indices are no class ids, because programs renumber them when they save"
        )
        raise SightlineError(what, cure="export the mask as PNG with one channel")
    reject_transparent(image)
    values = np.asarray(image)
    values = values[..., 0] if values.ndim == 3 else values
    values = values.astype(np.uint8) if values.dtype == bool else values // scale if scale > 1 else values
    known = values if values.dtype.itemsize < 4 else np.where((values < 0) | (values > LARGEST_ID), -1, values)
    indices = np.take(palette.table, known)  # -1 is the last entry of the table, OUTSIDE
    if (indices == OUTSIDE).any():
        reject_ids(values, indices == OUTSIDE, palette)
    return indices, 0


def check_numbering(image: Image.Image, path: str, numbering: Numbering) -> None:
    """Raise SightlineError if a color of a mask has another index than in other masks: a program has renumbered the
    indices, as many do when they reduce colors, so that these are no class ids. numbering: of the files so far."""
    colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = [index for index, count in enumerate(image.histogram()) if count and index < len(colors)]
    names = [tuple(colors[index].tolist()) for index in used]
    for index, color in zip(used, names, strict=True):
        other, file = numbering.setdefault(color, (index, path)) if names.count(color) == 1 else (index, path)
        if other != index:
            what = f"the color {color} has the index {index} here and {other} in {file}"
            cure = "read the colors of the masks instead of their indices: --data.colors '{NAME: [R, G, B], ...}'"
            raise SightlineError(f"{what}; so a program has renumbered the indices, which are no class ids", cure=cure)


def reject_ids(values: np.ndarray, outside: np.ndarray, palette: Palette) -> NoReturn:
    """Raise SightlineError for ids outside the palette, with count and first position of the most frequent ones.
    values: the ids in a mask, [H, W]. outside: bool [H, W], true where an id is not in the palette."""
    found, first, counts = np.unique(values[outside], return_index=True, return_counts=True)
    rows, columns = np.nonzero(outside)
    order = np.argsort(-counts, kind="stable")[:SHOWN_STRAYS]
    shown = [f"{found[i]} ({counts[i]:,} px, first at x={columns[first[i]]}, y={rows[first[i]]})" for i in order]
    more = f" and {len(found) - len(order):,} more" if len(found) > len(order) else ""
    why = (
        f"{len(rows):,} of the mask's {values.size:,} pixels have ids other than {ids_text(palette)}: "
        f"{', '.join(shown)}{more}"
    )
    if {*found.tolist()} == {255} and values[~outside].max(initial=0) == 0:
        cure = "if 255 is a class: --data.palette binary; if 255 marks pixels to ignore: --data.ignore '[\"255\"]'"
        raise SightlineError(f"{why}; the mask has only 0 and 255", cure=cure)
    cure = "name all ids in order, from 0, in --data.classes or classes.txt"
    if found.tolist() == [max(palette.ids, default=-1) + 1]:
        cure += " (if one name is missing there, all names after it belong to wrong ids)"
    if 0 <= found[order[0]] <= LARGEST_ID:
        cure += f"; or ignore this id in the loss and the metrics: --data.ignore '[\"{found[order[0]]}\"]'"
    raise SightlineError(why, cure=cure)


def ids_text(palette: Palette) -> str:
    """The ids of a palette as text, such as `0..11` or `0..20, 255`."""
    ids = sorted(palette.ids)
    run = next((index for index, value in enumerate(ids) if value != index), len(ids))
    return ", ".join([f"0..{run - 1}"] * (run > 0) + [str(value) for value in ids[run:]])


def decode_colors(image: Image.Image, palette: Palette) -> tuple[np.ndarray, int]:
    """Convert a mask of colors to (class indices uint8 [H, W], number of pixels that match the palette inexactly).

    A file with one channel must match exactly unless the palette is gray, because class ids would look like dark
    colors. Raises SightlineError for other image modes and for colors outside the palette.
    """
    if image.mode not in COLOR_MODES:
        cure = "if its values are class ids: --data.palette '' --data.classes '[NAME, NAME]'"
        raise SightlineError(
            f"the mask has the mode {image.mode} of Pillow, which cannot be compared with the colors of the palette",
            cure=cure,
        )
    reject_transparent(image)
    width, height = image.size
    indices = np.empty((height, width), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    strict, inexact = image.mode in GRAY_MODES and not palette.gray, 0
    strays: dict[int, tuple[int, int, int]] = {}
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))).convert("RGBA")
        colors = np.asarray(strip).view("<u4").ravel() & 0xFFFFFF
        part = np.take(palette.table, colors)
        missed = np.flatnonzero(part == OUTSIDE)
        if len(missed):
            found, first, inverse, counts = np.unique(colors[missed], True, True, True)
            codes = np.full(len(found), OUTSIDE, np.uint8) if strict else match_colors(found, palette)
            part[missed] = codes[inverse]
            for i in np.flatnonzero(codes == OUTSIDE):
                y, x = divmod(int(missed[first[i]]), width)
                count, x, y = strays.get(int(found[i]), (0, x, top + y))
                strays[int(found[i])] = (count + int(counts[i]), x, y)
            inexact += len(missed)
        if len(strays) > MOST_STRAYS:
            break
        indices[top : top + rows] = part.reshape(-1, width)
    if strays:
        reject_colors(strays, palette, strict, width * height)
    return indices, inexact


def reject_colors(strays: dict[int, tuple[int, int, int]], palette: Palette, strict: bool, size: int) -> NoReturn:
    """Raise SightlineError for colors outside the palette, with the settings that may accept them.

    strays: {packed color: (count, first x, first y)}. strict: whether the mask has a single channel. size: number of
    pixels of the mask.
    """
    order = sorted(strays, key=lambda color: (-strays[color][0], color))
    near, distances = nearest_names(np.array(order, np.uint32), palette)
    unpacked = [tuple(color) for color in channels(np.array(order[:SHOWN_STRAYS], np.uint32)).tolist()]
    lines = []
    for color, rgb, name, apart in zip(order, unpacked, near, distances, strict=False):
        count, x, y = strays[color]
        lines.append(f"{rgb} ({count:,} px, first at x={x}, y={y}; {apart} from {palette.names[name]})")
    if palette.gray and {*strays} == {0x010101}:
        cure = "if the masks have the values 0 and 1: --data.palette '' --data.classes '[background, foreground]'"
        raise SightlineError("the mask has the value 1, which is not in the palette", cure=cure)
    many = "at least " if len(strays) > MOST_STRAYS else ""
    total = sum(count for count, _, _ in strays.values())
    more = f" and {many}{len(order) - len(lines):,} more" if len(order) > len(lines) else ""
    why = (
        f"{many}{total:,} of the mask's {size:,} pixels have colors that are not in the palette: "
        f"{', '.join(lines)}{more}"
    )
    if strict:
        cure = "if its values are class ids: --data.palette '' --data.classes '[NAME, NAME]'"
        raise SightlineError(f"the mask has 1 channel, but the palette has colors; {why}", cure=cure)
    if many:
        cure = "check that this file is a mask, because it has as many colors as a photograph; if it was a JPEG file "
        raise SightlineError(why, cure=f"{cure}before, which changes colors, export the masks again as PNG")
    cures = [f"add the color to the classes in --data.colors as NAME: {list(unpacked[0])}"]
    if not palette.threshold and all({*color} <= {0, 255} for color in palette.colors or ()):
        cures.insert(0, "for masks of 0 and 255 with soft borders: --data.threshold 128")
    if int(distances.max()) <= NEAR and not palette.threshold:
        cures.insert(0, f"accept similar colors: --data.tolerance {int(distances.max())}")
    raise SightlineError(why, cure="; or ".join(cures))


def image_size(path: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of an image after rotation, read from its header; raises SightlineError if it is not readable."""
    raise_pillow_limit(max_pixels)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SightlineError("this path is not a regular file", cure="remove it from the data")
        header = file_header(path)
        if header is not None and not header.kind.plain:
            return header.size
        with Image.open(path, formats=FORMATS) as image:
            return upright_size(image)
    except Exception as error:  # as in images.open_image
        raise image_error(path, error) from error


def write_mask(indices: np.ndarray, palette: Palette) -> bytes:
    """Encode class indices uint8 [H, W] as a PNG file with the colors or ids of the palette."""
    return encoded(Image.fromarray(coded(indices, palette)), "PNG")


def coded(indices: np.ndarray, palette: Palette) -> np.ndarray:
    """Convert class indices uint8 [H, W] to the palette's colors, RGB [H, W, 3], or to its gray values or ids, [H, W].

    Returns uint8, or uint16 if an id exceeds 255. If several names are merged into a class, the value of the first name
    is used; for IGNORE that of the first ignored name. Raises SightlineError for class indices that have no name.
    """
    codes = palette.ids if palette.colors is None else palette.colors
    table = np.full((256, *np.shape(codes)[1:]), -1, np.int64)
    table[: len(palette.classes)] = np.array(codes)[list(palette.representatives[: len(palette.classes)])]
    if palette.ignored:
        table[IGNORE] = codes[palette.representatives[-1]]
    missing = [value for value in np.unique(indices).tolist() if np.any(table[value] < 0)]
    if missing:
        what = (
            "ignored pixels, for which the palette has no class" if IGNORE in missing else f"unknown indices {missing}"
        )
        where = f"a palette of {len(palette.classes)} classes"
        cure = "name an ignored class of the palette: --data.ignore '[NAME]'"
        raise SightlineError(f"the mask cannot be written: it has {what}", where=where, cure=cure)
    table = table[:, 0] if palette.gray else table
    wide = np.uint16 if table.max() > 255 else np.uint8
    return np.maximum(table, 0).astype(wide)[indices]


def padded(masks: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Copy M masks uint8 [h, w] of any sizes into one array [M, *shape]. The remaining pixels are IGNORE."""
    result = np.full((len(masks), *shape), IGNORE, np.uint8)
    for index, mask in enumerate(masks):
        result[index, : mask.shape[0], : mask.shape[1]] = mask
    return result
