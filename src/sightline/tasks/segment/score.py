"""`sightline score`: metrics of predicted masks against true masks in two folders, without a model.

Files are paired by name and decoded a few at a time, so that memory does not depend on the number of files. Nothing is
resized or skipped; all errors are reported together.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np

from ...config.schema import Data
from ...data.decode.masks import MaskFacts, read_mask
from ...data.decode.palettes import Palette
from ...data.parallel import processors
from ...data.sources.layouts import require_images
from ...data.sources.pairs import choose_palette
from ...data.sources.scan import CLASS_LIST, left_out
from ...data.test_ledger import TestImages
from ...errors import SightlineError, counted, listing
from ...report.formatting import fixed, fixed_interval
from ...runs.atomic import finite
from ...stats import segmentation as measures
from ...stats.groups import groups_of_masks, ids_in
from ..contract import Say

MASK_ENDING, OVERLAY_ENDING = "_mask", "_overlay"  # of the files that `predict` writes
ENDINGS = (MASK_ENDING, "_sat", "_pred", "_prediction", "_label", "_gt")
"""Endings that are removed before names are compared; `_sat`, because a prediction may have the name of its image."""
HEADLINES = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_accuracy": "mean class accuracy",
}
MAX_FAULTS = 1000
"""Reading stops after this number of invalid pairs, because with a wrong palette all files are invalid."""
PROGRESS_SECONDS = 5.0
AHEAD = 4
"""Number of pairs per thread that are submitted to the thread pool at a time."""


class MaskPair(NamedTuple):
    """Paths of a true and a predicted mask. name: path of the true mask, relative to its folder."""

    name: str
    truth: str
    predicted: str


class PairResult(NamedTuple):
    """The counts of one pair of masks, or the error.

    confusion: int64 [K + 1, K + 1], rows: true class, columns: predicted class, ignored pixels last; None for an
    invalid pair, which has `fault` and `cure` instead. inexact: number of pixels in both masks whose color matches the
    palette only within its threshold or tolerance.
    """

    confusion: np.ndarray | None
    inexact: int = 0
    fault: str = ""
    cure: str = ""


@dataclass(frozen=True)
class Score:
    """Metrics of N pairs of masks with K classes.

    names: paths of the true masks. per_image: Counts uint32 [N, K]. confusion: int64 [K + 1, K + 1] of all pairs, rows:
    true class, columns: predicted class, ignored pixels last. numbers: the metrics of
    `stats.segmentation.segment_numbers`, with mean_iou_interval and pixel_accuracy_interval, [low, high] or [None,
    None]. class_intervals: of the IoU of each class, float64 [K, 2]. others: other definitions of mean IoU. notes:
    sentences for the user.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    per_image: measures.Counts
    confusion: np.ndarray
    numbers: dict[str, Any]
    by_class: measures.ClassNumbers
    class_intervals: np.ndarray
    others: dict[str, measures.Definition]
    notes: tuple[str, ...]


@dataclass
class Faults:
    """All errors in two folders of masks, as lines for the user.

    unread: number of pairs that were not read, because there were too many errors. cures: what to do.
    """

    without_prediction: list[str] = field(default_factory=list)
    without_truth: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    unread: int = 0
    cures: list[str] = field(default_factory=list)

    def raise_any(self, truth: str, predicted: str) -> None:
        """Raise one SightlineError with all errors, if there are any. truth, predicted: paths of the two folders."""
        unread = f"; {self.unread:,} further pairs were not read" * bool(self.unread)
        groups = (
            (self.without_prediction, "true masks without a prediction"),
            (self.without_truth, "predictions without a true mask"),
            (self.duplicates, "names shared by several files"),
            (self.invalid, f"pairs of masks that cannot be compared{unread}"),
        )
        shown = [f"\n  {len(names):,} {words}:\n{listing(names)}" for names, words in groups if names]
        cures = list(dict.fromkeys(filter(None, self.cures)))
        if self.without_prediction or self.without_truth:
            cures.insert(
                0,
                "give the two masks of an image the same name and subfolder, for example a/0013_mask.png and "
                "a/0013.png; or score the complete pairs only: --data.on_unpaired leave_out",
            )
        if self.duplicates:
            cures.insert(0, "keep one file of each name, or add `_mask` to the names of the masks, and to no others")
        if shown:
            where = f"{truth} (truth), {predicted} (predictions)"
            cure = "; ".join(cures[:5])
            raise SightlineError("these masks cannot be scored", where=where, why="".join(shown), cure=cure)


