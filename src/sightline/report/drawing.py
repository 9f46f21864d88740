"""Plan and draw the figures of a report, and write their alternative texts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from ..insight import curves, figures
from ..insight.curves import History, MetricCurve
from ..insight.projection import EpochMap, static_maps
from ..insight.style import png, short
from .findings import Findings, GalleryImage, PredictionSummary
from .formatting import epochs_text, percent

Plan = dict[str, Callable[[], Figure]]
"""Functions that draw figures, by file name without extension."""


def training_curve(field: str, title: str, digits: int, percent: bool = False, key: str = "") -> MetricCurve:
    """A small curve of one field of a run's training records. key: the curve's name in file names, by default
    `field`."""
    return MetricCurve(field, title, percent, True, digits, "training", records="train", key=key)


TRAINING_CURVES = (
    training_curve("lr", "Learning rate", 6, key="learning-rate"),
    training_curve("grad_norm", "Gradient norm", 3, key="gradient-norm"),
    training_curve("data_wait", "Time spent waiting for data", 1, percent=True),
)


def draw_all(todo: Mapping[str, Callable[[], Figure]]) -> dict[str, bytes]:
    """Draw all planned figures; returns their PNG bytes by file name without extension."""
    return {name: drawn(name, draw) for name, draw in todo.items()}


def drawn(name: str, draw: Callable[[], Figure]) -> bytes:
    """Draw one figure; returns its PNG bytes. name: its file name, by which tests select figures."""
    return png(draw())


def plan(findings: Findings, classes: tuple[str, ...], metrics: Sequence[MetricCurve]) -> Plan:
    """Plan the figures of a run with stored features; returns functions that draw them, by file name without extension.

    These are the curves and the maps of the features, and with predicted classes also confusion matrix, calibration and
    misclassified images. classes: their names. metrics: the task's curves.
    """
    summary, todo = findings.summary, plan_curves(findings.past, metrics)
    if summary:
        todo["confusion"] = lambda: figures.draw_confusion(summary.confusion, classes)
        todo["calibration"] = lambda: figures.draw_calibration(summary.confidence, summary.correct)
    for maps, labels, ending in (
        (findings.maps, findings.map_labels, ""),
        (findings.training_maps, findings.training_labels, "-training"),
    ):
        chosen = static_maps(maps)
        for kind in kinds(maps):
            points, titles = [getattr(m, kind) for m in chosen], figures.map_titles(chosen, kind)
            hard = hardest(findings, labels)
            todo[kind + ending] = partial(figures.draw_maps, points, titles, labels, classes, hard)
    if findings.wrong:
        todo["mistakes"] = lambda: sheet(findings.wrong)
    confused = [one for *_, examples in findings.confused for one in examples]
    if confused:
        todo["confused"] = lambda: sheet(confused)
    return todo


def plan_curves(past: History, metrics: Sequence[MetricCurve]) -> Plan:
    """Plan the curves of the loss, the task's metrics and the training records for which the run has values."""
    todo: Plan = {}
    if np.isfinite(past.train["loss"]).any() or np.isfinite(past.evaluation["loss"]).any():
        todo["curve-loss"] = lambda: curves.draw_loss(past)
    drawn = [one for one in (*metrics, *TRAINING_CURVES) if one.drawn_for(past)]
    return todo | {f"curve-{one.name}": partial(curves.draw_metric, past, one) for one in drawn}


def kinds(maps: Sequence[EpochMap]) -> tuple[str, ...]:
    """The projections for which maps were computed: "tsne", "pca", both or none."""
    return tuple(kind for kind in ("tsne", "pca") if maps and getattr(maps[0], kind) is not None)


def hardest(findings: Findings, labels: np.ndarray) -> list[int]:
    """Indices of the classes that occur in `labels`, by ascending recall; without predictions, by index."""
    present = np.unique(labels)
    if findings.summary is None:
        return present.tolist()
    return present[np.argsort(findings.summary.classes.recall[present], kind="stable")].tolist()


def sheet(examples: Sequence[GalleryImage]) -> Figure:
    """Draw a grid of images, each with its true class, predicted class and confidence below it."""
    captions = [
        f"{short(one.truth, 17)}\nas {short(one.predicted, 15)}\n{100 * one.confidence:.0f}% confidence"
        for one in examples
    ]
    return figures.draw_image_grid([one.image for one in examples], captions)


