"""The parts of a run (data, model, learner, device, precision), and functions with which tasks build them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..config.schema import Config
from ..data.augment.batch import NORMALIZATIONS, check_colors
from ..data.augment.statistics import channel_statistics, robust_statistics
from ..data.decode.decoding import size_text
from ..data.image_cache import decode
from ..data.loader import Sampling, resident, sampling_of
from ..data.shards.stream import sampled, stream_images
from ..data.types import Batch, Decoded, Resident, Source
from ..errors import SightlineError, counted
from ..models.fast import FastNet
from ..models.weights import LoadReport
from ..runs.sampling import sample_rows
from ..stats.class_weights import class_weights
from .schedules import sam_active, training_side

Arrays = dict[str, np.ndarray]

WHITENING_IMAGES = 5000
"""Maximum number of training images that determine the fixed first layer of the model FastNet."""


class Learner(Protocol):
    """The interface between the training loop and a task.

    step: computes {"loss": scalar with gradient, ...} of a training batch. The losses of several processes are
    averaged, weighted by the entry "weight" (the denominator of the mean), or by the numbers of images if there is
    none.

    after_step: called after each optimizer step, for example to update a target network. parameters: the module to
    train.

    metrics: computes (numbers by name, arrays by name) from the batches of a split, with arrays in the order of the
    split; ({}, {}) on ranks other than 0.
    """

    def step(self, batch: Batch) -> dict[str, torch.Tensor]: ...

    def after_step(self, step: int, total_steps: int) -> None: ...

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]: ...

    def parameters(self) -> nn.Module: ...


def no_alarm(numbers: Mapping[str, float]) -> str:
    """Default of `Parts.alarm`, which warns that training has failed: never warn."""
    return ""


@dataclass(frozen=True)
class TraceSpec:
    """How to trace the layers of the model, which are written to architecture.json for the report.

    image: (channels, height, width) of the largest training image. run: the forward pass of a training step, a function
    (model, images) -> outputs by name. method: for pre-training with two networks, the name of the method; else "".
    """

    image: tuple[int, int, int]
    run: Callable[[Any, torch.Tensor], dict[str, torch.Tensor]]
    method: str = ""


@dataclass(frozen=True)
class FeatureSample:
    """Training images whose features are saved after each evaluation, and the function that computes them."""

    images: Decoded
    features: Callable[[Iterable[Batch]], tuple[dict[str, float], Arrays]]


@dataclass(frozen=True)
class Parts:
    """The parts of a run.

    description: contents of config.json. facts: contents of provenance.json. rows: indices of the validation images
    whose features or masks are saved after each evaluation. normalization: mean and standard deviation per channel.

    flops: floating-point operations of one image's forward and backward pass, by the side of the training images in
    pixels. once_flops: operations per image that are needed only once, before the first epoch (features of a frozen
    backbone).

    resident: the training images on the device; None if batches are read from the cache. sampling: by `data.sampler`.
    alarm: function from the
    validation metrics to a warning that training has failed, or "".
    """

    device: torch.device
    dtype: torch.dtype
    source: Source
    train: Decoded
    val: Decoded
    model: nn.Module
    learner: Learner
    description: dict[str, Any]
    rows: np.ndarray
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    flops: dict[int, float]
    facts: dict[str, Any]
    trace_spec: TraceSpec
    feature_sample: FeatureSample | None = None
    once_flops: float = 0.0
    resident: Resident | None = None
    sampling: Sampling | None = None
    alarm: Callable[[Mapping[str, float]], str] = no_alarm


def build(
    builder: Callable[[Any, Callable[[str], None], str, bool], Parts],
    config: Config,
    say: Callable[[str], None],
    precision: str = "",
    fresh: bool = True,
) -> Parts:
    """Build all parts of a run with the task's `builder`, and copy the training images to the device if they fit.

    precision: `fp32`, `bf16` or `fp16`, as a resumed run had it; empty: from `train.precision`. fresh: whether to load
    the weights of `model.weights` and to initialize from data; False if the weights will be loaded from a checkpoint.
    Raises SightlineError for invalid settings, before images are decoded, and for invalid data.
    """
    parts = builder(config, say, precision, fresh)
    sampling = sampling_of(parts.train, config.data.sampler)
    if sampling:
        images, draws = sampling.quotas(config.train.seed, 0)
        texts = (f"{some.min():,} to {some.max():,}" for some in (images, draws))
        say("data.sampler {}: the classes have {} images, and {} draws in an epoch".format(config.data.sampler, *texts))
    copyable = not parts.once_flops and parts.train.stream is None  # not for frozen features or streams
    on_device = resident(parts.train, config.data.resident, parts.device) if copyable else None
    if on_device:
        say(f"training images: {size_text(parts.train.nbytes)}, all on {parts.device}")
    facts = {"resident": on_device is not None, "precision_setting": config.train.precision}
    return replace(parts, resident=on_device, sampling=sampling, facts=parts.facts | facts)


def check_batch_size(config: Config, model: nn.Module) -> None:
    """Raise SightlineError for a batch size of 1 if the model has trainable batch normalization."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if config.train.batch_size == 1 and norms and not config.model.freeze:
        why = "batch normalization in the model needs at least 2 images in a batch"
        cure = "use batches of 2 images or more: --train.batch_size 2"
        raise SightlineError("the batch size is too small", where="train.batch_size = 1", why=why, cure=cure)


