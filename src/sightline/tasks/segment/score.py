"""`sightline score`: masks on disk against masks on disk, with no model. Two folders in, the numbers of evaluation out.

Files are paired by name, read a few at a time and forgotten: a set of any size needs memory for some masks and a few
bytes a pair. Nothing is resized and nothing skipped; all that is wrong is said at once.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np

from ...config.schema import Data
from ...data.decode.masks import MaskFacts, read_mask
from ...data.decode.palettes import Palette
from ...data.sources.layouts import no_images
from ...data.sources.pairs import settle_palette
from ...data.sources.scan import CLASS_LIST, images_below, left_out
from ...errors import SightlineError, listing
from . import metrics as measures

MASK_ENDING = "_mask"
ENDINGS = (MASK_ENDING, "_sat", "_pred", "_prediction", "_label", "_gt")
"""What a name may have behind the part that both sides share; a prediction may be called as its image, `0013_sat`."""
HEADLINES = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_accuracy": "mean class accuracy",
}
ENOUGH_FAULTS = 1000
"""After so many wrong pairs the rest is not read: a wrong palette makes every file wrong."""
PROGRESS_SECONDS = 5.0


class Pair(NamedTuple):
    """Paths of a true and a predicted mask, and the true one's below its folder."""

    name: str
    truth: str
    predicted: str


class Seen(NamedTuple):
    """What a pair held. confusion: int64 [K + 1, K + 1], IGNORE last, or None and then why, and what would help.

    inexact: pixels of both masks whose color only the palette's threshold or tolerance matched.
    """

    confusion: np.ndarray | None
    inexact: int = 0
    fault: str = ""
    cure: str = ""


@dataclass(frozen=True)
class Score:
    """The numbers of N pairs of masks of K classes.

    names: of the true masks. per_image: Counts uint32 [N, K]. confusion: int64 [K + 1, K + 1], row = truth, IGNORE
    last. numbers: as `segment_numbers`, and mean_iou_interval and pixel_accuracy_interval [low, high]. class_intervals:
    float64 [K, 2], of the IoU. others: what else is called mean IoU. notes: sentences that a reader should know.
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
    """All that is wrong with two folders of masks; `unread` pairs were not looked at any more."""

    without_prediction: list[str] = field(default_factory=list)
    without_truth: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unread: int = 0
    cures: list[str] = field(default_factory=list)

    def refuse(self, truth: str, predicted: str) -> None:
        """SightlineError if there is any, with all of them."""
        unread = f"; {self.unread:,} more were not read" * bool(self.unread)
        groups = (
            (self.without_prediction, "true masks without a prediction"),
            (self.without_truth, "predictions without a true mask"),
            (self.twice, "names that several files share"),
            (self.wrong, f"pairs that cannot be compared{unread}"),
        )
        told = [f"\n  {len(names):,} {words}:\n{listing(names)}" for names, words in groups if names]
        cures = list(dict.fromkeys(filter(None, self.cures)))
        if self.without_prediction or self.without_truth:
            cures.insert(0, "names and folders must agree: a/0013_mask.png with a/0013_mask.png or a/0013.png")
        if self.twice:
            cures.insert(0, "keep one file of each name, or let the names of the masks alone end in _mask")
        if told:
            where = f"{truth} (truth), {predicted} (predictions)"
            raise SightlineError(
                "these masks cannot be scored", where=where, why="".join(told), cure="; ".join(cures[:5])
            )


def score(
    truth: str | os.PathLike[str],
    pred: str | os.PathLike[str],
    palette: str | Data = "",
    *,
    threads: int = 0,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Score:
    """The numbers of the predicted masks in the folder `pred` against the true ones in `truth`, subfolders included.

    palette: of both folders: a name (`landcover`), empty for class ids named in classes.txt (in `truth` or above it),
    or settings of data. threads: 0: one a processor, at most 8; each holds one pair. seed: of the intervals. say: told
    of progress every few seconds. Raises SightlineError naming all masks that have no partner, differ in size or
    cannot be read.
    """
    folders = os.fspath(truth), os.fspath(pred)
    missing = [folder for folder in folders if not os.path.isdir(folder)]
    if missing:
        cure = "give two folders of mask files: --truth DIR --pred DIR"
        raise SightlineError("there is no such folder", where=", ".join(missing), cure=cure)
    data = Data(palette=palette) if isinstance(palette, str) else palette
    faults, notes = Faults(), []
    true, predicted = (masks_below(folder, faults, notes) for folder in folders)
    meaning = palette_for(folders[0], data, next(iter(true.values())))
    faults.without_prediction += [true[key] for key in true if key not in predicted]
    faults.without_truth += [predicted[key] for key in predicted if key not in true]
    paths = [(true[key], predicted[key]) for key in true if key in predicted]
    pairs = [Pair(mine, os.path.join(folders[0], mine), os.path.join(folders[1], other)) for mine, other in paths]
    total, counts, inexact = count_pairs(pairs, meaning, data.max_pixels, threads or workers(), faults, say)
    faults.refuse(*folders)
    if os.path.samefile(*folders):
        notes.append("truth and predictions are the same folder")
    numbers: dict[str, Any] = dict(measures.segment_numbers(counts))
    for name, statistic in (("mean_iou", measures.mean_iou), ("pixel_accuracy", measures.pixel_accuracy)):
        numbers[f"{name}_interval"] = [float(end) for end in measures.interval(counts, statistic, seed=seed)]
    return Score(
        names=tuple(pair.name for pair in pairs),
        classes=meaning.classes,
        per_image=counts,
        confusion=total,
        numbers=numbers,
        by_class=measures.class_numbers(counts),
        class_intervals=np.stack(measures.class_intervals(counts, seed=seed), axis=1),
        others=measures.other_definitions(counts, total),
        notes=(*notes, *notes_on(total, counts, inexact)),
    )


def workers() -> int:
    """Processors that this process may use, at most 8: more would hold more masks than it gains."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def masks_below(folder: str, faults: Faults, notes: list[str]) -> dict[str, str]:
    """Name of the pair -> path relative to `folder`, of each mask below it, in order.

    Where some names end in `_mask`, the others are images or overlays beside them: they are left out, and counted.
    """
    tally: Counter[str] = Counter()
    files = [file.name for file in images_below(folder, "", tally)]
    if not files:
        raise no_images(folder, tally)
    named = [name for name in files if PurePosixPath(name).stem.endswith(MASK_ENDING)]
    if named and len(named) < len(files):
        notes.append(f"{folder}: {len(files) - len(named):,} images whose names do not end in {MASK_ENDING} left out")
        files = named
    if tally:
        notes.append(f"{folder}: {left_out(tally)} left out")
    found: dict[str, list[str]] = {}
    for name in files:
        found.setdefault(pair_name(name), []).append(name)
    faults.twice += [f"{folder}: {', '.join(names)}" for names in found.values() if len(names) > 1]
    return {key: names[0] for key, names in found.items()}


