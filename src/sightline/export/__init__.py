"""`sightline export`: write a run's model as an ONNX graph or as a folder of weights."""

import os
from collections.abc import Callable
from pathlib import Path

from ..config.paths import path_of
from ..config.resolve import resolve
from ..engine.memory import explain_out_of_memory
from ..errors import SightlineError
from ..runs import run_folder
from ..runs.atomic import read_json
from ..runs.terminal import print_plain
from ..tasks.files import load_recipe_file
from ..user_code import accepts_code
from .onnx_file import export_onnx
from .portable import MARKER, export_weights

FORMATS = ("onnx", "safetensors")


@accepts_code
def export(
    run: str | os.PathLike[str],
    *,
    format: str = "onnx",
    out: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    int8: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
) -> Path:
    """Export the final weights of a run for other programs; returns the path of the file or folder.

    format: `onnx` writes a graph from uint8 images to probabilities (and masks) to RUN/export/model.onnx. Its
    predictions are compared with PyTorch's on the run's validation images; model.json has the results of this check.
    `safetensors` writes a small run folder to RUN/export/safetensors, for installations of Sightline on other machines.
    out: file or folder to write instead. data: the current path of the run's data if it was moved. int8: also write an
    ONNX graph with 8-bit weights and activations, and measure its accuracy and speed.

    Raises SightlineError if the graph's predictions differ from PyTorch's by more than rounding; the graph is then
    saved as model.refused.onnx.
    """
    folder = run_folder.existing(run)
    run_folder.require_weights(folder)
    if format not in FORMATS:
        raise SightlineError(
            f"unknown export format {format!r}",
            where="--format",
            cure="use " + " or ".join(f"--format {name}" for name in FORMATS),
        )
    if int8 and format != "onnx":
        raise SightlineError(
            "only the format onnx supports --int8", where="--int8", cure="use --format onnx, or omit --int8"
        )
    config = load_recipe_file(folder / "recipe.yaml")
    say: Callable[[str], None] = (lambda text: None) if quiet else print_plain
    if not run_folder.is_finished(folder):
        say("note: this run is not finished; the weights of its best epoch so far are exported")
    target = chosen_target(folder, format, out, overwrite)
    if format == "safetensors":
        return export_weights(folder, config, target)
    # PyTorch and onnxruntime both compute in float32 on the CPU, so that differences are due to the graph alone.
    config = resolve(config, {"train.device": "cpu"} | ({} if data is None else {"data.path": os.fspath(data)}))
    with explain_out_of_memory(config, f"{folder}/recipe.yaml"):
        return export_onnx(folder, config, target, int8, say)


def chosen_target(folder: Path, format: str, out: str | os.PathLike[str] | None, overwrite: bool) -> Path:
    """The path to write: a .onnx file, or a folder of weights.

    Raises SightlineError if it exists and `overwrite` is False, and if it is a folder with other content than an
    earlier export.
    """
    default = folder / "export" / ("model.onnx" if format == "onnx" else "safetensors")
    target = default if out is None else path_of(out)
    if format == "onnx" and target.suffix.lower() != ".onnx":
        target = target / "model.onnx"
    if target.parent.is_file() or (format == "safetensors" and target.is_file()):
        cure = "use --out model.onnx, or --out FOLDER" if format == "onnx" else "use --out FOLDER"
        raise SightlineError("the output path is a file", where=str(target), cure=cure)
    exists = target.exists() and (format == "onnx" or any(target.iterdir()))
    facts = target.with_suffix(".json")
    if format == "onnx" and facts.exists() and "checks" not in (read_json(facts) or {}):
        why, cure = f"the results of the checks are written to {facts.name}", "choose another path: --out PATH"
        raise SightlineError("a file of another program would be replaced", where=str(facts), why=why, cure=cure)
    if exists and not overwrite:
        raise SightlineError(
            "the output exists already",
            where=str(target),
            cure="choose another path: --out PATH; or replace it with --overwrite",
        )
    if exists and format == "safetensors" and not (target / MARKER).is_file():
        why, cure = "it contains files that `sightline export` did not write", "choose another folder: --out FOLDER"
        raise SightlineError("the output folder is not empty", where=str(target), why=why, cure=cure)
    return target