def initialize_from_images(
    backbone: nn.Module,
    train: Decoded,
    transform: Callable[[torch.Tensor], torch.Tensor],
    loaded: LoadReport | None = None,
) -> None:
    """Compute the fixed first layer of a FastNet from training images; do nothing for other backbones, and if weights
    were `loaded` into this layer. transform: normalizes the images."""
    if isinstance(backbone, FastNet) and (loaded is None or "backbone.stem.weight" in loaded.new):
        images = some_images(train)[:WHITENING_IMAGES]
        backbone.whiten(transform(torch.from_numpy(np.ascontiguousarray(images))))


def describe_model(
    config: Config, train: Decoded, val: Decoded, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """The contents of config.json: everything needed to use the weights without the rest of the run.

    Its entry preprocessing.kept is the height and width of the decoded validation images. An image that already has
    this size is not resized to a square by `fit` and `resize` first.
    """
    data, kept = config.data, list(val.images.shape[2:])
    square = {"size": data.size, "fit": data.fit, "resize": data.filter, "eval_crop": data.eval_crop, "kept": kept}
    return {
        "format": 1,
        "task": config.task,
        "model": {"name": config.model.name, "args": config.model.args, "head": config.model.head},
        "classes": list(train.classes),
        "preprocessing": {**square, "mean": list(mean), "std": list(std), **channel_entry(train)},
        "palette": None,
    }


def channel_entry(decoded: Decoded) -> dict[str, Any]:
    """The entry `channels` of the preprocessing in config.json: {} for files of 8-bit RGB that may be transparent."""
    return {} if decoded.channels.ordinary else {"channels": decoded.channels.description()}


def describe_data(source: Source, train: Decoded, val: Decoded) -> dict[str, Any]:
    """The entry `data` of provenance.json: path, layout, classes; of each split number of images and digest."""
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
        **channel_entry(train),
    }


def flops_by_side(config: Config, cost_of: Callable[[int], float]) -> dict[int, float]:
    """Floating-point operations of one image's forward and backward pass, by the side of the training images.

    cost_of: side in pixels -> operations. Raises SightlineError for a side that the model does not support.
    """
    cost = {}
    for side in {training_side(config, epoch) for epoch in range(config.train.epochs)} | {config.data.size}:
        try:
            cost[side] = cost_of(side)
        except (RuntimeError, ValueError, AssertionError) as error:  # timm asserts the size
            why = str(error).splitlines()[0]
            cure = "use larger sides in augment.progressive, or images of one size: --augment.progressive []"
            what = f"{config.model.name} does not support images of {side} x {side} pixels"
            raise SightlineError(what, where="augment.progressive", why=why, cure=cure) from error
    return cost


