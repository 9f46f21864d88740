"""Build the parts of a classification run, and a network with its preprocessing for inference."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from ...config.checks import check_loss_names
from ...config.schema import Augment, Config
from ...data.augment.batch import check_augment, evaluation_transform, training_augmentation
from ...data.decode.images import Square
from ...data.image_cache import decode, subset
from ...data.label_arrays import are_sets
from ...data.loader import evaluation_batches
from ...data.shards.stream import reject_remote_stream, sampled
from ...data.sources.leakage import reject_leaks
from ...data.sources.open import open_source
from ...data.sources.pair_layouts import holds_pairs
from ...data.sources.pairs import labeled_by_folders
from ...data.types import Decoded, Source
from ...doctor.quick import quick_line
from ...engine import parts
from ...engine.device import autocast, pick_device, pick_precision, use_threads
from ...errors import SightlineError
from ...models import (
    MODEL_NAMES,
    MODELS,
    Classifier,
    build_model,
    forward_flops,
    freeze_backbone,
    parameter_count,
    unknown_model,
)
from ...models.weights import load_weights
from ...runs.checkpoint import checked_description
from ...runs.run_folder import require_weights, shipped_checkpoints
from .. import fitting_recipe
from ..contract import Say
from .config import ClassifyConfig
from .losses import LOSSES
from .task import ClassifyLearner


def check(config: Config) -> None:
    """Raise SightlineError for an invalid augmentation or an unknown model, before any data are read."""
    check_augment(config.augment, config.data.size)
    check_loss_names(config, LOSSES)
    if "/" not in config.model.name and config.model.name not in MODELS:  # library models are checked later
        raise unknown_model(config.model.name, MODEL_NAMES)


def build(config: ClassifyConfig, say: Say, precision: str, fresh: bool) -> parts.Parts:
    """Build all parts of a classification run.

    say: is called with each line to print. precision: "fp32", "bf16", or "" for that of the recipe. fresh: whether to
    load the weights in `model.weights` and initialize from the data; False for a run that is resumed. Raises
    SightlineError for invalid settings and data.
    """
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    source = open_labeled(config, say)
    torch.manual_seed(config.train.seed)
    chosen = config.model
    model = build_model(chosen.name, len(source.classes), config.data.size, dict(chosen.args), chosen.head)
    parts.check_batch_size(config, model)
    flops = parts.flops_by_side(config, partial(step_flops, config, model))
    loaded = None
    if fresh and chosen.weights != "none":
        loaded = load_weights(model, chosen.weights, chosen.name, config.data.size, source.classes, chosen.fresh_head)
        say(str(loaded))
    train = parts.training_images(config, source, say)
    if has_fixed_features(config):
        cure = "train without model.freeze, or copy the shards to this machine"
        reject_remote_stream(train, "features that are computed once", "model.freeze with no augmentation", cure)
    val = decode(source, "val", config.data.size, config.data, say)
    say(quick_line(config.data, {"train": train, "val": val}))
    mean, std = parts.normalization(config, train)
    transform = evaluation_transform(config.data.size, mean, std)
    if fresh and loaded is None:
        parts.initialize_from_images(model.backbone, train, transform)
    once = forward_flops(model.backbone, config.data.size) if has_fixed_features(config) else 0.0
    facts = {
        "parameters": parameter_count(model),
        "train_flops": parts.training_flops(config, flops, len(train.names), config.train.epochs)
        + once * len(train.names),
        "weights": loaded.as_dict() if loaded else None,
        "data": parts.describe_data(source, train, val),
    }
    if chosen.freeze:
        freeze_backbone(model)
    model.to(device).to(memory_format=torch.channels_last)
    rows, labels = parts.sampled_rows(config, val), train.labels
    assert labels is not None
    dtype = pick_precision(precision or config.train.precision, device)
    learner = ClassifyLearner(
        config=config,
        model=model,
        classes=len(train.classes),
        augment=training_augmentation(config.augment, config.data.size, mean, std),
        transform=transform,
        class_weights=parts.weights_of_classes(config, np.bincount(labels, minlength=len(train.classes)), device),
        forward=torch.compile(model, dynamic=False) if config.train.compile else None,
        feature_mask=parts.row_mask(rows, len(val.names), device),
        fixed=fixed_features(config, model, transform, (train, val), device, dtype),
    )
    description = parts.describe_model(config, train, val, mean, std)
    count = config.report.train_samples
    images = subset(train, sampled(train, count, config.train.seed)) if count else None
    return parts.Parts(
        *(device, dtype, source, train, val, model, learner, description, rows, (mean, std), flops, facts),
        trace_spec=parts.TraceSpec(
            (3, config.data.size, config.data.size), lambda net, images: {"logits": net(images)}
        ),
        feature_sample=parts.FeatureSample(images, learner.plain_features) if images else None,
        once_flops=once,
    )


def open_labeled(config: Config, say: Say) -> Source:
    """List the files, labels and splits of the data; raise SightlineError if the training split has no labels."""
    if not config.data.path:
        raise SightlineError(
            "the option --data is missing", cure="give a folder of images, a CSV file, or sklearn:digits: --data PATH"
        )
    try:
        source = open_source(config.data, config.data.split_seed)
    except SightlineError:
        reject_pairs(config)
        raise
    if not labeled_by_folders(source):
        reject_pairs(config)
    for note in source.notes:
        say(note)
    if any(are_sets(items.labels) for items in source.splits.values()):
        why = f"images have several labels, and {config.name} is for one label per image"
        cure = f"use a recipe for label sets{fitting_recipe('label sets')}; if each text is one name: --data.labels one"
        raise SightlineError("the data have label sets", where=source.path, why=why, cure=cure)
    source = reject_leaks(source, config.data, say)
    if "train" not in source.splits or source.splits["train"].labels is None:
        why = f"the images have no labels in the layout {source.layout!r}"
        cure = (
            "move the images into one folder for each class; or give a table with labels: --data FILE.csv; or read the "
            "labels from "
            "the file names: --data.layout filename --data.pattern '{id}_{label}'"
        )
        raise SightlineError("classification needs labels", where=source.path, why=why, cure=cure)
    return source


def reject_pairs(config: Config) -> None:
    """Raise SightlineError if the data consist of images with masks, which a classifier cannot use."""
    if config.data.layout == "auto" and holds_pairs(config.data.path):
        why = f"the images have masks, for segmentation, but the recipe {config.name} trains a classifier"
        cure = "use a recipe for segmentation; to list all recipes: sightline recipes"
        raise SightlineError("the data are pairs of images and masks", where=config.data.path, why=why, cure=cure)


def has_fixed_features(config: Config) -> bool:
    """Whether the backbone is frozen and no augmentation changes its input between epochs."""
    unaugmented = config.augment.model_copy(update={"resize": 0, "normalize": "imagenet"}) == Augment()
    return config.model.freeze and unaugmented


def fixed_features(
    config: Config,
    model: Classifier,
    transform: Callable[[torch.Tensor], torch.Tensor],
    splits: tuple[Decoded, Decoded],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]] | None:
    """Two functions that return the features [N, D] of a frozen backbone, for the training and the validation split.

    Each function computes the features at its first call and stores them, so that only the head is computed afterwards.
    None if the backbone is trained or its input is augmented.
    """
    if not has_fixed_features(config):
        return None

    @torch.no_grad()
    def features_of(decoded: Decoded) -> torch.Tensor:
        batches = evaluation_batches(decoded, config.train.eval_batch_size, device)
        with autocast(device, dtype):
            return torch.cat([model.features(transform(batch.images)) for batch in batches])

    train, val = (cache(partial(features_of, split)) for split in splits)
    return train, val


def step_flops(config: Config, model: Classifier, side: int) -> float:
    """Floating-point operations of one training step per image of side x side pixels.

    The forward pass takes 2 x multiply-adds; forward and backward pass together take 3 times as many. A frozen backbone
    has no backward pass. If its features are computed once, only the head counts.
    """
    if has_fixed_features(config):
        return 3 * head_flops(model)
    forward = forward_flops(model, side)
    return forward + 2 * head_flops(model) if config.model.freeze else 3 * forward


def head_flops(model: Classifier) -> float:
    """Floating-point operations of the head's forward pass for one image."""
    return 2.0 * sum(parameter.numel() for parameter in model.head.parameters() if parameter.ndim > 1)


