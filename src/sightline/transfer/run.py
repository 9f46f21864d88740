"""`sightline transfer`: train models with and without pre-training on one target data set, and compare them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config.paths import absolute_or_name, path_of
from ..recipes import load_grid
from ..repeat.several import parse_seeds
from ..runs import run_folder
from ..runs.lock import lock_run
from ..runs.log import said_once
from ..runs.signals import StopRequest
from ..runs.terminal import print_plain
from ..user_code import accepts_code
from .checks import check_sources, open_data
from .folder import write_grid_file
from .grid import STAGES, Grid, resolve_grid
from .leaks import without_leaks
from .outcomes import GridResult
from .output import text_table, write_grid_report
from .plan import needed_pretrainings
from .training import Command, train_all

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


@accepts_code
@said_once()
def transfer(
    recipe: str | Grid,
    data: str | os.PathLike[str] | None = None,
    *,
    unlabeled: str | os.PathLike[str] | None = None,
    labeled: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    settings: str | None = None,
    seeds: str | None = None,
    pretrain_seeds: str | None = None,
    tune: str | None = None,
    split: str | None = None,
    classifier: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
    **overrides: Any,
) -> GridResult:
    """Train the unfinished runs of a transfer grid on the target data `data`, and compare all runs; returns the
    results.

    recipe: a built-in grid, a grid.yaml, a .py file with a function recipe(), or a Grid. unlabeled, labeled: images to
    pre-train on without and with labels, or weights of an earlier pre-training (a run folder or a file). out: the
    folder of the grid, by default runs/NAME. settings: letters of "ABCDEF". seeds: "0,1,2". pretrain_seeds: seeds of
    each pre-training; every seed of `seeds` is trained from each. tune: "small" chooses learning rate and epochs of
    every setting on an inner split of the training images, "none" takes the recipe's. split: "val" or "test", the
    images on which the settings are compared. classifier: the head, "linear" or "mlp". overwrite: delete the runs of a
    different grid in the folder `out`. overrides: settings of a stage such as `full.train.epochs`. Each run is an
    ordinary run folder.

    The same call resumes an interrupted grid, and adds settings and seeds to a finished grid. Raises one SightlineError
    for all invalid data and weights before any training, and one with status 4 when interrupted.
    """
    say: Callable[[str], None] = (lambda text: None) if quiet else print_plain
    wanted = dict(overrides)
    if data is not None:
        wanted |= {"full.data.path": os.fspath(data), "frozen.data.path": os.fspath(data)}
    for stage, source in (("unlabeled", unlabeled), ("labeled", labeled)):
        if source is not None:
            path = absolute_or_name(os.fspath(source))
            key = f"{stage}_weights" if is_weights(Path(path)) else f"{stage}.data.path"
            wanted[key] = path
    if settings is not None:
        wanted["settings"] = tuple(settings.replace(",", ""))
    for name, text in (("seeds", seeds), ("pretrain_seeds", pretrain_seeds)):
        if text is not None:
            wanted[name] = parse_seeds(text, f"--{name.replace('_', '-')}")
    given = {"tune": tune, "split": split, "classifier": classifier}
    wanted |= {name: value for name, value in given.items() if value is not None}
    grid = resolve_grid(recipe if isinstance(recipe, Grid) else load_grid(recipe), wanted)
    grid = grid.model_copy(update={stage: run_folder.with_absolute_paths(getattr(grid, stage)) for stage in STAGES})
    folder = grid_folder(recipe, out, grid)
    check_sources(grid, folder)
    grid = without_leaks(grid, say)
    stages = [stage for stage in needed_pretrainings(grid) if not getattr(grid, f"{stage}_weights")]
    inputs = {stage: open_data(getattr(grid, stage)).listing_digest for stage in ("full", *stages)}
    with lock_run(folder) as note:
        if note:
            say(f"warning: {note}")
        merged = write_grid_file(folder, grid, inputs, overwrite)
        train_all(Command("grid", False, folder, say, quiet, StopRequest.received, grid, merged))
        result = write_grid_report(folder, merged)
    say(text_table(result))
    say(f"report: {result.report}")
    return result


def grid_folder(recipe: "str | Grid", out: str | os.PathLike[str] | None, grid: Grid) -> Path:
    """The folder of the grid: `out` if given, else `recipe` if it is the folder of a grid, else runs/NAME."""
    if out is not None:
        return path_of(out)
    exists = isinstance(recipe, str) and (path_of(recipe) / "grid.yaml").is_file()
    return path_of(str(recipe)) if exists else run_folder.default_folder(grid.name)


def is_weights(path: Path) -> bool:
    """Whether a path is a weights file, a checkpoint folder or a run folder, rather than images."""
    if path.is_dir():
        return (path / "recipe.yaml").is_file() or (path / "model.safetensors").is_file()
    return path.suffix.lower() in WEIGHT_SUFFIXES
