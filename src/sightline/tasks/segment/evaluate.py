"""Using a segmentation run: its shipped weights, and their numbers on a split or on other data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...config.resolve import resolve
from ...data.decode.palettes import Palette, from_dict
from ...data.pair_cache import decode_pairs
from ...data.sources.pairs import open_pairs
from ...engine.device import pick_device, pick_precision, use_threads
from ...errors import ENVIRONMENT, SightlineError
from ...inference.evaluation import chosen_split, note_look, warn_if_changed
from ...models.segmenters import build_segmenter
from ...runs import run_folder
from ...runs.checkpoint import CONFIG, checked_description, load_model
from .build import normalizer
from .config import SegmentConfig
from .results import measure
from .task import SegmentLearner


@dataclass(frozen=True)
class MaskInference:
    """A run's segmentation learner with its shipped weights, and where and how to compute."""

    learner: SegmentLearner
    palette: Palette
    device: torch.device
    dtype: torch.dtype
    step: int
    epoch: int


def load_segmenter(folder: Path, config: SegmentConfig) -> MaskInference:
    """The run in `folder`, ready to measure or predict: all from the checkpoint, but for the test-time averages."""
    run_folder.require_weights(folder)
    (shipped,) = run_folder.shipped_checkpoints(folder)
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    with checked_description(shipped) as description:
        palette = from_dict(description["palette"], str(shipped / CONFIG))
        preprocessing, model = description["preprocessing"], description["model"]
        mean, std, name, args = preprocessing["mean"], preprocessing["std"], model["name"], model["args"]
    network = build_segmenter(name, len(palette.classes), args)
    tensors, moment = load_model(shipped)
    network.load_state_dict(tensors)
    network.to(device).to(memory_format=torch.channels_last).eval()
    learner = SegmentLearner(
        config, model=network, classes=len(palette.classes), normalize=normalizer(tuple(mean), tuple(std))
    )
    dtype = pick_precision(run_folder.precision_of(folder), device)
    return MaskInference(learner, palette, device, dtype, moment.get("step", 0), moment.get("epoch", 0))


def evaluate(
    folder: Path, config: SegmentConfig, data: str, split: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Numbers of a run's shipped weights on a split of pairs; data: the path of other data, or "".

    Other data is read by the run's palette, for its classes are what the model predicts.
    """
    own = not data
    if not own:
        config = resolve(config, {"data.path": data, "data.layout": "auto"})
    parts = load_segmenter(folder, config)
    source, palette = open_pairs(config.data, config.data.split_seed, hold_out=own, known=parts.palette)
    for note in source.notes if not own else ():
        say(note)
    split = chosen_split(split, source)
    if source.splits[split].read_mask is None:
        cure = "`sightline predict` needs no masks"
        raise SightlineError("measuring needs masks", where=f"{source.path}, {split}", cure=cure)
    try:
        decoded = decode_pairs(source, split, palette, config.data, say)
    except SightlineError as error:
        if own or error.status == ENVIRONMENT or "counts" in error.what:
            raise
        cure = "the run's palette is fixed: convert these masks to what it was trained on, or mend the files"
        raise SightlineError(error.what, where=error.where, why=error.why, cure=cure) from error
    if own:
        warn_if_changed(folder, split, decoded.digest, say)
    masks = folder / "predictions" / split if own else None
    found, _ = measure(parts.learner, decoded, palette, config, parts.device, parts.dtype, masks)
    if split.startswith("test") or not own:
        note_look(folder, parts.step, parts.epoch, split, source.path, found, say)
    return {"split": split, "images": len(decoded.names), **found}
