"""Using a segmentation run: measure it on a split or on other data, and predict masks of images of any size."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import runs
from .build_segment import normalizer
from .checkpoint import CONFIG, alternative, load_model, read_description
from .config import Config
from .data.images import open_image, planes
from .data.masks import write_mask
from .data.pair_cache import decode_pairs
from .data.pairs import open_pairs
from .data.palettes import Palette, display_colors, from_dict
from .device import autocast, pick_device, pick_precision, use_threads
from .errors import SightlineError
from .evaluate import evaluate
from .files import atomic_write
from .models.segmenters import build_segmenter
from .segment_metrics import interval
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
    """The run in `folder`, ready to measure or predict. All that shapes a number comes from the checkpoint."""
    runs.require_weights(folder)
    (shipped,) = runs.shipped_checkpoints(folder)
    description = read_description(shipped / CONFIG, alternative(shipped))
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    try:
        palette = from_dict(description["palette"], str(shipped / CONFIG))
        preprocessing, model = description["preprocessing"], description["model"]
        mean, std, name, args = preprocessing["mean"], preprocessing["std"], model["name"], model["args"]
    except (KeyError, TypeError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise SightlineError(
            "the model's description is damaged", where=str(shipped / CONFIG), why=why, cure=alternative(shipped)
        ) from error
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
    source, palette = open_pairs(config.data, config.data.split_seed, hold_out=own)
    for note in source.notes if not own else ():
        say(note)
    split = chosen_split(split, source)
    if source.splits[split].read_mask is None:
        cure = "`sightline predict` needs no masks"
        raise SightlineError("measuring needs masks", where=f"{source.path}, {split}", cure=cure)
    if palette.classes != parts.palette.classes:
        why = f"the run knows {', '.join(parts.palette.classes)}; the data has {', '.join(palette.classes)}"
        raise SightlineError("the data has other classes than the run", where=source.path, why=why)
    decoded = decode_pairs(source, split, palette, config.data, say)
    if own and changed(runs.provenance(folder), split, decoded.digest):
        say(f"the images of {split} are no longer those that the run began with: its numbers will not repeat")
    numbers, arrays = evaluate(parts.task, decoded, config.train.eval_batch_size, parts.device, parts.dtype)
    low, high = interval(arrays["confusion"], seed=config.train.seed)
    found = {**numbers, "mean_iou_interval": [low, high]}
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
    from .finish_segment import mask_names

    parts = load_segmenter(folder, config)
    targets = [out / Path(name).with_name(mask_names([name])[0]) for name in names]
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
            atomic_write(target.with_name(target.name.replace("_mask", "_overlay")), overlay_png(image, mask, parts))
    if bad:
        lines = "".join(f'"{name}","{why}"\n' for name, why in bad)
        atomic_write(out / "errors.csv", "filename,error\n" + lines)
        say(f"{len(bad):,} could not be read; errors.csv says why, the first: {bad[0][0]}")
    say(f"{len(names) - len(bad):,} masks written to {out}")
    return out


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
