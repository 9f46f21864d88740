"""The same validation images under several models: those on which they differ most, with what each says of them."""

import os
from dataclasses import dataclass

import numpy as np

from ...data.decode.masks import MAX_PIXELS, image_size, padded, read_mask
from ...data.decode.palettes import Palette, display_colors
from ...engine.training_state import shrunk
from ...errors import SightlineError
from ...insight.curves import number
from ...stats.segmentation import pixel_accuracy
from ...tasks.segment.report import read_arrays, read_palette
from ...tasks.segment.results import mask_names
from ..findings import pictures_by_row
from ..run import UNREADABLE, RunFiles, attempt
from ..words import section
from .items import in_order_of
from .kinds import ComparedRun, Comparison, ItemResults, RunPair

TILES = 12
ROWS = 3
"""Images of a segmenter on which a run is better, and as many on which it is worse."""


@dataclass(frozen=True)
class Said:
    """What one run says of an image."""

    run: str
    answer: str
    sure: float
    right: bool


@dataclass(frozen=True)
class SameTile:
    """One image with what both runs of a pair say. image: uint8 [3, h, w]."""

    image: np.ndarray
    name: str
    truth: str
    said: tuple[Said, ...]


@dataclass(frozen=True)
class MaskRow:
    """One image under all runs. image: uint8 [3, h, w]; truth and each mask: uint8 [h, w], None where unreadable;
    counts: the confusion matrix of the whole image under each run, None where it is not known."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    masks: tuple[np.ndarray | None, ...]
    counts: tuple[np.ndarray | None, ...]


@dataclass(frozen=True)
class SameMasks:
    """Images under all runs of a comparison of segmenters; classes and colors are the reference's."""

    rows: tuple[MaskRow, ...]
    classes: tuple[str, ...]
    colors: np.ndarray


def thumbnails_by_name(found: Comparison) -> dict[str, np.ndarray]:
    """Picture of each validation image that any of the comparable runs has kept, uint8 [3, h, w]."""
    pictures: dict[str, np.ndarray] = {}
    for entry in paired(found):
        assert entry.answers
        names = entry.answers.names
        by_row = pictures_by_row(entry.files, len(names))
        pictures |= {names[row]: image for row, image in by_row.items() if names[row] not in pictures}
    return pictures


def paired(found: Comparison) -> list[ComparedRun]:
    """The reference and every run that was compared with it item by item."""
    compared = {pair.second for pair in found.pairs}
    return [entry for entry in found.entries if entry is found.reference or entry.name in compared]


def only_right(pair: RunPair, pictures: dict[str, np.ndarray], second: bool) -> list[SameTile]:
    """Images that one of a pair has right and the other wrong, the surest mistakes first.

    second: those that the second has right.
    """
    a, b = pair.answers
    right, wrong = (b, a) if second else (a, b)
    rows = np.flatnonzero(right.correct & ~wrong.correct)
    shown = [int(row) for row in rows[np.argsort(-wrong.sure[rows], kind="stable")] if a.names[row] in pictures]
    return [same_tile(pair, row, pictures[a.names[row]]) for row in shown[:TILES]]


def same_tile(pair: RunPair, row: int, image: np.ndarray) -> SameTile:
    """One image of a pair."""
    classes = pair.answers[0].classes
    said = tuple(
        Said(name, classes[one.given[row]], float(one.sure[row]), bool(one.correct[row]))
        for name, one in zip((pair.first, pair.second), pair.answers, strict=True)
    )
    first = pair.answers[0]
    return SameTile(image, first.names[row], classes[first.truth[row]], said)