def pair_name(name: str) -> str:
    """`city/0013_mask.png` -> `city/0013`: what the names of both masks of a pair have in common."""
    path = PurePosixPath(name)
    stem = next((path.stem.removesuffix(end) for end in ENDINGS if path.stem.endswith(end)), "")
    return str(path.with_name(stem or path.stem))


def palette_for(truth: str, data: Data, first: str) -> Palette:
    """The palette that the settings name; that of ids by classes.txt, in the folder `truth` or beside it."""
    above = os.path.dirname(os.path.abspath(truth))
    beside = not os.path.isfile(os.path.join(truth, CLASS_LIST)) and os.path.isfile(os.path.join(above, CLASS_LIST))
    root = above if beside else truth
    return settle_palette(root, data, [os.path.relpath(os.path.join(truth, first), root)])


def count_pairs(
    pairs: list[Pair], palette: Palette, max_pixels: int, threads: int, faults: Faults, say: Callable[[str], None]
) -> tuple[np.ndarray, measures.Counts, int]:
    """(confusion [K + 1, K + 1] of all pairs, Counts uint32 [N, K] of each, inexact pixels); wrong ones to `faults`."""
    side = len(palette.classes) + 1
    assert len(palette.table)  # built here once, and not by each thread that asks for it first
    total, inexact = np.zeros((side, side), dtype=np.int64), 0
    margins = np.zeros((3, len(pairs), side - 1), dtype=np.uint32)  # twice the pixels of a mask still fit
    started = spoken = time.monotonic()
    for place, seen in enumerate(in_order(pairs, palette, max_pixels, threads)):
        if seen.confusion is None:
            faults.wrong.append(f"{pairs[place].name}: {seen.fault}")
            faults.cures.append(seen.cure)
        else:
            total += seen.confusion
            inexact += seen.inexact
            counts = measures.as_counts(seen.confusion[:-1])
            margins[:, place] = counts.hits, counts.truth, counts.predicted
        if len(faults.wrong) >= ENOUGH_FAULTS:
            faults.unread = len(pairs) - place - 1
            break
        if time.monotonic() - spoken > PROGRESS_SECONDS:
            spoken = time.monotonic()
            say(f"scored {place + 1:,} of {len(pairs):,} pairs in {spoken - started:.0f} s")
    return total, measures.Counts(*margins), inexact


