"""Checks of image-mask pairs: incomplete pairs, invalid masks, different sizes, and numbers of pixels per class."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ..config.schema import Data
from ..data.decode.masks import MaskFacts, Numbering
from ..data.decode.palettes import Palette, empty_palette
from ..data.shards.index import is_sharded
from ..data.shards.parquet import parquet_files
from ..data.sources.open import locate
from ..data.sources.pair_facts import ItemFacts, item_facts, with_file_names
from ..data.sources.pair_layouts import TEMPLATE, recognize
from ..data.sources.pairs import (
    Pair,
    Unpaired,
    choose_palette,
    holds_shapes,
    items_of,
    layout_notes,
    open_pairs,
    pair_names,
)
from ..data.types import Items
from ..errors import SightlineError
from .checks import imbalance, missing_classes
from .facts import Facts
from .findings import STOPS, Finding, Group, finding
from .opened import OpenedData, open_any_layout, read_any, stray_checks

RARE_PIXELS = 100
"""A class is rare if the largest class has at least this many times its number of pixels."""
KINDS_OF = {"this mask cannot be read": "unreadable_mask", "this mask cannot be used": "mask"}


def open_masked(data: Data) -> OpenedData:
    """Open image-mask pairs; incomplete pairs become findings. Raises SightlineError if there are no images."""
    root, packed = parquet_files(data)
    if packed or is_sharded(data):
        return open_complete(data, files=False)
    root, table = locate(data)
    if table:
        cure = "pass the folder that contains the images and masks: sightline doctor FOLDER"
        raise SightlineError(f"masks cannot be listed in a table, such as {table}", where=root, cure=cure)
    if holds_shapes(root, data):
        return replace(open_complete(data), findings=stray_checks(root))
    try:
        folders = recognize(root, data, Counter())
    except SightlineError as error:
        return open_any_layout(data, error)
    unpaired, pairs, found, palette = Unpaired(), dict[str, list[Pair]](), list[Finding](), None
    for split, files in folders.items():
        pairs[split] = [(image, None) for image in files.images] if files.masks is None else pair_names(files, unpaired)
        if files.masks is None and split != "test":
            found.append(Finding("no_masks", "error", f"the images of {split} have no masks", STOPS, TEMPLATE))
    cure = f"add the missing files, or remove the incomplete pairs; or {TEMPLATE}"
    found += finding("image_without_mask", [Group((name,)) for name in unpaired.images], cure=cure)
    found += finding("mask_without_image", [Group((name,)) for name in unpaired.masks], cure=cure)
    found += finding("ambiguous_pair", [Group((), text) for text in unpaired.ambiguous], cure=cure)
    complete = {split: [pair for pair in members if pair[1]] for split, members in pairs.items()}
    complete = {split: members for split, members in complete.items() if members}
    try:
        masks = [mask.name for members in complete.values() for _, mask in members if mask]
        palette = choose_palette(root, data, masks)
    except SightlineError as error:
        found.append(Finding("palette", "error", error.what, error.why or STOPS, error.cure))
    known = palette or empty_palette()
    reading, said = read_any(root, {image.name: image.stamp for some in pairs.values() for image, _ in some}, data)
    images = {split: [(image, None) for image, _ in members] for split, members in pairs.items()}
    how = data.max_pixels, reading, Numbering()
    splits = {split: items_of(root, members, empty_palette(), *how) for split, members in images.items()}
    masked = {split: items_of(root, members, known, *how) for split, members in complete.items() if palette}
    notes = (*layout_notes(root, complete), *said)
    found += stray_checks(root)
    return OpenedData(
        *(root, splits, known.classes, notes),
        regular=False,
        palette=palette,
        masked=masked,
        findings=found,
        channels=reading.channels,
    )


def open_complete(data: Data, files: bool = True) -> OpenedData:
    """Open pairs that `train` accepts: of annotation files, or in shards (`files` False)."""
    source, known = open_pairs(data, data.split_seed, hold_out=False)
    images = {split: replace(items, read_mask=None, mask_names=None) for split, items in source.splits.items()}
    opened = OpenedData(source.path, images, known.classes, source.notes, files, False, known, dict(source.splits))
    return replace(opened, channels=source.channels)


def mask_checks(
    masked: dict[str, Items], palette: Palette, facts: Sequence[Facts], root: str
) -> tuple[list[Finding], dict[str, np.ndarray]]:
    """Find invalid masks, and missing and rare classes by numbers of pixels: (findings, pixels of each class by split,
    int64 [K]). masked: the complete pairs by split. facts: properties of the images, for their sizes. root: the folder
    of the data."""
    sizes = {fact.name: fact.size for fact in facts if not fact.why}
    faults: dict[tuple[str, str], list[Group]] = {}
    counts: dict[str, np.ndarray] = {}
    empty: list[Group] = []
    for split, items in masked.items():
        counts[split] = np.zeros(len(palette.classes), np.int64)
        assert items.mask_names is not None
        for name, mask, result in zip(items.names, items.mask_names, read_all(items, sizes, palette), strict=True):
            if isinstance(result, ItemFacts):
                counts[split] += result.counts
                empty += [Group((mask,))] * (not result.counts.any())
                continue
            kind = KINDS_OF.get(result.what, "mask_size")
            note = (result.why or result.what).replace(root + os.sep, "")
            group = Group((name, mask) if kind == "mask_size" else (mask,), note)
            faults.setdefault((kind, result.cure), []).append(group)
    found = [one for (kind, cure), groups in faults.items() for one in finding(kind, groups, cure=cure)]
    found += finding("empty_mask", empty)
    if not any(kind == "mask" for kind, _ in faults):  # the counts without unusable masks would mislead
        found += missing_classes(counts, palette.classes, "pixel")
        found += imbalance(counts, palette.classes, RARE_PIXELS, "pixels")
    return found, counts


def read_all(items: Items, sizes: dict[str, tuple[int, int]], palette: Palette) -> list[ItemFacts | SightlineError]:
    """Read the masks of all pairs: for each its statistics, or the SightlineError if it is invalid. sizes: (width,
    height) of the readable images by name."""

    def read(index: int) -> ItemFacts | SightlineError:
        assert items.read_mask is not None
        known = MaskFacts()
        try:
            mask = items.read_mask(index, known)
            width, height = sizes.get(items.names[index], mask.shape[::-1])
            return item_facts((height, width), mask, len(palette.classes), known.inexact)
        except SightlineError as error:
            return with_file_names(error, items, index)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, range(len(items.names))))
