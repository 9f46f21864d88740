"""The history of a run, read from the records of metrics.jsonl, and its curves over the epochs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import BLUE, INK, MUTED, ORANGE, VIOLET, legend_above, new_figure, styled


class Columns(dict[str, np.ndarray]):
    """The numeric fields of records as columns, float64 [T] each, sorted by step.

    A value is NaN if its record lacks the field. A field that no record has is a column of NaN.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]]):
        records = sorted(records, key=lambda record: number(record.get("step"), 0))
        self.rows = len(records)
        fields = dict.fromkeys(name for record in records for name, value in record.items() if is_number(value))
        super().__init__({name: np.array([number(r.get(name)) for r in records], dtype=np.float64) for name in fields})

    def __missing__(self, name: str) -> np.ndarray:
        return np.full(self.rows, np.nan)


@dataclass(frozen=True)
class MetricCurve:
    """Description of the curve of a field of metrics.jsonl over the epochs.

    field: name in metrics.jsonl. title: name on the page, without the unit. percent: whether the values are shares that
    are drawn in percent. small: whether the panel is small. digits: decimals of the value under the cursor. label: name
    of the data, such as "validation". second: (field, label) of a second, gray line, or None. records: the kind of
    records that have the field. key: name in file names and HTML ids, by default the field's name.
    """

    field: str
    title: str
    percent: bool = True
    small: bool = False
    digits: int = 2
    label: str = "validation"
    second: tuple[str, str] | None = None
    records: Literal["train", "evaluation"] = "evaluation"
    key: str = ""

    @property
    def name(self) -> str:
        """The name in file names and HTML ids."""
        return self.key or self.field.replace("_", "-")

    @property
    def heading(self) -> str:
        """The title with the unit."""
        return f"{self.title}, %" if self.percent else self.title

    @property
    def factor(self) -> float:
        """The factor by which recorded values are multiplied for drawing: 100 for percent, else 1."""
        return 100.0 if self.percent else 1.0

    def points(self, past: "History") -> tuple[np.ndarray, np.ndarray]:
        """(epochs, values as drawn), float64 [T] each; NaN if a record lacks the value."""
        columns = past.train if self.records == "train" else past.evaluation
        return columns["epoch"], self.factor * columns[self.field]

    def drawn_for(self, past: "History") -> bool:
        """Whether the run has at least one value of the field."""
        return bool(np.isfinite(self.points(past)[1]).any())


@dataclass(frozen=True)
class History:
    """A run's training and evaluation records as columns.

    resumes: epochs at which training was resumed. best_epoch: 0 if unknown. seconds: duration of training, summed over
    all sessions of the run. stop: why training ended, "" while it continues. finished: whether the last record is
    `done`. ensemble: epochs whose probabilities are averaged in the result; empty if the result is that of the best
    epoch.
    """

    train: Columns
    evaluation: Columns
    resumes: tuple[float, ...]
    best_epoch: int
    seconds: float
    stop: str
    finished: bool
    ensemble: tuple[int, ...] = ()

    @property
    def last_epoch(self) -> float:
        """The last epoch in the records, which may be fractional; 0 without records."""
        epochs = np.concatenate([self.train["epoch"], self.evaluation["epoch"]])
        return float(np.max(epochs[np.isfinite(epochs)], initial=0.0))

    @property
    def stopped_early(self) -> bool:
        """Whether training ended before its last planned epoch."""
        return self.stop not in ("", "all epochs done")


