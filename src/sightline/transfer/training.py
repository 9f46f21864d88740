"""Train the unfinished runs of a transfer grid: pre-trainings, tries of tuning, runs on the target data."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config.resolve import resolve
from ..config.schema import Config
from ..errors import INTERRUPTED, SightlineError
from ..evaluate import evaluate
from ..models.pretrained.preprocessing import with_own_preprocessing
from ..runs import run_folder
from ..runs.signals import StopRequest
from ..tasks.files import load_recipe_file
from ..train import resume, train
from .checks import open_data, with_default_probe
from .folder import recipe_changes
from .grid import SETTINGS, Grid
from .output import write_grid_report
from .plan import final_record, longer_epochs, own_pretrainings, pretraining_folder, runs_of, summary_of_runs
from .tuning import candidates, chosen_settings, config_of_try, name_of_try

RESUME = "run the same command again to resume the grid in {}"


@dataclass(frozen=True)
class Command:
    """What one call of `sightline transfer` trains.

    grid: the grid of this call. merged: the grid with the settings and seeds of earlier calls too. folder: of the grid.
    signals: the number of signals that the process had received before.
    """

    grid: Grid
    merged: Grid
    folder: Path
    say: Callable[[str], None]
    quiet: bool
    signals: int


def train_all(command: Command) -> None:
    """Train every unfinished run of the grid, and evaluate the runs on the grid's split."""
    grid, merged, folder = command.grid, command.merged, command.folder
    tries = {letter: candidates(merged, letter) for letter in grid.settings}
    runs = {letter: runs_of(grid, letter) for letter in grid.settings}
    own = own_pretrainings(grid)
    folders = [pretraining_folder(folder, grid, *one) for one in own]
    folders += [folder / run.name for each in runs.values() for run in each]
    finished = sum(run_folder.is_finished(path) for path in [*folders, *(folder / "tune").glob("*")])
    command.say(summary_of_runs(grid, sum(map(len, tries.values())), finished))
    for stage, seed in own:
        pretrain(command, stage, seed)
    for setting, wanted in runs.items():
        tune(command, setting)
        chosen = chosen_settings(folder, merged, setting)
        assert chosen is not None, f"{setting} is not tuned"
        for run in wanted:
            config = grid.config_of(setting, run.seed, weights_of(command, setting, run.pretraining), chosen)
            if train_or_resume(command, run.name, config):
                write_grid_report(folder, merged)
    if merged.split == "test":
        for setting in merged.settings:
            look_at_test(command, setting)


def pretrain(command: Command, stage: str, seed: int) -> None:
    """Train a pre-training of the grid if it is unfinished."""
    config: Config = getattr(command.grid, stage)
    config = with_usable_probe(config, command.grid.full, command.say)
    name = pretraining_folder(command.folder, command.grid, stage, seed).name
    train_or_resume(command, name, resolve(config, {"train.seed": seed}))


def weights_of(command: Command, setting: str, seed: int | None) -> str:
    """The path of the weights from which a run of a setting starts; "" for random weights."""
    stage = SETTINGS[setting].pretraining
    if not stage:
        return ""
    assert seed is not None
    return str(pretraining_folder(command.folder, command.grid, stage, seed).absolute())


def tune(command: Command, setting: str) -> None:
    """Train the unfinished tries of a setting, each from the first pre-training of the grid."""
    merged = command.merged
    longer = longer_epochs(command.folder, merged) if SETTINGS[setting].compute_of else None
    first = merged.pretrainings(SETTINGS[setting].pretraining)[0]
    for settings in candidates(merged, setting, longer):
        config = config_of_try(merged, setting, settings, weights_of(command, setting, first))
        train_or_resume(command, f"tune/{name_of_try(setting, settings)}", config)


def look_at_test(command: Command, setting: str) -> None:
    """Evaluate the finished runs of a setting on the test split, each once; every evaluation is counted."""
    for run in runs_of(command.merged, setting):
        path = command.folder / run.name
        if final_record(path) and not (path / "predictions" / "test.csv").is_file():
            evaluate(path, split="test", quiet=command.quiet)


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


def raise_if_interrupted(command: Command) -> None:
    """Raise SightlineError if a signal arrived after the last step of a run, too late to interrupt that run."""
    if StopRequest.received > command.signals:
        cure = RESUME.format(shlex.quote(str(command.folder)))
        raise SightlineError(
            "the grid was interrupted between two runs", where=str(command.folder), cure=cure, status=INTERRUPTED
        )


def train_or_resume(command: Command, name: str, config: Config) -> bool:
    """Train the run with this path in the grid's folder, resume it, or do nothing if it is finished; returns whether it
    was trained.

    Raises SightlineError if the run has a checkpoint that was trained with different settings, and if a signal has
    arrived since the run before.
    """
    raise_if_interrupted(command)
    run = command.folder / name
    config, _ = with_own_preprocessing(run_folder.with_absolute_paths(resolve(config, {"name": run.name})))
    started = run_folder.is_started(run)
    old = load_recipe_file(run / "recipe.yaml") if started else config
    changed = recipe_changes(old, run_folder.built_in(run, config)) if started else []
    if changed:
        why = f"these settings differ: {', '.join(changed)}"
        cure = "choose another folder: --out FOLDER"
        raise SightlineError("this run has other settings than the grid", where=str(run), why=why, cure=cure)
    if started and run_folder.is_finished(run):
        command.say(f"{name}: done")
        return False
    command.say(f"\n{name}: {'resuming' if started else 'training'}")
    try:
        if started:
            resume(run, quiet=command.quiet)
        else:
            train(config, out=run, overwrite=True, quiet=command.quiet)
    except SightlineError as error:
        if error.status != INTERRUPTED:
            raise
        cure = RESUME.format(shlex.quote(str(command.folder)))
        raise SightlineError(error.what, where=str(run), why=error.why, cure=cure, status=INTERRUPTED) from error
    return True
