"""Files of weights from strangers: code, bombs, absurd shapes, other things under that name."""

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
from reliability.forked import forget_peak, peak_bytes, run_trials
from sightline.errors import SightlineError
from sightline.models import formats, weights
from sightline.runs import checkpoint

SECTION = "Hostile input"
FIXED_BYTES = 4 << 20
"""What reading may take beside twice the file's size, after an honest file has been read in the same process."""


class Gadget:
    """Pickles to a call that leaves a trace."""

    def __init__(self, call: Callable[..., Any], *arguments: object):
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call, self.arguments


def gadgets(trace: Path) -> dict[str, Gadget]:
    """By name, calls that pickles are known to carry."""
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


def saved(content: object, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def repacked(content: bytes, change: Callable[[str, bytes], list[tuple[str, bytes, int]]]) -> bytes:
    """A zip archive with each record replaced by those (name, content, compression) that `change` gives."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            for new, record, compression in change(name, source.read(name)):
                archive.writestr(new, record, compress_type=compression)
    return target.getvalue()


def safetensors(header: object, payload: bytes = b"", length: int = -1) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length < 0 else length) + text + payload


def hostile_files(trace: Path) -> dict[str, bytes]:
    """By name, files that none may get into a model, execute, or grow in memory."""
    plain = {"backbone.weight": torch.ones(20_000)}
    files: dict[str, bytes] = {}
    for name, gadget in gadgets(trace).items():
        files[f"zip with {name}"] = saved({**plain, "payload": gadget})
        files[f"legacy with {name}"] = saved({**plain, "payload": gadget}, legacy=True)
        files[f"pickle with {name}"] = pickle.dumps({"weight": gadget})
        for protocol in (0, 4):
            files[f"pickle {protocol} with {name}"] = pickle.dumps({"weight": gadget}, protocol)
        objects = io.BytesIO()
        np.save(objects, np.array([gadget], dtype=object), allow_pickle=True)
        files[f"npy with {name}"] = objects.getvalue()
        archive = io.BytesIO()
        np.savez(archive, a=np.array([gadget], dtype=object))
        files[f"npz with {name}"] = archive.getvalue()
        # The trick of scanners: the name of the record that holds the code is not the usual one.
        files[f"renamed record with {name}"] = repacked(
            saved(plain), lambda n, r, g=gadget: [(n, pickle.dumps(g) if n.endswith("data.pkl") else r, 0)]
        )
    files |= _bombs(plain) | _shapes() | _others()
    files["whole module"] = saved(torch.nn.Linear(2, 2))
    files["truncated zip"] = saved(plain)[:-900]
    files["truncated legacy"] = saved(plain, legacy=True)[:-900]
    files["zip without its end"] = saved(plain)[: len(saved(plain)) // 2]
    return files


def _bombs(plain: dict[str, torch.Tensor]) -> dict[str, bytes]:
    large = saved({"a": torch.zeros(20_000_000)})  # 80 MB that deflate to 80 kB
    stored = saved(plain)
    bombs = {
        "deflated record": repacked(large, lambda n, r: [(n, r, zipfile.ZIP_DEFLATED)]),
        "bzip2 record": repacked(saved(plain), lambda n, r: [(n, r, zipfile.ZIP_BZIP2)]),
        "lzma record": repacked(saved(plain), lambda n, r: [(n, r, zipfile.ZIP_LZMA)]),
        "name with ..": repacked(stored, lambda n, r: [(n, r, 0), ("../../evil", b"x", 0)]),
        "absolute name": repacked(stored, lambda n, r: [(n, r, 0), ("/etc/evil", b"x", 0)]),
        "name of Windows": repacked(stored, lambda n, r: [(n, r, 0), ("a\\..\\evil", b"x", 0)]),
        "stride 0, 2^40 elements": saved({"a": torch.zeros(1).as_strided((2**40,), (0,))}),
        "overlapping, 2^30 elements": saved({"a": torch.zeros(2**15).as_strided((2**15, 2**15), (0, 1))}),
        "sparse 2^40": saved({"a": torch.sparse_coo_tensor(torch.zeros(1, 1).long(), torch.ones(1), (2**40,))}),
        "meta tensor": saved({"a": torch.zeros(2**30, device="meta")}),
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
    """By name, every way into a model: a file by `model.weights`, and a checkpoint's folder."""

    def as_checkpoint(path: Path) -> object:
        place = folder / "checkpoint"
        place.mkdir(exist_ok=True)
        shutil.copyfile(path, place / "model.safetensors")  # of which nothing is held in memory here
        (place / "config.json").write_text('{"format": 1, "classes": [], "model": {"name": "x", "args": {}}}')
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return checkpoint.load_model(place)

    return {
        "model.weights": lambda path: weights.find_weights(str(path), "small_cnn"),
        "a checkpoint": as_checkpoint,
    }


def honest_files() -> dict[str, bytes]:
    """A file of each kind that is read, with nothing wrong in it."""
    import safetensors.torch

    plain = {"a": torch.ones(2)}
    return {"zip": saved(plain), "legacy": saved(plain, legacy=True), "safetensors": safetensors.torch.save(plain)}


def check_hostile(settings: Settings) -> Outcome:
    """Each file through each reader, in a process of its own, so that its memory is its own too.

    What the libraries take whatever they read is taken before: by honest files, in the same process.
    """
    trace, path = settings.folder / "trace", settings.folder / "weights.pt"
    files, honest = hostile_files(trace), honest_files()
    ways = readers(settings.folder)

    def warm_up() -> None:
        for content in honest.values():
            path.write_bytes(content)
            for way in ways.values():
                with contextlib.suppress(SightlineError):
                    way(path)

    warm_up()
    trace.unlink(missing_ok=True)
    cases = [(name, way) for name in files for way in ways]
    if settings.short:
        always = ("zip with os.mkdir", "deflated record", "stride 0, 2^40 elements")
        cases = [case for place, case in enumerate(cases) if place % 6 == 0 or case[0] in always]
    trials, failures, refused, most = 0, [], 0, 0

    def trial(number: int) -> tuple[str, str]:
        name, way = cases[number]
        warm_up()
        path.write_bytes(files[name])
        forget_peak()
        before = peak_bytes()
        try:
            found = ways[way](path)
        except SightlineError as error:
            grown = peak_bytes() - before
            named = path.name in str(error) or "model.safetensors" in str(error)
            words = f"{name}, {way}: " if not (named and error.cure) or trace.exists() else ""
            words += "code was run " * trace.exists()
            if grown > 2 * len(files[name]) + FIXED_BYTES:
                words += f"{name}, {way}: {grown / 1e6:.1f} MB for a file of {len(files[name]) / 1e6:.1f} MB "
            return str(max(0, grown - 2 * len(files[name]))), f"{words}{error}" if words else ""
        except Exception as error:
            return "escaped", f"{name}, {way}: {type(error).__name__}: {error}"
        del found
        return "taken", f"{name}, {way}: it was taken"

    for start in range(0, len(cases)):
        if settings.seen(failures):
            break
        outcome = run_trials(1, lambda number, start=start: trial(start))
        trials += 1
        failures += [line.replace("trial 0", str(cases[start])) for line in outcome.failures]
        beyond = [int(word) for word in outcome.notes if word.isdigit()]
        refused, most = refused + len(beyond), max(most, *beyond, 0)
        if trace.exists() or trace.is_dir():
            failures.append(f"{cases[start]}: code was run")
            trace.rmdir() if trace.is_dir() else trace.unlink()
    notes = {"refused": refused, "files": len(files), "MB beside twice the file at most": round(most / 1e6, 2)}
    return Outcome(trials, tuple(failures), notes)


@contextlib.contextmanager
def unpickles() -> Generator[None]:
    """torch.load as it was for years."""
    with mock.patch.object(
        formats, "load_restricted", lambda path: torch.load(path, map_location="cpu", weights_only=False)
    ):
        yield


@contextlib.contextmanager
def no_preflight() -> Generator[None]:
    """weights_only=True and nothing else: bombs unfold."""
    with (
        mock.patch.object(formats, "check_zip", lambda path, size: None),
        mock.patch.object(formats, "check_tensor", lambda name, tensor, path: None),
    ):
        yield


# ---------------------------------------------------------------------------------------------- folders of strangers


def check_folders(settings: Settings) -> Outcome:
    """Folders with pickles, names of functions and paths in them: nothing in them is imported, called or followed."""
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
            if not name.startswith("whole"):
                failures.append(f"{name}: it was taken")
        except SightlineError as error:
            if str(folder) not in str(error) or not error.cure:
                failures.append(f"{name}: {error}")
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
        if trace.exists():
            failures.append(f"{name}: code was run")
            trace.rmdir()
    return Outcome(tried, tuple(failures))


def _folders(gadget: Gadget) -> dict[str, dict[str, bytes]]:
    import safetensors.torch

    good = safetensors.torch.save({"a": torch.ones(2)})
    about = {"format": 1, "classes": ["a"], "task": "classify", "model": {"name": "os.system", "args": {}}}
    hooks = {"_target_": "os.system", "_instantiator": "os.system", "auto_map": {"AutoModel": "evil.Model"}}
    return {
        "DCP": {".metadata": pickle.dumps(gadget), "__0_0.distcp": b"x"},
        "DCP under a run's name": {"checkpoints/best/.metadata": pickle.dumps(gadget)},
        "pickles of Hugging Face": {"pytorch_model.bin": saved({"a": gadget}), "config.json": b"{}"},
        "a pickle called safetensors": {"model.safetensors": pickle.dumps({"a": gadget}), "config.json": b"{}"},
        "a zip called safetensors": {"model.safetensors": saved({"a": gadget})},
        "whole, config names functions": {
            "model.safetensors": good, "config.json": json.dumps({**about, **hooks}).encode()
        },
        "whole, config is no config": {"model.safetensors": good, "config.json": b"[" * 100_000},
        "empty": {"readme.txt": b""},
    }  # fmt: skip


@contextlib.contextmanager
def reads_any_file() -> Generator[None]:
    """A reader that takes whatever lies in the folder."""

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
        f"no code is run, memory stays under twice the file's size + {FIXED_BYTES >> 20} MB, each is refused by name",
        check_hostile,
        {"torch.load(weights_only=False)": unpickles, "weights_only=True and no more": no_preflight},
    ),
    Row(
        "hostile checkpoint folders",
        SECTION,
        "pickles in a folder are not opened, names of functions in its files not imported",
        check_folders,
        {"a reader that opens whatever is there": reads_any_file},
    ),
)