def history(records: Iterable[Mapping[str, Any]]) -> History:
    """Build the history of a run from its records in the order of the log; joins the sessions of a resumed run.

    A `resume` record at step s discards earlier training and evaluation records of steps after s, because training
    repeats them. Of several records with the same event, split and step, only the last is used.
    """
    kept = deduplicated(records)
    train = [record for record in kept if record.get("event") == "train"]
    evaluation = [r for r in kept if r.get("event") == "eval" and r.get("split", "val") == "val"]
    ends = [r for r in kept if r.get("event") in ("stop", "resume", "done")]
    stops = [r for r in ends if r["event"] == "stop"]
    ended = bool(ends) and ends[-1]["event"] != "resume"
    done = ended and ends[-1]["event"] == "done"
    marked = [int(number(r.get("epoch"), 0)) for r in evaluation if r.get("best")]
    recorded = number(ends[-1].get("best_epoch")) if done else float("nan")
    resumes = [number(r.get("epoch")) for r in kept if r.get("event") == "resume"]
    return History(
        train=Columns(train),
        evaluation=Columns(evaluation),
        resumes=tuple(epoch for epoch in resumes if epoch == epoch),
        best_epoch=int(recorded) if recorded == recorded else marked[-1] if marked else 0,
        seconds=max((number(r.get("seconds"), 0.0) for r in kept), default=0.0),
        stop=str(stops[-1].get("reason", "")) if ended and stops else "",
        finished=done,
        ensemble=ensemble_epochs(ends[-1].get("ensemble")) if done else (),
    )


def ensemble_epochs(value: object) -> tuple[int, ...]:
    """Parse the `ensemble` field of a `done` record: a list of checkpoint names such as "epoch-00012", or of epochs."""
    digits = [str(name).removeprefix("epoch-") for name in value] if isinstance(value, list) else []
    return tuple(int(text) for text in digits if text.isdecimal())