@dataclass(frozen=True)
class Inference:
    """What inference with a run needs: its learner with an untrained model, its preprocessing, device and dtype.

    square: how images are resized, unless they already have the size `decoded_size`, (height, width). step, epoch: at
    which the checkpoint was written.
    """

    learner: ClassifyLearner
    classes: tuple[str, ...]
    square: Square
    decoded_size: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    step: int
    epoch: int


def build_for_inference(folder: Path, config: ClassifyConfig, precision: str) -> Inference:
    """Build the network of the run in `folder` for evaluation or prediction, without loading its weights.

    Model, classes and preprocessing are read from config.json in the checkpoint. precision: "auto", "fp32" or "bf16".
    """
    require_weights(folder)
    shipped = shipped_checkpoints(folder)[0]
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    with checked_description(shipped) as description:
        classes, preprocessing = tuple(description["classes"]), description["preprocessing"]
        size, decoded_size = preprocessing["size"], tuple(preprocessing["kept"])
        name, args = description["model"]["name"], description["model"]["args"]
        head = description["model"].get("head", "linear")
        square = Square(size, preprocessing.get("fit", "squash"), preprocessing["resize"])
        mean, std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
    model = build_model(name, len(classes), size, args, head)
    model.to(device).to(memory_format=torch.channels_last)
    transform = evaluation_transform(size, mean, std)
    learner = ClassifyLearner(config=config, model=model, classes=len(classes), augment=None, transform=transform)
    dtype = pick_precision(precision, device)
    step, epoch = description.get("step", 0), description.get("epoch", 0)
    return Inference(learner, classes, square, decoded_size, device, dtype, step, epoch)
