"""`sightline transfer`: does pre-training pay? Runs of five settings on one target, and what can be said of them."""

import os
import shlex
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from . import runs
from .build_classify import open_labeled
from .build_pretrain import open_images, probe_images
from .config import Config
from .data.sources import Source
from .errors import INTERRUPTED, SightlineError
from .files import atomic_write, sha256
from .grid import STAGES, WAYS, Grid, grid_yaml, load_grid_file, resolve_grid
from .lock import lock_run
from .models.weights import weights_folder
from .recipes import load_grid
from .report.grid import GridResult, text_table, write_grid_report
from .settings import load_recipe_file, resolve
from .signals import StopRequest

T = TypeVar("T")
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
    quiet: bool = False,
    **overrides: Any,
) -> GridResult:
    """Train the grid's runs on `data`, those that are not done yet, and compare them; returns the numbers.

    recipe: a shipped grid, a grid.yaml, a .py with recipe(), or a Grid. unlabeled, labeled: the images to pre-train on,
    or weights of an earlier pre-training: a run folder or a file. out: the folder of the grid, runs/NAME by default.
    settings: which of ABCDE. seeds: "0,1,2". overrides: `full.train.epochs` and the like, for a stage. Each run is an
    ordinary run folder; an interrupted grid goes on when it is asked for again.
    """
    say: Callable[[str], None] = (lambda text: None) if quiet else print
    wanted = dict(overrides)
    if data is not None:
        wanted |= {"full.data.path": os.fspath(data), "frozen.data.path": os.fspath(data)}
    for stage, place in (("unlabeled", unlabeled), ("labeled", labeled)):
        if place is not None:
            key = f"{stage}_weights" if holds_weights(Path(place)) else f"{stage}.data.path"
            wanted[key] = os.path.abspath(place) if os.path.exists(place) else os.fspath(place)
    if settings is not None:
        wanted["settings"] = tuple(settings.replace(",", ""))
    if seeds is not None:
        wanted["seeds"] = seeds_of(seeds)
    if classifier is not None:
        wanted["classifier"] = classifier
    grid = resolve_grid(recipe if isinstance(recipe, Grid) else load_grid(recipe), wanted)
    grid = grid.model_copy(update={stage: runs.with_whole_paths(getattr(grid, stage)) for stage in STAGES})
    check_sources(grid, say)
    folder = folder_of(recipe, out, grid)
    with lock_run(folder) as note:
        if note:
            say(f"warning: {note}")
        whole = claim(folder, grid)
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
    return Path(str(recipe)) if own else Path("runs") / grid.name


def train_all(grid: Grid, whole: Grid, folder: Path, say: Callable[[str], None], quiet: bool) -> None:
    """Every run of `grid` that is not done; `whole` is what the folder's page shows."""
    weights = {}
    with StopRequest() as stop:
        for stage in stages_of(grid):
            end_if_asked(stop, folder)
            weights[stage] = pretrained(grid, stage, folder, say, quiet)
        for setting, seed in product(grid.settings, grid.seeds):
            end_if_asked(stop, folder)
            config = grid.config_of(setting, seed, weights.get(WAYS[setting].start, ""))
            if ensure(folder / f"{setting}-{seed}", config, folder, say, quiet):
                write_grid_report(folder, whole)


def end_if_asked(stop: StopRequest, folder: Path) -> None:
    """The polite end between two runs, after a signal that came in the last step of one or behind it."""
    if stop.requested:
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


def stages_of(grid: Grid) -> list[str]:
    """The pre-trainings that the grid's settings need, the one with labels first."""
    return [stage for stage in ("labeled", "unlabeled") if any(WAYS[s].start == stage for s in grid.settings)]


def check_sources(grid: Grid, say: Callable[[str], None]) -> None:
    """SightlineError where data or weights that the settings need are missing or wrong, all at once, before anything is
    trained. Validation images of the target that are pre-trained on without labels are said, with labels refused."""
    faults: list[str] = []
    cures: list[str] = []
    target: Source | None = None
    if not grid.full.data.path:
        faults.append("no target data was named")
        cures.append("--data TARGET")
    else:
        target, fault = attempt(lambda: open_labeled(grid.full, lambda text: None))
        faults += fault
    for stage in stages_of(grid):
        config: Config = getattr(grid, stage)
        if stage == "unlabeled" and not config.pretrain.probe:
            config = resolve(config, {"pretrain.probe": grid.full.data.path})
        if getattr(grid, f"{stage}_weights"):
            faults += attempt(lambda stage=stage: check_weights(grid, stage))[1]
        elif config.data.path:
            opened = open_images if stage == "unlabeled" else open_labeled
            source, fault = attempt(lambda opened=opened, config=config: opened(config, lambda text: None))
            faults += fault
            common = shared(target, source) if target and source else 0
            if common and stage == "labeled":
                faults.append(f"{common:,} validation images of the target would be pre-trained on with their labels")
                cures.append("--labeled other images, or the same without those of the target's val")
            elif common:
                say(f"note: {common:,} validation images of the target are pre-trained on, without their labels")
        else:
            users = " and ".join(s for s in grid.settings if WAYS[s].start == stage)
            faults.append(f"{users} need{'s' * (len(users) == 1)} pre-training on {stage} images, and none were named")
            cures += [f"--{stage} IMAGES (or a run or a file with weights)", "or leave settings out: --settings A"]
    if faults:
        why = "\n" + "\n".join("    " + fault.replace("\n", "\n    ") for fault in faults)
        cure = "; ".join(dict.fromkeys(cures)) or "mend what is named above"
        raise SightlineError("the grid cannot begin", why=why, cure=cure)


