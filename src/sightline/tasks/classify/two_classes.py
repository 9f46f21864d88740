"""The section of a classifier of two classes: how well its probabilities separate them."""

import numpy as np

from ...insight.ranking import draw_roc
from ...report import sections
from ...report.drawing import Plan
from ...report.formatting import percent
from ...report.html import Child, element, table
from ...report.run import Predictions
from ...stats.groups import Groups, ids_in
from ...stats.intervals import Interval, mean_interval
from ...stats.ranking import area_under_curve

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
ROC = (
    "The area under the curve is the probability that an image of {second} gets a higher probability of {second} than "
    "an image of {first}: 50% is guessing. It does not depend on a threshold, nor on how frequent the classes are."
)
AT_THRESHOLDS = (
    "If an image is called {second} from this probability on; the recall of {second} is then the sensitivity, that of "
    "{first} the specificity. None of these thresholds was chosen on the validation "
    "images; the intervals do not hold for one that is."
)


def plan_roc(predictions: Predictions | None) -> Plan:
    """The figure `roc`, for predictions of two classes that both have images."""
    if predictions is None or (scores := separable(predictions)) is None:
        return {}
    first, second = predictions.classes
    return {"roc": lambda: draw_roc(scores, predictions.truth == 1, (first, second))}


def separable(predictions: Predictions) -> np.ndarray | None:
    """The probabilities of the second of two classes, float64 [N]; None unless there are two, and both have images."""
    return predictions.second if 0 < int((predictions.truth == 1).sum()) < len(predictions.truth) else None


def two_classes(predictions: Predictions | None, figures: sections.Figures, groups: Groups | None) -> list[Child]:
    """The ROC curve with the area under it, and recall and precision at thresholds; nothing for other numbers of
    classes."""
    if predictions is None or (scores := separable(predictions)) is None:
        return []
    positive = predictions.truth == 1
    area, interval = area_under_curve(scores, positive, ids_in(groups))
    first, second = predictions.classes
    found = f"Area under the ROC curve: {percent(area)}% ({edges(interval)})."
    rows = [threshold_row(scores, positive, ids_in(groups), threshold) for threshold in THRESHOLDS]
    head = ["Probability at least", f"Recall of {second}, %", "95% interval", f"Recall of {first}, %", "95% interval"]
    return [
        element("h3", "How well the two classes are separated"),
        element("p", found),
        sections.figure(figures, "roc", f"ROC curve: {found}", ROC.format(first=first, second=second)),
        table(head, rows, "Recall at thresholds", numeric=1),
        element("p", AT_THRESHOLDS.format(first=first, second=second), class_="small"),
    ]


def edges(interval: Interval) -> str:
    """An interval in percent as text."""
    low, high = interval
    if low != low:
        return "too few images, or groups of them, for an interval"
    return f"95% interval {percent(low)} to {percent(high)}"


def threshold_row(scores: np.ndarray, positive: np.ndarray, ids: np.ndarray | None, threshold: float) -> list[Child]:
    """Table cells: the recall of both classes at a threshold, with their intervals. ids: int64 [N], of groups."""
    cells: list[Child] = [f"{threshold:.0%}"]
    for own, right in ((positive, scores >= threshold), (~positive, scores < threshold)):
        groups = None if ids is None else np.unique(ids[own], return_inverse=True)[1]
        low, high = mean_interval(right[own], groups)
        cells += [percent(float(right[own].mean())), f"{percent(low)} to {percent(high)}" if low == low else "none"]
    return cells
