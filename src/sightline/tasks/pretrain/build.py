"""From a configuration to the parts of a pre-training run: images without labels, two networks, a probe."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ...config.schema import Augment, Data
from ...data.augment.batch import check_augment, evaluation_transform, training_augmentation
from ...data.image_cache import decode, subset
from ...data.loader import evaluation_batches
from ...data.shards.streamed import sampled
from ...data.sources.leakage import without_leaks
from ...data.sources.open import open_source
from ...data.sources.splits import WHOLE
from ...data.types import Batch, Decoded, Source
from ...doctor.quick import quick_line
from ...engine.device import pick_device, pick_precision, use_threads
from ...engine.distributed import world
from ...engine.parts import (
    Parts,
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
)
from ...errors import SightlineError
from ...models import (
    MODELS,
    PartialForward,
    build_backbone,
    feature_width,
    forward_flops,
    parameter_count,
    unknown_model,
)
from ...models.heads import mlp
from ...models.segmenters import SEGMENTERS, build_segmenter
from ...models.weights import load_weights
from ...runs.sampling import sample_rows
from .collapse import collapse
from .config import PretrainConfig
from .objectives import OBJECTIVES
from .siamese import LastMap, Siamese
from .task import Bank, PretrainLearner

WATCHED, BANKED = 2500, 5000
"""Images that are evaluated after each epoch where no validation split says which, and those whose labels vote."""

View = Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor]


def check(config: PretrainConfig) -> None:
    """SightlineError for an augmentation or a model name that cannot be, before any data is read."""
    check_augment(config.augment, config.data.size)
    name = config.model.name
    if "/" not in name and name not in MODELS and name not in SEGMENTERS:
        raise unknown_model(name)


def open_without_leaks(config: PretrainConfig, say: Callable[[str], None]) -> Source:
    """`open_images`, without validation images that are copies of training images."""
    if config.pretrain.probe:
        open_probe(config, lambda text: None)  # an error in it is raised before anything is decoded
    return without_leaks(open_images(config, say), config.data, say)


def build(config: PretrainConfig, say: Callable[[str], None], precision: str = "", fresh: bool = True) -> Parts:
    """All parts of a training run; arguments and errors as `build.build`."""
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    source = open_without_leaks(config, say)
    torch.manual_seed(config.train.seed)
    model = build_siamese(config)
    check_batch_size(config, model)
    flops = flops_by_side(config, partial(step_flops, config, model))
    receipt = None
    if fresh and config.model.weights != "none":
        receipt = load_weights(model.online(), config.model.weights, config.model.name, config.data.size)
        say(str(receipt))
    train = training_images(config, source, say)
    say(quick_line(config.data, {"train": train}))
    if len(train.names) < 2:
        why, cure = "batch normalization compares the images of a batch", "give a folder with more images"
        raise SightlineError("one image is too few to learn from", where=config.data.path, why=why, cure=cure)
    val, bank = evaluated_images(config, source, train, say)
    mean, std = normalization(config, train)
    if fresh and receipt is None:
        initialize_from_images(model.backbone, train, evaluation_transform(config.data.size, mean, std))
    model.restart_target()
    facts = {
        "parameters": parameter_count(model.backbone),
        "train_flops": training_flops(config, flops, len(train.names), config.train.epochs),
        "weights": receipt.as_dict() if receipt else None,
        "data": describe_images(source, train, val),
    }
    model.to(device).to(memory_format=torch.channels_last)
    rows = rows_of(config, val)
    learner = build_learner(config, model, mean, std, bank, rows, len(val.names), device)
    if config.train.compile:
        for network in (model.backbone, *([model.target[0]] if model.target is not None else [])):
            network.compile(dynamic=False)
    dtype = pick_precision(precision or config.train.precision, device)
    description = describe_model(config, train, val, mean, std) | {"classes": []}
    return Parts(
        *(device, dtype, source, train, val, model, learner, receipt, description, rows, (mean, std), flops, facts),
        traced=Traced((3, config.data.size, config.data.size), both_networks, OBJECTIVES[config.pretrain.method].title),
        alarm=collapse,
    )


def both_networks(model: Siamese, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The pass of a view through both networks."""
    prediction, projection = model(images)
    return {"prediction": prediction, "projection": projection}


