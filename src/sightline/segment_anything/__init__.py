"""`sightline masks`: class-agnostic masks of all objects in images, with Segment Anything."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import SightlineError
from ..runs.terminal import print_plain


def masks(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    model: str = "vit_b",
    points_per_side: int = 32,
    points_per_batch: int = 64,
    quality: float = 0.88,
    stability: float = 0.95,
    run: str | os.PathLike[str] | None = None,
    truth: str | os.PathLike[str] | None = None,
    download: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Generate masks of all objects in images with Segment Anything; write them to the folder `out` and return it.

    images: as for `predict`. model: a short name (vit_b, vit_l, vit_h), a Hugging Face repository in the local cache,
    or a folder written by save_pretrained; download: fetch missing files. points_per_side: side of the grid of prompts.
    points_per_batch: prompts computed at a time. quality, stability: minimum predicted IoU and stability score of a
    mask; 0 keeps all masks. The defaults are those of SAM's authors. run: a segmentation run, whose predicted masks are
    cleaned up with the generated ones. truth: a folder of true masks, to measure the effect of the clean-up.

    Writes a/0013_segments.png, _segments.json and _overlay.png for `a/0013.jpg`, with `run` also _mask.png, and
    segments.html and segments.json for all images. Resumes an interrupted call. Lists unreadable images in errors.csv.
    Raises SightlineError for invalid settings, a missing checkpoint or run, and files that would be overwritten.
    """
    from .generation import generate

    say = (lambda text: None) if quiet else print_plain
    target, settings = Path(out), (points_per_side, points_per_batch, quality, stability)
    if target.is_file() or target.suffix.lower() in (".csv", ".json", ".html", ".png", ".tif", ".tiff", ".jpg"):
        why = "several files are written per image"
        raise SightlineError("--out must be a folder", where=str(out), why=why, cure="choose a folder: --out segments/")
    if truth is not None and run is None:
        why = "the masks of Segment Anything have no classes to compare with the true masks"
        raise SightlineError(
            "--truth needs --run",
            where=f"--truth {truth}",
            why=why,
            cure="give a segmenter whose masks have classes: --run RUN",
        )
    return generate(images, target, settings, (model, download), (run, truth), overwrite, say)
