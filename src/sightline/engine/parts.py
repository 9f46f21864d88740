"""Builds the parts of a run from its configuration: data, model, learner, precision."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..config.schema import Config
from ..data.augment.batch import NORMALIZATIONS, channel_statistics
from ..data.decode.decoding import size_text
from ..data.image_cache import decode
from ..data.loader import resident
from ..data.shards.stream import sampled, stream_images
from ..data.types import Batch, Decoded, Resident, Source
from ..errors import SightlineError
from ..models import initialize_from_data
from ..models.fast import FastNet
from ..models.weights import Receipt
from ..runs.sampling import sample_rows
from ..stats.class_weights import class_weights
from .schedules import sam_active, training_side

Arrays = dict[str, np.ndarray]

WHITENING_IMAGES = 5000


class Learner(Protocol):
    """What the training loop calls.

    step: a training batch -> {"loss": scalar with a graph, ...}. With several processes, each of which has a part of
    the batch, "weight" is the denominator of the part's mean; without it the number of images is. after_step: called
    after each optimizer step, for example to update a target network. metrics: (numbers by name, arrays by name) of a
    split, in its order; ({}, {}) on all ranks but 0. parameters: the module to train.
    """

    def step(self, batch: Batch) -> dict[str, torch.Tensor]: ...

    def after_step(self, step: int, total_steps: int) -> None: ...

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]: ...

    def parameters(self) -> nn.Module: ...


def no_alarm(numbers: Mapping[str, float]) -> str:
    """The `alarm` of tasks whose validation numbers cannot show that training failed."""
    return ""


@dataclass(frozen=True)
class Traced:
    """What architecture.json is traced from.

    image: (channels, height, width) of the largest training image. run: the forward pass of a training step,
    (model, images) -> outputs by name. method: the name of a method with two networks.
    """

    image: tuple[int, int, int]
    run: Callable[[Any, torch.Tensor], dict[str, torch.Tensor]]
    method: str = ""


@dataclass(frozen=True)
class Sampled:
    """Training images whose features are saved after each epoch, and the function that computes them."""

    images: Decoded
    features: Callable[[Iterable[Batch]], tuple[dict[str, float], Arrays]]


@dataclass(frozen=True)
class Parts:
    """The parts of a run.

    rows: the validation images whose features or masks are saved. flops: of one image's forward and backward pass, by
    the side of the training images. once: operations for one image before the first epoch, if frozen features are
    computed once. resident: the training images on the device, if all of them fit. alarm: validation numbers -> a
    warning, or "".
    """

    device: torch.device
    dtype: torch.dtype
    source: Source
    train: Decoded
    val: Decoded
    model: nn.Module
    learner: Learner
    receipt: Receipt | None
    description: dict[str, Any]
    rows: np.ndarray
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    flops: dict[int, float]
    facts: dict[str, Any]
    traced: Traced
    sampled: Sampled | None = None
    once: float = 0.0
    resident: Resident | None = None
    alarm: Callable[[Mapping[str, float]], str] = no_alarm


def build(
    builder: Callable[[Any, Callable[[str], None], str, bool], Parts],
    config: Config,
    say: Callable[[str], None],
    precision: str = "",
    fresh: bool = True,
) -> Parts:
    """Build all parts of a run with the task's builder; user errors are raised before decoding.

    precision: of the run to resume; empty: from `train.precision`. fresh: initialize the weights; a resumed run loads
    them from its state.
    """
    parts = builder(config, say, precision, fresh)
    whole = not parts.once and parts.train.stream is None  # not for frozen features or streams
    held = resident(parts.train, config.data.resident, parts.device) if whole else None
    if held:
        say(f"training images: {size_text(parts.train.nbytes)}, all on {parts.device}")
    return replace(parts, resident=held, facts=parts.facts | {"resident": held is not None})


def check_batch_size(config: Config, model: nn.Module) -> None:
    """Raise SightlineError if batch normalization would train on single images."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if config.train.batch_size == 1 and norms and not config.model.freeze:
        cure = "--train.batch_size 2 or more"
        why = "batch normalization, which this model has, needs several images"
        raise SightlineError("the batch size is too small", where="train.batch_size = 1", why=why, cure=cure)