def same_masks(found: Comparison) -> SameMasks | None:
    """The images on which segmenters differ most, under all runs that are comparable; None where there are none."""
    palette = attempt("checkpoints/best/config.json", found.reference.files.path, read_palette, [], None)
    first = found.reference.answers
    if palette is None or first is None or not found.pairs:
        return None
    known = kept_pictures(found)
    rows = [row for row in chosen_rows(found, set(known)) if first.names[row] in known]
    same = paired(found)
    answers = [aligned(first, entry) if entry in same else None for entry in found.entries]
    masks = [masks_of(entry, one, rows) for entry, one in zip(found.entries, answers, strict=True)]
    result = []
    for place, row in enumerate(rows):
        image, truth = known[first.names[row]]
        own = [group[place] if group else None for group in masks]
        fitting = tuple(mask if mask is not None and mask.shape == truth.shape else None for mask in own)
        counts = tuple(one.given[row] if one is not None else None for one in answers)
        result.append(MaskRow(first.names[row], image, truth, fitting, counts))
    return SameMasks(tuple(result), palette.classes, display_colors(palette))


def aligned(first: ItemResults, entry: ComparedRun) -> ItemResults:
    """A run's answers in the order of the reference."""
    assert entry.answers
    return in_order_of(first, entry.answers)


def kept_pictures(found: Comparison) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (image uint8 [3, h, w], true mask uint8 [h, w]) of all images that a comparable run has kept."""
    kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    alike = [entry for entry in paired(found) if entry.files.classes == found.reference.files.classes]
    for path in [entry.files.path for entry in reversed(alike)]:  # the reference's own count in the end
        for file, truth in (("samples.npz", "labels"), ("mistakes.npz", "truth")):
            arrays = attempt(f"snapshots/{file}", path, read_arrays, [], {})
            if {"images", "names", truth} <= arrays.keys():
                names, pairs = map(str, arrays["names"]), zip(arrays["images"], arrays[truth], strict=True)
                kept |= dict(zip(names, pairs, strict=True))
    return kept


def chosen_rows(found: Comparison, known: set[str]) -> list[int]:
    """Rows of the images, of those with a picture, that each run gains and loses most against the reference."""
    rows: list[int] = []
    each = max(1, ROWS // len(found.pairs))
    for pair in found.pairs:
        a, b = pair.answers
        apart = np.nan_to_num(pixel_accuracy(b.given) - pixel_accuracy(a.given))
        order = [int(row) for row in np.argsort(-apart, kind="stable") if a.names[row] in known]
        rows += [row for row in order[:each] if apart[row] > 0]
        rows += [row for row in order[: -each - 1 : -1] if apart[row] < 0]
    return list(dict.fromkeys(rows))


def masks_of(entry: ComparedRun, answers: ItemResults | None, rows: list[int]) -> list[np.ndarray | None]:
    """The predicted masks uint8 [h, w] of these rows as small as the kept pictures, in the reference's classes."""
    palette = attempt("checkpoints/best/config.json", entry.files.path, read_palette, [], None)
    if answers is None or palette is None or entry.answers is None:
        return []
    folder, limit = entry.files.path / "predictions" / "val", most_pixels(entry.files)
    files = [str(folder / name) for name in mask_names(entry.answers.names)]
    try:
        sizes = np.array([image_size(file, limit) for file in files if os.path.exists(file)])
    except SightlineError:
        return []
    room = (int(sizes[:, 0].max()), int(sizes[:, 1].max())) if len(sizes) else (0, 0)
    return [one_mask(files[answers.rows[row]], palette, answers.classes, room, limit) for row in rows]


def one_mask(
    file: str, palette: Palette, classes: tuple[str, ...], room: tuple[int, int], limit: int
) -> np.ndarray | None:
    """A predicted mask, laid out and shrunk as the kept pictures are; None where it cannot be read."""
    try:
        mask = read_mask(file, palette, limit)
    except UNREADABLE:
        return None
    table = np.arange(256, dtype=np.uint8)
    table[: len(classes)] = [classes.index(name) for name in palette.classes]
    return shrunk(padded([table[mask]], room))[0]


def most_pixels(files: RunFiles) -> int:
    """The largest image that the run allows."""
    return int(number(section(files.recipe, "data").get("max_pixels"), MAX_PIXELS))