def shared(target: Source, other: Source) -> int:
    """How many files of the target's validation split are training images of another source."""
    paths = {os.path.normpath(os.path.join(target.path, name)) for name in target.splits["val"].names}
    return sum(os.path.normpath(os.path.join(other.path, name)) in paths for name in other.splits["train"].names)


def attempt(check: Callable[[], T]) -> tuple[T | None, list[str]]:
    """(what a check gives, []), or (None, [what it complains of, with where, why and cure])."""
    try:
        return check(), []
    except SightlineError as error:
        return None, [str(error)]


def check_weights(grid: Grid, stage: str) -> None:
    """SightlineError where given weights are not there, of a run that is not done, or pre-trained in the other way."""
    place = Path(getattr(grid, f"{stage}_weights"))
    if not place.exists():
        cure = "check the path; images to pre-train on can be given instead"
        raise SightlineError("there are no such weights", where=f"--{stage} {place}", cure=cure)
    if not (place / "recipe.yaml").is_file():
        return
    if not runs.is_finished(place):
        cure = f"sightline resume {shlex.quote(str(place))}"
        raise SightlineError("this pre-training is not finished", where=str(place), cure=cure)
    without = load_recipe_file(place / "recipe.yaml").task == "byol"
    if without != (stage == "unlabeled"):
        kinds = ("with labels", "without labels")
        why = f"it was trained {kinds[without]}, and --{stage} is for weights that were trained {kinds[not without]}"
        cure = f"--{'unlabeled' if without else 'labeled'} {shlex.quote(str(place))}"
        raise SightlineError("this run is of the other kind", where=str(place), why=why, cure=cure)


def claim(folder: Path, grid: Grid) -> Grid:
    """Write grid.yaml, or check that the folder's own is this grid; returns it with all settings and seeds of both."""
    path = folder / "grid.yaml"
    if path.is_file():
        old = load_grid_file(path)
        changed = [f"{stage}.{key}" for stage in STAGES for key in changes(getattr(old, stage), getattr(grid, stage))]
        others = ("name", "classifier", "labeled_weights", "unlabeled_weights")
        changed += [name for name in others if getattr(old, name) != getattr(grid, name)]
        if changed:
            why = f"they differ in {', '.join(changed)}"
            raise SightlineError("another grid lies here", where=str(folder), why=why, cure="choose another --out")
        letters = tuple(letter for letter in WAYS if letter in old.settings + grid.settings)
        seeds = tuple(dict.fromkeys(old.seeds + grid.seeds))
        grid = grid.model_copy(update={"settings": letters, "seeds": seeds})
    elif any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise SightlineError("this folder is not empty", where=str(folder), cure="choose another with --out")
    for stage in ("labeled", "unlabeled"):
        refuse_changed_weights(folder, stage, getattr(grid, f"{stage}_weights"))
    atomic_write(path, grid_yaml(grid))
    return grid


def changes(old: Config, new: Config) -> list[str]:
    """Dotted keys in which two recipes differ, of those that change what a run computes."""
    harmless = {*runs.CHANGEABLE} - {"data.path", "train.epochs"}
    return [key for key in runs.differences(old, new) if key not in harmless]


def refuse_changed_weights(folder: Path, stage: str, given: str) -> None:
    """SightlineError where given weights have changed since the grid began; their sum is kept in its folder."""
    place = weights_folder(Path(given)) if given else None
    file = place / "model.safetensors" if place else Path(given)
    if not file.is_file():
        return
    now = sha256(file)
    note = folder / f"{stage}-weights.sha256"
    before = note.read_text(encoding="utf-8").split()[0] if note.is_file() else now
    if before != now:
        why = "some runs of the grid began from what they were before"
        raise SightlineError("the weights have changed", where=str(file), why=why, cure="choose another --out")
    atomic_write(note, f"{now}  {file}\n".encode("utf-8", "surrogateescape"))


def pretrained(grid: Grid, stage: str, folder: Path, say: Callable[[str], None], quiet: bool) -> str:
    """The weights of a pre-training: those that were given, or the run that makes them, trained if it is not there."""
    given: str = getattr(grid, f"{stage}_weights")
    if given:
        return given
    config: Config = getattr(grid, stage)
    if stage == "unlabeled" and not config.pretrain.probe:
        config = with_probe(config, grid.full, say)
    place = folder / f"pretrain-{stage}"
    ensure(place, resolve(config, {"name": place.name}), folder, say, quiet)
    return str(place.absolute())


def with_probe(config: Config, target: Config, say: Callable[[str], None]) -> Config:
    """The pre-training with the target as its probe, which is never trained on; without, where it cannot be one."""
    probed = resolve(config, {"pretrain.probe": target.data.path, "data.split_seed": target.data.split_seed})
    try:
        probe_images(probed, lambda text: None)
    except SightlineError as error:
        say(f"no k-NN accuracy while pre-training: {error.what}")
        return config
    return probed


def ensure(place: Path, config: Config, folder: Path, say: Callable[[str], None], quiet: bool) -> bool:
    """Have the run `place` finished: train it, go on with it, or leave it as it is; returns whether it was trained."""
    from .resume import resume
    from .train import train

    config = runs.with_whole_paths(config)
    begun = any((place / "checkpoints" / "last").glob("state-*.safetensors")) and (place / "recipe.yaml").is_file()
    changed = changes(load_recipe_file(place / "recipe.yaml"), config) if begun else []
    if changed:
        why = f"a run of other settings lies in the grid's folder: {', '.join(changed)}"
        raise SightlineError("this run is not the grid's", where=str(place), why=why, cure="choose another --out")
    if begun and runs.is_finished(place):
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
