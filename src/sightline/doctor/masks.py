"""Images with masks: halves of pairs, wrong masks and sizes, and the pixels of the classes; all of it at once."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..config.schema import Data
from ..data.cache import cache_root
from ..data.decode.crash_guard import laid
from ..data.decode.masks import MaskFacts
from ..data.decode.palettes import Palette, empty_palette
from ..data.sources.open import Items, locate
from ..data.sources.pair_facts import ItemFacts, item_facts, with_file_names
from ..data.sources.pair_layouts import TEMPLATE, PairFiles, recognize
from ..data.sources.pairs import Pair, Unpaired, items_of, layout_notes, pair_names, palette_notes, settle_palette
from ..errors import SightlineError
from .checks import imbalance, missing_classes
from .facts import Facts
from .findings import Finding, Group, number, singles
from .opened import Opened, as_found, strays

LEAST_PIXELS = 100
"""A class is rare where the largest has so many times its pixels."""
KINDS = {
    "this mask cannot be read": ("unreadable_mask", "cannot be read", "cannot be read"),
    "this mask cannot be used": ("mask", "cannot be used", "cannot be used"),
}
SIZES = ("mask_size", "has another size than its image", "have another size than their images")
STOPS = "training stops"


def open_masked(data: Data) -> Opened:
    """Pairs of images and masks, as far as they pair off. Raises SightlineError where there is nothing to look at."""
    root, table = locate(data)
    if table:
        cure = "give the folder of the images and masks"
        raise SightlineError(f"{table} is a table, and masks have none", where=root, cure=cure)
    try:
        places = recognize(root, data, Counter())
    except SightlineError as error:
        return as_found(data, error)
    unpaired, pairs, found = Unpaired(), dict[str, list[Pair]](), list[Finding]()
    for split, place in places.items():
        pairs[split] = paired(split, place, unpaired, found)
    found += halves(unpaired)
    whole = {split: [pair for pair in members if pair[1]] for split, members in pairs.items()}
    whole = {split: members for split, members in whole.items() if members}
    palette = None
    try:
        palette = settle_palette(root, data, [mask.name for members in whole.values() for _, mask in members if mask])
    except SightlineError as error:
        found.append(Finding("palette", "error", error.what, error.why or STOPS, error.cure))
    images = {split: [(image, None) for image, _ in members] for split, members in pairs.items()}
    splits = {split: items_of(root, members, empty_palette(), data.max_pixels) for split, members in images.items()}
    known = palette or empty_palette()
    masked = {split: items_of(root, members, known, data.max_pixels) for split, members in whole.items()}
    notes = [*layout_notes(root, whole), *palette_notes(root, data, known)]
    found += strays(root)
    return Opened(
        root,
        splits,
        known.classes,
        tuple(notes),
        regular=False,
        palette=palette,
        masked=masked if palette else {},
        findings=found,
    )


def paired(split: str, place: PairFiles, unpaired: Unpaired, found: list[Finding]) -> list[Pair]:
    """The images of a split with their masks; a training or validation split without any is a finding."""
    if place.masks is not None:
        return pair_names(place, unpaired)
    if split != "test":
        found.append(Finding("no_masks", "error", f"the images of {split} have no masks", STOPS, TEMPLATE))
    return [(file, None) for file in place.images]


def halves(unpaired: Unpaired) -> list[Finding]:
    """Images and masks that found no partner, or several."""
    cure = f"add or remove the other halves; or {TEMPLATE}"
    found = []
    if unpaired.images:
        what = number(len(unpaired.images), "image", "has no mask", "have no mask")
        found.append(Finding("image_without_mask", "error", what, STOPS, cure, singles(unpaired.images)))
    if unpaired.masks:
        what = number(len(unpaired.masks), "mask", "has no image", "have no image")
        found.append(Finding("mask_without_image", "error", what, STOPS, cure, singles(unpaired.masks)))
    if unpaired.ambiguous:
        what = number(len(unpaired.ambiguous), "pair", "is not clear", "are not clear")
        groups = tuple(Group((), text) for text in unpaired.ambiguous)
        found.append(Finding("ambiguous_pair", "error", what, STOPS, cure, groups))
    return found


def mask_checks(masked: dict[str, Items], palette: Palette, facts: Sequence[Facts], root: str) -> list[Finding]:
    """What is wrong with the masks of whole pairs, and how many pixels their classes have."""
    sizes = {fact.name: fact.size for fact in facts if not fact.why}
    faults: dict[tuple[str, str, str, str], list[Group]] = {}
    counts: dict[str, np.ndarray] = {}
    empty: list[str] = []
    for split, items in masked.items():
        counts[split] = np.zeros(len(palette.classes), np.int64)
        for index, result in enumerate(read_all(items, sizes, len(palette.classes))):
            assert items.mask_names is not None
            if isinstance(result, ItemFacts):
                counts[split] += result.counts
                empty += [items.mask_names[index]] * (not result.counts.any())
                continue
            kind, one, many = KINDS.get(result.what, SIZES)
            files = (items.mask_names[index],) if kind != "mask_size" else (items.names[index], items.mask_names[index])
            note = (result.why or result.what).replace(root + os.sep, "")
            faults.setdefault((kind, one, many, result.cure), []).append(Group(files, note))
    found = [
        Finding(kind, "error", number(len(groups), "mask", one, many), STOPS, cure, tuple(groups))
        for (kind, one, many, cure), groups in faults.items()
    ]
    if empty:
        what = number(len(empty), "mask", "holds ignored pixels only", "hold ignored pixels only")
        why = "nothing can be learned from them: training leaves them out, and validation counts nothing in them"
        found.append(Finding("empty_mask", "warning", what, why, "draw them, or remove the pairs", singles(empty)))
    if not any(kind == "mask" for kind, *_ in faults):  # else the counts say nothing
        found += missing_classes(counts, palette.classes, "pixel")
        found += imbalance(counts, palette.classes, LEAST_PIXELS, "pixels")
    return found


def read_all(items: Items, sizes: dict[str, tuple[int, int]], classes: int) -> list[ItemFacts | SightlineError]:
    """Of each pair what its mask holds, or what is wrong with it. sizes: width and height of the images by name."""

    def one(index: int) -> ItemFacts | SightlineError:
        assert items.read_mask is not None
        told = MaskFacts()
        try:
            mask = items.read_mask(index, told)
            width, height = sizes.get(items.names[index], mask.shape[::-1])  # an unreadable image is told elsewhere
            return item_facts((height, width), mask, classes, told.inexact)
        except SightlineError as error:
            return with_file_names(error, items, index)

    with laid(cache_root()), ThreadPoolExecutor() as pool:
        return list(pool.map(one, range(len(items.names))))
