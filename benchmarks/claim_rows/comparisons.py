"""Claims of the form "B beats A by 4.1 points": in a grid, a comparison, a sweep, a clean-up and tables of classes."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from sightline.report.compare.kinds import ImageResults, PairedNumbers, RunPair, TaskComparison
from sightline.report.compare.numbers import with_verdict
from sightline.segment_anything.clean_up import effect
from sightline.stats.intervals import LEVEL
from sightline.stats.nested import nested_difference, nested_mean
from sightline.stats.paired import bonferroni
from sightline.stats.segmentation import as_counts
from sightline.tasks.classify.compare import comparison as of_classifiers
from sightline.tasks.multilabel.compare import comparison as of_label_sets
from sightline.tasks.segment.compare import comparison as of_segmenters
from sightline.transfer.outcomes import SettingResult
from sightline.transfer.results import compare_settings

from .intervals import AT_LEAST, label_sets
from .masks import confusions, with_errors
from .row import Claim, Row, contains

AREA = "Comparisons"
SLOPE = 0.11
"""Change of the accuracy of `correct` per logit."""


def correct(
    rng: np.random.Generator, images: int, settings: int, shape: tuple[int, int], spread: float, pretrained: float = 0.0
) -> np.ndarray:
    """Whether runs of equal settings are right, bool [settings, P, S, N], for shape (P, S): P pre-trainings, S seeds.

    Images differ in difficulty, which all runs share; the mean accuracy is 0.55. spread, pretrained: standard deviation
    of the accuracy between seeds and between pre-trainings, in points.
    """
    difficulty = 0.35 + 2.2 * rng.standard_normal(images)
    seeds = spread / 100 / SLOPE * rng.standard_normal((settings, *shape, 1))
    start = pretrained / 100 / SLOPE * rng.standard_normal((settings, shape[0], 1, 1))
    return rng.random((settings, *shape, images)) < special.expit(difficulty + seeds + start)


def settings_of(runs: np.ndarray) -> list[SettingResult]:
    """The results of the five settings of a grid, from the correct predictions [5, 1, S, N]."""
    pretrainings, seeds = (tuple(range(count)) for count in runs.shape[1:3])
    rest = (0.5, (0.0, 1.0), 1.0, 1.0, "")
    return [SettingResult(name, pretrainings, seeds, row, *rest) for name, row in zip("ABCDE", runs, strict=True)]


def grid_page(rng: np.random.Generator, sets: int, images: int, seeds: int, spread: float) -> list[bool]:
    """Whether the page of a grid of equal settings has any sentence with "beats"."""
    runs = (correct(rng, images, 5, (1, seeds), spread) for _ in range(sets))
    found = (compare_settings(settings_of(each), "validation") for each in runs)
    return [any(" beats " in one.sentence for one in comparisons) for comparisons in found]


def grid_interval(
    rng: np.random.Generator, sets: int, images: int, shape: tuple[int, int], spread: float, pretrained: float = 0.0
) -> list[float]:
    """Coverage of the interval of the difference of two equal settings, over images, seeds and pre-trainings."""
    runs = (correct(rng, images, 2, shape, spread, pretrained) for _ in range(sets))
    return [contains(nested_difference(*each).interval(), 0.0) for each in runs]


def grid_accuracy(rng: np.random.Generator, sets: int, images: int, seeds: int, spread: float) -> list[float]:
    """Coverage of the interval of the accuracy of a setting."""
    true = float(np.mean([correct(rng, 100_000, 1, (1, 50), spread).mean() for _ in range(5)]))
    runs = (correct(rng, images, 1, (1, seeds), spread)[0] for _ in range(sets))
    return [contains(nested_mean(each)[1], true) for each in runs]


def agreeing_seeds(rng: np.random.Generator, sets: int, images: int, seeds: int, accuracy: float) -> list[float]:
    """Coverage of the interval of the accuracy of seeds that have nearly all of their mistakes in common."""
    hard, found = (0.999 - accuracy) / 0.899, []
    for _ in range(sets):
        chances = np.where(rng.random(images) < hard, 0.1, 0.999)
        found.append(contains(nested_mean((rng.random((1, seeds, images)) < chances).astype(float))[1], accuracy))
    return found


def agreeing_on_films(rng: np.random.Generator, sets: int, images: int, seeds: int, accuracy: float) -> list[float]:
    """Coverage of the same for frames of films of 20 images, most of which are all right or all wrong for every
    seed."""
    groups, found = np.arange(images) // 20, []
    for _ in range(sets):
        chances = rng.beta(accuracy, 1 - accuracy, int(groups.max()) + 1)[groups]
        found.append(
            contains(nested_mean((rng.random((1, seeds, images)) < chances).astype(float), groups)[1], accuracy)
        )
    return found


def page_of_intervals(rng: np.random.Generator, sets: int, images: int, runs: int) -> list[bool]:
    """Whether all intervals of a page contain the true differences of runs that are 1 to 20 points better than the
    reference."""
    gains, found = np.linspace(0.01, 0.2, runs), []
    for _ in range(sets):
        hard = rng.random(images) < 0.5
        better = np.r_[0, gains][:, None] * np.where(hard, 1.6, 0.4)
        right = rng.random((runs + 1, images)) < np.where(hard, 0.3, 0.88) + better
        truth = np.zeros(images, int)
        pairs = verdicts(of_classifiers(), [image_results(truth, np.where(row, 0, 1), 2) for row in right])
        found.append(all(contains(pair.interval, gain) for pair, gain in zip(pairs, gains, strict=True)))
    return found


def verdicts(kind: TaskComparison, results: Sequence[ImageResults]) -> list[RunPair]:
    """The pairs of a comparison page: the first run against each other run."""
    assert kind.paired
    found: list[PairedNumbers] = [kind.paired(results[0], other) for other in results[1:]]
    pairs = [
        RunPair("a", f"b{index}", (results[0], other), one, float("nan"), LEVEL, "", ())
        for index, (other, one) in enumerate(zip(results[1:], found, strict=True))
    ]
    chances, level = bonferroni([pair.p for pair in pairs])
    return [with_verdict(pair, p, level, kind, len(pairs)) for pair, p in zip(pairs, chances, strict=True)]


def image_results(truth: np.ndarray, predicted: np.ndarray, classes: int, scores: Any = None) -> ImageResults:
    """The results of a run on N images."""
    count, names = len(truth), tuple(f"class {index}" for index in range(classes))
    return ImageResults(("image",) * count, names, truth, predicted, np.zeros(count), np.arange(count), scores)


def classifiers(rng: np.random.Generator, count: int, runs: int, better: float = 0.0) -> list[ImageResults]:
    """Runs of classifiers of 10 classes. better: increase of the accuracy of all but the first, in points."""
    truth, shift = rng.integers(0, 10, count), np.r_[0.0, np.full(runs - 1, better / 100 / SLOPE)]
    chances = special.expit(0.35 + 2.2 * rng.standard_normal(count) + shift[:, None])
    wrong = (truth + rng.integers(1, 10, (runs, count))) % 10
    predicted = np.where(rng.random((runs, count)) < chances, truth, wrong)
    return [image_results(truth, row, 10) for row in predicted]


def segmenters(rng: np.random.Generator, count: int, runs: int, group: int = 1) -> list[ImageResults]:
    """Runs of equally good segmentation models on the same images: two runs exchange parts of their results."""
    base = confusions(rng, count, group)
    models = [with_errors(rng, base) for _ in range(runs)]
    return [image_results(base.sum(2), matrix, base.shape[1]) for matrix in models]


def several_labels(rng: np.random.Generator, count: int, runs: int) -> list[ImageResults]:
    """Equally good multi-label runs, whose scores have half of their noise in common."""
    scores, truth = label_sets(rng, count)
    each = [scores + np.sqrt(0.5) * rng.standard_normal(scores.shape) for _ in range(runs)]
    return [image_results(truth, one > 1.5, 10, one) for one in each]


def beaten(rng: np.random.Generator, sets: int, count: int, draw: Any, kind: TaskComparison, runs: int) -> list[bool]:
    """Whether a comparison page of equal runs has any sentence with "beats"."""
    return [any(" beats " in pair.sentence for pair in verdicts(kind, draw(rng, count, runs))) for _ in range(sets)]


def best_two(rng: np.random.Generator, sets: int, count: int, trials: int) -> list[bool]:
    """Whether the best of a sweep's equal trials "beats" the second best, of which both were chosen on these images."""
    found = []
    for _ in range(sets):
        ranked = sorted(classifiers(rng, count, trials), key=lambda one: -one.correct.mean())[:4]
        found.append(" beats " in verdicts(of_classifiers(), ranked)[0].sentence)
    return found


