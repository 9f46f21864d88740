"""Build a run, and its network for inference, for tasks that predict one vector for a whole image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from ...config.checks import FITTED, check_effects, has_fixed_features
from ...config.schema import Config
from ...data.augment.batch import check_augment, evaluation_transform, training_augmentation
from ...data.channels import Channels
from ...data.decode.images import Square
from ...data.image_cache import decode, subset
from ...data.label_arrays import class_counts, strata
from ...data.shards.stream import reject_remote_stream, sampled
from ...data.sources.leakage import groups_of, held_out_share, validation_mask
from ...data.sources.splits import held_out as held_by_class
from ...data.types import Decoded, Source
from ...doctor.quick import quick_line
from ...engine import parts
from ...engine.device import pick_device, pick_precision, use_threads
from ...engine.optim import check_optimizer
from ...models import (
    MODELS,
    Classifier,
    build_model,
    forward_flops,
    freeze_backbone,
    model_names,
    parameter_count,
    unknown_model,
)
from ...models.folding import fold_norms
from ...models.library import require_whole_patches
from ...models.weights import LoadReport, load_weights
from ...runs.checkpoint import checked_description
from ...runs.run_folder import require_weights, shipped_checkpoints
from ..contract import Say
from .features import FeatureExtractor
from .fitted import HELD_OUT, fit_head
from .learner import ImageLearner


def check_settings(config: Config) -> None:
    """Raise SightlineError for an invalid augmentation, an unknown model or an unknown optimizer."""
    check_augment(config.augment, config.data.size)
    check_optimizer(config.optim)
    check_effects(config, masks=False)
    if "/" not in config.model.name and config.model.name not in MODELS:  # library models are checked later
        raise unknown_model(config.model.name, model_names())


def build_parts(
    learner_class: type[ImageLearner],
    config: Config,
    source: Source,
    outputs: int,
    say: Say,
    precision: str,
    fresh: bool,
) -> parts.Parts:
    """Build all parts of a run whose network has `outputs` outputs for an image; else as `engine.parts.build`.

    source: the data, with labels in the splits `train` and `val`.
    """
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    torch.manual_seed(config.train.seed)
    chosen, names = config.model, source.channels.names
    model, flops, loaded = build_network(config, source, outputs, say, fresh)
    train, val = decoded_splits(config, source, say)
    mean, std = parts.normalization(config, train, say)
    transform = evaluation_transform(config.data.size, mean, std, config.data.eval_crop, train.channels)
    if fresh:
        parts.initialize_from_images(model.backbone, train, transform, loaded)
    computed = has_fixed_features(config) or chosen.fit_head
    once = forward_flops(model.backbone, config.data.size, len(names)) if computed else 0.0
    total = parts.training_flops(config, flops, len(train.names), config.train.epochs) + once * len(train.names)
    facts = {
        "parameters": parameter_count(model),
        "train_flops": total,
        "weights": loaded.as_dict() if loaded else None,
        "data": parts.describe_data(source, train, val),
    }
    model.fixed_norm = chosen.fixed_norm
    if chosen.freeze:
        freeze_backbone(model)
    model.to(device).to(memory_format=torch.channels_last)
    fold_norms(model, (len(names), config.data.size, config.data.size))
    rows, labels = parts.sampled_rows(config, val), train.labels
    assert labels is not None
    shape = (config.train.batch_size, len(names), config.data.size, config.data.size)
    dtype = pick_precision(precision or config.train.precision, device, model.train(), shape)
    preprocessing = [mean, std, config.data.eval_crop, train.channels.description()]
    extractor = FeatureExtractor(config, model, transform, preprocessing, device, say)
    features = cache(partial(extractor.features, train, "training", dtype))
    fixed = (features, cache(partial(extractor.features, val, "validation", torch.float32)))
    fit = partial(fit_to_training, config, model, source, labels, features, say)
    if fresh and chosen.fit_head:
        fit()
    learner = learner_class(
        config=config,
        model=model,
        outputs=outputs,
        augment=training_augmentation(config.augment, config.data.size, mean, std, train.channels),
        transform=transform,
        class_weights=parts.weights_of_classes(config, class_counts(labels, len(train.classes)), device),
        forward=torch.compile(model, dynamic=False) if config.train.compile else None,
        feature_mask=parts.row_mask(rows, len(val.names), device),
        fixed=fixed if has_fixed_features(config) else None,
        fit=fit if config.optim.name in FITTED else None,
    )
    description = parts.describe_model(config, train, val, mean, std)
    count = config.report.train_samples
    images = subset(train, sampled(train, count, config.train.seed)) if count else None
    return parts.Parts(
        *(device, dtype, source, train, val, model, learner, description, rows, (mean, std), flops, facts),
        trace_spec=parts.TraceSpec(shape[1:], lambda net, images: {"logits": net(images)}),
        feature_sample=parts.FeatureSample(images, learner.plain_features) if images else None,
        once_flops=once,
    )


def decoded_splits(config: Config, source: Source, say: Say) -> tuple[Decoded, Decoded]:
    """The images of the training and of the validation split. Raises SightlineError for shards at a URL, if features
    are computed once."""
    train = parts.training_images(config, source, say)
    if has_fixed_features(config):
        fitted = config.optim.name in FITTED  # which needs model.freeze
        other = "a recipe that trains the backbone, such as photos_scratch" if fitted else "--model.freeze false"
        cure = f"copy the shards to this machine, and give their folder: --data FOLDER; or train with {other}"
        reject_remote_stream(train, "features that are computed once", "model.freeze with no augmentation", cure)
    val = decode(source, "val", config.data.size, config.data, say)
    say(quick_line(config.data, {"train": train, "val": val}))
    return train, val


def build_network(
    config: Config, source: Source, outputs: int, say: Say, fresh: bool
) -> tuple[Classifier, dict[int, float], LoadReport | None]:
    """Build the network and load the weights of `model.weights` if `fresh`: (network, floating-point operations of a
    step by image side, report of the loading or None). What does not fit is an error before weights are downloaded."""
    chosen, names = config.model, source.channels.names
    model = build_model(chosen.name, outputs, config.data.size, dict(chosen.args), chosen.head, len(names))
    if fresh:
        require_whole_patches(chosen.name, model.backbone, config.data.size)
    parts.check_batch_size(config, model)
    flops = parts.flops_by_side(config, partial(step_flops, config, model))
    if not fresh or chosen.weights == "none":
        return model, flops, None
    rest = (chosen.name, config.data.size, source.classes, chosen.fresh_head, names)
    loaded = load_weights(model, chosen.weights, *rest, say)
    say(str(loaded))
    return model, flops, loaded


def fit_to_training(
    config: Config,
    model: Classifier,
    source: Source,
    labels: np.ndarray,
    features: Callable[[], torch.Tensor],
    say: Say,
) -> None:
    """Fit the head of a model to the features of the training images; see `fitted.fit_head`.

    The penalty of a logistic regression is chosen on images that are held out as a validation split is: by class, with
    groups and copies together.
    """

    def held_out() -> np.ndarray:
        train, data = source.splits["train"], held_out_share(config.data, HELD_OUT)
        if train.shards is not None or len(train.names) != len(labels):  # some images could not be read
            return held_by_class(strata(labels), HELD_OUT, data.split_seed + 2)
        groups = groups_of(source.path, train, data)
        return validation_mask(source.path, train, strata(labels), groups, data, data.split_seed + 2)[0]

    choices = config.optim.decay_choices
    fit_head(model.head, features(), torch.from_numpy(labels), config.optim.weight_decay, choices, held_out, say)


def step_flops(config: Config, model: Classifier, side: int) -> float:
    """Floating-point operations of one training step per image of side x side pixels.

    The forward pass takes 2 x multiply-adds; forward and backward pass together take 3 times as many. A frozen backbone
    has no backward pass. If its features are computed once, only the head counts.
    """
    if has_fixed_features(config):
        return 3 * head_flops(model)
    forward = forward_flops(model, side, model.channels)
    return forward + 2 * head_flops(model) if config.model.freeze else 3 * forward


def head_flops(model: Classifier) -> float:
    """Floating-point operations of the head's forward pass for one image."""
    return 2.0 * sum(parameter.numel() for parameter in model.head.parameters() if parameter.ndim > 1)


