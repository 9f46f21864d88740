"""Hostile weight files: code in pickles, decompression bombs, impossible shapes, and files of other types."""

import contextlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from reliability.contract import Outcome, Row, Settings
from reliability.trials import peak_bytes, reset_peak, run_trials
from sightline.errors import SightlineError
from sightline.models import formats, weights
from sightline.runs import checkpoint

SECTION = "Hostile input"
FIXED_BYTES = 4 << 20
"""Memory that reading may need beyond twice the file size, after an intact file has been read in the same process."""


class Gadget:
    """Object whose unpickling calls `call(*arguments)`."""

    def __init__(self, call: Callable[..., Any], *arguments: object):
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call, self.arguments


def gadgets(trace: Path) -> dict[str, Gadget]:
    """By name, objects whose unpickling creates `trace`, by calls that are typical of malicious pickles."""
    touch = f"open({str(trace)!r}, 'w').close()"
    return {
        "os.system": Gadget(os.system, f"touch {trace}"),
        "eval": Gadget(eval, touch),
        "exec": Gadget(exec, touch),
        "Path.touch": Gadget(Path.touch, trace),
        "open": Gadget(open, str(trace), "w"),
        "os.mkdir": Gadget(os.mkdir, str(trace)),
        "getattr": Gadget(getattr, Gadget(__import__, "os"), "system"),
    }


def torch_saved(content: object, legacy: bool = False) -> bytes:
    """The bytes that torch.save writes, in the zip or the legacy format."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def repacked(content: bytes, change: Callable[[str, bytes], list[tuple[str, bytes, int]]]) -> bytes:
    """A zip archive in which `change` maps each record to a list of records (name, content, compression)."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            for new, record, compression in change(name, source.read(name)):
                archive.writestr(new, record, compress_type=compression)
    return target.getvalue()


