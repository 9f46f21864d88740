"""The figures of a comparison of runs. A run has the same color and marker in all figures."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...insight.curves import MetricCurve, from_zero
from ...insight.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    class_colors,
    new_figure,
    short,
    si_number,
    styled,
    use_log_axis,
)
from ..drawing import Plan
from .kinds import ComparedRun, Comparison, RunPair

MARKS = "os^DvPX*<>"
NAME = 22
"""Maximum number of characters of a run's name in a legend."""
POINTS = 60
"""Maximum number of points of a training curve."""
CLASSES = 15
"""Maximum number of classes in the figure of differences; the table has all classes."""

LOSSES = (
    MetricCurve("loss", "Training loss", percent=False, records="train", key="training-loss"),
    MetricCurve("loss", "Validation loss", percent=False, key="validation-loss"),
)
UNITS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}


def plan_comparison(comparison: Comparison) -> Plan:
    """Plan all figures of a comparison; returns functions that draw them, by file name without extension."""
    todo: Plan = {}
    if len(comparison.pairs) > 1:
        todo["differences"] = lambda: draw_runs(comparison)
    for name, title, values in costs(comparison.entries):
        todo[f"cost-{name}"] = partial(draw_cost, comparison, title, values)
    todo |= plan_curves(comparison)
    todo |= {f"classes-{number}": partial(draw_classes, pair) for number, pair in enumerate(comparison.pairs, 1)}
    return todo | comparison.kind.plan(comparison)


def plan_curves(comparison: Comparison) -> Plan:
    """Plan the figures with one curve per run: losses and metrics over the epochs, and the task's metric over time
    and over training FLOPs."""
    metric = MetricCurve(comparison.kind.field, comparison.kind.title, comparison.kind.percent, key="metric")
    todo: Plan = {}
    for curve in (*LOSSES, metric, *comparison.kind.curves):
        if any(curve.drawn_for(one.past) for one in comparison.entries):
            todo[f"curve-{curve.name}"] = partial(draw_overlay, comparison.entries, curve, "epoch")
    if "curve-metric" not in todo:
        return todo
    if any(np.isfinite(one.past.evaluation["seconds"]).any() for one in comparison.entries):
        unit = time_unit([one.seconds for one in comparison.entries])[0]
        todo["curve-metric-time"] = partial(draw_overlay, comparison.entries, metric, unit)
    if all(constant_cost(one) for one in comparison.entries):
        todo["curve-metric-flops"] = partial(draw_overlay, comparison.entries, metric, "training FLOPs")
    return todo


def constant_cost(entry: ComparedRun) -> bool:
    """Whether all epochs of a run have the same FLOPs, so that FLOPs are proportional to epochs; False if the FLOPs
    are unknown."""
    augment, optim = (entry.files.recipe.get(name) for name in ("augment", "optim"))
    sizes = isinstance(augment, dict) and augment.get("progressive")
    steps = isinstance(optim, dict) and optim.get("sam_radius")
    return entry.flops == entry.flops and not sizes and not steps


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
    """(the unit of time in which to show these durations, chosen by the longest, and the length of the unit in
    seconds)."""
    longest = max((value for value in seconds if value == value), default=0.0)
    name = "seconds" if longest < 120 else "minutes" if longest < 3 * 3600 else "hours"
    return name, UNITS[name]


@styled
def draw_overlay(entries: Sequence[ComparedRun], curve: MetricCurve, over: str) -> Figure:
    """Draw the same curve of every run, such as the validation loss, in one plot.

    over: the quantity of the x axis: "epoch", a unit of time ("minutes"), or "training FLOPs".
    """
    figure = new_figure(4.9, 3.3)
    axes = figure.add_subplot()
    axes.set_title(curve.heading if over == "epoch" else f"{curve.heading}, over {over}")
    axes.set_xlabel(over)
    for index, (entry, color) in enumerate(zip(entries, class_colors(len(entries)), strict=True)):
        x, y = curve.points(entry.past)
        if over == "training FLOPs":
            x = x * (entry.flops / entry.epochs)
        elif over != "epoch":
            x = entry.past.evaluation["seconds"] / UNITS[over]
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
        if curve.records == "train":
            x, y = binned_means(x, y)
        best = entry.past.best_epoch if over == "epoch" and curve.records == "evaluation" else 0
        plot_run(axes, x, y, color, index, entry.name, best or np.nan)
    if over == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    elif over == "training FLOPs":
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si_number(value)))
    if curve.factor == 1.0:
        from_zero(axes)
    axes.set_xlim(left=0 if over != "epoch" else None)
    legend_below(figure, axes)
    return figure


