"""Claims of the form "95% interval LOW to HIGH" of one run: accuracy, loss, recall, mean average precision, IoU."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from sightline.report.findings import summarize
from sightline.stats.intervals import mean_interval, wilson_interval
from sightline.stats.metrics import knn_votes
from sightline.stats.segmentation import class_intervals, class_iou, interval, mean_iou, pixel_accuracy
from sightline.tasks.classify.task import classification_intervals
from sightline.tasks.multilabel.metrics import average_precision, decision_intervals, decisions, precision_intervals
from sightline.tasks.pretrain.task import pretraining_intervals

from .calibration import constant
from .masks import confusions
from .row import Claim, Row, contains

TARGET = (0.93, 0.97)
AT_LEAST = (0.93, 1.0)
"""Of sentences that say "at least 95%"."""
AREA = "Intervals of one run"
GROUPED: tuple[tuple[str, dict[str, Any], tuple[int, ...]], ...] = (
    ("groups of 5 images", {"size": 5, "spread": 1}, (100, 500)),
    ("groups of 20 images", {"size": 20, "spread": 0.5}, (400, 1000)),
    (
        "groups of 20 images, most of them all right or all wrong, accuracy 95%",
        {"size": 20, "spread": 5, "share": 0.95},
        (400, 600),
    ),
)
"""Simulated groups: their description, arguments of `grouped`, numbers of images."""


def accuracy(rng: np.random.Generator, sets: int, count: int, share: float) -> list[float]:
    """Coverage of the accuracy on a classifier's page."""
    return [contains(summarize(constant(rng, count, share), None).interval, share) for _ in range(sets)]


