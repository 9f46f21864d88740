"""Preprocessing of the weights' own: the numbers in place of settings that stand for them."""

import json
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from ...config.paths import NO_PATH, expanded
from ...config.resolve import resolve
from ...config.schema import Config
from ...errors import SightlineError
from ..segmenters import pretrained_encoder
from ..weights import weights_folder
from .downloads import library_file
from .published import published

C = TypeVar("C", bound=Config)

MARKS = {"data.size": 0, "data.fit": "pretrained", "data.eval_crop": 0, "data.filter": "pretrained"}
"""Settings and the value that stands for that of the weights. `augment.normalize pretrained` stands for numbers in
`augment.mean` and `augment.std`, unless these are given."""

DEFAULTS = {"data.size": 224, "data.fit": "squash", "data.eval_crop": 1, "data.filter": "bilinear"}
"""Values that do not depend on weights, for the error and for commands without a model."""


def with_own_preprocessing(config: C) -> tuple[C, str]:
    """The configuration with the numbers of the weights in place of MARKS and `augment.normalize pretrained`, and a
    line on these numbers for the log, "" without any.

    The weights are the run folder in `model.weights`, else those that the library publishes for the model, also if
    others, such as a file, are loaded. Raises SightlineError if the preprocessing of the weights is unknown.
    """
    wanted = [key for key, mark in MARKS.items() if attrgetter(key)(config) == mark]
    if config.augment.normalize == "pretrained" and not config.augment.mean:
        wanted += ["augment.mean", "augment.std"]
    if not wanted:
        return config, ""
    title, known = own_preprocessing(config)
    missing = [key for key in wanted if key not in known]
    if missing:
        cure = " ".join(f"--{key} {DEFAULTS[key]}" for key in missing if key in DEFAULTS)
        cure += " --augment.normalize imagenet (or dataset, for weights of other data)" * ("augment.mean" in missing)
        what = f"the preprocessing of these weights is unknown: {', '.join(missing)}"
        raise SightlineError(what, where=title, cure=f"set it, for example: {cure.strip()}")
    values = {key: known[key] for key in wanted}
    shown = ", ".join(f"{key} {value}" for key, value in values.items())
    return resolve(config, values), f"preprocessing of {title}: {shown}"


def without_own_preprocessing(config: C) -> C:
    """The configuration with DEFAULTS in place of MARKS, for commands without a model."""
    return resolve(config, {key: DEFAULTS[key] for key, mark in MARKS.items() if attrgetter(key)(config) == mark})


def own_preprocessing(config: Config) -> tuple[str, dict[str, Any]]:
    """The preprocessing of the weights with which a run starts: (their origin, dotted settings -> values)."""
    model = config.model
    path = Path(expanded(model.weights))
    path = path.parent if path.name == "model.safetensors" and of_checkpoint(path.parent) else path
    folder = weights_folder(path) if model.weights not in NO_PATH else None
    if folder is not None:
        return str(folder), of_checkpoint(folder)
    name = pretrained_encoder(model.name, dict(model.args)) or model.name
    weights = published(name)
    if weights.preprocessing is not None:
        return weights.title, weights.preprocessing
    if model.weights not in ("imagenet", "pretrained"):  # smp states it in a file on the hub
        return weights.title, {}
    described = json.loads(library_file(weights, "config.json").read_text(encoding="utf-8"))
    return weights.title, {"augment.mean": described["mean"], "augment.std": described["std"]}


def of_checkpoint(folder: Path) -> dict[str, Any]:
    """The preprocessing in config.json of a checkpoint; {} if it cannot be read."""
    names = {"data.size": "size", "data.fit": "fit", "data.eval_crop": "eval_crop", "data.filter": "resize"}
    names |= {"augment.mean": "mean", "augment.std": "std"}
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))["preprocessing"]
        return {key: about[name] for key, name in names.items() if name in about}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
