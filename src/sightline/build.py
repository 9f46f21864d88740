"""From a configuration to the parts of a run: data, model, task, precision."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import nn

from .checkpoint import description_of
from .config import Config
from .data.augment import NORMALIZATIONS, channel_statistics, evaluation_transform, training_augmentation
from .data.cache import Decoded, decode
from .data.pair_cache import DecodedPairs
from .data.pair_places import holds_pairs, named_as_masks
from .data.sources import Source, open_source
from .device import pick_device, pick_precision, use_threads
from .errors import SightlineError
from .followed import sample_rows
from .losses import balanced_weights
from .models import Classifier, build_model, forward_flops, freeze_backbone, initialize_from_data, parameter_count
from .models.weights import Receipt, load_weights
from .runs import require_weights, shipped_checkpoints
from .schedules import training_side
from .tasks import Task, build_task

WHITENING_IMAGES = 5000


@dataclass(frozen=True)
class Parts:
    """Everything that a run is made of; `rows` are the validation images whose features are kept."""

    device: torch.device
    dtype: torch.dtype
    source: Source
    train: Decoded | DecodedPairs
    val: Decoded | DecodedPairs
    model: nn.Module
    task: Task
    receipt: Receipt | None
    description: dict[str, Any]
    rows: np.ndarray
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    flops: dict[int, float]  # of one image's forward and backward pass, by the side of the training images
    facts: dict[str, Any]


def build(config: Config, say: Callable[[str], None], precision: str = "", fresh: bool = True) -> Parts:
    """All parts of a training run. Raises SightlineError for whatever the user must mend, before anything is decoded.

    precision: that of the run to be resumed; empty: as `train.precision` says. fresh: give the model its first
    weights; a resumed run has them in its state.
    """
    if config.task == "segment":
        from .build_segment import build_segment

        return build_segment(config, say, precision, fresh)
    if config.task == "byol":
        from .build_pretrain import build_pretrain

        return build_pretrain(config, say, precision, fresh)
    return build_classify(config, say, precision, fresh)


def build_classify(config: Config, say: Callable[[str], None], precision: str, fresh: bool) -> Parts:
    """All parts of a classification run; arguments and errors as `build`."""
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    source = open_labeled(config, say)
    torch.manual_seed(config.train.seed)
    model = build_model(config.model.name, len(source.classes), config.data.size, dict(config.model.args))
    refuse_batch_of_one(config, model)
    flops = flops_by_side(config, partial(step_flops, config, model))
    receipt = None
    if fresh and config.model.weights != "none":
        receipt = load_weights(model, config.model.weights, config.model.name, config.data.size, source.classes)
        say(str(receipt))
    train = decode(source, "train", config.augment.resize or config.data.size, config.data, say)
    val = decode(source, "val", config.data.size, config.data, say)
    mean, std = normalization(config, train)
    transform = evaluation_transform(config.data.size, mean, std)
    if fresh and receipt is None:
        initialize_from_data(
            model.backbone, transform(torch.from_numpy(np.ascontiguousarray(train.images[:WHITENING_IMAGES])))
        )
    facts = {
        "parameters": parameter_count(model),
        "train_flops": training_flops(config, flops, len(train.names), config.train.epochs),
        "weights": receipt.as_dict() if receipt else None,
        "data": describe_data(source, train, val),
    }
    if config.model.freeze:
        freeze_backbone(model)
    model.to(device).to(memory_format=torch.channels_last)
    assert isinstance(config.report.samples, int)
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
    dtype = pick_precision(precision or config.train.precision, device)
    description = describe_model(config, train, val, mean, std)
    return Parts(device, dtype, source, train, val, model, task, receipt, description, rows, (mean, std), flops, facts)


def open_labeled(config: Config, say: Callable[[str], None]) -> Source:
    """The source with its splits listed, nothing decoded yet; its training split has labels."""
    if not config.data.path:
        raise SightlineError("no data was named", cure="add --data PATH: a folder of images, a CSV, or sklearn:digits")
    try:
        source = open_source(config.data, config.data.split_seed)
    except SightlineError:
        refuse_pairs(config)
        raise
    if not labeled_by_folders(source):
        refuse_pairs(config)
    for note in source.notes:
        say(note)
    if "train" not in source.splits or source.splits["train"].labels is None:
        why = f"the layout {source.layout!r} has no labels"
        cure = "sort the images into one folder per class, name a CSV with --data, or say where the label stands in "
        cure += "the file names: --data.layout filename --data.pattern '{id}_{label}'"
        raise SightlineError("classification needs labels", where=source.path, why=why, cure=cure)
    return source


def labeled_by_folders(source: Source) -> bool:
    """Whether classes are folders, by the first image, and none is called as folders of masks are."""
    names = source.splits["train"].names if "train" in source.splits else ()
    folder = PurePosixPath(names[0]).parent.name if names else ""
    return folder in source.classes and not any(named_as_masks(name) for name in source.classes)


def refuse_pairs(config: Config) -> None:
    """SightlineError where the data are images and masks, which no classifier can learn from."""
    if config.data.layout == "auto" and holds_pairs(config.data.path):
        why = f"every image has its mask, and {config.name} is a classifier"
        cure = "a recipe for segmentation; `sightline recipes` lists them"
        raise SightlineError("these are pairs of images and masks", where=config.data.path, why=why, cure=cure)


def refuse_batch_of_one(config: Config, model: nn.Module) -> None:
    """SightlineError where batch normalization would have to train on single images."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if config.train.batch_size == 1 and norms and not config.model.freeze:
        cure = "--train.batch_size 2 or more"
        why = "batch normalization, which this model has, needs several images"
        raise SightlineError("the batch size is too small", where="train.batch_size = 1", why=why, cure=cure)


