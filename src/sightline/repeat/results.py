"""The result of `sightline repeat`: the metric of each run, their mean with its interval, tables and sentences."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config.schema import Config
from ..errors import SightlineError, counted
from ..insight.curves import number
from ..report.compare.kinds import TaskComparison
from ..report.formatting import percent
from ..report.run import UNREADABLE
from ..runs import run_folder
from ..runs.atomic import atomic_write, finite, read_json, write_json
from ..runs.csv_io import csv_text
from ..runs.run_folder import provenance
from ..stats.folds import fold_interval, fold_interval_of_shares
from ..stats.groups import ids_in, read_groups
from ..stats.intervals import Interval, mean_interval
from ..stats.nested import nested_mean
from ..stats.units import FEWEST, count_units, ids_of
from ..tasks import TASKS
from ..tasks.files import load_recipe_file
from .several import INPUTS

MARK = "repeat.json"
"""Name of the file by which the folder is recognized."""
WRITTEN = (INPUTS, MARK, "repeat.csv", "report.html")
"""Files of a repetition beside its runs and its figure."""


@dataclass(frozen=True)
class Repetition:
    """One run of a repetition. fold: its number from 1, or 0 without folds."""

    fold: int
    seed: int

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return f"fold-{self.fold}-seed-{self.seed}" if self.fold else f"seed-{self.seed}"


@dataclass(frozen=True)
class Repeats:
    """What is repeated. name: of the recipe. folds: their number, or 0. films: a sentence on the films that the folds
    divide, or ""."""

    name: str
    folds: int
    seeds: tuple[int, ...]
    films: str = ""

    @property
    def runs(self) -> dict[str, Repetition]:
        """The runs by the names of their folders."""
        every = [Repetition(fold, seed) for fold in (range(1, self.folds + 1) or [0]) for seed in self.seeds]
        return {one.name: one for one in every}


@dataclass(frozen=True)
class RepeatResult:
    """The result of a repetition.

    config: the recipe of the first finished run. metric: how runs of the task are compared, with the metric's name.
    finished: the final numbers of each finished run, by its name. scores: float64 [S, K], the metric of each run, by
    seed and fold (K is 1 without folds), NaN for an unfinished one. score: their mean. interval: of at least 95 %, or
    None. notes: sentences on what limits the result. sentence: the result in words.
    """

    path: Path
    plan: Repeats
    config: Config
    metric: TaskComparison
    finished: Mapping[str, dict[str, Any]]
    scores: np.ndarray
    score: float
    interval: Interval | None
    notes: tuple[str, ...] = ()
    sentence: str = ""

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of unfinished runs."""
        return tuple(name for name in self.plan.runs if name not in self.finished)

    def text(self, value: float) -> str:
        """A value of the metric as text, in percent if it is a share."""
        return percent(value, 1) if self.metric.percent else f"{value:.4g}"

    def range_text(self, low: float, high: float) -> str:
        """Two values and what is between them: "[74.9, 77.8]"."""
        return f"[{self.text(low)}, {self.text(high)}]"


class ImageValues(NamedTuple):
    """images: their names. values: float64 [N], a value of each. groups: int64 [N] or None. why: why no interval can be
    given, or ""."""

    images: tuple[str, ...] = ()
    values: np.ndarray = np.zeros(0)
    groups: np.ndarray | None = None
    why: str = ""


