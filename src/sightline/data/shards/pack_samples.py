"""What goes into a shard of one image: its bytes as they are or scaled down once, its mask, its label and its name."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...config.schema import Data
from ..decode.masks import load, read_mask
from ..decode.palettes import Palette
from ..pair_cache import read_pair
from ..sources.open import Items, Source
from ..sources.pair_facts import item_facts
from .index import Table

QUALITY = 95
"""Of the JPEG files that scaled pictures become, without chroma subsampling."""
MADE = ("sklearn", "torchvision")
"""Layouts whose images are no files; they are stored as PNG."""


class Packed(NamedTuple):
    """One sample as it goes into a shard. members: bytes by their endings. size: height and width. counts: pixels of
    each class, empty without masks. empty: whether a training mask has no pixel that counts."""

    members: dict[str, bytes]
    size: tuple[int, int]
    counts: np.ndarray
    empty: bool = False


@dataclass(frozen=True)
class Job:
    """One packing. shard_bytes: a shard ends with the sample that reaches it. resize: of the shorter side, 0: none."""

    source: Source
    palette: Palette | None
    data: Data
    out: Path
    shard_bytes: int
    resize: int
    seed: int
    say: Callable[[str], None]


def sample_of(job: Job, split: str, place: int) -> Packed:
    """One image, with its mask where there are masks, decoded once to see that it is whole; else SightlineError."""
    items, source = job.source.splits[split], job.source
    palette = job.palette if items.mask_names is not None else None
    counts = np.zeros(0 if job.palette is None else len(job.palette.classes), np.int64)
    if palette is None:
        image = items.read(place)
    else:
        pixels, _, facts = read_pair(items, place, len(palette.classes))
        image, counts = Image.fromarray(pixels.transpose(1, 2, 0)), facts.counts
    path = "" if source.layout in MADE else os.path.join(source.path, items.names[place])
    scaled = scaled_size(image.size, job.resize)
    members = picture_of(image, path, scaled)
    width, height = scaled or image.size
    if palette is not None and items.mask_names is not None:
        mask_path = os.path.join(source.path, items.mask_names[place])
        mask = mask_of(mask_path, job, scaled)
        members |= mask
        if scaled:
            indices = read_mask(mask_path, palette, job.data.max_pixels, content=mask["mask.png"])
            counts = item_facts((height, width), indices, len(palette.classes)).counts
    empty = palette is not None and split == "train" and not counts.any()
    return Packed(members, (height, width), counts, empty)


def scaled_size(size: tuple[int, int], side: int) -> tuple[int, int] | None:
    """Width and height with the shorter one `side`, where it has more; None where a picture stays as it is."""
    shorter = min(size)
    if not side or shorter <= side:
        return None
    return max(side, round(size[0] * side / shorter)), max(side, round(size[1] * side / shorter))


def picture_of(image: Image.Image, path: str, scaled: tuple[int, int] | None) -> dict[str, bytes]:
    """The picture by its ending: the file's own bytes, or those of a scaled JPEG; PNG where there is no file."""
    file = io.BytesIO()
    if scaled is not None:
        smaller = image.resize(scaled, Image.Resampling.LANCZOS, reducing_gap=3.0)
        smaller.save(file, "JPEG", quality=QUALITY, subsampling=0)
        return {"jpg": file.getvalue()}
    if path:
        return {os.path.splitext(path)[1].lower().removeprefix("."): Path(path).read_bytes()}
    image.save(file, "PNG")
    return {"png": file.getvalue()}


def mask_of(path: str, job: Job, scaled: tuple[int, int] | None) -> dict[str, bytes]:
    """The mask by its ending: the file's own bytes, or a PNG of its own values, the nearest ones where it shrinks."""
    if scaled is None:
        return {"mask." + os.path.splitext(path)[1].lower().removeprefix("."): Path(path).read_bytes()}
    image, scale = load(path, job.data.max_pixels)
    if scale > 1:  # Pillow has spread the ids of 2 and 4 bits
        image = Image.fromarray(np.asarray(image) // scale)
    file = io.BytesIO()
    image.resize(scaled, Image.Resampling.NEAREST).save(file, "PNG")
    return {"mask.png": file.getvalue()}


def described(job: Job, items: Items, place: int, packed: Packed) -> dict[str, bytes]:
    """The members that say what a sample is: .json, and .cls with the number of its class."""
    values: dict[str, Any] = {"name": items.names[place], "number": place, "height": packed.size[0]}
    values["width"] = packed.size[1]
    members: dict[str, bytes] = {}
    if items.labels is not None:
        label = int(items.labels[place])
        values |= {"label": label, "class": job.source.classes[label]}
        members["cls"] = str(label).encode("ascii")
    return members | {"json": json.dumps(values).encode("ascii")}


def table_of(items: Items, rows: list[tuple[int, int, int, tuple[int, int], np.ndarray]]) -> Table:
    """The table of a shard; rows: start, end, place, size and pixels of each class of its samples."""
    starts, ends, places = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    labels = np.full(len(rows), -1, np.int64) if items.labels is None else items.labels[places]
    sizes = np.array([row[3] for row in rows], np.int64)
    counts = np.array([row[4] for row in rows], np.int64).reshape(len(rows), -1)
    return Table(starts, ends, places, labels, sizes, counts, tuple(items.names[place] for place in places))
