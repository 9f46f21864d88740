"""`sightline masks`: everything in pictures that belongs together, found by Segment Anything, without classes."""

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
    """Find all masks of pictures with Segment Anything, and write them into the folder `out`, which is returned.

    images: what `predict` takes. model: a short name (vit_b, vit_l, vit_h), a name of the Hugging Face hub in the
    local cache, or a folder that save_pretrained wrote; download: fetch what the cache lacks. The four settings are
    those of SAM's authors; quality and stability of 0 keep every mask. run: a segmenter's, whose masks are cleaned up
    by these; truth: a folder of true masks, on which the effect is measured.

    Writes for `a/0013.jpg` a/0013_segments.png, _segments.json and _overlay.png, with `run` also _mask.png; for all of
    them segments.html and segments.json. Goes on where an earlier call ended. Raises SightlineError where something of
    this is not there, or does not fit together; unreadable pictures are rows of errors.csv.
    """
    from .automatic import Settings
    from .checkpoint import find_checkpoint
    from .work import Work, do_all, explained, kept, planned

    say = (lambda text: None) if quiet else print_plain

    settings, target = Settings(points_per_side, points_per_batch, quality, stability), Path(out)
    settings.check()
    check_arguments(target, run, truth)
    tasks, inputs = planned(images, target, say)
    clean_up = None
    if run is not None:
        from .clean_up import open_clean_up

        clean_up = open_clean_up(Path(run), None if truth is None else Path(truth), [task.name for task in tasks])
        inputs += clean_up.true.values()
    checkpoint = find_checkpoint(model, download)
    with explained(settings), kept(target) as note:
        if note:
            say(note)
        return do_all(Work(tasks, inputs, target, checkpoint, settings, clean_up, say), overwrite)


def check_arguments(out: Path, run: object, truth: object) -> None:
    """SightlineError for arguments that do not go together."""
    if out.is_file() or out.suffix.lower() in (".csv", ".json", ".html", ".png", ".tif", ".tiff", ".jpg"):
        why = "several files are written for each picture"
        raise SightlineError("--out must be a folder", where=str(out), why=why, cure="--out segments/")
    if truth is not None and run is None:
        why = "masks without classes cannot be compared with a truth that has some"
        raise SightlineError("--truth measures a clean-up", where=f"--truth {truth}", why=why, cure="add --run RUN")
