"""Masks of images of any size by a segmentation run: files in, files out."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..config.schema import Config
from ..data.cache import cache_root
from ..data.decode.crash_guard import laid
from ..data.decode.geotiff import SUFFIXES, Scene, has_windows, loses_map, open_scene, rasterio_is_here, write_scene
from ..data.decode.images import open_image, planes
from ..data.decode.masks import coded, write_mask
from ..data.decode.palettes import IGNORE, Palette, display_colors
from ..engine.device import autocast
from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError, counted, listing
from ..runs import run_folder
from ..runs.atomic import atomic_write, remove, write_json
from ..runs.csv_io import csv_text
from ..tasks.segment.evaluate import MaskInference, load_segmenter
from ..tasks.segment.results import mask_names
from .inputs import Picture
from .resumable_csv import refuse_other
from .sharded_predict import Share, share_of
from .tiles import Tiling, predict_scene

SMALLEST_TILE = 32
SAY_SECONDS = 10.0
"""A scene read window by window that takes longer says how far it is, this often."""


@dataclass(frozen=True)
class Job:
    """One image to predict. windows: whether it is read and written window by window."""

    name: str
    path: Path
    target: Path
    windows: bool

    @property
    def overlay(self) -> Path:
        """Where the overlay goes: `0013_overlay.png` beside `0013_mask.png`."""
        stem = self.target.stem.removesuffix("_mask")
        return self.target.with_name(f"{stem}_overlay{self.target.suffix}")


def predict_masks(
    folder: Path,
    config: Config,
    pictures: Sequence[Picture],
    out: Path,
    overwrite: bool,
    overlaid: bool,
    tile: int,
    say: Callable[[str], None],
) -> Path:
    """A mask file for each image, `a/0013_sat.jpg` -> `a/0013_mask.png`, in the folder `out`.

    tile: side in pixels of the tiles in which images are predicted that are larger; they overlap by a quarter.
    overlaid: also `0013_overlay.png`, the mask laid over the image. Unreadable images are listed in errors.csv. TIFF
    files that lie on a map, or are very large, are never held whole, and their masks are TIFF files of the same place.
    The same command goes on with what was interrupted; under torchrun the processes share the images.
    """
    if out.is_file() or out.suffix.lower() in (".csv", ".png", ".tif", ".tiff", ".jpg"):
        why = "a segmenter writes one mask an image"
        raise SightlineError("--out must be a folder", where=str(out), why=why, cure="--out masks/")
    if tile < SMALLEST_TILE:
        what, cure = "the tiles are too small to see anything in", f"--tile {SMALLEST_TILE} or more"
        raise SightlineError(what, where=f"--tile {tile}", cure=cure)
    wanted = set(without_outputs([picture.name for picture in pictures]))
    taken, share = [picture for picture in pictures if picture.name in wanted], share_of(os.environ)
    if len(taken) < len(pictures):
        said = counted(len(pictures) - len(taken), "file")
        say(f"{said} left out: masks (NAME_mask) and overlays (NAME_overlay) of the images here")
    parts = load_segmenter(folder, config)
    jobs = plan(taken, out, config.data.max_pixels)
    refuse_twice(jobs, out)
    jobs = jobs[share.rank :: share.world]
    weights, train = [*run_folder.weights_of(folder).values()], config.train
    averaged = {"flip": train.flip_test, "turn": train.turn_test}
    origin = {"weights": weights, "tile": tile, "overlay": overlaid, **averaged}
    begun = out / own_name("predict.json.part", share)
    if overwrite or not begun.is_file():
        refuse_clashes(jobs, [Path(picture.path) for picture in pictures], out, overwrite, overlaid)
        write_json(begun, origin)
        left = jobs
    else:
        left = not_done(jobs, begun, origin, overlaid, say)
    with laid(cache_root()):
        bad = predict_all(parts, left, config.data.max_pixels, tile, overlaid, say)
    report_bad(bad, out, say, own_name("errors.csv", share))
    tell_of_maps(left, config.data.max_pixels, say)
    remove([begun])
    if jobs and len(bad) == len(jobs):
        why, cure = f"the first: {bad[0][0]}: {bad[0][1]}", f"mend the images; {out / 'errors.csv'} has them all"
        raise SightlineError("no image could be read", where=str(out), why=why, cure=cure)
    say(f"{counted(len(jobs) - len(bad), 'mask')} written to {out}")
    return out


def own_name(name: str, share: Share) -> str:
    """The name of a file of this process: `errors.rank-0-of-4.csv` under torchrun."""
    stem, dot, ending = name.partition(".")
    return name if share.world == 1 else f"{stem}.rank-{share.rank}-of-{share.world}{dot}{ending}"


def not_done(jobs: list[Job], begun: Path, origin: dict, overlaid: bool, say: Callable[[str], None]) -> list[Job]:
    """What an interrupted prediction has left; SightlineError where that was another one."""
    refuse_other(begun, origin, str(begun.parent))
    left = [job for job in jobs if not (job.target.is_file() and (job.overlay.is_file() or not overlaid))]
    say(f"going on after {counted(len(jobs) - len(left), 'mask')} that are there")
    return left


def predict_all(
    parts: MaskInference, jobs: list[Job], max_pixels: int, tile: int, overlaid: bool, say: Callable[[str], None]
) -> list[tuple[str, str]]:
    """Predict one image after the other; (name, why) of those that cannot be read. Ctrl-C leaves what is done."""
    bad: list[tuple[str, str]] = []
    tell = progress("masks", len(jobs), say)
    for place, job in enumerate(jobs):
        try:
            predict_one(parts, job, max_pixels, tile, overlaid, say)
        except SightlineError as error:
            if error.status == ENVIRONMENT:
                raise
            bad.append((job.name, " ".join((error.why or error.what).split())))
        except KeyboardInterrupt:
            why, cure = f"{counted(place, 'mask')} of {len(jobs):,} were written", "the same command goes on with them"
            where = str(job.target.parent)
            raise SightlineError("interrupted", where=where, why=why, cure=cure, status=INTERRUPTED) from None
        tell(1)
    return bad


def plan(pictures: Sequence[Picture], out: Path, max_pixels: int) -> list[Job]:
    """What to read and where its mask goes, in the order of the pictures. The drive or root of a path is left out, and
    `..` in it becomes `up`, so that all lies below `out`."""
    jobs = []
    for name, path in pictures:
        inner = Path(*("up" if part == ".." else part for part in Path(name).parts if part != Path(name).anchor))
        target = out / inner.parent / mask_names([inner.name])[0]
        windows = has_windows(Path(path), max_pixels)
        jobs.append(Job(name, Path(path), target.with_suffix(".tif") if windows else target, windows))
    return jobs


def refuse_twice(jobs: list[Job], out: Path) -> None:
    """SightlineError where two images would have one mask."""
    twice = [str(target) for target, count in Counter(job.target for job in jobs).items() if count > 1]
    if twice:
        why = "these masks would be of several images:\n" + listing(twice)
        cure = "rename images that differ in their ending only, and name each image once"
        raise SightlineError("names clash", where=str(out), why=why, cure=cure)


def refuse_clashes(jobs: list[Job], inputs: list[Path], out: Path, overwrite: bool, overlaid: bool) -> None:
    """SightlineError where a file that would be written is there already, or is one of the inputs.

    inputs: the images and what lies beside them; among it may be the true masks, which nothing may overwrite.
    """
    wanted = [path for job in jobs for path in ((job.target, job.overlay) if overlaid else (job.target,))]
    given = {path.resolve() for path in inputs}
    own = [str(path) for path in wanted if path.resolve() in given]
    if own:
        why = f"{counted(len(own), 'file')} of the input would be overwritten, the first: {own[0]}"
        cure = "another --out: the masks that lie beside images may be the true ones"
        raise SightlineError("the output is the input", where=str(out), why=why, cure=cure)
    taken = [str(path) for path in wanted if path.exists()]
    if taken and not overwrite:
        why = f"{len(taken):,} of {len(wanted):,} files are there already, the first: {taken[0]}"
        raise SightlineError("the output exists", where=str(out), why=why, cure="another --out, or --overwrite")


def report_bad(bad: list[tuple[str, str]], out: Path, say: Callable[[str], None], name: str = "errors.csv") -> None:
    """errors.csv with the images that could not be read, gone where all could."""
    (out / name).unlink(missing_ok=True)
    if not bad:
        return
    atomic_write(out / name, csv_text([("filename", "error"), *bad]))
    say(f"{counted(len(bad), 'image')} could not be read; {name} says why, the first: {bad[0][0]}: {bad[0][1]}")


def tell_of_maps(jobs: list[Job], max_pixels: int, say: Callable[[str], None]) -> None:
    """Say which masks have lost the place on the map that their images have."""
    flat = [job.name for job in jobs if not job.windows and loses_map(job.path, max_pixels)]
    if flat:
        kind = "it is not 8-bit gray, RGB or RGBA" if len(flat) == 1 else "they are not 8-bit gray, RGB or RGBA"
        say(f"{counted(len(flat), 'mask')} without a place on the map, the first of {flat[0]}: {kind}")
    if not rasterio_is_here() and any(job.name.lower().endswith(SUFFIXES) for job in jobs):
        say("pip install 'sightline-vision[geo]' reads TIFF files of any size, and keeps their place on the map")


def without_outputs(names: list[str]) -> list[str]:
    """The names less masks and overlays of other images: `0013_mask.png`, in any folder, of `0013_sat.jpg`."""
    stems = {Path(name).stem for name in names}

    def is_output(name: str) -> bool:
        stem = Path(name).stem
        bases = {stem.removesuffix(ending) for ending in ("_mask", "_overlay")} - {stem}
        return any({f"{base}_sat", base} & stems for base in bases)

    return [name for name in names if not is_output(name)]


def predict_one(
    parts: MaskInference, job: Job, max_pixels: int, tile: int, overlaid: bool, say: Callable[[str], None]
) -> None:
    """Write the mask of one image, and the overlay where it is wanted."""
    if job.windows:
        predict_windows(parts, job, tile, overlaid, say)
        return
    image = planes(open_image(str(job.path), max_pixels))
    mask = scene_mask(parts, image, tile)
    atomic_write(job.target, write_mask(mask, parts.palette))
    if overlaid:
        from ..insight.style import png_rgb

        atomic_write(job.overlay, png_rgb(laid_over(image, mask, parts.palette)))


def scene_mask(parts: MaskInference, image: np.ndarray, tile: int) -> np.ndarray:
    """Class indices uint8 [H, W] of an image uint8 [3, H, W] of any size."""
    mask = np.empty(image.shape[1:], np.uint8)

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        return image[:, top : top + height, left : left + width]

    def write(top: int, left: int, classes: np.ndarray) -> None:
        mask[top : top + classes.shape[0], left : left + classes.shape[1]] = classes

    height, width = mask.shape
    predict_tiles(parts, Scene(height, width, read, {}), tile, write)
    return mask


def predict_windows(parts: MaskInference, job: Job, tile: int, overlaid: bool, say: Callable[[str], None]) -> None:
    """Write the mask of a scene that need not fit in memory; the overlay is a second file filled beside it."""
    dtype, shape = pixel_of(parts.palette)
    with open_scene(job.path) as scene:
        tell = progress(job.name, scene.height * scene.width, say)
        with write_scene(job.target, scene, shape, dtype) as write_mask_part:

            def write(top: int, left: int, classes: np.ndarray) -> None:
                write_mask_part(top, left, coded(classes, parts.palette))
                tell(classes.size)

            if not overlaid:
                predict_tiles(parts, scene, tile, without_gaps(scene, parts.palette, write))
                return
            with write_scene(job.overlay, scene, (3,), "uint8") as write_overlay_part:

                def write_both(top: int, left: int, classes: np.ndarray) -> None:
                    image = scene.read(top, left, *classes.shape)
                    write_overlay_part(top, left, laid_over(image, classes, parts.palette))
                    write(top, left, classes)

                predict_tiles(parts, scene, tile, without_gaps(scene, parts.palette, write_both))


def without_gaps(scene: Scene, palette: Palette, write: Callable[..., None]) -> Callable[..., None]:
    """`write`, but where the scene has no data, with the ignored class if the palette has a name for that."""
    seen = scene.seen
    if seen is None or not palette.ignored:
        return write
    return lambda top, left, classes: write(
        top, left, np.where(seen(top, left, *classes.shape), classes, np.uint8(IGNORE))
    )


@torch.inference_mode()
def predict_tiles(parts: MaskInference, scene: Scene, tile: int, write: Callable[..., None]) -> None:
    """`predict_scene` with a run's model."""

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        with autocast(parts.device, parts.dtype):
            return parts.learner.logits(pixels.to(parts.device))

    tiling, classes = Tiling(tile, tile // 4), len(parts.palette.classes)
    predict_scene(forward, scene.read, scene.height, scene.width, classes, tiling, write)


def laid_over(image: np.ndarray, mask: np.ndarray, palette: Palette) -> np.ndarray:
    """The image uint8 [3, h, w] with its mask's colors in it, uint8 [h, w, 3]."""
    from ..insight.strips import overlay

    return overlay(image, mask, display_colors(palette))


def pixel_of(palette: Palette) -> tuple[str, tuple[int, ...]]:
    """(type, shape) of one pixel of a mask that is coded by a palette."""
    pixels = coded(np.zeros((1, 1), np.uint8), palette)
    return str(pixels.dtype), pixels.shape[2:]


def progress(name: str, pixels: int, say: Callable[[str], None]) -> Callable[[int], None]:
    """A function that is told of finished pixels and says now and then how far it is."""
    start, done, told = time.monotonic(), 0, time.monotonic()

    def tell(more: int) -> None:
        nonlocal done, told
        done += more
        now = time.monotonic()
        if now - told >= SAY_SECONDS and done < pixels:
            left = (now - start) * (pixels - done) / done
            remaining = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
            say(f"{name}: {done / pixels:.0%}, about {remaining} left")
            told = now

    return tell
