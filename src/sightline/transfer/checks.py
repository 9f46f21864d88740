"""Checks of a transfer grid's data and weights before any training. All problems are reported in one error."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..config.paths import paths_in
from ..config.resolve import resolve
from ..config.schema import Config
from ..data.channels import RGB
from ..data.types import Source
from ..errors import SightlineError
from ..models import build_model
from ..models.encoder_weights import load_encoder
from ..models.pretrained.preprocessing import with_own_preprocessing
from ..models.segmenters import build_segmenter
from ..models.weights import load_weights
from ..repeat.several import weights_file
from ..runs import run_folder
from ..runs.atomic import atomic_write, sha256
from ..tasks import TASKS
from ..tasks.files import load_recipe_file
from .grid import PRETRAININGS, SETTINGS, TRAINED_WITH, Grid
from .plan import needed_pretrainings
from .tuning import INNER_FRACTION

T = TypeVar("T")


def check_sources(grid: Grid, folder: Path) -> None:
    """Raise one SightlineError for all missing or invalid data and weights that the grid's settings need, and if the
    grid's folder is inside its data."""
    for stage in ("full", *needed_pretrainings(grid)):
        run_folder.require_outside_data(folder, getattr(grid, stage).data.path)
    faults: list[str] = []
    cures: list[str] = []
    target: Source | None = None
    if not grid.full.data.path:
        faults.append("the option --data with the target data is missing")
        cures.append("give the target data: --data TARGET")
    else:
        target, fault = attempt(lambda: open_data(grid.full))
        faults += fault
        if target and grid.tune != "none":
            inner = resolve(grid.full, {"data.inner_fraction": INNER_FRACTION})
            faults += attempt(lambda: open_data(inner))[1]
        if target and grid.split not in target.splits:
            faults.append(f"the target data have no split {grid.split!r}, on which the settings are to be compared")
            cures.append(
                "list the images in a table with the columns filename, label and split (train, val or test)"
                if grid.classifies
                else "put the test images into a folder `test`, with masks as beside the training images"
            )
    for stage in needed_pretrainings(grid):
        config: Config = getattr(grid, stage)
        if getattr(grid, f"{stage}_weights"):
            faults += attempt(lambda stage=stage: check_weights(grid, stage, target))[1]
            given = run_folder.final_record(Path(getattr(grid, f"{stage}_weights")))
            if SETTINGS["F"].compute_of == stage and "F" in grid.settings and not (given or {}).get("train_flops"):
                faults.append(f"setting F needs the training FLOPs of --{stage}, which only a finished run records")
                cures.append(f"give images or a run: --{stage} PATH; or leave F out of --settings")
        elif config.data.path:
            faults += attempt(lambda config=config: open_data(config))[1]  # of its probe data, see `with_usable_probe`
        else:
            users = [s for s in grid.settings if SETTINGS[s].needs == stage]
            wanted = f"need{'s' * (len(users) == 1)} pre-training {TRAINED_WITH[grid.learns_from(stage)]}"
            faults.append(f"{' and '.join(users)} {wanted}, but --{stage} is not given")
            cures += [
                f"give images, a run or a weights file: --{stage} PATH",
                "or compare other settings: --settings A",
            ]
    if faults:
        why = "\n" + "\n".join("    " + fault.replace("\n", "\n    ") for fault in faults)
        cure = "; ".join(dict.fromkeys(cures)) or "correct the problems listed above"
        raise SightlineError("the transfer grid cannot start", why=why, cure=cure)


def open_data(config: Config) -> Source:
    """List the files, labels and splits of a recipe's data."""
    return TASKS[config.task].open(config, lambda text: None)


def with_default_probe(config: Config, target: Config) -> Config:
    """The recipe of a pre-training, with the target data as probe data if it has no probe data, and if the target has
    labels.

    The probe data are labeled images on which the quality of the features is measured.
    """
    setting = TASKS[config.task].probe_setting
    if not setting or setting in paths_in(config) or TASKS[target.task].learns_from != "labels":
        return config
    return resolve(config, {setting: target.data.path, "data.split_seed": target.data.split_seed})


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


def attempt(check: Callable[[], T]) -> tuple[T | None, list[str]]:
    """Call `check`; returns (its result, []), or (None, [message]) if it raises SightlineError."""
    try:
        return check(), []
    except SightlineError as error:
        return None, [str(error)]


def check_weights(grid: Grid, stage: str, target: Source | None) -> None:
    """Raise SightlineError if the weights that were given for a stage do not exist or do not match the grid's model.

    If the weights are a run, also raise if it is unfinished, if it was trained with labels for the stage `unlabeled`,
    or without labels for the stage `labeled`.
    """
    path = Path(getattr(grid, f"{stage}_weights"))
    if not path.exists():
        cure = f"correct the path, or give images to pre-train on: --{stage} IMAGES"
        raise SightlineError(
            "there is no file or folder of weights with this path", where=f"--{stage} {path}", cure=cure
        )
    if (path / "recipe.yaml").is_file():
        check_run(path, stage, grid)
    model, size = grid.full.model, with_own_preprocessing(grid.full)[0].data.size
    classes = target.classes if target else ("a", "b")
    channels = target.channels.names if target else RGB.names
    if not grid.classifies:
        segmenter = build_segmenter(model.name, len(classes), dict(model.args), len(channels))
        load_encoder(segmenter, str(path), classes, channels, fresh_head=True)
        return
    trial = build_model(model.name, len(classes), size, dict(model.args), grid.classifier, len(channels))
    load_weights(trial, str(path), model.name, size, classes, fresh_head=True, channels=channels)


def check_run(run: Path, stage: str, grid: Grid) -> None:
    """Raise SightlineError if a pre-training run is unfinished, or was not trained with the annotation that its
    stage requires."""
    if not run_folder.is_finished(run):
        cure = f"finish it: sightline resume {shlex.quote(str(run))}"
        raise SightlineError("this pre-training is not finished", where=str(run), cure=cure)
    kind, wanted = TASKS[load_recipe_file(run / "recipe.yaml").task].learns_from, grid.learns_from(stage)
    if kind != wanted and (stage == "unlabeled" or grid.classifies or kind == "nothing"):
        why = f"it was trained {TRAINED_WITH[kind]}; --{stage} needs weights that were trained {TRAINED_WITH[wanted]}"
        other = next((other for other in PRETRAININGS if grid.learns_from(other) == kind), "")
        cure = f"give images or another run: --{stage} PATH"
        if other:
            cure = f"use the run for another stage: --{other} {shlex.quote(str(run))}"
        raise SightlineError(f"this run cannot be used for --{stage}", where=str(run), why=why, cure=cure)


def check_weights_unchanged(folder: Path, stage: str, given: str) -> None:
    """Store the SHA-256 of the given weights in the grid's folder; raise SightlineError if a different one is stored
    there."""
    file = weights_file(given)
    if file is None:
        return
    now = sha256(file)
    stored = folder / f"{stage}-weights.sha256"
    before = stored.read_text(encoding="utf-8").split()[0] if stored.is_file() else now
    if before != now:
        why = "earlier runs of the grid may have been initialized from the old file"
        cure = "restore the file, or start another grid: --out FOLDER"
        raise SightlineError("the weights have changed since the grid started", where=str(file), why=why, cure=cure)
    atomic_write(stored, f"{now}  {file}\n".encode("utf-8", "surrogateescape"))