def score(
    truth: str | os.PathLike[str],
    pred: str | os.PathLike[str],
    palette: str | Data = "",
    *,
    threads: int = 0,
    say: Say = lambda text: None,
) -> Score:
    """Compute the metrics of the predicted masks in the folder `pred` against the true masks in the folder `truth`.

    Subfolders are included. palette: name of a palette (`landcover`), or data settings; empty: the pixel values are
    class indices, whose names are in classes.txt in `truth` or its parent folder. With `on_unpaired` of data settings
    `leave_out`, masks without a counterpart are left out, and their number is in the notes. threads: number of threads,
    each with one pair in memory; 0: one per CPU, at most 8. say: called with the progress every few seconds. Raises one
    SightlineError with all masks that have no counterpart, differ in size or cannot be read.
    """
    folders = os.fspath(truth), os.fspath(pred)
    missing = [folder for folder in folders if not os.path.isdir(folder)]
    if missing:
        cure = "pass two folders of mask files: --truth FOLDER --pred FOLDER"
        raise SightlineError("there is no such folder", where=", ".join(missing), cure=cure)
    data = Data(palette=palette) if isinstance(palette, str) else palette
    faults, notes = Faults(), []
    true, predicted = (masks_below(folder, faults, notes) for folder in folders)
    meaning = palette_for(folders[0], data, next(iter(true.values())))
    lone = [true[key] for key in true if key not in predicted], [predicted[key] for key in predicted if key not in true]
    if data.on_unpaired == "leave_out" and len(lone[0]) < len(true):
        notes += [f"left out: {len(lone[0]):,} true masks without a prediction, {len(lone[1]):,} predictions without a "
                  "true mask"] * any(lone)  # fmt: skip
    else:
        faults.without_prediction, faults.without_truth = lone
    paths = [(true[key], predicted[key]) for key in true if key in predicted]
    pairs = [MaskPair(mine, os.path.join(folders[0], mine), os.path.join(folders[1], other)) for mine, other in paths]
    total, counts, inexact = count_pairs(pairs, meaning, data.max_pixels, threads or workers(), faults, say)
    faults.raise_any(*folders)
    tests = TestImages()
    for pair in pairs:
        tests.add(pair.truth)
    if look := tests.record("score", None, [folders[1]]):
        notes.append(look)
    if os.path.samefile(*folders):
        notes.append("the true and the predicted masks are the same folder")
    numbers: dict[str, Any] = dict(measures.segment_numbers(counts))
    names = tuple(pair.name for pair in pairs)
    groups = groups_of_masks(names, counts.truth, data)
    ids = ids_in(groups)
    if groups:
        numbers |= groups.facts(measures.effective_images(counts, groups.ids))
        notes.append(groups.sentence(numbers.get("effective_images", 0)))
    for name, statistic in (("mean_iou", measures.mean_iou), ("pixel_accuracy", measures.pixel_accuracy)):
        numbers[f"{name}_interval"] = finite([float(end) for end in measures.interval(counts, statistic, ids)])
    return Score(
        names=names,
        classes=meaning.classes,
        per_image=counts,
        confusion=total,
        numbers=numbers,
        by_class=measures.class_numbers(counts),
        class_intervals=np.stack(measures.class_intervals(counts, ids), axis=1),
        others=measures.other_definitions(counts, total),
        notes=(*notes, *notes_on(total, counts, inexact)),
    )


def workers() -> int:
    """Number of CPUs that this process may use, at most 8 to limit memory."""
    return min(8, processors())


