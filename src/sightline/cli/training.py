"""Commands that train: demo, recipes, train, resume, transfer, sweep."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..runs.terminal import print_path, print_plain
from . import Code, Flag, Integer, Quiet, Settings, Text, app


@app.command
def demo(*, out: Path = Path("runs/demo"), quiet: Flag = False) -> None:
    """Train a classifier, a segmentation model and a transfer grid on built-in data; nothing is downloaded.

    Args:
        out: Folder for the runs and their data.
        quiet: Print only the paths of the reports and the next commands.
    """
    import sightline
    from sightline.demo import look_first, next_commands

    results = sightline.demo(out=out, quiet=quiet)
    for run in results:
        print_plain(f"open this in a browser: {run.report.resolve()}")
    print_plain(f"\n{look_first(out, results)}\n\nnext:")
    commands = next_commands(out)
    for command, what in commands:
        print_plain(f"  {command:<{max(len(command) for command, _ in commands)}}  # {what}")


@app.command
def recipes(name: str | None = None, /, *, all: Flag = False, code: Code = None) -> None:
    """List the built-in recipes, or print one as YAML: what it is for, and the settings that differ from the defaults.

    Args:
        name: A recipe, for example photos_scratch; or a .yaml or .py file.
        all: Print all settings.
    """
    import sightline

    print_plain(sightline.recipes(name, all=all, code=code))


@app.command
def train(
    recipe: str | None = None,
    /,
    *,
    data: str | None = None,
    out: Path | None = None,
    overwrite: Flag = False,
    quiet: Quiet = False,
    watch: Flag = False,
    code: Code = None,
    settings: Settings = None,
) -> None:
    """Train a model by a recipe and write a run folder with its weights, metrics and report.

    Without a recipe, one is chosen by the data: the first of `sightline start` that learns. Any setting of the recipe
    can follow as --SECTION.KEY VALUE; `sightline recipes RECIPE --all` lists them.

    Example: sightline train photos_scratch --data photos/ --train.epochs 20

    Args:
        recipe: A built-in recipe, a .yaml file, or a .py file with a function recipe().
        data: A folder of images, a CSV file, or a name like sklearn:digits or torchvision:CIFAR100.
        out: The run folder; runs/NAME by default, where NAME is the recipe's name.
        overwrite: Replace an existing run in that folder.
        watch: Serve the report at 127.0.0.1 during training.
    """
    from ..train import train as function

    run = function(
        recipe_or_first(recipe, data, settings),
        data,
        out=out,
        overwrite=overwrite,
        quiet=quiet,
        watch=watch,
        code=code,
        **(settings or {}),
    )
    if quiet:
        print_path(run.report)


def recipe_or_first(recipe: str | None, data: str | None, settings: dict[str, Any] | None) -> Any:
    """The recipe that was named, or else the one that the data need."""
    if recipe is not None:
        return recipe
    from ..start.first import first_recipe

    return first_recipe(data, settings or {})


@app.command
def start(
    data: str,
    *,
    minutes: float = 10.0,
    weights: str = "",
    model: str = "",
    out: Path | None = None,
    overwrite: Flag = False,
    quiet: Quiet = False,
    code: Code = None,
    settings: Settings = None,
) -> None:
    """From a folder of images to a first result: baselines, frozen features, fine-tuning, training from scratch.

    Each step is an ordinary run, cheapest first; what does not fit into the time is left out. The report compares the
    steps, says which one was worth it, and ends with the next commands. Repeat the command to resume it, or with more
    minutes to go on. Settings of all steps follow as --KEY VALUE, such as --data.palette camvid for masks.

    Example: sightline start photos/ --minutes 10

    Args:
        data: A folder of images with one folder per class, or with masks; a CSV file; or a name like sklearn:digits.
        minutes: The time for all steps.
        weights: Weights of the pre-trained network: a file or a run; none for no pre-trained network. By default they
            are downloaded if they are not on this machine.
        model: The pre-trained network, for example timm/vit_small_patch14_dinov2.lvd142m.
        out: Folder for the runs and the report; runs/start by default.
        overwrite: Delete the runs of a start with other settings in that folder.
    """
    import sightline

    options: dict[str, Any] = {"minutes": minutes, "weights": weights, "model": model, "out": out, "quiet": quiet}
    result = sightline.start(data, **options, overwrite=overwrite, code=code, **(settings or {}))
    if quiet:
        print_path(result.report)


@app.command
def repeat(
    recipe: str | None = None,
    /,
    *,
    data: str | None = None,
    folds: Integer = 0,
    seeds: str = "0",
    out: Path | None = None,
    overwrite: Flag = False,
    quiet: Quiet = False,
    code: Code = None,
    settings: Settings = None,
) -> None:
    """Train a recipe once for each fold of the data and each seed, and report the mean of its metric, with an interval.

    Each run is an ordinary run that keeps the weights of its last epoch, so that nothing is chosen on the images of its
    score. Repeat the command to resume it, or with more seeds to add runs. Settings of the recipe follow as
    --SECTION.KEY VALUE.

    Example: sightline repeat photos_probe --data photos/ --folds 5

    Args:
        recipe: A recipe, as for train; without one, it is chosen by the data.
        data: A data set, as for train --data.
        folds: The training images are divided into so many equal parts, by class and by group, and each is once the
            validation set (cross-validation). 0: all runs have the validation images of the data.
        seeds: The seeds of the training, separated by commas, for example 0,1,2.
        out: Folder of the runs and the report; runs/repeat-NAME by default.
        overwrite: Delete the runs of another repetition in that folder.
    """
    import sightline

    chosen = recipe_or_first(recipe, data, settings)
    options: dict[str, Any] = {"folds": folds, "seeds": seeds, "out": out, "overwrite": overwrite, "quiet": quiet}
    result = sightline.repeat(chosen, data, **options, code=code, **(settings or {}))
    if quiet:
        print_path(result.report)


@app.command
def resume(
    run: Path, /, *, extend: str = "stretch", quiet: Quiet = False, code: Code = None, settings: Settings = None
) -> None:
    """Resume an interrupted run, or train a finished one for more epochs.

    Example: sightline resume runs/photos_scratch --train.epochs 60

    Args:
        run: A run folder.
        extend: How the learning-rate schedule changes with --train.epochs: stretch spreads it over the new number of
            epochs; continue keeps it and holds the last learning rate.
    """
    from ..train import resume as function

    done = function(run, extend=extend, quiet=quiet, code=code, **(settings or {}))
    if quiet:
        print_path(done.report)


@app.command
def transfer(
    recipe: str,
    /,
    *,
    data: str | None = None,
    unlabeled: str | None = None,
    labeled: str | None = None,
    out: Path | None = None,
    settings_: Annotated[str | None, Parameter(name="--settings")] = None,
    seeds: str | None = None,
    pretrain_seeds: str | None = None,
    tune: str | None = None,
    split: str | None = None,
    classifier: str | None = None,
    overwrite: Flag = False,
    quiet: Quiet = False,
    code: Code = None,
    settings: Settings = None,
) -> None:
    """Measure whether pre-training helps: train a grid of runs with and without it, and compare them.

    The grid has four stages: the pre-trainings "labeled" and "unlabeled", and on the target data "full" (all weights
    are trained) and "frozen" (only the head, or the decoder of a segmenter). Settings of a stage follow as
    --STAGE.SECTION.KEY VALUE. Repeat the command to resume an interrupted grid, or with more settings and seeds to
    extend it.

    Example: sightline transfer transfer_fast --data target/ --unlabeled images/ --labeled other_classes/

    Args:
        recipe: A built-in grid (transfer_fast, for example), a grid.yaml, or a .py file with a function recipe().
        data: The target data: images with labels, or with masks for transfer_masks.
        unlabeled: Images for pre-training without labels; or weights from such a pre-training: a run or a file.
        labeled: Images for pre-training with labels; or weights from such a pre-training: a run or a file.
        out: Folder of the grid; runs/NAME by default.
        settings_: The settings to compare: A no pre-training, B pre-training with labels, C without labels, D with
            labels and a frozen backbone, E without labels and a frozen backbone, F no pre-training, but trained longer
            with the compute of the one without labels.
        seeds: Seeds of the runs of each setting; 0,1,2 by default.
        pretrain_seeds: Seeds of each pre-training; every run is repeated from each of them.
        tune: small: choose learning rate and epochs of each setting, with the same effort, on a part of the training
            images; none: use those of the recipe.
        split: The images on which the settings are compared: val or test.
        classifier: The head: linear, or mlp (four linear layers with hidden width 1000).
        overwrite: Delete the runs of a different grid in that folder.
    """
    import sightline

    options: dict[str, Any] = {"settings": settings_, "seeds": seeds, "classifier": classifier, "quiet": quiet}
    options |= {"pretrain_seeds": pretrain_seeds, "tune": tune, "split": split}
    options |= {"unlabeled": unlabeled, "labeled": labeled, "out": out, "overwrite": overwrite, "code": code}
    result = sightline.transfer(recipe, data, **options, **(settings or {}))
    if quiet:
        print_path(result.report)


@app.command
def sweep(
    recipe: str,
    /,
    *,
    data: str | None = None,
    out: Path | None = None,
    trials: Integer | None = None,
    minutes: float = 0.0,
    jobs: Integer = 1,
    metric: str | None = None,
    sampler: str = "tpe",
    pruner: str = "median",
    seed: Integer = 0,
    storage: Text = "",
    cluster: Text = "",
    overwrite: Flag = False,
    split: Text = "",
    quiet: Quiet = False,
    code: Code = None,
    settings: Settings = None,
) -> None:
    """Search for good settings of a recipe. Each trial is an ordinary run; unpromising trials are stopped early.

    A setting is searched if its value is a range LOW..HIGH or a list of choices A,B,C. Ranges over a factor of ten or
    more are searched on a logarithmic scale; prefix them with log: or lin: to choose. Repeat the command to resume an
    interrupted sweep.

    Example: sightline sweep digits --optim.lr 1e-3..1e-1 --train.batch_size 32,64

    Args:
        recipe: A recipe, as for train.
        data: A data set, as for train --data.
        out: Folder of the sweep; runs/sweep-NAME by default.
        trials: Total number of trials; by default 20, or all combinations if there are fewer or the sampler is grid.
        minutes: Time limit of this command; running trials are saved. 0 is no limit.
        jobs: Number of trials that run in parallel, on this machine or on the cluster.
        metric: Metric to optimize; by default train.best_metric of the recipe.
        sampler: tpe (learns from earlier trials), random, or grid (all combinations).
        pruner: When to stop trials early: median (worse than the median at the same epoch), halving (keeps the best
            third), or none.
        seed: Seed of the sampler; with one job, the same seed gives the same trials.
        storage: URL of an Optuna database (sqlite:///FILE, postgresql://...) instead of a file in the folder.
        cluster: Run the trials as jobs: slurm or local. Options follow as --cluster.partition, --cluster.minutes,
            --cluster.gpus and so on.
        overwrite: Delete an existing sweep in that folder.
        split: By default, trials are chosen on a share of the training images (--data.inner_fraction 0.2), and the best
            is reported on the validation images. With --split test they are chosen on the validation images, and the
            best is reported on the test split, once.
    """
    import sightline

    options: dict[str, Any] = {
        "out": out, "trials": trials, "minutes": minutes, "jobs": jobs, "metric": metric, "sampler": sampler,
        "pruner": pruner, "seed": seed, "storage": storage, "cluster": cluster, "overwrite": overwrite,
        "code": code, "split": split,
    }  # fmt: skip
    result = sightline.sweep(recipe, data, quiet=quiet, **options, **(settings or {}))
    if quiet:
        print_path(result.report)
