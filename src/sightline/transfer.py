"""`sightline transfer`: does pre-training pay? Runs of five settings on one target, and what can be said of them."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import runs
from .config import Config
from .errors import INTERRUPTED, SightlineError
from .files import atomic_write
from .grid import WAYS, Grid, grid_yaml, load_grid_file, resolve_grid
from .recipes import load_grid
from .report.grid import GridResult, read_results, text_table, write_grid_report
from .settings import load_recipe_file, resolve

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
    quiet: bool = False,
    **overrides: Any,
) -> GridResult:
    """Train the grid's runs on `data`, those that are not done yet, and compare them; returns the numbers.

    recipe: a shipped grid, a grid.yaml, or a Grid. unlabeled, labeled: the images to pre-train on, or weights of an
    earlier pre-training: a run folder or a file. out: the folder of the grid, runs/NAME by default. settings: which of
    ABCDE. seeds: "0,1,2". overrides: `full.train.epochs` and the like, for a stage. Each run is an ordinary run folder;
    an interrupted grid goes on when it is asked for again.
    """
    say: Callable[[str], None] = (lambda text: None) if quiet else print
    changes = dict(overrides)
    if data is not None:
        changes |= {"full.data.path": os.fspath(data), "frozen.data.path": os.fspath(data)}
    for stage, place in (("unlabeled", unlabeled), ("labeled", labeled)):
        if place is not None:
            key = f"{stage}_weights" if holds_weights(Path(place)) else f"{stage}.data.path"
            changes[key] = os.path.abspath(place) if os.path.exists(place) else os.fspath(place)
    if settings is not None:
        changes["settings"] = tuple(settings.replace(",", ""))
    if seeds is not None:
        changes["seeds"] = seeds_of(seeds)
    if classifier is not None:
        changes["classifier"] = classifier
    grid = resolve_grid(recipe if isinstance(recipe, Grid) else load_grid(recipe), changes)
    require_sources(grid)
    folder = Path(out) if out is not None else Path("runs") / grid.name
    claim(folder, grid)
    weights = {stage: pretrained(grid, stage, folder, say, quiet) for stage in stages_of(grid)}
    for setting in grid.settings:
        for seed in grid.seeds:
            config = grid.config_of(setting, seed, weights.get(WAYS[setting].start, ""))
            ensure(folder / f"{setting}-{seed}", config, folder, say, quiet)
            write_grid_report(folder, grid)
    result = read_results(folder, grid)
    say(text_table(result))
    say(f"report: {write_grid_report(folder, grid)}")
    return result


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


def stages_of(grid: Grid) -> list[str]:
    """The pre-trainings that the grid's settings need, the one with labels first."""
    return [stage for stage in ("labeled", "unlabeled") if any(WAYS[s].start == stage for s in grid.settings)]


def require_sources(grid: Grid) -> None:
    """SightlineError where data are missing that the settings need, all at once."""
    faults, cures = [], []
    if not grid.full.data.path:
        faults.append("no target data was named")
        cures.append("--data TARGET")
    for stage in stages_of(grid):
        if not getattr(grid, f"{stage}_weights") and not getattr(grid, stage).data.path:
            users = " and ".join(s for s in grid.settings if WAYS[s].start == stage)
            faults.append(f"{users} need pre-training on {stage} images, and none were named")
            cures.append(f"--{stage} IMAGES (or a run or a file with weights)")
    if faults:
        others = "".join(s for s in grid.settings if WAYS[s].start not in stages_of(grid)) or "A"
        cures.append(f"or leave settings out: --settings {others}")
        raise SightlineError("the grid lacks data", why="; ".join(faults), cure="; ".join(cures))


def claim(folder: Path, grid: Grid) -> None:
    """Write grid.yaml, or check that the folder's own is this grid; a grid may get further settings and seeds."""
    path = folder / "grid.yaml"
    if path.is_file():
        old = load_grid_file(path)
        same = grid.model_copy(update={"settings": old.settings, "seeds": old.seeds})
        if same != old:
            different = [name for name in Grid.model_fields if getattr(same, name) != getattr(old, name)]
            why = f"they differ in {', '.join(different)}"
            raise SightlineError("another grid lies here", where=str(folder), why=why, cure="choose another --out")
    elif folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise SightlineError("this folder is not empty", where=str(folder), cure="choose another with --out")
    atomic_write(path, grid_yaml(grid))


def pretrained(grid: Grid, stage: str, folder: Path, say: Callable[[str], None], quiet: bool) -> str:
    """The weights of a pre-training: those that were given, or the run that makes them, trained if it is not there."""
    given: str = getattr(grid, f"{stage}_weights")
    if given:
        return given
    config: Config = getattr(grid, stage)
    if stage == "unlabeled" and not config.pretrain.probe:
        config = resolve(config, {"pretrain.probe": grid.full.data.path})  # measured, and never trained on
    place = folder / f"pretrain-{stage}"
    ensure(place, resolve(config, {"name": f"pretrain-{stage}"}), folder, say, quiet)
    return str(place.absolute())


def ensure(place: Path, config: Config, folder: Path, say: Callable[[str], None], quiet: bool) -> None:
    """Have the run `place` finished: train it, go on with it, or leave it as it is."""
    from .resume import resume
    from .train import train

    config = runs.with_whole_paths(config)
    begun = (place / "checkpoints" / "last").is_dir() and (place / "recipe.yaml").is_file()
    if begun and load_recipe_file(place / "recipe.yaml") != config:
        why = "a run of other settings lies in the grid's folder"
        raise SightlineError(
            "this run is not the grid's", where=str(place), why=why, cure="remove it, or another --out"
        )
    if begun and runs.is_finished(place):
        say(f"{place.name}: done")
        return
    say(f"\n{place.name}: {'goes on' if begun else 'begins'}")
    try:
        if begun:
            resume(place, quiet=quiet)
        else:
            train(config, out=place, overwrite=True, quiet=quiet)
    except SightlineError as error:
        if error.status != INTERRUPTED:
            raise
        cure = f"the same command goes on with the grid in {shlex.quote(str(folder))}"
        raise SightlineError(error.what, where=str(place), why=error.why, cure=cure, status=INTERRUPTED) from error
