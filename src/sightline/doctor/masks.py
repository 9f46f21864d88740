"""Checks of images with masks: incomplete pairs, wrong masks and sizes, and the pixels of each class."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..config.schema import Data
from ..data.decode.masks import MaskFacts
from ..data.decode.palettes import Palette, empty_palette
from ..data.sources.open import locate
from ..data.sources.pair_facts import ItemFacts, item_facts, with_file_names
from ..data.sources.pair_layouts import TEMPLATE, recognize
from ..data.sources.pairs import Pair, Unpaired, choose_palette, items_of, layout_notes, pair_names, palette_notes
from ..data.types import Items
from ..errors import SightlineError
from .checks import imbalance, missing_classes
from .facts import Facts
from .findings import STOPS, Finding, Group, finding
from .opened import Opened, open_any_layout, stray_checks

RARE_PIXELS = 100
"""A class is rare where the largest has this many times its pixels."""
KINDS_OF = {"this mask cannot be read": "unreadable_mask", "this mask cannot be used": "mask"}


def open_masked(data: Data) -> Opened:
    """Pairs of images and masks, as far as they can be paired. Raises SightlineError where there are no images."""
    root, table = locate(data)
    if table:
        cure = "give the folder of the images and masks"
        raise SightlineError(f"{table} is a table, which cannot name masks", where=root, cure=cure)
    try:
        places = recognize(root, data, Counter())
    except SightlineError as error:
        return open_any_layout(data, error)
    unpaired, pairs, found, palette = Unpaired(), dict[str, list[Pair]](), list[Finding](), None
    for split, place in places.items():
        pairs[split] = (
            pair_names(place, unpaired) if place.masks is not None else [(file, None) for file in place.images]
        )
        if place.masks is None and split != "test":
            found.append(Finding("no_masks", "error", f"the images of {split} have no masks", STOPS, TEMPLATE))
    cure = f"add the missing files or remove the unmatched ones; or {TEMPLATE}"
    found += finding("image_without_mask", [Group((name,)) for name in unpaired.images], cure=cure)
    found += finding("mask_without_image", [Group((name,)) for name in unpaired.masks], cure=cure)
    found += finding("ambiguous_pair", [Group((), text) for text in unpaired.ambiguous], cure=cure)
    whole = {split: [pair for pair in members if pair[1]] for split, members in pairs.items()}
    whole = {split: members for split, members in whole.items() if members}
    try:
        palette = choose_palette(root, data, [mask.name for members in whole.values() for _, mask in members if mask])
    except SightlineError as error:
        found.append(Finding("palette", "error", error.what, error.why or STOPS, error.cure))
    known = palette or empty_palette()
    images = {split: [(image, None) for image, _ in members] for split, members in pairs.items()}
    splits = {split: items_of(root, members, empty_palette(), data.max_pixels) for split, members in images.items()}
    masked = {split: items_of(root, members, known, data.max_pixels) for split, members in whole.items() if palette}
    notes = (*layout_notes(root, whole), *palette_notes(root, data, known))
    found += stray_checks(root)
    return Opened(root, splits, known.classes, notes, regular=False, palette=palette, masked=masked, findings=found)


def mask_checks(masked: dict[str, Items], palette: Palette, facts: Sequence[Facts], root: str) -> list[Finding]:
    """Findings on the masks of complete pairs, and on the pixels of their classes."""
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
    if not any(kind == "mask" for kind, _ in faults):  # with unusable masks the counts are meaningless
        found += missing_classes(counts, palette.classes, "pixel")
        found += imbalance(counts, palette.classes, RARE_PIXELS, "pixels")
    return found


def read_all(items: Items, sizes: dict[str, tuple[int, int]], palette: Palette) -> list[ItemFacts | SightlineError]:
    """The facts of each pair's mask, or its error. sizes: width and height of the readable images by name."""

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
