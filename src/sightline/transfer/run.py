"""`sightline transfer`: does pre-training pay? Runs of five settings on one target, and what can be said of them."""

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
from .checks import check_sources, opened, probed, refuse_changed_weights, stages_of
from .grid import PRETRAININGS, STAGES, WAYS, Grid, grid_yaml, load_grid_file, resolve_grid
from .results import GridResult, pretraining_of, text_table, write_grid_report

GO_ON = "the same command goes on with the grid in {}"
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")


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
    **overrides: Any,
) -> GridResult:
    """Train the grid's runs on `data`, those that are not done yet, and compare them; returns the numbers.

    recipe: a shipped grid, a grid.yaml, a .py with recipe(), or a Grid. unlabeled, labeled: the images to pre-train on,
    or weights of an earlier pre-training: a run folder or a file. out: the folder of the grid, runs/NAME by default.
    settings: which of ABCDE. seeds: "0,1,2". overwrite: remove the runs of another grid that lies there. overrides:
    `full.train.epochs` and the like, for a stage. Each run is an ordinary run folder; an interrupted grid goes on when
    it is asked for again.
    """
    say: Callable[[str], None] = (lambda text: None) if quiet else print_plain
    wanted = dict(overrides)
    if data is not None:
        wanted |= {"full.data.path": os.fspath(data), "frozen.data.path": os.fspath(data)}
    for stage, place in (("unlabeled", unlabeled), ("labeled", labeled)):
        if place is not None:
            path = absolute(os.fspath(place))
            key = f"{stage}_weights" if holds_weights(Path(path)) else f"{stage}.data.path"
            wanted[key] = path if os.path.exists(path) else os.fspath(place)
    if settings is not None:
        wanted["settings"] = tuple(settings.replace(",", ""))
    if seeds is not None:
        wanted["seeds"] = seeds_of(seeds)
    if classifier is not None:
        wanted["classifier"] = classifier
    grid = resolve_grid(recipe if isinstance(recipe, Grid) else load_grid(recipe), wanted)
    grid = grid.model_copy(update={stage: run_folder.with_absolute_paths(getattr(grid, stage)) for stage in STAGES})
    folder = folder_of(recipe, out, grid)
    check_sources(grid, folder, say)
    with lock_run(folder) as note:
        if note:
            say(f"warning: {note}")
        whole = claim(folder, grid, overwrite)
        train_all(grid, whole, folder, say, quiet)
        result = write_grid_report(folder, whole)
    say(text_table(result))
    say(f"report: {result.report}")
    return result


def folder_of(recipe: "str | Grid", out: str | os.PathLike[str] | None, grid: Grid) -> Path:
    """Where the grid's runs lie: `out`, the folder that was given as the recipe, or runs/NAME."""
    if out is not None:
        return Path(out)
    own = isinstance(recipe, str) and (Path(recipe) / "grid.yaml").is_file()
    return Path(str(recipe)) if own else run_folder.default_folder(grid.name)


def train_all(grid: Grid, whole: Grid, folder: Path, say: Callable[[str], None], quiet: bool) -> None:
    """Every run of `grid` that is not done; `whole` is what the folder's page shows."""
    weights, taken = {}, StopRequest.received
    for stage in stages_of(grid):
        end_if_asked(taken, folder)
        weights[stage] = pretrained(grid, stage, folder, say, quiet)
    for setting, seed in product(grid.settings, grid.seeds):
        end_if_asked(taken, folder)
        config = grid.config_of(setting, seed, weights.get(WAYS[setting].start, ""))
        if ensure(folder / f"{setting}-{seed}", config, folder, say, quiet):
            write_grid_report(folder, whole)


def end_if_asked(taken: int, folder: Path) -> None:
    """The polite end between two runs, where one of them has taken a signal in its last step, since `taken` of them."""
    if StopRequest.received > taken:
        cure = GO_ON.format(shlex.quote(str(folder)))
        raise SightlineError("interrupted between two runs", where=str(folder), cure=cure, status=INTERRUPTED)


def holds_weights(place: Path) -> bool:
    """Whether a path is that of weights rather than of images."""
    if place.is_dir():
        return (place / "recipe.yaml").is_file() or (place / "model.safetensors").is_file()
    return place.suffix.lower() in WEIGHTS


def seeds_of(text: str) -> tuple[int, ...]:
    """`0,1,2` as numbers."""
    parts = text.replace(" ", "").split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise SightlineError(f"--seeds {text!r} are no whole numbers", cure="--seeds 0,1,2")
    return tuple(map(int, parts))


