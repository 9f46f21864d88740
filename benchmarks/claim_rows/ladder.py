"""The claim of `sightline start` on which step was worth it."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import special

from sightline.report.compare.kinds import ImageResults, RunPair, TaskComparison
from sightline.start.results import climb, differs
from sightline.stats.intervals import LEVEL
from sightline.tasks.classify.compare import comparison as of_classifiers
from sightline.tasks.segment.compare import comparison as of_segmenters

from .comparisons import SLOPE, image_results, segmenters
from .row import Claim, Row

EQUAL = (0.0,) * 6
RISING = (0.0, 0.0, 10.0, 10.0, 20.0, 20.0)


def replaced(kind: TaskComparison, results: Sequence[ImageResults]) -> list[tuple[int, int]]:
    """The statements "B was worth it, over A" of a ladder, as pairs of steps (A, B)."""

    def pair_of(first: int, second: int) -> RunPair:
        both = results[first], results[second]
        assert kind.paired
        return RunPair(str(first), str(second), both, kind.paired(*both), float("nan"), LEVEL, "", ())

    pairs = climb(len(results), pair_of)[1]
    won = [pair for pair in pairs if pair.difference > 0 and differs(pair, len(results) - 1)]
    return [(int(pair.first), int(pair.second)) for pair in won]


def steps(rng: np.random.Generator, count: int, gains: Sequence[float], spread: float = 0.0) -> list[ImageResults]:
    """The results of the steps of a ladder: classifiers of 10 classes on images of different difficulty. gains: points
    of accuracy over the first step. spread: standard deviation of the accuracy between seeds, in points."""
    own = np.array(gains)[:, None] + spread * rng.standard_normal((len(gains), 1))
    truth, shift = rng.integers(0, 10, count), own / 100 / SLOPE
    right = rng.random((len(gains), count)) < special.expit(0.35 + 2.2 * rng.standard_normal(count) + shift)
    wrong = (truth + rng.integers(1, 10, right.shape)) % 10
    return [image_results(truth, row, 10) for row in np.where(right, truth, wrong)]


def said_wrongly(
    rng: np.random.Generator, sets: int, images: int, gains: Sequence[float], spread: float = 0.0
) -> list[bool]:
    """Whether a step is said to be worth it over one that is as good."""
    found = (replaced(of_classifiers(), steps(rng, images, gains, spread)) for _ in range(sets))
    return [any(gains[first] >= gains[second] for first, second in each) for each in found]


def found_best(rng: np.random.Generator, sets: int, images: int, gain: float) -> list[bool]:
    """Whether the last step, the only one that is better than the first, is the one that was worth it."""
    gains = (*[0.0] * 5, gain)
    found = (replaced(of_classifiers(), steps(rng, images, gains)) for _ in range(sets))
    return [bool(each) and each[-1][1] == 5 for each in found]


def masks_said_wrongly(rng: np.random.Generator, sets: int, images: int) -> list[bool]:
    """As `said_wrongly`, for five equal segmentation models."""
    return [bool(replaced(of_segmenters(), segmenters(rng, images, 5))) for _ in range(sets)]


LADDER = Claim(
    "Steps of `sightline start`",
    'Which step was worth it: "Fine-tuning was worth it: accuracy 86.0% in 3 min, +9.2 points over k-NN."',
    "`sightline start`: the last lines and the page",
    (
        Row(
            "6 steps of equal accuracy", "false alarms", partial(said_wrongly, gains=EQUAL), (0, 0.05), (45, 100, 1000),
            1000, 40,
        ),
        Row(
            "6 steps, two each 0, 10 and 20 points above the first", "false alarms",
            partial(said_wrongly, gains=RISING), (0, 0.05), (45, 100, 1000), 1000, 40,
        ),
        *(
            Row(f"4 steps of equal accuracy on average, {spread:g} points between seeds", "false alarms",
                partial(said_wrongly, gains=EQUAL[:4], spread=spread), None, (300, 1000, 2500), 400)
            for spread in (0.5, 1.0, 2.0)
        ),
        Row("5 steps of equal mean IoU", "false alarms", masks_said_wrongly, (0, 0.05), (20, 100), 300),
        Row("the last of 6 steps is 10 points better", "power", partial(found_best, gain=10.0), None, (100, 300, 1000),
            300),
    ),
    "Each step is compared with the best one so far; p values are multiplied by the number of steps minus 1. The "
    "statement is on these runs: with seeds that vary it is wrong more often on the steps, which the page says.",
)  # fmt: skip
CLAIMS = (LADDER,)
