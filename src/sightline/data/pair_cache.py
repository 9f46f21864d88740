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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

from ..config.schema import Data
from ..errors import ENVIRONMENT, SightlineError, listing, printable, some_of
from ..runs.atomic import sync_folder
from .cache import cache_root, entry_of, read_meta
from .decode.decoding import PROGRESS_SECONDS, notes_of, refuse_full_disk, size_text
from .decode.exif import TORN
from .decode.images import VERSION, planes
from .decode.masks import MaskFacts, image_size
from .decode.palettes import IGNORE, Palette, to_dict
from .sources.open import Items, Source
from .sources.pair_facts import (
    ItemFacts,
    SplitFacts,
    facts_notes,
    item_facts,
    refuse_faults,
    split_facts,
    with_file_names,
)

if TYPE_CHECKING:
    from .shards.stream import Stream

FORMAT = 2
ARRAYS = ("images.npy", "masks.npy")


@dataclass(frozen=True)
class DecodedPairs:
    """A decoded split of pairs.

    images: uint8 [N, 3, H, W]. labels: the masks, uint8 [N, H, W], class indices and IGNORE. sizes: int64 [N, 2], the
    height and width that each pair fills. counts: int64 [N, K], pixels of each class. digest: SHA-256 over pixels,
    masks, names and classes. nbytes: size of both arrays. stream: as of `cache.Decoded`.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...]
    sizes: np.ndarray
    counts: np.ndarray
    digest: str
    nbytes: int
    stream: "Stream | None" = None


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
) -> DecodedPairs:
    """The split's pairs, from the cache or decoded into it.

    Raises SightlineError listing every pair that is wrong: unreadable, of two sizes, with colors or ids that the
    palette does not have, or with no pixel that counts.
    """
    folder = cache_root(data) / entry_key(source, split, palette, data)

    def fill(place: Path) -> dict[str, Any]:
        meta = write_pairs(place, source, split, len(palette.classes), data.max_pixels, announce)
        return {"format": FORMAT, "source": printable(f"{source.path} ({split}, with masks)"), **meta}

    images, masks, meta = entry_of(folder, opened, fill, announce)
    kept, every = meta["kept"], source.splits[split].names
    names = tuple(every[place] for place in kept)
    if len(names) < len(every):
        lost = [every[place] for place in np.setdiff1d(np.arange(len(every)), kept)]
        announce(f"{len(lost):,} masks of {split} hold ignored pixels only and are left out: {some_of(lost)}")
    digest = hashlib.sha256(json.dumps([meta["sha256"], names, palette.classes]).encode("ascii")).hexdigest()
    facts = SplitFacts(*(np.array(meta[name], np.int64) for name in SplitFacts._fields))
    for note in [*facts_notes(split, names, facts, palette), *notes_of(meta, split, every, 0)]:
        announce(note)
    size = images.nbytes + masks.nbytes
    return DecodedPairs(images, masks, names, palette.classes, facts.shapes, facts.counts, digest, size)


def entry_key(source: Source, split: str, palette: Palette, data: Data) -> str:
    """The name of an entry: 64 hex digits over all that its arrays depend on."""
    items = source.splits[split]
    root = os.path.realpath(source.path) if os.path.exists(source.path) else source.path
    versions = ["pairs", FORMAT, VERSION, PIL.__version__]
    whole = split != "train"  # of training pairs not all are kept
    content = [versions, root, data.max_pixels, items.names, items.stamps, to_dict(palette), whole]
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def opened(folder: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]] | None:
    """(images, masks, meta) of a whole entry, else None."""
    try:
        meta = read_meta(folder)
        images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
        masks = np.load(folder / "masks.npy", mmap_mode="c", allow_pickle=False)
        shape = [len(images), *images.shape[2:]]
        whole = meta["format"] == FORMAT and list(images.shape) == meta["shape"] and list(masks.shape) == shape
        return (images, masks, meta) if whole and images.dtype == masks.dtype == np.uint8 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_pairs(
    folder: Path, source: Source, split: str, classes: int, max_pixels: int, announce: Callable[[str], None]
) -> dict[str, Any]:
    """images.npy and masks.npy in `folder`; what meta.json says of them. All faults in one SightlineError.

    Training pairs of which no pixel counts are not kept. What is validated is, so that every image has its prediction.
    """
    items = source.splits[split]
    room = room_of(source.path, items, max_pixels)
    arrays, results = decode_into(folder, items, room, classes, announce)
    faults = [result for result in results if isinstance(result, SightlineError)]
    if faults:
        refuse_faults(source.path, split, faults, len(results))
    facts = [result for result in results if isinstance(result, ItemFacts)]
    counted = [place for place, fact in enumerate(facts) if fact.counts.any()]
    if not counted:
        why = f"all {len(facts):,} masks of {split} hold ignored pixels only"
        cure = "check --data.palette and --data.ignore, and that the masks are the right ones"
        raise SightlineError(f"no pixel of {split} counts", where=source.path, why=why, cure=cure)
    kept = counted if split == "train" else list(range(len(facts)))
    if len(kept) < len(facts):
        arrays = [keep_rows(folder / name, kept) for name in ARRAYS]
    checksum = hashlib.sha256()
    for array in arrays:
        checksum.update(array.data)
        array.flush()
    sync_folder(folder)
    found = split_facts([facts[place] for place in kept], classes)
    listed = {name: array.tolist() for name, array in found._asdict().items()}
    listed["torn_exif"] = [place for place, fact in enumerate(facts) if fact.torn]
    return {"shape": list(arrays[0].shape), "sha256": checksum.hexdigest(), "kept": kept, **listed}


def keep_rows(path: Path, kept: list[int]) -> np.memmap:
    """The .npy file `path` with these of its rows only, copied on disk."""
    whole = np.load(path, mmap_mode="r")
    smaller = new_array(path.with_name(f"{path.stem}-kept.npy"), (len(kept), *whole.shape[1:]))
    for row, place in enumerate(kept):
        smaller[row] = whole[place]
    os.replace(path.with_name(f"{path.stem}-kept.npy"), path)
    return smaller


def decode_into(
    folder: Path, items: Items, room: tuple[int, int], classes: int, announce: Callable[[str], None]
) -> tuple[list[np.memmap], list[ItemFacts | SightlineError]]:
    """((images, masks) with room for pairs of that height and width, for each pair its facts or what is wrong)."""
    count, (height, width) = len(items.names), room
    need = count * height * width * 4
    refuse_full_disk(folder, need, "smaller images, ")
    announce(f"decoding {count:,} images and masks into the cache: {size_text(need)} at {folder.parent}")
    images = new_array(folder / ARRAYS[0], (count, 3, height, width))
    masks = new_array(folder / ARRAYS[1], (count, height, width))

    def one(index: int) -> ItemFacts | SightlineError:
        try:
            pixels, mask, facts = read_pair(items, index, classes)
        except SightlineError as error:
            return with_file_names(error, items, index)
        rows, columns = mask.shape
        if rows > height or columns > width:
            return with_file_names(
                SightlineError("it was changed while it was read", cure="run the command again"), items, index
            )
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
    return [images, masks], results


def room_of(root: str, items: Items, max_pixels: int) -> tuple[int, int]:
    """The largest height and the largest width of all images, by their headers; (1, 1) where none can be read."""
    if items.shards is not None:
        height, width = items.shards.sizes.max(0).tolist()
        return height, width
    height, width = 1, 1
    for name in items.names:
        with contextlib.suppress(SightlineError):  # reading its pixels will fail too, and is told with all other faults
            size = image_size(os.path.join(root, name), max_pixels)
            height, width = max(height, size[0]), max(width, size[1])
    return height, width


def read_pair(items: Items, index: int, classes: int) -> tuple[np.ndarray, np.ndarray, ItemFacts]:
    """(image uint8 [3, h, w], mask uint8 [h, w], its facts); SightlineError for whatever is wrong with either."""
    assert items.read_mask is not None
    told = MaskFacts()
    mask = items.read_mask(index, told)
    image = items.read(index)
    pixels = planes(image)
    facts = item_facts((pixels.shape[1], pixels.shape[2]), mask, classes, told.inexact)
    return pixels, mask, facts._replace(torn=bool(image.info.get(TORN)))


def new_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A uint8 .npy file whose room is reserved before it is mapped: a full disk is then an error and not a signal."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    return array