def masks_below(folder: str, faults: Faults, notes: list[str]) -> dict[str, str]:
    """Paths of all masks in a folder and its subfolders, relative to it, by the name that the masks of a pair share.

    If some names end in `_mask`, files of the same name without it are taken for images or overlays: they are skipped,
    and their number is added to `notes`. Other files raise SightlineError, because true masks and predictions may be in
    one folder. Names that several files share are added to `faults`.
    """
    tally: Counter[str] = Counter()
    files = [file.name for file in require_images(folder, "", tally)]
    named = [name for name in files if PurePosixPath(name).stem.endswith(MASK_ENDING)]
    if named and len(named) < len(files):
        notes.append(f"{folder}: {len(files) - len(named):,} images whose names do not end in {MASK_ENDING} left out")
        masked = {pair_name(name) for name in named}
        drawn = {pair_name(name): pair_name(name).removesuffix(OVERLAY_ENDING) for name in files}
        if mixed := [name for name in files if drawn[pair_name(name)] not in masked]:
            what = f"{counted(len(mixed), 'file')} without the ending {MASK_ENDING}, which other files have"
            cure = "give the ending to all masks of a folder or to none; keep predictions in a folder of their own"
            raise SightlineError(what, where=folder, why=listing(mixed, 5), cure=cure)
        files = named
    if tally:
        notes.append(f"{folder}: {left_out(tally)} left out")
    found: dict[str, list[str]] = {}
    for name in files:
        found.setdefault(pair_name(name), []).append(name)
    faults.duplicates += [f"{folder}: {', '.join(names)}" for names in found.values() if len(names) > 1]
    return {key: names[0] for key, names in found.items()}


def pair_name(name: str) -> str:
    """The part of a path that both masks of a pair share: `city/0013` for `city/0013_mask.png`."""
    path = PurePosixPath(name)
    stem = next((path.stem.removesuffix(end) for end in ENDINGS if path.stem.endswith(end)), "")
    return str(path.with_name(stem or path.stem))


def palette_for(truth: str, data: Data, first: str) -> Palette:
    """The palette in the data settings, or that of classes.txt in the folder `truth` or its parent. first: path of a
    mask."""
    above = os.path.dirname(os.path.abspath(truth))
    beside = not os.path.isfile(os.path.join(truth, CLASS_LIST)) and os.path.isfile(os.path.join(above, CLASS_LIST))
    root = above if beside else truth
    return choose_palette(root, data, [os.path.relpath(os.path.join(truth, first), root)])


def count_pairs(
    pairs: list[MaskPair], palette: Palette, max_pixels: int, threads: int, faults: Faults, say: Say
) -> tuple[np.ndarray, measures.Counts, int]:
    """(confusion matrix [K + 1, K + 1] of all pairs, Counts uint32 [N, K] of each pair, number of inexact pixels).

    Inexact pixels match the palette only within its threshold or tolerance. Invalid pairs are added to `faults`.
    """
    side = len(palette.classes) + 1
    assert len(palette.table)  # computed and cached before threads use it
    total, inexact = np.zeros((side, side), dtype=np.int64), 0
    margins = np.zeros((3, len(pairs), side - 1), dtype=np.uint32)  # enough for twice the pixels of a mask
    started = reported = time.monotonic()
    for index, result in enumerate(in_order(pairs, palette, max_pixels, threads)):
        if result.confusion is None:
            faults.invalid.append(f"{pairs[index].name}: {result.fault}")
            faults.cures.append(result.cure)
        else:
            total += result.confusion
            inexact += result.inexact
            counts = measures.as_counts(result.confusion[:-1])
            margins[:, index] = counts.hits, counts.truth, counts.predicted
        if len(faults.invalid) >= MAX_FAULTS:
            faults.unread = len(pairs) - index - 1
            break
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            say(f"scored {index + 1:,} of {len(pairs):,} pairs in {reported - started:.0f} s")
    return total, measures.Counts(*margins), inexact


def in_order(pairs: list[MaskPair], palette: Palette, max_pixels: int, threads: int) -> Iterator[PairResult]:
    """Yield the result of `compare` for each pair, in the order of `pairs`, computed by several threads."""
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pairs), AHEAD * threads):
            some = pairs[start : start + AHEAD * threads]
            yield from pool.map(lambda pair: compare(pair, palette, max_pixels), some)