def in_order(pairs: list[Pair], palette: Palette, max_pixels: int, threads: int) -> Iterator[Seen]:
    """What each pair held, in order, read by threads that are few pairs ahead."""
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Seen]] = deque()
        for pair in pairs:
            ahead.append(pool.submit(look_at, pair, palette, max_pixels))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def look_at(pair: Pair, palette: Palette, max_pixels: int) -> Seen:
    """Decode and count one pair; every fault of either file."""
    facts, masks, faults, cure = MaskFacts(), [], [], ""
    for side, path in (("truth", pair.truth), ("prediction", pair.predicted)):
        try:
            masks.append(read_mask(path, palette, max_pixels=max_pixels, facts=facts))
        except SightlineError as error:
            faults.append(f"{side}: {error.why or error.what}")
            cure = cure or error.cure
    if faults:
        return Seen(None, fault="; ".join(faults), cure=cure)
    true, predicted = masks
    if true.shape != predicted.shape:
        sizes = [f"{mask.shape[1]} x {mask.shape[0]}" for mask in masks]
        cure = "write predictions in the size of their truth; each way of resizing would give other numbers"
        return Seen(None, fault=f"truth is {sizes[0]} pixels, prediction {sizes[1]}", cure=cure)
    return Seen(measures.confusion(predicted, true, len(palette.classes), ignored=True), facts.inexact)


def notes_on(total: np.ndarray, counts: measures.Counts, inexact: int) -> list[str]:
    """What a reader should know beside the numbers."""
    pixels, notes = int(total.sum()), []
    void, empty, unanswered = int(total[-1].sum()), int((counts.truth.sum(-1) == 0).sum()), int(total[:-1, -1].sum())
    if void:
        notes.append(f"{void / pixels:.2%} of the pixels are ignored in the truth and count nowhere")
    if empty:
        notes.append(f"{empty:,} true masks are ignored as a whole")
    if unanswered:
        of_all = unanswered / (pixels - void)
        notes.append(f"{of_all:.2%} of the others are predicted as ignored: they count as wrong")
    if inexact:
        notes.append(f"{inexact / (2 * pixels):.2%} of the colors were not exact and matched by the palette's rule")
    return notes


def text(result: Score) -> str:
    """The table that the command prints: classes with their intervals, the headline, the other numbers, the notes."""
    width = max(map(len, (*HEADLINES.values(), *result.classes)))
    numbers, total = result.by_class, result.by_class.support.sum()
    lines = [f"{len(result.names):,} pairs of masks, {len(result.classes)} classes; 95 % intervals over images", ""]
    lines.append(f"{'class':<{width}}     IoU  {'interval':<16}  precision  recall  share of truth")
    for place, name in enumerate(result.classes):
        iou, precision, recall = (four(values[place]) for values in numbers[:3])
        row = f"{name:<{width}}  {iou}  {span(result.class_intervals[place])}  {precision:>9}  {recall}"
        lines.append(f"{row}  {numbers.support[place] / total:>14.2%}")
    lines.append("")
    for key, name in HEADLINES.items():
        ends = result.numbers.get(f"{key}_interval")
        lines.append(f"{name:<{width}}  {four(result.numbers[key])}" + (f"  {span(ends)}" if ends else ""))
    lines += ["", "What is called mean IoU, on the same masks:"]
    width = max(map(len, result.others))
    own = measures.Definition(result.numbers["mean_iou"], measures.HEADLINE)
    for name, (value, meaning) in {"mean_iou": own, **result.others}.items():
        first, *more = wrap(meaning, 100 - width)
        lines += [f"{name:<{width}}  {four(value)}  {first}", *(" " * (width + 10) + line for line in more)]
    return "\n".join([*lines, *[""] * bool(result.notes), *(f"note: {note}" for note in result.notes)])


def four(value: float) -> str:
    """`0.7438`, or a dash for what is not defined."""
    return f"{value:.4f}" if value == value else f"{'-':>6}"


def span(ends: Any) -> str:
    """`[0.7201, 0.7611]`, or a dash for what is not defined."""
    low, high = ends
    return f"[{low:.4f}, {high:.4f}]" if low == low else f"{'-':<16}"
