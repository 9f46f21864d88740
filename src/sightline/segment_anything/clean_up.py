"""Refine a segmenter's masks ("clean-up"): each mask of Segment Anything gets the most frequent predicted class of its
pixels.

With true masks, the effect is measured: mean IoU before and after, with an interval of the difference, paired by image.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.decode.masks import read_mask, write_mask
from ..errors import SightlineError, counted, listing
from ..inference.reading import channels_text
from ..runs import run_folder
from ..runs.atomic import atomic_write, finite
from ..stats.groups import Groups, groups_of_masks, ids_in
from ..stats.intervals import verdict
from ..stats.paired import counted_by_one, iou_difference
from ..stats.segmentation import Counts, as_counts, class_iou, confusion, mean_iou, summed
from ..tasks import TASKS
from ..tasks.files import load_recipe_file
from ..tasks.segment.evaluate import MaskInference
from ..tasks.segment.predict import predict_mask
from ..tasks.segment.score import Faults, masks_below, pair_name
from .automatic import decode_mask
from .outputs import PlannedImage

TILE = 1024
"""Tile size in pixels for large images, the default of `sightline predict --tile`."""
SHOWN, SIDE = 50, 560
"""SHOWN: maximum number of images on the page. SIDE: maximum number of pixels of their longer side."""


@dataclass
class CleanUp:
    """A segmenter, and the results of the clean-up so far.

    true: paths of the true masks by image name. origin: run, weights and truth, for segments.json. before, after: for
    each image with a true mask, the numbers of correct, true and predicted pixels of each class, int64 [3, K], before
    and after the clean-up. measured: the names of these images. shown: panels (title, subsampled mask, note) for the
    page, by image name, for the first SHOWN images.
    """

    parts: MaskInference
    true: dict[str, str]
    origin: dict[str, Any]
    before: list[np.ndarray] = field(default_factory=list)
    after: list[np.ndarray] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    shown: dict[str, list[tuple[str, np.ndarray, str]]] = field(default_factory=dict)

    def add(
        self, image: PlannedImage, pixels: np.ndarray, segments: Sequence[dict[str, Any]], truth: np.ndarray | None
    ) -> None:
        """Write the refined mask of an image uint8 [3, H, W]. If it has a true mask, count the pixels before and after.

        segments: the masks of Segment Anything. truth: the true mask, see `true_mask`.
        """
        palette = self.parts.palette
        predicted = predict_mask(self.parts, pixels, TILE)
        better = cleaned(predicted, segments, len(palette.classes))
        atomic_write(image.file("_mask.png"), write_mask(better, palette))
        masks = {"prediction": predicted, "cleaned up": better}
        notes = dict.fromkeys(masks, "")
        if truth is not None:
            masks["truth"] = truth
            self.measured.append(image.name)
            for title, counts in (("prediction", self.before), ("cleaned up", self.after)):
                matrix = confusion(masks[title], masks["truth"], len(palette.classes), ignored=True)[:-1]
                found, iou = as_counts(matrix), float(mean_iou(matrix))
                counts.append(np.stack([found.hits, found.truth, found.predicted]))
                notes[title] = f"mean IoU {iou:.3f}" if math.isfinite(iou) else ""
        if len(self.shown) < SHOWN:
            self.shown[image.name] = [(title, subsampled(mask), notes.get(title, "")) for title, mask in masks.items()]

    def true_mask(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Read the true mask of an image, uint8 of this shape; None if no true masks were given. Raises SightlineError
        if it cannot be read or has another shape."""
        if name not in self.true:
            return None
        try:
            mask = read_mask(self.true[name], self.parts.palette)
        except SightlineError as error:
            raise SightlineError(error.what, where=error.where, why=f"its true mask: {error.why}") from error
        if mask.shape != shape:
            why = f"its true mask has {mask.shape[1]} x {mask.shape[0]} pixels, the image {shape[1]} x {shape[0]}"
            cure = "export the true mask at the size of the image"
            raise SightlineError("an image and its true mask have different sizes", where=name, why=why, cure=cure)
        return mask

    def counts(self) -> tuple[Counts, Counts]:
        """The pixel counts of N images before and after the clean-up, `Counts` of int64 [N, K] each."""
        before, after = (Counts(*np.stack(parts, axis=1)) for parts in (self.before, self.after))
        return before, after

    def groups(self) -> Groups | None:
        """The groups of these images, such as frames of one film."""
        return groups_of_masks(self.measured, self.counts()[0].truth, self.parts.learner.config.data)

    def facts(self) -> dict[str, Any]:
        """The entry `clean_up` of segments.json.

        It has the run that predicted the masks and, if there are true masks, the change in mean IoU.
        """
        return self.origin | (effect(*self.counts(), groups=self.groups()) if self.before else {})


