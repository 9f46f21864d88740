"""Load weights into a classifier by name and shape, and report which tensors were matched, new or unused."""

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
from ..errors import SightlineError, nearest_hint, nearest_path
from . import MODELS
from .formats import RGB, Match, match_first_layer, match_names, read_tensors, without_prefixes
from .pretrained.downloads import Say, file_digest, library_file
from .pretrained.published import Published, published, require_imagenet

LIBRARY = ("pretrained", "imagenet")
"""Values of `model.weights` for the weights that the model's library publishes."""
CLASSIFIERS = ("head.", "head_dist.", "fc.", "classifier.")
"""Starts of the names of a classifier's tensors in weight files of timm, torchvision and Sightline."""
MIN_COVERAGE = 0.9
"""Fraction of the backbone's values that must match tensors in the weights file; with less, loading raises an error."""
NO_CLASS_NAMES = (
    "the weight file has no class names; its {what} are used because the number of classes is the same: check that the "
    "classes have the same order{cure}"
)


@dataclass(frozen=True)
class LoadReport:
    """Result of loading weights into a model.

    total: number of the model's tensors. matched: number of those that were loaded. new: names of those that keep their
    initialization. ignored: names of tensors in the file that are not used. source: the file or library. share:
    fraction of the model's parameter values that were loaded. sha256: of the file. encoder: the beginning of the names
    of a segmenter's encoder."""

    matched: int
    total: int
    new: tuple[str, ...]
    ignored: tuple[str, ...]
    source: str
    share: float = 1.0
    notes: tuple[str, ...] = ()
    sha256: str = ""
    encoder: str = ""

    def __str__(self) -> str:
        share = f"{100 * self.share:.1f} % of the parameters"
        parts = [f"loaded {self.matched} of {self.total} tensors ({share}) from {self.source}"]
        head = all(name.startswith("head.") for name in self.new)
        decoder = self.encoder and not any(name.startswith(self.encoder) for name in self.new)
        new = f"initialized, not loaded: {abbreviated(self.new)}"
        new = "the head is new" if head else "the decoder is new" if decoder else new
        parts += [new] if self.new else []
        heads = [name for name in self.ignored if without_prefixes(name).startswith(CLASSIFIERS)]
        others = [name for name in self.ignored if name not in heads]
        parts += ["the classifier of the file is not used, as expected"] if heads else []
        parts += [f"unused tensors of the file: {abbreviated(others)}"] if others else []
        return "; ".join([*parts, *self.notes])

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values, for provenance.json."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclass(frozen=True)
class SourceWeights:
    """Weights read from a file: tensors by name, where they are from, notes for the user, and, if known, the class
    names and the model that they are for. channels: names of the channels of the images that they are for. sha256: of
    the file."""

    tensors: dict[str, Tensor]
    source: str
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    model: str = ""
    channels: tuple[str, ...] = RGB
    sha256: str = ""


def load_weights(
    model: nn.Module,
    weights: str,
    name: str,
    size: int = 224,
    classes: tuple[str, ...] | list[str] = (),
    fresh_head: bool = False,
    channels: tuple[str, ...] = RGB,
    say: Say = lambda text: None,
) -> LoadReport:
    """Load `weights` in place into a classifier, or a module with a `backbone`: all tensors with equal name and
    shape.

    weights: `pretrained` or `imagenet` (the library's download), a .safetensors or .pt file, a run folder or a
    checkpoint folder. name, size: name of the model and side of its images in pixels. classes: class names of the new
    data, in index order. channels: names of the channels of the new images; see `widened`. say: is called with a line
    on the library's weights before they are downloaded.

    The head keeps its initialization if its shape differs, if the weights are for other class names or another order
    of them, or if `fresh_head` is true. Raises SightlineError if less than 90 % of the backbone's values match, if a
    matching tensor contains NaN or infinity, or if the file is unsafe or damaged; the model is then unchanged.
    """
    source = find_weights(weights, name, say)
    notes = list(source.notes)
    if is_siamese(source.tensors) and not is_siamese(model.state_dict()):
        source = dataclasses.replace(source, tensors=backbone_of(source.tensors))
        notes.append("of the pre-training run, only the backbone is loaded")
    state = model.state_dict()
    match = match_with_timm(source.tensors, state, model.backbone, notes)
    notes += match_first_layer(match, state, source.channels, channels)
    others = bool(classes) and classes_differ(source, weights, tuple(classes))
    headed = any(key.startswith("head.") for key in match.tensors)
    if fresh_head or (others and headed):
        own = {key: tensor for key, tensor in match.tensors.items() if key.startswith("backbone.")}
        match = dataclasses.replace(match, tensors=own)
        notes += [
            "the class names or their order differ from those of the weights: the head has new random weights"
        ] * others
    elif headed and classes and not source.classes and weights not in LIBRARY:
        notes.append(NO_CLASS_NAMES.format(what="head weights", cure=", or set --model.fresh_head true"))
    if coverage(match, state, "backbone.") < MIN_COVERAGE:
        other = source.model if source.model and source.model != name else guess_model(source.tensors, name, size)
        hint = (
            f"use the model of these weights: --model.name {other}"
            if other
            else "set --model.name to the model of these weights"
        )
        raise mismatch_error(match, state, source, name, "backbone.", hint)
    return copy_matched(match, model, source, notes)


