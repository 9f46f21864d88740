"""The claim of a classifier of two classes: the interval of the area under its ROC curve."""

from functools import partial

import numpy as np
from scipy.special import ndtri

from sightline.stats.ranking import area_under_curve

from .intervals import AT_LEAST
from .row import Claim, Row, contains


def covered(
    rng: np.random.Generator, sets: int, images: int, area: float, share: float, size: int = 1, large: float = 0.0
) -> list[float]:
    """Whether the interval contains the true area. share: of the images that are positive. size: of the groups, whose
    images are of one class and have half of the variance of their scores in common. large: share of the images that
    are in the first group."""
    apart, found = float(ndtri(area)) * 2**0.5, []
    for _ in range(sets):
        units = images // size
        positive = np.zeros(units, bool)
        positive[rng.permutation(units)[: max(1, round(share * units))]] = True
        counts = np.full(units, size)
        counts[0] = max(size, round(large / (1 - large) * size * (units - 1)))
        groups = np.repeat(np.arange(units), counts)
        common = rng.normal(size=units)[groups] if size > 1 else 0.0
        own = rng.normal(size=len(groups))
        noise = (common + own) / 2**0.5 if size > 1 else own
        scores = noise + apart * positive[groups]
        interval = area_under_curve(scores, positive[groups], groups if size > 1 else None)[1]
        found.append(contains(interval, area))
    return found


def row(simulated: str, sizes: tuple[int, ...], quick: int = 0, **rest: float) -> Row:
    return Row(simulated, "coverage", partial(covered, **rest), AT_LEAST, sizes, 1000, quick)


CLAIMS = (
    Claim(
        "Two classes",
        "Area under the ROC curve: 94.1% (95% interval 91.0 to 96.2%)",
        "`train`, `evaluate` and the report of classifiers of two classes",
        (
            row("area 70%, half of the images positive", (40, 100, 1000), 200, area=0.7, share=0.5),
            row("area 90%, half of the images positive", (40, 100, 1000), area=0.9, share=0.5),
            row("area 98%, half of the images positive", (40, 100, 1000), area=0.98, share=0.5),
            row("area 90%, a tenth of the images positive", (100, 300, 1000), area=0.9, share=0.1),
            row("area 98%, a tenth of the images positive", (100, 300, 1000), area=0.98, share=0.1),
            row("area 90%, groups of 5 images", (100, 300, 1000), area=0.9, share=0.5, size=5),
            row("the same, one of the groups has half of all images", (150, 300), 100, area=0.9, share=0.5, size=5,
                large=0.5),
        ),
        "There is no interval if a class is in fewer than 10 images or groups.",
    ),
)  # fmt: skip
