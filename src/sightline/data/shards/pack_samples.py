"""Content of packed samples: the image, unchanged or scaled down, its mask, label and name."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...config.schema import Data
from ...errors import SightlineError
from ..decode.images import encoded
from ..decode.masks import load, read_mask, write_mask
from ..decode.palettes import Palette
from ..label_arrays import are_sets
from ..pair_cache import read_pair
from ..shard_format import SampleTable
from ..sources.open import WITHOUT_FILES
from ..sources.pair_facts import item_facts
from ..sources.scan import EXTENSIONS
from ..types import Items, Source

QUALITY = 95
"""JPEG quality of images that were scaled down; they have no chroma subsampling."""


class PackedSample(NamedTuple):
    """One sample of a shard.

    index: in the split. members: {file extension: bytes}. size: height, width. counts: int64 [K], pixels per class;
    empty without masks. empty: whether it is a training pair whose mask has only ignored pixels.
    """

    index: int
    members: dict[str, bytes]
    size: tuple[int, int]
    counts: np.ndarray
    empty: bool


@dataclass(frozen=True)
class PackJob:
    """Data and options of `sightline pack`. shard_bytes: a shard ends with the sample that reaches this size.
    resize: largest shorter side of an image; 0: no limit. announce: function that prints a line."""

    source: Source
    palette: Palette | None
    data: Data
    out: Path
    shard_bytes: int
    resize: int
    seed: int
    announce: Callable[[str], None]


def read_sample(job: PackJob, split: str, index: int) -> PackedSample:
    """Read one sample, and decode its image and mask to check them; raises SightlineError if either is invalid."""
    items, source = job.source.splits[split], job.source
    palette = job.palette if items.mask_names is not None else None
    counts = np.zeros(0 if job.palette is None else len(job.palette.classes), np.int64)
    if palette is None:
        image = items.read(index)
        if not isinstance(image, Image.Image):
            raise SightlineError("shards hold 8-bit images only, with all channels: train on the images themselves")
    else:
        pixels, own, facts = read_pair(items, index, len(palette.classes))
        image, counts = Image.fromarray(pixels.transpose(1, 2, 0)), facts.counts
    path = "" if source.layout in WITHOUT_FILES else os.path.join(source.path, items.names[index])
    scaled = scaled_size(image.size, job.resize)
    width, height = scaled or image.size
    members = image_member(image, path, scaled)
    if palette is not None and items.mask_names is not None:
        mask_path = os.path.join(source.path, items.mask_names[index])
        drawn = None if mask_path.lower().endswith(EXTENSIONS) else write_mask(own, palette)
        members |= mask_member(mask_path, job.data.max_pixels, scaled, drawn)
        if scaled:
            mask = read_mask(mask_path, palette, job.data.max_pixels, content=members["mask.png"])
            counts = item_facts((height, width), mask, len(palette.classes)).counts
    members |= label_members(job, items, index, (height, width))
    empty = palette is not None and split == "train" and not counts.any()
    return PackedSample(index, members, (height, width), counts, empty)


def scaled_size(size: tuple[int, int], side: int) -> tuple[int, int] | None:
    """(width, height) of an image when its shorter side is scaled down to `side` pixels. None if that side is not
    longer, or if `side` is 0 (no limit)."""
    shorter = min(size)
    if not side or shorter <= side:
        return None
    return max(side, round(size[0] * side / shorter)), max(side, round(size[1] * side / shorter))


def ending_of(path: str) -> str:
    """The extension of a file name in lower case, without the dot."""
    return os.path.splitext(path)[1].lower().removeprefix(".")


def image_member(image: Image.Image, path: str, scaled: tuple[int, int] | None) -> dict[str, bytes]:
    """The image as a file in a shard: {file extension: bytes}. It is a JPEG if `scaled` is a size, a PNG if `path`
    is empty (data that are not files), else the unchanged file."""
    if scaled is not None:
        smaller = image.resize(scaled, Image.Resampling.LANCZOS, reducing_gap=3.0)
        return {"jpg": encoded(smaller, "JPEG", quality=QUALITY, subsampling=0)}
    return {ending_of(path): Path(path).read_bytes()} if path else {"png": encoded(image, "PNG")}


def mask_member(
    path: str, max_pixels: int, scaled: tuple[int, int] | None, drawn: bytes | None = None
) -> dict[str, bytes]:
    """The mask as a file in a shard: {file extension: bytes}. It is a PNG scaled by nearest neighbor if `scaled` is
    a size, else the unchanged file. drawn: a PNG file instead of `path`, for masks that are drawn from annotations."""
    if scaled is None:
        return {"mask.png": drawn} if drawn else {f"mask.{ending_of(path)}": Path(path).read_bytes()}
    image, scale = load(path, max_pixels, drawn)
    if scale > 1:  # Pillow scales ids of 2 and 4 bits to 0..255
        image = Image.fromarray(np.asarray(image) // scale)
    return {"mask.png": encoded(image.resize(scaled, Image.Resampling.NEAREST), "PNG")}


def label_members(job: PackJob, items: Items, index: int, size: tuple[int, int]) -> dict[str, bytes]:
    """File extension -> bytes of the metadata (json) and, for images with one label, of the class index (cls)."""
    values: dict[str, Any] = {"name": items.names[index], "number": index, "height": size[0], "width": size[1]}
    members: dict[str, bytes] = {}
    if are_sets(items.labels):
        own = np.flatnonzero(items.labels[index]).tolist()
        values |= {"labels": own, "classes": [job.source.classes[label] for label in own]}
    elif items.labels is not None:
        label = int(items.labels[index])
        values |= {"label": label, "class": job.source.classes[label]}
        members["cls"] = str(label).encode("ascii")
    return members | {"json": json.dumps(values).encode("ascii")}


def sample_table(items: Items, samples: list[PackedSample], spans: np.ndarray) -> SampleTable:
    """The sample table of a shard of n samples; spans: int64 [n, 2], the byte range of each in the tar file."""
    numbers = np.array([sample.index for sample in samples], np.int64)
    return SampleTable(
        starts=spans[:, 0],
        ends=spans[:, 1],
        numbers=numbers,
        labels=np.full(len(samples), -1, np.int64) if items.labels is None else items.labels[numbers],
        sizes=np.array([sample.size for sample in samples], np.int64),
        counts=np.array([sample.counts for sample in samples], np.int64).reshape(len(samples), -1),
        names=tuple(items.names[number] for number in numbers),
        groups=None if items.groups is None else tuple(items.groups[number] for number in numbers),
    )