def classes_differ(source: SourceWeights, weights: str, classes: tuple[str, ...]) -> bool:
    """Whether weights were trained on other classes than `classes`, or on the same classes in another order; False if
    unknown.

    A library's weights have no class names; their classes are taken to be the 1,000 WordNet ids of ImageNet, sorted.
    """
    if source.classes:
        return source.classes != classes
    ids = len(classes) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in classes)
    return weights in LIBRARY and not (ids and list(classes) == sorted(classes))


def copy_matched(match: Match, model: nn.Module, source: SourceWeights, notes: list[str]) -> LoadReport:
    """Copy the tensors of the file that match into the model, and report it. Raises SightlineError if one of them
    contains NaN or infinity; the model is then unchanged."""
    state = model.state_dict()
    require_finite(match.tensors, source.source)
    if match.stripped:
        notes.append(f"prefixes removed from tensor names: {', '.join(sorted(match.stripped))}")
    notes += cast_note(match.tensors, state)
    with torch.no_grad():
        for key, tensor in match.tensors.items():
            state[key].copy_(tensor)
    return LoadReport(
        matched=len(match.tensors),
        total=len(state),
        new=tuple(key for key in state if key not in match.tensors),
        ignored=tuple(key for key in source.tensors if key not in match.used),
        source=source.source,
        share=coverage(match, dict(model.named_parameters()), ""),
        notes=tuple(notes),
        sha256=source.sha256,
    )


def find_weights(weights: str, name: str, say: Say = lambda text: None) -> SourceWeights:
    """Read the weights that `model.weights` gives: `pretrained`, `imagenet`, a file, a run folder or a checkpoint
    folder."""
    if weights in LIBRARY:
        known = published(name)
        if weights == "imagenet":
            require_imagenet(known)
        return from_library(known, say)
    path = Path(expanded(weights))
    if path.is_dir():
        return from_folder(path)
    if path.name == "model.safetensors" and (path.parent / "config.json").is_file():
        return from_folder(path.parent)  # its config.json has the class names
    if not path.is_file():
        raise SightlineError(
            "the weights were not found",
            where=f"model.weights: {weights}",
            why="there is no file or folder with this path",
            cure=f"{nearest_path(path)}{nearest_hint(weights, LIBRARY)}; or use none, pretrained, or the path of a "
            ".safetensors or .pt file or of a run folder",
        )
    tensors, entry = read_tensors(path)
    notes = (f"read from the file's entry {entry!r}",) if entry else ()
    return SourceWeights(tensors, str(path), notes, sha256=file_digest(path))


def from_library(weights: Published, say: Say) -> SourceWeights:
    """Read the weights that a library publishes; see `downloads.library_file`."""
    path = library_file(weights, say=say)
    digest = file_digest(path)  # first, because a damaged file may have any content
    return SourceWeights(read_tensors(path)[0], weights.title, sha256=digest)


def weights_folder(folder: Path) -> Path | None:
    """The folder with model.safetensors: checkpoints/best or else checkpoints/last of a run, or `folder` itself;
    None if none has it."""
    choices = [folder / "checkpoints" / "best", folder / "checkpoints" / "last", folder]
    return next((path for path in choices if (path / "model.safetensors").is_file()), None)


def from_folder(folder: Path) -> SourceWeights:
    """Read the weights of a run folder (checkpoints/best, else checkpoints/last) or of a checkpoint folder."""
    path = weights_folder(folder)
    if path is None:
        raise SightlineError(
            "this folder contains no weights",
            where=str(folder),
            why="it has neither checkpoints/best/model.safetensors nor model.safetensors",
            cure="use the path of a run folder, a checkpoint folder or a weight file: --model.weights PATH",
        )
    tensors, _ = read_tensors(path / "model.safetensors")
    digest = file_digest(path / "model.safetensors")
    try:
        about = json.loads((path / "config.json").read_text(encoding="utf-8"))
        classes, name = tuple(about["classes"]), str(about["model"]["name"])
        channels = about.get("preprocessing", {}).get("channels") or {"names": RGB}
        return SourceWeights(tensors, str(path), (), classes, name, tuple(channels["names"]), digest)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        # config.json is needed only to compare the names of classes and channels.
        note = f"cannot read config.json of the weights ({type(error).__name__}): class names were not compared"
        return SourceWeights(tensors, str(path), (note,), sha256=digest)


