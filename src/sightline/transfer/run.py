"""`sightline transfer`: train classifiers with and without pre-training on one target data set, and compare them."""

import os
import shlex
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from ..config.paths import absolute
from ..config.resolve import resolve
from ..config.schema import Config
from ..errors import INTERRUPTED, SightlineError
from ..recipes import load_grid
from ..runs import run_folder
from ..runs.atomic import atomic_write
from ..runs.lock import lock_run
from ..runs.signals import StopRequest
from ..runs.terminal import print_plain
from ..tasks.files import load_recipe_file
from ..train import resume, train
from ..user_code import accepts_code
from .checks import check_sources, check_weights_unchanged, needed_pretrainings, open_data, with_default_probe
from .grid import PRETRAININGS, SETTINGS, STAGES, Grid, grid_yaml, load_grid_file, resolve_grid
from .leaks import without_leaks
from .results import GridResult, pretraining_folder, text_table, write_grid_report

RESUME = "run the same command again to resume the grid in {}"
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


@accepts_code
def transfer(
    recipe: str | Grid,
    data: str | os.PathLike[str] | None = None,
    *,
    unlabeled: str | os.PathLike[str] | None = None,
    labeled: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    settings: str | None = None,
    seeds: str | None = None,
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
    folder of the grid, by default runs/NAME. settings: letters of "ABCDE". seeds: "0,1,2". classifier: the head,
    "linear" or "mlp". overwrite: delete the runs of a different grid in the folder `out`. overrides: settings of a
    stage such as `full.train.epochs`. Each run is an ordinary run folder.

    The same call resumes an interrupted grid, and adds settings and seeds to a finished grid. Raises one SightlineError
    for all invalid data and weights before any training, and one with status 4 when interrupted.
    """
    say: Callable[[str], None] = (lambda text: None) if quiet else print_plain
    wanted = dict(overrides)
    if data is not None:
        wanted |= {"full.data.path": os.fspath(data), "frozen.data.path": os.fspath(data)}
    for stage, source in (("unlabeled", unlabeled), ("labeled", labeled)):
        if source is not None:
            path = absolute(os.fspath(source))
            key = f"{stage}_weights" if is_weights(Path(path)) else f"{stage}.data.path"
            wanted[key] = path if os.path.exists(path) else os.fspath(source)
    if settings is not None:
        wanted["settings"] = tuple(settings.replace(",", ""))
    if seeds is not None:
        wanted["seeds"] = parse_seeds(seeds)
    if classifier is not None:
        wanted["classifier"] = classifier
    grid = resolve_grid(recipe if isinstance(recipe, Grid) else load_grid(recipe), wanted)
    grid = grid.model_copy(update={stage: run_folder.with_absolute_paths(getattr(grid, stage)) for stage in STAGES})
    folder = grid_folder(recipe, out, grid)
    check_sources(grid, folder)
    grid = without_leaks(grid, say)
    with lock_run(folder) as note:
        if note:
            say(f"warning: {note}")
        merged = write_grid_file(folder, grid, overwrite)
        train_all(grid, merged, folder, say, quiet)
        result = write_grid_report(folder, merged)
    say(text_table(result))
    say(f"report: {result.report}")
    return result


def grid_folder(recipe: "str | Grid", out: str | os.PathLike[str] | None, grid: Grid) -> Path:
    """The folder of the grid: `out` if given, else `recipe` if it is the folder of a grid, else runs/NAME."""
    if out is not None:
        return Path(out)
    exists = isinstance(recipe, str) and (Path(recipe) / "grid.yaml").is_file()
    return Path(str(recipe)) if exists else run_folder.default_folder(grid.name)


def train_all(grid: Grid, merged: Grid, folder: Path, say: Callable[[str], None], quiet: bool) -> None:
    """Train every unfinished run of `grid`, the grid of this command.

    merged: the grid with the settings and seeds of earlier commands too, which the report shows.
    """
    weights, signals = {}, StopRequest.received
    for stage in needed_pretrainings(grid):
        raise_if_interrupted(signals, folder)
        weights[stage] = pretrained_weights(grid, stage, folder, say, quiet)
    for setting, seed in product(grid.settings, grid.seeds):
        raise_if_interrupted(signals, folder)
        config = grid.config_of(setting, seed, weights.get(SETTINGS[setting].pretraining, ""))
        if train_or_resume(folder / f"{setting}-{seed}", config, folder, say, quiet):
            write_grid_report(folder, merged)


def raise_if_interrupted(signals: int, folder: Path) -> None:
    """Raise SightlineError if a signal arrived after the last step of a run, too late to interrupt that run.

    signals: the number of signals received before this command started; if it is higher now, a signal has arrived.
    """
    if StopRequest.received > signals:
        cure = RESUME.format(shlex.quote(str(folder)))
        raise SightlineError(
            "the grid was interrupted between two runs", where=str(folder), cure=cure, status=INTERRUPTED
        )


def is_weights(path: Path) -> bool:
    """Whether a path is a weights file, a checkpoint folder or a run folder, rather than images."""
    if path.is_dir():
        return (path / "recipe.yaml").is_file() or (path / "model.safetensors").is_file()
    return path.suffix.lower() in WEIGHT_SUFFIXES


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse `0,1,2` into integers."""
    parts = text.replace(" ", "").split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise SightlineError(
            f"--seeds must be whole numbers, found {text!r}", cure="separate whole numbers by commas: --seeds 0,1,2"
        )
    return tuple(map(int, parts))


def write_grid_file(folder: Path, grid: Grid, overwrite: bool) -> Grid:
    """Write grid.yaml; returns the grid with the settings and seeds of both `grid` and an existing grid.yaml.

    Raises SightlineError if the folder has other content or a different grid. With `overwrite`, the runs of a different
    grid are deleted first.
    """
    path = folder / "grid.yaml"
    old = load_grid_file(path) if path.is_file() else None
    if old is None and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        why = "it has files, but no grid.yaml of a transfer grid"
        raise SightlineError(
            "this folder is not empty", where=str(folder), why=why, cure="choose another folder: --out FOLDER"
        )
    changed = grid_changes(old, grid) if old else []
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
        seeds = tuple(dict.fromkeys(old.seeds + grid.seeds))
        grid = grid.model_copy(update={"settings": letters, "seeds": seeds})
    for stage in PRETRAININGS:
        check_weights_unchanged(folder, stage, getattr(grid, f"{stage}_weights"))
    atomic_write(path, grid_yaml(grid))
    return grid


def remove_runs(folder: Path) -> None:
    """Remove the runs of a grid from its folder, and the stored SHA-256 of weights that were given to it. Other
    files are kept."""
    names = [f"{letter}-*" for letter in SETTINGS] + [f"pretrain-{stage}" for stage in PRETRAININGS]
    for run in [run for name in names for run in folder.glob(name) if (run / "recipe.yaml").is_file()]:
        shutil.rmtree(run)
    for digest in folder.glob("*-weights.sha256"):
        digest.unlink()


def grid_changes(old: Grid, new: Grid) -> list[str]:
    """Dotted keys of the settings that differ so that `new` is a different grid than `old`.

    More or fewer settings A to E and seeds do not make a different grid. Changes of stages that no setting of `old`
    uses do not either.
    """
    used = [stage for stage in STAGES if any(stage in SETTINGS[letter] for letter in old.settings)]
    changed = [f"{stage}.{key}" for stage in used for key in recipe_changes(getattr(old, stage), getattr(new, stage))]
    others = ["name", "classifier", *(f"{stage}_weights" for stage in needed_pretrainings(old))]
    return changed + [name for name in others if getattr(old, name) != getattr(new, name)]


def recipe_changes(old: Config, new: Config) -> list[str]:
    """Dotted keys with different values in two recipes, without those that a resumed run may change.

    The exceptions are `data.path` and the keys in DECIDES_RESULT: they are included, because runs with other values are
    not comparable.
    """
    harmless = {*run_folder.CHANGEABLE} - {"data.path", *run_folder.DECIDES_RESULT}
    return [key for key in run_folder.differences(old, new) if key not in harmless]


def pretrained_weights(grid: Grid, stage: str, folder: Path, say: Callable[[str], None], quiet: bool) -> str:
    """The path of the weights for a pre-training stage: those that were given, or else those of the grid's own
    pre-training run, which is trained if it is unfinished."""
    given: str = getattr(grid, f"{stage}_weights")
    if given:
        return given
    config: Config = getattr(grid, stage)
    config = with_usable_probe(config, grid.full, say)
    run = pretraining_folder(folder, grid, stage)
    train_or_resume(run, resolve(config, {"name": run.name}), folder, say, quiet)
    return str(run.absolute())


def with_usable_probe(config: Config, target: Config, say: Callable[[str], None]) -> Config:
    """The recipe of a pre-training, with the target data as probe data if these can be used.

    The probe data are labeled images on which the k-NN accuracy is measured. If they cannot be read, a note is printed
    and `config` is returned unchanged.
    """
    try:
        probed = with_default_probe(config, target)
        open_data(probed)
    except SightlineError as error:
        say(f"no k-NN accuracy is measured during pre-training: {error.what}")
        return config
    return probed


def train_or_resume(run: Path, config: Config, folder: Path, say: Callable[[str], None], quiet: bool) -> bool:
    """Train the run, resume it, or do nothing if it is finished; returns whether it was trained.

    Raises SightlineError if the run has a checkpoint that was trained with different settings.
    """
    config = run_folder.with_absolute_paths(config)
    started = any((run / "checkpoints" / "last").glob("state-*.safetensors")) and (run / "recipe.yaml").is_file()
    changed = recipe_changes(load_recipe_file(run / "recipe.yaml"), config) if started else []
    if changed:
        why = f"these settings differ: {', '.join(changed)}"
        raise SightlineError(
            "this run has other settings than the grid",
            where=str(run),
            why=why,
            cure="choose another folder: --out FOLDER",
        )
    if started and run_folder.is_finished(run):
        say(f"{run.name}: done")
        return False
    say(f"\n{run.name}: {'resuming' if started else 'training'}")
    try:
        if started:
            resume(run, quiet=quiet)
        else:
            train(config, out=run, overwrite=True, quiet=quiet)
    except SightlineError as error:
        if error.status != INTERRUPTED:
            raise
        cure = RESUME.format(shlex.quote(str(folder)))
        raise SightlineError(error.what, where=str(run), why=error.why, cure=cure, status=INTERRUPTED) from error
    return True
