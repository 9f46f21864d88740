"""Read and write .safetensors files with a checksum file, because the format itself does not detect flipped bits.

NAME.sha256 has the format of `sha256sum -c`. While NAME is being replaced, NAME.sha256 has the checksums of both the
old and the new file. After a crash, either file therefore passes the check.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import SightlineError
from .atomic import WINDOWS, atomic_write, sha256

MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit
OTHER_FORMATS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the weights: run `git lfs pull`",
    b"<": "is a web page, not weights",
    b"PK\x03\x04": "is a PyTorch or zip file, not safetensors",
    b"\x80": "is a pickle, which could run code, not safetensors",
}
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class HashingWriter:
    """Binary file that updates a SHA-256 with everything written, so that the file need not be read again."""

    def __init__(self, file: IO[bytes]):
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, content: bytes | memoryview) -> None:
        self.sha256.update(content)
        self.file.write(content)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a .safetensors file NAME and its checksum NAME.sha256, so that the two match even after a crash.

    Tensors are copied to the CPU one at a time; views and tied tensors are written in full. The safetensors library
    writes the same layout, but its writer needs memory for a second copy of the whole file.
    """
    header, order = layout(tensors, metadata)
    new: list[str] = []
    size = len(header) + sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def content(file: IO[bytes]) -> None:
        hashing = HashingWriter(file)
        hashing.write(header)
        for name in order:
            hashing.write(tensor_bytes(tensors[name]))
        new.append(f"{hashing.sha256.hexdigest()}  {path.name}\n")
        old = sidecar(path).read_bytes() if sidecar(path).is_file() else b""
        # Before this function returns and `path` is replaced.
        atomic_write(sidecar(path), old + new[0].encode(), size)

    atomic_write(path, content, size)
    atomic_write(sidecar(path), new[0])


def layout(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> tuple[bytes, list[str]]:
    """Header of a .safetensors file (length in 8 bytes, then JSON), and the tensors' names in file order."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # keeps the tensors aligned
    entries: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name in order:
        tensor = tensors[name]
        assert tensor.dtype in DTYPES, f"{name}: {tensor.dtype} cannot be saved"
        end = start + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, order


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Bytes of a tensor in row-major order."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())


def read_tensors(path: Path, cure: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a .safetensors file; return (tensors by name, metadata). If NAME.sha256 exists, its checksum is compared
    first.

    The tensors are memory-mapped: copy them before the file is modified in place (Sightline only replaces files).
    Windows replaces no mapped file; there they are copied.
    Raises SightlineError if the file is empty, truncated, of another format, or differs from its checksum. cure: what
    the error message suggests to do.
    """
    try:
        checked = sidecar(path).is_file()
        good = checked and sha256(path) in sidecar(path).read_text(encoding="ascii", errors="replace").split()
        fault = "" if good else find_fault(path)
        if checked and not good:
            fault = f"does not match its checksum: it {fault or 'was modified or damaged'}"
        if fault:
            raise SightlineError(f"{path.name} {fault}", where=str(path), cure=cure)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        return {name: tensor.clone() for name, tensor in tensors.items()} if WINDOWS else tensors, metadata
    except SightlineError:
        raise
    except Exception as error:  # the library raises many types
        raise SightlineError(f"{path.name} cannot be read", where=str(path), why=str(error), cure=cure) from error


def find_fault(path: Path) -> str:
    """Why a file is not a complete .safetensors file, such as "is empty"; an empty text if it is complete."""
    size = path.stat().st_size
    if not size:
        return "is empty"
    with open(path, "rb") as file:
        head = file.read(64)
        length = int.from_bytes(head[:8], "little")
        if head[8:9] != b"{" or length > MAX_HEADER_BYTES:
            known = next((text for mark, text in OTHER_FORMATS.items() if head.lstrip().startswith(mark)), "")
            return known or "is not a safetensors file"
        if length > size - 8:
            return f"ends early: {size:,} of more than {length:,} bytes"
        file.seek(8)
        text = file.read(length)
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(text).items() if name != "__metadata__"]
        end = 8 + length + max(ends, default=0)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return "has a damaged header"
    return f"ends early: {size:,} of {end:,} bytes" if size < end else ""


def sidecar(path: Path) -> Path:
    """Path of the checksum file of `path`: `path` with .sha256 appended."""
    return path.with_name(path.name + ".sha256")
