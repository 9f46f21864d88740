"""Decode image-mask pairs once: two memory-mapped arrays a split, checked pair by pair while they are written.

An entry is a folder as in cache.py: images.npy uint8 [N, 3, H, W], masks.npy uint8 [N, H, W], meta.json. Pairs keep
their own size; where sizes differ, H and W are the largest and smaller pairs fill the upper left corner, the rest of
their mask being IGNORE. Files that make a mask wrong are found here, all of them before training begins.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from ..config import Data
from ..errors import ENVIRONMENT, SightlineError, printable
from ..files import sync_folder
from .cache import cache_root, entry_of
from .decoding import PROGRESS_SECONDS, refuse_full_disk, size_text
from .images import VERSION, planes
from .masks import MaskFacts, image_size
from .pair_facts import ItemFacts, SplitFacts, facts_notes, item_facts, placed, refuse_faults, split_facts
from .palettes import IGNORE, Palette, to_dict
from .sources import Items, Source

FORMAT = 1


@dataclass(frozen=True)
class DecodedPairs:
    """A decoded split of pairs.

    images: uint8 [N, 3, H, W]. labels: the masks, uint8 [N, H, W], class indices and IGNORE. sizes: int64 [N, 2], the
    height and width that each pair fills. counts: int64 [N, K], pixels of each class. digest: SHA-256 over pixels,
    masks, names and classes. nbytes: size of both arrays.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...]
    sizes: np.ndarray
    counts: np.ndarray
    digest: str
    nbytes: int


def decode_all(
    source: Source, palette: Palette, data: Data, announce: Callable[[str], None] = print
) -> tuple[DecodedPairs, DecodedPairs]:
    """The pairs of train and val as `decode_pairs` gives them; what is wrong with either is told at once."""
    found, faults = [], []
    for split in ("train", "val"):
        try:
            found.append(decode_pairs(source, split, palette, data, announce))
        except SightlineError as error:
            if error.status == ENVIRONMENT:
                raise
            faults.append(error)
    if faults:
        what, why = "; ".join(fault.what for fault in faults), "".join(fault.why for fault in faults)
        cure = "\n".join(dict.fromkeys(fault.cure for fault in faults))
        raise SightlineError(what, where=source.path, why=why, cure=cure)
    return found[0], found[1]


def decode_pairs(
    source: Source, split: str, palette: Palette, data: Data, announce: Callable[[str], None] = print
) -> DecodedPairs:
    """The split's pairs, from the cache or decoded into it.

    Raises SightlineError listing every pair that is wrong: unreadable, of two sizes, with colors or ids that the
    palette does not have, or with no pixel that counts.
    """
    folder = cache_root(data) / entry_key(source, split, palette, data)

    def fill(place: Path) -> dict[str, Any]:
        meta = write_pairs(place, source, split, len(palette.classes), announce)
        return {"format": FORMAT, "source": printable(f"{source.path} ({split}, with masks)"), **meta}

    images, masks, meta = entry_of(folder, opened, fill)
    names = source.splits[split].names
    digest = hashlib.sha256(json.dumps([meta["sha256"], names, palette.classes]).encode("ascii")).hexdigest()
    shapes, counts, ignored, inexact = (
        np.array(meta[name], np.int64) for name in ("shapes", "counts", "ignored", "inexact")
    )
    empty = np.flatnonzero(counts.sum(1) == 0)
    refuse_nothing(empty, len(names), source.path, split)
    if split == "train" and len(empty):
        return decode_pairs(without(source, split, empty, announce), split, palette, data, announce)
    facts = SplitFacts(shapes, counts, ignored, inexact, tuple(names[place] for place in empty))
    for note in facts_notes(split, facts, palette):
        announce(note)
    size = images.nbytes + masks.nbytes
    return DecodedPairs(images, masks, names, palette.classes, shapes, counts, digest, size)


def refuse_nothing(empty: np.ndarray, count: int, path: str, split: str) -> None:
    """SightlineError where no pixel of a split counts."""
    if len(empty) == count:
        why = f"all {count:,} masks of {split} hold ignored pixels only"
        cure = "check --data.palette and --data.ignore, and that the masks are the right ones"
        raise SightlineError("no pixel counts", where=path, why=why, cure=cure)


def without(source: Source, split: str, empty: np.ndarray, announce: Callable[[str], None]) -> Source:
    """The source less pairs from which nothing can be learned; what is validated stays whole, mask or no mask."""
    items = source.splits[split]
    names = [items.names[place] for place in empty]
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    announce(f"{len(names):,} masks of {split} hold ignored pixels only and are left out: {shown}")
    kept = items.subset(np.setdiff1d(np.arange(len(items.names)), empty))
    return replace(source, splits={**source.splits, split: kept})