def describe_model(
    config: Config, train: Decoded, val: Decoded, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """config.json: all that is needed to use the weights with nothing else of the run.

    preprocessing.kept: height and width of the validation images as decoded. An image of exactly this size goes to
    the model's own resize as it is; any other is squashed to the square first.
    """
    size, kept = config.data.size, list(val.images.shape[2:])
    return {
        "format": 1,
        "task": config.task,
        "model": {"name": config.model.name, "args": config.model.args},
        "classes": list(train.classes),
        "preprocessing": {"size": size, "mean": list(mean), "std": list(std), "resize": "bilinear", "kept": kept},
        "palette": None,
    }


def describe_data(source: Source, train: Decoded | DecodedPairs, val: Decoded | DecodedPairs) -> dict[str, Any]:
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


def flops_by_side(config: Config, cost_of: Callable[[int], float]) -> dict[int, float]:
    """Floating-point operations of one image's forward and backward pass, by the side of the training images.

    cost_of: side to operations. SightlineError for a side that is too small for the model.
    """
    cost = {}
    for side in {training_side(config, epoch) for epoch in range(config.train.epochs)} | {config.data.size}:
        try:
            cost[side] = cost_of(side)
        except (RuntimeError, ValueError) as error:
            why = str(error).splitlines()[0]
            cure = "raise the sides in augment.progressive, or leave it out: --augment.progressive []"
            what = f"{config.model.name} cannot take images of {side}x{side} pixels"
            raise SightlineError(what, where="augment.progressive", why=why, cure=cure) from error
    return cost


def step_flops(config: Config, model: Classifier, side: int) -> float:
    """Of one image of `side` pixels: 2 x multiply-adds, times 3; of a frozen backbone only the forward pass counts."""
    forward = forward_flops(model, side)
    head = 2.0 * sum(parameter.numel() for parameter in model.head.parameters() if parameter.ndim > 1)
    return forward + 2 * head if config.model.freeze else 3 * forward


def training_flops(config: Config, cost: dict[int, float], images: int, epochs: int) -> float:
    """Floating-point operations of the first `epochs` epochs; cost: those of one image by its side."""
    return sum(images * cost[training_side(config, epoch)] for epoch in range(epochs))


def normalization(config: Config, train: Decoded | DecodedPairs) -> tuple[tuple[float, ...], tuple[float, ...]]:
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


@dataclass(frozen=True)
class Inference:
    """A run's task around a model of its shape, without weights yet, and where and how to compute."""

    task: Task
    model: Classifier
    transform: Callable[[torch.Tensor], torch.Tensor]
    classes: tuple[str, ...]
    size: int
    kept: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    step: int
    epoch: int


def build_for_inference(folder: Path, config: Config, precision: str) -> Inference:
    """What evaluates or predicts with the run in `folder`.

    Everything that shapes a number comes from the checkpoint's config.json, not from the data.
    """
    require_weights(folder)
    shipped = shipped_checkpoints(folder)[0]
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    with description_of(shipped) as description:
        classes, preprocessing = tuple(description["classes"]), description["preprocessing"]
        size, kept = preprocessing["size"], tuple(preprocessing["kept"])
        name, args = description["model"]["name"], description["model"]["args"]
        mean, std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
    model = build_model(name, len(classes), size, args)
    model.to(device).to(memory_format=torch.channels_last)
    transform = evaluation_transform(size, mean, std)
    task = build_task(config, model=model, classes=len(classes), augment=None, transform=transform)
    dtype = pick_precision(precision, device)
    step, epoch = description.get("step", 0), description.get("epoch", 0)
    return Inference(task, model, transform, classes, size, kept, device, dtype, step, epoch)