def bank_batches(bank: Decoded, config: PretrainConfig, device: torch.device) -> Iterator[Batch]:
    """Labeled images in batches, of several processes a share each."""
    return evaluation_batches(bank, config.train.eval_batch_size, device, world().share)


def describe_images(source: Source, train: Decoded, val: Decoded) -> dict[str, Any]:
    """The data as provenance.json has it; `classes` are those of the evaluated images, whose pixels train nothing and
    are therefore not part of what a resumed run must find unchanged."""
    found = describe_data(source, train, val)
    return found | {"classes": list(val.classes), "digest": {"train": train.digest}, "evaluated": val.digest}


def build_learner(
    config: PretrainConfig,
    model: Siamese,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    bank: Decoded | None,
    rows: np.ndarray,
    count: int,
    device: torch.device,
) -> PretrainLearner:
    """The learner around a model. rows: of the `count` evaluated images, those whose features are kept."""
    neighbors = None
    if bank is not None:
        neighbors = Bank(lambda: bank_batches(bank, config, device), len(bank.classes))
    large, small = view_functions(config, mean, std)
    return PretrainLearner(
        config,
        model=model,
        views=large,
        small=small,
        transform=evaluation_transform(config.data.size, mean, std),
        bank=neighbors,
        feature_mask=mask_of(rows, count, device),
    )


def open_images(config: PretrainConfig, say: Callable[[str], None]) -> Source:
    """The source with its splits listed, nothing decoded yet; labels may be missing, and are never trained on.

    Where the data's own labels are to give the k-NN accuracy, that is where there are some and no probe, a validation
    split is held out as for a classifier; else every image outside of `val` and `test` is trained on.
    """
    if not config.data.path:
        raise SightlineError("no data was named", cure="add --data PATH: a folder of images; no labels are needed")
    source = open_source(config.data, config.data.split_seed, hold_out=False)
    labels = [items.labels for items in source.splits.values() if items.labels is not None]
    if not config.pretrain.probe and labels and len(source.classes) > 1:
        source = open_source(config.data, config.data.split_seed)
    elif WHOLE in source.splits:
        source = replace(source, splits={"train": source.splits[WHOLE]})
    for note in source.notes:
        say(note)
    if "train" not in source.splits:
        raise SightlineError("there is no training split", where=source.path, cure="name one of the folders train")
    return source


def build_siamese(config: PretrainConfig) -> Siamese:
    """Backbone, projector and predictor, and their target where the method has one, out of torch's generator."""
    pretrain = config.pretrain
    backbone, width = pretraining_backbone(config)
    projector = mlp(width, pretrain.projector, pretrain.projector_norm)
    projection = pretrain.projector[-1]
    predictor = mlp(projection, (pretrain.predictor, projection))
    if pretrain.small_crops:
        refuse_small(config, backbone)
    return Siamese(backbone, projector, predictor, with_target=OBJECTIVES[pretrain.method].with_target)


def pretraining_backbone(config: PretrainConfig) -> tuple[nn.Module, int]:
    """(the network, the width of its features): a classifier's backbone, or the encoder of a segmenter."""
    name, size, args = config.model.name, config.data.size, dict(config.model.args)
    if name not in MODELS and (name in SEGMENTERS or name.startswith("smp/")):
        backbone = LastMap(build_segmenter(name, 2, args).encoder)
        return backbone, feature_width(backbone, name, size)
    return build_backbone(name, size, args)


def refuse_small(config: PretrainConfig, backbone: nn.Module) -> None:
    """SightlineError where the small views are too small for the backbone."""
    side = small_side(config)
    try:
        forward_flops(backbone, side)
    except (RuntimeError, ValueError) as error:
        what, why = f"{config.model.name} cannot take views of {side} x {side} pixels", str(error).splitlines()[0]
        raise SightlineError(what, where="pretrain.small_size", why=why, cure="raise pretrain.small_size") from error