def is_siamese(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors are from a pre-training run: only these have a projector."""
    return any(key.startswith("projector.") for key in tensors)


def backbone_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a pre-training run's online backbone, without projector, predictor and target network."""
    return {key: tensor for key, tensor in tensors.items() if key.startswith("backbone.")}


def match_with_timm(
    tensors: dict[str, Tensor],
    state: dict[str, Tensor],
    backbone: Any,
    notes: list[str],
    prefixes: tuple[str, ...] = (),
) -> Match:
    """`match_names`, of tensors that timm has converted for the backbone if more of them match then; this is added to
    the notes."""
    where = (prefixes,) if prefixes else ()
    match = match_names(tensors, state, *where)
    converted = match_names(timm_convention(tensors, backbone), state, *where)
    if len(converted.tensors) <= len(match.tensors):
        return match
    notes.append("converted by timm: position embeddings resized or old names replaced")
    used = {key for key in tensors if without_prefixes(key) in converted.used}
    return dataclasses.replace(converted, used=match.used | used, stripped=match.stripped)


def timm_convention(tensors: dict[str, Tensor], backbone: Any) -> dict[str, Tensor]:
    """Convert tensors of older weight files to the names and shapes of a timm backbone; {} if the backbone is not
    timm's.

    Uses timm's `checkpoint_filter_fn`, which most timm modules define but timm does not export. It also resamples
    position embeddings to the image size.
    """
    module = type(backbone).__module__
    convert = vars(sys.modules[module]).get("checkpoint_filter_fn") if module.startswith("timm.") else None
    if convert is None:
        return {}
    try:
        return dict(convert({without_prefixes(key): tensor for key, tensor in tensors.items()}, backbone))
    except Exception:  # tensors of another model, which are matched by name only
        return {}


def coverage(match: Match, state: dict[str, Tensor], prefix: str) -> float:
    """Fraction of the values of the model's floating-point tensors under `prefix` that matched tensors in the file."""
    sizes = {key: value.numel() for key, value in state.items() if key.startswith(prefix) and value.is_floating_point()}
    return sum(count for key, count in sizes.items() if key in match.tensors) / max(1, sum(sizes.values()))


def require_finite(tensors: dict[str, Tensor], source: str) -> None:
    """Raise SightlineError with the names of tensors that contain NaN or infinity."""
    numbers = {key: value for key, value in tensors.items() if value.is_floating_point()}
    # isfinite does not support float8.
    numbers = {key: value.float() if value.element_size() == 1 else value for key, value in numbers.items()}
    bad = [key for key, value in numbers.items() if not value.isfinite().all()]
    if bad:
        raise SightlineError(
            "the weights contain NaN or infinity",
            where=source,
            why=f"they are in {abbreviated(bad)}; the training of these weights probably diverged",
            cure="use an earlier checkpoint: --model.weights PATH",
        )


def cast_note(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """A list of one note for the user if the dtypes of the tensors in the file and in the model differ; else []."""
    kinds = {
        str(value.dtype).removeprefix("torch.") for key, value in tensors.items() if value.dtype != state[key].dtype
    }
    return [f"cast from {', '.join(sorted(kinds))}"] if kinds else []


def mismatch_error(
    match: Match, state: dict[str, Tensor], source: SourceWeights, name: str, prefix: str, hint: str
) -> SightlineError:
    """The SightlineError for weights of another model, with the first names under `prefix` that did not match."""
    part = "backbone" if prefix == "backbone." else "encoder"
    missing = [key for key in state if key.startswith(prefix) and key not in match.tensors]
    shapes = {key: (list(tensor.shape), list(state[key].shape)) for key, (_, tensor) in match.unequal.items()}
    missing = [
        "{} ({} in the file, {} in the model)".format(key, *shapes[key]) if key in shapes else key for key in missing
    ]
    unexpected = [key for key in source.tensors if key not in match.used]
    share = coverage(match, state, prefix)
    return SightlineError(
        f"these weights do not fit the model {name}: {f'{100 * share:.1f} %' if share else 'nothing'} of its {part} "
        "matched",
        where=source.source,
        why=f"tensors of the model without a match: {abbreviated(missing, 5)}\n"
        f"         tensors of the file without a match: {abbreviated(unexpected, 5)}",
        cure=f"{hint}, or train from random weights: --model.weights none",
    )


def guess_model(tensors: dict[str, Tensor], name: str, size: int) -> str:
    """The name of another model in MODELS that the tensors match, or "". Models are built on the meta device."""
    for other, build in MODELS.items():
        try:
            with torch.device("meta"):
                backbone = build(size=size) if other != name else torch.nn.Identity()
        except ValueError:  # does not support this size
            continue
        state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
        if coverage(match_names(tensors, state), state, "backbone.") >= MIN_COVERAGE:
            return other
    return ""


def abbreviated(items: list[str] | tuple[str, ...], limit: int = 6) -> str:
    """The first `limit` items on one line, and how many more there are."""
    more = f" and {len(items) - limit:,} more" if len(items) > limit else ""
    return (", ".join(items[:limit]) or "nothing") + more
