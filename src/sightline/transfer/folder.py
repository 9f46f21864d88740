"""The folder of a transfer grid: its grid.yaml, and which changes of the grid its runs allow."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from ..errors import SightlineError
from ..repeat.several import INPUTS, changed_inputs, recipe_changes, store_inputs
from ..runs.atomic import atomic_write
from ..runs.run_folder import is_started
from .checks import check_weights_unchanged
from .grid import PRETRAININGS, SETTINGS, STAGES, Grid, grid_yaml, load_grid_file
from .plan import needed_pretrainings

SEEDS = ("seeds", "pretrain_seeds")


def write_grid_file(folder: Path, grid: Grid, inputs: Mapping[str, str], overwrite: bool) -> Grid:
    """Write grid.yaml; returns the grid with the settings and seeds of both `grid` and an existing grid.yaml. Earlier
    seeds come first.

    inputs: a digest of the data of each stage. Raises SightlineError if the folder has other content, a different grid,
    or one of other data. With `overwrite`, the runs of a different grid are deleted first.
    """
    path = folder / "grid.yaml"
    old = load_grid_file(path) if path.is_file() else None
    if old is None and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        why = "it has files, but no grid.yaml of a transfer grid"
        raise SightlineError(
            "this folder is not empty", where=str(folder), why=why, cure="choose another folder: --out FOLDER"
        )
    changed = grid_changes(old, grid) if old else []
    if not changed:  # the files may differ because settings of the data do
        stages = [stage for stage in changed_inputs(folder, inputs) if is_used(folder, stage)]
        changed = [f"{stage}.data (its files or labels have changed)" for stage in stages]
    if changed and not overwrite:
        why, cure = (
            f"these settings differ: {', '.join(changed)}",
            "choose another folder: --out FOLDER; or delete the runs of that grid: --overwrite",
        )
        raise SightlineError("this folder contains another grid", where=str(folder), why=why, cure=cure)
    if changed:
        remove_runs(folder)
    elif old:
        letters = tuple(letter for letter in SETTINGS if letter in old.settings + grid.settings)
        seeds = {name: tuple(dict.fromkeys(getattr(old, name) + getattr(grid, name))) for name in SEEDS}
        grid = grid.model_copy(update={"settings": letters, **seeds})
    for stage in PRETRAININGS:
        check_weights_unchanged(folder, stage, getattr(grid, f"{stage}_weights"))
    atomic_write(path, grid_yaml(grid))
    store_inputs(folder, inputs)
    return grid


def is_used(folder: Path, stage: str) -> bool:
    """Whether a run was started with the data of a stage."""
    patterns = [f"pretrain-{stage}-*"] if stage in PRETRAININGS else [*(f"{letter}-*" for letter in SETTINGS), "tune/*"]
    return any(is_started(run) for pattern in patterns for run in folder.glob(pattern))


def remove_runs(folder: Path) -> None:
    """Remove the runs of a grid from its folder, and the stored SHA-256 of weights that were given to it. Other
    files are kept."""
    names = [f"{letter}-*" for letter in SETTINGS] + [f"pretrain-{stage}-*" for stage in PRETRAININGS] + ["tune/*"]
    for run in [run for name in names for run in folder.glob(name) if (run / "recipe.yaml").is_file()]:
        shutil.rmtree(run)
    for digest in folder.glob("*-weights.sha256"):
        digest.unlink()
    (folder / INPUTS).unlink(missing_ok=True)


def grid_changes(old: Grid, new: Grid) -> list[str]:
    """Dotted keys of the settings that differ so that `new` is a different grid than `old`.

    More or fewer settings A to F and seeds, and another split, do not make a different grid. Changes of stages that no
    setting of `old` uses do not either.
    """
    used = [stage for stage in STAGES if any(stage in SETTINGS[letter] for letter in old.settings)]
    changed = [f"{stage}.{key}" for stage in used for key in recipe_changes(getattr(old, stage), getattr(new, stage))]
    others = ["name", "classifier", "tune", *(f"{stage}_weights" for stage in needed_pretrainings(old))]
    return changed + [name for name in others if getattr(old, name) != getattr(new, name)]