def training_flops(config: Config, cost: dict[int, float], images: int, epochs: float) -> float:
    """Floating-point operations of training for `epochs` epochs, which may be a fraction. cost: operations of one
    image's forward and backward pass, by image side in pixels. images: per epoch."""
    complete, rest = divmod(epochs, 1)
    partial_epoch = rest * epoch_cost(config, cost, int(complete)) if rest else 0.0
    return images * (sum(epoch_cost(config, cost, epoch) for epoch in range(int(complete))) + partial_epoch)


def epoch_cost(config: Config, cost: dict[int, float], epoch: int) -> float:
    """Floating-point operations of training on one image in the given epoch (from 0); cost as in `training_flops`.
    They are doubled for steps of sharpness-aware minimization, which compute two gradients."""
    return cost[training_side(config, epoch)] * (2 if sam_active(config, epoch) else 1)


def weights_of_classes(config: Config, counts: np.ndarray, device: torch.device) -> torch.Tensor | None:
    """Class weights for the loss, float32 [K], from the number of images or pixels per class; None if
    `loss.class_weights` is `none`."""
    kind = config.loss.class_weights
    return None if kind == "none" else torch.from_numpy(class_weights(counts, kind)).float().to(device)


def normalization(
    config: Config, train: Decoded, say: Callable[[str], None]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel for pixel values from 0 to 1: `augment.mean` and `augment.std`, or as
    chosen by `augment.normalize`. Channels other than red, green and blue have those of the training images unless the
    user gave numbers for them."""
    chosen, given = config.augment.normalize, (config.augment.mean, config.augment.std)
    if given[0] and (chosen != "pretrained" or train.channels.colors):
        if len(given[0]) != len(train.channels):
            what = f"augment.mean has {counted(len(given[0]), 'number')}, and the images {len(train.channels)} channels"
            cure = "give one number for each channel, or measure them: --augment.normalize dataset --augment.mean '[]' "
            raise SightlineError(what, where="augment.mean", cure=cure + "--augment.std '[]'")
        return given
    if chosen not in ("dataset", "pretrained") and train.channels.colors:
        return NORMALIZATIONS[chosen]
    if chosen != "dataset":
        say(f"normalize: dataset instead of {chosen}, which is for red, green and blue from 0 to 1")
    return channel_statistics(some_images(train)) if train.channels.plain else robust_statistics(train)


def training_images(config: Config, source: Source, say: Callable[[str], None]) -> Decoded:
    """Open the training split: decode all images into the cache, or prepare a stream for data in shards."""
    side = config.augment.resize or config.data.size
    check_colors(config.augment, source.channels)
    if source.splits["train"].shards is None:
        return decode(source, "train", side, config.data, say)
    train = stream_images(source, "train", side, config.data)
    say(stream_line(train))
    return train


def stream_line(train: Decoded) -> str:
    """A line for the log about training images that are read from shards during training."""
    assert train.stream is not None
    shards, megabytes = train.stream.shards.entries, train.stream.data.stream_mb
    return f"streaming {len(train.names):,} training images from {len(shards):,} shards, {megabytes:,} MB at a time"


def some_images(train: Decoded) -> np.ndarray:
    """Training images [N, C, H, W]: all, or for data in shards the first WHITENING_IMAGES as stored."""
    if train.stream is None:
        return train.images
    return train.images[sampled(train, WHITENING_IMAGES, 0)]


def sampled_rows(config: Config, val: Decoded) -> np.ndarray:
    """Indices of the validation images whose features are saved after each evaluation."""
    assert isinstance(config.report.samples, int)
    return sample_rows(len(val.names), config.report.samples, config.train.seed)


def row_mask(rows: np.ndarray, count: int, device: torch.device) -> torch.Tensor | None:
    """Tensor bool [count], true at the indices `rows`; None if there are none."""
    mask = torch.zeros(count, dtype=torch.bool, device=device)
    mask[torch.from_numpy(rows)] = True
    return mask if len(rows) else None
