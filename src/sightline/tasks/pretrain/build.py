"""Build the parts of a pre-training run: unlabeled images, one or two networks, and labeled images for k-NN."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ...config.checks import check_effects
from ...config.resolve import resolve
from ...config.schema import Augment
from ...data.augment.batch import check_augment, evaluation_transform, training_augmentation
from ...data.channels import RGB, Channels
from ...data.image_cache import decode, subset
from ...data.label_arrays import are_sets
from ...data.loader import evaluation_batches
from ...data.shards.stream import sampled
from ...data.sources.leakage import reject_leaks
from ...data.sources.open import open_source
from ...data.sources.pairs import open_without_masks
from ...data.sources.splits import ALL
from ...data.types import Decoded, Source
from ...doctor.quick import quick_line
from ...engine import parts
from ...engine.device import pick_device, pick_precision, use_threads
from ...engine.distributed import world
from ...engine.optim import check_optimizer
from ...errors import SightlineError, some_of
from ...inference.evaluation import require_channels
from ...models import (
    MODELS,
    model_names,
    parameter_count,
    unknown_model,
)
from ...models.library import require_whole_patches
from ...models.segmenters import SEGMENTERS, segmenter_names
from ...models.weights import load_weights
from ..contract import Say
from .collapse import collapse
from .config import PretrainConfig
from .networks import build_siamese, small_side, step_flops
from .objectives import OBJECTIVES
from .objectives.distill import load_teacher
from .probe import BANKED, open_probe, probe_images, without_probe_images
from .siamese import Siamese
from .task import Bank, PretrainLearner

EVALUATED = 2500
"""Maximum number of images for evaluation if the data have no validation split."""
STANDARDIZED = 1000
"""Maximum number of training images from which the mean and deviation of the teacher's features are computed."""

SECOND = "pretrain.second_solarize"
View = Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor]
"""Function that augments a batch: (images uint8 [N, 3, H, W], sample indices [N], seed, epoch) -> float [N, 3, side,
side]."""


def check(config: PretrainConfig) -> None:
    """Raise SightlineError for an invalid augmentation or an unknown model, before any data are read."""
    check_augment(config.augment, config.data.size)
    check_optimizer(config.optim)
    check_effects(config)
    if config.pretrain.method not in OBJECTIVES:
        what = f"there is no objective {config.pretrain.method!r}"
        raise SightlineError(
            what, where="pretrain.method", cure=f"use --pretrain.method with one of {', '.join(OBJECTIVES)}"
        )
    if config.pretrain.projector_norm and config.pretrain.method in ("dino", "distill"):
        what, cure = f"{config.pretrain.method} has no batch norm after its projector", "set it to false"
        raise SightlineError(what, where="pretrain.projector_norm", cure=cure)
    name = config.model.name
    if "/" not in name and name not in MODELS and name not in SEGMENTERS:
        raise unknown_model(name, (*model_names(), *segmenter_names()))


def open_without_leaks(config: PretrainConfig, say: Say) -> Source:
    """List the images and their splits.

    Raises SightlineError if images of several splits are identical files (unless `data.on_copies` is "warn"), if the
    probe data cannot be used, and if there is a teacher and the images have other channels; no image is decoded before.
    """
    probe = open_probe(config, lambda text: None)[0] if config.pretrain.probe else None  # its errors come first
    source = open_images(config, say)
    if probe is not None:
        require_channels(probe.channels, source.channels, probe.path)
    if config.pretrain.teacher and not source.channels.colors:
        why = f"the images have the channels {some_of(source.channels.names)}"
        cure = "pre-train without a teacher: sightline train moco_fast; or convert the images: --data.channels rgb"
        raise SightlineError("a teacher needs images of red, green and blue", where=source.path, why=why, cure=cure)
    return reject_leaks(source, config.data, say)