@dataclass(frozen=True)
class Inference:
    """What inference with a run needs: its learner with an untrained model, its preprocessing and device.

    square: how images are resized, unless they already have the size `decoded_size`, (height, width). step, epoch: at
    which the checkpoint was written. channels: of the images that the network needs. normalization: mean and standard
    deviation of each channel.
    """

    learner: ImageLearner
    classes: tuple[str, ...]
    square: Square
    decoded_size: tuple[int, int]
    device: torch.device
    step: int
    epoch: int
    channels: Channels
    normalization: tuple[tuple[float, ...], tuple[float, ...]]


def build_for_inference(
    learner_class: type[ImageLearner], folder: Path, config: Config, outputs: int | None = None
) -> Inference:
    """Build the network of the run in `folder` for evaluation or prediction, without loading its weights.

    Model, classes and preprocessing are read from config.json in the checkpoint. outputs: of the network for an image;
    None: one for each class.
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
        square = Square.of_description(preprocessing)
        mean, std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
        channels = Channels.of_description(preprocessing.get("channels"))
    outputs = len(classes) if outputs is None else outputs
    model = build_model(name, outputs, size, args, head, len(channels))
    model.to(device).to(memory_format=torch.channels_last)
    fold_norms(model, (len(channels), size, size))
    transform = evaluation_transform(size, mean, std, 1.0, channels)
    learner = learner_class(config=config, model=model, outputs=outputs, augment=None, transform=transform)
    step, epoch = description.get("step", 0), description.get("epoch", 0)
    return Inference(learner, classes, square, decoded_size, device, step, epoch, channels, (mean, std))
