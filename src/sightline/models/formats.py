"""Read tensors from weight files that are not trusted, and match their names with those of a model. Code in a file
is never executed, and sizes are checked before tensors are read."""

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import SightlineError

ZIP = b"PK\x03\x04"
"""First bytes of files of torch.save since torch 1.6."""

LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""First bytes of files of torch.save before torch 1.6."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
"""Prefixes that DataParallel, torch.compile and training programs add to the names of tensors."""

UNSAFE = "the weight file is not safe to load"

CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net")
"""Keys under which training programs save the weights in a checkpoint dictionary."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read a safetensors or torch.save file: (tensors by name, key in the checkpoint dictionary under which they were,
    or "").

    The format is detected from the contents, not from the file name. Raises SightlineError for other formats, for
    truncated files, for files with code, and for tensors that are larger than their data.
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
        raise unknown_format_error(path, head, size)
    tensors, entry = find_tensors(loaded, path)
    for name, tensor in tensors.items():
        check_tensor(name, tensor, path)
    return tensors, entry


def weight_file_error(path: Path, what: str, why: str, cure: str = "download or copy the file again") -> SightlineError:
    """The error for a weight file that cannot be used."""
    return SightlineError(what, where=str(path), why=why, cure=cure)


def unknown_format_error(path: Path, head: bytes, size: int) -> SightlineError:
    """The SightlineError for a file that is neither safetensors nor torch.save; it names the format if known. head:
    the first bytes of the file, by which its format is recognized."""
    start = head.lstrip().lower()
    if size == 0:
        return weight_file_error(path, "the weight file is empty", "it has 0 bytes")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return weight_file_error(
            path, "the weight file is a web page", "the server sent a page, often an error page, instead of the file"
        )
    if start.startswith(b"version https://git-lfs"):
        why = "Git stored only a pointer; the content was not downloaded"
        return weight_file_error(
            path, "the weight file is a Git LFS pointer", why, "run `git lfs pull` in its repository"
        )
    if head.startswith(b"\x80"):
        why = "it is a plain pickle file, and reading a pickle can run code"
        return weight_file_error(
            path,
            "the weight file is not in a safe format",
            why,
            "save the weights again: torch.save(model.state_dict(), FILE)",
        )
    if head[:64].isascii() and head[:64].decode("ascii").replace("\n", " ").isprintable():
        return weight_file_error(
            path, "the weight file is a text file", f"it begins with {head[:40].decode('ascii', 'replace')!r}"
        )
    why = f"it begins with the bytes {head[:8].hex(' ')}"
    return weight_file_error(
        path, "the weight file has an unknown format", why, "use a .safetensors file or a file of torch.save"
    )


def check_zip(path: Path, size: int) -> None:
    """Raise SightlineError for a zip archive that is truncated, or has compressed records or unsafe record names.
    torch.save does not compress records. Compressed ones could be decompression bombs."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        why = f"it has {size:,} bytes, and the zip directory at its end is missing or damaged"
        raise weight_file_error(path, "the weight file is truncated", why) from error
    names = [entry.filename for entry in entries]
    compressed = next((entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED), None)
    unsafe = next((name for name in names if name.startswith("/") or "\\" in name or ".." in name.split("/")), None)
    if compressed is not None:
        raise weight_file_error(path, UNSAFE, f"its record {compressed!r} is compressed, which torch.save never does")
    if sum(entry.file_size for entry in entries) > size:
        raise weight_file_error(path, UNSAFE, f"its records add up to more than its {size:,} bytes")
    if unsafe is not None or len(set(names)) < len(names):
        raise weight_file_error(path, UNSAFE, "its records have duplicate names or paths outside the archive")
    if not any(name.endswith("/data.pkl") for name in names):
        why = f"it is a zip archive of other files, such as {names[0]!r}" if names else "it is an empty zip archive"
        raise weight_file_error(
            path, "the weight file has an unknown format", why, "use a .safetensors file or a file of torch.save"
        )


