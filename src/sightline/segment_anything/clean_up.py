"""A segmenter's masks cleaned up by Segment Anything's: within each mask the class that most of its pixels have.

What that is worth is measured on the same pictures: mean IoU before and after, with a paired interval over pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..config.files import load_recipe_file
from ..config.schema import Config
from ..data.decode.masks import read_mask, write_mask
from ..errors import SightlineError, counted, listing
from ..inference.masks import scene_mask
from ..runs import run_folder
from ..runs.atomic import atomic_write, finite
from ..stats.intervals import points
from ..stats.paired import ClassDifferences, paired_interval, paired_ious, swap_test
from ..tasks.segment.evaluate import MaskInference, load_segmenter
from ..tasks.segment.metrics import Counts, as_counts, class_iou, confusion, mean_iou, summed
from ..tasks.segment.score import Faults, masks_below, pair_name
from .automatic import Segment
from .outputs import Task

TILE = 1024
"""As `predict --tile` has it unless told otherwise."""
SHOWN, SIDE = 50, 560
"""How many pictures the page shows, and the longer side of each in pixels."""


@dataclass
class CleanUp:
    """A segmenter's run, the true masks by the name of their picture if there are any, and what was counted so far.

    measured: the names of the pictures that were. before, after: hits, truth and predicted pixels of each class, int64
    [3, K], of each of those. shown: of the first pictures the prediction and the truth, small, for the page.
    """

    folder: Path
    config: Config
    parts: MaskInference
    weights: dict[str, str]
    truth: Path | None
    true: dict[str, str]
    measured: list[str] = field(default_factory=list)
    before: list[np.ndarray] = field(default_factory=list)
    after: list[np.ndarray] = field(default_factory=list)
    shown: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def picture(self, task: Task, image: np.ndarray, segments: Sequence[Segment]) -> None:
        """Write the cleaned mask of an image uint8 [3, H, W], and count both masks' pixels where the truth is known."""
        predicted = scene_mask(self.parts, image, TILE)
        better = cleaned(predicted, segments, len(self.parts.palette.classes))
        atomic_write(task.file("_mask.png"), write_mask(better, self.parts.palette))
        panels = {"prediction": small(predicted), "cleaned up": small(better)}
        if len(self.shown) < SHOWN:
            self.shown[task.name] = panels
        if task.name not in self.true:
            return
        try:
            true = read_mask(self.true[task.name], self.parts.palette, self.config.data.max_pixels)
        except SightlineError as error:
            raise SightlineError(error.what, where=error.where, why=f"its true mask: {error.why}") from error
        if true.shape != predicted.shape:
            sizes = [f"{mask.shape[1]} x {mask.shape[0]}" for mask in (true, predicted)]
            why = f"its true mask is {sizes[0]} pixels, the picture {sizes[1]}"
            raise SightlineError("a true mask does not fit", where=task.name, why=why)
        panels["truth"] = small(true)
        self.measured.append(task.name)
        for mask, counts in ((predicted, self.before), (better, self.after)):
            counts.append(counted_pixels(mask, true, len(self.parts.palette.classes)))

    def counts(self) -> tuple[Counts, Counts]:
        """Counts int64 [N, K] before and after."""
        before, after = (Counts(*np.stack(parts, axis=1)) for parts in (self.before, self.after))
        return before, after

    def by_class(self) -> ClassDifferences:
        """IoU of each class before and after, with intervals."""
        return paired_ious(*self.counts())

    def facts(self) -> dict[str, Any]:
        """For segments.json: the run, and what was measured."""
        known = {"run": str(self.folder), "weights": self.weights, "truth": self.truth and str(self.truth)}
        return known | (effect(*self.counts()) if self.before else {})


def open_clean_up(folder: Path, truth: Path | None, names: list[str]) -> CleanUp:
    """What cleaning up the pictures of these names needs; SightlineError for a run of another kind."""
    folder = run_folder.existing(folder)
    config = load_recipe_file(folder / "recipe.yaml")
    if config.task != "segment":
        why = f"its task is {config.task}, and the clean-up is of a segmenter's masks"
        raise SightlineError("this run predicts no masks", where=str(folder), why=why, cure="--run RUN of a segmenter")
    run_folder.require_weights(folder)
    true = {} if truth is None else true_masks(truth, names)
    parts = load_segmenter(folder, config)
    for path in list(true.values())[:1]:  # a wrong palette is said now, and not after hours
        read_mask(path, parts.palette, config.data.max_pixels)
    return CleanUp(folder, config, parts, run_folder.weights_of(folder), truth, true)


