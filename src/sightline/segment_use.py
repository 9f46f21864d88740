"""Using a segmentation run: measure it on a split or on other data, and predict masks of images of any size."""

import csv
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import runs
from .build_segment import normalizer
from .checkpoint import CONFIG, description_of, load_model
from .config import Config
from .data.images import open_image, planes
from .data.masks import write_mask
from .data.pair_cache import decode_pairs
from .data.pairs import open_pairs
from .data.palettes import Palette, display_colors, from_dict
from .device import autocast, pick_device, pick_precision, use_threads
from .errors import SightlineError, listing
from .files import atomic_write
from .mask_results import mask_names, measure
from .models.segmenters import build_segmenter
from .tasks.segment import Segment
from .tiles import predict_scene


@dataclass(frozen=True)
class MaskInference:
    """A run's segmentation task with its shipped weights, and where and how to compute."""

    task: Segment
    palette: Palette
    device: torch.device
    dtype: torch.dtype
    step: int
    epoch: int


def load_segmenter(folder: Path, config: Config) -> MaskInference:
    """The run in `folder`, ready to measure or predict: all from the checkpoint, but for the test-time averages."""
    runs.require_weights(folder)
    (shipped,) = runs.shipped_checkpoints(folder)
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    with description_of(shipped) as description:
        palette = from_dict(description["palette"], str(shipped / CONFIG))
        preprocessing, model = description["preprocessing"], description["model"]
        mean, std, name, args = preprocessing["mean"], preprocessing["std"], model["name"], model["args"]
    network = build_segmenter(name, len(palette.classes), args)
    tensors, moment = load_model(shipped)
    network.load_state_dict(tensors)
    network.to(device).to(memory_format=torch.channels_last).eval()
    task = Segment(config, model=network, classes=len(palette.classes), normalize=normalizer(tuple(mean), tuple(std)))
    dtype = pick_precision(runs.provenance(folder).get("precision", "auto"), device)
    return MaskInference(task, palette, device, dtype, moment.get("step", 0), moment.get("epoch", 0))


def evaluate_masks(
    folder: Path, config: Config, own: bool, split: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Numbers of a run's shipped weights on a split of pairs; the arguments are those of `commands.evaluate`.

    Other data is read by the run's palette, for its classes are what the model predicts.
    """
    from .commands import changed, chosen_split, note_look

    parts = load_segmenter(folder, config)
    source, palette = open_pairs(config.data, config.data.split_seed, hold_out=own, known=parts.palette)
    for note in source.notes if not own else ():
        say(note)
    split = chosen_split(split, source)
    if source.splits[split].read_mask is None:
        cure = "`sightline predict` needs no masks"
        raise SightlineError("measuring needs masks", where=f"{source.path}, {split}", cure=cure)
    decoded = decode_pairs(source, split, palette, config.data, say)
    if own and changed(runs.provenance(folder), split, decoded.digest):
        say(f"the images of {split} are no longer those that the run began with: its numbers will not repeat")
    masks = folder / "predictions" / split if own else None
    found, _ = measure(parts.task, decoded, palette, config, parts.device, parts.dtype, masks)
    if split.startswith("test") or not own:
        note_look(folder, parts.step, parts.epoch, split, source.path, found, say)
    return {"split": split, "images": len(decoded.names), **found}


def predict_masks(
    folder: Path,
    config: Config,
    root: Path,
    names: list[str],
    out: Path,
    overwrite: bool,
    overlay: bool,
    tile: int,
    say: Callable[[str], None],
) -> Path:
    """A mask file for each image below `root`, `0013_sat.jpg` -> `0013_mask.png`, in the folder `out`.

    tile: side in pixels of the tiles in which images are predicted that are larger; they overlap by a quarter.
    overlay: also `0013_overlay.png`, the mask laid over the image. Unreadable images are listed in errors.csv.
    """
    if out.is_file() or out.suffix.lower() in (".csv", ".png", ".tif", ".tiff", ".jpg"):
        why = "a segmenter writes one mask an image"
        raise SightlineError("--out must be a folder", where=str(out), why=why, cure="--out masks/")
    whole, names = names, without_masks(names)
    if len(names) < len(whole):
        say(f"{len(whole) - len(names):,} masks beside their images are left out")
    parts = load_segmenter(folder, config)
    targets = [out / Path(name).with_name(mask_names([name])[0]) for name in names]
    twice = [str(target) for target, count in Counter(targets).items() if count > 1]
    if twice:
        why = "these masks would be of several images:\n" + listing(twice)
        raise SightlineError(
            "names clash", where=str(root), why=why, cure="rename images that differ in their ending only"
        )
    taken = [str(target) for target in targets if target.exists()]
    if taken and not overwrite:
        why = f"{len(taken):,} of {len(targets):,} masks are there already, the first: {taken[0]}"
        raise SightlineError("the output exists", where=str(out), why=why, cure="another --out, or --overwrite")
    bad: list[tuple[str, str]] = []
    for name, target in zip(names, targets, strict=True):
        try:
            image = planes(open_image(str(root / name), config.data.max_pixels))
        except SightlineError as error:
            bad.append((name, " ".join((error.why or error.what).split())))
            continue
        mask = scene_mask(parts, image, tile)
        atomic_write(target, write_mask(mask, parts.palette))
        if overlay:
            name = target.name.removesuffix("_mask.png") + "_overlay.png"
            atomic_write(target.with_name(name), overlay_png(image, mask, parts))
    (out / "errors.csv").unlink(missing_ok=True)
    if bad:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("filename", "error"), *bad])
        atomic_write(out / "errors.csv", text.getvalue().encode("utf-8", "surrogateescape"))
        say(f"{len(bad):,} could not be read; errors.csv says why, the first: {bad[0][0]}")
    say(f"{len(names) - len(bad):,} masks written to {out}")
    return out


def without_masks(names: list[str]) -> list[str]:
    """The names less those of masks that lie beside their image: `0013_mask.png` beside `0013_sat.jpg`."""
    stems = {str(Path(name).with_suffix("")) for name in names}

    def is_mask(name: str) -> bool:
        stem = str(Path(name).with_suffix(""))
        base = stem.removesuffix("_mask")
        return base != stem and bool({f"{base}_sat", base} & stems)

    return [name for name in names if not is_mask(name)]


@torch.inference_mode()
def scene_mask(parts: MaskInference, image: np.ndarray, tile: int) -> np.ndarray:
    """Class indices uint8 [H, W] of an image uint8 [3, H, W] of any size."""
    _, height, width = image.shape
    mask = np.empty((height, width), np.uint8)

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        with autocast(parts.device, parts.dtype):
            return parts.task.logits(pixels.to(parts.device))

    def read(top: int, left: int, rows: int, columns: int) -> np.ndarray:
        return image[:, top : top + rows, left : left + columns]

    def write(top: int, rows: np.ndarray) -> None:
        mask[top : top + len(rows)] = rows

    predict_scene(forward, read, height, width, len(parts.palette.classes), tile, tile // 4, write)
    return mask


def overlay_png(image: np.ndarray, mask: np.ndarray, parts: MaskInference) -> bytes:
    """The mask in its colors over the image, as PNG bytes."""
    from .insight.strips import overlay
    from .insight.style import png_rgb

    return png_rgb(overlay(image, mask, display_colors(parts.palette)))
