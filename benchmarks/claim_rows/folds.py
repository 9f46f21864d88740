"""The claim of `sightline repeat --folds`: the interval of the mean metric over the folds."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from sightline.stats.folds import fold_interval
from sightline.stats.intervals import mean_interval

from .intervals import AT_LEAST
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
)  # fmt: skip