def compare(pair: MaskPair, palette: Palette, max_pixels: int) -> PairResult:
    """Count the pixels of one pair of masks; the result has the errors of both files if they cannot be compared."""
    facts, masks, faults, cure = MaskFacts(), [], [], ""
    for side, path in (("truth", pair.truth), ("prediction", pair.predicted)):
        try:
            masks.append(read_mask(path, palette, max_pixels=max_pixels, facts=facts))
        except SightlineError as error:
            faults.append(f"{side}: {error.why or error.what}")
            cure = cure or error.cure
    if not faults and masks[0].shape != masks[1].shape:
        sizes = [f"{mask.shape[1]} x {mask.shape[0]}" for mask in masks]
        faults = [f"the true mask has {sizes[0]} pixels, the prediction {sizes[1]}"]
        cure = (
            "write each predicted mask in the size of the true one; masks are not resized, which would change the "
            "scores"
        )
    if faults:
        return PairResult(None, fault="; ".join(faults), cure=cure)
    return PairResult(measures.confusion(masks[1], masks[0], len(palette.classes), ignored=True), facts.inexact)


def notes_on(total: np.ndarray, counts: measures.Counts, inexact: int) -> list[str]:
    """Sentences for the user on ignored pixels and inexact colors.

    total: confusion matrix with ignored pixels last. inexact: number of pixels that match the palette only within its
    threshold or tolerance.
    """
    pixels, notes = int(total.sum()), []
    void, empty, unanswered = int(total[-1].sum()), int((counts.truth.sum(-1) == 0).sum()), int(total[:-1, -1].sum())
    if void:
        notes.append(f"{void / pixels:.2%} of the pixels are ignored in the true masks and left out")
    if empty:
        notes.append(f"{empty:,} true masks contain ignored pixels only")
    if unanswered:
        share, why = unanswered / (pixels - void), "; the true masks have none: are the folders exchanged?" * (not void)
        notes.append(f"{share:.2%} of the evaluated pixels are predicted as ignored, and count as wrong{why}")
    if inexact:
        share = inexact / (2 * pixels)
        notes.append(
            f"{share:.2%} of the pixels have no exact color of the palette, and are matched by its threshold or "
            "tolerance"
        )
    return notes


def text(result: Score) -> str:
    """The text that `sightline score` prints: a table of classes, the main metrics, other definitions, notes."""
    numbers, width = result.by_class, max(map(len, (*HEADLINES.values(), *result.classes)))
    few, over = not np.isfinite(result.class_intervals).any(), "groups of " * ("groups" in result.numbers)
    edges = f"95 % intervals over {over}images" + " (too few)" * few
    lines = [f"{len(result.names):,} pairs of masks, {len(result.classes)} classes; {edges}", ""]
    lines.append(f"{'class':<{width}}     IoU  {'interval':<16}  precision  recall  share of truth")
    for index, name in enumerate(result.classes):
        iou, precision, recall = (fixed(values[index]) for values in numbers[:3])
        row = f"{name:<{width}}  {iou}  {fixed_interval(result.class_intervals[index])}  {precision:>9}  {recall}"
        lines.append(f"{row}  {numbers.support[index] / numbers.support.sum():>14.2%}")
    lines.append("")
    for key, name in HEADLINES.items():
        ends = result.numbers.get(f"{key}_interval")
        lines.append(f"{name:<{width}}  {fixed(result.numbers[key])}" + (f"  {fixed_interval(ends)}" if ends else ""))
    lines += ["", "Definitions of mean IoU, all on these masks:"]
    width = max(map(len, result.others))
    own = measures.Definition(result.numbers["mean_iou"], measures.HEADLINE)
    for name, (value, meaning) in {"mean_iou": own, **result.others}.items():
        first, *more = wrap(meaning, 100 - width)
        lines += [f"{name:<{width}}  {fixed(value)}  {first}", *(" " * (width + 10) + line for line in more)]
    return "\n".join([*lines, *[""] * bool(result.notes), *(f"note: {note}" for note in result.notes)])
