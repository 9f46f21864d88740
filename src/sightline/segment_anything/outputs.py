"""The files of each picture: numbers in a PNG, run lengths in a JSON, an overlay; and which are there already."""

import colorsys
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.decode.palettes import GOLDEN
from ..errors import ENVIRONMENT, SightlineError, counted, listing
from ..inference.inputs import Picture
from ..inference.masks import Job, refuse_clashes, refuse_twice, without_outputs
from ..insight.style import png_rgb
from ..runs.atomic import atomic_write, read_json, remove, sha256, write_json
from ..tasks.segment.results import mask_names
from .automatic import Segment, ids_of

FORMAT = 1
RECORD, PAGE = "segments.json", "segments.html"
OWN = ("_segments.json", "_segments.png", "_overlay.png")
ROWS = 256
"""Rows of an overlay that are mixed at a time: the working arrays stay small for any picture."""
NONE = (222, 225, 229)
"""The color of pixels in no mask."""


@dataclass(frozen=True)
class Task:
    """A picture and where its files go: `base` is OUT/a/0013 for `a/0013.jpg`, and for `a/0013_sat.jpg`."""

    name: str
    path: str
    base: Path

    def file(self, ending: str) -> Path:
        """`_segments.png`, `_segments.json`, `_overlay.png` or `_mask.png` of this picture."""
        return self.base.with_name(self.base.name + ending)


@dataclass(frozen=True)
class Done:
    """What a picture's JSON says in short. covered: the share of its pixels within any mask. seconds: all it took."""

    name: str
    size: tuple[int, int]
    masks: int
    covered: float
    seconds: float


def tasks_of(pictures: Sequence[Picture], places: Sequence[str], out: Path) -> list[Task]:
    """What to do, in order. Pictures of a list, of a pattern or of several places are named from the folder that all of
    them have in common, lest a path with `..` or from the root lead out of `out`."""
    if len(places) == 1 and os.path.isdir(places[0]):
        names = [picture.name for picture in pictures]
    else:
        paths = [os.path.abspath(picture.path) for picture in pictures]
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, root) for path in paths]
    wanted = set(inputs_among(names))
    pairs = [(name, picture.path) for name, picture in zip(names, pictures, strict=True) if name in wanted]
    return [Task(name, path, out / Path(name).parent / stem_of(name)) for name, path in pairs]


def inputs_among(names: list[str]) -> list[str]:
    """The names less the masks, overlays and segments of others of them: a second run may meet those of the first."""
    stems = {Path(name).stem for name in names}
    bases = {f"{stem.removesuffix('_sat')}_segments" for stem in stems} | {f"{stem}_segments" for stem in stems}
    return without_outputs([name for name in names if Path(name).stem not in bases])


def stem_of(name: str) -> str:
    """`0013` of `a/0013_sat.jpg` and of `a/0013.jpg`, as `predict` names its masks."""
    return mask_names([name])[0].removesuffix("_mask.png")


def read_record(out: Path) -> dict[str, Any]:
    """What an earlier call left in segments.json, as if empty where it is missing; SightlineError for another's."""
    record = read_json(out / RECORD)
    if (out / RECORD).exists() and not (isinstance(record, dict) and record.get("segments") == FORMAT):
        what, cure = f"{RECORD} in this folder is not of `sightline masks`", "another --out"
        raise SightlineError(what, where=str(out), cure=cure)
    return record or {"pictures": [], "cleaned": {"weights": None, "names": []}}


def done_before(
    tasks: list[Task], inputs: list[str], out: Path, made_by: dict[str, Any], cleaning: bool, overwrite: bool
) -> dict[str, Done]:
    """The pictures whose masks are there already, made by the same weights and settings of the same file.

    inputs: paths that nothing may overwrite. made_by: weights and settings. cleaning: whether cleaned masks will be
    written too. With `overwrite` none is done, and their JSON is removed. Raises SightlineError for masks of other
    settings, and for files that no earlier call has left.
    """
    record = read_record(out)
    begun, cleaned = {entry["name"] for entry in record["pictures"]}, {*record["cleaned"]["names"]}
    before = {task.name: found for task in tasks if (found := found_before(task, made_by))}
    files = [(task, ending) for task in tasks if task.name not in begun and task.name not in before for ending in OWN]
    files += [(task, "_mask.png") for task in tasks if cleaning and task.name not in cleaned]
    jobs = [Job(task.name, Path(task.path), task.file(ending), False) for task, ending in files]
    refuse_twice(jobs, out)
    refuse_clashes(jobs, [Path(path) for path in inputs], out, overwrite, False)
    if overwrite:
        remove(task.file("_segments.json") for task in tasks)
        return {}
    others = [f"{name}: {difference}" for name, (_, difference) in before.items() if difference]
    if others:
        why = f"{len(others):,} of {counted(len(tasks), 'picture')}:\n{listing(others)}"
        cure = "another --out, the settings of before, or --overwrite to look for all masks anew"
        raise SightlineError("there are masks of other settings", where=str(out), why=why, cure=cure)
    return {name: done for name, (done, _) in before.items()}