def read_plan(folder: Path) -> Repeats | None:
    """The plan in repeat.json; None if the folder has none. Raises SightlineError if the file is damaged."""
    known = read_json(folder / MARK)
    if not isinstance(known, dict):
        return None
    try:
        return Repeats(
            str(known["name"]),
            int(known["folds"]),
            tuple(int(seed) for seed in known["seeds"]),
            str(known.get("films", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        why = f"it has no valid name, number of folds and seeds ({error!r})"
        cure = "delete this file and repeat the command `sightline repeat`, which keeps the finished runs"
        raise SightlineError(
            "this file of a repetition is damaged", where=str(folder / MARK), why=why, cure=cure
        ) from error


def is_remainder(folder: Path) -> bool:
    """Whether the folder holds runs of a repetition and its other files, but not repeat.json, as after its removal."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    runs = {path.name for path in runs_in(folder)}
    return bool(runs) and names - runs <= {"figures", *WRITTEN}


def runs_in(folder: Path) -> list[Path]:
    """The folders with the names of runs of a repetition."""
    return [path for path in folder.glob("*seed-*") if re.fullmatch(r"(fold-[0-9]+-)?seed-[0-9]+", path.name)]


def read_results(folder: Path, plan: Repeats) -> RepeatResult:
    """Read the finished runs of a repetition. Raises SightlineError if none is finished."""
    names = list(plan.runs)
    done = {name: final for name in names if (final := run_folder.final_record(folder / name)) is not None}
    if not done:
        cure = "repeat the command `sightline repeat`; it resumes unfinished runs"
        raise SightlineError("no run of this repetition is finished", where=str(folder), cure=cure)
    config = load_recipe_file(folder / next(iter(done)) / "recipe.yaml")
    task = TASKS[config.task]
    metric = task.comparison()
    scores = np.array([number(done[name].get(metric.field)) if name in done else np.nan for name in names])
    scores = scores.reshape(max(plan.folds, 1), len(plan.seeds)).T
    result = RepeatResult(folder, plan, config, metric, done, scores, float(np.nanmean(scores)), None)
    if result.missing:
        notes = [f"Not finished: {', '.join(result.missing)}. Repeat the command to train them."]
        interval: Interval | None = None
    elif plan.folds:
        interval, notes = of_folds(folder, plan, scores, metric.percent, task.image_scores)
    else:
        interval, notes = of_seeds(folder, names, task.image_scores)
    result = replace(result, interval=interval, notes=(*notes, *caveats(config)))
    return replace(result, sentence=sentence_of(result))


def of_folds(
    folder: Path, plan: Repeats, scores: np.ndarray, share: bool, image_scores: Any
) -> tuple[Interval | None, list[str]]:
    """(interval of the mean over folds or None, notes). scores: [S, K]. share: whether scores are from 0 to 1.

    The interval is never narrower than that over the images: folds may agree by chance, for example if all are right.
    """
    if plan.films:
        return None, [f"There is no interval: {plan.films}."]
    low, high = fold_interval(scores.mean(0))
    if image_scores is None and low == high:
        return None, ["There is no interval, because all folds have the same score."]
    if image_scores is None and not np.isfinite(scores).all():
        return None, ["There is no interval, because the metric is not defined on one of the folds."]
    if image_scores is None and share:
        low, high = fold_interval_of_shares(scores.mean(0), validation_images(folder / next(iter(plan.runs))))
    if image_scores is not None:
        names = [name for name, run in plan.runs.items() if run.seed == plan.seeds[0]]
        found = image_values(folder, names, image_scores)
        if found.why:
            return None, [f"There is no interval: {found.why}."]
        edges = mean_interval(found.values, found.groups)
        low, high = min(low, edges[0]), max(high, edges[1])
    note = (
        "The interval (of at least 95%) has the correction of Nadeau and Bengio (2003), because any two of the "
        "trainings share most of their images. It is for training on all but one of the folds."
    )
    return (max(low, 0.0), min(high, 1.0)) if share else (low, high), [note]


def validation_images(run: Path) -> int:
    """The number of validation images of a run; 1 if it is unknown, with which intervals are widest."""
    data = provenance(run).get("data")
    counts = data.get("counts") if isinstance(data, dict) else None
    return int(counts["val"]) if isinstance(counts, dict) and counts.get("val") else 1


def image_values(folder: Path, names: list[str], image_scores: Any) -> ImageValues:
    """The values of the validation images of all these runs."""
    images, values, ids = [], [], []
    for name in names:
        try:
            own, found, why = image_scores(folder / name, "val")
        except UNREADABLE as error:
            return ImageValues(why=f"predictions cannot be read ({error})")
        if why:
            return ImageValues(why=f"{name}: {why}")
        groups = ids_in(read_groups(folder / name, own, "val"))
        images += own
        values.append(found)
        ids += [(name, one) for one in (range(len(own)) if groups is None else groups.tolist())]
    units = ids_of(ids)
    count = count_units(len(units), units)
    why = f"it needs at least {FEWEST} images, or groups of images that belong together" if count < FEWEST else ""
    return ImageValues(tuple(images), np.concatenate(values), None if count == len(units) else units, why)


def of_seeds(folder: Path, names: list[str], image_scores: Any) -> tuple[Interval | None, list[str]]:
    """(interval of the mean over images and seeds or None, notes)."""
    if image_scores is None:
        return None, ["There is no interval over images and seeds for this metric; each run has its own over images."]
    every = [image_values(folder, [name], image_scores) for name in names]
    why = next((one.why for one in every if one.why), "")
    if not why and len({one.images for one in every}) > 1:
        why = "the runs were evaluated on different images"
    if why:
        return None, [f"There is no interval: {why}."]
    values = np.array([[one.values for one in every]])
    _, interval = nested_mean(values, every[0].groups, shares=bool(np.isin(values, (0, 1)).all()))
    note = "The 95% interval is over the validation images and the seeds."
    return interval if np.isfinite(interval).all() else None, [note]


def caveats(config: Config) -> list[str]:
    """Notes on epochs that were chosen on the images of the scores."""
    chosen = TASKS[config.task].selects_epochs and config.train.best_metric != "epoch"
    return ["The epoch of each run was chosen on its validation images, so the scores are too high."] * chosen


def sentence_of(result: RepeatResult) -> str:
    """The result in words."""
    plan, unit, several = result.plan, result.metric.unit, result.scores.size > 1
    edges = f" {result.range_text(*result.interval)}" if result.interval else ""
    of_folds = int(np.isfinite(result.scores).any(0).sum()) if plan.folds else 0
    some = f"{of_folds} of " * (of_folds < plan.folds)
    parts = [f"{some}{counted(plan.folds, 'fold')}"] * (plan.folds > 0)
    parts += [counted(len(plan.seeds), "seed")] * (len(plan.seeds) > 1 or not plan.folds)
    found = f"{result.metric.title} {result.text(result.score)}{edges}{unit}: mean of {' and '.join(parts)}"
    known = result.scores[np.isfinite(result.scores)]
    if several and len(known) > 1 and of_folds != 1:
        what = "folds" if plan.folds else "runs"
        each = np.array([np.nanmean(column) for column in result.scores.T if np.isfinite(column).any()])
        each = each if plan.folds else known
        spread = float(np.std(each, ddof=1)) * (100 if result.metric.percent else 1)
        points = "points" if result.metric.percent else ""
        found += f", which range from {result.text(each.min())} to {result.text(each.max())}{unit}"
        found += f"; the standard deviation between {what} is {spread:.2g} {points}".rstrip()
    return f"{found}."


def write_tables(result: RepeatResult) -> None:
    """Write repeat.csv with a row for each run, and repeat.json."""
    field = result.metric.field
    rows, runs = [["run", "fold", "seed", field]], []
    for name, run in result.plan.runs.items():
        score = result.scores[result.plan.seeds.index(run.seed), max(run.fold - 1, 0)]
        fold = run.fold or None
        rows.append([name, str(fold or ""), str(run.seed), f"{score:.9g}" if score == score else ""])
        runs.append({"name": name, "fold": fold, "seed": run.seed, field: float(score)})
    atomic_write(result.path / "repeat.csv", csv_text(rows))
    write_mark(result.path, result.plan, {
        "metric": field, field: result.score, "interval": result.interval, "runs": runs,
        "sentence": result.sentence, "notes": list(result.notes),
    })  # fmt: skip


def write_plan(folder: Path, plan: Repeats) -> None:
    """Write the plan to repeat.json; the numbers of earlier commands are kept until there are new ones."""
    known = read_json(folder / MARK)
    write_mark(folder, plan, known if isinstance(known, dict) else {})


def write_mark(folder: Path, plan: Repeats, numbers: dict[str, Any]) -> None:
    """Write repeat.json: what is repeated, and the numbers so far."""
    fixed = {"format": 1, "name": plan.name, "folds": plan.folds, "seeds": list(plan.seeds), "films": plan.films}
    write_json(folder / MARK, finite(numbers | fixed))
