"""Crash-safe, checksummed, pickle-free checkpoints of a run.

 checkpoints/best, checkpoints/last   model.safetensors and config.json: the weights, usable without the run
 checkpoints/last                     state-0.safetensors, state-1.safetensors: two slots of the state for resumption

A save overwrites the older slot, so that the newest complete state is never modified. Each .safetensors file has its
SHA-256 in a file beside it (tensor_file.py).
"""

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import ENVIRONMENT, SightlineError
from .atomic import disk_error, finite, write_json
from .tensor_file import read_tensors, sidecar, write_tensors

FORMAT = 1
MODEL, CONFIG = "model.safetensors", "config.json"
SLOTS = ("state-0.safetensors", "state-1.safetensors")
PROGRESS_KEYS = ("epoch", "step", "metrics")  # these change with each save, and are stored with the weights
MARGIN_BYTES = 64 * 2**20


# --------------------------------------------------------------------------------------------------------- weights


def save_model(folder: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write `folder`/model.safetensors and config.json.

    description: the content of config.json, with the keys "format", "model", "classes", "preprocessing", "epoch",
    "step" and "metrics". The last three are stored in model.safetensors too. Thus a crash between the two writes cannot
    combine the weights of one epoch with the metrics of another. Raises SightlineError if a tensor is not finite
    (nothing is written) or the disk is full.
    """
    require_finite(tensors)
    progress = {key: description[key] for key in PROGRESS_KEYS if key in description}
    metadata = {"sightline": json.dumps(finite(progress)), "description": description_digest(finite(dict(description)))}
    write_tensors(folder / MODEL, tensors, metadata)
    write_json(folder / CONFIG, finite(dict(description)))


def load_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load (tensors by name, description) from a checkpoint folder, or from checkpoints/best of a run folder.

    The weights are compared with their SHA-256 in model.safetensors.sha256; if that file is missing, a warning is
    issued. description: the content of config.json, see `save_model`. Raises SightlineError if a file is missing or
    damaged.
    """
    folder = Path(path)
    if (folder / "checkpoints").is_dir():
        folder = folder / "checkpoints" / "best"
    cure = other_checkpoints(folder)
    if not (folder / MODEL).is_file():
        raise SightlineError(
            "there are no weights in this folder", where=str(folder / MODEL), why="this file does not exist", cure=cure
        )
    description = read_description(folder / CONFIG, cure)
    if not sidecar(folder / MODEL).is_file():
        warnings.warn(f"{folder / MODEL} has no .sha256 file beside it; its checksum was not verified", stacklevel=2)
    tensors, metadata = read_tensors(folder / MODEL, cure)
    if metadata.get("description", digest := description_digest(description)) != digest:
        why = (
            f"its checksum differs from the one in {folder / MODEL}: one of the two files was edited, replaced or "
            "damaged"
        )
        raise SightlineError(
            "the model description does not belong to the weights beside it",
            where=str(folder / CONFIG),
            why=why,
            cure=cure,
        )
    try:
        return tensors, description | dict(json.loads(metadata.get("sightline", "{}")))
    except (ValueError, TypeError, RecursionError) as error:  # possible without a .sha256 file
        where = str(folder / MODEL)
        raise SightlineError(
            "the metadata in the weights file is damaged", where=where, why=str(error), cure=cure
        ) from error


def description_digest(description: Mapping[str, Any]) -> str:
    """SHA-256 of the content of config.json without epoch, step and metrics. It is stored in the weights file, to
    detect a config.json of other weights."""
    lasting = {key: value for key, value in description.items() if key not in PROGRESS_KEYS}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()


def read_description(path: Path, cure: str) -> dict[str, Any]:
    """Read config.json. Raises SightlineError with `cure` if it is missing, damaged, or of a newer version."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SightlineError(
            "cannot read the model's description", where=str(path), why=str(error), cure=cure
        ) from error
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise SightlineError(
            "this is not the description of a model",
            where=str(path),
            why='it has no key "format" with a whole number',
            cure=cure,
        )
    require_format(description["format"], path)
    return description


@contextlib.contextmanager
def checked_description(folder: Path) -> Generator[dict[str, Any]]:
    """Context manager: yield the content of config.json in a checkpoint folder. A missing or mistyped field that is
    accessed within the block raises SightlineError."""
    cure = other_checkpoints(folder)
    try:
        yield read_description(folder / CONFIG, cure)
    except (KeyError, TypeError) as error:
        why = f"it has no key {error}" if isinstance(error, KeyError) else str(error)
        where = str(folder / CONFIG)
        raise SightlineError("the model's description is damaged", where=where, why=why, cure=cure) from error


def other_checkpoints(folder: Path) -> str:
    """The cure for an unusable checkpoint: the paths of the other checkpoints of the same run, if there are any."""
    others = [path.parent for path in folder.parent.glob(f"*/{MODEL}") if path.parent != folder]
    if others:
        return "use another checkpoint of this run: " + ", ".join(map(str, sorted(others)))
    return "pass a run folder or one of its checkpoint folders; if this folder is a copy, copy it again"


# -------------------------------------------------------------------------------------------- state for resumption


def save_state(folder: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> Path:
    """Write the state for resumption into the older of the two slots in `folder`; return the path of that file.

    tensors: by name. values: JSON values, such as the progress. Raises SightlineError if a tensor is not finite
    (nothing is written) or the disk is full (the existing states are unchanged).
    """
    require_finite(tensors)
    serials = [serial(folder / name) for name in SLOTS]
    path = folder / SLOTS[serials.index(min(serials))]
    metadata = {"format": str(FORMAT), "serial": str(max(serials) + 1), "values": json.dumps(values)}
    write_tensors(path, tensors, metadata)
    return path


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], str | None]:
    """Load the newest intact state for resumption: (tensors by name, JSON values, note).

    note: a sentence for the user if the other slot is damaged, else None. Both slots are read completely, because the
    serial number of a damaged slot may be wrong. Raises SightlineError if neither slot is intact.
    """
    folder = Path(folder)
    states: list[tuple[int, dict[str, Tensor], dict[str, Any], str]] = []
    faults: list[str] = []
    for name in SLOTS:
        if not (folder / name).exists():
            continue
        try:
            states.append((*read_state(folder / name), name))
        except SightlineError as fault:
            faults.append(f"{fault.what} ({fault.why})" if fault.why else fault.what)
    why = "; ".join(faults)
    if not states:
        cure = (
            "start a new run, which may begin with the weights of an intact checkpoint: sightline train RECIPE "
            "--data DATA --model.weights CHECKPOINT"
        )
        raise SightlineError(
            "there is no state to resume from", where=str(folder), why=why or "the folder has no state file", cure=cure
        )
    _, tensors, values, name = max(states, key=lambda state: state[0])
    return tensors, values, f"{why}; resumed from the other state, {name}" if faults else None


def read_state(path: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    """(serial number, tensors by name, JSON values) of one slot. Raises SightlineError if the slot is damaged."""
    if not sidecar(path).is_file():
        raise SightlineError(
            f"{path.name} cannot be verified", where=str(path), why=f"its checksum file {sidecar(path).name} is missing"
        )
    tensors, metadata = read_tensors(path)
    try:
        number, order, values = int(metadata["format"]), int(metadata["serial"]), json.loads(metadata["values"])
    except (KeyError, ValueError) as error:
        why = "its metadata has no format, serial number or values"
        raise SightlineError(f"{path.name} is not a saved training state", where=str(path), why=why) from error
    require_format(number, path)
    return order, tensors, values


def serial(path: Path) -> int:
    """The number of the save that wrote a slot (a higher number is newer); -1 if the file is missing or unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            return int((file.metadata() or {})["serial"])
    except Exception:  # an unreadable slot is the one to overwrite
        return -1


# ----------------------------------------------------------------------------------------- the optimizer as tensors


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state_dict() into named tensors and JSON values; inverse: `unflatten_optimizer`."""
    tensors: dict[str, Tensor] = {}
    return tensors, {"tree": encode(dict(state), "", tensors)}


def unflatten_optimizer(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> dict[str, Any]:
    """Rebuild the state_dict that `flatten_optimizer` split.

    The tensors get their original strides: fused optimizers iterate over raw memory, and would apply a contiguous
    momentum to the wrong elements of a channels_last weight.
    """
    return decode(values["tree"], tensors)


def encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Convert `value` to JSON types: tensors are moved to `tensors` under a name, mappings and tuples are tagged."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name, "stride": list(value.stride())}
    if isinstance(value, Mapping):
        return {"dict": [[key, encode(inner, f"{name}.{key}".strip("."), tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        items = [encode(inner, f"{name}.{index}", tensors) for index, inner in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    assert value is None or isinstance(value, bool | int | float | str), f"{name}: {type(value)} cannot be saved"
    return value


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Rebuild a value from the JSON types and tensors that `encode` made of it."""
    if isinstance(value, list):
        return [decode(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        source = tensors[value["tensor"]]
        return torch.empty_strided(source.shape, value["stride"], dtype=source.dtype).copy_(source)
    if "tuple" in value:
        return tuple(decode(inner, tensors) for inner in value["tuple"])
    return {key: decode(inner, tensors) for key, inner in value["dict"]}


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise SightlineError with the names of the tensors that contain NaN or infinity, so that they are not saved."""
    bad = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if bad:
        why = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        cure = (
            "the previous checkpoint is intact; start another run with a lower --optim.lr, or with --train.precision "
            "fp32"
        )
        raise SightlineError("the training state contains NaN or infinity and was not saved", why=why, cure=cure)


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite.

    The sum of the elements is tested first, which is 10 times as fast as `isfinite` of all elements. Only if the sum
    is not finite, which overflow can cause too, all elements are tested.
    """
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all())


def require_format(number: int, path: Path) -> None:
    """Raise SightlineError if a newer version of Sightline wrote `path`; number: the format version in that file."""
    if number > FORMAT:
        why = f"the file has format {number}; this version of Sightline reads formats up to {FORMAT}"
        raise SightlineError(
            "this file was written by a newer version of Sightline",
            where=str(path),
            why=why,
            cure="pip install -U sightline-vision",
        )


# ----------------------------------------------------------------------------------------------------- disk space


def total_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Size of the tensors in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def required_bytes(model: int, state: int, models: int = 2) -> int:
    """Largest disk space in bytes of a run's checkpoints: weights files, two states, one temporary file, and a
    margin. model, state: size in bytes of one weights file and of one state. models: number of weights files."""
    return models * model + 2 * state + max(model, state) + MARGIN_BYTES


def preflight(folder: Path, needed: int) -> None:
    """Raise SightlineError if the disk of `folder` has less than `needed` bytes free. The present checkpoints in the
    folder, which will be replaced, count as free space."""
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise disk_error(folder, error) from error
    held = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    if free + held < needed:
        volume = next(path for path in (existing, *existing.parents) if os.path.ismount(path))
        why = (
            f"the checkpoints of the run need {needed / 1e6:,.0f} MB, but only {(free + held) / 1e6:,.0f} MB are free "
            f"at {volume}"
        )
        cure = "free some space, or choose a folder on another disk: --out FOLDER"
        raise SightlineError(
            "the disk is too small for this run", where=str(folder), why=why, cure=cure, status=ENVIRONMENT
        )
