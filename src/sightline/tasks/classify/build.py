"""From a configuration to the parts of a classification run, and to those that use its weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from ...config.schema import Augment, Config
from ...data.augment.batch import check_augment, evaluation_transform, training_augmentation
from ...data.decode.images import Square
from ...data.image_cache import decode, subset
from ...data.loader import evaluation_batches
from ...data.shards.streamed import refuse_stream, sampled
from ...data.sources.leakage import without_leaks
from ...data.sources.open import open_source
from ...data.sources.pair_layouts import holds_pairs
from ...data.sources.pairs import labeled_by_folders
from ...data.types import Decoded, Source
from ...doctor.quick import quick_line
from ...engine.device import autocast, pick_device, pick_precision, use_threads
from ...engine.parts import (
    Parts,
    Sampled,
    Traced,
    check_batch_size,
    describe_data,
    describe_model,
    flops_by_side,
    initialize_from_images,
    mask_of,
    normalization,
    rows_of,
    training_flops,
    training_images,
    weights_of_classes,
)
from ...errors import SightlineError
from ...models import MODELS, Classifier, build_model, forward_flops, freeze_backbone, parameter_count, unknown_model
from ...models.weights import load_weights
from ...runs.checkpoint import checked_description
from ...runs.run_folder import require_weights, shipped_checkpoints
from .config import ClassifyConfig
from .task import ClassifyLearner


def check(config: Config) -> None:
    """SightlineError for an augmentation or a model name that cannot be, before any data is read."""
    check_augment(config.augment, config.data.size)
    if "/" not in config.model.name and config.model.name not in MODELS:  # names of libraries are checked at the build
        raise unknown_model(config.model.name)


def build(config: ClassifyConfig, say: Callable[[str], None], precision: str, fresh: bool) -> Parts:
    """All parts of a classification run; arguments and errors as `build`."""
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    source = open_labeled(config, say)
    torch.manual_seed(config.train.seed)
    built = config.model
    model = build_model(built.name, len(source.classes), config.data.size, dict(built.args), built.head)
    check_batch_size(config, model)
    flops = flops_by_side(config, partial(step_flops, config, model))
    receipt = None
    if fresh and config.model.weights != "none":
        receipt = load_weights(model, built.weights, built.name, config.data.size, source.classes, built.fresh_head)
        say(str(receipt))
    train = training_images(config, source, say)
    if has_fixed_features(config):
        cure = "train without model.freeze, or copy the shards to this machine"
        refuse_stream(train, "features that are computed once", "model.freeze with no augmentation", cure)
    val = decode(source, "val", config.data.size, config.data, say)
    say(quick_line(config.data, {"train": train, "val": val}))
    mean, std = normalization(config, train)
    transform = evaluation_transform(config.data.size, mean, std)
    if fresh and receipt is None:
        initialize_from_images(model.backbone, train, transform)
    once = forward_flops(model.backbone, config.data.size) if has_fixed_features(config) else 0.0
    facts = {
        "parameters": parameter_count(model),
        "train_flops": training_flops(config, flops, len(train.names), config.train.epochs) + once * len(train.names),
        "weights": receipt.as_dict() if receipt else None,
        "data": describe_data(source, train, val),
    }
    if config.model.freeze:
        freeze_backbone(model)
    model.to(device).to(memory_format=torch.channels_last)
    rows, labels = rows_of(config, val), train.labels
    assert labels is not None
    dtype = pick_precision(precision or config.train.precision, device)
    learner = ClassifyLearner(
        config,
        model=model,
        classes=len(train.classes),
        augment=training_augmentation(config.augment, config.data.size, mean, std),
        transform=transform,
        class_weights=weights_of_classes(config, np.bincount(labels, minlength=len(train.classes)), device),
        forward=torch.compile(model, dynamic=False) if config.train.compile else None,
        feature_mask=mask_of(rows, len(val.names), device),
        fixed=fixed_features(config, model, transform, (train, val), device, dtype),
    )
    description = describe_model(config, train, val, mean, std)
    count = config.report.train_samples
    images = subset(train, sampled(train, count, config.train.seed)) if count else None
    normal = (mean, std)
    return Parts(
        *(device, dtype, source, train, val, model, learner, receipt, description, rows, normal, flops, facts),
        traced=Traced((3, config.data.size, config.data.size), lambda net, images: {"logits": net(images)}),
        sampled=Sampled(images, learner.plain_features) if images else None,
        once=once,
    )


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
    source = without_leaks(source, config.data, say)
    if "train" not in source.splits or source.splits["train"].labels is None:
        why = f"the layout {source.layout!r} has no labels"
        cure = "sort the images into one folder per class, name a CSV with --data, or say where the label stands in "
        cure += "the file names: --data.layout filename --data.pattern '{id}_{label}'"
        raise SightlineError("classification needs labels", where=source.path, why=why, cure=cure)
    return source


def refuse_pairs(config: Config) -> None:
    """SightlineError where the data are images and masks, which no classifier can learn from."""
    if config.data.layout == "auto" and holds_pairs(config.data.path):
        why = f"every image has its mask, and {config.name} is a classifier"
        cure = "a recipe for segmentation; `sightline recipes` lists them"
        raise SightlineError("these are pairs of images and masks", where=config.data.path, why=why, cure=cure)


def has_fixed_features(config: Config) -> bool:
    """Whether the backbone is frozen and sees the same images in every epoch."""
    still = config.augment.model_copy(update={"resize": 0, "normalize": "imagenet"}) == Augment()
    return config.model.freeze and still


def fixed_features(
    config: Config,
    model: Classifier,
    transform: Callable[[torch.Tensor], torch.Tensor],
    splits: tuple[Decoded, Decoded],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]] | None:
    """Of a frozen backbone whose images stay as they are: functions that give the features [N, D] of each split.

    They are computed once, when they are first asked for, and then a head is trained in seconds. None where the
    backbone learns, or an augmentation gives it other images in every epoch.
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
    """Of one image of `side` pixels: 2 x multiply-adds, times 3; of a frozen backbone only the forward pass counts, and
    where its features are computed once nothing of it."""
    if has_fixed_features(config):
        return 3 * head_flops(model)
    forward = forward_flops(model, side)
    return forward + 2 * head_flops(model) if config.model.freeze else 3 * forward


