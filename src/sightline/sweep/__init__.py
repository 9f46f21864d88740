"""`sightline sweep`: hyperparameter search. Each trial is an ordinary run; the best trials are compared in a report."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config.paths import path_of
from ..config.resolve import with_data
from ..config.schema import Config
from ..config.strict_yaml import dump_yaml, parse_yaml
from ..errors import SightlineError, listing
from ..report.compare.files import require_own_folder
from ..runs import run_folder
from ..runs.atomic import atomic_write, remove
from ..runs.lock import lock_run
from ..runs.terminal import print_plain
from ..user_code import accepts_code
from .cluster import cluster_faults, cluster_launcher, split_cluster
from .plan import SweepPlan, make_plan
from .report import write_sweep_report
from .results import Sweep, report_best, write_results
from .scheduler import TrialScheduler, local_launcher
from .study import JOURNAL, SweepStudy, require

FILE, WEIGHTS = "sweep.yaml", "data, weights"
CHOSEN_ON_VAL = {"data.inner_fraction": "0"}
"""What sweep.yaml of earlier versions lacks: their trials were chosen on the validation images."""
WRITTEN = (FILE, JOURNAL, "sweep.json", "sweep.csv", "best.yaml", "report.html", "report.pdf", "figures", "compare",
           "logs", "jobs", "code")  # fmt: skip
"""Files and folders that a sweep writes in its folder, in addition to the run folders of its trials."""


@accepts_code
def sweep(
    recipe: str | Config,
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    trials: int | None = None,
    minutes: float = 0.0,
    jobs: int = 1,
    metric: str | None = None,
    sampler: str = "tpe",
    pruner: str = "median",
    seed: int = 0,
    storage: str = "",
    cluster: str = "",
    overwrite: bool = False,
    quiet: bool = False,
    split: str = "",
    code: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Sweep:
    """Search for good settings of `recipe` on `data`; returns the folder with sweep.json, best.yaml and report.html.

    settings: ranges ("1e-3..1e-1", "16..128"), choices ("sgd,adamw" or a list), and fixed values. trials: total number
    of trials, including those of earlier calls; by default 20, or all combinations if there are fewer or `sampler` is
    "grid". minutes: time limit of this call, 0 for none; running trials are saved. jobs: number of parallel trials, on
    this machine or as jobs of `cluster` ("slurm" or "local", with options such as `cluster.minutes`). metric: by
    default the recipe's `train.best_metric`. sampler: "tpe", "random" or "grid". pruner: "median", "halving" or "none".
    storage: URL of a database for the trials; by default they are in a file in the folder. overwrite: delete an
    existing sweep in the folder.

    Trials are chosen on an inner split of the training images (`data.inner_fraction`, by default a fifth), and the best
    is reported on the validation images, on which nothing was chosen. split: "test" to choose on the validation images
    and to report on the test split.

    The same call resumes an interrupted sweep. Raises one SightlineError for all errors in the search space before any
    training, and one with status 4 when interrupted.
    """
    require("optuna")
    if cluster:
        require("submitit")
    typed, options = split_cluster(dict(settings))
    check_options(trials, minutes, jobs, seed, cluster_faults(cluster, options))
    plan = make_plan(recipe, with_data(typed, data), metric, sampler, pruner, seed, split)
    folder = path_of(out) if out is not None else run_folder.default_folder(f"sweep-{plan.base.name}")
    run_folder.require_outside_data(folder, plan.first.data.path)
    require_own_folder(folder, (folder / FILE).is_file(), "sweep")
    say = (lambda text: None) if quiet else print_plain
    with lock_run(folder) as note:
        if note:
            say(note)
        study = SweepStudy(folder, plan, study_name(folder, plan, overwrite), trials, storage)
        if study.is_grid and sampler != "grid":
            say(f"the search space has {len(plan.grid())} combinations of values; each is tried once")
        launch = cluster_launcher(study, cluster, options, jobs, say) if cluster else local_launcher(jobs)
        TrialScheduler(study, launch, jobs, say, detach=cluster == "slurm").run(minutes)
        return finish(study, say)


def check_options(trials: int | None, minutes: float, jobs: int, seed: int, faults: list[str]) -> None:
    """Raise one SightlineError for all invalid options. faults: error messages on the options of the cluster."""
    numbers = [f"--trials {trials}: it must be 1 or more"] * (trials is not None and trials < 1)
    numbers += [f"--jobs {jobs}: it must be 1 or more"] * (jobs < 1)
    numbers += [f"--minutes {minutes}: it must be 0 (no limit) or more"] * (not minutes >= 0)
    numbers += [f"--seed {seed}: it must be 0 or more"] * (seed < 0)
    if numbers + faults:
        why = "\n" + listing(numbers + faults)
        raise SightlineError(
            "invalid options",
            where="the command line",
            why=why,
            cure="correct these options; to list all: sightline sweep --help",
        )


def study_name(folder: Path, plan: SweepPlan, overwrite: bool) -> str:
    """The name of the sweep's Optuna study, from sweep.yaml; if that file is missing, it is written with a new name.

    overwrite: remove an existing sweep first. Raises SightlineError with the differences if sweep.yaml was written by a
    sweep with other settings.
    """
    path, identity = folder / FILE, plan.identity()
    if path.is_file() and overwrite:
        trials = sorted(folder.glob("trial-[0-9][0-9][0-9][0-9]*"))
        for trial in trials:
            with lock_run(trial):  # raises if a job of the old sweep is still running
                pass
        remove([*trials, *(folder / name for name in reversed(WRITTEN))])
    if not path.is_file():
        name = f"{folder.resolve().name}-{secrets.token_hex(4)}"
        atomic_write(path, dump_yaml({"study": name, "settings": identity}))
        return name
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        name, before = str(values["study"]), CHOSEN_ON_VAL | dict(values["settings"])
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        why, cure = (
            f"{type(error).__name__}: {error}",
            "choose another folder: --out FOLDER; or replace that sweep: --overwrite",
        )
        raise SightlineError("cannot read sweep.yaml", where=str(path), why=why, cure=cure) from error
    before = {WEIGHTS: identity.get(WEIGHTS)} | before  # earlier versions did not write it
    keys = dict.fromkeys([*before, *identity])
    changed = [key for key in keys if before.get(key) != identity.get(key)]
    if changed:
        lines = [f"{key}: {before.get(key, 'none')} -> {identity.get(key, 'none')}"[:200] for key in changed]
        cure = (
            "run the same command as before; or choose another folder: --out FOLDER; or replace that sweep: --overwrite"
        )
        if "data.inner_fraction" in changed:
            cure = f"add the earlier value: --data.inner_fraction {before['data.inner_fraction']}; or {cure}"
        why = "\n" + listing(lines)
        raise SightlineError("this folder contains another sweep", where=str(folder), why=why, cure=cure)
    return name


def finish(study: SweepStudy, say: Callable[[str], None]) -> Sweep:
    """Write the results, evaluate the best trials on images that chose nothing, write the report, and print the best
    trial. Raises SightlineError if no trial is complete."""
    result = write_results(study)
    states = [trial["state"] for trial in result.trials]
    left = study.trials - len(states) + states.count("running")
    if result.best is None:
        why = f"{states.count('failed')} trials failed, {states.count('pruned')} were pruned, and {left} are left"
        cure = "run the same command again; if no trials are left, with a larger --trials"
        raise SightlineError("no trial is complete", where=str(study.folder), why=why, cure=cure)
    result = report_best(study)
    for line in write_sweep_report(study.folder):
        say(line)
    if left:
        say(f"{left} of {study.trials} trials are left: run the same command again")
    say(f"report: {result.report}")
    return result


__all__ = ["Sweep", "sweep"]
