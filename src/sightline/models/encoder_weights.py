"""Load weights into a segmentation model: into its encoder, and into all other layers whose weights match."""

import dataclasses
from typing import Any

from ..errors import SightlineError
from .formats import RGB, match_first_layer, match_names, without_prefixes
from .pretrained.downloads import Say, require_available
from .pretrained.published import published, require_imagenet
from .segmenters import Segmenter, pretrained_encoder
from .weights import (
    LIBRARY,
    MIN_COVERAGE,
    NO_CLASS_NAMES,
    LoadReport,
    SourceWeights,
    backbone_of,
    classes_differ,
    copy_matched,
    coverage,
    find_weights,
    from_library,
    is_siamese,
    match_with_timm,
    mismatch_error,
)


def load_encoder(
    model: Segmenter,
    weights: str,
    classes: tuple[str, ...] | list[str] = (),
    channels: tuple[str, ...] = RGB,
    say: Say = lambda text: None,
    fresh_head: bool = False,
) -> LoadReport:
    """Load `weights` into a segmentation model, in place: into the encoder, and, unless `fresh_head`, into all other
    layers whose weights match.

    weights: `pretrained` or `imagenet` (the download of the encoder's library), `coco` (torchvision's DeepLabV3), or a
    file or folder with the weights of a segmentation model, or of a classifier whose backbone is this encoder.

    classes: class names of the new data; the output layers keep their initialization if the weights have other class
    names, or these in another order. channels: names of the channels of the new images; see `weights.widened`. say: as
    of `weights.load_weights`. Raises SightlineError if less than 90 % of the encoder's values match, or if the file is
    unsafe or damaged; the model is then unchanged.
    """
    source = find_encoder(model, weights, say)
    if is_siamese(source.tensors):
        backbone = {key.removeprefix("backbone."): tensor for key, tensor in backbone_of(source.tensors).items()}
        source = dataclasses.replace(source, tensors={k.removeprefix("encoder."): t for k, t in backbone.items()})
    state = model.state_dict()
    inside = f"network.{model.encoder_path}."
    prefixes = ("", "network.", inside, f"{inside}model.")  # the last for smp's `tu-` encoders, which wrap timm's model
    notes = list(source.notes)
    match = match_with_timm(source.tensors, state, getattr(model.encoder, "model", model.encoder), notes, prefixes)
    if model.convert is not None:
        rest = {without_prefixes(key): (key, tensor) for key, tensor in source.tensors.items() if key not in match.used}
        converted = {name: model.convert(model.network, name, tensor) for name, (_, tensor) in rest.items()}
        file_names = {new: rest[name][0] for name, (new, _) in converted.items()}
        more = match_names(dict(converted.values()), state, prefixes)
        match.tensors.update({key: tensor for key, tensor in more.tensors.items() if key not in match.tensors})
        match.used.update(file_names[name] for name in more.used)
        unequal = {key: (file_names[name], tensor) for key, (name, tensor) in more.unequal.items()}
        match.unequal.update(unequal)
    notes += match_first_layer(match, state, source.channels, channels)
    if fresh_head:
        match = dataclasses.replace(match, tensors={k: t for k, t in match.tensors.items() if k.startswith(inside)})
    heads = tuple(f"network.{path}." for path in model.class_layers)
    matched_heads = any(key.startswith(heads) for key in match.tensors)
    if matched_heads and classes and classes_differ(source, weights, tuple(classes)):
        match = dataclasses.replace(match, tensors={k: t for k, t in match.tensors.items() if not k.startswith(heads)})
        notes.append(
            "the class names or their order differ from those of the weights: the output layers have new random weights"
        )
    elif matched_heads and classes and not source.classes:
        notes.append(NO_CLASS_NAMES.format(what="output layers", cure=""))
    if coverage(match, state, inside) < MIN_COVERAGE:
        hint = f"choose with --model.name a segmenter whose encoder is {source.model or 'the network of these weights'}"
        raise mismatch_error(match, state, source, model.name, inside, hint)
    found = [key in match.tensors for key in state if key.startswith(inside)]
    report = copy_matched(match, model, source, [*notes, f"encoder: {sum(found)} of {len(found)} tensors"])
    return dataclasses.replace(report, encoder=inside)


def find_encoder(model: Segmenter, weights: str, say: Say) -> SourceWeights:
    """Read the weights given by the setting `model.weights`, for a segmentation model."""
    if weights == "coco" and model.name.startswith("deeplabv3_"):
        from torchvision.models import get_model_weights

        source = from_library(published(f"torchvision/{model.name}"), say)
        meta = get_model_weights(model.name).__members__["DEFAULT"].meta
        return dataclasses.replace(source, classes=tuple(meta["categories"]), model=model.name)
    if weights in LIBRARY and not model.pretrained:
        raise SightlineError(
            f"there are no pre-trained weights for {model.name}",
            where="model.weights",
            why="its encoder is defined by Sightline, which publishes no weights",
            cure="use --model.weights none or --model.weights RUN, or another model: --model.name fcn32s, "
            "deeplabv3_resnet50 or smp/ARCH/ENCODER",
        )
    return find_weights(weights, model.pretrained, say)


def require_weights(weights: str, name: str, args: dict[str, Any]) -> None:
    """Raise SightlineError if `model.weights` of the model `name` with `model.args` are not available: a file or folder
    that does not exist or is damaged, or published weights that are neither in the cache nor can be downloaded, with
    status ENVIRONMENT. Nothing is downloaded; whether the weights fit the model is not checked."""
    if weights in LIBRARY:
        known = published(pretrained_encoder(name, args) or name)
        if weights == "imagenet":
            require_imagenet(known)
        require_available(known)
    elif weights not in ("none", "coco"):
        find_weights(weights, name)
