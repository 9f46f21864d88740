"""The drawings of a comparison: every run in one color and with one mark throughout."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ...insight.curves import from_zero
from ...insight.strips import PAGE_INCHES, class_legend, hatched, head, score_text, show
from ...insight.strips import grid as panels_of
from ...insight.style import BLUE, INK, MUTED, ORANGE, class_colors, new_figure, short, styled
from ..words import bits
from .kinds import ComparedRun, Comparison, Curve, RunPair
from .pictures import SameMasks

MARKS = "os^DvPX*<>"
NAME = 22
"""Letters of a run's name in a legend."""
POINTS = 60
"""Points of a curve of training."""
CLASSES = 15
"""Classes in the drawing of differences; the table has all."""


LOSSES = (
    Curve("curve-training-loss", "train", "loss", "Training loss", 1.0),
    Curve("curve-validation-loss", "evaluation", "loss", "Validation loss", 1.0),
)
UNITS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
Figures = dict[str, Callable[[], Figure]]


def plan_comparison(found: Comparison, masks: SameMasks | None) -> Figures:
    """What to draw, by name."""
    todo: Figures = {}
    if len(found.pairs) > 1:
        todo["differences"] = lambda: draw_runs(found)
    for name, title, values in costs(found.entries):
        todo[f"cost-{name}"] = lambda t=title, v=values: draw_cost(found, t, v)
    todo |= plan_curves(found)
    for number, pair in enumerate(found.pairs, 1):
        todo[f"classes-{number}"] = lambda one=pair: draw_classes(one)
    if masks is not None and masks.rows:
        todo["same-pictures"] = lambda: draw_masks(masks, [entry.name for entry in found.entries])
    return todo


def plan_curves(found: Comparison) -> Figures:
    """The curves of all runs over the epochs, and the measure over time and FLOPs."""
    measure = found.kind
    metric = Curve("curve-metric", "evaluation", measure.field, f"{measure.title}, %", 100.0)
    todo: Figures = {}
    for curve in (*LOSSES, metric, *measure.curves):
        if any(np.isfinite(column(one, curve)).any() for one in found.entries):
            todo[curve.file] = lambda c=curve: draw_overlay(found.entries, c, "epoch")
    if metric.file not in todo:
        return todo
    if any(np.isfinite(one.evaluation["seconds"]).any() for one in found.entries):
        unit = time_unit([one.seconds for one in found.entries])[0]
        todo["curve-metric-time"] = lambda: draw_overlay(found.entries, metric, unit)
    if all(even(one) for one in found.entries):
        todo["curve-metric-flops"] = lambda: draw_overlay(found.entries, metric, "training FLOPs")
    return todo


def column(entry: ComparedRun, curve: Curve) -> np.ndarray:
    """The values of a run's curve, NaN where a record lacks them."""
    return (entry.past.train if curve.part == "train" else entry.evaluation)[curve.column]


def even(entry: ComparedRun) -> bool:
    """Whether every epoch of a run costs the same, so that its FLOPs at an epoch are known from those of all."""
    augment, optim = (entry.files.recipe.get(name) for name in ("augment", "optim"))
    sizes = isinstance(augment, dict) and augment.get("progressive")
    steps = isinstance(optim, dict) and optim.get("sam_radius")
    return entry.flops == entry.flops and not sizes and not steps


def places(entry: ComparedRun, curve: Curve, over: str) -> np.ndarray:
    """Where the values of a run's curve lie on the axis `over`."""
    epochs = entry.past.train["epoch"] if curve.part == "train" else entry.evaluation["epoch"]
    if over in UNITS:
        return entry.evaluation["seconds"] / UNITS[over]
    return epochs * (entry.flops / entry.epochs) if over == "training FLOPs" else epochs


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
    """(the unit in which these times read best, its seconds)."""
    longest = max((value for value in seconds if value == value), default=0.0)
    name = "seconds" if longest < 120 else "minutes" if longest < 3 * 3600 else "hours"
    return name, UNITS[name]


@styled
def draw_overlay(entries: Sequence[ComparedRun], curve: Curve, over: str) -> Figure:
    """One curve of every run. over: epoch, a unit of time, or training FLOPs."""
    figure = new_figure(4.9, 3.3)
    axes = figure.add_subplot()
    axes.set_title(curve.title if over == "epoch" else f"{curve.title}, over {over}")
    axes.set_xlabel(over)
    for place, (entry, color) in enumerate(zip(entries, class_colors(len(entries)), strict=True)):
        x, y = places(entry, curve, over), curve.factor * column(entry, curve)
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
        best = over == "epoch" and curve.part == "evaluation" and entry.past.best_epoch
        trace(axes, *(thinned(x, y) if curve.part == "train" else (x, y)), color, place, entry.name, best or np.nan)
    if over == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    elif over == "training FLOPs":
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: bits(value)))
    if curve.factor == 1.0:
        from_zero(axes)
    axes.set_xlim(left=0 if over != "epoch" else None)
    named_below(figure, axes)
    return figure