def build(config: PretrainConfig, say: Say, precision: str = "", fresh: bool = True) -> parts.Parts:
    """Build all parts of a pre-training run.

    say: is called with each line to print. precision: "fp32", "bf16", "fp16", or "" for that of the recipe. fresh:
    whether to load the weights in `model.weights` and initialize from the data; False for a run that is resumed. Raises
    SightlineError for invalid settings and data.
    """
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    source = open_without_leaks(config, say)
    off = {} if source.channels.colors else color_settings(config, say)
    config = resolve(config, off)
    torch.manual_seed(config.train.seed)
    names = source.channels.names
    model = build_siamese(config, len(names))
    if fresh:
        require_whole_patches(config.model.name, model.backbone, config.data.size)
    parts.check_batch_size(config, model)
    flops = parts.flops_by_side(config, partial(step_flops, config, model))
    loaded = None
    if fresh and config.model.weights != "none":
        rest = (config.model.name, config.data.size)
        loaded = load_weights(model.online(), config.model.weights, *rest, channels=names, say=say)
        say(str(loaded))
    source = without_probe_images(config, source, say)
    train = several_images(config, source, say)
    val, bank = evaluated_images(config, source, train, say)
    mean, std = parts.normalization(config, train, say)
    transform = evaluation_transform(config.data.size, mean, std, 1.0, train.channels)
    if fresh:
        parts.initialize_from_images(model.backbone, train, transform, loaded)
    model.restart_target()
    # The digest of the evaluated images has its own key, because a run may be resumed after they have changed.
    described = {"classes": list(val.classes), "digest": {"train": train.digest}, "evaluated": val.digest}
    facts = {
        "parameters": parameter_count(model.backbone),
        "train_flops": parts.training_flops(config, flops, len(train.names), config.train.epochs),
        "weights": loaded.as_dict() if loaded else None,
        "method": OBJECTIVES[config.pretrain.method].title,
        "data": parts.describe_data(source, train, val) | described,
        "switched_off": off,
    }
    model.to(device).to(memory_format=torch.channels_last)
    rows = parts.sampled_rows(config, val)
    learner = build_learner(config, model, mean, std, bank, rows, len(val.names), device, train.channels)
    if config.pretrain.teacher:
        learner.teacher, report = load_teacher(config.pretrain, (mean, std), device, say)
        chosen = evenly(parts.some_images(train), STANDARDIZED)
        learner.teacher.standardize(transform(torch.from_numpy(chosen).to(device)))
        facts["teacher"] = report.as_dict()
    if config.train.compile:
        for network in (model.backbone, *([model.target[0]] if model.target is not None else [])):
            network.compile(dynamic=False)
    shape = (config.train.batch_size, len(names), config.data.size, config.data.size)
    dtype = pick_precision(precision or config.train.precision, device, model, shape)
    description = parts.describe_model(config, train, val, mean, std) | {"classes": []}
    return parts.Parts(
        *(device, dtype, source, train, val, model, learner, description, rows, (mean, std), flops, facts),
        trace_spec=parts.TraceSpec(
            (len(train.channels), config.data.size, config.data.size),
            both_networks,
            OBJECTIVES[config.pretrain.method].title,
        ),
        alarm=collapse,
    )