def grouped(
    rng: np.random.Generator, sets: int, count: int, size: int, spread: float, share: float = 0.8
) -> list[float]:
    """Coverage of the accuracy `share` of images in groups of `size`, whose accuracies differ: Beta(5 share, 5 (1 -
    share)), with both parameters divided by `spread`."""
    found = []
    for _ in range(sets):
        groups = np.repeat(np.arange(-(-count // size)), size)[:count]
        chances = rng.beta(5 * share / spread, 5 * (1 - share) / spread, groups.max() + 1)[groups]
        found.append(contains(mean_interval(rng.random(count) < chances, groups), share))
    return found


def loss(rng: np.random.Generator, sets: int, count: int) -> list[float]:
    """Coverage of the mean loss, log-normal with standard deviation 1.3 (skewed, as losses are)."""
    arrays = {"probabilities": np.full((count, 2), 0.5, np.float32), "labels": np.zeros(count, np.int64)}
    true = float(np.exp(1.3**2 / 2))
    draws = (arrays | {"losses": np.exp(1.3 * rng.standard_normal(count))} for _ in range(sets))
    return [contains(classification_intervals(one, None)["loss_interval"], true) for one in draws]


def recall(rng: np.random.Generator, sets: int, count: int, low: float, high: float) -> list[float]:
    """Coverage of the recalls of classes of `count` images, which are between `low` and `high`."""
    shares = rng.uniform(low, high, sets)
    counts = rng.binomial(count, shares)
    return [contains(wilson_interval(int(right), count), share) for right, share in zip(counts, shares, strict=True)]


def neighbors(rng: np.random.Generator, sets: int, count: int) -> list[float]:
    """Coverage of the k-NN accuracy on new images, with the same labeled images in which neighbors are searched."""
    found = []
    for _ in range(sets):
        centers = rng.standard_normal((10, 16))
        labels, queried = rng.integers(0, 10, 500), rng.integers(0, 10, count + 4000)
        bank, queries = (torch.from_numpy(centers[of] + rng.standard_normal((len(of), 16))) for of in (labels, queried))
        votes = knn_votes(bank, torch.from_numpy(labels), queries, 10).argmax(1).numpy()
        true = float((votes == queried)[count:].mean())
        arrays = {"predictions": votes[:count], "labels": queried[:count]}
        found.append(contains(pretraining_intervals(arrays, None)["knn_accuracy_interval"], true))
    return found


SHARES = tuple(np.geomspace(0.03, 0.3, 10).tolist())
"""Shares of the images that have each of 10 classes."""


def label_sets(
    rng: np.random.Generator, count: int, shift: float = 2.0, group: int = 1, shares: Sequence[float] = SHARES
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truth [N, K] of label sets; the scores of an image are correlated. group: number of consecutive images
    with the same truth and correlated scores. shares: of the images that have each class."""
    units, classes = -(-count // group), len(shares)
    truth = np.repeat(rng.random((units, classes)) < shares, group, axis=0)[:count]
    common = np.repeat(rng.standard_normal((units, 1 if group == 1 else classes)), group, axis=0)[:count]
    return np.sqrt(0.5) * (common + rng.standard_normal((count, classes))) + shift * truth, truth


def mean_precision(rng: np.random.Generator, sets: int, count: int, shift: float) -> list[float]:
    """Coverage of the mean average precision of label sets."""
    true = float(np.mean([average_precision(*label_sets(rng, 50_000, shift)).mean() for _ in range(3)]))
    return [contains(precision_intervals(*label_sets(rng, count, shift)).interval, true) for _ in range(sets)]


def at_threshold(
    rng: np.random.Generator, sets: int, count: int, name: str, group: int = 1, **rest: Any
) -> list[float]:
    """Coverage of a metric of thresholded label sets, such as micro F1. group: images of a group."""
    scores, truth = label_sets(rng, 200_000, group=group, **rest)
    true, found = float(getattr(decisions(scores > 1.5, truth), name)[0]), []
    groups = None if group == 1 else np.arange(count) // group
    for _ in range(sets):
        scores, truth = label_sets(rng, count, group=group, **rest)
        found.append(contains(decision_intervals(scores > 1.5, truth, groups)[name], true))
    return found


def iou(
    rng: np.random.Generator, sets: int, count: int, statistic: Callable[..., Any] = mean_iou, group: int = 1
) -> list[float]:
    """Coverage of a metric of masks."""
    true = float(np.mean([statistic(confusions(rng, 50_000, group).sum(0)) for _ in range(4)]))
    groups = None if group == 1 else np.arange(count) // group
    return [contains(interval(confusions(rng, count, group), statistic, groups), true) for _ in range(sets)]


def one_class_iou(rng: np.random.Generator, sets: int, count: int) -> list[float]:
    """Share of the six classes whose interval of the IoU contains the true value."""
    true = np.mean([class_iou(confusions(rng, 50_000).sum(0)) for _ in range(4)], axis=0)
    found = []
    for _ in range(sets):
        edges = np.stack(class_intervals(confusions(rng, count)), 1)
        found.append(float(np.nanmean([contains(*pair) for pair in zip(edges, true, strict=True)])))
    return found


def not_given(rng: np.random.Generator, sets: int, count: int, group: int) -> list[bool]:
    """Whether no interval is given for the mean IoU of films of `group` frames."""
    groups = np.arange(count) // group
    return [bool(np.isnan(interval(confusions(rng, count, group), mean_iou, groups)[0])) for _ in range(sets)]


CLAIMS = (
    Claim(
        AREA,
        "classifies 84.0% of 500 validation images correctly (95% interval 80.5 to 87.0%)",
        "`train`, `evaluate`, the report and the comparison of classifiers",
        (
            *(
                Row(
                    f"independent images, accuracy {share:.0%}",
                    "coverage",
                    partial(accuracy, share=share),
                    TARGET,
                    (50, 100, 300, 1000),
                    2000,
                    300 * (share == 0.8),
                    300,
                )
                for share in (0.5, 0.8, 0.95)
            ),
            *(
                Row(f"{few}{simulated}", "coverage", partial(grouped, **settings), target, sizes, 1000)
                for simulated, settings, counts in GROUPED
                for few, target, sizes in (
                    ("", TARGET, counts),
                    ("10 to 19 ", AT_LEAST, (10 * settings["size"], 15 * settings["size"], 19 * settings["size"])),
                )
            ),
            Row(
                "all images in 5 groups: no interval may be given",
                "no interval",
                lambda rng, sets, count: np.isnan(grouped(rng, sets, count, count // 5, 1)).tolist(),
                (1, 1),
                (100,),
                20,
                5,
            ),
        ),
        "With groups, the interval is the wider one of two: Wilson's for the effective number of images, and the "
        "jackknife's. The first alone would not be too wide for 10 groups of 5, but is too narrow for groups most of "
        'which are all right or all wrong (LOG.md). So with fewer than 20 groups the sentence is "the interval is one '
        'of at least 95%".',
    ),
    Claim(
        AREA,
        "Validation loss 0.52 [0.47, 0.58], and other means over images",
        "`train`, `evaluate`, the report of tasks that predict numbers",
        (Row("log-normal losses", "coverage", loss, TARGET, (100, 300, 1000), 1000),),
    ),
    Claim(
        AREA,
        "Recall (precision) of a class, 95% interval 81.2 to 90.4",
        "the class table of a classifier's report",
        (
            *(
                Row(
                    f"classes with recalls of {low:.0%} to {high:.0%}",
                    "coverage",
                    partial(recall, low=low, high=high),
                    TARGET,
                    (10, 30, 100),
                    4000,
                    400,
                )
                for low, high in ((0.3, 0.7), (0.5, 0.95))
            ),
            Row("recall 60%", "coverage", partial(recall, low=0.6, high=0.6), None, (10, 30, 100), 4000),
        ),
        "The coverage for one recall and few images oscillates around 95 % with the recall and the number of images "
        "(Brown, Cai and DasGupta 2001), as the last row shows; the sentence is about the classes of a table.",
    ),
    Claim(
        AREA,
        "k-NN accuracy 0.412 [0.393, 0.431]",
        "`train`, `evaluate` and the report of pre-training",
        (Row("10 Gaussian classes, 500 labeled images", "coverage", neighbors, TARGET, (100, 500), 300),),
    ),
    Claim(
        AREA,
        "mean average precision of 61.3% (95% interval 57.7 to 64.9%)",
        "`train`, `evaluate`, the report and the comparison of multi-label runs",
        (
            Row(
                "10 classes of 3 to 30 % of the images, weak model",
                "coverage",
                partial(mean_precision, shift=0.5),
                TARGET,
                (400, 1000),
                300,
            ),
            Row("the same, good model", "coverage", partial(mean_precision, shift=2.0), TARGET, (400, 1000), 300),
        ),
    ),
    Claim(
        AREA,
        "Micro F1, macro F1, exactly right, with 95 % intervals",
        "metrics.jsonl and `evaluate` of multi-label runs",
        (
            *(
                Row(
                    f"10 classes of 3 to 30 % of the images, {name}{grouped}",
                    "coverage",
                    partial(at_threshold, name=name, group=group),
                    TARGET,
                    sizes,
                    400,
                )
                for grouped, group, sizes in (("", 1, (100, 400)), (", groups of 10", 10, (150, 300, 1000)))
                for name in ("micro_f1", "macro_f1", "exact")
            ),
            *(
                Row(
                    f"3 classes of 2 % of the images, a good model, {name}",
                    "coverage",
                    partial(at_threshold, name=name, shift=3.6, shares=(0.02,) * 3),
                    AT_LEAST,
                    (300, 1000),
                    400,
                    100,
                )
                for name in ("micro_recall", "micro_f1")
            ),
        ),
    ),
    Claim(
        AREA,
        "Mean IoU 71.2%, 95% interval 68.0 to 74.1%",
        "`train`, `evaluate`, `score`, the report and the comparison of segmentation models",
        (
            Row("independent images, 6 classes", "coverage", iou, TARGET, (20, 50, 100, 257), 1000, 60, 100),
            Row("films of 4 frames", "coverage", partial(iou, group=4), TARGET, (100, 400), 1000),
            Row("films of 20 frames", "coverage", partial(iou, group=20), TARGET, (200, 400, 1000), 1000),
            Row(
                "5 films of 20 frames: no interval may be given",
                "no interval",
                partial(not_given, group=20),
                (1, 1),
                (100,),
                20,
                5,
            ),
            Row(
                "independent images, pixel accuracy",
                "coverage",
                partial(iou, statistic=pixel_accuracy),
                TARGET,
                (20, 100),
                400,
            ),
            Row("independent images, IoU of one class", "coverage", one_class_iou, TARGET, (20, 100), 400),
        ),
    ),
)
