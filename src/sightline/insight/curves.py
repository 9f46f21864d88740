"""The history of a run out of its metric records, and its curves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import BLUE, INK, MUTED, ORANGE, VIOLET, legend_above, new_figure, styled

TRAIN_FIELDS = ("step", "epoch", "loss", "lr", "grad_norm", "data_wait", "images_per_second")
EVAL_FIELDS = (
    *("step", "epoch", "loss", "accuracy", "accuracy_top5", "calibration_error"),
    *("mean_iou", "pixel_accuracy", "frequency_weighted_iou", "mean_accuracy"),
    *("knn_accuracy", "feature_std", "effective_rank"),
)


@dataclass(frozen=True)
class History:
    """A run's records as columns, float64 [T]; a value that a record lacks is NaN.

    resumes: epochs at which the run was taken up again. best_epoch: 0 where unknown. seconds: of training, all
    pieces together. stop: why training ended, "" while it has not. finished: whether the run said that it is done.
    ensemble: the epochs whose mean probabilities are the result; empty: those of the best epoch.
    """

    train: Mapping[str, np.ndarray]
    evaluation: Mapping[str, np.ndarray]
    resumes: tuple[float, ...]
    best_epoch: int
    seconds: float
    stop: str
    finished: bool
    ensemble: tuple[int, ...] = ()

    @property
    def last_epoch(self) -> float:
        """The epoch, counted from 1 and with fractions, that the records reach; 0 without records."""
        epochs = np.concatenate([self.train["epoch"], self.evaluation["epoch"]])
        return float(np.max(epochs[np.isfinite(epochs)], initial=0.0))


def history(records: Iterable[Mapping[str, Any]]) -> History:
    """Records in the order of the log -> one history. A resumed run's pieces become one curve.

    A `resume` record at step s takes back what was logged beyond s (those steps were done again); of records with
    the same event and step the last counts.
    """
    kept = without_repeats(records)
    train = [record for record in kept if record.get("event") == "train"]
    evaluation = [r for r in kept if r.get("event") == "eval" and r.get("split", "val") == "val"]
    ends = [r for r in kept if r.get("event") in ("stop", "resume", "done")]
    stops = [r for r in ends if r["event"] == "stop"]
    over = bool(ends) and ends[-1]["event"] != "resume"
    done = over and ends[-1]["event"] == "done"
    marked = [int(number(r.get("epoch"), 0)) for r in evaluation if r.get("best")]
    named = number(ends[-1].get("best_epoch")) if done else float("nan")
    resumes = [number(r.get("epoch")) for r in kept if r.get("event") == "resume"]
    return History(
        train=columns(train, TRAIN_FIELDS),
        evaluation=columns(evaluation, EVAL_FIELDS),
        resumes=tuple(epoch for epoch in resumes if epoch == epoch),
        best_epoch=int(named) if named == named else marked[-1] if marked else 0,
        seconds=max((number(r.get("seconds"), 0.0) for r in kept), default=0.0),
        stop=str(stops[-1].get("reason", "")) if over and stops else "",
        finished=done,
        ensemble=ensemble_epochs(ends[-1].get("ensemble")) if done else (),
    )


def ensemble_epochs(value: object) -> tuple[int, ...]:
    """Epochs out of what a `done` record says of them: numbers, or names of checkpoints such as "epoch-00012"."""
    members = value if isinstance(value, list) else []
    digits = [str(member).removeprefix("epoch-") for member in members]
    return tuple(int(text) for text in digits if text.isascii() and text.isdigit())


def without_repeats(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records less those that a resumption took back or a later record of the same event and step replaces."""
    kept: list[Mapping[str, Any]] = []
    for record in records:
        if record.get("event") == "resume":
            step = number(record.get("step"), float("inf"))
            kept = [r for r in kept if r.get("event") not in ("train", "eval") or number(r.get("step"), 0) <= step]
        kept.append(record)
    keys = [(str(r.get("event")), str(r.get("split")), number(r.get("step"), -1)) for r in kept]
    last = {key: place for place, key in enumerate(keys)}
    return [record for place, (record, key) in enumerate(zip(kept, keys, strict=True)) if last[key] == place]