def small_side(config: PretrainConfig) -> int:
    """Side of the small views in pixels."""
    return config.pretrain.small_size or max(1, config.data.size // 2)


def view_functions(
    config: PretrainConfig, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[list[View], list[View]]:
    """The augmentations of the two views and of the small ones: each draws its own numbers for every image."""
    augment, pretrain, size = config.augment, config.pretrain, config.data.size
    differs = {"blur": pretrain.second_blur, "solarize": pretrain.second_solarize}
    second = augment.model_copy(update=differs)
    tiny = second.model_copy(update={"crop_scale": pretrain.small_scale, "resize": 0})
    large = [view_of(augment, size, mean, std, 0), view_of(second, size, mean, std, 1)]
    side = small_side(config)
    return large, [view_of(tiny, side, mean, std, 2 + place) for place in range(pretrain.small_crops)]


def view_of(augment: Augment, size: int, mean: tuple[float, ...], std: tuple[float, ...], number: int) -> View:
    """`training_augmentation` with random numbers of its own: those of another seed for every view but the first."""
    check_augment(augment, size)
    transform = training_augmentation(augment, size, mean, std)
    return lambda images, samples, seed, epoch: transform(images, samples, seed + (number << 40), epoch)


def step_flops(config: PretrainConfig, model: Siamese, side: int) -> float:
    """Of one image whose views have `side` pixels: 2 x multiply-adds, times 3 where gradients flow back.

    Two views through the online network and, without gradient, through the target; small views online only.
    """
    online = forward_flops(PartialForward(model, model.predict), side)
    target = forward_flops(PartialForward(model, model.project), side) if model.target is not None else 0.0
    count = config.pretrain.small_crops
    small = forward_flops(PartialForward(model, model.predict), small_side(config)) if count else 0.0
    return 2 * (3 * online + target) + 3 * count * small


def evaluated_images(
    config: PretrainConfig, source: Source, train: Decoded, say: Callable[[str], None]
) -> tuple[Decoded, Decoded | None]:
    """(the images that are evaluated after each epoch, the labeled images among which their neighbors are looked for).

    Of `pretrain.probe`, else of the data's own validation and training split; without labels a sample of the training
    images, and None.
    """
    if config.pretrain.probe:
        return probe_images(config, say)
    seed = config.train.seed
    if train.labels is None or "val" not in source.splits:
        say("no labels: no k-NN accuracy (--pretrain.probe LABELED would measure it)")
        return subset(train, sampled(train, WATCHED, seed)), None
    say("the labels are not trained on; k-NN accuracy on the validation images looks at them")
    val = decode(source, "val", config.data.size, config.data, say)
    return val, subset(train, sampled(train, BANKED, seed))


def open_probe(config: PretrainConfig, say: Callable[[str], None]) -> Source:
    """The labeled data of `pretrain.probe`, nothing decoded yet."""
    data = probe_data(config)
    probe = open_source(data, data.split_seed)
    for note in probe.notes:
        say(f"    {note}")
    if "train" not in probe.splits or probe.splits["train"].labels is None:
        cure = "name labeled images, or leave pretrain.probe out"
        raise SightlineError("the probe has no labels", where=data.path, cure=cure)
    return probe


def probe_data(config: PretrainConfig) -> Data:
    """The settings by which the probe is read."""
    return config.data.model_copy(update={"path": config.pretrain.probe, "layout": "auto", "classes": (), "group": ""})


def probe_images(config: PretrainConfig, say: Callable[[str], None]) -> tuple[Decoded, Decoded]:
    """(the evaluated images, the labeled images whose neighbors vote) of `pretrain.probe`."""
    say(f"k-NN accuracy is measured on {config.pretrain.probe}:")
    probe, data = open_probe(config, say), probe_data(config)
    bank, val = (decode(probe, split, config.data.size, data, say) for split in ("train", "val"))
    return val, subset(bank, sample_rows(len(bank.names), BANKED, config.train.seed))
