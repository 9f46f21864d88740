"""The claims of the tables of classes in comparisons: all of their intervals contain the true differences."""

from functools import partial
from typing import Any

import numpy as np
from scipy import special

from sightline.stats.paired import paired_classes, paired_ious
from sightline.stats.segmentation import class_iou, summed

from .comparisons import AREA
from .intervals import AT_LEAST
from .masks import confusions, with_errors
from .row import Claim, Row

CLASSES = 6
SPREAD = 2.2
"""Standard deviation of the difficulty of images, in logits: two models often err on the same ones."""


def population(skill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The true recall and F1 [K] of each class, of a model with a skill [K] in logits; errors are any other class."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(81)
    recall = (special.expit(skill[:, None] + SPREAD * nodes) * weights).sum(1) / weights.sum()
    false = ((1 - recall).sum() - (1 - recall)) / (CLASSES - 1)
    return recall, 2 * recall / (2 * recall + false + 1 - recall)


def all_covered(
    rng: np.random.Generator, sets: int, count: int, measure: str, skill: float, better: float, constant: bool = False
) -> list[float]:
    """Whether the intervals of all classes contain the true differences. count: images of each class. better: logits
    that the second model has more. constant: the first model always predicts the first class."""
    skills = skill + np.linspace(-1, 1, CLASSES)
    truth = np.repeat(np.arange(CLASSES), count)
    values = [population(one)[measure == "F1"] for one in (skills, skills + better)]
    if constant:
        values[0] = (np.arange(CLASSES) == 0).astype(float)
        values[0] *= 1 if measure == "recall" else 2 / (CLASSES + 1)
    found = []
    for _ in range(sets):
        hard = SPREAD * rng.standard_normal(len(truth))
        both = []
        for own in (skills, skills + better):
            right = rng.random(len(truth)) < special.expit(own[truth] + hard)
            both.append(np.where(right, truth, (truth + rng.integers(1, CLASSES, len(truth))) % CLASSES))
        first = np.zeros_like(truth) if constant else both[0]
        apart = paired_classes(truth, first, both[1], CLASSES)[measure == "F1"]
        wanted = values[1] - values[0]
        found.append(float(((apart.low <= wanted + 1e-12) & (wanted - 1e-12 <= apart.high)).all()))
    return found


def masks_of(seed: int, count: int, better: float) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrices [N, K, K] of two segmentation models on the same images; each loses some pixels of its own."""
    first, second = (confusions(np.random.default_rng(seed), count, better=more) for more in (0.0, better))
    own = np.random.default_rng([seed, 1])
    return with_errors(own, first), with_errors(own, second)


def ious_covered(rng: np.random.Generator, sets: int, count: int, better: float) -> list[float]:
    """Whether the intervals of the IoU of all classes contain the true differences, those of many images."""
    first, second = (class_iou(summed(one)) for one in masks_of(0, 20_000, better))
    found = []
    for seed in rng.integers(1, 2**31, sets):
        apart, wanted = paired_ious(*masks_of(int(seed), count, better)), second - first
        inside = (apart.low <= wanted) & (wanted <= apart.high)
        found.append(float((inside | np.isnan(apart.low)).all()))
    return found


def ious(simulated: str, better: float, sizes: tuple[int, ...], target: tuple[float, float] | None) -> Row:
    return Row(simulated, "coverage", partial(ious_covered, better=better), target, sizes, 500)


def row(simulated: str, measure: str, sizes: tuple[int, ...] = (14, 30, 100), **rest: Any) -> Row:
    return Row(simulated, "coverage", partial(all_covered, measure=measure, **rest), AT_LEAST, sizes, 1000)


CLAIMS = (
    Claim(
        AREA,
        "Recall and F1 of each class with the interval of the difference",
        "the table of classes in the comparison of runs",
        (
            row("recall, equal models, recalls of 0.54 to 0.79", "recall", skill=1.3, better=0),
            row("recall, the first with recalls of 0.86 to 0.96, the second better", "recall", skill=4.0, better=1.5),
            row("recall, the first always predicts one class", "recall", skill=4.5, better=0, constant=True),
            row("F1, equal models, recalls of 0.54 to 0.79", "F1", skill=1.3, better=0),
            row("F1, the first with recalls of 0.86 to 0.96, the second better", "F1", skill=4.0, better=1.5),
            row("F1, the first always predicts one class", "F1", skill=4.5, better=0, constant=True),
        ),
        "n is the number of images of each of six classes. The intervals of all classes together have 95 %.",
    ),
    Claim(
        AREA,
        "IoU of each class with the interval of the difference",
        "the table of classes in the comparison of segmenters",
        (
            ious("equal models", 0, (20, 50, 100), AT_LEAST),
            ious("the second is better", 0.7, (20, 50, 100), AT_LEAST),
            ious("the second is better, few images", 0.7, (12, 15), None),
        ),
        "n is the number of images, of which the six classes are in 10 % to all. There is no interval for classes in "
        "fewer than 10 images. The intervals of all classes together have 95 %.",
    ),
)  # fmt: skip
