"""Write the report of a sweep from the files in its folder: figures, a comparison of the best trials, and a page."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..data.sources.splits import OUTER
from ..errors import SightlineError
from ..insight.curves import history
from ..insight.style import BLUE, INK, MUTED, ORANGE, new_figure, png, short, styled, use_log_axis
from ..report.compare.files import write_comparison
from ..runs.atomic import atomic_write, read_json, read_json_lines
from .page import COMPARED, SweepData, sentences, sweep_page
from .space import format_value

CURVES = 60
"""Maximum number of trials whose curves are drawn; those with the best values are chosen."""


def write_sweep_report(folder: Path) -> list[str]:
    """Write compare/, figures/*.png and report.html of a sweep; returns the sentences of the page.

    Raises SightlineError if the folder has no valid sweep.json.
    """
    values = read_json(folder / "sweep.json")
    if not isinstance(values, dict) or not isinstance(values.get("trials"), list):
        cure = "run the `sightline sweep` command of this folder again, which writes sweep.json"
        raise SightlineError("this sweep has no results", where=str(folder / "sweep.json"), cure=cure)
    data = compare_best(SweepData(folder, values))
    figures = {name: png(draw()) for name, draw in plan_sweep(data).items()}
    for name, image in figures.items():
        atomic_write(folder / "figures" / f"{name}.png", image)
    atomic_write(folder / "report.html", sweep_page(data, figures))
    return sentences(data)


def compare_best(data: SweepData) -> SweepData:
    """Compare the best trials and write the comparison to compare/.

    Returns `data` with the comparison, or with a note if the trials cannot be compared.
    """
    runs = [data.run_folder(row["trial"]) for row in data.ranked[:COMPARED]]
    runs = [run for run in runs if (run / "recipe.yaml").is_file()]
    if len(runs) < 2:
        return replace(data, note="Fewer than two trials are complete, so there is no comparison.")
    try:
        split = OUTER if data.values.get("report_split") == OUTER else "val"
        write_comparison(runs, data.folder / "compare", overwrite=True, split=split)
    except SightlineError as error:
        return replace(data, note=f"The best trials cannot be compared: {error.what}. {error.why}".strip())
    return replace(data, compared=read_json(data.folder / "compare" / "compare.json"))


def plan_sweep(data: SweepData) -> dict[str, Callable[[], Figure]]:
    """Plan the figures: progress, one per searched setting, curves. Returns functions that draw them, by name."""
    todo: dict[str, Callable[[], Figure]] = {}
    if any(row["value"] is not None for row in data.rows):
        todo["progress"] = lambda: draw_progress(data)
        for index, key in enumerate(data.values["space"], 1):
            todo[f"setting-{index}"] = lambda key=key: draw_setting(data, key)
    if data.ranked:
        todo["curves"] = lambda: draw_trials(data)
    return todo


def draw_values(axes: Axes, data: SweepData, positions: Mapping[int, float], size: float = 5.0) -> None:
    """Draw one dot per trial: filled if complete, hollow if pruned. A ring marks the best trial.

    positions: number of the trial -> x coordinate; y is its value. size: of the dots, in points.
    """
    for state, color, inside, name in (
        ("complete", BLUE, BLUE, "complete"),
        ("pruned", MUTED, "none", "pruned (best epoch)"),
    ):
        rows = [r for r in data.rows if r["state"] == state and r["value"] is not None and r["trial"] in positions]
        if rows:
            x, y = [positions[row["trial"]] for row in rows], [data.factor * row["value"] for row in rows]
            axes.plot(x, y, "o", color=color, markerfacecolor=inside, markersize=size, label=name)
    best = data.best
    if best and best["trial"] in positions:
        axes.plot([positions[best["trial"]]], [data.factor * best["value"]], "o", markersize=size + 5.5, color=INK,
                  markerfacecolor="none", markeredgewidth=1.3, label="best")  # fmt: skip


@styled
def draw_progress(data: SweepData) -> Figure:
    """Draw the values of the trials in order, and the best value so far as steps. Failed trials are crosses at the
    bottom."""
    figure = new_figure(4.9, 3.5)
    axes = figure.add_subplot()
    axes.set_title(f"{data.title} by trial")
    axes.set_xlabel("trial")
    draw_values(axes, data, {row["trial"]: row["trial"] for row in data.rows})
    complete = [row for row in data.rows if row["state"] == "complete" and row["value"] is not None]
    if complete:
        best_of = np.minimum if data.lowest else np.maximum
        best = best_of.accumulate([data.factor * row["value"] for row in complete])
        trials = [*(row["trial"] for row in complete), data.rows[-1]["trial"]]
        axes.step(trials, [*best, best[-1]], where="post", color=BLUE, linewidth=1.4, alpha=0.7, label="best so far",
                  zorder=1)  # fmt: skip
    failed = [row["trial"] for row in data.rows if row["state"] == "failed"]
    if failed:
        axes.plot(failed, [0.02] * len(failed), "x", color=ORANGE, markersize=6, label="failed", clip_on=False,
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_xlim(-0.6, max(len(data.rows) - 0.4, 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


@styled
def draw_setting(data: SweepData, key: str) -> Figure:
    """Draw the value of each trial against one setting.

    For choices, dots have a random horizontal offset, so that equal values remain visible.
    """
    figure = new_figure(3.4, 2.9)
    axes = figure.add_subplot()
    axes.set_title(short(key, 34))
    axes.set_ylabel(data.title)
    values = {row["trial"]: row["values"][key] for row in data.rows if key in row["values"]}
    scale = data.values["space"][key][:4]
    if scale in ("log:", "lin:"):
        positions = {trial: float(value) for trial, value in values.items()}
        if scale == "log:":
            use_log_axis(axes, min(positions.values()), max(positions.values()))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        choices = sorted({format_value(value) for value in values.values()}, key=by_number_or_name)
        spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(data.rows) + 1)
        positions = {
            trial: choices.index(format_value(value)) + spread[trial % len(spread)] for trial, value in values.items()
        }
        rotated = sum(map(len, choices)) > 34
        axes.set_xticks(range(len(choices)), [short(text, 16) for text in choices], rotation=40 if rotated else 0,
                        ha="right" if rotated else "center")  # fmt: skip
        axes.set_xlim(-0.5, len(choices) - 0.5)
    draw_values(axes, data, positions, size=4.5)
    return figure


def by_number_or_name(text: str) -> tuple[float, str]:
    """Sort key: numbers first, by value, then names in alphabetical order."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


@styled
def draw_trials(data: SweepData) -> Figure:
    """Draw the metric over the epochs, one line per trial; the best trial is in color.

    The line of a pruned trial ends where it was stopped.
    """
    figure = new_figure(4.9, 3.5)
    axes = figure.add_subplot()
    axes.set_title(f"{data.title} by epoch")
    axes.set_xlabel("epoch")
    sign, best = 1 if data.lowest else -1, data.best
    rows = [row for row in data.rows if row["value"] is not None and row["same_as"] is None]
    for row in sorted(rows, key=lambda row: sign * row["value"])[:CURVES][::-1]:
        columns = history(read_json_lines(data.run_folder(row["trial"]) / "metrics.jsonl")).evaluation
        kept = np.isfinite(columns[data.metric]) & (columns["epoch"] <= row["epochs"])
        epochs, values = columns["epoch"][kept], data.factor * columns[data.metric][kept]
        name, color, width, alpha = ("best", BLUE, 2.2, 1.0) if row is best else ("others", MUTED, 0.9, 0.55)
        axes.plot(epochs, values, color=color, linewidth=width, alpha=alpha, label=name, zorder=2 + (row is best))
        if row["state"] == "pruned" or len(epochs) == 1:
            inside = "none" if row["state"] == "pruned" else color
            axes.plot(epochs[-1:], values[-1:], "o", color=color, markersize=3.5, markerfacecolor=inside)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure
