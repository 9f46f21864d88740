"""The figures of a report as PNG files, and their descriptions as alternative texts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ..insight import curves, figures
from ..insight.curves import History, MetricCurve
from ..insight.projection import EpochMap, still_maps
from ..insight.style import png, short
from .findings import Findings, PredictionSummary, Tile
from .words import in_words, percent

Plan = dict[str, Callable[[], Figure]]
"""Functions that draw figures, by file name without ending."""


class Quantity(NamedTuple):
    """A column of the training records. digits: decimals under the cursor; factor: to the unit of the title."""

    name: str
    field: str
    title: str
    digits: int
    factor: float


QUANTITIES = (
    Quantity("learning-rate", "lr", "Learning rate", 6, 1.0),
    Quantity("gradient-norm", "grad_norm", "Gradient norm", 3, 1.0),
    Quantity("data-wait", "data_wait", "Waiting for data, % of the time", 1, 100.0),
)


def draw_all(todo: Mapping[str, Callable[[], Figure]]) -> dict[str, bytes]:
    """PNG bytes of planned figures, by name without ending."""
    return {name: drawn(name, draw) for name, draw in todo.items()}


def drawn(name: str, draw: Callable[[], Figure]) -> bytes:
    """PNG bytes of one figure."""
    return png(draw())


def plan(found: Findings, classes: tuple[str, ...], metrics: Sequence[MetricCurve]) -> Plan:
    """The figures of features and predicted classes, by name."""
    verdict, todo = found.verdict, plan_curves(found.past, metrics)
    if verdict:
        todo["confusion"] = lambda: figures.draw_confusion(verdict.confusion, classes)
        todo["calibration"] = lambda: figures.draw_calibration(verdict.confidence, verdict.correct)
    for maps, labels, ending in (
        (found.maps, found.map_labels, ""),
        (found.training_maps, found.training_labels, "-training"),
    ):
        chosen = still_maps(maps)
        for kind in kinds(maps):
            points, titles = [getattr(m, kind) for m in chosen], figures.map_titles(chosen, kind)
            hard = hardest(found, labels)
            todo[kind + ending] = partial(figures.draw_maps, points, titles, labels, classes, hard)
    if found.wrong:
        todo["mistakes"] = lambda: sheet(found.wrong)
    confused = [one for *_, tiles in found.confused for one in tiles]
    if confused:
        todo["confused"] = lambda: sheet(confused)
    return todo


def plan_curves(past: History, metrics: Sequence[MetricCurve]) -> Plan:
    """The loss, the task's metrics and the training quantities over the epochs, where the run has them."""
    todo: Plan = {}
    if np.isfinite(past.train["loss"]).any() or np.isfinite(past.evaluation["loss"]).any():
        todo["curve-loss"] = lambda: curves.draw_loss(past)
    todo |= {f"curve-{m.name}": partial(curves.draw_metric, past, m) for m in metrics if m.drawn_for(past)}
    for one in QUANTITIES:
        if np.isfinite(past.train[one.field]).any():
            todo[f"curve-{one.name}"] = partial(curves.draw_quantity, past, one.field, one.title, one.factor)
    return todo


def kinds(maps: Sequence[EpochMap]) -> tuple[str, ...]:
    """The kinds of maps that were computed."""
    return tuple(kind for kind in ("tsne", "pca") if maps and getattr(maps[0], kind) is not None)


def hardest(found: Findings, labels: np.ndarray) -> list[int]:
    """The classes on a map, by ascending recall."""
    present = np.unique(labels)
    if found.verdict is None:
        return present.tolist()
    return present[np.argsort(found.verdict.classes.recall[present], kind="stable")].tolist()


def sheet(tiles: Sequence[Tile]) -> Figure:
    """Images with their truth, prediction and confidence."""
    captions = [
        f"{short(one.truth, 17)}\nas {short(one.predicted, 15)}\n{100 * one.confidence:.0f}% sure" for one in tiles
    ]
    return figures.draw_sheet([one.image for one in tiles], captions)


