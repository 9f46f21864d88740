"""`sightline repeat`: the command's runs."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.paths import path_of
from ..config.resolve import resolve, with_data
from ..config.schema import Config
from ..data.sources.open import open_source
from ..data.sources.pairs import is_segmentation, open_pairs
from ..doctor.quick import divided_films
from ..errors import SightlineError, some_of
from ..recipes import load_recipe
from ..report.compare.files import require_own_folder
from ..runs import run_folder
from ..runs.atomic import remove
from ..runs.lock import lock_run
from ..runs.log import once, said_once
from ..runs.signals import StopRequest
from ..runs.terminal import print_plain
from ..stats.folds import FEWEST_FOLDS
from ..tasks import TASKS
from ..tasks.files import load_recipe_file, typed
from ..tasks.opening import opened_once
from ..user_code import accepts_code
from .page import write_result
from .results import WRITTEN, RepeatResult, Repeats, Repetition, is_remainder, read_plan, runs_in, write_plan
from .several import (
    Several,
    changed_inputs,
    parse_seeds,
    require_same_recipe,
    store_inputs,
    train_or_resume,
    trained_as,
    weights_digest,
)

NOTHING_CHOSEN = {"train.best_metric": "epoch", "train.patience": 0}


@accepts_code
@opened_once()
@said_once()
def repeat(
    recipe: str | Config,
    data: str | os.PathLike[str] | None = None,
    *,
    folds: int = 0,
    seeds: str | int | Iterable[int] = "0",
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> RepeatResult:
    """Train a recipe once for each fold of the data and each seed, and report the mean of its metric, with an interval,
    and how much it varies.

    folds: the training images are divided into so many equal parts, by class and by group; each is once the validation
    set (cross-validation). 0: all runs have the validation images of the data. seeds: "0,1,2". out: the folder of the
    runs, runs/repeat-NAME by default. overwrite: delete the runs of another repetition there. settings: as of `train`.
    Each run keeps the weights of its last epoch, so that nothing is chosen on the images of its score, unless
    `train.best_metric` is given.

    The same call resumes an interrupted repetition; more seeds add runs. Raises SightlineError for fewer than three
    folds, for one seed without folds, and with status 4 when interrupted.
    """
    chosen = parse_seeds(seeds, "--seeds")
    require_several(folds, chosen)
    base = load_recipe(recipe) if not isinstance(recipe, Config) else typed(recipe)
    given = with_data(settings, data)
    require_free(given, folds)
    usual = NOTHING_CHOSEN if TASKS[base.task].selects_epochs else {}
    config = resolve(base, usual | given)
    if folds:
        require_whole(config)
        require_unseen(config)
    plan = Repeats(config.name, folds, chosen)
    first = run_folder.with_absolute_paths(resolve(config, own_settings(next(iter(plan.runs.values())), folds)))
    folder = path_of(out) if out is not None else run_folder.default_folder(f"repeat-{config.name}")
    run_folder.require_outside_data(folder, config.data.path)
    say: Callable[[str], None] = (lambda text: None) if quiet else print_plain
    inputs = checked_inputs(first, once(say))
    with lock_run(folder) as note:
        if note:
            say(f"warning: {note}")
        plan = with_earlier_seeds(folder, plan, overwrite)
        several = Several("repetition", True, folder, say, quiet, StopRequest.received)
        configs = {name: resolve(config, own_settings(run, folds)) for name, run in plan.runs.items()}
        for name, each in configs.items():  # before anything is written
            require_same_recipe(several, name, trained_as(several, name, each))
        require_same_inputs(folder, plan, inputs)
        if earlier := [str(seed) for seed in plan.seeds if seed not in chosen]:
            say(f"the seeds of earlier commands are included: {', '.join(earlier)}")
        plan = replace(plan, films=films_in(config) if folds else "")
        if plan.films:
            say(f"warning: {plan.films}")
        write_plan(folder, plan)
        store_inputs(folder, inputs)
        for name, each in configs.items():
            train_or_resume(several, name, each)
        result = write_result(folder, plan)
    say("\n".join(["", result.sentence, *result.notes, f"report: {result.report}"]))
    return result


def require_free(given: Mapping[str, Any], folds: int) -> None:
    """Raise SightlineError if a setting is given that differs between the runs of a repetition."""
    if "train.seed" in given:
        why, cure = "the seeds of the runs are those of --seeds", f"--seeds {given['train.seed']}"
        raise SightlineError("train.seed differs between the runs", where="--train.seed", why=why, cure=cure)
    if folds and "data.fold" in given:
        why, cure = "each run has another fold", "leave out --data.fold or --folds"
        raise SightlineError("data.fold differs between the runs", where="--data.fold", why=why, cure=cure)


def require_whole(config: Config) -> None:
    """Raise SightlineError if the runs would be validated on a part of the training images that is no fold."""
    if config.data.inner_fraction:
        why = f"data.inner_fraction is {config.data.inner_fraction:g}, as in the trials of a sweep: it holds out others"
        cure = "add --data.inner_fraction 0; or leave out --folds, and use several seeds: --seeds 0,1,2"
        raise SightlineError("these runs would not be validated on the folds", where="--folds", why=why, cure=cure)


def own_settings(run: Repetition, folds: int) -> dict[str, Any]:
    """The settings in which a run differs from the others."""
    return {"train.seed": run.seed} | ({"data.fold": f"{run.fold}/{folds}"} if folds else {})


def checked_inputs(first: Config, say: Callable[[str], None]) -> dict[str, str]:
    """A digest of the data and of the file of initial weights. first: the recipe of the first run.

    Raises SightlineError for invalid settings, missing data, and a pre-training without labels to measure it on.
    """
    task = TASKS[first.task]
    task.check(first)
    if first.data.fold and task.probe_setting and run_folder.value_of(first, task.probe_setting):
        why = f"its features are measured on the images of {task.probe_setting}"
        cure = "use several seeds instead: --seeds 0,1,2"
        raise SightlineError("this pre-training has no folds", where="--folds", why=why, cure=cure)
    source = task.open(first, say)
    evaluated = task.evaluated(first, source) if task.evaluated else source
    found = {"data": source.listing_digest, "model.weights": weights_digest(first.model.weights)}
    return found | ({task.probe_setting: evaluated.listing_digest} if evaluated is not source else {})


def require_same_inputs(folder: Path, plan: Repeats, inputs: Mapping[str, str]) -> None:
    """Raise SightlineError if runs of the plan were trained from other data or weights."""
    started = [name for name in plan.runs if run_folder.is_started(folder / name)]
    if started and (changed := changed_inputs(folder, inputs)):
        what = f"{' and '.join(changed)}: other files or labels than those of the runs in this folder"
        cure = "choose another folder: --out FOLDER; or delete the runs in this one: --overwrite"
        why = f"their results cannot be averaged with those of new runs: {some_of(started)}"
        raise SightlineError(what, where=str(folder), why=why, cure=cure)


def films_in(config: Config) -> str:
    """A sentence on the films of the data that folds would divide, or ""."""
    data = config.data
    if is_segmentation(data):
        return divided_films(open_pairs(data, data.split_seed, hold_out=False)[0], data)
    return divided_films(open_source(data, data.split_seed, hold_out=False), data)


def require_several(folds: int, seeds: tuple[int, ...]) -> None:
    """Raise SightlineError for numbers of folds and seeds with which nothing is repeated."""
    if folds and folds < FEWEST_FOLDS:
        why = f"the interval of the mean needs at least {FEWEST_FOLDS} folds"
        raise SightlineError(
            f"--folds {folds} is too few",
            where="--folds",
            why=why,
            cure="use --folds 5",
        )
    if len(set(seeds)) < len(seeds):
        raise SightlineError("a seed is listed twice", where="--seeds", cure="list each seed once: --seeds 0,1,2")
    if not folds and len(seeds) < 2:
        cure = "train on five parts of the data: --folds 5; or with several seeds: --seeds 0,1,2"
        why = "one seed without folds is one run, which `sightline train` trains"
        raise SightlineError("there is nothing to repeat", where="sightline repeat", why=why, cure=cure)


def require_unseen(config: Config) -> None:
    """Raise SightlineError if the initial weights are those of a run on the same data, or on a folder around or inside
    them: it has seen images of the folds. A table stands for its folder."""
    weights = path_of(config.model.weights)
    recipe = next((path for one in (weights, *weights.parents[:3]) if (path := one / "recipe.yaml").is_file()), None)
    if recipe is None or not weights.exists():
        return
    paths = [Path(run_folder.with_absolute_paths(one).data.path) for one in (config, load_recipe_file(recipe))]
    own, before = (path.parent if path.is_file() else path for path in paths)
    if own == before or own.is_relative_to(before) or before.is_relative_to(own):
        why = f"{config.model.weights} was trained on {before}, so that every fold would be validated on known images"
        cure = "begin with other weights: --model.weights pretrained, or none; or use --seeds 0,1,2 instead of folds"
        raise SightlineError("the initial weights have seen the folds", where="model.weights", why=why, cure=cure)


def with_earlier_seeds(folder: Path, plan: Repeats, overwrite: bool) -> Repeats:
    """The plan with the seeds of earlier calls in this folder. With `overwrite`, the runs of another plan are deleted.

    Raises SightlineError if the folder has other content, or a repetition with another number of folds.
    """
    old = read_plan(folder)
    if old is None:
        require_own_folder(folder, is_remainder(folder), "repetition")
    if overwrite:
        for run in runs_in(folder):
            shutil.rmtree(run, ignore_errors=True)
        remove(folder / name for name in WRITTEN)
        return plan
    if old is None or not any(run_folder.is_started(folder / name) for name in old.runs):
        return plan
    if old.folds != plan.folds:
        what = f"this folder has the runs of a repetition with {old.folds or 'no'} folds"
        cure = "choose another folder: --out FOLDER; or delete its runs: --overwrite"
        raise SightlineError(what, where=str(folder), cure=cure)
    return replace(plan, seeds=tuple(dict.fromkeys(old.seeds + plan.seeds)))
