"""Compute the results of a transfer grid from its run folders: accuracies, intervals and comparisons."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import counted
from ..insight.curves import number
from ..report.run import UNREADABLE
from ..runs import run_folder
from ..runs.run_folder import provenance
from ..stats.baselines import baselines_of
from ..stats.groups import Groups, ids_in, read_groups
from ..stats.intervals import NONE, Estimate, effective_images, verdict
from ..stats.nested import nested_difference, nested_mean
from ..stats.paired import bonferroni
from ..stats.units import FEWEST
from ..tasks import TASKS
from ..tasks.pretrain.collapse import collapse
from .grid import COMPARISONS, PRETRAININGS, SETTINGS, SPLIT_NAMES, Grid
from .outcomes import GridResult, Interval, SettingComparison, SettingResult
from .plan import GridRun, log_of, needed_pretrainings, pretraining_folder, runs_of
from .tuning import chosen_settings, read_choice


class RunResult(NamedTuple):
    """Results of a run. values: [N], see `SettingResult`. knn: accuracy of k-nearest neighbors, for linear evaluation,
    else NaN. why: no interval can be given, or ""."""

    values: np.ndarray
    seconds: float
    flops: float
    knn: float
    why: str = ""


def read_results(folder: Path, grid: Grid) -> GridResult:
    """Read the finished runs in a grid's folder.

    Runs whose predictions cannot be read, or that have other images than the first run, are left out.
    """
    outcomes, missing, notes = [], [], []
    unreliable: set[str] = set()
    images: tuple[str, ...] = ()
    groups: Groups | None = None
    for setting in grid.settings:
        found: dict[GridRun, RunResult] = {}
        for run in runs_of(grid, setting):
            names, result, note = read_run(folder / run.name, grid)
            if names and not images:
                images, groups = names, read_groups(folder / run.name, names, grid.split)
            if result is None:
                missing.append(run.name)
                notes += [note] if note else []
            elif names != images:
                notes.append(f"{run.name} was evaluated on other {SPLIT_NAMES[grid.split]} images and is left out")
            else:
                found[run] = result
                unreliable |= {result.why} - {""}
        if found:
            outcome, note = setting_result(folder, grid, setting, found, groups)
            outcomes.append(outcome)
            notes += [note] if note else []
    notes += [*interval_notes(outcomes, groups), *pretraining_notes(folder, grid)]
    what = f"{SPLIT_NAMES[grid.split]} {grid.metric[1]}"
    notes += sorted(unreliable)
    compared = compare_settings(outcomes, what, groups, grid.classifies, not unreliable)
    finished = [run for setting in grid.settings for run in runs_of(grid, setting) if run.name not in missing]
    baselines = baselines_of(*(log_of(folder / run.name) for run in finished))
    rest = groups, baselines, tuple(missing), tuple(notes)
    return GridResult(folder, grid.split, grid.metric, tuple(outcomes), compared, *rest)


def read_run(run: Path, grid: Grid) -> tuple[tuple[str, ...], RunResult | None, str]:
    """(names of the images, results, note on an error) of a run; ((), None, "") if it has no results yet."""
    done, split, image_scores = run_folder.final_record(run), grid.split, TASKS[grid.full.task].image_scores
    if done is None or (split == "test" and not (run / "predictions" / "test.csv").is_file()):
        return (), None, ""
    assert image_scores is not None
    try:
        names, values, why = image_scores(run, split)
    except UNREADABLE as error:
        return (), None, f"the predictions of {run.name} cannot be read ({error})"
    tests = [r for r in log_of(run) if r.get("event") == "test" and r.get("split") == split]
    numbers = tests[-1] if split == "test" and tests else done
    cost = number(done.get("seconds"), 0.0), number(done.get("train_flops"), 0.0)
    return names, RunResult(values, *cost, number(numbers.get("knn_accuracy")), why), ""


def setting_result(
    folder: Path, grid: Grid, setting: str, found: Mapping[GridRun, RunResult], groups: Groups | None = None
) -> tuple[SettingResult, str]:
    """(the results of a setting from those of its finished runs, a note on runs that are left out, or "").

    Every pre-training must have the same seeds: the largest such set of runs is used.
    """
    seeds = {
        p: {run.seed for run in found if run.pretraining == p} for p in dict.fromkeys(r.pretraining for r in found)
    }
    complete = [(common, [p for p, own in seeds.items() if common <= own]) for common in seeds.values()]
    common, pretrainings = max(complete, key=lambda pair: len(pair[0]) * len(pair[1]))
    chosen = tuple(dict.fromkeys(run.seed for run in runs_of(grid, setting) if run.seed in common))
    used = [[found[GridRun(setting, pretraining, seed)] for seed in chosen] for pretraining in pretrainings]
    values = np.array([[run.values for run in runs] for runs in used])
    score, interval = nested_mean(values, ids_in(groups), shares=grid.classifies)
    each = [run for runs in used for run in runs]
    knn = np.array([[run.knn for run in runs] for runs in used])
    left_out = len(found) - len(each)
    note = f"{counted(left_out, 'run')} of {setting} left out until each pre-training has the same seeds" * (
        left_out > 0
    )
    return SettingResult(
        setting,
        tuple(pretrainings),
        chosen,
        values,
        score,
        None if any(run.why for run in each) else within(interval, 0),
        float(np.mean([run.seconds for run in each])),
        float(np.mean([run.flops for run in each])),
        grid.training_text(setting, chosen_settings(folder, grid, setting)),
        read_choice(folder, grid, setting),
        None if np.isnan(knn).any() else knn,
    ), note


def within(interval: tuple[float, float], least: float) -> Interval | None:
    """The part of an interval from `least` to 1, as a t interval over few runs may be wider; None if it cannot be
    given."""
    low, high = (float(edge) for edge in np.clip(interval, least, 1))
    return (low, high) if np.isfinite([low, high]).all() else None


def compare_settings(
    outcomes: list[SettingResult],
    what: str,
    groups: Groups | None = None,
    shares: bool = True,
    reliable: bool = True,
) -> tuple[SettingComparison, ...]:
    """Compare the pairs in COMPARISONS for which both settings have finished runs, with Bonferroni's correction for
    their number. what: the split and the metric as text. shares: whether values are 0 and 1. reliable: whether
    intervals can be given."""
    known = {outcome.setting: outcome for outcome in outcomes}
    pairs = [(known[a], known[b]) for a, b in COMPARISONS if a in known and b in known]
    ids = ids_in(groups)
    estimates = [nested_difference(first.values, second.values, ids, shares) for first, second in pairs]
    if not reliable:
        estimates = [estimate._replace(error=float("nan")) for estimate in estimates]
    chances, level = bonferroni([float(estimate.p) for estimate in estimates])
    rows = zip(pairs, estimates, chances, strict=True)
    return tuple(comparison(*pair, estimate, level, p, what) for pair, estimate, p in rows)


def comparison(
    first: SettingResult, second: SettingResult, estimate: Estimate, level: float, p: float, what: str
) -> SettingComparison:
    """The comparison of two settings, whose sentence names split and metric, and the single runs and pre-trainings for
    which alone it holds."""
    interval, names = within(estimate.interval(level), -1), (first.setting, second.setting)
    sentence = verdict(float(estimate.value), interval or NONE, *names, what, p)
    single = sorted({one for outcome in (first, second) if (one := only(outcome))})
    if single:
        kinds = all("pre-training" in one for one in single) and len(single) > 1
        sentence += f", for {'this one pre-training of each kind' if kinds else ' and '.join(single)}"
    return SettingComparison(*names, float(estimate.value), interval, p, sentence)


def only(outcome: SettingResult) -> str:
    """The only run, or the only pre-training, of a setting; "" if there are several."""
    pretrainings, seeds, _ = outcome.values.shape
    kind, repeated = SETTINGS[outcome.setting], seeds > 1 or outcome.knn is not None
    if pretrainings > 1 or (repeated and not kind.pretraining):
        return ""
    return f"this one pre-training {kind.description[0]}" if repeated else f"this one run of {outcome.setting}"


def interval_notes(outcomes: list[SettingResult], groups: Groups | None) -> list[str]:
    """Notes on the groups of the images, and on why there is no interval."""
    if not outcomes:
        return []
    values = np.mean([outcome.values.mean((0, 1)) for outcome in outcomes], axis=0)
    if groups:
        return [groups.sentence(effective_images(values, groups.ids))]
    few = len(values) < FEWEST
    return [f"{counted(len(values), 'image')}: no interval can be given, which needs {FEWEST}"] if few else []


def pretraining_notes(folder: Path, grid: Grid) -> list[str]:
    """Notes on pre-trainings: collapsed features, different numbers of training images."""
    notes, counts = [], {}
    for stage in needed_pretrainings(grid):
        for seed in grid.pretrainings(stage):
            run = pretraining_folder(folder, grid, stage, seed or 0)
            notes += collapse_notes(run) if stage == "unlabeled" else []
            data = provenance(run).get("data")
            counts[stage] = data.get("counts", {}).get("train") if isinstance(data, dict) else None
    labeled, unlabeled = (counts.get(stage) for stage in PRETRAININGS)
    if labeled and unlabeled and labeled != unlabeled:
        chosen = ", plus validation images to select its epoch" * (grid.labeled.train.best_metric != "epoch")
        notes.append(
            f"The pre-training with labels used {labeled:,} images{chosen}; the "
            f"pre-training without labels used {unlabeled:,}."
        )
    return notes


def collapse_notes(pretraining: Path) -> list[str]:
    """A warning if the features had collapsed at the last evaluation of a pre-training without labels, else [].

    pretraining: the folder of its run.
    """
    evaluations = [record for record in log_of(pretraining) if record.get("event") == "eval"]
    last = evaluations[-1] if evaluations else {}
    measured = {name: last[name] for name in ("feature_std", "effective_rank") if last.get(name) is not None}
    warning = collapse(measured, "unlabeled.")
    return [f"{pretraining.name} has {warning}"] if warning else []
