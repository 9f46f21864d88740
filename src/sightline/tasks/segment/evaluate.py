"""Load a trained segmenter, and evaluate it on a split of its own data or on other data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...data.channels import Channels
from ...data.decode.palettes import Palette, from_dict
from ...data.pair_cache import decode_pairs
from ...data.sources.leakage import without_copies
from ...data.sources.pairs import open_pairs
from ...data.sources.splits import OUTER
from ...data.types import Source
from ...engine.device import pick_device, use_threads
from ...errors import SightlineError
from ...inference.evaluation import (
    as_trained,
    chosen_split,
    log_test_evaluation,
    open_other,
    training_names,
    warn_if_changed,
    warn_of_bits,
)
from ...models.folding import fold_norms
from ...models.segmenters import Segmenter, build_segmenter
from ...runs import run_folder
from ...runs.checkpoint import CONFIG, checked_description, load_model
from ...stats.groups import write_groups
from ..contract import Say
from .build import normalizer
from .config import SegmentConfig
from .results import measure, save_counts
from .task import SegmentLearner


@dataclass(frozen=True)
class MaskInference:
    """A trained segmenter with its palette, device and the channels of its images. step, epoch: at which its checkpoint
    was written."""

    learner: SegmentLearner
    palette: Palette
    device: torch.device
    step: int
    epoch: int
    channels: Channels


def load_segmenter(folder: Path, config: SegmentConfig) -> MaskInference:
    """Load the segmenter of the run in `folder` for evaluation or prediction.

    Model, palette and preprocessing are read from the checkpoint; test-time augmentation, threads and device from
    `config`.
    """
    run_folder.require_weights(folder)
    (shipped,) = run_folder.shipped_checkpoints(folder)
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    with checked_description(shipped) as description:
        palette = from_dict(description["palette"], str(shipped / CONFIG))
        preprocessing, model = description["preprocessing"], description["model"]
        mean, std, name, args = preprocessing["mean"], preprocessing["std"], model["name"], model["args"]
        channels = Channels.of_description(preprocessing.get("channels"))
    network = build_segmenter(name, len(palette.classes), args, len(channels))
    tensors, moment = load_model(shipped)
    network.load_state_dict(tensors)
    network.to(device).to(memory_format=torch.channels_last).eval()
    fold_norms(network, (len(channels), 64, 64), Segmenter.outputs)
    normalize = normalizer(tuple(mean), tuple(std), channels)
    learner = SegmentLearner(config=config, model=network, classes=len(palette.classes), normalize=normalize)
    return MaskInference(learner, palette, device, moment.get("step", 0), moment.get("epoch", 0), channels)


def evaluate(folder: Path, config: SegmentConfig, data: str, split: str | None, say: Say) -> dict[str, Any]:
    """Evaluate the final weights of a run on a split; returns the metrics with their intervals.

    data: path of data other than the run's own, or "". Their masks are read with the run's palette, because the model
    predicts the classes of that palette. split: name of the split, or None for the default, see `sightline.evaluate`.
    """
    own = not data
    parts = load_segmenter(folder, config)
    palette = parts.palette

    def opened(hold_out: bool) -> Source:
        return open_pairs(config.data, config.data.split_seed, hold_out=hold_out, known=palette)[0]

    moved = False
    if own:
        source = without_copies(opened(True), config.data, lambda text: None)
    else:
        source, moved = open_other(
            folder, opened, lambda held: decode_pairs(held, "val", palette, config.data, say), say
        )
    source = as_trained(source, parts.channels, config.data.max_pixels, say)
    split = chosen_split(split, source)
    if source.splits[split].read_mask is None:
        cure = "use data with masks: --data PATH; or predict without masks: sightline predict RUN IMAGES"
        raise SightlineError("evaluation needs masks", where=f"{source.path}, {split}", cure=cure)
    decoded = decode_pairs(source, split, palette, config.data, say)
    warn_of_bits(decoded.channels, parts.channels, say)
    if own:
        warn_if_changed(folder, split, decoded.digest, say)
    masks = folder / "predictions" / split if own else None
    groups = write_groups(folder if own else None, split, decoded, config.data, training_names(folder))
    found, arrays = measure(parts, decoded, palette, masks, groups)
    if own:
        save_counts(folder, split, decoded, arrays)
    looks = {}
    if split in ("test", OUTER) or not (own or moved):
        looks = log_test_evaluation(folder, (parts.step, parts.epoch), split, source, found, say, decoded)
    return {"split": split, "images": len(decoded.names), **found, **looks}