def true_masks(truth: Path, names: list[str]) -> dict[str, str]:
    """Name of the picture -> path of its true mask, paired as `score` does; SightlineError listing all faults."""
    if not truth.is_dir():
        why = "it is a file" if truth.exists() else "there is nothing there"
        raise SightlineError("there is no such folder", where=f"--truth {truth}", why=why, cure="--truth DIR")
    faults, notes = Faults(), []
    masks = masks_below(str(truth), faults, notes)
    lost = [name for name in names if pair_name(name) not in masks]
    if lost or faults.twice:
        told = [f"{counted(len(lost), 'picture')} without a true mask:\n{listing(lost)}"] * bool(lost)
        told += [f"names that several files share:\n{listing(faults.twice)}"] * bool(faults.twice)
        cure = "names and folders must agree: a/0013.jpg or a/0013_sat.jpg with a/0013_mask.png or a/0013.png"
        raise SightlineError("the effect cannot be measured", where=str(truth), why="\n".join(told), cure=cure)
    return {name: str(truth / masks[pair_name(name)]) for name in names}


def cleaned(predicted: np.ndarray, segments: Sequence[Segment], classes: int) -> np.ndarray:
    """Class indices uint8 [H, W] in which each mask has the class that is the most frequent within it in `predicted`.

    segments: the largest first; later ones lie on earlier ones. Of equally frequent classes the first. Pixels in no
    mask stay as they are.
    """
    result = predicted.copy()
    for segment in segments:
        within = segment.mask()
        result[within] = np.bincount(predicted[within], minlength=classes)[:classes].argmax()
    return result


def small(mask: np.ndarray) -> np.ndarray:
    """Every so-manieth pixel of a mask [H, W], of any integers, so that no side is longer than SIDE."""
    step = -(-max(mask.shape) // SIDE)
    return np.ascontiguousarray(mask[step // 2 :: step, step // 2 :: step])


def counted_pixels(mask: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Hits, truth and predicted pixels of each class, int64 [3, K]."""
    counts = as_counts(confusion(mask, true, classes, ignored=True)[:-1])
    return np.stack([counts.hits, counts.truth, counts.predicted])


def effect(before: Counts, after: Counts) -> dict[str, Any]:
    """The numbers of both, their difference with its 95 % interval and p, and a sentence."""
    difference, (low, high) = paired_interval(before, after)
    first, second = (float(mean_iou(summed(counts))) for counts in (before, after))
    p = swap_test(before, after) if math.isfinite(low) else None
    measured = {
        "pictures": len(before.truth),
        "mean_iou_before": first,
        "mean_iou_after": second,
        "difference": float(difference),
        "interval": [float(low), float(high)],
        "p": p,
        "class_iou_before": class_iou(summed(before)).tolist(),
        "class_iou_after": class_iou(summed(after)).tolist(),
    }
    return finite({**measured, "sentence": sentence(measured)})


def sentence(measured: dict[str, Any]) -> str:
    """`clean-up: mean IoU 0.6021 -> 0.6107, +0.9 points [0.2, 1.6] on 101 pictures`, or that nothing can be shown."""
    first, second, (low, high) = measured["mean_iou_before"], measured["mean_iou_after"], measured["interval"]
    if not (math.isfinite(first) and math.isfinite(second)):
        return "clean-up: nothing to measure, every pixel of the truth is ignored"
    pictures = counted(measured["pictures"], "picture")
    apart = f"{'+' if measured['difference'] >= 0 else ''}{points(measured['difference'])} points"
    numbers = f"mean IoU {first:.4f} -> {second:.4f}, {apart}"
    if measured["p"] is None:
        return f"clean-up: {numbers} on {pictures}, too few for an interval"
    found = f"{numbers} [{points(low)}, {points(high)}] on {pictures}"
    if low <= 0 <= high:
        return f"clean-up: no difference can be shown: {found}"
    # As in statistics.verdict: with few pictures the bootstrap alone is too hopeful.
    return f"clean-up: {found}" if measured["p"] < 0.05 else (
        f"clean-up: no difference can be shown: {found}, p = {measured['p']:.2g}"
    )  # fmt: skip
