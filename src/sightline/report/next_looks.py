"""What to look at next: the few things of a run that stand out, each with the part of the page that shows it."""

from collections.abc import Sequence

import numpy as np

from ..insight.curves import History
from ..tasks.segment.metrics import class_iou
from .findings import Findings
from .html import Html, element
from .segment import MaskFindings
from .words import percent, times

MOST = 4
FEW = 5  # images of a class below which its recall says little
MISCALIBRATED = 0.05
OVERFITTED = 1.1  # of the lowest validation loss
WAITING = 0.1
Look = tuple[str, str]


def next_looks(looks: Sequence[Look]) -> Html | None:
    """The first few as links; None where nothing stands out."""
    if not looks:
        return None
    entries = [element("li", element("a", says, href=f"#{target}")) for says, target in looks[:MOST]]
    return element("div", element("h3", "Look next at"), element("ul", entries, class_="notes"))


def of_classifier(found: Findings, classes: Sequence[str]) -> list[Look]:
    """The weakest class, the most frequent mistake, confidence that cannot be trusted, and what the curves say."""
    verdict, looks = found.verdict, []
    if verdict is None:
        return of_curves(found.past)
    recall = np.where(verdict.classes.support >= FEW, verdict.classes.recall, np.inf)
    weakest = int(recall.argmin()) if len(recall) else 0
    if np.isfinite(recall[weakest]) and recall[weakest] < verdict.accuracy - 0.05:
        looks.append((f"{classes[weakest]}: only {percent(float(recall[weakest]))}% of its images are found",
                      "where-it-goes-wrong"))  # fmt: skip
    if found.confused and found.confused[0][2] > 1:
        truth, predicted, often, _ = found.confused[0]
        looks.append((f"{truth} taken for {predicted}, {times(often)}: are the labels right?", "wrong-images"))
    if verdict.calibration > MISCALIBRATED:
        sure = "too sure of itself" if verdict.confidence.mean() > verdict.accuracy else "less sure than it could be"
        looks.append((f"Confidence: the model is {sure}, by {100 * verdict.calibration:.1f} points on the average",
                      "where-it-goes-wrong"))  # fmt: skip
    return looks + of_curves(found.past)


def of_segmenter(found: MaskFindings) -> list[Look]:
    """The weakest class, and what the curves say."""
    looks = []
    if found.per_image is not None:
        iou = class_iou(found.per_image.sum(0))
        if np.isfinite(iou).any():
            weakest = int(np.nanargmin(iou))
            looks.append((f"{found.classes[weakest]}: its IoU of {percent(float(iou[weakest]))}% is the lowest",
                          "class-by-class"))  # fmt: skip
    if found.worst:
        looks.append(("The worst images: are their masks right?", "worst-images"))
    return looks + of_curves(found.past)


def of_curves(past: History) -> list[Look]:
    """Overfitting, an end that came too early, and waiting for data."""
    looks = []
    loss = past.evaluation["loss"]
    known = np.flatnonzero(np.isfinite(loss))
    if len(known) > 2:
        lowest = known[loss[known].argmin()]
        if loss[known[-1]] > OVERFITTED * loss[lowest]:
            epoch = past.evaluation["epoch"][lowest]
            looks.append((f"The validation loss rises after epoch {epoch:g}: the model begins to know its images by "
                          "heart", "curves"))  # fmt: skip
    planned = past.finished and past.stop in ("", "all epochs done")
    if planned and past.best_epoch and past.best_epoch >= past.last_epoch and len(known) > 2:
        looks.append(("The last epoch is the best: more epochs may give more (sightline resume RUN --train.epochs)",
                      "curves"))  # fmt: skip
    wait = past.train["data_wait"][np.isfinite(past.train["data_wait"])]
    if len(wait) and np.median(wait) > WAITING:
        looks.append((f"{percent(float(np.median(wait)))}% of the time went into waiting for data", "curves"))
    return looks