def deduplicated(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Drop the records of steps that training repeated after a resume.

    Also, of several records with the same event, split and step, only the last is kept.
    """
    kept: list[Mapping[str, Any]] = []
    for record in records:
        if record.get("event") == "resume":
            step = number(record.get("step"), float("inf"))
            kept = [r for r in kept if r.get("event") not in ("train", "eval") or number(r.get("step"), 0) <= step]
        kept.append(record)
    keys = [(str(r.get("event")), str(r.get("split")), number(r.get("step"), -1)) for r in kept]
    last = {key: index for index, key in enumerate(keys)}
    return [record for index, (record, key) in enumerate(zip(kept, keys, strict=True)) if last[key] == index]


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a finite int or float, not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def number(value: object, otherwise: float = float("nan")) -> float:
    """`value` as a float if it is a finite number, else `otherwise`."""
    return float(value) if is_number(value) else otherwise


@styled
def draw_loss(past: History) -> Figure:
    """Draw training and validation loss over the epochs, with the best epoch, resumes and an early stop marked."""
    figure, axes = new_epoch_figure(past, "Loss")
    draw_line(axes, past.train["epoch"], past.train["loss"], ORANGE, "training")
    draw_line(axes, past.evaluation["epoch"], past.evaluation["loss"], BLUE, "validation", dots=True)
    mark_epochs(axes, past, past.evaluation["loss"], top=True)
    from_zero(axes)
    legend_above(axes)
    return figure


@styled
def draw_metric(past: History, curve: MetricCurve) -> Figure:
    """Draw the curve of a field over the epochs; the best epoch is marked unless the panel is small.

    A second line is omitted if all its values are 1, such as the top-5 accuracy of five classes.
    """
    epochs, values = curve.points(past)
    if curve.small:
        figure, axes = new_epoch_figure(past, curve.heading, width=3.2, height=2.3)
        draw_line(axes, epochs, values, BLUE, "", dots=curve.records == "evaluation", noisy=curve.field != "lr")
        from_zero(axes)
        mark_resumes(axes, past)
        return figure
    figure, axes = new_epoch_figure(past, curve.heading)
    if curve.second:
        other = past.evaluation[curve.second[0]]
        if np.isfinite(other).any() and np.nanmin(other) < 0.999:
            draw_line(axes, epochs, curve.factor * other, MUTED, f"validation, {curve.second[1]}", dots=True)
    draw_line(axes, epochs, values, BLUE, "validation", dots=True)
    mark_epochs(axes, past, values)
    legend_above(axes)
    return figure


def new_epoch_figure(past: History, title: str, width: float = 4.9, height: float = 3.3) -> tuple[Figure, Axes]:
    """Create a figure whose x axis has all epochs of the run, starting at 0, so that all curves of the run have the
    same axis."""
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    if past.last_epoch:
        axes.set_xlim(-0.03 * past.last_epoch, 1.04 * past.last_epoch)
    return figure, axes


def from_zero(axes: Axes) -> None:
    """Start the y axis at 0 and end it 5 % above the highest value. Axes with a negative value do not change."""
    top = float(axes.dataLim.y1)
    if float(axes.dataLim.y0) < 0:
        return
    axes.set_ylim(0, 1.05 * top if np.isfinite(top) and top > 0 else None)


def draw_line(
    axes: Axes, x: np.ndarray, y: np.ndarray, color: str, label: str, dots: bool = False, noisy: bool = True
) -> None:
    """Draw a curve. Noisy curves of more than 100 points are drawn faintly, below the curve of their means per epoch.

    dots: whether to mark the points of a curve of up to 60 points. noisy: whether the values vary from step to step.
    """
    if not len(x):
        return
    if len(x) > 100 and noisy and not dots:
        axes.plot(x, y, color=color, linewidth=0.6, alpha=0.35)
        x, y = epoch_means(x, y)
    axes.plot(x, y, color=color, linewidth=1.6, label=label)
    if len(x) <= 60 and (dots or len(x) == 1):
        axes.plot(x, y, "o", color=color, markersize=3.4)


def epoch_means(epochs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean position, mean value) of the points of each epoch, float64 [epochs] each; NaN values are omitted."""
    usable = np.isfinite(values)
    epochs, values = epochs[usable], values[usable]
    bins = np.unique(np.ceil(epochs), return_inverse=True)[1]
    counts = np.bincount(bins)
    return np.bincount(bins, epochs) / counts, np.bincount(bins, values) / counts


def mark_epochs(axes: Axes, past: History, values: np.ndarray, top: bool = False) -> None:
    """Mark the best epoch by a circle and a label, and an early stop and resumes by vertical lines.

    values: of the evaluation records, as drawn. top: whether the label is at the top, away from descending curves.
    """
    epochs = past.evaluation["epoch"]
    best = np.flatnonzero(epochs == past.best_epoch)
    if len(best) and np.isfinite(values[best[-1]]):
        x, y = epochs[best[-1]], values[best[-1]]
        axes.plot([x], [y], "o", markersize=9, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.3)
        axes.axvline(x, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), alpha=0.5, zorder=1)
        left = x > 0.6 * past.last_epoch
        outline = [patheffects.withStroke(linewidth=2.5, foreground="white")]
        axes.annotate(f"best: epoch {past.best_epoch}", (x, 1.0 if top else 0.0), xycoords=axes.get_xaxis_transform(),
                      xytext=(-6 if left else 6, -3 if top else 3), ha="right" if left else "left", fontsize=8,
                      textcoords="offset points", va="top" if top else "bottom", path_effects=outline)  # fmt: skip
    if past.stopped_early:
        axes.axvline(past.last_epoch, color=ORANGE, linewidth=1.2, alpha=0.8)
        axes.annotate("stopped early", (past.last_epoch, 1.0), xycoords=axes.get_xaxis_transform(), xytext=(4, -2),
                      textcoords="offset points", va="top", rotation=90, fontsize=7.5, color=ORANGE)  # fmt: skip
    mark_resumes(axes, past)


def mark_resumes(axes: Axes, past: History) -> None:
    """Draw a dashed line at each resume, above the grid (z-order 0.5) and below the curves (2)."""
    for index, epoch in enumerate(past.resumes):
        label = "resumed" if index == 0 and axes.get_legend_handles_labels()[1] else None
        axes.axvline(epoch, color=VIOLET, linewidth=1.2, linestyle=(0, (4, 2)), label=label, zorder=1.5)
