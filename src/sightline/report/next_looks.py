"""What to look at next: the few things of a run that stand out, each with the part of the page that shows it."""

from collections.abc import Sequence

import numpy as np

from ..insight.curves import History
from .html import Html, element
from .words import percent

MOST = 4
OVERFITTED = 1.1  # of the lowest validation loss
WAITING = 0.1
Look = tuple[str, str]


def next_looks(looks: Sequence[Look]) -> Html | None:
    """The first few as links; None where nothing stands out."""
    if not looks:
        return None
    entries = [element("li", element("a", says, href=f"#{target}")) for says, target in looks[:MOST]]
    return element("div", element("h3", "Look next at"), element("ul", entries, class_="notes"))


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
