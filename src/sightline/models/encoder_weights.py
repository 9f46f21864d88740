"""Loads weights into a segmenter: into its encoder, and into every other layer that matches."""

import dataclasses

from ..errors import SightlineError
from .downloads import smp_file, torchvision_file
from .formats import match_names, plain, read_tensors
from .segmenters import Segmenter
from .weights import (
    ENOUGH,
    UNNAMED,
    Receipt,
    SourceWeights,
    backbone_of,
    copy_matched,
    coverage,
    find_weights,
    is_siamese,
    other_classes,
    wrong_weights,
)


def load_encoder(model: Segmenter, weights: str, classes: tuple[str, ...] | list[str] = ()) -> Receipt:
    """Load `weights` into a segmenter in place: the encoder, and every other layer that matches; see `load_weights`.

    weights: `imagenet` (the library's download), `coco` (torchvision's DeepLabV3), or a file or folder with the weights
    of a segmenter, or of a classifier whose backbone is this encoder. classes: class names of the new data; the scoring
    layers keep their initialization if the weights have other names or another order. Raises SightlineError if less
    than 90 % of the encoder's values match, and as `load_weights` does; the model is then unchanged.
    """
    source = find_encoder(model, weights)
    if is_siamese(source.tensors):
        own = {key.removeprefix("backbone."): tensor for key, tensor in backbone_of(source.tensors).items()}
        source = dataclasses.replace(source, tensors={k.removeprefix("encoder."): t for k, t in own.items()})
    state = model.state_dict()
    inside = f"network.{model.encoder_path}."
    prefixes = ("", "network.", inside, f"{inside}model.")  # the last for smp's `tu-` encoders, which wrap timm's model
    match = match_names(source.tensors, state, prefixes)
    if model.convert is not None:
        rest = {plain(key): (key, tensor) for key, tensor in source.tensors.items() if key not in match.used}
        renamed = {name: model.convert(model.network, name, tensor) for name, (_, tensor) in rest.items()}
        file_names = {new: rest[name][0] for name, (new, _) in renamed.items()}
        more = match_names(dict(renamed.values()), state, prefixes)
        match.tensors.update({key: tensor for key, tensor in more.tensors.items() if key not in match.tensors})
        match.used.update(file_names[name] for name in more.used)
    notes = list(source.notes)
    scores = tuple(f"network.{path}." for path in model.scores)
    others = bool(classes) and other_classes(source, weights, tuple(classes))
    if others and any(key.startswith(scores) for key in match.tensors):
        match = dataclasses.replace(match, tensors={k: t for k, t in match.tensors.items() if not k.startswith(scores)})
        notes.append("the weights were trained on other classes or another order of them, so their scores are new")
    elif classes and not source.classes and any(key.startswith(scores) for key in match.tensors):
        notes.append(UNNAMED.format(what="scores", cure=""))
    if coverage(match, state, inside) < ENOUGH:
        hint = f"choose a segmenter whose encoder is {source.model or 'the network that they were trained with'}"
        raise wrong_weights(match, state, source, model.name, inside, hint)
    parts = [key in match.tensors for key in state if key.startswith(inside)]
    return copy_matched(match, model, source, [*notes, f"encoder: {sum(parts)} of {len(parts)} tensors"])


def find_encoder(model: Segmenter, weights: str) -> SourceWeights:
    """Read the weights that `model.weights` names, for a segmenter."""
    if weights == "coco" and model.name.startswith("deeplabv3_"):
        from torchvision.models import get_model_weights

        path, origin = torchvision_file(model.name)
        meta = get_model_weights(model.name).__members__["DEFAULT"].meta
        return SourceWeights(read_tensors(path)[0], origin, (), tuple(meta["categories"]), model.name)
    if weights == "imagenet" and not model.pretrained:
        raise SightlineError(
            f"there are no ImageNet weights for {model.name}",
            where="model.weights",
            why="its encoder is Sightline's own",
            cure="set model.weights to none, to a run folder, or take fcn32s, deeplabv3_resnet50 or smp/ARCH/ENCODER",
        )
    if weights == "imagenet" and model.pretrained.startswith("smp/"):
        path, origin = smp_file(model.pretrained.removeprefix("smp/"))
        return SourceWeights(read_tensors(path)[0], origin)
    return find_weights(weights, model.pretrained)