def load_restricted(path: Path) -> Any:
    """torch.load with `weights_only=True`: functions named in the file are neither imported nor called. Raises
    SightlineError for files with code or other Python objects, and for damaged files."""
    try:
        with warnings.catch_warnings():
            # torch warns about types of tensors, such as sparse ones, that check_tensor rejects.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|REDUCE|global:?) ([\w.]+\.[\w.]+)", str(error))
        what = named.group(1) if named else str(error).splitlines()[0]
        raise weight_file_error(
            path,
            "the weight file contains more than tensors",
            f"loading its Python objects ({what}) could run code",
            "if you trust the file, load it in a sandbox and save the weights: torch.save(model.state_dict(), FILE)",
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise weight_file_error(path, "the weight file is damaged or truncated", str(error).split("\n")[0]) from error


def load_safetensors(path: Path, size: int) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises SightlineError for damaged and truncated files."""
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        need = safetensors_size(path)
        if need > size:
            why = f"it has {size:,} of {need:,} bytes"
            raise weight_file_error(path, "the weight file is truncated", why) from error
        raise weight_file_error(path, "the weight file is damaged", str(error)) from error


def safetensors_size(path: Path) -> int:
    """The minimum size in bytes of a safetensors file by its header; by the header's length if damaged."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, 100_000_000))
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return 8 + length


def find_tensors(loaded: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    """Find the dictionary of tensors in a loaded object: (tensors by name, the keys that lead to it, such as "a.b").
    Nested dictionaries are searched under the keys in CONTAINERS. Raises SightlineError if there is none."""
    entries: list[str] = []
    while isinstance(loaded, dict):
        entry = next((key for key in CONTAINERS if isinstance(loaded.get(key), dict)), None)
        if entry is None:
            break
        entries.append(entry)
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
        raise weight_file_error(path, "the weight file has no dictionary of tensors", f"it contains {found}", cure)
    return tensors, ".".join(entries)


def check_tensor(name: str, tensor: Tensor, path: Path) -> None:
    """Raise SightlineError for sparse, quantized, complex and meta tensors, and for tensors larger than their data."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        raise weight_file_error(path, UNSAFE, f"{name} is not a dense tensor of real numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        shape = list(tensor.shape)
        raise weight_file_error(path, UNSAFE, f"{name} has the shape {shape} but fewer values in its storage")


RGB = ("red", "green", "blue")
"""Names of the channels of the images for which published weights are."""

BANDS = {"b2": "blue", "b02": "blue", "b3": "green", "b03": "green", "b4": "red", "b04": "red"}
"""The colors among the bands of Sentinel-2 and Landsat 8."""


@dataclass(frozen=True)
class Match:
    """Which tensors of a file match those of a model; the result of `match_names`.

    tensors: the matched tensors, by their names in the model. used: their names in the file. stripped: prefixes that
    were removed from names in the file. unequal: tensors whose names match but whose shapes differ, by the name in the
    model: (name in the file, tensor).
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    stripped: set[str] = field(default_factory=set)
    unequal: dict[str, tuple[str, Tensor]] = field(default_factory=dict)


def name_variants(key: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the names that a tensor may have in the model: (name, removed prefixes). The first is the full name;
    each next one has one more of the known PREFIXES removed."""
    stripped: tuple[str, ...] = ()
    if "._orig_mod." in key:
        key, stripped = key.replace("._orig_mod.", "."), ("_orig_mod.",)
    yield key, stripped
    while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), None):
        key, stripped = key.removeprefix(prefix), (*stripped, prefix)
        yield key, stripped


def without_prefixes(key: str) -> str:
    """The name of a tensor after removal of all known PREFIXES."""
    return list(name_variants(key))[-1][0]


def match_names(
    tensors: dict[str, Tensor], state: dict[str, Tensor], prefixes: tuple[str, ...] = ("", "backbone.")
) -> Match:
    """Match the tensors of a file with those of a model by name, shape and kind of dtype.

    tensors: those of the file. state: those of the model. prefixes: each is put before the names in the file, in this
    order, to find a name of the model. If several tensors match the same name, the first is used.
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
            match.unequal[target] = (key, tensor)
    return match


def match_first_layer(
    match: Match, state: dict[str, Tensor], given: tuple[str, ...], wanted: tuple[str, ...]
) -> list[str]:
    """If the weights are for images with other channels, add the `widened` first layer to `match`, in place; returns a
    note for the user, or [].

    The first layer is the first convolution of the model's `state` with as many input channels as the images. given,
    wanted: names of the channels of the weights and of the new images.
    """
    first = next((key for key, value in state.items() if value.ndim == 4 and value.shape[1] == len(wanted)), "")
    name, tensor = match.unequal.get(first, ("", match.tensors.get(first)))
    if given == wanted or tensor is None or tensor.ndim != 4 or tensor.shape[1] != len(given):
        return []
    wider = widened(tensor, given, wanted)
    if wider.shape != state[first].shape:
        return []
    match.tensors[first] = wider
    match.used.add(name)
    names = {color_of(one) for one in given}
    kept, others = (", ".join(one for one in wanted if (color_of(one) in names) == same) for same in (True, False))
    parts = [f"{kept} keep their weights"] * bool(kept) + [f"{others} get the mean of {', '.join(given)}"] * bool(
        others
    )
    scale = f"; all times {len(given)} / {len(wanted)}" if len(given) != len(wanted) else ""
    return [f"first layer: {', '.join(parts)}{scale}"]


def widened(weight: Tensor, given: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """Convert the weights [O, C, h, w] of a first layer from the channels `given` to the channels `wanted`.

    A channel with a known name keeps its weights, any other gets the mean over all given channels. All are multiplied
    by len(given) / len(wanted), so that the outputs keep their scale: for images whose channels are all equal they do
    not change. BANDS are known by their colors.
    """
    mean, known = weight.mean(1), [color_of(name) for name in given]
    planes = [weight[:, known.index(color)] if (color := color_of(name)) in known else mean for name in wanted]
    return torch.stack(planes, 1) * (len(given) / len(wanted))


def color_of(name: str) -> str:
    """The name of a channel in lower case; of BANDS, the color."""
    return BANDS.get(name.lower(), name.lower())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors by name, on any device: of their names, types, shapes and values, such as those of
    `model.backbone.state_dict()`. It identifies what a network computes better than the file from which it was loaded,
    of which a model of another size or head loads other parts."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