def open_clean_up(folder: Path, truth: str | os.PathLike[str] | None, names: list[str]) -> CleanUp:
    """Load a segmenter and find the true mask of each image.

    folder: a run folder. truth: folder of the true masks, or None. Raises SightlineError if the run predicts no masks.
    """
    folder = run_folder.existing(folder)
    config = load_recipe_file(folder / "recipe.yaml")
    load = TASKS[config.task].load_masks
    if load is None:
        why, cure = f"the task of the run is {config.task}", "use the run of a segmenter: --run RUN"
        raise SightlineError("this run does not predict masks", where=str(folder), why=why, cure=cure)
    true = {} if truth is None else true_masks(Path(truth), names)
    parts = load(folder, config)
    if not parts.channels.plain:
        why = f"the run needs {channels_text(parts.channels)}, and Segment Anything 8-bit color or gray"
        cure = "use the run of a segmenter of 8-bit images: --run RUN"
        raise SightlineError("this run cannot predict these images", where=str(folder), why=why, cure=cure)
    for path in list(true.values())[:1]:  # raise errors of the palette before masks are generated
        read_mask(path, parts.palette)
    origin = {
        "run": str(folder),
        "weights": run_folder.weight_digests(folder),
        "truth": None if truth is None else str(truth),
    }
    return CleanUp(parts, true, origin)


def true_masks(truth: Path, names: list[str]) -> dict[str, str]:
    """Map image names to paths of true masks; images and masks are paired by name as in `sightline score`.

    Raises one SightlineError with all images without a mask and all names of several masks.
    """
    if not truth.is_dir():
        raise SightlineError(
            "there is no such folder",
            where=f"--truth {truth}",
            cure="give the folder of the true masks: --truth FOLDER",
        )
    faults = Faults()
    masks = masks_below(str(truth), faults, [])
    missing, shared = [name for name in names if pair_name(name) not in masks], faults.duplicates
    groups = ("image", "without a true mask", missing), ("name", "shared by several masks", shared)
    if shown := [f"\n  {counted(len(some), noun)} {rest}:\n{listing(some)}" for noun, rest, some in groups if some]:
        cures = ["add the masks, or give only the images that have one"] * bool(missing)
        cures += ["keep one mask of each name"] * bool(shared)
        what, where, cure = "the true masks do not match the images", f"--truth {truth}", "; ".join(cures)
        raise SightlineError(what, where=where, why="".join(shown), cure=cure)
    return {name: str(truth / masks[pair_name(name)]) for name in names}


def cleaned(predicted: np.ndarray, segments: Sequence[dict[str, Any]], classes: int) -> np.ndarray:
    """Give each mask the class that is most frequent among its predicted pixels; returns class indices uint8 [H, W].

    predicted: class indices uint8 [H, W]. segments: masks of Segment Anything, the largest first; where masks overlap,
    the later one is used. Of equally frequent classes, the one with the lowest index is used. Pixels outside all masks
    keep their class.
    """
    result = predicted.copy()
    for segment in segments:
        inside = decode_mask(segment)
        result[inside] = np.bincount(predicted[inside], minlength=classes)[:classes].argmax()
    return result


def subsampled(mask: np.ndarray) -> np.ndarray:
    """Subsample a mask [H, W] with a fixed stride, so that no side is longer than SIDE."""
    step = -(-max(mask.shape) // SIDE)
    return np.ascontiguousarray(mask[step // 2 :: step, step // 2 :: step])


def effect(before: Counts, after: Counts, *, groups: Groups | None = None) -> dict[str, Any]:
    """The effect of the clean-up as JSON values: mean IoU before and after, their difference with its 95 % interval
    and p value over images or groups, IoU of each class, and a sentence."""
    apart = iou_difference(before, after, groups=ids_in(groups))
    (low, high), p = apart.interval(), float(apart.p)
    first, second = summed(before), summed(after)
    facts = {
        "images": len(before.truth),
        **({"groups": groups.count} if groups else {}),
        "mean_iou_before": float(mean_iou(first)),
        "mean_iou_after": float(mean_iou(second)),
        "difference": float(apart.value),
        **({"other_classes": True} if counted_by_one(before, after).any() else {}),
        "interval": [float(low), float(high)],
        "p": p if math.isfinite(p) else None,
        "class_iou_before": class_iou(first).tolist(),
        "class_iou_after": class_iou(second).tolist(),
    }
    return finite(facts | {"sentence": sentence(facts)})


def sentence(facts: dict[str, Any]) -> str:
    """A sentence on the effect of the clean-up. It states a difference only if the interval excludes 0."""
    first, second, count = facts["mean_iou_before"], facts["mean_iou_after"], counted(facts["images"], "image")
    count += f" in {counted(facts['groups'], 'group')}" if "groups" in facts else ""
    if not (math.isfinite(first) and math.isfinite(second)):
        return "clean-up: not measured, every pixel of the truth is ignored"
    found = "too few for an interval"
    if "other_classes" in facts:
        found = "without an interval, because one of the two has a class that no true mask has, so that the means are "
        found += "over different classes"
    if facts["p"] is not None:
        difference, names = (facts["difference"], facts["interval"]), ("the prediction", "the clean-up", "mean IoU")
        found = verdict(*difference, *names, facts["p"])
    return f"clean-up: mean IoU {first:.4f} -> {second:.4f} on {count}: {found}"