def evenly(images: np.ndarray, most: int) -> np.ndarray:
    """At most this number of images [N, C, H, W], evenly spread: neighbors are mostly of one class."""
    count = min(most, len(images))
    return np.ascontiguousarray(images[np.arange(count) * len(images) // max(count, 1)])


def several_images(config: PretrainConfig, source: Source, say: Say) -> Decoded:
    """The training images. Raises SightlineError if there is only one."""
    train = parts.training_images(config, source, say)
    say(quick_line(config.data, {"train": train}))
    if len(train.names) < 2:
        why, cure = "batch normalization needs at least two images", "use a folder with more images: --data FOLDER"
        raise SightlineError("one image is too few to train on", where=config.data.path, why=why, cure=cure)
    return train


def color_settings(config: PretrainConfig, say: Say) -> dict[str, Any]:
    """The settings to override for images whose channels are not red, green and blue: all operations on colors are
    switched off. What remains is that of SSL4EO-S12 (arXiv 2211.07044) without its gray, the mean of all bands, because
    channels can have different units. An augmentation policy is left to `check_colors`, which refuses it: nothing else
    changes the views of its recipes."""
    augment = {
        f"augment.{name}": getattr(config.augment, name) for name in ("saturation", "hue", "grayscale", "solarize")
    }
    used = {key: 0.0 for key, value in (augment | {SECOND: config.pretrain.second_solarize}).items() if value}
    if used:
        say(f"switched off, because the images are not red, green and blue: {', '.join(used)}")
    return used


def both_networks(model: Siamese, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of the online and of the target network for one view, for the drawing of the architecture."""
    prediction, projection = model(images)
    return {"prediction": prediction, "projection": projection}


def build_learner(
    config: PretrainConfig,
    model: Siamese,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    bank: Decoded | None,
    rows: np.ndarray,
    count: int,
    device: torch.device,
    channels: Channels = RGB,
) -> PretrainLearner:
    """Build the learner.

    bank: labeled images among which nearest neighbors are searched, or None. count: number of evaluated images. rows:
    indices of the evaluated images whose features are stored.
    """
    neighbors = None
    if bank is not None:
        size = config.train.eval_batch_size  # each process computes its share of the bank
        neighbors = Bank(bank, lambda: evaluation_batches(bank, size, device, world().share), len(bank.classes))
    large, small = view_functions(config, mean, std, channels)
    return PretrainLearner(
        config=config,
        model=model,
        views=large,
        small=small,
        transform=evaluation_transform(config.data.size, mean, std, config.data.eval_crop, channels),
        bank=neighbors,
        feature_mask=parts.row_mask(rows, count, device),
    )


def open_images(config: PretrainConfig, say: Say) -> Source:
    """List the images and their splits. Labels are optional and never used for training.

    If the data have labels and `pretrain.probe` is not set, a validation split is held out for the k-NN accuracy, as in
    the training of a classifier. Otherwise all images outside of `val` and `test` are training images. Masks beside the
    images are neither images nor labels.
    """
    if not config.data.path:
        raise SightlineError(
            "the option --data is missing",
            cure="give a folder of images, without labels if there are none: --data PATH",
        )
    source = open_without_masks(config.data) or open_source(config.data, config.data.split_seed, hold_out=False)
    labels = [items.labels for items in source.splits.values() if items.labels is not None]
    if any(map(are_sets, labels)):
        say("the images have several labels each: without k-NN accuracy; give others for it: --pretrain.probe PATH")
        unlabeled = {name: replace(items, labels=None) for name, items in source.splits.items()}
        source, labels = replace(source, splits=unlabeled, classes=()), []
    if not config.pretrain.probe and labels and len(source.classes) > 1:
        source = open_source(config.data, config.data.split_seed)
    elif config.data.inner_fraction and not config.pretrain.probe:
        cure = "leave out --data.inner_fraction, or measure on labeled images: --pretrain.probe PATH"
        raise SightlineError("unlabeled images have no inner split", where=source.path, cure=cure)
    elif ALL in source.splits:
        source = replace(source, splits={"train": source.splits[ALL]})
    for note in source.notes:
        say(note)
    if "train" not in source.splits:
        raise SightlineError(
            "there is no training split", where=source.path, cure="rename the folder of the training images to 'train'"
        )
    return source


def view_functions(
    config: PretrainConfig, mean: tuple[float, ...], std: tuple[float, ...], channels: Channels = RGB
) -> tuple[list[View], list[View]]:
    """(the augmentations of the two large views, those of the small views). Each has its own sequence of random
    numbers."""
    augment, pretrain, size = config.augment, config.pretrain, config.data.size
    differs = {"blur": pretrain.second_blur, "solarize": pretrain.second_solarize}
    second = augment.model_copy(update=differs)
    tiny = second.model_copy(update={"crop_scale": pretrain.small_scale, "resize": augment.resize or size})
    large = [view_of(one, size, mean, std, index, channels) for index, one in enumerate((augment, second))]
    side = small_side(config, size)
    return large, [view_of(tiny, side, mean, std, 2 + index, channels) for index in range(pretrain.small_crops)]


def view_of(
    augment: Augment,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    number: int,
    channels: Channels = RGB,
) -> View:
    """The training augmentation of one view.

    number: index of the view, which determines its random numbers. Raises SightlineError for an invalid augmentation.
    """
    check_augment(augment, size)
    transform = training_augmentation(augment, size, mean, std, channels)
    return lambda images, samples, seed, epoch: transform(images, samples, seed + (number << 40), epoch)


def evaluated_images(
    config: PretrainConfig, source: Source, train: Decoded, say: Say
) -> tuple[Decoded, Decoded | None]:
    """(the images to evaluate after each epoch, the labeled images of the k-NN bank).

    If `pretrain.probe` is set, both are from that data, else from the validation and the training split of the run's
    data. If these have no labels, the first is a sample of the training images, and the second is None.
    """
    if config.pretrain.probe:
        return probe_images(config, say, source.channels)
    seed = config.train.seed
    if train.labels is None or "val" not in source.splits:
        say(
            "no k-NN accuracy is measured, because the images have no labels; to measure it: --pretrain.probe "
            "LABELED_DATA"
        )
        return subset(train, sampled(train, EVALUATED, seed)), None
    say("labels are not used for training, only for the k-NN accuracy on the validation images")
    val = decode(source, "val", config.data.size, config.data, say)
    return val, subset(train, sampled(train, BANKED, seed))
