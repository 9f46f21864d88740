"""`sightline masks`: class-agnostic masks of all objects in images, with Segment Anything."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..config.paths import path_of
from ..errors import SightlineError
from ..runs.terminal import print_plain
from ..user_code import accepts_code


@accepts_code
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
    code: str | os.PathLike[str] | None = None,
) -> Path:
    """Generate masks of all objects in images with Segment Anything; write them to the folder `out` and return it.

    images: folders, files, patterns, or lists of paths, see `sightline.predict`. model: a short name (vit_b, vit_l,
    vit_h), a Hugging Face repository in the local cache, or a folder written by save_pretrained. download: whether to
    download missing files. points_per_side: prompts are a grid of this many by this many points. points_per_batch:
    number of prompts per forward pass. quality, stability: minimum predicted IoU and minimum stability score of a mask;
    0 keeps all masks. The defaults are those of SAM's authors. run: a segmentation run; its predicted masks are refined
    with the generated ones. truth: folder of true masks, with which the effect of this refinement is measured.

    For `a/0013.jpg`, writes a/0013_segments.png, a/0013_segments.json and a/0013_overlay.png, and with `run` also
    a/0013_mask.png; for all images together, segments.html and segments.json. Unreadable images are listed in
    errors.csv. The same call resumes an interrupted one. Raises SightlineError for invalid settings, a missing
    checkpoint or run, and files that would be overwritten.
    """
    from .generation import generate

    say = (lambda text: None) if quiet else print_plain
    target, settings = path_of(out), (points_per_side, points_per_batch, quality, stability)
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