def initialize_from_images(
    backbone: nn.Module, train: Decoded, transform: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Initialize a backbone from training images, if it is of a kind that needs them."""
    if not isinstance(backbone, FastNet):
        return
    images = some_images(train)[:WHITENING_IMAGES]
    sample = torch.from_numpy(np.ascontiguousarray(images))
    initialize_from_data(backbone, transform(sample))


def describe_model(
    config: Config, train: Decoded, val: Decoded, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """config.json: everything needed to use the weights without the rest of the run.

    preprocessing.kept: height and width of the decoded validation images. Images of this size go directly to the
    model's own resize; all others are first resized to the square, by `fit` and `resize`.
    """
    data, kept = config.data, list(val.images.shape[2:])
    square = {"size": data.size, "fit": data.fit, "resize": data.filter, "kept": kept}
    return {
        "format": 1,
        "task": config.task,
        "model": {"name": config.model.name, "args": config.model.args, "head": config.model.head},
        "classes": list(train.classes),
        "preprocessing": {**square, "mean": list(mean), "std": list(std)},
        "palette": None,
    }


def describe_data(source: Source, train: Decoded, val: Decoded) -> dict[str, Any]:
    """The data in provenance.json: path, layout, classes, counts and digests."""
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

    cost_of: side -> operations. Raises SightlineError for a side that is too small for the model.
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


def training_flops(config: Config, cost: dict[int, float], images: int, epochs: float) -> float:
    """Floating-point operations of `epochs` epochs, possibly fractional; cost: operations of one image by its side."""
    whole, rest = divmod(epochs, 1)
    cut = rest * epoch_cost(config, cost, int(whole)) if rest else 0.0
    return images * (sum(epoch_cost(config, cost, epoch) for epoch in range(int(whole))) + cut)


def epoch_cost(config: Config, cost: dict[int, float], epoch: int) -> float:
    """Operations of one image in an epoch, from 0; a sharpness-aware step computes two gradients."""
    return cost[training_side(config, epoch)] * (2 if sam_active(config, epoch) else 1)


def weights_of_classes(config: Config, counts: np.ndarray, device: torch.device) -> torch.Tensor | None:
    """Class weights for the loss, float32 [K], from the counts; None for equal weights."""
    kind = config.loss.class_weights
    return None if kind == "none" else torch.from_numpy(class_weights(counts, kind)).float().to(device)


def normalization(config: Config, train: Decoded) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, for values in 0..1."""
    if config.augment.normalize == "dataset":
        return channel_statistics(some_images(train))
    return NORMALIZATIONS[config.augment.normalize]


def training_images(config: Config, source: Source, say: Callable[[str], None]) -> Decoded:
    """The training split: decoded into the cache, or streamed from shards."""
    side = config.augment.resize or config.data.size
    if source.splits["train"].shards is None:
        return decode(source, "train", side, config.data, say)
    train = stream_images(source, "train", side, config.data)
    say(stream_line(train))
    return train


def stream_line(train: Decoded) -> str:
    """One line about a stream, for the log."""
    assert train.stream is not None
    shards, megabytes = train.stream.shards.entries, train.stream.data.stream_mb
    return f"streaming {len(train.names):,} training images out of {len(shards):,} shards, {megabytes:,} MB at a time"


def some_images(train: Decoded) -> np.ndarray:
    """Training images uint8 [N, 3, H, W]: all of them, or the first WHITENING_IMAGES of a stream."""
    if train.stream is None:
        return train.images
    return train.images[sampled(train, WHITENING_IMAGES, 0)]


def rows_of(config: Config, val: Decoded) -> np.ndarray:
    """Rows of the validation images whose features are saved."""
    assert isinstance(config.report.samples, int)
    return sample_rows(len(val.names), config.report.samples, config.train.seed)


def mask_of(rows: np.ndarray, count: int, device: torch.device) -> torch.Tensor | None:
    """bool [count], true at these rows; None if there are none."""
    mask = torch.zeros(count, dtype=torch.bool, device=device)
    mask[torch.from_numpy(rows)] = True
    return mask if len(rows) else None
