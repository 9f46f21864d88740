"""A run's weights for other programs: an ONNX graph with all that they need inside, or safetensors and ten lines."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from ..config.files import load_recipe_file
from ..config.resolve import resolve
from ..config.schema import Config
from ..engine.memory import explained_memory
from ..errors import SightlineError
from ..runs import run_folder
from ..runs.terminal import print_plain

FORMATS = ("onnx", "safetensors")


def export(
    run: str | os.PathLike[str],
    *,
    format: str = "onnx",
    out: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    int8: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Write a run's shipped weights for other programs, and check them on the run's validation images.

    format: `onnx`, a graph of uint8 pictures to probabilities (and masks), RUN/export/model.onnx, with model.json, what
    the check found; or `safetensors`, a folder RUN/export/safetensors with a script that needs no Sightline. out:
    another file, or folder. data: where the run's data lies now, if it has moved. int8: also an ONNX graph of 8-bit
    weights and activations, with the accuracy that it costs. Returns the path of the file or folder.

    Raises SightlineError where the export's predictions differ from PyTorch's by more than rounding; nothing lies under
    the export's name then.
    """
    folder = run_folder.existing(run)
    run_folder.require_weights(folder)
    if format not in FORMATS:
        raise SightlineError(f"there is no format {format!r}", where="--format", cure=" or ".join(FORMATS))
    if int8 and format != "onnx":
        raise SightlineError("--int8 is for ONNX", where="--int8", cure="--format onnx, or leave --int8 out")
    config = load_recipe_file(folder / "recipe.yaml")
    if config.task == "byol":
        why = "pre-training without labels knows no classes"
        cure = f"train a classifier on it first: sightline train ... --model.weights {shlex.quote(str(folder))}"
        raise SightlineError("this run has nothing to predict with", where=str(folder), why=why, cure=cure)
    say: Callable[[str], None] = (lambda text: None) if quiet else print_plain
    if not run_folder.is_finished(folder):
        say("this run is not finished: these are its best weights so far")
    # Both programs compute on the processor, in float32: what differs then is the program, not the arithmetic.
    moved = {} if data is None else {"data.path": os.fspath(data)}
    config = resolve(config, {"train.device": "cpu"} | moved)
    target = chosen_target(folder, format, out, overwrite)
    with explained_memory(config, f"{folder}/recipe.yaml"):
        if format == "onnx":
            from .onnx_file import export_onnx

            return export_onnx(folder, config, target, int8, say)
        from .weights import export_weights

        return export_weights(folder, config, target, say)


def chosen_target(folder: Path, format: str, out: str | os.PathLike[str] | None, overwrite: bool) -> Path:
    """Where the export goes: a file .onnx, or a folder of safetensors; SightlineError where something is there."""
    usual = folder / "export" / ("model.onnx" if format == "onnx" else "safetensors")
    target = usual if out is None else Path(out)
    if format == "onnx" and target.suffix.lower() != ".onnx":
        if target.exists() and not target.is_dir():
            cure = "--out model.onnx, or a folder"
            raise SightlineError("the output is a file of another kind", where=str(target), cure=cure)
        target = target / "model.onnx"
    if format == "safetensors" and target.is_file():
        raise SightlineError("--out must be a folder", where=str(target), cure="--out weights/")
    taken = target.exists() and (format == "onnx" or any(target.iterdir()))
    if taken and not overwrite:
        raise SightlineError("the output exists", where=str(target), cure="another --out, or --overwrite")
    if taken and format == "safetensors" and not (target / "load.py").is_file():
        why, cure = "it is not an earlier export", "choose another with --out"
        raise SightlineError("this folder is not empty", where=str(target), why=why, cure=cure)
    return target


def validation_missing(error: SightlineError, config: Config) -> SightlineError:
    """The error of data that are not where the run had them, with the cure of an export."""
    if os.path.exists(config.data.path) or ":" in config.data.path:
        return error
    cure = "--data PATH, where the run's data lies now: an export is checked on its validation images"
    return SightlineError(error.what, where=error.where, why=error.why, cure=cure, status=error.status)
