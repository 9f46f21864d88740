"""The commands that train, and those that show what can be trained."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..runs.terminal import print_path, print_plain
from . import Settings, Whole, app


@app.command
def demo(*, out: Path = Path("runs/demo"), quiet: bool = False) -> None:
    """Train a classifier, a segmenter and a transfer grid, without a download; prints where the reports are."""
    import sightline
    from sightline.demo import next_commands

    for run in sightline.demo(out=out, quiet=quiet):
        print_plain(f"open this in a browser: {run.report.resolve()}")
    print_plain("\nnext:")
    commands = next_commands(out)
    for command, what in commands:
        print_plain(f"  {command:<{max(len(command) for command, _ in commands)}}  # {what}")


@app.command
def recipes(name: str | None = None, /) -> None:
    """List the shipped recipes; with NAME show one, resolved, as YAML."""
    import sightline

    print_plain(sightline.recipes(name))


@app.command
def train(
    recipe: str,
    /,
    *,
    data: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    watch: bool = False,
    settings: Settings = None,
) -> None:
    """Train RECIPE: a shipped name, a .yaml, or a .py with a function recipe().

    Parameters
    ----------
    data
        Folder of images, CSV, or a name like sklearn:digits or torchvision:CIFAR100.
    out
        The run folder; runs/NAME by default.
    overwrite
        Replace the run that the folder holds.
    quiet
        Print the end only.
    watch
        Serve the report while it trains, on this machine only.
    """
    from ..train import train as function

    run = function(recipe, data, out=out, overwrite=overwrite, quiet=quiet, watch=watch, **(settings or {}))
    if quiet:
        print_path(run.report)


@app.command
def resume(run: Path, /, *, extend: str = "stretch", quiet: bool = False, settings: Settings = None) -> None:
    """Go on after an interruption, or lengthen a finished run: --train.epochs 60.

    Parameters
    ----------
    extend
        stretch: lay the schedule over the new length. continue: keep the old one and hold its last rate.
    """
    from ..train import resume as function

    done = function(run, extend=extend, quiet=quiet, **(settings or {}))
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
    classifier: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> None:
    """Does pre-training pay? Train a grid of runs on DATA: from scratch, pre-trained with and without labels, frozen.

    Settings of a stage follow as --STAGE.section.key VALUE; the stages are labeled, unlabeled, full and frozen.

    Parameters
    ----------
    data
        The target: labeled images of the classes that matter.
    unlabeled
        Images to pre-train on without labels; or weights that were: a run, or a file.
    labeled
        Images to pre-train on with labels; or weights that were: a run, or a file.
    out
        The grid's folder; runs/NAME by default. The same command goes on with a grid that was interrupted.
    settings_
        Which of A (no pre-training), B (labels), C (no labels), D (as B, frozen), E (as C, frozen): ABCDE.
    seeds
        0,1,2 by default.
    classifier
        linear, or mlp: four layers 1000 wide.
    overwrite
        Remove the runs of another grid that lies in the folder.
    quiet
        Print the end only.
    """
    import sightline

    result = sightline.transfer(
        recipe,
        data,
        unlabeled=unlabeled,
        labeled=labeled,
        out=out,
        settings=settings_,
        seeds=seeds,
        classifier=classifier,
        overwrite=overwrite,
        quiet=quiet,
        **(settings or {}),
    )
    if quiet:
        print_path(result.report)


@app.command
def sweep(
    recipe: str,
    /,
    *,
    data: str | None = None,
    out: Path | None = None,
    trials: Whole | None = None,
    minutes: float = 0.0,
    jobs: Whole = 1,
    metric: str | None = None,
    sampler: str = "tpe",
    pruner: str = "median",
    seed: Whole = 0,
    storage: str = "",
    cluster: str = "",
    overwrite: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> None:
    """Search settings of RECIPE: --optim.lr 1e-3..1e-1 --train.batch_size 32,64. Each trial is an ordinary run.

    Ranges are 1e-3..1e-1 and 16..128, on a logarithmic scale from a factor of ten on (or as log: and lin: before them
    say); choices are a,b,c; a single value is the same for all. The same command goes on with what was interrupted.

    Parameters
    ----------
    data
        Folder of images, CSV, or a name like sklearn:digits or torchvision:CIFAR100.
    out
        The sweep's folder; runs/sweep-NAME by default.
    trials
        How many in all; 20, or every combination of a grid or where there are no more.
    minutes
        Stop after so long; what is running is saved, and the same command goes on.
    jobs
        Trials at a time, on this machine or on the cluster.
    metric
        What to search by; the recipe's train.best_metric by default.
    sampler
        tpe learns from the trials before; random; grid goes through all combinations.
    pruner
        median stops trials that are worse than the median at the same epoch; halving keeps the best third; none.
    seed
        Of the sampler; with one job the same seed gives the same trials.
    storage
        A database instead of a file in the folder: sqlite:///FILE, postgresql://...
    cluster
        slurm or local: trials as jobs, with --cluster.partition, --cluster.minutes, --cluster.gpus and so on.
    overwrite
        Remove the sweep that the folder holds.
    quiet
        Print the end only.
    """
    import sightline

    result = sightline.sweep(
        recipe,
        data,
        out=out,
        trials=trials,
        minutes=minutes,
        jobs=jobs,
        metric=metric,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        storage=storage,
        cluster=cluster,
        overwrite=overwrite,
        quiet=quiet,
        **(settings or {}),
    )
    if quiet:
        print_path(result.report)