def columns(records: list[Mapping[str, Any]], fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named fields of records as float64 columns, in order of their steps."""
    records = sorted(records, key=lambda record: number(record.get("step"), 0))
    return {name: np.array([number(record.get(name)) for record in records], dtype=np.float64) for name in fields}


def number(value: object, otherwise: float = float("nan")) -> float:
    """`value` as a float where it is a finite number."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if usable else otherwise  # type: ignore[arg-type]


@styled
def draw_loss(past: History) -> Figure:
    """Training and validation loss over epochs, with the best epoch and the end marked."""
    figure, axes = panel(past, "Loss")
    line(axes, past.train["epoch"], past.train["loss"], ORANGE, "training")
    line(axes, past.evaluation["epoch"], past.evaluation["loss"], BLUE, "validation", dots=True)
    mark(axes, past, past.evaluation["loss"], top=True)
    from_zero(axes)
    legend_above(axes)
    return figure


@styled
def draw_accuracy(past: History) -> Figure:
    """Validation accuracy (top 1, and top 5 where it says more) over epochs in percent."""
    figure, axes = panel(past, "Accuracy, %")
    top5 = past.evaluation["accuracy_top5"]
    if np.isfinite(top5).any() and np.nanmin(top5) < 0.999:
        line(axes, past.evaluation["epoch"], 100 * top5, MUTED, "validation, top 5", dots=True)
    line(axes, past.evaluation["epoch"], 100 * past.evaluation["accuracy"], BLUE, "validation", dots=True)
    mark(axes, past, 100 * past.evaluation["accuracy"])
    legend_above(axes)
    return figure


@styled
def draw_metric(past: History, name: str, title: str) -> Figure:
    """One share of the evaluations, in percent, over epochs, with the best epoch marked."""
    figure, axes = panel(past, title)
    line(axes, past.evaluation["epoch"], 100 * past.evaluation[name], BLUE, "validation", dots=True)
    mark(axes, past, 100 * past.evaluation[name])
    legend_above(axes)
    return figure


@styled
def draw_quantity(past: History, name: str, title: str, factor: float = 1.0) -> Figure:
    """One column of the training records, times `factor`, over epochs; small."""
    figure, axes = panel(past, title, width=3.2, height=2.3)
    line(axes, past.train["epoch"], factor * past.train[name], BLUE, "", noisy=name != "lr")
    from_zero(axes)
    seams(axes, past)
    return figure


@styled
def draw_watched(past: History, name: str, title: str) -> Figure:
    """One column of the evaluations over epochs; small."""
    figure, axes = panel(past, title, width=3.2, height=2.3)
    line(axes, past.evaluation["epoch"], past.evaluation[name], BLUE, "", dots=True)
    from_zero(axes)
    seams(axes, past)
    return figure


def panel(past: History, title: str, width: float = 4.9, height: float = 3.3) -> tuple[Figure, Axes]:
    """A figure with one plot over the epochs of the run, from 0, so that plots side by side share their axis."""
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    if past.last_epoch:
        axes.set_xlim(-0.03 * past.last_epoch, 1.04 * past.last_epoch)
    return figure, axes


def from_zero(axes: Axes) -> None:
    """Values from 0 to a little above the highest; where some are below 0, as they come."""
    top = float(axes.dataLim.y1)
    if float(axes.dataLim.y0) < 0:
        return
    axes.set_ylim(0, 1.05 * top if np.isfinite(top) and top > 0 else None)


def line(
    axes: Axes, x: np.ndarray, y: np.ndarray, color: str, label: str, dots: bool = False, noisy: bool = True
) -> None:
    """A curve; many noisy points become a faint line with their mean per epoch on top."""
    if not len(x):
        return
    if len(x) > 100 and noisy and not dots:
        axes.plot(x, y, color=color, linewidth=0.6, alpha=0.35)
        x, y = epoch_means(x, y)
    axes.plot(x, y, color=color, linewidth=1.6, label=label)
    if len(x) <= 60 and (dots or len(x) == 1):
        axes.plot(x, y, "o", color=color, markersize=3.4)


def epoch_means(epochs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of `values` in each epoch, placed at the mean of its points; NaN values are left out."""
    usable = np.isfinite(values)
    epochs, values = epochs[usable], values[usable]
    bins = np.unique(np.ceil(epochs), return_inverse=True)[1]
    counts = np.bincount(bins)
    return np.bincount(bins, epochs) / counts, np.bincount(bins, values) / counts


def mark(axes: Axes, past: History, values: np.ndarray, top: bool = False) -> None:
    """A ring and a word at the best epoch; a line at the end where training stopped early; lines at resumptions.

    top: write the word there, away from curves that fall.
    """
    epochs = past.evaluation["epoch"]
    place = np.flatnonzero(epochs == past.best_epoch)
    if len(place) and np.isfinite(values[place[-1]]):
        x, y = epochs[place[-1]], values[place[-1]]
        axes.plot([x], [y], "o", markersize=9, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.3)
        axes.axvline(x, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), alpha=0.5, zorder=1)
        beyond = x > 0.6 * past.last_epoch
        rim = [patheffects.withStroke(linewidth=2.5, foreground="white")]
        axes.annotate(f"best: epoch {past.best_epoch}", (x, 1.0 if top else 0.0), xycoords=axes.get_xaxis_transform(),
                      xytext=(-6 if beyond else 6, -3 if top else 3), ha="right" if beyond else "left", fontsize=8,
                      textcoords="offset points", va="top" if top else "bottom", path_effects=rim)  # fmt: skip
    if past.stop and past.stop != "all epochs done":
        axes.axvline(past.last_epoch, color=ORANGE, linewidth=1.2, alpha=0.8)
        axes.annotate("stopped", (past.last_epoch, 1.0), xycoords=axes.get_xaxis_transform(), xytext=(4, -2),
                      textcoords="offset points", va="top", rotation=90, fontsize=7.5, color=ORANGE)  # fmt: skip
    seams(axes, past)


def seams(axes: Axes, past: History) -> None:
    """A dashed line wherever the run was taken up again, above the grid (0.5) and below the curves (2)."""
    for place, epoch in enumerate(past.resumes):
        label = "resumed" if place == 0 and axes.get_legend_handles_labels()[1] else None
        axes.axvline(epoch, color=VIOLET, linewidth=1.2, linestyle=(0, (4, 2)), label=label, zorder=1.5)