def binned_means(x: np.ndarray, y: np.ndarray, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a noisy curve to at most `most` points by averaging adjacent points; returns (x, y)."""
    if len(x) <= most:
        return x, y
    bins = np.arange(len(x)) * most // len(x)
    counts = np.bincount(bins)
    return np.bincount(bins, x) / counts, np.bincount(bins, y) / counts


def plot_run(axes: Axes, x: np.ndarray, y: np.ndarray, color: str, index: int, name: str, best: float) -> None:
    """Draw the curve of one run, with at most 40 markers, by which many runs can be told apart.

    index: the index of the run, which selects its marker. best: the x value that is marked with a ring; NaN for none.
    """
    if not len(x):
        return
    dashes, every = "-" if index < len(MARKS) else "--", max(1, -(-len(x) // 40))
    mark = MARKS[index % len(MARKS)]
    axes.plot(
        x, y, dashes, color=color, linewidth=1.5, marker=mark, markersize=3.8, markevery=every, label=short(name, NAME)
    )
    ring = x == best
    axes.plot(x[ring], y[ring], "o", markersize=10, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.2)


def legend_below(figure: Figure, axes: Axes) -> None:
    """Add a legend below the plot, in as many columns as fit, and increase the figure's height by its rows."""
    lines, names = axes.get_legend_handles_labels()
    if not names:
        return
    fitting = int(np.clip(figure.get_figwidth() * 13 / (max(map(len, names)) + 5), 1, len(names)))
    rows = -(-len(names) // fitting)
    figure.set_figheight(figure.get_figheight() + 0.17 * (rows - 1))
    figure.legend(lines, names, loc="outside lower center", ncols=-(-len(names) // rows), handlelength=1.8,
                  columnspacing=1.4, fontsize=8)  # fmt: skip


def costs(entries: Sequence[ComparedRun]) -> list[tuple[str, str, list[float]]]:
    """The costs of training (time, FLOPs, parameters) that are known for at least two runs with a result.

    Returns (name, axis label, one value per run) of each cost.
    """
    unit, size = time_unit([one.seconds for one in entries])
    columns = (
        ("time", f"{unit} of training and validation", [one.seconds / size for one in entries]),
        ("flops", "training FLOPs", [one.flops for one in entries]),
        ("parameters", "parameters", [one.parameters for one in entries]),
    )
    scored = [one.quality == one.quality for one in entries]
    return [
        (name, title, values)
        for name, title, values in columns
        if sum(value > 0 and ok for value, ok in zip(values, scored, strict=True)) > 1
    ]


@styled
def draw_cost(comparison: Comparison, title: str, values: Sequence[float]) -> Figure:
    """Draw the metric of each run, with its interval, against a cost of training.

    title: label of the cost axis. values: the cost of each run. The cost axis is logarithmic if the largest cost is
    more than 4 times the smallest.
    """
    figure = new_figure(3.4, 3.1)
    axes = figure.add_subplot()
    axes.set_title(comparison.kind.heading)
    axes.set_xlabel(title)
    colors, factor = class_colors(len(comparison.entries)), 100 if comparison.kind.percent else 1
    for index, (entry, color, value) in enumerate(zip(comparison.entries, colors, values, strict=True)):
        if not value > 0 or entry.quality != entry.quality:
            continue
        if entry.interval:
            axes.plot([value] * 2, [factor * edge for edge in entry.interval], color=color, linewidth=1.6, alpha=0.6)
        axes.plot([value], [factor * entry.quality], MARKS[index % len(MARKS)], color=color, markersize=7,
                  label=short(entry.name, NAME))  # fmt: skip
    known = [value for value in values if value > 0]
    if max(known) > 4 * min(known):
        use_log_axis(axes, min(known), max(known))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlim(0, 1.12 * max(known))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else si_number(value)))
    legend_below(figure, axes)
    return figure


def most_different(difference: np.ndarray, limit: int = CLASSES) -> np.ndarray:
    """Indices of the `limit` classes with the largest absolute differences, sorted by descending signed difference.

    Classes whose difference is NaN are left out.
    """
    known = np.flatnonzero(np.isfinite(difference))
    chosen = known[np.argsort(-np.abs(difference[known]), kind="stable")][:limit]
    return chosen[np.argsort(-difference[chosen], kind="stable")]


def draw_runs(comparison: Comparison) -> Figure:
    """Draw how much each run differs from the reference, with the confidence intervals."""
    pairs = comparison.pairs
    values = np.array([[pair.difference, *pair.interval] for pair in pairs]).T
    title = f"{comparison.kind.title}: difference to {short(comparison.reference.name, NAME)}"
    return draw_differences([pair.second for pair in pairs], *values, title, [pair.significant for pair in pairs])


def draw_classes(pair: RunPair) -> Figure:
    """Draw the difference between two runs for the classes that differ most.

    The difference is that of the first measure in `pair.numbers.classes`.
    """
    measure, apart = next(iter(pair.numbers.classes.items()))
    rows, names = most_different(apart.difference), pair.results[0].classes
    title = f"{measure} of each class: {short(pair.second, NAME)} minus {short(pair.first, NAME)}"
    value, low, high = (part[rows] for part in (apart.difference, apart.low, apart.high))
    return draw_differences([names[row] for row in rows], value, low, high, title)


@styled
def draw_differences(
    names: Sequence[str],
    difference: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    title: str,
    significant: Sequence[bool] | None = None,
) -> Figure:
    """Draw M differences with their intervals in percentage points, around a line at zero.

    difference, low, high: float [M], as shares of 1. Blue is above zero, orange below zero, gray not significant.
    significant: of each difference; by default, a difference is significant if its interval excludes zero.
    """
    clear = (low > 0) | (high < 0) if significant is None else np.array(significant)
    figure = new_figure(5.4, 0.95 + 0.3 * len(names))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=0.9)
    for row, (value, left, right, sure) in enumerate(zip(difference, low, high, clear, strict=True)):
        color = MUTED if not sure else BLUE if value > 0 else ORANGE
        axes.plot([100 * left, 100 * right], [row, row], color=color, linewidth=2.0, solid_capstyle="round")
        axes.plot([100 * value], [row], "o", color=color, markersize=6)
    axes.set_yticks(range(len(names)), [short(name, NAME) for name in names])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(False, axis="y")
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.set_title(title)
    gray = "the interval includes zero" if significant is None else "no difference can be shown"
    gray = f"no interval, or {gray}" if np.isnan([*low, *high]).any() and significant is None else gray
    axes.set_xlabel("points" if clear.all() else f"points; gray: {gray}")
    return figure
