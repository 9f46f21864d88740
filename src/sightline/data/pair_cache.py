"""Decode image-mask pairs once, into two memory-mapped arrays in the cache, and check every pair.

Images [N, C, H, W] and masks [N, H, W] are not resized. H and W are the largest height and width. Smaller images are
padded at the bottom and right with black, and their masks with IGNORE. All invalid pairs are reported together, before
training starts.
"""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from ..config.schema import Data
from ..errors import ENVIRONMENT, SightlineError, counted, listing, printable, some_of
from .cache import cache_root, cached_entry, files_key, key_of
from .channels import Channels
from .decode.decoding import decode_rows, decoding_notes, finish_arrays
from .decode.images import EXIF_DAMAGED, VERSION, planes
from .decode.kinds import Raster
from .decode.masks import MaskFacts, image_size
from .decode.palettes import IGNORE, Palette, to_dict
from .decode.survey import with_top
from .image_cache import raster_facts, reading_key
from .sources.pair_facts import (
    ItemFacts,
    SplitFacts,
    facts_notes,
    item_facts,
    reject_pairs,
    split_facts,
    with_file_names,
)
from .types import Decoded, Items, Source

FORMAT = 2


def decode_all(
    source: Source, palette: Palette, data: Data, announce: Callable[[str], None] = print
) -> tuple[Decoded, Decoded]:
    """Decode the pairs of train and val: (train, val). One SightlineError lists the invalid pairs of both."""
    decoded, faults = [], []
    for split in ("train", "val"):
        try:
            decoded.append(decode_pairs(source, split, palette, data, announce))
        except SightlineError as error:
            if error.status == ENVIRONMENT:
                raise
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        why = "".join(f if f.startswith("\n") else "\n" + listing([f]) for f in (fault.why for fault in faults))
        cures = list(dict.fromkeys(line.strip() for fault in faults for line in fault.cure.strip().splitlines()))
        cure = "\n" + listing(cures) if len(cures) > 1 else cures[0]
        raise SightlineError("; ".join(fault.what for fault in faults), where=source.path, why=why, cure=cure)
    return decoded[0], decoded[1]


def decode_pairs(
    source: Source, split: str, palette: Palette, data: Data, announce: Callable[[str], None] = print
) -> Decoded:
    """Load the decoded image-mask pairs of a split from the cache; if they are not there, decode them into the cache
    first.

    Raises SightlineError with all invalid pairs: unreadable, of different sizes, or with colors or ids in the mask that
    are not in the palette. Also raises it if all pixels of all masks are ignored.
    """
    channels = with_top(source, data, announce if split == "train" else lambda text: None)
    folder = cache_root(data) / entry_key(source, split, palette, data)

    def fill(folder: Path) -> dict[str, Any]:
        meta = write_pairs(folder, source, split, len(palette.classes), data.max_pixels, announce, channels)
        return {"format": FORMAT, "source": printable(f"{source.path} ({split}, with masks)"), **meta}

    (images, masks), meta = cached_entry(folder, fill, announce)
    kept, every, groups = meta["kept"], source.splits[split].names, source.splits[split].groups
    names = tuple(every[index] for index in kept)
    if len(names) < len(every):
        lost = [every[index] for index in np.setdiff1d(np.arange(len(every)), kept)]
        have, are = ("has", "is") if len(lost) == 1 else ("have", "are")
        announce(
            f"{counted(len(lost), 'mask')} of {split} {have} only ignored pixels and {are} left out: {some_of(lost)}"
        )
    columns = {"overlap": [0] * len(kept)} | meta  # missing in entries of earlier versions
    facts = SplitFacts(*(np.array(columns[name], np.int64) for name in SplitFacts._fields))
    for note in [*facts_notes(split, names, facts, palette), *decoding_notes(meta, split, every, 0)]:
        announce(note)
    return Decoded(
        images=images,
        labels=None,
        names=names,
        classes=palette.classes,
        digest=key_of([meta["sha256"], names, palette.classes]),
        nbytes=images.nbytes + masks.nbytes,
        groups=None if groups is None else tuple(groups[index] for index in kept),
        masks=masks,
        sizes=facts.shapes,
        counts=facts.counts,
        channels=channels,
        missing=meta.get("missing", 0),
    )


def entry_key(source: Source, split: str, palette: Palette, data: Data) -> str:
    """Name of a cache entry: SHA-256 of everything that its arrays depend on."""
    root, names, stamps = files_key(source, split)
    complete = split != "train"  # training pairs without a labeled pixel are left out
    versions = ["pairs", FORMAT, VERSION, PIL.__version__]
    rest = reading_key(source, data)
    return key_of([versions, root, data.max_pixels, names, stamps, to_dict(palette), complete, *rest])


