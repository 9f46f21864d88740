"""Decode image-mask pairs once, into two memory-mapped uint8 arrays of the cache, and check every pair.

Images [N, 3, H, W] and masks [N, H, W] keep their own size. Where sizes differ, H and W are the largest, and smaller
pairs fill the upper left corner; the rest of their mask is IGNORE. All invalid pairs are found before training begins.
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
from ..errors import ENVIRONMENT, SightlineError, listing, printable, some_of
from .cache import cache_root, cached_entry, files_key, key_of
from .decode.decoding import decode_rows, finish_arrays, notes_of
from .decode.exif import TORN
from .decode.images import VERSION, planes
from .decode.masks import MaskFacts, image_size
from .decode.palettes import IGNORE, Palette, to_dict
from .sources.pair_facts import (
    ItemFacts,
    SplitFacts,
    facts_notes,
    item_facts,
    refuse_faults,
    split_facts,
    with_file_names,
)
from .types import Decoded, Items, Source

FORMAT = 2


def decode_all(
    source: Source, palette: Palette, data: Data, announce: Callable[[str], None] = print
) -> tuple[Decoded, Decoded]:
    """The pairs of train and val, like `decode_pairs`; one SightlineError for the invalid pairs of both."""
    found, faults = [], []
    for split in ("train", "val"):
        try:
            found.append(decode_pairs(source, split, palette, data, announce))
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
    return found[0], found[1]


def decode_pairs(
    source: Source, split: str, palette: Palette, data: Data, announce: Callable[[str], None] = print
) -> Decoded:
    """The split's pairs, from the cache or decoded into it.

    Raises SightlineError listing every invalid pair: unreadable, of two sizes, with colors or ids that are not in the
    palette, or with ignored pixels only.
    """
    folder = cache_root(data) / entry_key(source, split, palette, data)

    def fill(folder: Path) -> dict[str, Any]:
        meta = write_pairs(folder, source, split, len(palette.classes), data.max_pixels, announce)
        return {"format": FORMAT, "source": printable(f"{source.path} ({split}, with masks)"), **meta}

    (images, masks), meta = cached_entry(folder, fill, announce)
    kept, every = meta["kept"], source.splits[split].names
    names = tuple(every[index] for index in kept)
    if len(names) < len(every):
        lost = [every[index] for index in np.setdiff1d(np.arange(len(every)), kept)]
        announce(f"{len(lost):,} masks of {split} hold ignored pixels only and are left out: {some_of(lost)}")
    facts = SplitFacts(*(np.array(meta[name], np.int64) for name in SplitFacts._fields))
    for note in [*facts_notes(split, names, facts, palette), *notes_of(meta, split, every, 0)]:
        announce(note)
    return Decoded(
        images=images,
        labels=None,
        names=names,
        classes=palette.classes,
        digest=key_of([meta["sha256"], names, palette.classes]),
        nbytes=images.nbytes + masks.nbytes,
        masks=masks,
        sizes=facts.shapes,
        counts=facts.counts,
    )


def entry_key(source: Source, split: str, palette: Palette, data: Data) -> str:
    """The name of an entry: SHA-256 of everything that its arrays depend on."""
    root, names, stamps = files_key(source, split)
    whole = split != "train"  # not all training pairs are kept
    versions = ["pairs", FORMAT, VERSION, PIL.__version__]
    return key_of([versions, root, data.max_pixels, names, stamps, to_dict(palette), whole])


def write_pairs(
    folder: Path, source: Source, split: str, classes: int, max_pixels: int, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Write images.npy and masks.npy into `folder`; returns the content of meta.json. One error for all faults.

    Training pairs without a labeled pixel are left out. Validation pairs stay, so that every image has its prediction.
    """
    items = source.splits[split]
    height, width = largest_size(source.path, items, max_pixels)
    shapes = {"images": (3, height, width), "masks": (height, width)}
    decode = partial(decode_pair, items, classes)
    arrays, results = decode_rows(
        folder, shapes, decode, len(items.names), announce, "images and masks", "smaller images, "
    )
    faults = [result for result in results if isinstance(result, SightlineError)]
    if faults:
        refuse_faults(source.path, split, faults, len(results))
    facts = [result for result in results if isinstance(result, ItemFacts)]
    labeled = [index for index, fact in enumerate(facts) if fact.counts.any()]
    if not labeled:
        why = f"all {len(facts):,} masks of {split} hold ignored pixels only"
        cure = "check --data.palette and --data.ignore, and that the masks are the right ones"
        raise SightlineError(f"no pixel of {split} counts", where=source.path, why=why, cure=cure)
    kept = labeled if split == "train" else list(range(len(facts)))
    found = split_facts([facts[index] for index in kept], classes)
    return {
        "shape": [len(kept), 3, height, width],
        "sha256": finish_arrays(folder, arrays, kept),
        "kept": kept,
        **{name: array.tolist() for name, array in found._asdict().items()},
        "torn_exif": [index for index, fact in enumerate(facts) if fact.torn],
    }


def decode_pair(items: Items, classes: int, index: int, image_row: np.ndarray, mask_row: np.ndarray) -> ItemFacts:
    """Decode a pair into its rows [3, H, W] and [H, W]; SightlineError with its file names where it is invalid."""
    try:
        pixels, mask, facts = read_pair(items, index, classes)
        height, width = mask.shape
        if height > mask_row.shape[0] or width > mask_row.shape[1]:
            raise SightlineError("it was changed while it was read", cure="run the command again")
    except SightlineError as error:
        raise with_file_names(error, items, index) from error
    image_row[:, :height, :width] = pixels
    mask_row[:] = IGNORE
    mask_row[:height, :width] = mask
    return facts


def largest_size(root: str, items: Items, max_pixels: int) -> tuple[int, int]:
    """The largest height and the largest width of all images, by their headers; (1, 1) where none can be read."""
    if items.shards is not None:
        height, width = items.shards.sizes.max(0).tolist()
        return height, width
    height, width = 1, 1
    for name in items.names:
        with contextlib.suppress(SightlineError):  # decoding fails too, and reports it with all other faults
            size = image_size(os.path.join(root, name), max_pixels)
            height, width = max(height, size[0]), max(width, size[1])
    return height, width


def read_pair(items: Items, index: int, classes: int) -> tuple[np.ndarray, np.ndarray, ItemFacts]:
    """(image uint8 [3, h, w], mask uint8 [h, w], its facts); SightlineError for an invalid image or mask."""
    assert items.read_mask is not None
    counts = MaskFacts()
    mask = items.read_mask(index, counts)
    image = items.read(index)
    pixels = planes(image)
    facts = item_facts((pixels.shape[1], pixels.shape[2]), mask, classes, counts.inexact)
    return pixels, mask, facts._replace(torn=bool(image.info.get(TORN)))