def found_before(task: Task, made_by: dict[str, Any]) -> tuple[Done, str] | None:
    """What an earlier call has left of a picture, and in what that differs from what would be made now, in words."""
    facts = read_json(task.file("_segments.json"))
    if not (isinstance(facts, dict) and facts.get("segments") == FORMAT):
        return None
    return summary_of(facts), difference_of(facts, made_by, task.path)


def difference_of(facts: dict[str, Any], made_by: dict[str, Any], path: str) -> str:
    """In what the masks of a picture differ from those that would be made now, in words; empty where in nothing."""
    before = facts["made_by"]
    told = [f"{key} {before.get(key)}, now {value}" for key, value in made_by.items()
            if key != "weights" and before.get(key) != value]  # fmt: skip
    if before.get("weights") != made_by["weights"]:
        told.append("other weights")
    try:
        changed = sha256(path) != facts["image"]["sha256"]
    except OSError:
        changed = True
    return ", ".join([*told, *(["the picture has changed"] if changed else [])])


def summary_of(facts: dict[str, Any]) -> Done:
    """A picture's JSON in short."""
    image = facts["image"]
    size = image["height"], image["width"]
    return Done(image["file_name"], size, len(facts["annotations"]), facts["covered"], facts["seconds"])


def write_picture(
    task: Task, image: np.ndarray, segments: list[Segment], made_by: dict[str, Any], seconds: float
) -> Done:
    """Write the PNG of numbers, the overlay and, when both are there, the JSON of an image uint8 [3, H, W]."""
    ids = ids_of(segments, (image.shape[1], image.shape[2]))
    atomic_write(task.file("_segments.png"), png_rgb(ids))
    atomic_write(task.file("_overlay.png"), png_rgb(laid_over(image, ids)))
    facts = {
        "segments": FORMAT,
        "image": {"file_name": task.name, "height": ids.shape[0], "width": ids.shape[1], "sha256": digest(task.path)},
        "made_by": made_by,
        "covered": round(float((ids > 0).mean()), 6),
        "seconds": round(seconds, 3),
        "annotations": [annotation(number, segment) for number, segment in enumerate(segments, 1)],
    }
    write_json(task.file("_segments.json"), facts)
    return summary_of(facts)


def digest(path: str) -> str:
    """SHA-256 of a picture's file; SightlineError where it has gone meanwhile."""
    try:
        return sha256(path)
    except OSError as error:
        why, cure = error.strerror or str(error), "let the pictures lie while they are worked on"
        raise SightlineError("a picture has gone", where=path, why=why, cure=cure, status=ENVIRONMENT) from error


def annotation(number: int, segment: Segment) -> dict[str, Any]:
    """A mask as COCO has it; `id` is its number in the PNG."""
    return {
        "id": number,
        "area": segment.area,
        "bbox": list(segment.box),
        "predicted_iou": round(segment.quality, 6),
        "stability_score": round(segment.stability, 6),
        "point": list(segment.point),
        "segmentation": segment.rle,
    }


def read_segments(path: Path) -> list[Segment]:
    """The masks in a picture's JSON, the largest first; SightlineError where it is damaged."""
    try:
        return [
            Segment(
                rle=entry["segmentation"],
                area=entry["area"],
                box=tuple(entry["bbox"]),
                quality=entry["predicted_iou"],
                stability=entry["stability_score"],
                point=tuple(entry["point"]),
            )
            for entry in read_json(path)["annotations"]
        ]
    except (TypeError, KeyError) as error:
        raise SightlineError("these masks cannot be read", where=str(path), cure="remove the file") from error


def shades(count: int) -> np.ndarray:
    """A color for each number, uint8 [count + 1, 3]; neighbors differ, and 0 is gray."""
    depths = ((0.72, 0.95), (0.85, 0.78), (0.5, 0.9), (0.9, 0.6))
    colors = [colorsys.hsv_to_rgb((0.55 + GOLDEN * place) % 1, *depths[place % 4]) for place in range(count)]
    return np.array([NONE, *(np.rint(255 * np.array(color)) for color in colors)], np.uint8)


def colored_ids(ids: np.ndarray) -> np.ndarray:
    """Numbers uint16 [H, W] in their colors, uint8 [H, W, 3]."""
    return shades(int(ids.max(initial=0)))[ids]


def laid_over(image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The image uint8 [3, H, W] with the masks' colors in it and a white line around each, uint8 [H, W, 3]."""
    table = shades(int(ids.max(initial=0))).astype(np.uint16)
    picture = np.array(image.transpose(1, 2, 0), order="C")
    for top in range(0, len(picture), ROWS):
        part, own = picture[top : top + ROWS], ids[top : top + ROWS]
        within = own > 0
        part[within] = (part[within] + table[own[within]]) // 2
    picture[borders(ids, max(1, round(max(ids.shape) / 700)))] = 255
    return picture


def borders(ids: np.ndarray, width: int = 1) -> np.ndarray:
    """Where a number differs from the one left of it or above it, bool [H, W], as lines of `width` pixels."""
    found = np.zeros(ids.shape, bool)
    found[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    found[1:] |= ids[1:] != ids[:-1]
    for _ in range(width - 1):
        found[:, :-1] |= found[:, 1:]
        found[:-1] |= found[1:]
    return found
