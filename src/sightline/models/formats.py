"""Reads tensors out of files that nobody vouches for, and pairs their names with a model's.

Nothing in a file is executed, and sizes are checked beforehand.
"""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import SightlineError

ZIP = b"PK\x03\x04"
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""How files of torch.save begin since torch 1.6, and before."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
"""What DataParallel, torch.compile and training programs put before the names of tensors."""

CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net")
"""Entries under which training programs keep the weights in a larger checkpoint."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a safetensors file or of a torch.save file, by name, and the entry of the file they stood in ("").

    The format is told by the content, not by the file's name. Raises SightlineError for anything else, for a file
    that ends early, and for one that holds code or claims more than it holds.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(ZIP):
        check_zip(path, size)
        loaded = load_restricted(path)
    elif head.startswith(LEGACY):
        loaded = load_restricted(path)
    elif head[8:9] == b"{":
        loaded = load_safetensors(path, size)
    else:
        raise unrecognized(path, head, size)
    tensors, entry = find_tensors(loaded, path)
    for name, tensor in tensors.items():
        check_tensor(name, tensor, path)
    return tensors, entry


def weight_file_error(
    path: Path, what: str, why: str, cure: str = "get the file anew from where it came"
) -> SightlineError:
    """The error for a weight file that is not read."""
    return SightlineError(what, where=str(path), why=why, cure=cure)


def unrecognized(path: Path, head: bytes, size: int) -> SightlineError:
    """The error for a file that holds no weights, as precise as its first bytes allow."""
    start = head.lstrip().lower()
    if size == 0:
        return weight_file_error(path, "the weight file is empty", "it has 0 bytes")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return weight_file_error(
            path, "the weight file is a web page", "the download link led to a page, not to the file"
        )
    if start.startswith(b"version https://git-lfs"):
        why = "it is a Git LFS pointer; the content was not fetched"
        return weight_file_error(
            path, "the weight file is only a pointer", why, "run `git lfs pull` in that repository"
        )
    if head.startswith(b"\x80"):
        why = "it is a plain pickle, which runs code when it is read; refused"
        return weight_file_error(
            path, "the weight file is not in a safe format", why, "save it with torch.save(model.state_dict(), FILE)"
        )
    if head[:64].isascii() and head[:64].decode("ascii").replace("\n", " ").isprintable():
        return weight_file_error(
            path, "the weight file is a text", f"it begins with {head[:40].decode('ascii', 'replace')!r}"
        )
    why = f"it begins with the bytes {head[:8].hex(' ')}"
    return weight_file_error(
        path, "the weight file has an unknown format", why, "give a .safetensors file or one of torch.save"
    )


def check_zip(path: Path, size: int) -> None:
    """Refuse archives that end early, that hold compressed records (bombs), or whose names are not plain."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        why = f"it has {size:,} bytes, and the table of contents at its end is missing or damaged"
        raise weight_file_error(path, "the weight file ends early", why) from error
    names = [entry.filename for entry in entries]
    packed = next((entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED), None)
    odd = next((name for name in names if name.startswith("/") or "\\" in name or ".." in name.split("/")), None)
    if packed is not None:
        raise weight_file_error(
            path, "the weight file is refused", f"its record {packed!r} is compressed; torch.save never does that"
        )
    if sum(entry.file_size for entry in entries) > size:
        raise weight_file_error(path, "the weight file is refused", f"it claims to hold more than its {size:,} bytes")
    if odd is not None or len(set(names)) < len(names):
        raise weight_file_error(
            path, "the weight file is refused", "its records have repeated names or names that leave the archive"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        why = f"it is a zip archive of other things, such as {names[0]!r}" if names else "it is an empty zip archive"
        raise weight_file_error(
            path, "the weight file has an unknown format", why, "give a file of torch.save or a .safetensors file"
        )


def load_restricted(path: Path) -> Any:
    """torch.load by its allow-list of types: names of functions in the file are never imported or called."""
    try:
        with warnings.catch_warnings():
            # torch warns of kinds of tensors (sparse ones) that check_tensor refuses afterwards.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|REDUCE|global:?) ([\w.]+\.[\w.]+)", str(error))
        what = named.group(1) if named else str(error).splitlines()[0]
        raise weight_file_error(
            path,
            "the weight file holds more than tensors, and is refused",
            f"it holds code or Python objects ({what}), which are never run",
            "if you trust it, load it in a sandbox of your own and save only torch.save(model.state_dict(), FILE)",
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise weight_file_error(path, "the weight file is damaged or ends early", str(error).split("\n")[0]) from error


def load_safetensors(path: Path, size: int) -> dict[str, Tensor]:
    """All tensors of a safetensors file; SightlineError says how much is missing where it ends early."""
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        need = safetensors_size(path)
        if need > size:
            raise weight_file_error(path, "the weight file ends early", f"it has {size:,} of {need:,} bytes") from error
        raise weight_file_error(path, "the weight file is damaged", str(error)) from error


def safetensors_size(path: Path) -> int:
    """How many bytes the file should have at least by its own table of contents, as far as that can be read."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        table = file.read(min(length, 100_000_000))
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(table).items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return 8 + length


def find_tensors(loaded: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    """The dictionary of tensors in what a file held, and the entries ("a.b") that were opened to find it."""
    opened: list[str] = []
    while isinstance(loaded, dict):
        entry = next((key for key in CONTAINERS if isinstance(loaded.get(key), dict)), None)
        if entry is None:
            break
        opened.append(entry)
        loaded = loaded[entry]
    tensors = (
        {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
        if isinstance(loaded, dict)
        else {}
    )
    if not tensors:
        found = (
            f"entries {', '.join(map(repr, list(loaded)[:5]))}" if isinstance(loaded, dict) else type(loaded).__name__
        )
        cure = "save the weights with torch.save(model.state_dict(), FILE)"
        raise weight_file_error(path, "the weight file holds no tensors by name", f"it holds {found}", cure)
    return tensors, ".".join(opened)


def check_tensor(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse tensors that are larger than the numbers stored for them, and layouts that weights never have."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        raise weight_file_error(path, "the weight file is refused", f"{name} is not a plain dense tensor")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        shape = list(tensor.shape)
        raise weight_file_error(
            path, "the weight file is refused", f"{name} claims the shape {shape} but stores fewer numbers"
        )


@dataclass(frozen=True)
class Match:
    """Which tensor goes where: `tensors` by the model's names, the file's names in `used`, prefixes in `stripped`."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    stripped: set[str] = field(default_factory=set)
    shapes: dict[str, str] = field(default_factory=dict)
    """By the model's name: a sentence on shapes that differ."""


def name_variants(key: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The name itself, then without each further known prefix, with the prefixes taken off so far."""
    stripped: tuple[str, ...] = ()
    if "._orig_mod." in key:
        key, stripped = key.replace("._orig_mod.", "."), ("_orig_mod.",)
    yield key, stripped
    while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), None):
        key, stripped = key.removeprefix(prefix), (*stripped, prefix)
        yield key, stripped


def without_prefixes(key: str) -> str:
    """The name without any known prefix."""
    return list(name_variants(key))[-1][0]


def match_names(
    tensors: dict[str, Tensor], state: dict[str, Tensor], prefixes: tuple[str, ...] = ("", "backbone.")
) -> Match:
    """Pair the file's tensors with the model's of the same name and shape; the first of two that fit wins.

    prefixes: what the model may have before the file's names, the likeliest first.
    """
    match = Match()
    for key, tensor in tensors.items():
        for spelling, stripped in name_variants(key):
            target = next((prefix + spelling for prefix in prefixes if prefix + spelling in state), None)
            if target is None or target in match.tensors:
                continue
            wanted = state[target]
            if tensor.shape == wanted.shape and tensor.is_floating_point() == wanted.is_floating_point():
                match.tensors[target] = tensor
                match.used.add(key)
                match.stripped.update(stripped)
                break
            match.shapes[target] = f"{list(tensor.shape)} in the file, {list(wanted.shape)} in the model"
    return match
