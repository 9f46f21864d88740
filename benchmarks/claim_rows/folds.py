"""The claims of `sightline repeat --folds`: the interval of the mean metric over the folds, and that of the difference
between two recipes on the same folds."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sightline.stats.folds import fold_interval, fold_interval_of_shares
from sightline.stats.intervals import mean_interval
from sightline.tasks.multilabel.metrics import average_precision

from .intervals import AT_LEAST, label_sets
from .row import Claim, Row, contains

Build = Callable[[], Any]


def linear() -> Any:
    """Logistic regression with little regularization, which overfits many features."""
    return LogisticRegression(C=10.0, max_iter=50)


def right_by_fold(rng: np.random.Generator, images: int, folds: int, build: Build, features: int) -> list[np.ndarray]:
    """Whether each image is classified correctly by the model of the other folds. Five normal classes."""
    centers = np.random.default_rng(0).normal(0, 1.8 / np.sqrt(features), (5, features))
    labels, fold = rng.integers(0, 5, images), rng.permutation(images) % folds
    inputs = rng.normal(size=(images, features)) + centers[labels]
    models = [build().fit(inputs[fold != each], labels[fold != each]) for each in range(folds)]
    pairs = ((model, fold == each) for each, model in enumerate(models))
    return [(model.predict(inputs[own]) == labels[own]).astype(float) for model, own in pairs]


def covered(
    rng: np.random.Generator, sets: int, images: int, build: Build, features: int, folds: int = 5, naive: bool = False
) -> list[float]:
    """Whether the interval contains the expected accuracy of a model that is trained on all but one fold: the mean over
    all sets of the accuracies. naive: the interval over the images alone."""
    found = [right_by_fold(rng, images, folds, build, features) for _ in range(sets)]
    scores = np.array([[fold.mean() for fold in each] for each in found])
    truth = float(scores.mean())
    intervals = [mean_interval(np.concatenate(each)) for each in found] if naive else map(fold_interval, scores)
    return [contains(interval, truth) for interval in intervals]


def precision_covered(rng: np.random.Generator, sets: int, images: int, folds: int = 5) -> list[float]:
    """Whether the interval contains the expected mean average precision of a good model of five classes."""
    each = images // folds

    def precision() -> float:
        return float(np.nanmean(average_precision(*label_sets(rng, each, 4.0, shares=(0.2,) * 5))))

    scores = np.array([[precision() for _ in range(folds)] for _ in range(sets)])
    return [contains(fold_interval_of_shares(row, each), float(scores.mean())) for row in scores if np.ptp(row)]


def of_difference(
    rng: np.random.Generator,
    sets: int,
    images: int,
    builds: tuple[Build, Build],
    features: int,
    folds: int = 5,
    naive: bool = False,
) -> list[float]:
    """Whether the interval of the difference between two recipes contains the expected difference. naive: the interval
    over the images alone."""
    found = []
    for seed in rng.integers(0, 2**31, sets):
        found.append([right_by_fold(np.random.default_rng(seed), images, folds, one, features) for one in builds])
    scores = np.array([[[fold.mean() for fold in each] for each in pair] for pair in found])
    apart = scores[:, 1] - scores[:, 0]
    truth = float(apart.mean())
    pairs = [np.concatenate(second) - np.concatenate(first) for first, second in found]
    intervals = map(mean_interval, pairs) if naive else map(fold_interval, apart)
    return [contains(interval, truth) for interval in intervals]


def difference_row(simulated: str, target: tuple[float, float] | None, quick: int = 0, **rest: Any) -> Row:
    return Row(simulated, "coverage", partial(of_difference, **rest), target, (60, 200, 600), 500, quick)


def halves(first: bool) -> Build:
    """Logistic regression that sees one half of the features; both halves are equally good."""
    chosen = slice(None, None, 2) if first else slice(1, None, 2)
    return lambda: make_pipeline(FunctionTransformer(lambda inputs: inputs[:, chosen]), linear())


def row(simulated: str, target: tuple[float, float] | None, quick: int = 0, **rest: Any) -> Row:
    return Row(simulated, "coverage", partial(covered, **rest), target, (60, 200, 600), 500, quick)


NEIGHBOR = partial(KNeighborsClassifier, 1)
CLAIMS = (
    Claim(
        "Folds",
        "Accuracy 92.5 [88.7, 96.3]%: mean of 5 folds",
        "`sightline repeat --folds`: the last lines and the page",
        (
            row("nearest neighbor, 10 features", AT_LEAST, 60, build=NEIGHBOR, features=10),
            row("linear discriminant analysis, 20 features", AT_LEAST, build=LinearDiscriminantAnalysis, features=20),
            row("logistic regression, 100 features", AT_LEAST, build=linear, features=100),
            row("the same, 10 folds", AT_LEAST, build=linear, features=100, folds=10),
            row("the same, the interval over images alone, which is not said", None, build=linear, features=100,
                folds=10, naive=True),
            row("nearest neighbor, the interval over images alone, which is not said", None, build=NEIGHBOR,
                features=10, naive=True),
        ),
        "The true value is the expected accuracy of training on all but one of the folds.",
    ),
    Claim(
        "Folds",
        "mean average precision 98.1 [92.0, 99.5]%: mean of 5 folds",
        "`sightline repeat --folds` of label sets",
        (Row("5 classes of 20 % of the images, 99%", "coverage", precision_covered, AT_LEAST, (100, 300), 500, 60),),
        "Without an interval if all folds have the same value.",
    ),
    Claim(
        "Folds",
        "B beats A by 4.1 points of accuracy [1.9, 6.3]",
        "`sightline report` of two repetitions with the same folds",
        (
            difference_row("nearest neighbor and linear discriminant analysis, 10 features", AT_LEAST, 40,
                           builds=(NEIGHBOR, LinearDiscriminantAnalysis), features=10),
            difference_row("logistic regression and nearest neighbor, 100 features", AT_LEAST,
                           builds=(linear, NEIGHBOR), features=100),
            difference_row("two recipes that are equally good, 100 features: never “beats”", AT_LEAST,
                           builds=(halves(True), halves(False)), features=100),
            difference_row("the same, 10 folds", AT_LEAST, builds=(halves(True), halves(False)), features=100,
                           folds=10),
            difference_row("the same, the interval over images alone, which is not said", None,
                           builds=(halves(True), halves(False)), features=100, naive=True),
        ),
        "The true value is the expected difference after training on all but one of the folds.",
    ),
)  # fmt: skip