def write_pairs(
    folder: Path,
    source: Source,
    split: str,
    classes: int,
    max_pixels: int,
    announce: Callable[[str], None],
    channels: Channels,
) -> dict[str, Any]:
    """Decode all pairs of a split into images.npy and masks.npy in `folder`; returns the content of meta.json.

    Training pairs whose mask has only ignored pixels are left out. Such validation pairs are kept, so that each image
    has a prediction. Raises one SightlineError with all invalid pairs.
    """
    items = source.splits[split]
    height, width = largest_size(source.path, items, max_pixels)
    shapes = {"images": (len(channels), height, width), "masks": (height, width)}
    decode = partial(decode_pair, items, classes)
    count = len(items.names)
    arrays, results = decode_rows(
        folder, shapes, decode, count, announce, "images and masks", "smaller images, ", channels.dtype
    )
    faults = [result for result in results if isinstance(result, SightlineError)]
    if faults:
        reject_pairs(source.path, split, faults, len(results))
    facts = [result for result in results if isinstance(result, ItemFacts)]
    labeled = [index for index, fact in enumerate(facts) if fact.counts.any()]
    if not labeled:
        why = f"all {len(facts):,} masks of {split} have only ignored pixels"
        cure = "correct --data.palette and --data.ignore, and check that these files are the right masks"
        raise SightlineError(f"no pixel of {split} is labeled", where=source.path, why=why, cure=cure)
    kept = labeled if split == "train" else list(range(len(facts)))
    arrays_of_facts = split_facts([facts[index] for index in kept], classes)
    return {
        "shape": [len(kept), len(channels), height, width],
        "sha256": finish_arrays(folder, arrays, kept),
        "kept": kept,
        **{name: array.tolist() for name, array in arrays_of_facts._asdict().items()},
        "torn_exif": [index for index, fact in enumerate(facts) if fact.damaged_exif],
        **raster_facts(channels, sum(facts[index].missing for index in kept)),
    }


def decode_pair(items: Items, classes: int, index: int, image_row: np.ndarray, mask_row: np.ndarray) -> ItemFacts:
    """Decode the pair `index` into its rows of the two arrays, [C, H, W] and [H, W]; return its statistics. Raises
    SightlineError, with the file names, if the pair is invalid."""
    try:
        pixels, mask, facts = read_pair(items, index, classes)
        height, width = mask.shape
        if height > mask_row.shape[0] or width > mask_row.shape[1]:
            raise SightlineError("this image or its mask changed while it was read", cure="run the command again")
    except SightlineError as error:
        raise with_file_names(error, items, index) from error
    image_row[:, :height, :width] = pixels
    mask_row[:] = IGNORE
    mask_row[:height, :width] = mask
    return facts


def largest_size(root: str, items: Items, max_pixels: int) -> tuple[int, int]:
    """The largest height and width over all images, from the headers of files; (1, 1) if none can be read."""
    if items.shards is not None:
        height, width = items.shards.sizes.max(0).tolist()
        return height, width
    height, width = 1, 1
    for index, name in enumerate(items.names):
        with contextlib.suppress(SightlineError):  # decoding reports it together with all others
            path = os.path.join(root, name)
            size = image_size(path, max_pixels) if os.path.exists(path) else items.read(index).size[::-1]
            height, width = max(height, size[0]), max(width, size[1])
    return height, width


def read_pair(items: Items, index: int, classes: int) -> tuple[np.ndarray, np.ndarray, ItemFacts]:
    """Decode the pair `index`: (image [C, h, w], mask uint8 [h, w], statistics). Pixels of the mask are IGNORE
    where all channels of the image have no data. Raises SightlineError for an invalid image or mask."""
    assert items.read_mask is not None
    counts = MaskFacts()
    mask = items.read_mask(index, counts)
    image = items.read(index)
    pixels = planes(image)
    missing = 0
    if isinstance(image, Raster) and image.empty is not None:
        missing = image.missing
        mask = np.where(image.empty, IGNORE, mask) if image.empty.shape == mask.shape else mask
    facts = item_facts((pixels.shape[1], pixels.shape[2]), mask, classes, counts.inexact, counts.overlap)
    return pixels, mask, facts._replace(damaged_exif=bool(image.info.get(EXIF_DAMAGED)), missing=missing)
