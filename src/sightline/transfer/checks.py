"""What a transfer grid needs, checked before anything is trained, and all of it at once."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..config.paths import paths_in
from ..config.resolve import resolve
from ..config.schema import Config
from ..data.types import Source
from ..errors import SightlineError
from ..models import build_model
from ..models.weights import load_weights, weights_folder
from ..runs import run_folder
from ..runs.atomic import atomic_write, sha256
from ..tasks import TASKS
from ..tasks.files import load_recipe_file
from .grid import LEARNS_FROM, PRETRAININGS, TRAINED, WAYS, Grid

T = TypeVar("T")


def check_sources(grid: Grid, folder: Path, say: Callable[[str], None]) -> None:
    """SightlineError where data or weights that the settings need are missing or wrong, all at once, before anything is
    trained, or the grid's folder lies within its data. Validation images of the target that are pre-trained on without
    labels are said, with labels refused."""
    for stage in ("full", *stages_of(grid)):
        run_folder.require_outside_data(folder, getattr(grid, stage).data.path)
    faults: list[str] = []
    cures: list[str] = []
    target: Source | None = None
    if not grid.full.data.path:
        faults.append("no target data was named")
        cures.append("--data TARGET")
    else:
        target, fault = attempt(lambda: opened(grid.full))
        faults += fault
    for stage in stages_of(grid):
        config: Config = getattr(grid, stage)
        if getattr(grid, f"{stage}_weights"):
            faults += attempt(lambda stage=stage: check_weights(grid, stage, target))[1]
        elif config.data.path:
            source, fault = attempt(lambda config=config: opened(probed(config, grid.full)))
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


def opened(config: Config) -> Source:
    """The data of a recipe, with their splits listed."""
    return TASKS[config.task].open(config, lambda text: None)


def probed(config: Config, target: Config) -> Config:
    """A pre-training with the target as the labeled data on which its features are measured, unless it names others."""
    setting = TASKS[config.task].probe_setting
    if not setting or setting in paths_in(config):
        return config
    return resolve(config, {setting: target.data.path, "data.split_seed": target.data.split_seed})


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


def check_weights(grid: Grid, stage: str, target: Source | None) -> None:
    """SightlineError where given weights are not there, of a run that is not done, pre-trained in the other way, or
    made for another model than the grid's."""
    place = Path(getattr(grid, f"{stage}_weights"))
    if not place.exists():
        cure = "check the path; images to pre-train on can be given instead"
        raise SightlineError("there are no such weights", where=f"--{stage} {place}", cure=cure)
    if (place / "recipe.yaml").is_file():
        check_run(place, stage)
    model, size = grid.full.model, grid.full.data.size
    classes = target.classes if target else ("a", "b")
    trial = build_model(model.name, len(classes), size, dict(model.args), grid.classifier)
    load_weights(trial, str(place), model.name, size, classes, fresh_head=True)


def check_run(place: Path, stage: str) -> None:
    """SightlineError where a run is not done, or was not pre-trained in the way that a stage stands for."""
    if not run_folder.is_finished(place):
        cure = f"sightline resume {shlex.quote(str(place))}"
        raise SightlineError("this pre-training is not finished", where=str(place), cure=cure)
    kind, wanted = TASKS[load_recipe_file(place / "recipe.yaml").task].learns_from, LEARNS_FROM[stage]
    if kind != wanted:
        why = f"it was trained {TRAINED[kind]}, and --{stage} is for weights that were trained {TRAINED[wanted]}"
        other = next((other for other in PRETRAININGS if LEARNS_FROM[other] == kind), "")
        cure = f"--{other} {shlex.quote(str(place))}" if other else "a classifier's run, or images"
        raise SightlineError("this run is of the other kind", where=str(place), why=why, cure=cure)


def stages_of(grid: Grid) -> list[str]:
    """The pre-trainings that the grid's settings need, the one with labels first."""
    return [stage for stage in PRETRAININGS if any(WAYS[s].start == stage for s in grid.settings)]


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
