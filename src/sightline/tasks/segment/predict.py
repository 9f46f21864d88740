"""Predict masks of images of any size with a trained segmenter, and write one mask file per image."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import torch
from PIL import Image

from ...data.decode.geotiff import GEO, SUFFIXES, Scene, has_rasterio, has_windows, loses_georeference, write_scene
from ...data.decode.images import planes
from ...data.decode.masks import coded, write_mask
from ...data.decode.palettes import IGNORE, Palette, display_colors
from ...data.decode.rasters import read_for
from ...data.parallel import share_of
from ...data.sources.pair_layouts import named_as_masks
from ...data.sources.scan import left_out, walk
from ...data.test_ledger import TestImages
from ...engine.memory import explain_out_of_memory
from ...errors import ENVIRONMENT, INTERRUPTED, SightlineError, counted, listing
from ...inference.batching import ProgressLines
from ...inference.inputs import InputImage, PredictOptions, absolute_inputs, input_images
from ...inference.reading import ValueRange, channels_of_run, open_channels
from ...inference.resumable_csv import require_same_origin
from ...inference.sharded_predict import shard_path
from ...inference.tiles import Tiling, Write, predict_scene
from ...runs import run_folder
from ...runs.atomic import atomic_write, read_json, remove, write_json
from ...runs.csv_io import csv_text
from ...runs.lock import lock_output
from ..contract import Say
from .config import SegmentConfig
from .evaluate import MaskInference, load_segmenter
from .results import mask_names, within
from .score import MASK_ENDING, OVERLAY_ENDING

SMALLEST_TILE = 32


@dataclass(frozen=True)
class MaskJob:
    """One image to predict. target: path of the mask file to write. windows: whether image and mask are read and
    written in parts, because the image is georeferenced or very large."""

    name: str
    path: Path
    target: Path
    windows: bool

    @property
    def overlay(self) -> Path:
        """The path of the overlay: `0013_overlay.png` for `0013_mask.png`."""
        return self.target.with_stem(f"{self.target.stem.removesuffix(MASK_ENDING)}{OVERLAY_ENDING}")

    def files(self, overlay: bool) -> list[Path]:
        """The files to write. overlay: whether the overlay is one of them."""
        return [self.target, self.overlay] if overlay else [self.target]


def predict(
    folder: Path, config: SegmentConfig, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
) -> Path:
    """Write a mask for each image to the folder `out`, `a/0013_sat.jpg` -> `a/0013_mask.png`; returns `out`.

    Images with a side longer than options.tile pixels are predicted in tiles that overlap by a quarter. With
    options.overlay, `0013_overlay.png` is written too, the image blended with the colors of its mask. Unreadable images
    are listed in errors.csv. TIFF files that are georeferenced or very large are read in parts, and their masks are
    TIFF files with the same coordinates. Repeating an interrupted command resumes it. Under torchrun the processes
    share the images. Raises SightlineError for options.features, because a segmenter has no features of whole images.
    """
    require_possible(options, out)
    skipped, tests, share = Counter[str](), TestImages(), share_of(os.environ)
    images = list(input_images(inputs, skipped))
    if left := left_out(skipped):
        say(f"skipped: {left}")
    tile, limit, channels = options.tile, config.data.max_pixels, channels_of_run(folder)
    jobs = mask_jobs(to_predict(images, say), out, limit, channels.plain)
    require_distinct([job.target for job in jobs], out)
    for job in jobs:
        tests.add(str(job.path))
    jobs = jobs[share.rank :: share.world]
    weights, train = [*run_folder.weight_digests(folder).values()], config.train
    origin = {"weights": weights, "images": absolute_inputs(inputs), "tile": tile, "overlay": options.overlay}
    origin |= {"flip": train.flip_test, "turn": train.turn_test}
    record, errors = shard_path(out / "predict.part.json", share), shard_path(out / "errors.csv", share)
    cure = f"use smaller tiles: --tile {max(64, tile // 2)}"
    with explain_out_of_memory(config, cure=cure):
        parts = load_segmenter(folder, config)
    with explain_out_of_memory(config, cure=cure), lock_output(record) as note:
        if note:
            say(note)
        if options.overwrite or not record.is_file():
            targets, remaining = [path for job in jobs for path in job.files(options.overlay)], jobs
            require_no_other_images(out, options.overwrite)
            require_free(targets, [image.path for image in images], out, options.overwrite)
            remove(targets)  # so that an interrupted command is resumed without --overwrite
            write_json(record, origin)
        else:
            require_same_origin(read_json(record), origin, out)
            remaining = [job for job in jobs if not all(path.is_file() for path in job.files(options.overlay))]
            say(f"resuming after {counted(len(jobs) - len(remaining), 'mask')}")
        unreadable = predict_all(parts, remaining, limit, options, say)
        report_unreadable(unreadable, errors, say)
        report_lost_maps(remaining, limit, channels.plain, say)
        remove([record])
    if jobs and len(unreadable) == len(jobs):
        why, cure = f"the first error: {': '.join(unreadable[0])}", f"repair or remove the images listed in {errors}"
        raise SightlineError("no image could be read", where=str(out), why=why, cure=cure)
    say(f"{counted(len(jobs) - len(unreadable), 'mask')} written to {out}")
    if share.rank == 0 and (look := tests.record("predict", folder, inputs)):
        say(look)
    return out


def require_possible(options: PredictOptions, out: Path) -> None:
    """Raise SightlineError for options that a segmenter does not have, and for an output that is not a folder."""
    if options.features:
        raise SightlineError("a segmenter has no features of whole images", where="--features", cure="omit --features")
    options.require_float32()
    if out.is_file() or out.suffix.lower() in (".csv", ".png", ".tif", ".tiff", ".jpg"):
        why, cure = "a segmenter writes one mask file for each image", "choose a folder: --out predicted/"
        raise SightlineError("--out must be a folder", where=str(out), why=why, cure=cure)
    if options.tile < SMALLEST_TILE:
        what, cure = "the tiles are too small", f"use --tile {SMALLEST_TILE} or more"
        raise SightlineError(what, where=f"--tile {options.tile}", cure=cure)


def to_predict(images: Sequence[InputImage], say: Say) -> list[InputImage]:
    """The images without masks and overlays of others among them, whose number is printed."""
    names = set(without_outputs([image.name for image in images]))
    if outputs := len(images) - len(names):
        say(
            f"skipped {counted(outputs, 'file')}: the masks (NAME_mask, or in a folder such as masks/) and overlays "
            "(NAME_overlay) of images in the list"
        )
    return [image for image in images if image.name in names]


def without_outputs(names: list[str]) -> list[str]:
    """Remove names of masks and overlays that belong to images in the same list: `0013_mask.png` beside `0013_sat.jpg`,
    `masks/0013.png` with `images/0013.jpg`."""
    stems = {Path(name).stem for name in names}
    outside = {Path(name).stem for name in names if not in_mask_folder(name)}

    def is_output(name: str) -> bool:
        stem = Path(name).stem
        if stem in outside and in_mask_folder(name):
            return True
        bases = {stem.removesuffix(ending) for ending in (MASK_ENDING, OVERLAY_ENDING)} - {stem}
        return any({f"{base}_sat", base} & stems for base in bases)

    return [name for name in names if not is_output(name)]


def in_mask_folder(name: str) -> bool:
    """Whether a folder in a path has a usual name for masks, such as `masks` or `trainannot`."""
    return any(named_as_masks(folder) for folder in PurePath(name).parts[:-1])


def mask_jobs(images: Sequence[InputImage], out: Path, max_pixels: int, rgb: bool = True) -> list[MaskJob]:
    """A job for each image. All masks are below `out`, even if image names contain `..` or are absolute. rgb: whether
    images are read as 8-bit RGB."""
    jobs = []
    for name, path in images:
        inner = within(name)
        target = out / inner.parent / mask_names([inner.name])[0]
        windows = has_windows(Path(path), max_pixels, rgb)
        jobs.append(MaskJob(name, Path(path), target.with_suffix(".tif") if windows else target, windows))
    return jobs


def require_distinct(targets: Sequence[Path], out: Path) -> None:
    """Raise SightlineError if several images have the same output file."""
    if repeated := [str(target) for target, count in Counter(targets).items() if count > 1]:
        why = "each of these files would be written for more than one image:\n" + listing(repeated)
        cure = "rename images whose names differ only in the extension, and pass each image only once"
        raise SightlineError("several images have the same output file", where=str(out), why=why, cure=cure)


def require_no_other_images(out: Path, overwrite: bool) -> None:
    """Raise SightlineError if the output folder has images other than masks and overlays, unless `overwrite`: later,
    the masks could be taken for true masks."""
    files = walk(str(out), "", Counter()) if out.is_dir() and not overwrite else ()
    own = (MASK_ENDING, OVERLAY_ENDING)
    other = next((each.name for each in files if not PurePath(each.name).stem.endswith(own)), "")
    if other:
        why = f"{other} is no mask or overlay of an earlier prediction; predictions and true masks would be mixed up"
        cure = "choose another folder: --out predicted/; or write into this one anyway: --overwrite"
        raise SightlineError("the output folder has other images", where=str(out), why=why, cure=cure)


def require_free(targets: Sequence[Path], inputs: Sequence[str], out: Path, overwrite: bool) -> None:
    """Raise SightlineError if an output file is one of the inputs (such as a true mask), or exists and `overwrite`
    is False."""
    given = {Path(path).resolve() for path in inputs}
    if own := [str(path) for path in targets if path.resolve() in given]:
        why = f"{counted(len(own), 'input file')} would be overwritten by masks, such as {own[0]}"
        cure = "choose another folder, because the masks next to the images may be the true masks: --out FOLDER"
        raise SightlineError("the output folder would overwrite an input", where=str(out), why=why, cure=cure)
    existing = [str(path) for path in targets if path.exists()]
    if existing and not overwrite:
        why = f"{len(existing):,} of the {len(targets):,} files to write exist already, such as {existing[0]}"
        cure = "choose another folder: --out FOLDER; or replace these files with --overwrite"
        raise SightlineError("the output exists already", where=str(out), why=why, cure=cure)


def predict_all(
    parts: MaskInference, jobs: list[MaskJob], max_pixels: int, options: PredictOptions, say: Say
) -> list[tuple[str, str]]:
    """Predict the images in order; return (name, error) of the unreadable ones. Ctrl-C keeps the finished masks."""
    unreadable: list[tuple[str, str]] = []
    progress, values = ProgressLines(say, "masks", len(jobs)), ValueRange(parts.channels)
    for index, job in enumerate(jobs):
        try:
            predict_one(parts, job, max_pixels, options.tile, options.overlay, say, values)
        except SightlineError as error:
            if error.status == ENVIRONMENT:
                raise
            unreadable.append((job.name, " ".join((error.why or error.what).split())))
        except KeyboardInterrupt:
            what, where = f"interrupted after {index:,} of {counted(len(jobs), 'mask')}", str(job.target.parent)
            cure = f"repeat the command {'without --overwrite ' if options.overwrite else ''}to predict the rest"
            raise SightlineError(what, where=where, cure=cure, status=INTERRUPTED) from None
        progress.add(1)
    if values.warning:
        say(values.warning)
    return unreadable


def report_unreadable(unreadable: list[tuple[str, str]], path: Path, say: Say) -> None:
    """Write (name, error) of the unreadable images to the CSV `path`, or remove that file if there are none."""
    remove([path])
    if unreadable:
        atomic_write(path, csv_text([("filename", "error"), *unreadable]))
        first = ": ".join(unreadable[0])
        say(f"{counted(len(unreadable), 'image')} could not be read, see {path.name}; the first: {first}")


def report_lost_maps(jobs: list[MaskJob], max_pixels: int, rgb: bool, say: Say) -> None:
    """Print how many georeferenced images get masks without coordinates, and which package adds support for TIFF
    files."""
    lost = [job.name for job in jobs if not job.windows and loses_georeference(job.path, max_pixels, rgb)]
    if lost:
        why = "not 8-bit gray, RGB or RGBA" if rgb else "rotated, or stored in very large blocks"
        say(f"{counted(len(lost), 'mask')} without coordinates, because the image is {why}; the first: {lost[0]}")
    if not has_rasterio() and any(job.name.lower().endswith(SUFFIXES) for job in jobs):
        say(f"to predict TIFF files of any size and keep their coordinates: {GEO}")


def predict_one(
    parts: MaskInference, job: MaskJob, max_pixels: int, tile: int, overlay: bool, say: Say, values: ValueRange
) -> None:
    """Write the mask of one image and, if requested, the overlay. values: counts the values of the image."""
    if job.windows:
        predict_windows(parts, job, tile, overlay, say, values)
        return
    image = values.add(job.name, planes(read_for(str(job.path), parts.channels, max_pixels)))
    mask = predict_mask(parts, image, tile)
    atomic_write(job.target, write_mask(mask, parts.palette))
    if overlay:
        blended = Image.fromarray(blend(parts.channels.composite(image), mask, parts.palette))
        atomic_write(job.overlay, lambda file: blended.save(file, "PNG"))


def predict_mask(parts: MaskInference, image: np.ndarray, tile: int) -> np.ndarray:
    """Class indices uint8 [H, W] of an image [C, H, W] of any size."""
    return predict_scene_mask(parts, Scene.of_array(image), tile)


def predict_scene_mask(parts: MaskInference, scene: Scene, tile: int) -> np.ndarray:
    """Class indices uint8 [H, W] of a scene; 255 for pixels without data, see `with_ignored`."""
    mask = np.empty((scene.height, scene.width), np.uint8)

    def write(top: int, classes: np.ndarray) -> None:
        mask[top : top + len(classes)] = with_ignored(scene, top, classes, parts.palette)

    predict_tiles(parts, scene, tile, write)
    return mask


def with_ignored(scene: Scene, top: int, classes: np.ndarray, palette: Palette) -> np.ndarray:
    """Mark the pixels without data as ignored in rows of a mask, if the palette has a value for ignored pixels.

    top: index of the first row. classes: uint8 [rows, width].
    """
    if scene.valid is None or not palette.ignored:
        return classes
    return np.where(scene.valid(top, 0, *classes.shape), classes, np.uint8(IGNORE))


def predict_windows(parts: MaskInference, job: MaskJob, tile: int, overlay: bool, say: Say, values: ValueRange) -> None:
    """Write the mask of a large TIFF file, and its overlay if requested, one row of tiles after the other.

    Pixels without data become ignored pixels, if the palette has a value for ignored pixels.
    """
    pixel = coded(np.zeros((1, 1), np.uint8), parts.palette)
    with ExitStack() as stack:
        scene = values.watched(stack.enter_context(open_channels(job.path, parts.channels)), job.name)
        progress = ProgressLines(say, job.name, scene.height * scene.width)
        write_mask_rows = stack.enter_context(write_scene(job.target, scene, pixel.shape[2:], str(pixel.dtype)))
        overlays = [stack.enter_context(write_scene(job.overlay, scene, (3,), "uint8"))] if overlay else []
        limits = parts.channels.limits(center_of(scene, tile)) if overlay else None  # the same for all rows

        def write(top: int, classes: np.ndarray) -> None:
            classes = with_ignored(scene, top, classes, parts.palette)
            for write_overlay in overlays:
                shown = parts.channels.composite(scene.read(top, 0, *classes.shape), limits)
                write_overlay(top, 0, blend(shown, classes, parts.palette))
            write_mask_rows(top, 0, coded(classes, parts.palette))
            progress.add(classes.size)

        predict_tiles(parts, scene, tile, write)


def center_of(scene: Scene, side: int) -> np.ndarray:
    """The central pixels of a scene, [C, h, w] with at most `side` rows and columns."""
    height, width = min(scene.height, side), min(scene.width, side)
    return scene.read((scene.height - height) // 2, (scene.width - width) // 2, height, width)


@torch.inference_mode()
def predict_tiles(parts: MaskInference, scene: Scene, tile: int, write: Write) -> None:
    """Predict an image in tiles with the model of a run.

    write: is called with each finished block of rows: (index of the first row, class indices uint8 [rows, width]).
    """

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        return parts.learner.logits(pixels.to(parts.device))

    tiling, classes = Tiling(tile, tile // 4), len(parts.palette.classes)
    predict_scene(forward, scene.read, scene.height, scene.width, classes, tiling, write)


def blend(image: np.ndarray, mask: np.ndarray, palette: Palette) -> np.ndarray:
    """Blend an image uint8 [3, h, w] with the colors of its mask; returns uint8 [h, w, 3]. Ignored pixels are
    unchanged."""
    photo, colors = Image.fromarray(image.transpose(1, 2, 0)), Image.fromarray(mask)
    colors.putpalette(display_colors(palette).tobytes())
    blended = Image.blend(photo, colors.convert("RGB"), 0.5)
    return np.asarray(Image.composite(blended, photo, Image.fromarray(mask != IGNORE)))
