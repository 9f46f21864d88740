"""The page of a repetition: the result in a sentence, a figure, the table of the runs, their settings."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..errors import counted
from ..insight.curves import number
from ..insight.style import BLUE, MUTED, new_figure, png, styled
from ..report.formatting import duration
from ..report.html import Child, element, missing_note, table, typeset
from ..report.origin import changed_settings, flat
from ..report.page import layout
from ..report.sections import figure
from ..runs.atomic import atomic_write
from .results import RepeatResult, Repeats, read_results, write_tables

NOT_REPEATED = ("name", "data.fold", "train.seed")


def write_result(folder: Path, plan: Repeats) -> RepeatResult:
    """Write report.html, repeat.csv, repeat.json and the figure of a repetition from its runs; returns the result."""
    result = read_results(folder, plan)
    write_tables(result)
    drawn = {"repeat": png(draw_runs(result))}
    atomic_write(folder / "figures" / "repeat.png", drawn["repeat"])
    content: list[tuple[str, list[Child]]] = [
        ("Result", summary(result, drawn)),
        ("Runs", runs(result)),
        ("How it was made", settings(result)),
    ]
    atomic_write(folder / "report.html", layout("Sightline repetition", plan.name, origin(result), content))
    return result


def origin(result: RepeatResult) -> str:
    """A line on the data, the folds and the seeds."""
    plan = result.plan
    parts = [counted(plan.folds, "fold")] * (plan.folds > 0) + [counted(len(plan.seeds), "seed")]
    return f"{Path(result.config.data.path).name}: {', '.join(parts)}"


def summary(result: RepeatResult, drawn: dict[str, bytes]) -> list[Child]:
    """Section: the sentence, the figure, and notes."""
    title = result.metric.heading
    text = f"{title} of each run" + (", with the mean and its interval" if result.interval else ", with the mean")
    return [
        element("p", typeset(result.sentence), class_="lead"),
        figure(drawn, "repeat", text),
        *(element("p", note, class_="small") for note in result.notes),
    ]


def runs(result: RepeatResult) -> list[Child]:
    """Section: table of the runs, with links to their reports."""
    rows: list[list[Child]] = []
    for name, final in result.finished.items():
        run = result.plan.runs[name]
        edges = final.get(f"{result.metric.field}_interval")
        value = result.text(number(final.get(result.metric.field)))
        interval = f" {result.range_text(*edges)}" if edges and None not in edges else ""
        link = element("a", name, href=f"{name}/report.html")
        cells: list[Child] = [str(run.fold)] * (result.plan.folds > 0)
        rows.append([link, *cells, str(run.seed), f"{value}{interval}", duration(number(final.get("seconds"), 0.0))])
    head = ["Run", *["Fold"] * (result.plan.folds > 0), "Seed", f"{result.metric.heading} [95% interval]", "Time"]
    left = missing_note(f"Not finished: {', '.join(result.missing)}.") if result.missing else None
    return [table(head, rows, "The runs", numeric=1), left]


def settings(result: RepeatResult) -> list[Child]:
    """Section: table of the settings that differ from the defaults, the same in all runs."""
    usual, values = (flat(one.model_dump(mode="json")) for one in (type(result.config)(), result.config))
    return [changed_settings({key: values[key] for key in values if key not in NOT_REPEATED}, usual, "Value")]


@styled
def draw_runs(result: RepeatResult) -> Figure:
    """Draw a row for each fold, or one for all seeds: a dot for each run; above them the mean with its interval."""
    factor = 100 if result.metric.percent else 1
    folds = result.plan.folds
    drawing = new_figure(6.4, 1.3 + 0.3 * max(folds, 1))
    axes = drawing.add_subplot()
    rows = result.scores.shape[1]
    for fold in range(rows):
        known = factor * result.scores[:, fold][np.isfinite(result.scores[:, fold])]
        axes.plot(known, [rows - 1 - fold] * len(known), "o", color=MUTED, markersize=5)
    if result.interval:
        axes.plot([factor * edge for edge in result.interval], [rows, rows], color=BLUE, linewidth=2.2)
    axes.plot([factor * result.score], [rows], "o", color=BLUE, markersize=7)
    names = [f"fold {fold + 1}" for fold in range(rows)] if folds else ["seeds"]
    axes.set_yticks(range(rows + 1), [*reversed(names), "mean"])
    axes.set_ylim(-0.6, rows + 0.6)
    axes.set_xlabel(result.metric.heading)
    if result.metric.percent:
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -1), min(high, 101))
    return drawing