def thinned(x: np.ndarray, y: np.ndarray, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighboring points, at most `most` of them: eight noisy curves hide one another."""
    if len(x) <= most:
        return x, y
    bins = np.arange(len(x)) * most // len(x)
    counts = np.bincount(bins)
    return np.bincount(bins, x) / counts, np.bincount(bins, y) / counts


def trace(axes: Axes, x: np.ndarray, y: np.ndarray, color: str, place: int, name: str, best: float) -> None:
    """One run's curve, with its marks where these are not too many, and a ring at the best epoch."""
    if not len(x):
        return
    mark = MARKS[place % len(MARKS)] if len(x) <= 40 else ""
    dashes = "-" if place < len(MARKS) else "--"
    axes.plot(x, y, dashes, color=color, linewidth=1.5, marker=mark, markersize=3.8, label=short(name, NAME))
    ring = x == best
    axes.plot(x[ring], y[ring], "o", markersize=10, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.2)


def named_below(figure: Figure, axes: Axes) -> None:
    """The runs' names below the plot, in as many columns as fit; the figure grows by their rows."""
    lines, names = axes.get_legend_handles_labels()
    if not names:
        return
    fitting = int(np.clip(figure.get_figwidth() * 13 / (max(map(len, names)) + 5), 1, len(names)))
    rows = -(-len(names) // fitting)
    figure.set_figheight(figure.get_figheight() + 0.17 * (rows - 1))
    figure.legend(lines, names, loc="outside lower center", ncols=-(-len(names) // rows), handlelength=1.8,
                  columnspacing=1.4, fontsize=8)  # fmt: skip


def costs(entries: Sequence[ComparedRun]) -> list[tuple[str, str, list[float]]]:
    """(name, axis label, one value a run) of the costs that are known of two runs or more."""
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
def draw_cost(found: Comparison, title: str, values: Sequence[float]) -> Figure:
    """Quality with its interval against a cost, one mark a run; logarithmic where costs differ by more than four."""
    figure = new_figure(3.4, 3.1)
    axes = figure.add_subplot()
    axes.set_title(f"{found.kind.title}, %")
    axes.set_xlabel(title)
    for place, (entry, color, value) in enumerate(
        zip(found.entries, class_colors(len(found.entries)), values, strict=True)
    ):
        if not value > 0 or entry.quality != entry.quality:
            continue
        if entry.interval:
            axes.plot([value] * 2, [100 * edge for edge in entry.interval], color=color, linewidth=1.6, alpha=0.6)
        axes.plot([value], [100 * entry.quality], MARKS[place % len(MARKS)], color=color, markersize=7,
                  label=short(entry.name, NAME))  # fmt: skip
    known = [value for value in values if value > 0]
    if max(known) > 4 * min(known):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if max(known) > 50 * min(known) else (1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(min(known) / 1.4, max(known) * 1.4)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlim(0, 1.12 * max(known))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else bits(value)))
    named_below(figure, axes)
    return figure


def most_different(difference: np.ndarray, limit: int = CLASSES) -> np.ndarray:
    """Rows of the classes that differ most, the largest gain first; those without a difference are left out."""
    known = np.flatnonzero(np.isfinite(difference))
    chosen = known[np.argsort(-np.abs(difference[known]), kind="stable")][:limit]
    return chosen[np.argsort(-difference[chosen], kind="stable")]


def draw_runs(found: Comparison) -> Figure:
    """The difference of every run to the reference with its interval."""
    pairs = found.pairs
    values = np.array([[pair.difference, *pair.interval] for pair in pairs]).T
    title = f"{found.kind.title}: difference to {short(found.reference.name, NAME)}"
    return draw_differences([pair.second for pair in pairs], *values, title, [pair.told_apart for pair in pairs])


def draw_classes(pair: RunPair) -> Figure:
    """The classes that differ most between two runs, in their first measure."""
    measure, apart = next(iter(pair.classes.items()))
    rows, names = most_different(apart.difference), pair.answers[0].classes
    title = f"{measure} of each class: {short(pair.second, NAME)} less {short(pair.first, NAME)}"
    value, low, high = (part[rows] for part in (apart.difference, apart.low, apart.high))
    return draw_differences([names[row] for row in rows], value, low, high, title)


@styled
def draw_differences(
    names: Sequence[str],
    difference: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    title: str,
    told_apart: Sequence[bool] | None = None,
) -> Figure:
    """Differences with intervals around a line at zero; shares [M], drawn in points.

    Blue: more than the reference, orange: less, gray: the interval holds zero or, where given, not `told_apart`.
    """
    clear = (low > 0) | (high < 0) if told_apart is None else np.array(told_apart)
    figure = new_figure(5.4, 0.95 + 0.3 * len(names))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=0.9)
    for place, (value, left, right, sure) in enumerate(zip(difference, low, high, clear, strict=True)):
        color = MUTED if not sure else BLUE if value > 0 else ORANGE
        axes.plot([100 * left, 100 * right], [place, place], color=color, linewidth=2.0, solid_capstyle="round")
        axes.plot([100 * value], [place], "o", color=color, markersize=6)
    axes.set_yticks(range(len(names)), [short(name, NAME) for name in names])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(False, axis="y")
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.set_title(title)
    gray = "the interval holds zero" if told_apart is None else "no difference can be shown"
    axes.set_xlabel("points" if clear.all() else f"points; gray: {gray}")
    return figure


@styled
def draw_masks(masks: SameMasks, names: Sequence[str]) -> Figure:
    """A row an image: the image, its truth, the mask of each run with its scores below."""
    titles = ["image", "truth", *(short(name, NAME) for name in names)]
    figure, panels = panels_of([row.image for row in masks.rows], min(len(titles), 10))
    for axes, row in zip(panels, masks.rows, strict=True):
        show(axes[0], row.image.transpose(1, 2, 0), short(row.name, round(PAGE_INCHES * 13 / len(titles))))
        show(axes[1], hatched(row.truth, masks.colors), "")
        for place, mask, counts in zip(axes[2:], row.masks, row.counts, strict=False):
            picture = hatched(mask, masks.colors) if mask is not None else np.full((*row.truth.shape, 3), 255, np.uint8)
            says = "not there" if mask is None else score_text(counts) if counts is not None else ""
            show(place, picture, says)
    head(panels, titles)
    class_legend(figure, masks.classes, masks.colors, any((row.truth == 255).any() for row in masks.rows))
    return figure
