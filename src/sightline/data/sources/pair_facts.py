"""Statistics of image-mask pairs (sizes, pixels of each class), and one error for all invalid pairs."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...config.paths import relative_path
from ...errors import SightlineError, counted, listing, printable, some_of
from ..decode.faults import COPY
from ..decode.palettes import IGNORE, Palette
from ..types import Items


class ItemFacts(NamedTuple):
    """Statistics of one image-mask pair.

    shape: height and width. counts: int64 [K], pixels of each class. ignored: number of ignored pixels. inexact: number
    of pixels that match the palette only by tolerance, threshold or a stray color. overlap: number of pixels in shapes
    of different classes. damaged_exif: whether the image has a damaged EXIF block. missing: number of values of the
    image without data.
    """

    shape: tuple[int, int]
    counts: np.ndarray
    ignored: int
    inexact: int
    overlap: int = 0
    damaged_exif: bool = False
    missing: int = 0


class SplitFacts(NamedTuple):
    """Statistics of the N image-mask pairs of a split, int64 arrays. shapes: [N, 2], height and width. counts: [N,
    K], pixels of each class. ignored, inexact, overlap: [N], numbers of pixels."""

    shapes: np.ndarray
    counts: np.ndarray
    ignored: np.ndarray
    inexact: np.ndarray
    overlap: np.ndarray


def item_facts(shape: tuple[int, int], mask: np.ndarray, classes: int, inexact: int = 0, overlap: int = 0) -> ItemFacts:
    """Count the pixels of each class in a mask uint8 [H, W]. shape: height and width of its image; raises
    SightlineError if they differ from (H, W)."""
    if shape != mask.shape:
        (height, width), (rows, columns) = shape, mask.shape
        what = f"the image has {width} x {height} pixels, but its mask has {columns} x {rows}"
        cure = "export the mask again at the image's size, without interpolation"
        if (columns, rows) == shape:
            cure = "rotate the mask by 90 degrees; perhaps the EXIF orientation rotates the image only"
        raise SightlineError(what, cure=cure)
    counts = np.array(Image.fromarray(mask).histogram(), np.int64)  # 15 times as fast as np.bincount
    return ItemFacts(shape, counts[:classes], int(counts[IGNORE]), inexact, overlap)


def split_facts(facts: Sequence[ItemFacts], classes: int) -> SplitFacts:
    """Collect the statistics of the pairs of a split in arrays."""
    *columns, _, _ = zip(*facts, strict=True) if facts else ((),) * 7
    arrays = (np.array(values, np.int64) for values in columns)
    return SplitFacts(*(a.reshape(-1, *tail) for a, tail in zip(arrays, ((2,), (classes,), (), (), ()), strict=True)))


def with_file_names(error: SightlineError, items: Items, index: int) -> SightlineError:
    """The error of an image-mask pair, with both file names as `where`, unless it has a `where` already."""
    assert items.mask_names is not None
    where = error.where or f"{items.names[index]} with {items.mask_names[index]}"
    cure = "copy the image again from its source, or remove the pair" if error.cure == COPY else error.cure
    return SightlineError(error.what, where=where, why=error.why, cure=cure)


def reject_pairs(path: str, split: str, faults: list[SightlineError], count: int) -> None:
    """Raise one SightlineError for all invalid pairs of a split of `count` pairs; equal cures are listed once."""
    files = [relative_path(f.where, path) if os.path.isabs(f.where) else f.where for f in faults]
    lines = [printable(f"{file}: {fault.why or fault.what}") for file, fault in zip(files, faults, strict=True)]
    cures = list(dict.fromkeys(fault.cure for fault in faults))
    alike = (
        len({(fault.what, fault.cure) for fault in faults}) == 1
    )  # one cause, as a wrong palette: a few examples suffice
    raise SightlineError(
        f"{len(faults):,} of {count:,} pairs of {split} cannot be used",
        where=path,
        why="\n" + listing(lines, 5 if alike else 100),
        cure="\n" + listing(cures, 8) if len(cures) > 1 else cures[0],
    )


def facts_notes(split: str, names: Sequence[str], facts: SplitFacts, palette: Palette) -> list[str]:
    """Sentences for the user: the share of each class, inexact colors, masks with ignored pixels only."""
    counts, ignored = facts.counts.sum(0), int(facts.ignored.sum())
    total = int(counts.sum()) + ignored
    shares = [f"{name} {count / total:.1%}" for name, count in zip(palette.classes, counts, strict=True)]
    notes = [f"pixels of {split}: {', '.join(shares)}" + (f", ignored {ignored / total:.1%}" if ignored else "")]
    absent = [name for name, count in zip(palette.classes, counts, strict=True) if not count]
    if absent:
        notes.append(f"{split} has no pixel of {', '.join(absent)}")
    inexact = int(facts.inexact.sum())
    if inexact:
        how = f"the threshold {palette.threshold}" if palette.threshold else f"the tolerance {palette.tolerance}"
        what = f"{inexact:,} pixels of {split} ({inexact / total:.2%})"
        notes.append(f"{what} have no exact color of the palette and are matched by {how}")
    if overlap := int(facts.overlap.sum()):
        what = f"{overlap:,} pixels of {split} ({overlap / total:.2%}) are in shapes of different classes"
        notes.append(f"{what}; which one counts is set by --data.overlap order or smaller")
    empty = [name for name, some in zip(names, facts.counts.sum(1), strict=True) if not some]
    if empty:
        have = "has" if len(empty) == 1 else "have"
        notes.append(f"{counted(len(empty), 'mask')} of {split} {have} only ignored pixels: {some_of(empty)}")
    return notes
