"""Claims of transfer grids of segmenters, whose score is a mean IoU: a ratio of sums, and no mean over images."""

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from sightline.stats.nested import mean_iou_values, nested_difference, nested_mean
from sightline.stats.segmentation import mean_iou, rare_classes, summed
from sightline.transfer.results import compare_settings

from .comparisons import ALARMS, AREA, settings_of
from .intervals import AT_LEAST
from .masks import confusions
from .row import Claim, Row, contains

SAID = "the page, table and JSON of a transfer grid of segmenters"
SLOPE = -15.6
"""Change of the mean IoU in points per unit of the logarithm of the pixels that a run loses, see `runs`."""
LOST = 0.2
"""Mean share of the correct pixels of a class of an image that a run loses to the next class."""
MANY = 20_000


def runs(
    rng: np.random.Generator,
    base: np.ndarray,
    shape: tuple[int, int, int],
    spread: float,
    pretrained: float = 0.0,
    better: float = 0.0,
) -> np.ndarray:
    """Confusion matrices [settings, P, S, N, K, K] of runs on the same images, for shape (settings, P, S).

    base: confusion matrices [N, K, K] that all runs have in common; each loses correct pixels of its own. spread,
    pretrained: standard deviation of the mean IoU between seeds and between pre-trainings, in points. better: points by
    which the last setting is better.
    """
    right = np.einsum("nkk->nk", base)
    own = spread / SLOPE * rng.standard_normal((*shape, 1, 1))
    own = own + pretrained / SLOPE * rng.standard_normal((*shape[:2], 1, 1, 1))
    own[-1] += better / SLOPE
    share = np.minimum(rng.beta(1, 1 / LOST - 1, (*shape, *right.shape)) * np.exp(own), 1.0)
    lost = np.rint(right * share).astype(np.int64)
    matrix, index = np.broadcast_to(base, (*shape, *base.shape)).copy(), np.arange(base.shape[1])
    matrix[..., index, index] -= lost
    matrix[..., index, (index + 1) % len(index)] += lost
    return matrix


def values_of(matrix: np.ndarray) -> np.ndarray:
    """The values [settings, P, S, N] of runs, whose means over the images are their mean IoUs."""
    flat = matrix.reshape(-1, *matrix.shape[3:])
    return np.stack([mean_iou_values(one) for one in flat]).reshape(matrix.shape[:4])


def drawn(
    rng: np.random.Generator, sets: int, images: int, frames: int = 1
) -> Iterator[tuple[np.ndarray | None, np.ndarray | None]]:
    """For each set what its runs have in common, None if a class is too rare for intervals; and the film of each image,
    None for independent images."""
    ids = np.arange(images) // frames if frames > 1 else None
    for _ in range(sets):
        base = confusions(rng, images, frames)
        yield None if rare_classes(base, ids).any() else base, ids


def page(rng: np.random.Generator, sets: int, images: int, seeds: int, spread: float) -> list[float]:
    """Whether the page of a grid of equal settings has any sentence with "beats"; NaN if it has no intervals."""
    found = []
    for base, _ in drawn(rng, sets, images):
        if base is None:
            found.append(float("nan"))
            continue
        values = values_of(runs(rng, base, (5, 1, seeds), spread))
        compared = compare_settings(settings_of(values), "validation mean IoU", None, False)
        found.append(float(any(" beats " in one.sentence for one in compared)))
    return found