def bold(rng: np.random.Generator, sets: int, count: int, draw: Any, kind: TaskComparison) -> list[float]:
    """Whether any class's difference is bold in the table, for two equal runs; NaN if no class has an interval."""
    assert kind.paired
    found = []
    for _ in range(sets):
        apart = next(iter(kind.paired(*draw(rng, count, 2)).classes.values()))
        known = np.isfinite(apart.low)
        found.append(float(((apart.low > 0) | (apart.high < 0)).any()) if known.any() else float("nan"))
    return found


def cleaned(rng: np.random.Generator, sets: int, count: int) -> list[bool]:
    """Whether a clean-up without effect on average is said to be better or worse."""
    runs = (segmenters(rng, count, 2) for _ in range(sets))
    return [" beats " in effect(*(as_counts(one.predicted) for one in pair))["sentence"] for pair in runs]


ALARMS = (0.0, 0.05)
CLAIMS = (
    Claim(
        AREA,
        "C beats A by 4.1 points of accuracy [1.9, 6.2] (any of the six sentences of a grid)",
        "the page, table and JSON of a transfer grid",
        tuple(
            Row(
                f"five equal settings, {seeds} seed{'s' * (seeds > 1)}, {spread} points between seeds",
                "false alarms",
                partial(grid_page, seeds=seeds, spread=spread),
                ALARMS if seeds > 1 else None,
                sizes,
                400,
            )
            for seeds, sizes, spread in ((3, (300, 2500), 0.7), (3, (2500,), 1.5), (2, (2500,), 1.0), (1, (2500,), 1.0))
        ),
        "A false alarm is a page on which at least one of six sentences is wrong. With one seed a sentence is on these "
        "two runs only: the variation between seeds is not known.",
    ),
    Claim(
        AREA,
        "4.1 points [1.9, 6.2], with an interval of at least 95%: the difference of two settings of a grid",
        "the page, table and JSON of a transfer grid",
        (
            *(
                Row(
                    f"{seeds} seeds, {spread} points between seeds",
                    "coverage",
                    partial(grid_interval, shape=(1, seeds), spread=spread),
                    AT_LEAST,
                    sizes,
                    1000,
                    150 * (spread == 1),
                )
                for seeds, sizes, spread in (
                    (3, (300,), 0),
                    (3, (300, 2500), 1),
                    (3, (300, 2500), 2),
                    (3, (300,), 3),
                    (3, (2500,), 0.3),
                    (3, (2500,), 0.7),
                    (2, (2500,), 1),
                    (5, (2500,), 1),
                )
            ),
            *(
                Row(
                    f"{many} pre-training{'s' * (many > 1)} of each kind with 3 seeds, 0.5 points between seeds, "
                    f"{spread} between pre-trainings",
                    "coverage",
                    partial(grid_interval, shape=(many, 3), spread=0.5, pretrained=spread),
                    AT_LEAST if many > 1 else None,
                    (2500,),
                    1000,
                )
                for many, spread in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2))
            ),
        ),
        "With one pre-training of each kind the interval is that of this pre-training, as the sentence says; the rows "
        "show its coverage for others.",
    ),
    Claim(
        AREA,
        "Accuracy of a setting, with an interval of at least 95% over images and seeds",
        "the page, table and JSON of a transfer grid",
        (
            *(
                Row(
                    f"3 seeds, {spread} points between seeds",
                    "coverage",
                    partial(grid_accuracy, seeds=3, spread=spread),
                    AT_LEAST,
                    (300, 2500),
                    500,
                )
                for spread in (0.7, 2)
            ),
            *(
                Row(
                    f"{seeds} seeds that have nearly all mistakes in common, accuracy 95%",
                    "coverage",
                    partial(agreeing_seeds, seeds=seeds, accuracy=0.95),
                    AT_LEAST,
                    (30, 100, 300),
                    1000,
                    100,
                )
                for seeds in (2, 5)
            ),
            Row(
                "3 seeds, films of 20 frames, most of them all right or all wrong for every seed, accuracy 95%",
                "coverage",
                partial(agreeing_on_films, seeds=3, accuracy=0.95),
                AT_LEAST,
                (240, 600, 2000),
                1000,
            ),
        ),
    ),
    Claim(
        AREA,
        "All intervals of a page with several comparisons are right",
        "the comparison of runs",
        tuple(
            Row(
                f"{runs} runs that are 1 to 20 points better than the reference",
                "coverage",
                partial(page_of_intervals, runs=runs),
                AT_LEAST,
                (300, 1000),
                500,
            )
            for runs in (3, 10)
        ),
    ),
    Claim(
        AREA,
        "b beats a by 2.4 points of accuracy [0.9, 3.9] on the same 2,500 images",
        "the comparison of runs",
        (
            Row(
                "two equal classifiers",
                "false alarms",
                partial(beaten, draw=classifiers, kind=of_classifiers(), runs=2),
                ALARMS,
                (50, 300, 2500),
                600,
                150,
                300,
            ),
            Row(
                "five equal classifiers",
                "false alarms",
                partial(beaten, draw=classifiers, kind=of_classifiers(), runs=5),
                ALARMS,
                (50, 300, 2500),
                400,
            ),
            Row(
                "two classifiers, one 5 points better",
                "power",
                partial(beaten, draw=partial(classifiers, better=5), kind=of_classifiers(), runs=2),
                (0.7, 1),
                (2500,),
                200,
            ),
            Row(
                "two equal segmentation models",
                "false alarms",
                partial(beaten, draw=segmenters, kind=of_segmenters(), runs=2),
                ALARMS,
                (20, 100),
                1000,
            ),
            Row(
                "five equal segmentation models",
                "false alarms",
                partial(beaten, draw=segmenters, kind=of_segmenters(), runs=5),
                ALARMS,
                (20, 100),
                500,
            ),
            Row(
                "two equal multi-label models",
                "false alarms",
                partial(beaten, draw=several_labels, kind=of_label_sets(), runs=2),
                ALARMS,
                (100, 300),
                100,
            ),
        ),
        "A false alarm is a page with at least one wrong sentence. A sentence is about these weights, not about other "
        "seeds.",
    ),
    Claim(
        AREA,
        "Compared with the second best: trial 7 beats trial 3 by ...",
        "the page and the terminal of a sweep",
        (
            Row(
                "20 equal trials, of which the two best are compared",
                "false alarms",
                partial(best_two, trials=20),
                ALARMS,
                (300, 2500),
                200,
            ),
        ),
        "Both trials were chosen on these images as the best, so the difference of the two is small, and the sentence "
        "is rarely said.",
    ),
    Claim(
        AREA,
        "A difference in bold in the table of classes",
        "the comparison of runs",
        (
            Row(
                "two equal classifiers of 10 classes, F1",
                "false alarms",
                partial(bold, draw=classifiers, kind=of_classifiers()),
                ALARMS,
                (300, 2500),
                300,
            ),
            Row(
                "two equal segmentation models, IoU",
                "false alarms",
                partial(bold, draw=segmenters, kind=of_segmenters()),
                ALARMS,
                (20, 100),
                500,
            ),
            Row(
                "two equal multi-label models, average precision",
                "false alarms",
                partial(bold, draw=several_labels, kind=of_label_sets()),
                ALARMS,
                (100, 300),
                100,
            ),
        ),
        "A false alarm is a table with at least one class in bold; intervals are corrected for the number of classes.",
    ),
    Claim(
        AREA,
        "clean-up: mean IoU 0.6017 -> 0.6213 on 101 images: the clean-up beats the prediction by ...",
        "`masks --run RUN --truth DIR`",
        (Row("a clean-up without effect on average", "false alarms", cleaned, ALARMS, (20, 100), 200),),
    ),
)
