"""Loads weights into a classifier by name and shape, and reports what matched, what is new and what was ignored."""

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
from .downloads import imagenet_file
from .formats import Match, match_names, plain, read_tensors

ENOUGH = 0.9
"""Least share of the backbone's values that must match."""
UNNAMED = "the file has no class names: its {what} match in number and are used for these classes in this order{cure}"


@dataclass(frozen=True)
class Receipt:
    """Result of loading weights.

    new: tensors of the model that keep their initialization. ignored: tensors of the file that match none of the
    model. share: of the model's parameters, by number of values.
    """

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
        """JSON values, for provenance.json."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclass(frozen=True)
class SourceWeights:
    """Weights as read: tensors by name, origin, notes, and the classes and model they were trained with, if known."""

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
    """Load `weights` into a backbone and its head in place: tensors of equal name and shape.

    weights: `imagenet` (the library's download), a .safetensors or .pt file, a run folder or a checkpoint folder.
    name, size: the model's name and the side of its images in pixels. classes: the class names of the new data, in
    order.

    The head keeps its initialization if its shape differs, if the weights have other class names or another order,
    and with `fresh_head`. Raises SightlineError if less than 90 % of the backbone's values match, if a matching tensor
    has NaN or infinity, and for unsafe or damaged files; the model is then unchanged.
    """
    source = find_weights(weights, name)
    notes = list(source.notes)
    if is_siamese(source.tensors) and not is_siamese(model.state_dict()):
        source = dataclasses.replace(source, tensors=backbone_of(source.tensors))
        notes.append("only the backbone of the pre-training is used")
    state = model.state_dict()
    match = match_names(source.tensors, state)
    converted = match_names(timm_convention(source.tensors, model.backbone), state)
    if len(converted.tensors) > len(match.tensors):
        notes.append("converted by timm for another image size or older names")
        used = {key for key in source.tensors if plain(key) in converted.used}
        match = dataclasses.replace(converted, used=match.used | used, stripped=match.stripped)
    others = bool(classes) and other_classes(source, weights, tuple(classes))
    headed = any(key.startswith("head.") for key in match.tensors)
    if fresh_head or (others and headed):
        own = {key: tensor for key, tensor in match.tensors.items() if key.startswith("backbone.")}
        match = dataclasses.replace(match, tensors=own)
        notes += ["the weights were trained on other classes or another order of them, so the head is new"] * others
    elif headed and classes and not source.classes and weights != "imagenet":
        notes.append(UNNAMED.format(what="head weights", cure="; --model.fresh_head true begins with a new one"))
    if coverage(match, state, "backbone.") < ENOUGH:
        other = source.model if source.model and source.model != name else looks_like(source.tensors, name, size)
        hint = f"they look like {other}: set model.name to it" if other else "choose the model of these weights"
        raise wrong_weights(match, state, source, name, "backbone.", hint)
    return copy_matched(match, model, source, notes)


def other_classes(source: SourceWeights, weights: str, classes: tuple[str, ...]) -> bool:
    """Whether the weights are known to have other classes than these, or another order.

    ImageNet weights of a library have no class names; their classes are the 1,000 sorted WordNet ids.
    """
    if source.classes:
        return source.classes != classes
    ids = len(classes) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in classes)
    return weights == "imagenet" and not (ids and list(classes) == sorted(classes))


def copy_matched(match: Match, model: nn.Module, source: SourceWeights, notes: list[str]) -> Receipt:
    """Copy the matching tensors into the model; raise SightlineError for NaN or infinity, with the model unchanged."""
    state = model.state_dict()
    require_finite(match.tensors, source.source)
    if match.stripped:
        notes.append(f"prefixes removed from the names: {', '.join(sorted(match.stripped))}")
    notes += cast_note(match.tensors, state)
    with torch.no_grad():
        for key, tensor in match.tensors.items():
            state[key].copy_(tensor)
    return Receipt(
        matched=len(match.tensors),
        total=len(state),
        new=tuple(key for key in state if key not in match.tensors),
        ignored=tuple(key for key in source.tensors if key not in match.used),
        source=source.source,
        share=coverage(match, dict(model.named_parameters()), ""),
        notes=tuple(notes),
    )


def find_weights(weights: str, name: str) -> SourceWeights:
    """Read the weights that `model.weights` names."""
    if weights == "imagenet":
        path, origin = imagenet_file(name)
        return SourceWeights(read_tensors(path)[0], origin)
    path = Path(expanded(weights))
    if path.is_dir():
        return from_folder(path)
    if path.name == "model.safetensors" and (path.parent / "config.json").is_file():
        return from_folder(path.parent)  # its config.json has the class names
    if not path.is_file():
        raise SightlineError(
            "there are no such weights",
            where=f"model.weights: {weights}",
            why="no file and no folder has this path",
            cure="set `none`, `imagenet`, a .safetensors or .pt file, or a run folder",
        )
    tensors, entry = read_tensors(path)
    return SourceWeights(tensors, str(path), (f"taken from the file's entry {entry!r}",) if entry else ())


def weights_folder(folder: Path) -> Path | None:
    """The checkpoint folder of a run (best, else last), or the folder itself; None without model.safetensors."""
    choices = [folder / "checkpoints" / "best", folder / "checkpoints" / "last", folder]
    return next((path for path in choices if (path / "model.safetensors").is_file()), None)


def from_folder(folder: Path) -> SourceWeights:
    """Read the weights of a run folder (best, else last) or of a checkpoint folder."""
    path = weights_folder(folder)
    if path is None:
        raise SightlineError(
            "this folder holds no weights",
            where=str(folder),
            why="neither checkpoints/best/model.safetensors nor model.safetensors is there",
            cure="give a run folder, a checkpoint folder or a weight file",
        )
    tensors, _ = read_tensors(path / "model.safetensors")
    try:
        about = json.loads((path / "config.json").read_text(encoding="utf-8"))
        classes, name = tuple(about["classes"]), str(about["model"]["name"])
        return SourceWeights(tensors, str(path), (), classes, name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        # Only the comparison of class names needs config.json.
        note = f"config.json beside the weights cannot be read ({type(error).__name__}): class names not compared"
        return SourceWeights(tensors, str(path), (note,))


def is_siamese(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are from a pre-training run: with a projector."""
    return any(key.startswith("projector.") for key in tensors)


def backbone_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The online backbone of a pre-training run, without heads and target network."""
    return {key: tensor for key, tensor in tensors.items() if key.startswith("backbone.")}


def timm_convention(tensors: dict[str, Tensor], backbone: Any) -> dict[str, Tensor]:
    """The tensors converted by timm's `checkpoint_filter_fn` for this backbone; {} for models of others.

    Most of timm's model files define this function, which resamples position embeddings to the image size and renames
    old tensors; timm passes it to its loader and does not export it.
    """
    module = type(backbone).__module__
    convert = vars(sys.modules[module]).get("checkpoint_filter_fn") if module.startswith("timm.") else None
    if convert is None:
        return {}
    try:
        return dict(convert({plain(key): tensor for key, tensor in tensors.items()}, backbone))
    except Exception:  # tensors of another model: use those that match by name
        return {}


def coverage(match: Match, state: dict[str, Tensor], prefix: str) -> float:
    """Share of matched values among the floating-point tensors under `prefix`."""
    sizes = {key: value.numel() for key, value in state.items() if key.startswith(prefix) and value.is_floating_point()}
    return sum(count for key, count in sizes.items() if key in match.tensors) / max(1, sum(sizes.values()))


def require_finite(tensors: dict[str, Tensor], source: str) -> None:
    """Raise SightlineError with the names of tensors that have NaN or infinity."""
    numbers = {key: value for key, value in tensors.items() if value.is_floating_point()}
    # float8 types have no isfinite.
    numbers = {key: value.float() if value.element_size() == 1 else value for key, value in numbers.items()}
    bad = [key for key, value in numbers.items() if not value.isfinite().all()]
    if bad:
        raise SightlineError(
            "the weights hold NaN or infinity",
            where=source,
            why=shortened(bad),
            cure="the training that wrote them diverged: use an earlier checkpoint",
        )


def cast_note(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """A note on dtypes of the file that differ from the model's."""
    kinds = {
        str(value.dtype).removeprefix("torch.") for key, value in tensors.items() if value.dtype != state[key].dtype
    }
    return [f"cast from {', '.join(sorted(kinds))}"] if kinds else []


def wrong_weights(
    match: Match, state: dict[str, Tensor], source: SourceWeights, name: str, prefix: str, hint: str
) -> SightlineError:
    """The error for weights of another model, with the first names under `prefix` that do not match."""
    part = "backbone" if prefix == "backbone." else "encoder"
    missing = [key for key in state if key.startswith(prefix) and key not in match.tensors]
    missing = [f"{key} ({match.shapes[key]})" if key in match.shapes else key for key in missing]
    unexpected = [key for key in source.tensors if key not in match.used]
    share = coverage(match, state, prefix)
    return SightlineError(
        f"these weights do not fit {name}: {f'{100 * share:.1f} % of its {part}' if share else 'nothing'} matched",
        where=source.source,
        why=f"missing in the file: {shortened(missing, 5)}\n         unknown to the model: {shortened(unexpected, 5)}",
        cure=f"{hint}, or set model.weights to none",
    )


def looks_like(tensors: dict[str, Tensor], name: str, size: int) -> str:
    """The name of another built-in model that these tensors match, or ""; models are built on the meta device."""
    for other, build in MODELS.items():
        try:
            with torch.device("meta"):
                backbone = build(size=size) if other != name else torch.nn.Identity()
        except ValueError:  # not available in this size
            continue
        state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
        if coverage(match_names(tensors, state), state, "backbone.") >= ENOUGH:
            return other
    return ""


def shortened(items: list[str] | tuple[str, ...], limit: int = 6) -> str:
    """The first items on one line, and the number of others."""
    more = f" and {len(items) - limit:,} more" if len(items) > limit else ""
    return (", ".join(items[:limit]) or "nothing") + more
