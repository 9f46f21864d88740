"""Checkpoints that survive kill -9, a full disk, a power cut and rotten bits, and in which nothing can execute.

checkpoints/best, checkpoints/last   model.safetensors + config.json: the weights, usable alone
checkpoints/last                     state-0.safetensors, state-1.safetensors: two slots for resumption

A save goes into the slot that is not the newest, so the newest acknowledged state is never touched. Every file of
tensors has its SHA-256 beside it (tensor_file.py).
"""

import contextlib
import hashlib
import json
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
MOMENT = ("epoch", "step", "metrics")  # what changes from save to save; it travels with the weights themselves
MARGIN_BYTES = 64 * 2**20


# ---------------------------------------------------------------------------------------------- weights to be used


def save_model(folder: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write `folder`/model.safetensors and config.json.

    description: what `config.json` holds: "format", "model", "classes", "preprocessing", and epoch, step and metrics.
    These three are stored in the weights' file too, so that a crash between the two files cannot mix them up.
    Raises SightlineError where a tensor is not finite (nothing is written then) or the disk is full.
    """
    require_finite(tensors)
    moment = {key: description[key] for key in MOMENT if key in description}
    metadata = {"sightline": json.dumps(finite(moment)), "description": description_digest(finite(dict(description)))}
    write_tensors(folder / MODEL, tensors, metadata)
    write_json(folder / CONFIG, finite(dict(description)))


def load_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and their description out of a checkpoint folder, or out of a run folder: its checkpoints/best.

    The weights are checked against their SHA-256; where no .sha256 lies beside them (they were copied without it)
    a warning says that they were not. Raises SightlineError for everything that is missing or damaged.
    """
    folder = Path(path)
    if (folder / "checkpoints").is_dir():
        folder = folder / "checkpoints" / "best"
    cure = alternative(folder)
    if not (folder / MODEL).is_file():
        raise SightlineError("there are no weights here", where=str(folder / MODEL), why="no such file", cure=cure)
    description = read_description(folder / CONFIG, cure)
    if not sidecar(folder / MODEL).is_file():
        warnings.warn(f"{folder / MODEL} has no .sha256 beside it; read unchecked", stacklevel=2)
    tensors, metadata = read_tensors(folder / MODEL, cure)
    if metadata.get("description", digest := description_digest(description)) != digest:
        why = f"its checksum in {folder / MODEL} is another: one was edited or copied from elsewhere, or a bit flipped"
        raise SightlineError(
            "the description is not that of these weights", where=str(folder / CONFIG), why=why, cure=cure
        )
    try:
        return tensors, description | dict(json.loads(metadata.get("sightline", "{}")))
    except (ValueError, TypeError, RecursionError) as error:  # one bit is enough, where no checksum lies beside it
        where = str(folder / MODEL)
        raise SightlineError("the weights' own header is damaged", where=where, why=str(error), cure=cure) from error


def description_digest(description: Mapping[str, Any]) -> str:
    """SHA-256 of what config.json says beside the moment: epoch, step and metrics are in the weights' file anyway."""
    lasting = {key: value for key, value in description.items() if key not in MOMENT}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()


def read_description(path: Path, cure: str) -> dict[str, Any]:
    """config.json; SightlineError where it is missing, torn, or of a newer format."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SightlineError(
            "cannot read the model's description", where=str(path), why=str(error), cure=cure
        ) from error
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise SightlineError("this is not a description of a model", where=str(path), why='no "format"', cure=cure)
    require_format(description["format"], path)
    return description


@contextlib.contextmanager
def description_of(folder: Path) -> Generator[dict[str, Any]]:
    """The description in a checkpoint's folder, to take fields out of; SightlineError where one is missing or wrong."""
    cure = alternative(folder)
    try:
        yield read_description(folder / CONFIG, cure)
    except (KeyError, TypeError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        where = str(folder / CONFIG)
        raise SightlineError("the model's description is damaged", where=where, why=why, cure=cure) from error


def alternative(folder: Path) -> str:
    """The cure for an unusable checkpoint: the run's other ones, where there are any."""
    others = [path.parent for path in folder.parent.glob(f"*/{MODEL}") if path.parent != folder]
    if others:
        return "use another checkpoint of this run: " + ", ".join(map(str, sorted(others)))
    return "name a run folder, or one of its folders in checkpoints/; copy it again if it came from elsewhere"


# ----------------------------------------------------------------------------------------------- state for resuming


def save_state(folder: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> Path:
    """Write everything for resumption into the slot of `folder` that is not the newest; returns its path.

    values: whatever JSON can hold. Raises SightlineError where a tensor is not finite (nothing is written then) or
    the disk is full (the states that were there stand).
    """
    require_finite(tensors)
    serials = [serial(folder / name) for name in SLOTS]
    path = folder / SLOTS[serials.index(min(serials))]
    metadata = {"format": str(FORMAT), "serial": str(max(serials) + 1), "values": json.dumps(values)}
    write_tensors(path, tensors, metadata)
    return path


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], str | None]:
    """Tensors and values of the newest state that verifies, and a sentence for the user where one does not.

    Both slots are read: a flipped bit may sit in the very number that says which is the newer. Raises
    SightlineError where no state is whole.
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
        cure = "begin a new run; weights that are whole can start it: --model.weights CHECKPOINT"
        raise SightlineError(
            "there is no state to resume from", where=str(folder), why=why or "no such file", cure=cure
        )
    _, tensors, values, name = max(states, key=lambda state: state[0])
    return tensors, values, f"{why}; going on from the other state, {name}" if faults else None


def read_state(path: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    """Serial number, tensors and values of one slot; SightlineError where they cannot be verified."""
    if not sidecar(path).is_file():
        raise SightlineError(f"{path.name} cannot be verified", where=str(path), why=f"no {sidecar(path).name}")
    tensors, metadata = read_tensors(path)
    try:
        number, order, values = int(metadata["format"]), int(metadata["serial"]), json.loads(metadata["values"])
    except (KeyError, ValueError) as error:
        raise SightlineError(f"{path.name} is not a state of Sightline's", where=str(path)) from error
    require_format(number, path)
    return order, tensors, values


def serial(path: Path) -> int:
    """The number of the save that wrote a slot; -1 where it is missing or unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            return int((file.metadata() or {})["serial"])
    except Exception:  # whatever is wrong with it, it is the slot to overwrite
        return -1


# ----------------------------------------------------------------------------------------- the optimizer as tensors


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state_dict() as named tensors and JSON values; `unflatten_optimizer` is the exact inverse."""
    tensors: dict[str, Tensor] = {}
    return tensors, {"tree": encode(dict(state), "", tensors)}


def unflatten_optimizer(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> dict[str, Any]:
    """The state_dict that `flatten_optimizer` took apart, for `load_state_dict`.

    Tensors get their strides back: fused optimizers walk raw memory, so that a contiguous momentum beside a
    channels_last weight would be applied to the wrong elements.
    """
    return decode(values["tree"], tensors)


def encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` in JSON's types; tensors move to `tensors`, mappings and tuples are marked as such."""
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
    """The inverse of `encode`."""
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
    """SightlineError that names the tensors with NaN or infinity: such a checkpoint is never written."""
    bad = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if bad:
        why = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        cure = "the checkpoint before stands; try a lower learning rate (--optim.lr), or --train.precision fp32"
        raise SightlineError("the state holds NaN or infinity; it was not saved", why=why, cure=cure)


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite. A sum says so 10 times faster than isfinite; it may overflow, though."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all())


def require_format(number: int, path: Path) -> None:
    """SightlineError where a newer Sightline wrote `path`."""
    if number > FORMAT:
        why = f"it has format {number}, this version knows {FORMAT}"
        raise SightlineError(
            "a newer Sightline wrote this", where=str(path), why=why, cure="pip install -U sightline-vision"
        )


# ---------------------------------------------------------------------------------------------------- room on disk


def total_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes that tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def required_bytes(model: int, state: int, models: int = 2) -> int:
    """Bytes that a run's checkpoints take at most: `models` models, two states, a temporary file, and a margin.

    model, state: bytes of one model and of one state.
    """
    return models * model + 2 * state + max(model, state) + MARGIN_BYTES


def preflight(folder: Path, needed: int) -> None:
    """SightlineError where the disk below `folder` has less than `needed` bytes free, counting files to be replaced."""
    folder = Path(folder).absolute()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise disk_error(folder, error) from error
    held = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    if free + held < needed:
        volume = next(path for path in (place, *place.parents) if path.is_mount())
        why = f"its checkpoints need {needed / 1e6:,.0f} MB; {(free + held) / 1e6:,.0f} MB are free at {volume}"
        cure = "free some space, or choose another place with --out"
        raise SightlineError(
            "the disk is too small for this run", where=str(folder), why=why, cure=cure, status=ENVIRONMENT
        )
