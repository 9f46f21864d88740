"""Evaluate the features of a pre-training run by k-NN on labeled images."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config.resolve import resolve
from ...data.channels import Channels
from ...data.image_cache import decode
from ...data.sources.splits import OUTER
from ...engine.device import pick_device, use_threads
from ...engine.evaluate import evaluate as evaluate_split
from ...errors import SightlineError
from ...inference.evaluation import log_test_evaluation, require_channels
from ...runs import run_folder
from ...runs.checkpoint import checked_description, load_model
from ...stats.groups import groups_of
from ..contract import Say
from .build import build_learner, build_siamese, evaluated_images, open_images, open_without_leaks
from .config import PretrainConfig
from .probe import evaluated_data, open_probe, probe_images
from .task import pretraining_intervals


def evaluate(folder: Path, config: PretrainConfig, data: str, split: str | None, say: Say) -> dict[str, Any]:
    """Evaluate the final weights of a run by k-NN; returns the metrics with their intervals.

    data: path of labeled data other than the run's own, or "". split: None or "val", because the nearest neighbors of
    validation images are searched among training images, or OUTER; SightlineError for other values.
    """
    outer = split == OUTER and bool(config.data.inner_fraction)
    if split not in (None, "val") and not outer:
        why = "k-NN accuracy searches the neighbors of validation images among training images"
        what = "a pre-training run can be evaluated on the split val only"
        raise SightlineError(what, where=f"--split {split}", why=why, cure="omit --split")
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    (shipped,) = run_folder.shipped_checkpoints(folder)
    with checked_description(shipped) as description:
        preprocessing, built = description["preprocessing"], description["model"]
        mean, std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
        channels = Channels.of_description(preprocessing.get("channels"))
        known = {"data.size": preprocessing["size"], "model.name": built["name"], "model.args": built["args"]}
    known |= {"data.inner_fraction": 0.0} if data or outer else {}
    config = resolve(config, known | ({"pretrain.probe": data} if data else {}))
    if config.pretrain.probe:
        val, bank = probe_images(config, say, channels)
    else:
        source = open_without_leaks(config, say)
        train = decode(source, "train", config.augment.resize or config.data.size, config.data, say)
        val, bank = evaluated_images(config, source, train, say)
    require_channels(val.channels, channels, data or config.pretrain.probe or config.data.path)
    model = build_siamese(config, len(channels))
    tensors, moment = load_model(shipped)
    model.load_state_dict(tensors)
    model.to(device).to(memory_format=torch.channels_last)
    none = np.zeros(0, dtype=np.int64)
    learner = build_learner(config, model, mean, std, bank, none, len(val.names), device, channels)
    numbers, arrays = evaluate_split(learner, val, config.train.eval_batch_size, device)
    measured = {**numbers, **pretraining_intervals(arrays, groups_of(val, evaluated_data(config)))}
    found = {"split": split or "val", "images": len(val.names), **measured}
    if data or outer:
        silent: Say = lambda text: None  # noqa: E731  the listing has been printed
        reopened = open_probe(config, silent)[0] if config.pretrain.probe else open_images(config, silent)
        weights = moment.get("step", 0), moment.get("epoch", 0)
        found |= log_test_evaluation(folder, weights, split or "val", reopened, measured, say, val)
    return found
