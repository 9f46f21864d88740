"""From a configuration to the parts of a run: data, model, task, precision."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .checkpoint import CONFIG, alternative, read_description
from .config import Config
from .data.augment import NORMALIZATIONS, channel_statistics, evaluation_transform, training_augmentation
from .data.cache import Decoded, decode
from .data.sources import Source, open_source
from .device import pick_device, pick_precision, use_threads
from .errors import SightlineError
from .losses import balanced_weights
from .models import Classifier, build_model, forward_flops, freeze_backbone, initialize_from_data, parameter_count
from .models.weights import Receipt, load_weights
from .runs import shipped_checkpoints
from .tasks import Task, build_task
from .tasks.classify import training_side

WHITENING_IMAGES = 5000


@dataclass(frozen=True)
class Parts:
    """Everything that a run is made of; `rows` are the validation images whose features are kept."""

    device: torch.device
    dtype: torch.dtype
    source: Source
    train: Decoded
    val: Decoded
    model: Classifier
    task: Task
    receipt: Receipt | None
    description: dict[str, Any]
    rows: np.ndarray
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    facts: dict[str, Any]


def build(config: Config, say: Callable[[str], None], precision: str = "", fresh: bool = True) -> Parts:
    """All parts of a training run. Raises SightlineError for whatever the user must mend.

    precision: that of the run to be resumed; empty: as `train.precision` says. fresh: give the model its first
    weights; a resumed run has them in its state.
    """
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    source, train, val = load_data(config, say)
    mean, std = normalization(config, train)
    preprocessing = {"size": config.data.size, "mean": list(mean), "std": list(std), "resize": "bilinear"}
    torch.manual_seed(config.train.seed)
    model = build_model(config.model.name, len(train.classes), config.data.size, dict(config.model.args))
    transform = evaluation_transform(config.data.size, mean, std)
    receipt = None
    if fresh and config.model.weights == "none":
        initialize_from_data(model, transform(torch.from_numpy(np.ascontiguousarray(train.images[:WHITENING_IMAGES]))))
    elif fresh:
        receipt = load_weights(model, config.model.weights, config.model.name, config.data.size, train.classes)
        say(str(receipt))
    facts = {
        "parameters": parameter_count(model),
        "train_flops_per_image": 3 * forward_flops(model, config.data.size),
        "train_flops": training_flops(config, model, len(train.names)),
        "weights": receipt.as_dict() if receipt else None,
        "data": describe_data(source, train, val),
    }
    if config.model.freeze:
        freeze_backbone(model)
    model.to(device).to(memory_format=torch.channels_last)
    rows = sample_rows(len(val.names), config.report.samples, config.train.seed)
    mask = torch.zeros(len(val.names), dtype=torch.bool, device=device)
    mask[torch.from_numpy(rows)] = True
    task = build_task(
        config,
        model=model,
        classes=len(train.classes),
        augment=training_augmentation(config.augment, config.data.size, mean, std),
        transform=transform,
        class_weights=class_weights(config, train, device),
        forward=torch.compile(model, dynamic=False) if config.train.compile else None,
        feature_mask=mask if len(rows) else None,
    )
    description = {
        "format": 1,
        "task": config.task,
        "model": {"name": config.model.name, "args": config.model.args},
        "classes": list(train.classes),
        "preprocessing": preprocessing,
        "palette": None,
    }
    dtype = pick_precision(precision or config.train.precision, device)
    return Parts(device, dtype, source, train, val, model, task, receipt, description, rows, (mean, std), facts)


def load_data(config: Config, say: Callable[[str], None]) -> tuple[Source, Decoded, Decoded]:
    """The source and its decoded training and validation splits, labelled and with at least two classes."""
    if not config.data.path:
        raise SightlineError("no data was named", cure="add --data PATH: a folder of images, a CSV, or sklearn:digits")
    source = open_source(config.data, config.train.seed)
    for note in source.notes:
        say(note)
    if "train" not in source.splits or source.splits["train"].labels is None:
        why = f"the layout {source.layout!r} has no labels"
        cure = "sort the images into one folder per class, or name a CSV with --data"
        raise SightlineError("classification needs labels", where=source.path, why=why, cure=cure)
    train = decode(source, "train", config.augment.resize or config.data.size, config.data, say)
    val = decode(source, "val", config.data.size, config.data, say)
    return source, train, val


def describe_data(source: Source, train: Decoded, val: Decoded) -> dict[str, Any]:
    """The data as provenance.json has it: enough to see later whether it is still the same."""
    counts = {name: len(items.names) for name, items in source.splits.items()} | {
        "train": len(train.names),
        "val": len(val.names),
    }
    return {
        "path": source.path,
        "layout": source.layout,
        "classes": list(train.classes),
        "counts": counts,
        "digest": {"train": train.digest, "val": val.digest},
    }


def training_flops(config: Config, model: Classifier, images: int) -> float:
    """Floating-point operations of all training steps: 2 x multiply-adds, times 3 for forward and backward."""
    sides = [training_side(config, epoch) for epoch in range(config.train.epochs)]
    cost = {side: 3 * forward_flops(model, side) for side in set(sides)}
    return sum(images * cost[side] for side in sides)


def normalization(config: Config, train: Decoded) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of values in 0..1."""
    if config.augment.normalize == "dataset":
        return channel_statistics(train.images)
    return NORMALIZATIONS[config.augment.normalize]


def class_weights(config: Config, train: Decoded, device: torch.device) -> torch.Tensor | None:
    """The weight of each class in the loss, or None where all weigh the same."""
    if config.loss.class_weights == "none":
        return None
    assert train.labels is not None
    counts = np.bincount(train.labels, minlength=len(train.classes))
    return torch.as_tensor(balanced_weights(counts), dtype=torch.float32, device=device)


def sample_rows(count: int, wanted: int, seed: int) -> np.ndarray:
    """Sorted rows of the validation images that the maps follow: all, or a seeded sample of `wanted`."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, 1]).permutation(count)[:wanted])


@dataclass(frozen=True)
class Inference:
    """A run's task around a model of its shape, without weights yet, and where and how to compute."""

    task: Task
    model: Classifier
    transform: Callable[[torch.Tensor], torch.Tensor]
    classes: tuple[str, ...]
    size: int
    device: torch.device
    dtype: torch.dtype
    step: int
    epoch: int


def build_for_inference(folder: Path, config: Config, precision: str) -> Inference:
    """What evaluates or predicts with the run in `folder`.

    Everything that shapes a number comes from the checkpoint's config.json, not from the data.
    """
    shipped = shipped_checkpoints(folder)[0]
    description = read_description(shipped / CONFIG, alternative(shipped))
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    classes, preprocessing = tuple(description["classes"]), description["preprocessing"]
    size = preprocessing["size"]
    model = build_model(description["model"]["name"], len(classes), size, description["model"]["args"])
    model.to(device).to(memory_format=torch.channels_last)
    transform = evaluation_transform(size, tuple(preprocessing["mean"]), tuple(preprocessing["std"]))
    task = build_task(config, model=model, classes=len(classes), augment=None, transform=transform)
    dtype = pick_precision(precision, device)
    step, epoch = description.get("step", 0), description.get("epoch", 0)
    return Inference(task, model, transform, classes, size, device, dtype, step, epoch)