def head_flops(model: Classifier) -> float:
    """Of one image's pass through the head."""
    return 2.0 * sum(parameter.numel() for parameter in model.head.parameters() if parameter.ndim > 1)


@dataclass(frozen=True)
class Inference:
    """A run's learner around a model of its shape, without weights yet, and where and how to compute."""

    learner: ClassifyLearner
    model: Classifier
    transform: Callable[[torch.Tensor], torch.Tensor]
    classes: tuple[str, ...]
    square: Square
    kept: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    step: int
    epoch: int


def build_for_inference(folder: Path, config: ClassifyConfig, precision: str) -> Inference:
    """What evaluates or predicts with the run in `folder`.

    Everything that shapes a number comes from the checkpoint's config.json, not from the data.
    """
    require_weights(folder)
    shipped = shipped_checkpoints(folder)[0]
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    with checked_description(shipped) as description:
        classes, preprocessing = tuple(description["classes"]), description["preprocessing"]
        size, kept = preprocessing["size"], tuple(preprocessing["kept"])
        name, args = description["model"]["name"], description["model"]["args"]
        head = description["model"].get("head", "linear")
        square = Square(size, preprocessing.get("fit", "squash"), preprocessing["resize"])
        mean, std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
    model = build_model(name, len(classes), size, args, head)
    model.to(device).to(memory_format=torch.channels_last)
    transform = evaluation_transform(size, mean, std)
    learner = ClassifyLearner(config, model=model, classes=len(classes), augment=None, transform=transform)
    dtype = pick_precision(precision, device)
    step, epoch = description.get("step", 0), description.get("epoch", 0)
    return Inference(learner, model, transform, classes, square, kept, device, dtype, step, epoch)