def entry_key(source: Source, split: str, palette: Palette, data: Data) -> str:
    """The name of an entry: 64 hex digits over all that its arrays depend on."""
    items = source.splits[split]
    root = os.path.realpath(source.path) if os.path.exists(source.path) else source.path
    versions = ["pairs", FORMAT, VERSION, PIL.__version__]
    content = [versions, root, data.max_pixels, items.names, items.stamps, to_dict(palette)]
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def opened(folder: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]] | None:
    """(images, masks, meta) of a whole entry, else None."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
        masks = np.load(folder / "masks.npy", mmap_mode="c", allow_pickle=False)
        shape = [len(images), *images.shape[2:]]
        whole = meta["format"] == FORMAT and list(images.shape) == meta["shape"] and list(masks.shape) == shape
        return (images, masks, meta) if whole and images.dtype == masks.dtype == np.uint8 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_pairs(
    folder: Path, source: Source, split: str, classes: int, announce: Callable[[str], None]
) -> dict[str, Any]:
    """images.npy and masks.npy in `folder`; what meta.json says of them. All faults in one SightlineError."""
    items = source.splits[split]
    arrays, results = decode_into(folder, items, room_of(source.path, items), classes, announce)
    faults = [result for result in results if isinstance(result, SightlineError)]
    if faults:
        refuse_faults(source.path, split, faults, len(results))
    facts = [result for result in results if isinstance(result, ItemFacts)]
    checksum = hashlib.sha256()
    for array in arrays:
        checksum.update(array.data)
        array.flush()
    sync_folder(folder)
    kept = split_facts(items.names, facts, classes)
    listed = {name: getattr(kept, name).tolist() for name in ("shapes", "counts", "ignored", "inexact")}
    return {"shape": list(arrays[0].shape), "sha256": checksum.hexdigest(), **listed}


def decode_into(
    folder: Path, items: Items, room: tuple[int, int], classes: int, announce: Callable[[str], None]
) -> tuple[tuple[np.memmap, np.memmap], list[ItemFacts | SightlineError]]:
    """((images, masks) with room for pairs of that height and width, for each pair its facts or what is wrong)."""
    count, (height, width) = len(items.names), room
    need = count * height * width * 4
    refuse_full_disk(folder, need)
    announce(f"decoding {count:,} images and masks into the cache: {size_text(need)} at {folder.parent}")
    images = new_array(folder / "images.npy", (count, 3, height, width))
    masks = new_array(folder / "masks.npy", (count, height, width))

    def one(index: int) -> ItemFacts | SightlineError:
        try:
            pixels, mask, facts = read_pair(items, index, classes)
        except SightlineError as error:
            return placed(error, items, index)
        rows, columns = mask.shape
        images[index, :, :rows, :columns] = pixels
        masks[index] = IGNORE
        masks[index, :rows, :columns] = mask
        return facts

    results: list[ItemFacts | SightlineError] = []
    spoken = time.monotonic()
    with ThreadPoolExecutor() as pool:
        for result in pool.map(one, range(count)):
            results.append(result)
            if time.monotonic() - spoken > PROGRESS_SECONDS:
                spoken = time.monotonic()
                announce(f"decoded {len(results):,} of {count:,} pairs")
    return (images, masks), results


def room_of(root: str, items: Items) -> tuple[int, int]:
    """The largest height and the largest width of all images, by their headers; (1, 1) where none can be read."""
    height, width = 1, 1
    for name in items.names:
        with contextlib.suppress(SightlineError):  # reading its pixels will fail too, and is told with all other faults
            size = image_size(os.path.join(root, name))
            height, width = max(height, size[0]), max(width, size[1])
    return height, width


def read_pair(items: Items, index: int, classes: int) -> tuple[np.ndarray, np.ndarray, ItemFacts]:
    """(image uint8 [3, h, w], mask uint8 [h, w], its facts); SightlineError for whatever is wrong with either."""
    assert items.read_mask is not None
    told = MaskFacts()
    mask = items.read_mask(index, told)
    pixels = planes(items.read(index))
    return pixels, mask, item_facts((pixels.shape[1], pixels.shape[2]), mask, classes, told.inexact)


def new_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A uint8 .npy file whose room is reserved before it is mapped: a full disk is then an error and not a signal."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    return array
