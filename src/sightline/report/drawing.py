"""The figures of a report, as PNG files by name."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..insight import curves, figures
from ..insight.curves import History
from ..insight.projection import EpochMap, still_maps
from ..insight.style import png, short
from .findings import Findings, Tile

QUANTITIES = (
    ("curve-learning-rate", "lr", "Learning rate", 1.0),
    ("curve-gradient-norm", "grad_norm", "Gradient norm", 1.0),
    ("curve-data-wait", "data_wait", "Waiting for data, % of the time", 100.0),
)


def draw_all(todo: Mapping[str, Callable[[], Figure]]) -> dict[str, bytes]:
    """PNG bytes of planned figures, by name without ending."""
    return {name: drawn(name, draw) for name, draw in todo.items()}


def drawn(name: str, draw: Callable[[], Figure]) -> bytes:
    """PNG bytes of one figure."""
    return png(draw())


def plan(found: Findings, classes: tuple[str, ...]) -> dict[str, Callable[[], Figure]]:
    """What to draw for these findings, by name."""
    past, verdict = found.past, found.verdict
    todo = plan_curves(past)
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
            todo[kind + ending] = lambda p=points, t=titles, own=labels: figures.draw_maps(
                p, t, own, classes, hardest(found, own)
            )
    if found.wrong:
        todo["mistakes"] = lambda: sheet(found.wrong)
    pictured = [one for *_, tiles in found.confused for one in tiles]
    if pictured:
        todo["confused"] = lambda: sheet(pictured)
    return todo


def kinds(maps: Sequence[EpochMap]) -> tuple[str, ...]:
    """The kinds of maps that there are."""
    return tuple(kind for kind in ("tsne", "pca") if maps and getattr(maps[0], kind) is not None)


def plan_curves(past: History) -> dict[str, Callable[[], Figure]]:
    """The curves over the epochs that a run of any task has, by name."""
    todo: dict[str, Callable[[], Figure]] = {}
    if np.isfinite(past.train["loss"]).any() or np.isfinite(past.evaluation["loss"]).any():
        todo["curve-loss"] = lambda: curves.draw_loss(past)
    if np.isfinite(past.evaluation["accuracy"]).any():
        todo["curve-accuracy"] = lambda: curves.draw_accuracy(past)
    if np.isfinite(past.evaluation["mean_iou"]).any():
        todo["curve-mean-iou"] = lambda: curves.draw_metric(past, "mean_iou", "Mean IoU, %")
    for name, field, title, factor in QUANTITIES:
        if np.isfinite(past.train[field]).any():
            todo[name] = lambda f=field, t=title, k=factor: curves.draw_quantity(past, f, t, k)
    return todo


def hardest(found: Findings, labels: np.ndarray) -> list[int]:
    """Classes on a map, those with the lowest recall first."""
    present = np.unique(labels)
    if found.verdict is None:
        return present.tolist()
    return present[np.argsort(found.verdict.classes.recall[present], kind="stable")].tolist()


def sheet(tiles: list[Tile]) -> Figure:
    """Pictures with what they are, and what the model took them for."""
    captions = [
        f"{short(one.truth, 17)}\nas {short(one.predicted, 15)}\n{100 * one.confidence:.0f}% sure" for one in tiles
    ]
    return figures.draw_sheet([one.image for one in tiles], captions)
