"""Compare repetitions on the same folds: the differences of their metric, fold by fold."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..errors import SightlineError
from ..insight.style import BLUE, MUTED, new_figure, png, styled
from ..report.compare.files import must_replace, relative
from ..report.compare.kinds import TaskComparison
from ..report.compare.page import capitalized
from ..report.compare.runs import MARK, distinct_names
from ..report.html import Child, element, table, typeset
from ..report.origin import flat
from ..report.page import layout
from ..report.sections import figure
from ..runs.atomic import atomic_write, finite, write_json
from ..runs.csv_io import csv_text
from ..runs.run_folder import provenance
from ..stats.folds import fold_interval
from ..stats.intervals import LEVEL, Interval, verdict
from ..stats.nested import nested_difference
from ..tasks import TASKS
from .page import NOT_REPEATED
from .results import RepeatResult, caveats, image_values, read_plan, read_results

NOTE = (
    "Differences are taken fold by fold, so that both recipes have learned from the same images. Their intervals (of "
    "at least 95%, for all sentences together) have the correction of Nadeau and Bengio (2003), and are not narrower "
    "than those over the images. They are for training on all but one of the folds."
)


@dataclass(frozen=True)
class Difference:
    """One repetition compared with the first. folds: float64 [K], the differences; interval: of their mean."""

    name: str
    folds: np.ndarray
    interval: Interval
    sentence: str


def write_versus(folders: Sequence[Path], out: Path, overwrite: bool = False) -> tuple[Path, list[str]]:
    """Compare repetitions with the first of them, and write report.html, compare.json, compare.csv and a figure to
    `out`; returns (path of the page, lines to print).

    Raises SightlineError for repetitions without folds, with unfinished runs, of different tasks, and of different
    folds, and if `out` has other content than a comparison.
    """
    names = distinct_names([folder.resolve() for folder in folders])
    results = [read_results(folder, plan) for folder in folders if (plan := read_plan(folder)) is not None]
    assert len(results) == len(folders), "only folders of repetitions are given"
    require_same_folds(names, results)
    must_replace(out, folders, overwrite)
    metric, found = results[0].metric, differences(names, results)
    notes = [f"{name}: {note}" for name, one in zip(names, results, strict=True) for note in caveats(one.config)]
    drawn = {"folds": png(draw_differences(found, metric))}
    write_json(out / MARK, finite({
        "metric": metric.field, "reference": names[0],
        "runs": [{"name": name, "path": relative(one.path, out), metric.field: one.score, "interval": one.interval}
                 for name, one in zip(names, results, strict=True)],
        "differences": [{"name": one.name, "mean": float(one.folds.mean()), "interval": one.interval,
                         "folds": one.folds.tolist(), "sentence": one.sentence} for one in found],
    }))  # fmt: skip
    scores = np.array([one.scores.mean(0) for one in results]).T
    rows = [["fold", *names], *([str(fold), *(f"{score:.9g}" for score in row)] for fold, row in enumerate(scores, 1))]
    atomic_write(out / "compare.csv", csv_text(rows))
    atomic_write(out / "figures" / "folds.png", drawn["folds"])
    content: list[tuple[str, list[Child]]] = [
        ("Result", [
            *(element("p", typeset(capitalized(one.sentence)), class_="lead") for one in found),
            figure(drawn, "folds", f"Difference of each fold from {names[0]}, with the mean and its interval"),
            *(element("p", one) for one in notes),
            element("p", NOTE, class_="small"),
        ]),
        ("Folds", [by_fold(names, scores, results[0])]),
        ("Recipe differences", [recipes(names, results)]),
    ]  # fmt: skip
    title = " and ".join(names) if len(names) == 2 else f"{names[0]} and {len(names) - 1} others"
    page = layout("Sightline comparison of repetitions", title, f"The reference is {names[0]}.", content)
    return atomic_write(out / "report.html", page), [*(one.sentence for one in found), *notes]


def require_same_folds(names: Sequence[str], results: Sequence[RepeatResult]) -> None:
    """Raise SightlineError for repetitions whose differences fold by fold mean nothing."""

    def fault(what: str, cure: str, why: str = "") -> SightlineError:
        return SightlineError(what, where=", ".join(names), why=why, cure=cure)

    for name, one in zip(names, results, strict=True):
        if not one.plan.folds:
            cure = "repeat both recipes with --folds 5; or list their runs, which are compared on the same images"
            raise fault("only repetitions with folds can be compared", cure, f"{name} has seeds, but no folds")
        if one.missing:
            cure = "repeat its command `sightline repeat`, which trains them"
            raise fault("a repetition is not finished", cure, f"{name} lacks {', '.join(one.missing)}")
    tasks = {TASKS[one.config.task].does for one in results}
    if len(tasks) > 1:
        raise fault("repetitions of different tasks", "list repetitions of one task", "; ".join(sorted(tasks)))
    folds = [validated(one) for one in results]
    for name, own in zip(names[1:], folds[1:], strict=True):
        if own != folds[0]:
            why = f"the images of the folds of {name} are not those of {names[0]}"
            cure = "repeat both recipes with the same data, --folds and --data.split_seed"
            raise fault("the repetitions have different folds", cure, why)
    decoded, pixels = contents(results[0], results[0].metric)
    for name, one in zip(names[1:], results[1:], strict=True):
        how, own_pixels = contents(one, results[0].metric)
        if how == decoded and own_pixels != pixels:  # digests of images that were decoded in other ways say nothing
            why = f"images of the folds of {name} and {names[0]} have the same names and labels, but other pixels"
            raise fault("the images have changed between the repetitions", "repeat both recipes on the same data", why)


def validated(result: RepeatResult) -> list[frozenset[tuple[str, str]]]:
    """The names and labels of the validation images of each fold."""
    found = []
    for fold in range(1, result.plan.folds + 1):
        name = next(name for name, run in result.plan.runs.items() if run.fold == fold)
        with open(result.path / name / "splits.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [row for row in csv.DictReader(file) if row.pop("split") == "val"]
        found.append(frozenset((row["filename"], row.get("label", "")) for row in rows))
    return found


def contents(result: RepeatResult, metric: TaskComparison) -> tuple[list[Any], list[str]]:
    """(how the images were decoded, the digest of the validation images of each fold)."""
    data, names = result.config.data, list(result.plan.runs)
    origins = [provenance(result.path / name) for name in names if result.plan.runs[name].seed == result.plan.seeds[0]]
    decoded = [getattr(data, key, usual) for key, usual in metric.decoding] + [data.channels]
    decoded += [origin.get("versions", {}).get("pillow") for origin in origins]
    return decoded, [str(origin.get("data", {}).get("digest", {}).get("val")) for origin in origins]


def differences(names: Sequence[str], results: Sequence[RepeatResult]) -> list[Difference]:
    """Each repetition but the first, compared with the first. The intervals are widened for their number."""
    first, level = results[0], 1 - (1 - LEVEL) / (len(results) - 1)
    found = []
    for name, one in zip(names[1:], results[1:], strict=True):
        folds = one.scores.mean(0) - first.scores.mean(0)
        low, high = fold_interval(folds, level)
        over_images, why = image_interval(first, one, level)
        if over_images is not None:
            low, high = min(low, over_images[0]), max(high, over_images[1])
        if why or low == high or first.plan.films or one.plan.films:  # without variation no interval can be computed
            low = high = float("nan")
        said = sentence(first.metric, float(folds.mean()), (low, high), names[0], name)
        said += f" There is no interval: {why}." if why else ""
        found.append(Difference(name, folds, (low, high), said))
    return found


def image_interval(first: RepeatResult, second: RepeatResult, level: float) -> tuple[Interval | None, str]:
    """(the interval over the images of the mean difference per image, or None; why a task with values of each image has
    none, or "")."""
    scores = TASKS[first.config.task].image_scores
    if scores is None:
        return None, ""
    ones = []
    for result in (first, second):
        wanted = [name for name, run in result.plan.runs.items() if run.seed == result.plan.seeds[0]]
        ones.append(image_values(result.path, wanted, scores))
    if why := next((one.why for one in ones if one.why), ""):
        return None, why
    if ones[0].images != ones[1].images:
        return None, "the runs were evaluated on different images"
    first_values, second_values = (one.values[None, None] for one in ones)
    shares = bool(np.isin([first_values, second_values], (0, 1)).all())
    low, high = np.clip(nested_difference(first_values, second_values, ones[0].groups, shares).interval(level), -1, 1)
    return (float(low), float(high)), ""


def sentence(metric: TaskComparison, difference: float, interval: Interval, first: str, second: str) -> str:
    """The result in words. difference: of the second from the first."""
    low, high = interval
    if metric.percent:
        if metric.lower_is_better:
            difference, low, high = -difference, -high, -low
        return f"{verdict(difference, (low, high), first, second, metric.name)}."
    by = f"{difference:+.4g} [{low:+.4g}, {high:+.4g}]" if np.isfinite(interval).all() else f"{difference:+.4g}"
    if not np.isfinite(interval).all() or low <= 0 <= high:
        return f"no difference in {metric.name} between {first} and {second} can be shown: {by}."
    better, worse = (second, first) if (difference < 0) == metric.lower_is_better else (first, second)
    return f"{better} beats {worse}: {metric.name} of {second} minus that of {first} is {by}."


def by_fold(names: Sequence[str], scores: np.ndarray, first: RepeatResult) -> Child:
    """Table of the metric of each fold and repetition. scores: float64 [K, R], means over seeds."""
    titles = [*(f"fold {fold}" for fold in range(1, len(scores) + 1)), "mean"]
    values = [*scores, scores.mean(0)]
    rows: list[list[Child]] = [[title, *map(first.text, row)] for title, row in zip(titles, values, strict=True)]
    return table(["Fold", *names], rows, f"{first.metric.heading} of each fold", numeric=1)


def recipes(names: Sequence[str], results: Sequence[RepeatResult]) -> Child:
    """Table of the settings in which the recipes differ."""
    values = [flat(one.config.model_dump(mode="json")) for one in results]
    keys = [key for key in dict.fromkeys(key for each in values for key in each) if key not in NOT_REPEATED]
    differ = [key for key in keys if len({str(each.get(key)) for each in values}) > 1]
    rows: list[list[Child]] = [[element("code", key), *(str(each.get(key, "")) for each in values)] for key in differ]
    return table(["Setting", *names], rows, "Settings that differ") if rows else "The recipes are equal."


@styled
def draw_differences(found: Sequence[Difference], metric: TaskComparison) -> Figure:
    """Draw a row for each repetition: a dot for each fold's difference from the first, the mean and its interval."""
    factor = 100 if metric.percent else 1
    drawing = new_figure(6.4, 1.3 + 0.5 * len(found))
    axes = drawing.add_subplot()
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for row, one in enumerate(reversed(found)):
        axes.plot(factor * one.folds, np.full(len(one.folds), row - 0.2), "o", color=MUTED, markersize=5)
        if np.isfinite(one.interval).all():
            axes.plot([factor * edge for edge in one.interval], [row + 0.15] * 2, color=BLUE, linewidth=2.2)
        axes.plot([factor * one.folds.mean()], [row + 0.15], "o", color=BLUE, markersize=7)
    axes.set_yticks(range(len(found)), [one.name for one in reversed(found)])
    axes.set_ylim(-0.7, len(found) - 0.3)
    points = " (points)" if metric.percent else ""
    axes.set_xlabel(f"difference in {metric.name}{points}")
    return drawing
