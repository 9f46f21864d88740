"""The report of a sweep, out of what lies in its folder: figures, a comparison of its best trials, and a page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ..errors import SightlineError
from ..insight.curves import number, without_repeats
from ..insight.style import BLUE, INK, MUTED, ORANGE, new_figure, png, short, styled
from ..runs.atomic import atomic_write, read_json, read_json_lines
from .compare.files import write_comparison

COMPARED = 4
"""The best trials that are compared image by image."""
TITLES = {
    "accuracy": "Accuracy",
    "accuracy_top5": "Top-5 accuracy",
    "mean_iou": "Mean IoU",
    "pixel_accuracy": "Pixel accuracy",
    "knn_accuracy": "k-NN accuracy",
    "loss": "Validation loss",
}
CURVES = 60
"""Trials whose curves are drawn, the best of them; of more none could be seen."""


@dataclass(frozen=True)
class Found:
    """A sweep as its page shows it. rows: a dict a trial. order: numbers of the whole trials, the best first.

    compared: compare.json of the best ones, or {}; note: why there is none.
    """

    folder: Path
    values: Mapping[str, Any]
    compared: Mapping[str, Any]
    note: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(self.values["trials"])

    @property
    def metric(self) -> str:
        return str(self.values["metric"])

    @property
    def lowest(self) -> bool:
        return bool(self.values["lowest"])

    @property
    def factor(self) -> float:
        """From the metric to what is shown: shares are shown in percent."""
        return 1.0 if self.metric == "loss" else 100.0

    @property
    def title(self) -> str:
        return TITLES.get(self.metric, self.metric) + (", %" if self.factor != 1 else "")

    @property
    def order(self) -> list[int]:
        whole = [row for row in self.rows if row["state"] == "complete" and row["value"] is not None]
        sign = 1 if self.lowest else -1
        return [row["trial"] for row in sorted(whole, key=lambda row: (sign * row["value"], row["trial"]))]

    def row(self, trial: int) -> dict[str, Any]:
        return next(row for row in self.rows if row["trial"] == trial)

    def place(self, trial: int) -> Path:
        """The run of a trial."""
        return self.folder / f"trial-{trial:04d}"


def write_sweep_report(folder: Path) -> list[str]:
    """compare/, figures/*.png and report.html of a sweep's folder; returns what is to be said on a terminal."""
    from .sweep_page import sentences, sweep_page

    values = read_json(folder / "sweep.json")
    if not isinstance(values, dict) or not isinstance(values.get("trials"), list):
        cure = "the command that made the sweep, once more, writes it again"
        raise SightlineError("this sweep has no results", where=str(folder / "sweep.json"), cure=cure)
    compared, note = compare_best(Found(folder, values, {}, ""))
    found = Found(folder, values, compared, note)
    figures = {name: png(draw()) for name, draw in plan_sweep(found).items()}
    for name, data in figures.items():
        atomic_write(folder / "figures" / f"{name}.png", data)
    atomic_write(folder / "report.html", sweep_page(found, figures))
    return sentences(found)


def compare_best(found: Found) -> tuple[dict[str, Any], str]:
    """(the numbers of the comparison of the best trials, ""), or ({}, why there is none)."""
    own = [trial for trial in found.order if found.row(trial)["same_as"] is None]
    best = [found.place(trial) for trial in own[:COMPARED] if (found.place(trial) / "recipe.yaml").is_file()]
    if len(best) < 2:
        return {}, "Fewer than two trials have reached their end: there is nothing to compare."
    try:
        write_comparison(best, found.folder / "compare", overwrite=True)
    except SightlineError as error:
        return {}, f"The best trials cannot be compared: {error.what}. {error.why}".strip()
    values = read_json(found.folder / "compare" / "compare.json")
    return (values, "") if isinstance(values, dict) else ({}, "The comparison cannot be read.")


def plan_sweep(found: Found) -> dict[str, Callable[[], Figure]]:
    """What to draw, by name: progress, a drawing a setting, the curves."""
    todo: dict[str, Callable[[], Figure]] = {}
    if any(row["value"] is not None for row in found.rows):
        todo["progress"] = lambda: draw_progress(found)
        for place, key in enumerate(found.values["space"], 1):
            todo[f"setting-{place}"] = lambda k=key: draw_setting(found, k)
    if found.order:
        todo["curves"] = lambda: draw_trials(found)
    return todo


def marks(axes: Axes, found: Found, places: Mapping[int, float], size: float = 5.0) -> None:
    """A mark a trial at (its place, its value): whole ones filled, pruned ones hollow, the best with a ring."""
    for state, color, inside, name in (
        ("complete", BLUE, BLUE, "whole"),
        ("pruned", MUTED, "none", "pruned (best until then)"),
    ):
        rows = [r for r in found.rows if r["state"] == state and r["value"] is not None and r["trial"] in places]
        if rows:
            x, y = [places[row["trial"]] for row in rows], [found.factor * row["value"] for row in rows]
            axes.plot(x, y, "o", color=color, markerfacecolor=inside, markersize=size, label=name)
    if found.order and found.order[0] in places:
        best = found.row(found.order[0])
        axes.plot([places[best["trial"]]], [found.factor * best["value"]], "o", markersize=size + 5.5, color=INK,
                  markerfacecolor="none", markeredgewidth=1.3, label="best")  # fmt: skip


@styled
def draw_progress(found: Found) -> Figure:
    """The value of each trial in order, and the best so far as steps; failed trials as crosses at the bottom."""
    figure = new_figure(4.9, 3.5)
    axes = figure.add_subplot()
    axes.set_title(f"{found.title}: trial by trial")
    axes.set_xlabel("trial")
    marks(axes, found, {row["trial"]: row["trial"] for row in found.rows})
    steps: list[tuple[int, float]] = []
    for row in found.rows:
        if row["state"] == "complete" and row["value"] is not None:
            value = found.factor * row["value"]
            better = not steps or (value < steps[-1][1] if found.lowest else value > steps[-1][1])
            steps.append((row["trial"], value if better else steps[-1][1]))
    if steps:
        ends = [*steps, (found.rows[-1]["trial"], steps[-1][1])]
        axes.step(*zip(*ends, strict=True), where="post", color=BLUE, linewidth=1.4, alpha=0.7, label="best so far",
                  zorder=1)  # fmt: skip
    failed = [row["trial"] for row in found.rows if row["state"] == "failed"]
    if failed:
        axes.plot(failed, [0.02] * len(failed), "x", color=ORANGE, markersize=6, label="failed", clip_on=False,
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_xlim(-0.6, max(len(found.rows) - 0.4, 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


@styled
def draw_setting(found: Found, key: str) -> Figure:
    """The value of each trial against one setting; choices stand side by side, their trials spread a little."""
    figure = new_figure(3.4, 2.9)
    axes = figure.add_subplot()
    axes.set_title(short(key, 34))
    axes.set_ylabel(found.title)
    values = {row["trial"]: row["values"].get(key) for row in found.rows if key in row["values"]}
    if found.values["space"][key].startswith(("log:", "lin:")):
        places = {trial: float(value) for trial, value in values.items()}
        if key in found.values.get("log", ()):
            decades(axes, list(places.values()))
    else:
        labels = list(dict.fromkeys(sorted((label(v) for v in values.values()), key=in_order)))
        spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(found.rows) + 1)
        places = {t: labels.index(label(v)) + spread[t % len(spread)] for t, v in values.items()}
        turned = sum(len(text) for text in labels) > 34
        axes.set_xticks(range(len(labels)), [short(text, 16) for text in labels], rotation=40 if turned else 0,
                        ha="right" if turned else "center")  # fmt: skip
        axes.set_xlim(-0.5, len(labels) - 0.5)
    marks(axes, found, places, size=4.5)
    return figure


def decades(axes: Axes, values: list[float]) -> None:
    """A logarithmic axis with few, readable numbers."""
    low, high = min(values), max(values)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(low / 1.3, high * 1.3)


def label(value: Any) -> str:
    """A choice as a mark on an axis."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def in_order(text: str) -> tuple[int, float, str]:
    """Numbers by size, words by letter."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


@styled
def draw_trials(found: Found) -> Figure:
    """The metric over the epochs, a line a trial; the best in color, pruned ones as far as they went."""
    figure = new_figure(4.9, 3.5)
    axes = figure.add_subplot()
    axes.set_title(f"{found.title}: over the epochs")
    axes.set_xlabel("epoch")
    sign = 1 if found.lowest else -1
    rows = [row for row in found.rows if row["value"] is not None and row["same_as"] is None]
    rows = sorted(rows, key=lambda row: sign * row["value"])[:CURVES]
    for row in reversed(rows):
        epochs, values = course(found, row)
        if not len(epochs):
            continue
        first = row["trial"] == found.order[0]
        color, width = (BLUE, 2.2) if first else (MUTED, 0.9)
        label = "best" if first else "others" if row is rows[-1] or row is rows[1] else None
        axes.plot(epochs, values, color=color, linewidth=width, alpha=1.0 if first else 0.55, label=label,
                  zorder=3 if first else 2)  # fmt: skip
        if row["state"] == "pruned" or len(epochs) == 1:
            axes.plot(epochs[-1:], values[-1:], "o", color=color, markersize=3.5,
                      markerfacecolor="none" if row["state"] == "pruned" else color)  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def course(found: Found, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(epochs, values) of a trial's validations, up to where it was pruned."""
    records = without_repeats(read_json_lines(found.place(row["trial"]) / "metrics.jsonl"))
    seen = [r for r in records if r.get("event") == "eval" and r.get("split", "val") == "val"]
    pairs = [(number(r.get("epoch")), found.factor * number(r.get(found.metric))) for r in seen]
    table = np.array([pair for pair in pairs if pair[1] == pair[1] and pair[0] <= row["epochs"]]).reshape(-1, 2)
    return table[:, 0], table[:, 1]
