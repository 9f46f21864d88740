"""Find out what the images of a data set hold, from their headers: one kind of pixels, or an error with counts."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from ...config.schema import Data
from ...errors import ENVIRONMENT, SightlineError, counted, listing
from ...runs.atomic import atomic_write, read_json
from ...runs.sampling import evenly_spread
from ..cache import LARGEST, cache_root, key_of
from ..channels import RGB, Channels, shown_channels
from ..parallel import processors, submit_ahead
from ..types import Source
from .geotiff import GEO, has_rasterio
from .kinds import PLAIN, FileHeader, Kind, Raster, bits_text, file_header
from .rasters import CONVERT, Reading, read_raster

MIXED = "the images do not all have the same channels and bits"
BECOMES = "becomes 255"
SAMPLED = 16
"""Number of files whose headers are read; those of all files only if one of these is not an 8-bit image."""
DEPTHS = {"uint8": ("uint8", 255.0), "uint16": ("uint16", 0.0)}
"""Type in the cache and largest value of pixels, by their type in the files; 0: not known yet. Others are float32."""


def survey(root: str, stamps: Mapping[str, str], data: Data) -> tuple[Reading, list[str]]:
    """Decide how image files below `root` are read: (the reading, sentences for the user). stamps: by file name, as of
    `Items`.

    Raises SightlineError if they hold different kinds of pixels, if rasterio is needed and missing, and for names in
    `data.channels` that the files do not have.
    """
    names = [*stamps]
    sample = [os.path.join(root, names[index]) for index in evenly_spread(len(names), SAMPLED)]
    notes: list[str] = []
    alpha_is_channel = wants_alpha(sample, data.channels, notes)
    headers: list[FileHeader | None] = [file_header(path, alpha_is_channel) for path in sample]
    if data.channels == "rgb" or any(header and not header.kind.plain for header in headers):
        headers = [file_header(os.path.join(root, name), alpha_is_channel) for name in names]
    kinds: dict[Kind, list[int]] = {}
    for index, header in enumerate(headers):
        if header is not None:
            kinds.setdefault(header.kind, []).append(index)
    deep = sum(len(indices) for kind, indices in kinds.items() if not kind.plain)
    if deep and not has_rasterio():
        what = f"{deep:,} of {len(headers):,} images have other pixels than 8-bit RGB, which rasterio reads"
        raise SightlineError(what, where=root, why="rasterio is not installed", cure=GEO, status=ENVIRONMENT)
    if data.channels == "rgb":
        top, said = rgb_top(root, stamps, dict(zip(names, headers, strict=True)), data)
        return Reading(replace(RGB, deep=top or 255.0 * bool(deep)), None if deep else PLAIN), said
    if len(kinds) > 1:
        raise mixed(root, kinds, names)
    kind = next(iter(kinds), PLAIN)
    reading = reading_of(kind, data.channels, alpha_is_channel, [header for header in headers if header])
    if not reading.channels.plain:
        names = reading.channels.names
        shown = ", ".join(names[:12]) + ", ..." * (len(names) > 12)
        chosen = f", chosen from {len(kind.names)}" if reading.picked else ""
        notes.append(f"images have {counted(len(names), 'channel')}{chosen} ({shown}) of {bits_text(kind.number)}")
    return reading, notes


def reading_of(kind: Kind, chosen: str | tuple[str, ...], alpha_is_channel: bool, headers: list[FileHeader]) -> Reading:
    """How files of one kind are read. chosen: the setting `data.channels`. headers: of the files."""
    picked = () if isinstance(chosen, str) else tuple(index_of(text, kind.names) for text in chosen)
    if len({*picked}) < len(picked):
        cure = "give each channel once"
        raise SightlineError("a channel is chosen several times", where="data.channels", cure=cure)
    picked = () if picked == tuple(range(len(kind.names))) else picked
    if kind.plain and not picked:
        return Reading()
    dtype, top = DEPTHS.get(kind.number, ("float32", 1.0))
    names = tuple(kind.names[index] for index in picked) or kind.names
    channels = Channels(names, dtype, top or top_by_tags(headers), shown_channels(names), opaque=alpha_is_channel)
    return Reading(channels, kind, picked, alpha_is_channel)


def top_by_tags(headers: Iterable[FileHeader]) -> float:
    """2**bits - 1 if the tags of all files limit the values to the same number of bits, else 0."""
    bits = {header.bits for header in headers}
    return 2.0 ** bits.pop() - 1 if len(bits) == 1 else 0.0


def index_of(text: str, names: tuple[str, ...]) -> int:
    """Index of the channel with this name, or with this number from 1. Raises SightlineError if there is none."""
    lower = [name.lower() for name in names]
    if text.lower() in lower:
        return lower.index(text.lower())
    if text.isdecimal() and 1 <= int(text) <= len(names):
        return int(text) - 1
    cure = f"use names or numbers of the {len(names)} channels: {', '.join(names)}; from 1 to {len(names)}"
    raise SightlineError(f"the images have no channel {text!r}", where="data.channels", cure=cure)


def wants_alpha(sample: Sequence[str], chosen: str | tuple[str, ...], notes: list[str]) -> bool:
    """Whether the samples that TIFF files tag as transparency are channels.

    GDAL tags the fourth band of uint8 images as transparency unless it is told otherwise. It is a channel if the user
    chooses number 4, or if most of its values are neither transparent nor opaque; then a sentence is added to `notes`.
    It never is if the user chooses `rgb`.
    """
    if chosen == "rgb":
        return False
    if "4" in chosen:
        return True
    tagged = [path for path in sample if (header := file_header(path)) and header.alpha and header.kind.plain]
    counts = np.zeros(256, np.int64)
    for path in tagged:
        try:
            with Image.open(path, formats=("TIFF",)) as image:
                counts += np.array(image.getchannel(image.getbands()[-1]).histogram()[:256], np.int64)
        except Exception:  # a damaged file, which decoding reports
            continue
    if counts[1:255].sum() <= counts.sum() / 2:
        return False
    notes.append(
        "the last band is tagged as transparency, but most of its values are neither transparent nor opaque, so it is "
        f"read as a channel; if it is transparency: {CONVERT}"
    )
    return True


def mixed(root: str, kinds: dict[Kind, list[int]], names: Sequence[str]) -> SightlineError:
    """The SightlineError for images of several kinds, with the count of each. kinds: indices of the images by kind."""
    lines = [
        f"{counted(len(indices), 'image')}: {kind}, such as {names[indices[0]]}"
        for kind, indices in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]
    cure = f"convert or remove the images of the rarer kinds; or convert all images to 8-bit RGB: {CONVERT}"
    return SightlineError(MIXED, where=root, why="\n" + listing(lines), cure=cure)


def rgb_top(
    root: str, stamps: Mapping[str, str], headers: Mapping[str, FileHeader | None], data: Data
) -> tuple[float, list[str]]:
    """The value of files with more than 8 bits that becomes 255 in 8-bit RGB: (value, a sentence on it). One rule for
    all files: from their tags if these agree, else from the largest value. (0, none) without such files."""
    deep = {n: found for n, found in headers.items() if found and not found.kind.number.startswith(("uint8", "float"))}
    what = f"{counted(len(deep), 'image')} with more than 8 bits"
    if not deep:
        return 0.0, []
    if top := top_by_tags(deep.values()):
        return top, [f"{what}: {top:,.0f} {BECOMES}"]
    paths = {name: os.path.join(root, name) for name in deep}
    readers = [lambda name=name: read_raster(paths[name], deep[name], data.max_pixels) for name in deep]
    most = largest_value([os.path.realpath(root), [(name, stamps[name]) for name in deep]], readers, data)
    top = top_of(most)
    return top, [f"{what}: largest value {most:,.0f}, {top:,.0f} {BECOMES}"]


def with_top(source: Source, data: Data, announce: Callable[[str], None]) -> Channels:
    """The channels of a source with a known `top`. If the tags of the files have none, it is 2**bits - 1 for the bits
    of the largest value of the training images, or of all images without a training split."""
    channels = source.channels
    if channels.top:
        return channels
    parts = [source.splits["train"]] if "train" in source.splits else [*source.splits.values()]
    stamps = [(name, stamp) for items in parts for name, stamp in zip(items.names, items.stamps, strict=True)]
    readers = [partial(items.read, index) for items in parts for index in range(len(items.names))]
    most = largest_value([os.path.realpath(source.path), channels.names, stamps], readers, data)
    top = top_of(most)
    announce(f"largest value {most:,.0f}: {int(top).bit_length()} bits, so {top:,.0f} becomes 1.0")
    return replace(channels, top=top)


def top_of(largest: float) -> float:
    """2**bits - 1 for the number of bits, at least 8, that the largest value needs."""
    return 2.0 ** max(8, int(largest).bit_length()) - 1


def largest_value(key: list[Any], readers: Sequence[Callable[[], Image.Image | Raster]], data: Data) -> float:
    """The largest value in all images that can be read; the search ends at a value that needs 16 bits. readers:
    functions that decode one image each. The result is stored in the cache folder under `key`."""
    memo = cache_root(data) / f"{LARGEST}{key_of(key)}.json"
    known = read_json(memo)
    if known is not None:
        return float(known["largest"])

    def largest(read: Callable[[], Image.Image | Raster]) -> float:
        try:
            image = read()
        except SightlineError:  # decoding reports it
            return 0.0
        return float(image.pixels.max()) if isinstance(image, Raster) else 0.0

    found = 0.0
    with ThreadPoolExecutor(processors()) as pool:
        for _, value in submit_ahead(pool, largest, readers, 2 * processors()):
            found = max(found, value.result())
            if found >= 2**15:
                break
    atomic_write(memo, json.dumps({"largest": found}))
    return found
