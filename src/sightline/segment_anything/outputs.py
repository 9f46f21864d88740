"""Output files for each image: mask ids as PNG, run lengths as JSON, and an overlay. Also finds images finished
earlier."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from scipy.ndimage import binary_dilation

from ..data.decode.palettes import IGNORE
from ..data.sources.scan import left_out
from ..errors import SightlineError, counted, listing
from ..inference.inputs import input_images
from ..insight.mask_figures import overlay
from ..insight.style import class_colors, png_rgb
from ..runs.atomic import atomic_write, read_json, remove, sha256, write_json
from ..tasks.contract import Say
from ..tasks.segment.predict import require_distinct, require_free, without_outputs
from ..tasks.segment.results import mask_names
from .automatic import id_map

FORMAT = 1
RECORD, PAGE = "segments.json", "segments.html"
ENDINGS = ("_segments.json", "_segments.png", "_overlay.png")
COLORS = np.rint([255 * np.array(to_rgb(color)) for color in class_colors(250)]).astype(np.uint8)
"""The colors of masks, uint8 [250, 3]. Colors repeat after 250 masks."""


@dataclass(frozen=True)
class PlannedImage:
    """An image to process. base: the path with which the paths of its results begin, such as OUT/a/0013 for
    `a/0013_sat.jpg`."""

    name: str
    path: str
    base: Path

    def file(self, ending: str) -> Path:
        """The path of a result by its ending: `_segments.png`, `_segments.json`, `_overlay.png` or `_mask.png`."""
        return self.base.with_name(self.base.name + ending)


def plan_images(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], out: Path, say: Say
) -> tuple[list[PlannedImage], list[str]]:
    """(the images to process in order, the paths of all input images).

    Files that are results of an earlier call are skipped. Image names are relative to `images` if it is a folder, or
    else to the common folder of all images, so that all results are below `out`.
    """
    paths = [os.fspath(images)] if isinstance(images, str | os.PathLike) else [os.fspath(path) for path in images]
    tally: Counter[str] = Counter()
    given = [image.path for image in input_images(paths, tally)]
    if left := left_out(tally):
        say(f"skipped: {left}")
    root = paths[0] if len(paths) == 1 and os.path.isdir(paths[0]) else common_folder(given)
    names = {Path(os.path.relpath(path, root)).as_posix(): path for path in given}  # with / on Windows too
    results = {f"{Path(name).stem.removesuffix('_sat')}_segments" for name in names}
    wanted = [name for name in without_outputs([*names]) if Path(name).stem not in results]
    if skipped := len(names) - len(wanted):
        say(f"skipped {counted(skipped, 'file')}: masks, overlays and segments of these images")
    bases = [out / Path(name).parent / mask_names([name])[0].removesuffix("_mask.png") for name in wanted]
    return [PlannedImage(name, names[name], base) for name, base in zip(wanted, bases, strict=True)], given


def common_folder(paths: Sequence[str]) -> str:
    """The folder that all files have in common."""
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    except ValueError as error:  # on Windows
        cure = "give the images of one drive at a time, each with its own --out FOLDER"
        raise SightlineError("these images are on different drives", where=paths[0], cure=cure) from error


def finished_images(
    images: list[PlannedImage],
    inputs: list[str],
    out: Path,
    made_by: dict[str, Any],
    run: dict[str, str] | None,
    overwrite: bool,
) -> dict[str, dict[str, Any]]:
    """Summaries of the images that an earlier call finished, by name.

    inputs: paths that must not be overwritten. made_by: digest of the weights, and settings of this call. run: the
    digests of the weights of the run whose refined masks will be written, or None. overwrite: remove the files of
    earlier calls and return {}. Raises SightlineError if the existing masks were made with other weights, settings or
    images, or refined for another run, and for existing files that no earlier call has written.
    """
    record = read_json(out / RECORD)
    own = isinstance(record, dict) and record.get("segments") == FORMAT
    cleaned = (record["clean_up"] if own else None) or {}
    before = {image.name: found for image in images if (found := summary_and_changes(image, made_by))}
    require_distinct([image.base for image in images], out)
    new = [image.file(ending) for image in images if image.name not in before for ending in ENDINGS]
    new += [image.file("_mask.png") for image in images if run is not None and not cleaned]
    new += [] if own else [out / RECORD, out / PAGE]
    require_free(new, inputs, out, overwrite)
    if overwrite:
        remove(image.file(ending) for image in images for ending in (*ENDINGS, *["_mask.png"] * bool(cleaned)))
        return {}
    if run is not None and cleaned and cleaned.get("weights") != run:
        why = f"the files NAME_mask.png are of the run {cleaned.get('run')}, or of earlier weights of it"
        cure = "choose another folder: --out FOLDER; or generate all masks again: --overwrite"
        raise SightlineError(
            "the masks in this folder were cleaned up for another run", where=str(out), why=why, cure=cure
        )
    others = [f"{name}: changed {', '.join(changes)}" for name, (_, changes) in before.items() if changes]
    if others:
        why = f"the settings differ for {len(others):,} of {counted(len(images), 'image')}:\n{listing(others)}"
        cure = (
            f"choose another folder: --out FOLDER; or use the earlier settings (see {RECORD}); or generate all masks "
            "again: --overwrite"
        )
        raise SightlineError(
            "the masks in this folder were generated with other settings", where=str(out), why=why, cure=cure
        )
    written = {image.name for image in images if all(image.file(ending).is_file() for ending in ENDINGS)}
    return {name: summary for name, (summary, _) in before.items() if name in written}


def summary_and_changes(image: PlannedImage, made_by: dict[str, Any]) -> tuple[dict[str, Any], list[str]] | None:
    """(summary of an image by an earlier call, names of the settings that differ from `made_by`); None without an
    earlier call."""
    facts = read_json(image.file("_segments.json"))
    if not (isinstance(facts, dict) and facts.get("segments") == FORMAT):
        return None
    now = made_by | {"image": digest(image.path)}
    return facts["image"], [key for key, value in now.items() if facts["made_by"].get(key) != value]


def digest(path: str) -> str:
    """SHA-256 of a file; "" if it cannot be read."""
    try:
        return sha256(path)
    except OSError:
        return ""


def write_image(
    image: PlannedImage, pixels: np.ndarray, segments: list[dict[str, Any]], made_by: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Write JSON, PNG and overlay of an image uint8 [3, H, W]; returns its summary for segments.json.

    seconds: time that its masks took. The JSON is written first, because later calls overwrite the other files only if
    it exists.
    """
    ids = id_map(segments, (pixels.shape[1], pixels.shape[2]))
    summary = {
        "file_name": image.name,
        "height": ids.shape[0],
        "width": ids.shape[1],
        "masks": len(segments),
        "covered": round(float((ids > 0).mean()), 6),
        "seconds": round(seconds, 3),
    }
    facts = {
        "segments": FORMAT,
        "image": summary,
        "made_by": made_by | {"image": digest(image.path)},
        "annotations": [{"id": number, **segment} for number, segment in enumerate(segments, 1)],
    }
    write_json(image.file("_segments.json"), facts)
    atomic_write(image.file("_segments.png"), png_rgb(ids))
    atomic_write(image.file("_overlay.png"), png_rgb(outlined(pixels, ids)))
    return summary


def colors_of(ids: np.ndarray) -> np.ndarray:
    """Map mask ids uint16 [H, W] to indices into COLORS, uint8 [H, W]; pixels outside all masks become IGNORE."""
    return np.where(ids > 0, (ids - 1) % len(COLORS), IGNORE).astype(np.uint8)


def outlined(pixels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Blend an image uint8 [3, H, W] with the colors of its masks, outlined in white: uint8 [H, W, 3]."""
    image = overlay(pixels, colors_of(ids), COLORS)
    image[borders(ids, max(1, round(max(ids.shape) / 700)))] = 255
    return image


def borders(ids: np.ndarray, width: int = 1) -> np.ndarray:
    """Boundaries between different mask ids: bool [H, W], true on lines of about `width` pixels. ids: [H, W]."""
    found = np.zeros(ids.shape, bool)
    found[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    found[1:] |= ids[1:] != ids[:-1]
    return binary_dilation(found, iterations=width // 2) if width > 1 else found
