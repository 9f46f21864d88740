"""Puts weights into a classifier and says what happened: how many tensors matched, what is new, what was left out."""

import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config.paths import expanded
from ..errors import SightlineError
from . import MODELS
from .downloads import hugging_face_file, imagenet_file, torchvision_file
from .formats import Match, match_names, plain, read_tensors
from .segmenters import Segmenter

ENOUGH = 0.9
"""Share of the backbone's numbers that must be found; a file with less is the wrong file."""
UNNAMED = (
    "the file does not name its classes: its {what} fit by number, and are taken for these classes in this order{cure}"
)


@dataclass(frozen=True)
class Receipt:
    """What loading weights did. Names in `new` are the model's tensors that keep their random start, names in
    `ignored` the file's tensors without a place. share: of the model's parameters, by count of numbers."""

    matched: int
    total: int
    new: tuple[str, ...]
    ignored: tuple[str, ...]
    source: str
    share: float = 1.0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        share = f"{100 * self.share:.1f} % of the parameters"
        parts = [f"loaded {self.matched} of {self.total} tensors ({share}) from {self.source}"]
        parts += [f"new: {shortened(self.new)}"] if self.new else []
        parts += [f"left out of the file: {shortened(self.ignored)}"] if self.ignored else []
        return "; ".join([*parts, *self.notes])

    def as_dict(self) -> dict[str, Any]:
        """Plain values for provenance.json."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclass(frozen=True)
class Found:
    """Weights before they meet the model: tensors by name, their origin, and what is known of their training."""

    tensors: dict[str, Tensor]
    source: str
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    model: str = ""


def load_weights(
    model: nn.Module,
    weights: str,
    name: str,
    size: int = 224,
    classes: tuple[str, ...] | list[str] = (),
    fresh_head: bool = False,
) -> Receipt:
    """Load `weights` into a backbone and what stands on it, in place, by names with exactly equal shapes.

    weights: `imagenet` (the library's own download), a .safetensors or .pt file, a run folder or a checkpoint folder.
    name, size: the model's name and the side of its images in pixels. classes: the class names of the new data, in
    order; where the weights come with other names or another order, the head is new even if its shape fits, and with
    `fresh_head` always.

    The head is new where its shape differs. Raises SightlineError where less than 90 % of the backbone's numbers
    match, where a matching tensor holds NaN or infinity, and for files that are not safe or not whole; the model is
    then as it was.
    """
    found = find_weights(weights, name)
    notes = list(found.notes)
    if is_siamese(found.tensors) and not is_siamese(model.state_dict()):
        found = dataclasses.replace(found, tensors=backbone_of(found.tensors))
        notes.append("of the pre-training only the backbone is used")
    state = model.state_dict()
    match = match_names(found.tensors, state)
    converted = match_names(timm_convention(found.tensors, model.backbone), state)
    if len(converted.tensors) > len(match.tensors):
        notes.append("timm's converter for other image sizes and older names was used")
        used = {key for key in found.tensors if plain(key) in converted.used}
        match = dataclasses.replace(converted, used=match.used | used, stripped=match.stripped)
    others = bool(classes) and other_classes(found, weights, tuple(classes))
    headed = any(key.startswith("head.") for key in match.tensors)
    if fresh_head or (others and headed):
        own = {key: tensor for key, tensor in match.tensors.items() if key.startswith("backbone.")}
        match = dataclasses.replace(match, tensors=own)
        notes += ["the weights were trained on other classes or another order of them, so the head is new"] * others
    elif headed and classes and not found.classes and weights != "imagenet":
        notes.append(UNNAMED.format(what="head weights", cure="; --model.fresh_head true begins with a new one"))
    if coverage(match, state, "backbone.") < ENOUGH:
        other = found.model if found.model and found.model != name else looks_like(found.tensors, name, size)
        hint = f"they look like {other}: set model.name to it" if other else "choose the model that they were made for"
        raise wrong_weights(match, state, found, name, "backbone.", hint)
    return put(match, model, found, notes)


def other_classes(found: Found, weights: str, classes: tuple[str, ...]) -> bool:
    """Whether the weights are known to be of other classes than these, or of another order of them.

    A library's ImageNet weights come without names: theirs are the 1,000 WordNet ids, sorted, as its folders are.
    """
    if found.classes:
        return found.classes != classes
    ids = len(classes) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in classes)
    return weights == "imagenet" and not (ids and list(classes) == sorted(classes))


def put(match: Match, model: nn.Module, found: Found, notes: list[str]) -> Receipt:
    """Copy what matched into the model, in place; raises SightlineError, with the model as it was, for NaN."""
    state = model.state_dict()
    refuse_not_finite(match.tensors, found.source)
    if match.stripped:
        notes.append(f"prefixes taken off the names: {', '.join(sorted(match.stripped))}")
    notes += cast_note(match.tensors, state)
    with torch.no_grad():
        for key, tensor in match.tensors.items():
            state[key].copy_(tensor)
    return Receipt(
        matched=len(match.tensors),
        total=len(state),
        new=tuple(key for key in state if key not in match.tensors),
        ignored=tuple(key for key in found.tensors if key not in match.used),
        source=found.source,
        share=coverage(match, dict(model.named_parameters()), ""),
        notes=tuple(notes),
    )


def load_encoder(model: Segmenter, weights: str, classes: tuple[str, ...] | list[str] = ()) -> Receipt:
    """Load `weights` into a segmenter's encoder, in place, and into all else of it that they fit; see `load_weights`.

    weights: `imagenet` (the library's own download), `coco` (DeepLabV3 as torchvision publishes it), or a file or
    folder: of a classifier whose backbone is this encoder, or of a segmenter. classes: the class names of the new data;
    where the weights come with others or another order, the layers that score classes are new. Raises SightlineError
    where less than 90 % of the encoder's numbers match, and as `load_weights` does; the model is then as it was.
    """
    found = find_encoder(model, weights)
    if is_siamese(found.tensors):
        own = {key.removeprefix("backbone."): tensor for key, tensor in backbone_of(found.tensors).items()}
        found = dataclasses.replace(found, tensors={k.removeprefix("encoder."): t for k, t in own.items()})
    state = model.state_dict()
    inside = f"network.{model.encoder_path}."
    prefixes = ("", "network.", inside, f"{inside}model.")  # the last for smp's `tu-` encoders, which wrap timm's model
    match = match_names(found.tensors, state, prefixes)
    if model.convert is not None:
        rest = {plain(key): (key, tensor) for key, tensor in found.tensors.items() if key not in match.used}
        renamed = {name: model.convert(model.network, name, tensor) for name, (_, tensor) in rest.items()}
        origin = {new: rest[name][0] for name, (new, _) in renamed.items()}
        more = match_names(dict(renamed.values()), state, prefixes)
        match.tensors.update({key: tensor for key, tensor in more.tensors.items() if key not in match.tensors})
        match.used.update(origin[name] for name in more.used)
    notes = list(found.notes)
    scores = tuple(f"network.{path}." for path in model.scores)
    others = bool(classes) and other_classes(found, weights, tuple(classes))
    if others and any(key.startswith(scores) for key in match.tensors):
        match = dataclasses.replace(match, tensors={k: t for k, t in match.tensors.items() if not k.startswith(scores)})
        notes.append("the weights were trained on other classes or another order of them, so their scores are new")
    elif classes and not found.classes and any(key.startswith(scores) for key in match.tensors):
        notes.append(UNNAMED.format(what="scores", cure=""))
    if coverage(match, state, inside) < ENOUGH:
        hint = f"choose a segmenter whose encoder is {found.model or 'the network that they were made for'}"
        raise wrong_weights(match, state, found, model.name, inside, hint)
    parts = [key in match.tensors for key in state if key.startswith(inside)]
    return put(match, model, found, [*notes, f"encoder: {sum(parts)} of {len(parts)} tensors"])


def find_encoder(model: Segmenter, weights: str) -> Found:
    """Read the weights that a setting names for a segmenter."""
    if weights == "coco" and model.name.startswith("deeplabv3_"):
        from torchvision.models import get_model_weights

        path, source = torchvision_file(model.name)
        meta = get_model_weights(model.name).__members__["DEFAULT"].meta
        return Found(read_tensors(path)[0], source, (), tuple(meta["categories"]), model.name)
    if weights == "imagenet" and not model.pretrained:
        raise SightlineError(
            f"there are no ImageNet weights for {model.name}",
            where="model.weights",
            why="its encoder is Sightline's own",
            cure="set model.weights to none, to a run folder, or take fcn32s, deeplabv3_resnet50 or smp/ARCH/ENCODER",
        )
    if weights == "imagenet" and model.pretrained.startswith("smp/"):
        path, source = smp_file(model.pretrained.removeprefix("smp/"))
        return Found(read_tensors(path)[0], source)
    return find_weights(weights, model.pretrained)


def smp_file(encoder: str) -> tuple[Path, str]:
    """The file with the ImageNet weights of one of smp's own encoders, and what it is in words; see `imagenet_file`."""
    from huggingface_hub import try_to_load_from_cache
    from segmentation_models_pytorch.encoders import encoders

    choices: Any = encoders[encoder]["pretrained_settings"]
    tag = "imagenet" if "imagenet" in choices else next(iter(choices), None)
    if tag is None:
        cure = "choose another encoder, or set model.weights to none"
        raise SightlineError(f"smp has no weights for {encoder}", where="model.weights", cure=cure)
    place, name = choices[tag], "model.safetensors"
    # smp pins a revision: its own downloads lie in the cache under that one.
    cached = try_to_load_from_cache(place["repo_id"], name, revision=place["revision"])
    path = Path(cached) if isinstance(cached, str) else hugging_face_file(place["repo_id"], (name,))
    return path, f"smp {encoder} ({tag})"


def find_weights(weights: str, name: str) -> Found:
    """Read the weights that a setting names."""
    if weights == "imagenet":
        path, source = imagenet_file(name)
        return Found(read_tensors(path)[0], source)
    path = Path(expanded(weights))
    if path.is_dir():
        return from_folder(path)
    if path.name == "model.safetensors" and (path.parent / "config.json").is_file():
        return from_folder(path.parent)  # which knows the names of the classes
    if not path.is_file():
        raise SightlineError(
            "there are no such weights",
            where=f"model.weights: {weights}",
            why="no file and no folder has this path",
            cure="give `none`, `imagenet`, a .safetensors or .pt file, or a run folder",
        )
    tensors, entry = read_tensors(path)
    return Found(tensors, str(path), (f"taken from the file's entry {entry!r}",) if entry else ())


def weights_folder(folder: Path) -> Path | None:
    """Where the weights of a run folder lie, the best, else the last; a checkpoint folder itself; None without any."""
    places = [folder / "checkpoints" / "best", folder / "checkpoints" / "last", folder]
    return next((place for place in places if (place / "model.safetensors").is_file()), None)


def from_folder(folder: Path) -> Found:
    """The best, else the last weights of a run folder, or the weights of a checkpoint folder."""
    place = weights_folder(folder)
    if place is None:
        raise SightlineError(
            "this folder holds no weights",
            where=str(folder),
            why="neither checkpoints/best/model.safetensors nor model.safetensors is there",
            cure="give a run folder, a checkpoint folder or a weight file",
        )
    tensors, _ = read_tensors(place / "model.safetensors")
    try:
        about = json.loads((place / "config.json").read_text(encoding="utf-8"))
        classes, name = tuple(about["classes"]), str(about["model"]["name"])
        return Found(tensors, str(place), (), classes, name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        # The tensors speak for themselves; only the check of class names needs the file beside them.
        note = f"config.json beside the weights cannot be read ({type(error).__name__}): class names not compared"
        return Found(tensors, str(place), (note,))


def is_siamese(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a pre-training run, a backbone with a projector."""
    return any(key.startswith("projector.") for key in tensors)


def backbone_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The online backbone's tensors of a pre-training run, without its heads and its target."""
    return {key: tensor for key, tensor in tensors.items() if key.startswith("backbone.")}


def timm_convention(tensors: dict[str, Tensor], backbone: Any) -> dict[str, Tensor]:
    """The tensors as timm's own loader would see them for this backbone; nothing for models that are not timm's.

    Each of timm's model files has a function of this name that resamples position tables to the image's size and
    mends old names; timm hands it to its loader and does not export it.
    """
    module = type(backbone).__module__
    convert = vars(sys.modules[module]).get("checkpoint_filter_fn") if module.startswith("timm.") else None
    if convert is None:
        return {}
    try:
        return dict(convert({plain(key): tensor for key, tensor in tensors.items()}, backbone))
    except Exception:  # foreign tensors; what matched by name is then all there is
        return {}


def coverage(match: Match, state: dict[str, Tensor], prefix: str) -> float:
    """Share of the numbers in the floating-point tensors under `prefix` that matched."""
    sizes = {key: value.numel() for key, value in state.items() if key.startswith(prefix) and value.is_floating_point()}
    return sum(count for key, count in sizes.items() if key in match.tensors) / max(1, sum(sizes.values()))


def refuse_not_finite(tensors: dict[str, Tensor], source: str) -> None:
    """Raise SightlineError that names the tensors with NaN or infinity."""
    numbers = {key: value for key, value in tensors.items() if value.is_floating_point()}
    # Formats of one byte have no isfinite of their own.
    numbers = {key: value.float() if value.element_size() == 1 else value for key, value in numbers.items()}
    bad = [key for key, value in numbers.items() if not value.isfinite().all()]
    if bad:
        raise SightlineError(
            "the weights hold NaN or infinity",
            where=source,
            why=shortened(bad),
            cure="the training that wrote them had diverged: take an earlier checkpoint",
        )


def cast_note(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """A sentence for the receipt where the file's number format is not the model's."""
    kinds = {
        str(value.dtype).removeprefix("torch.") for key, value in tensors.items() if value.dtype != state[key].dtype
    }
    return [f"cast from {', '.join(sorted(kinds))}"] if kinds else []


def wrong_weights(
    match: Match, state: dict[str, Tensor], found: Found, name: str, prefix: str, hint: str
) -> SightlineError:
    """The error for weights of another model: the first names under `prefix` that do not fit, and what to do."""
    part = "backbone" if prefix == "backbone." else "encoder"
    missing = [key for key in state if key.startswith(prefix) and key not in match.tensors]
    missing = [f"{key} ({match.shapes[key]})" if key in match.shapes else key for key in missing]
    unexpected = [key for key in found.tensors if key not in match.used]
    share = coverage(match, state, prefix)
    return SightlineError(
        f"these weights do not fit {name}: {f'{100 * share:.1f} % of its {part}' if share else 'nothing'} matched",
        where=found.source,
        why=f"missing in the file: {shortened(missing, 5)}\n         unknown to the model: {shortened(unexpected, 5)}",
        cure=f"{hint}, or set model.weights to none",
    )


def looks_like(tensors: dict[str, Tensor], name: str, size: int) -> str:
    """Which other model of ours these tensors fit; "" where none does. Builds the models without memory for weights."""
    for other, build in MODELS.items():
        try:
            with torch.device("meta"):
                backbone = build(size=size) if other != name else torch.nn.Identity()
        except ValueError:  # this model does not come in this size
            continue
        state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
        if coverage(match_names(tensors, state), state, "backbone.") >= ENOUGH:
            return other
    return ""


def shortened(items: list[str] | tuple[str, ...], limit: int = 6) -> str:
    """The first items on one line and how many more there are."""
    more = f" and {len(items) - limit:,} more" if len(items) > limit else ""
    return (", ".join(items[:limit]) or "nothing") + more