def loss_text(past: History) -> str:
    """Alternative text of the loss curves: first and last value of each curve, and the marked epochs."""
    ranges = [value_range("training loss", past.train["loss"]), value_range("validation loss", past.evaluation["loss"])]
    return sentence(f"Loss over {count_of(past.last_epoch)}", ranges) + marks_text(past)


def metric_text(past: History, curve: MetricCurve) -> str:
    """Alternative text of the curve of a metric: its first, last and best value."""
    values, title = past.evaluation[curve.field], curve.title
    over = f"{title} over {count_of(past.last_epoch)}"
    if not curve.percent:
        return sentence(over, [value_range(title, values)])
    first_to_last = value_range(f"validation {title[0].lower()}{title[1:]}", 100 * values, "%", 1)
    best = f"best {percent(float(np.nanmax(values)))}%" if np.isfinite(values).any() else ""
    return sentence(over, [first_to_last, best]) + marks_text(past)


def training_curve_text(past: History, curve: MetricCurve) -> str:
    """Alternative text of the curve of a training record: median, largest and last value."""
    values = curve.points(past)[1]
    values, over = values[np.isfinite(values)], f"{curve.heading} over the epochs"
    if not len(values):
        return over
    return f"{over}: median {np.median(values):.3g}, largest {values.max():.3g}, last {values[-1]:.3g}"


def value_range(name: str, values: np.ndarray, unit: str = "", digits: int = 3) -> str:
    """The first and last value of a curve as text, `loss from 2.100 to 0.300`; "" if there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    first, last = (f"{value:.{digits}f}{unit}" for value in (values[0], values[-1]))
    return f"{name} from {first} to {last}" if len(values) > 1 else f"{name} {last}"


def sentence(title: str, parts: Sequence[str]) -> str:
    """Join a title and its details, `Loss: a, b`; empty details are left out."""
    return f"{title}: {', '.join(part for part in parts if part)}" if any(parts) else title


def count_of(epochs: float) -> str:
    """`1 epoch`, `2.5 epochs`."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def marks_text(past: History) -> str:
    """The marked epochs of a curve, `; marked: best epoch 5, resumed at epoch 3`; "" if there are none."""
    marks = [f"best epoch {past.best_epoch}"] if past.best_epoch else []
    marks += [f"resumed at {epochs_text(past.resumes)}"] if past.resumes else []
    return f"; marked: {', '.join(marks)}" if marks else ""


def confusion_text(summary: PredictionSummary, classes: Sequence[str]) -> str:
    """Alternative text of the confusion matrix, with its largest cell off the diagonal."""
    wrong = int((~summary.correct).sum())
    text = f"Confusion matrix of {len(classes)} classes; {wrong} of {len(summary.correct)} images are off the diagonal"
    if not summary.pairs:
        return text
    truth, predicted, often = summary.pairs[0]
    return f"{text}, {often} in its largest cell: {classes[truth]} predicted as {classes[predicted]}"


def calibration_text(summary: PredictionSummary) -> str:
    """Alternative text of the figure of accuracy against confidence."""
    sure, right = percent(float(summary.confidence.mean())), percent(summary.accuracy)
    return (
        f"Accuracy against confidence in 15 bins; calibration error {100 * summary.calibration:.1f} points; mean "
        f"confidence {sure}%, accuracy {right}%"
    )


def maps_text(kind: str, maps: Sequence[EpochMap], labels: np.ndarray, images: str = "validation") -> str:
    """Alternative text of the feature maps, with the k-NN accuracy of the features at each epoch.

    kind: "t-SNE" or "PCA". labels: class or cluster of each image. images: "validation", "training", or "evaluated" for
    images without labels.
    """
    epochs, count = epochs_text([one.epoch for one in maps]), np.unique(labels).size
    accuracies = ", ".join(f"{percent(one.knn)}% after epoch {one.epoch}" for one in maps if one.knn is not None)
    what = f"{kind} maps of {len(labels)} {images} images"
    if images == "evaluated":
        return f"{what} after {epochs}, one dot per image, in the color of its cluster, one of {count}"
    measured = f"; k-NN accuracy in feature space {accuracies}" if accuracies else ""
    classes = "1 class" if count == 1 else f"{count} classes"
    return f"{what} of {classes} after {epochs}, one dot per image, in the color of its true class{measured}"