def claim(folder: Path, grid: Grid, overwrite: bool) -> Grid:
    """Write grid.yaml, or check that the folder's own is this grid; returns it with all settings and seeds of both."""
    path = folder / "grid.yaml"
    old = load_grid_file(path) if path.is_file() else None
    if old is None and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise SightlineError("this folder is not empty", where=str(folder), cure="choose another with --out")
    changed = grid_changes(old, grid) if old else []
    if changed and not overwrite:
        why, cure = f"they differ in {', '.join(changed)}", "choose another --out, or --overwrite"
        raise SightlineError("another grid lies here", where=str(folder), why=why, cure=cure)
    if changed:
        clear_runs(folder)
    elif old:
        letters = tuple(letter for letter in WAYS if letter in old.settings + grid.settings)
        seeds = tuple(dict.fromkeys(old.seeds + grid.seeds))
        grid = grid.model_copy(update={"settings": letters, "seeds": seeds})
    for stage in PRETRAININGS:
        refuse_changed_weights(folder, stage, getattr(grid, f"{stage}_weights"))
    atomic_write(path, grid_yaml(grid))
    return grid


def clear_runs(folder: Path) -> None:
    """Remove the runs of a grid from its folder, and nothing else."""
    names = [f"{letter}-*" for letter in WAYS] + [f"pretrain-{stage}" for stage in PRETRAININGS]
    for place in [place for name in names for place in folder.glob(name) if (place / "recipe.yaml").is_file()]:
        shutil.rmtree(place)
    for note in folder.glob("*-weights.sha256"):
        note.unlink()


def grid_changes(old: Grid, new: Grid) -> list[str]:
    """What makes two grids different ones; more settings or seeds do not, nor stages that no setting of `old` uses."""
    used = [stage for stage in STAGES if any(stage in WAYS[letter] for letter in old.settings)]
    changed = [f"{stage}.{key}" for stage in used for key in changes(getattr(old, stage), getattr(new, stage))]
    others = ["name", "classifier", *(f"{stage}_weights" for stage in stages_of(old))]
    return changed + [name for name in others if getattr(old, name) != getattr(new, name)]


def changes(old: Config, new: Config) -> list[str]:
    """Dotted keys in which two recipes differ, of those that change what a run computes."""
    harmless = {*run_folder.CHANGEABLE} - {"data.path", "train.epochs", "train.evaluate_every"}
    return [key for key in run_folder.differences(old, new) if key not in harmless]


def pretrained(grid: Grid, stage: str, folder: Path, say: Callable[[str], None], quiet: bool) -> str:
    """The weights of a pre-training: those that were given, or the run that makes them, trained if it is not there."""
    given: str = getattr(grid, f"{stage}_weights")
    if given:
        return given
    config: Config = getattr(grid, stage)
    config = with_probe(config, grid.full, say)
    place = pretraining_of(folder, grid, stage)
    ensure(place, resolve(config, {"name": place.name}), folder, say, quiet)
    return str(place.absolute())


def with_probe(config: Config, target: Config, say: Callable[[str], None]) -> Config:
    """The pre-training with the target as its probe, which is never trained on; without, where it cannot be one."""
    try:
        opened(probed(config, target))
    except SightlineError as error:
        say(f"no k-NN accuracy while pre-training: {error.what}")
        return config
    return probed(config, target)


def ensure(place: Path, config: Config, folder: Path, say: Callable[[str], None], quiet: bool) -> bool:
    """Have the run `place` finished: train it, go on with it, or leave it as it is; returns whether it was trained."""
    config = run_folder.with_absolute_paths(config)
    begun = any((place / "checkpoints" / "last").glob("state-*.safetensors")) and (place / "recipe.yaml").is_file()
    changed = changes(load_recipe_file(place / "recipe.yaml"), config) if begun else []
    if changed:
        why = f"a run of other settings lies in the grid's folder: {', '.join(changed)}"
        raise SightlineError("this run is not the grid's", where=str(place), why=why, cure="choose another --out")
    if begun and run_folder.is_finished(place):
        say(f"{place.name}: done")
        return False
    say(f"\n{place.name}: {'goes on' if begun else 'begins'}")
    try:
        if begun:
            resume(place, quiet=quiet)
        else:
            train(config, out=place, overwrite=True, quiet=quiet)
    except SightlineError as error:
        if error.status != INTERRUPTED:
            raise
        cure = GO_ON.format(shlex.quote(str(folder)))
        raise SightlineError(error.what, where=str(place), why=error.why, cure=cure, status=INTERRUPTED) from error
    return True