def safetensors(header: object, payload: bytes = b"", length: int = -1) -> bytes:
    """A safetensors file with any header, and a wrong header length if `length` is given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length < 0 else length) + text + payload


def hostile_files(trace: Path) -> dict[str, bytes]:
    """By name, files that no reader may load, execute, or expand in memory."""
    plain = {"backbone.weight": torch.ones(20_000)}
    files: dict[str, bytes] = {}
    for name, gadget in gadgets(trace).items():
        files[f"zip with {name}"] = torch_saved({**plain, "payload": gadget})
        files[f"legacy with {name}"] = torch_saved({**plain, "payload": gadget}, legacy=True)
        files[f"pickle with {name}"] = pickle.dumps({"weight": gadget})
        for protocol in (0, 4):
            files[f"pickle {protocol} with {name}"] = pickle.dumps({"weight": gadget}, protocol)
        objects = io.BytesIO()
        np.save(objects, np.array([gadget], dtype=object), allow_pickle=True)
        files[f"npy with {name}"] = objects.getvalue()
        archive = io.BytesIO()
        np.savez(archive, a=np.array([gadget], dtype=object))
        files[f"npz with {name}"] = archive.getvalue()
        # Evades scanners: the record with the code has an unusual name.
        files[f"renamed record with {name}"] = repacked(
            torch_saved(plain), lambda n, r, g=gadget: [(n, pickle.dumps(g) if n.endswith("data.pkl") else r, 0)]
        )
    files |= _bombs(plain) | _shapes() | _others()
    files["whole module"] = torch_saved(torch.nn.Linear(2, 2))
    files["truncated zip"] = torch_saved(plain)[:-900]
    files["truncated legacy"] = torch_saved(plain, legacy=True)[:-900]
    files["zip without its end"] = torch_saved(plain)[: len(torch_saved(plain)) // 2]
    return files


def _bombs(plain: dict[str, torch.Tensor]) -> dict[str, bytes]:
    large = torch_saved({"a": torch.zeros(20_000_000)})  # 80 MB, compressed to 80 kB
    stored = torch_saved(plain)
    bombs = {
        "deflated record": repacked(large, lambda n, r: [(n, r, zipfile.ZIP_DEFLATED)]),
        "bzip2 record": repacked(torch_saved(plain), lambda n, r: [(n, r, zipfile.ZIP_BZIP2)]),
        "lzma record": repacked(torch_saved(plain), lambda n, r: [(n, r, zipfile.ZIP_LZMA)]),
        "name with ..": repacked(stored, lambda n, r: [(n, r, 0), ("../../evil", b"x", 0)]),
        "absolute name": repacked(stored, lambda n, r: [(n, r, 0), ("/etc/evil", b"x", 0)]),
        "name of Windows": repacked(stored, lambda n, r: [(n, r, 0), ("a\\..\\evil", b"x", 0)]),
        "stride 0, 2^40 elements": torch_saved({"a": torch.zeros(1).as_strided((2**40,), (0,))}),
        "overlapping, 2^30 elements": torch_saved({"a": torch.zeros(2**15).as_strided((2**15, 2**15), (0, 1))}),
        "sparse 2^40": torch_saved({"a": torch.sparse_coo_tensor(torch.zeros(1, 1).long(), torch.ones(1), (2**40,))}),
        "meta tensor": torch_saved({"a": torch.zeros(2**30, device="meta")}),
    }
    return bombs


def _shapes() -> dict[str, bytes]:
    def one(shape: list[int], ends: list[int], kind: str = "F32") -> dict[str, object]:
        return {"a": {"dtype": kind, "shape": shape, "data_offsets": ends}}

    return {
        "header of 2^60": safetensors(b"{}", length=2**60),
        "header of 200 MB": safetensors(b"{" + b" " * 1000, length=200_000_000),
        "header that is no JSON": safetensors(b"{" + b"x" * 1000),
        "deep header": safetensors(b'{"a":' * 100_000),
        "2^40 elements": safetensors(one([2**40], [0, 2**42]), b"\0" * 64),
        "shape and bytes disagree": safetensors(one([2**40], [0, 64]), b"\0" * 64),
        "product overflows": safetensors(one([2**33, 2**33], [0, 64]), b"\0" * 64),
        "negative shape": safetensors(one([-1], [0, 4]), b"\0" * 4),
        "offsets backwards": safetensors(one([1], [4, 0]), b"\0" * 4),
        "offsets overlap": safetensors(
            {**one([16], [0, 64]), "b": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}, b"\0" * 64
        ),
        "unknown type": safetensors(one([1], [0, 4], "X99"), b"\0" * 4),
        "offsets past the end": safetensors(one([1], [2**62, 2**62 + 4]), b"\0" * 4),
    }


def _others() -> dict[str, bytes]:
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    return {
        "empty": b"",
        "HTML": b"<!DOCTYPE html><title>404</title>",
        "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "JSON": b'{"error": "not found"}',
        "text": b"Not Found",
        "another zip": other.getvalue(),
        "zeros": bytes(4096),
        "ELF": b"\x7fELF" + bytes(200),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(200),
        "gzip": b"\x1f\x8b\x08" + bytes(200),
    }


def readers(folder: Path) -> dict[str, Callable[[Path], object]]:
    """By name, the functions that read weights: a file of `model.weights`, and a checkpoint folder."""

    def as_checkpoint(path: Path) -> object:
        checkpoint_folder = folder / "checkpoint"
        checkpoint_folder.mkdir(exist_ok=True)
        shutil.copyfile(path, checkpoint_folder / "model.safetensors")  # without reading it into memory
        (checkpoint_folder / "config.json").write_text(
            '{"format": 1, "classes": [], "model": {"name": "x", "args": {}}}'
        )
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return checkpoint.load_model(checkpoint_folder)

    return {
        "model.weights": lambda path: weights.find_weights(str(path), "small_cnn"),
        "a checkpoint": as_checkpoint,
    }


def intact_files() -> dict[str, bytes]:
    """An intact file of each supported format."""
    import safetensors.torch

    plain = {"a": torch.ones(2)}
    return {
        "zip": torch_saved(plain),
        "legacy": torch_saved(plain, legacy=True),
        "safetensors": safetensors.torch.save(plain),
    }


def check_hostile(settings: Settings) -> Outcome:
    """Read each file with each reader, in its own process, so that its memory can be measured.

    Intact files are read first in the same process, because libraries allocate memory at the first use.
    """
    trace, path = settings.folder / "trace", settings.folder / "weights.pt"
    files, intact = hostile_files(trace), intact_files()
    reads = readers(settings.folder)

    def warm_up() -> None:
        for content in intact.values():
            path.write_bytes(content)
            for read in reads.values():
                with contextlib.suppress(SightlineError):
                    read(path)

    warm_up()
    trace.unlink(missing_ok=True)
    cases = [(name, reader) for name in files for reader in reads]
    if settings.short:
        always = ("zip with os.mkdir", "deflated record", "stride 0, 2^40 elements")
        cases = [case for index, case in enumerate(cases) if index % 6 == 0 or case[0] in always]
    trials, failures, rejected, most = 0, [], 0, 0

    def trial(number: int) -> tuple[str, str]:
        name, reader = cases[number]
        warm_up()
        path.write_bytes(files[name])
        reset_peak()
        before = peak_bytes()
        try:
            found = reads[reader](path)
        except SightlineError as error:
            grown = peak_bytes() - before
            named = path.name in str(error) or "model.safetensors" in str(error)
            failure = f"{name}, {reader}: " if not (named and error.cure) or trace.exists() else ""
            failure += "code was executed " * trace.exists()
            if grown > 2 * len(files[name]) + FIXED_BYTES:
                failure += f"{name}, {reader}: {grown / 1e6:.1f} MB for a file of {len(files[name]) / 1e6:.1f} MB "
            return str(max(0, grown - 2 * len(files[name]))), f"{failure}{error}" if failure else ""
        except Exception as error:
            return "unexpected exception", f"{name}, {reader}: {type(error).__name__}: {error}"
        del found
        return "loaded", f"{name}, {reader}: it was loaded"

    for start in range(len(cases)):
        if settings.detected(failures):
            break
        outcome = run_trials(1, lambda number, start=start: trial(start))
        trials += 1
        failures += [line.replace("trial 0", str(cases[start])) for line in outcome.failures]
        beyond = [int(word) for word in outcome.notes if word.isdigit()]
        rejected, most = rejected + len(beyond), max(most, *beyond, 0)
        if trace.exists() or trace.is_dir():
            failures.append(f"{cases[start]}: code was executed")
            trace.rmdir() if trace.is_dir() else trace.unlink()
    notes = {"rejected": rejected, "files": len(files), "peak MB beyond twice the file size": round(most / 1e6, 2)}
    return Outcome(trials, tuple(failures), notes)


@contextlib.contextmanager
def unrestricted_load() -> Generator[None]:
    """torch.load with weights_only=False, its former default."""
    with mock.patch.object(
        formats, "load_restricted", lambda path: torch.load(path, map_location="cpu", weights_only=False)
    ):
        yield


@contextlib.contextmanager
def no_preflight() -> Generator[None]:
    """torch.load with weights_only=True, without checks for decompression bombs."""
    with (
        mock.patch.object(formats, "check_zip", lambda path, size: None),
        mock.patch.object(formats, "check_tensor", lambda name, tensor, path: None),
    ):
        yield


# ---------------------------------------------------------------------------------------------- hostile folders


def check_folders(settings: Settings) -> Outcome:
    """Read checkpoint folders with pickles and names of functions: nothing in them is imported or called."""
    trace, failures, tried = settings.folder / "trace", [], 0
    gadget = gadgets(trace)["os.mkdir"]
    for number, (name, files) in enumerate(_folders(gadget).items()):
        folder = settings.folder / f"folder {number}"
        for inner, content in files.items():
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            (folder / inner).write_bytes(content)
        tried += 1
        try:
            weights.find_weights(str(folder), "small_cnn")
            if not name.startswith("valid"):
                failures.append(f"{name}: it was loaded")
        except SightlineError as error:
            if str(folder) not in str(error) or not error.cure:
                failures.append(f"{name}: {error}")
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
        if trace.exists():
            failures.append(f"{name}: code was executed")
            trace.rmdir()
    return Outcome(tried, tuple(failures))


def _folders(gadget: Gadget) -> dict[str, dict[str, bytes]]:
    import safetensors.torch

    good = safetensors.torch.save({"a": torch.ones(2)})
    about = {"format": 1, "classes": ["a"], "task": "classify", "model": {"name": "os.system", "args": {}}}
    hooks = {"_target_": "os.system", "_instantiator": "os.system", "auto_map": {"AutoModel": "evil.Model"}}
    return {
        "DCP": {".metadata": pickle.dumps(gadget), "__0_0.distcp": b"x"},
        "DCP in a run folder": {"checkpoints/best/.metadata": pickle.dumps(gadget)},
        "pickles of Hugging Face": {"pytorch_model.bin": torch_saved({"a": gadget}), "config.json": b"{}"},
        "a pickle named model.safetensors": {"model.safetensors": pickle.dumps({"a": gadget}), "config.json": b"{}"},
        "a zip named model.safetensors": {"model.safetensors": torch_saved({"a": gadget})},
        "valid, config.json names functions": {
            "model.safetensors": good, "config.json": json.dumps({**about, **hooks}).encode()
        },
        "valid, config.json is invalid": {"model.safetensors": good, "config.json": b"[" * 100_000},
        "empty": {"readme.txt": b""},
    }  # fmt: skip


@contextlib.contextmanager
def reads_any_file() -> Generator[None]:
    """A reader that unpickles every file in the folder."""

    def from_folder(folder: Path) -> weights.SourceWeights:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with contextlib.suppress(pickle.UnpicklingError, EOFError, KeyError, IndexError, ValueError, TypeError):
                    pickle.loads(path.read_bytes())
        return weights.SourceWeights({}, str(folder))

    with mock.patch.object(weights, "from_folder", from_folder):
        yield


ROWS = (
    Row(
        "hostile weights",
        SECTION,
        f"no code is executed, memory stays below twice the file size + {FIXED_BYTES >> 20} MB, and each error names "
        "the file",
        check_hostile,
        {"torch.load(weights_only=False)": unrestricted_load, "weights_only=True without other checks": no_preflight},
    ),
    Row(
        "hostile checkpoint folders",
        SECTION,
        "pickles in a folder are not loaded, and functions named in its files are not imported",
        check_folders,
        {"every file is unpickled": reads_any_file},
    ),
)
