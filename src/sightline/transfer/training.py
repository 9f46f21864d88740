"""Train the unfinished runs of a transfer grid: pre-trainings, tries of tuning, runs on the target data."""

from dataclasses import dataclass

from ..config.resolve import resolve
from ..config.schema import Config
from ..errors import SightlineError, some_of
from ..evaluate import evaluate
from ..repeat.several import Several, require_same_recipe, train_or_resume, trained_as
from ..runs import run_folder
from .checks import with_usable_probe
from .grid import SETTINGS, Grid
from .output import write_grid_report
from .plan import longer_epochs, own_pretrainings, pretraining_folder, runs_of, summary_of_runs
from .tuning import candidates, chosen_settings, config_of_try, has_diverged, name_of_try


@dataclass(frozen=True)
class Command(Several):
    """What one call of `sightline transfer` trains.

    grid: the grid of this call. merged: the grid with the settings and seeds of earlier calls too.
    """

    grid: Grid
    merged: Grid


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
    require_first_pretrainings(command)
    for setting, wanted in runs.items():  # A first: it shows in minutes that the target data can be used
        needed = (SETTINGS[setting].pretraining, SETTINGS[setting].compute_of)
        for stage, seed in [one for one in own if one[0] in needed]:
            own.remove((stage, seed))
            pretrain(command, stage, seed)
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


def require_first_pretrainings(command: Command) -> None:
    """Raise SightlineError if a first pre-training, from which the settings are tuned, was begun by an earlier command,
    is not finished, and is not among the seeds of this one."""
    merged = command.merged
    now = own_pretrainings(command.grid)
    for stage in dict.fromkeys(stage for stage, _ in now):
        first = merged.pretrain_seeds[0]
        run = pretraining_folder(command.folder, merged, stage, first)
        if (stage, first) not in now and not run_folder.is_finished(run):
            seeds = ",".join(str(seed) for seed in merged.pretrain_seeds)
            why = "learning rate and epochs are chosen from it, for all pre-trainings"
            cure = f"finish it: --pretrain-seeds {seeds}; or, if its loss is not finite: --out OTHER"
            raise SightlineError("the first pre-training is not finished", where=str(run), why=why, cure=cure)


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
    """Train the unfinished tries of a setting, each from the first pre-training of the grid. Tries whose loss is not
    finite are left out; raises SightlineError if all are."""
    merged = command.merged
    longer = longer_epochs(command.folder, merged) if SETTINGS[setting].compute_of else None
    first = merged.pretrainings(SETTINGS[setting].pretraining)[0]
    tries = {f"tune/{name_of_try(setting, settings)}": settings for settings in candidates(merged, setting, longer)}
    for name, settings in tries.items():
        config = config_of_try(merged, setting, settings, weights_of(command, setting, first))
        require_same_recipe(command, name, trained_as(command, name, config))
        if has_diverged(command.folder / name):
            continue
        try:
            train_or_resume(command, name, config)
        except SightlineError as error:
            if not has_diverged(command.folder / name):
                raise
            command.say(f"{name}: {error.what}; this try cannot be chosen")
    if tries and all(has_diverged(command.folder / name) for name in tries):
        stage = SETTINGS[setting].training
        cure = f"lower the learning rate, in a new folder: --{stage}.optim.lr {getattr(merged, stage).optim.lr / 10:g}"
        why = "their loss is not finite: " + some_of(list(tries))
        raise SightlineError(
            f"no try of setting {setting} could be trained", where=str(command.folder), why=why, cure=cure
        )


def look_at_test(command: Command, setting: str) -> None:
    """Evaluate the finished runs of a setting on the test split, each once; every evaluation is counted."""
    for run in runs_of(command.merged, setting):
        path = command.folder / run.name
        if run_folder.final_record(path) and not (path / "predictions" / "test.csv").is_file():
            evaluate(path, split="test", quiet=command.quiet)