@cache
def expected(spread: float, frames: int, better: float = 0.0) -> float:
    """The mean IoU of many images, its mean over seeds, in which it is not linear."""
    rng = np.random.default_rng(0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    base = confusions(rng, MANY, frames)
    shifted = [runs(rng, base, (1, 1, 1), 0.0, better=better + spread * node)[0, 0, 0] for node in nodes]
    return float(np.average([mean_iou(summed(one)) for one in shifted], weights=weights))


@cache
def gain(spread: float, better: float) -> float:
    """The difference of the mean IoUs of two settings on many images, their means over seeds."""
    return expected(spread, 1, better) - expected(spread, 1) if better else 0.0


def difference(
    rng: np.random.Generator,
    sets: int,
    images: int,
    shape: tuple[int, int],
    spread: float,
    frames: int = 1,
    pretrained: float = 0.0,
    better: float = 0.0,
) -> list[float]:
    """Coverage of the interval of the difference of two settings, over images or films, seeds and pre-trainings."""
    true, found = gain(spread, better), []
    for base, ids in drawn(rng, sets, images, frames):
        if base is None:
            found.append(float("nan"))
            continue
        both = values_of(runs(rng, base, (2, *shape), spread, pretrained, better))
        found.append(contains(nested_difference(*both, ids, shares=False).interval(), true))
    return found


def score(rng: np.random.Generator, sets: int, images: int, seeds: int, spread: float, frames: int = 1) -> list[float]:
    """Coverage of the interval of the mean IoU of a setting."""
    true, found = expected(spread, frames), []
    for base, ids in drawn(rng, sets, images, frames):
        if base is None:
            found.append(float("nan"))
            continue
        values = values_of(runs(rng, base, (1, 1, seeds), spread))[0]
        found.append(contains(nested_mean(values, ids, shares=False)[1], true))
    return found


def of_pages(seeds: int, spread: float, sizes: tuple[int, ...], quick: int = 0) -> Row:
    text = f"five equal settings, {seeds} seed{'s' * (seeds > 1)}, {spread} points between seeds"
    target = ALARMS if seeds > 1 else None
    return Row(text, "false alarms", partial(page, seeds=seeds, spread=spread), target, sizes, 1000, quick)


def of_differences(simulated: str, sizes: tuple[int, ...], **rest: Any) -> Row:
    return Row(simulated, "coverage", partial(difference, **rest), AT_LEAST, sizes, 1000)


def of_scores(simulated: str, sizes: tuple[int, ...], **rest: Any) -> Row:
    return Row(simulated, "coverage", partial(score, **rest), AT_LEAST, sizes, 1000)


CLAIMS = (
    Claim(
        AREA,
        "C beats A by 4.1 points of mean IoU [1.9, 6.2] (any of the six sentences of a grid of segmenters)",
        SAID,
        (
            of_pages(3, 0.7, (100, 300, 1000), 40),
            of_pages(3, 1.5, (100, 300)),
            of_pages(2, 1.0, (100, 300)),
            of_pages(1, 1.0, (100,)),
        ),
        "Six classes, the rarest with 1.5 % of the pixels; sets in which one is in fewer than 10 images have no "
        "intervals. A false alarm is a page with a wrong sentence. With one seed a sentence is on these two runs only.",
    ),
    Claim(
        AREA,
        "4.1 points of mean IoU [1.9, 6.2], with an interval of at least 95%: two settings of a grid of segmenters",
        SAID,
        (
            of_differences("3 seeds that do not differ", (100, 300), shape=(1, 3), spread=0.0),
            of_differences("3 seeds, 1 point between seeds", (100, 300), shape=(1, 3), spread=1.0),
            of_differences("3 seeds, 2 points between seeds", (100, 300), shape=(1, 3), spread=2.0),
            of_differences("the same, the second is 4 points better", (100, 300), shape=(1, 3), spread=2.0, better=4.0),
            of_differences("films of 10 frames, 3 seeds, 1 point", (500, 1000), shape=(1, 3), spread=1.0, frames=10),
            of_differences(
                "2 pre-trainings with 3 seeds, 0.5 points between seeds, 2 between pre-trainings", (100,),
                shape=(2, 3), spread=0.5, pretrained=2.0,
            ),
        ),
    ),
    Claim(
        AREA,
        "Mean IoU of a setting of a grid of segmenters, with an interval of at least 95% over images and seeds",
        SAID,
        (
            of_scores("3 seeds, 1 point between seeds", (100, 300), seeds=3, spread=1.0),
            of_scores("films of 10 frames, 3 seeds, 1 point", (500, 1000), seeds=3, spread=1.0, frames=10),
        ),
    ),
)  # fmt: skip
