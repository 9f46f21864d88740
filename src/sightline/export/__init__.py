"""`sightline export`: a run's model for other programs, as an ONNX graph or as a folder of weights."""

import os
from collections.abc import Callable
from pathlib import Path

from ..config.resolve import resolve
from ..engine.memory import explain_out_of_memory
from ..errors import SightlineError
from ..runs import run_folder
from ..runs.terminal import print_plain
from ..tasks.files import load_recipe_file
from .onnx_file import export_onnx
from .portable import MARKER, export_weights

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
    """Write a run's shipped weights for other programs; returns the path of the file or folder.

    format: `onnx`, a graph from uint8 images to probabilities (and masks), checked on the run's validation images:
    RUN/export/model.onnx, and model.json with the results of the check; or `safetensors`, a small run folder for other
    installations of Sightline: RUN/export/safetensors. out: another file, or folder. data: the present path of the
    run's data if it was moved. int8: also an ONNX graph of 8-bit weights and activations, with its measured cost.

    Raises SightlineError if the graph's predictions differ from PyTorch's by more than rounding; the graph is then
    saved under the name model.refused.onnx.
    """
    folder = run_folder.existing(run)
    run_folder.require_weights(folder)
    if format not in FORMATS:
        raise SightlineError(f"unknown format {format!r}", where="--format", cure=" or ".join(FORMATS))
    if int8 and format != "onnx":
        raise SightlineError("--int8 needs the format onnx", where="--int8", cure="--format onnx, or omit --int8")
    config = load_recipe_file(folder / "recipe.yaml")
    say: Callable[[str], None] = (lambda text: None) if quiet else print_plain
    if not run_folder.is_finished(folder):
        say("this run is not finished: these are its best weights so far")
    target = chosen_target(folder, format, out, overwrite)
    if format == "safetensors":
        return export_weights(folder, config, target)
    # Both programs compute in float32 on the processor: differences are then due to the graph, not to the arithmetic.
    config = resolve(config, {"train.device": "cpu"} | ({} if data is None else {"data.path": os.fspath(data)}))
    with explain_out_of_memory(config, f"{folder}/recipe.yaml"):
        return export_onnx(folder, config, target, int8, say)


def chosen_target(folder: Path, format: str, out: str | os.PathLike[str] | None, overwrite: bool) -> Path:
    """The output path, a file .onnx or a folder of weights; raises SightlineError if it exists."""
    usual = folder / "export" / ("model.onnx" if format == "onnx" else "safetensors")
    target = usual if out is None else Path(out)
    if format == "onnx" and target.suffix.lower() != ".onnx":
        target = target / "model.onnx"
    if target.parent.is_file() or (format == "safetensors" and target.is_file()):
        cure = "--out model.onnx, or a folder" if format == "onnx" else "--out weights/"
        raise SightlineError("the output is a file of another type", where=str(target), cure=cure)
    taken = target.exists() and (format == "onnx" or any(target.iterdir()))
    if taken and not overwrite:
        raise SightlineError("the output exists", where=str(target), cure="another --out, or --overwrite")
    if taken and format == "safetensors" and not (target / MARKER).is_file():
        why, cure = "it is not an earlier export", "choose another with --out"
        raise SightlineError("this folder is not empty", where=str(target), why=why, cure=cure)
    return target
