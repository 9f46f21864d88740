"""The figure of the receiver operating characteristic."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..stats.ranking import roc_points
from .style import BLUE, MUTED, new_figure, short, styled


@styled
def draw_roc(scores: np.ndarray, positive: np.ndarray, classes: tuple[str, str]) -> Figure:
    """Draw the recall of the second class against the share of images of the first class that are predicted as the
    second. scores: float [N], probability of the second class. positive: bool [N], whether it is the true class."""
    figure = new_figure(4.4, 4.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.plot(*roc_points(scores, positive), color=BLUE, linewidth=1.8, clip_on=False)  # equal scores: a slope
    first, second = (short(name) for name in classes)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=f"{first} predicted as {second}", ylabel=f"recall of {second}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    return figure