def loss_text(past: History) -> str:
    """Describe the two curves of the loss."""
    ranges = [value_range("training loss", past.train["loss"]), value_range("validation loss", past.evaluation["loss"])]
    return sentence(f"Loss over {count_of(past.last_epoch)}", ranges) + marks(past)


def metric_text(past: History, curve: MetricCurve) -> str:
    """Describe the curve of a metric: its first, last and best value."""
    values, title = past.evaluation[curve.field], curve.title
    over = f"{title} over {count_of(past.last_epoch)}"
    if not curve.percent:
        return sentence(over, [value_range(title, values)])
    first_to_last = value_range(f"validation {title[0].lower()}{title[1:]}", 100 * values, "%", 1)
    best = f"best {percent(float(np.nanmax(values)))}%" if np.isfinite(values).any() else ""
    return sentence(over, [first_to_last, best]) + marks(past)


def quantity_text(past: History, one: Quantity) -> str:
    """Describe a column of the training records."""
    values = one.factor * past.train[one.field][np.isfinite(past.train[one.field])]
    over = f"{one.title} over the epochs"
    if not len(values):
        return over
    return f"{over}: median {np.median(values):.3g}, largest {values.max():.3g}, last {values[-1]:.3g}"


def value_range(name: str, values: np.ndarray, unit: str = "", digits: int = 3) -> str:
    """The first and last value of a curve; "" without values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    first, last = (f"{value:.{digits}f}{unit}" for value in (values[0], values[-1]))
    return f"{name} from {first} to {last}" if len(values) > 1 else f"{name} {last}"


def sentence(title: str, parts: Sequence[str]) -> str:
    """A title, and after a colon its details that are not empty."""
    return f"{title}: {', '.join(part for part in parts if part)}" if any(parts) else title


def count_of(epochs: float) -> str:
    """`1 epoch`, `2.5 epochs`."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def marks(past: History) -> str:
    """The marked epochs of a curve."""
    found = [f"best epoch {past.best_epoch}"] if past.best_epoch else []
    found += [f"resumed at {in_words(past.resumes)}"] if past.resumes else []
    return f"; marked: {', '.join(found)}" if found else ""


def confusion_text(verdict: PredictionSummary, classes: Sequence[str]) -> str:
    """Describe the confusion matrix with its largest cell off the diagonal."""
    wrong = int((~verdict.correct).sum())
    text = f"Confusion matrix of {len(classes)} classes; {wrong} of {len(verdict.correct)} images lie off the diagonal"
    if not verdict.pairs:
        return text
    truth, predicted, often = verdict.pairs[0]
    return f"{text}, in its largest cell {often}: {classes[truth]} taken for {classes[predicted]}"


def calibration_text(verdict: PredictionSummary) -> str:
    """Describe accuracy against confidence."""
    sure, right = float(verdict.confidence.mean()), verdict.accuracy
    side = "less" if sure < right else "more"
    return (
        f"Accuracy against confidence in 15 bins; calibration error {100 * verdict.calibration:.1f} points; on average "
        f"the model is {side} sure ({percent(sure)}%) than right ({percent(right)}%)"
    )


def maps_text(kind: str, found: Sequence[EpochMap], labels: np.ndarray, images: str = "validation") -> str:
    """Describe the maps of the epochs and the k-NN accuracy of their features."""
    epochs, count = in_words([one.epoch for one in found]), np.unique(labels).size
    accuracies = ", ".join(f"{percent(one.knn)}% after epoch {one.epoch}" for one in found if one.knn is not None)
    what = f"{kind} maps of {len(labels)} {images} images"
    if not accuracies:
        return f"{what} after {epochs}, one dot per image, in the color of its cluster, one of {count}"
    return (
        f"{what} of {count} classes after {epochs}, one dot per image, in the color of its true class; k-NN accuracy "
        f"in feature space {accuracies}"
    )
