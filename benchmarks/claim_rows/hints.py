"""Claims on training that are no comparison: collapsed features of a pre-training."""

import numpy as np
import torch

from sightline.stats.metrics import effective_rank, feature_std
from sightline.tasks.pretrain.collapse import collapse

from .row import Claim, Row

AREA = "Pre-training"


def warned(rng: np.random.Generator, sets: int, count: int, directions: int, spread: float) -> list[bool]:
    """Whether a warning is printed for features [count, 64] that vary in `directions` directions around one point.

    spread: standard deviation of the features in these directions, for a distance of 1 of the point from zero.
    """
    found = []
    for _ in range(sets):
        center = rng.standard_normal(64)
        axes = np.linalg.qr(rng.standard_normal((64, directions)))[0]
        varied = spread / np.sqrt(directions) * rng.standard_normal((count, directions)) @ axes.T
        features = torch.from_numpy(center / np.linalg.norm(center) + varied)
        numbers = {"feature_std": feature_std(features), "effective_rank": effective_rank(features)}
        found.append(bool(collapse(numbers)))
    return found


def row(simulated: str, directions: int, spread: float, collapsed: bool, quick: int = 0) -> Row:
    """A row of features that have collapsed or not."""
    kind, target = ("power", (0.95, 1.0)) if collapsed else ("false alarms", (0.0, 0.05))
    return Row(simulated, kind, lambda rng, sets, count: warned(rng, sets, count, directions, spread), target,
               (200, 1000), 100, quick)  # fmt: skip


CLAIMS = (
    Claim(
        AREA,
        "collapsed: the features of all images are nearly the same",
        "`train` and the report of pre-training, the page of a transfer grid",
        (
            row("features that vary in 64 directions, as much as their mean", 64, 1.0, False, 20),
            row("features that vary in 4 directions, a tenth of their mean", 4, 0.1, False),
            row("features that vary in 64 directions, a hundredth of their mean", 64, 0.01, True, 20),
            row("features that vary in one direction", 1, 1.0, True),
        ),
    ),
)
