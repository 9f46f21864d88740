"""Claims on the confidence of classifiers: "The model is overconfident", and the same of single classes."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import special

from sightline.insight.curves import history
from sightline.report.findings import Findings, summarize
from sightline.report.run import Predictions
from sightline.stats.calibration import chance_error
from sightline.stats.groups import Groups
from sightline.tasks.classify.report import classifier_hints

from .row import Claim, Row, contains

Draw = Callable[[np.random.Generator, int], Predictions]
FRAMES = 20
"""Number of images of a film."""
POPULATION = 200_000
"""Predictions from which a true value is computed."""


def softmax(
    rng: np.random.Generator, count: int, classes: int, scale: float, temperature: float = 1.0, flat: bool = False
) -> Predictions:
    """Predictions of a model whose logits are normal with the standard deviation `scale`.

    The labels are drawn from the probabilities, so that the model is calibrated; then its logits are divided by
    `temperature`: below 1, it is overconfident. flat: whether a prediction is right with the mean confidence, whatever
    its own confidence is.
    """
    logits = scale * rng.standard_normal((count, classes))
    true, own = special.softmax(logits, 1), special.softmax(logits / temperature, 1)
    confidence, predicted = own.max(1), own.argmax(1)
    chances = np.full(count, confidence.mean()) if flat else true.max(1)
    right = rng.random(count) < chances
    truth = np.where(right, predicted, (predicted + rng.integers(1, classes, count)) % classes)
    names = tuple(map(str, range(count)))
    return Predictions(names, predicted, truth, confidence, tuple(f"class {index}" for index in range(classes)))


def constant(rng: np.random.Generator, count: int, confidence: float) -> Predictions:
    """Predictions of two classes that all have the same confidence and are right with this probability."""
    predicted = rng.integers(0, 2, count)
    truth = np.where(rng.random(count) < confidence, predicted, 1 - predicted)
    return Predictions(("",) * count, predicted, truth, np.full(count, confidence), ("a", "b"))


def films(rng: np.random.Generator, count: int, share: float, strength: float) -> tuple[Predictions, Groups]:
    """Predictions whose confidence is `share`, in films of FRAMES images. The images of a film are right with a
    probability that is drawn from Beta(strength * share, strength * (1 - share))."""
    ids = np.arange(count) // FRAMES
    chances = rng.beta(strength * share, strength * (1 - share), int(ids.max()) + 1)[ids]
    predicted = rng.integers(0, 2, count)
    truth = np.where(rng.random(count) < chances, predicted, 1 - predicted)
    return Predictions(("",) * count, predicted, truth, np.full(count, share), ("a", "b")), Groups(ids, "films")


def sentences(predictions: Predictions, groups: Groups | None = None) -> list[str]:
    """The hints on a classifier's page."""
    none = np.zeros(0, np.int64)
    found = Findings(history([]), summarize(predictions, groups), [], [], [], none, (), [], none)
    return [text for text, _ in classifier_hints(found, predictions.classes)]


def said(draw: Draw, rng: np.random.Generator, sets: int, count: int) -> list[bool]:
    """Whether a page calls the model overconfident or underconfident."""
    return [any("confident" in text for text in sentences(draw(rng, count))) for _ in range(sets)]


def said_of_films(rng: np.random.Generator, sets: int, count: int, **settings: float) -> list[bool]:
    """Whether a page calls a model underconfident or overconfident whose images are frames of films."""
    return [any("confident" in text for text in sentences(*films(rng, count, **settings))) for _ in range(sets)]


def class_bold_of_films(rng: np.random.Generator, sets: int, count: int, **settings: float) -> list[bool]:
    """Whether the class table shows the overconfidence of any class in bold, for such images."""
    return [any(one.p < 0.05 for one in summarize(*films(rng, count, **settings)).by_class) for _ in range(sets)]


def covered(draw: Draw, rng: np.random.Generator, sets: int, count: int) -> list[float]:
    """Whether the interval of mean confidence minus accuracy contains the true value."""
    many = draw(rng, POPULATION)
    true = float((many.confidence - (many.predicted == many.truth)).mean())
    return [contains(summarize(draw(rng, count), None).overconfidence[1:3], true) for _ in range(sets)]


def class_bold(draw: Draw, rng: np.random.Generator, sets: int, count: int) -> list[bool]:
    """Whether the class table shows the overconfidence of any class in bold."""
    return [any(one.p < 0.05 for one in summarize(draw(rng, count), None).by_class) for _ in range(sets)]


def against_chance(draw: Draw, rng: np.random.Generator, sets: int, count: int) -> list[float]:
    """The expected calibration error, divided by the mean of those that the page says a calibrated model has."""
    pages = [draw(rng, count) for _ in range(sets)]
    expected = float(np.mean([chance_error(one.confidence) for one in pages]))
    return [summarize(one, None).calibration / expected for one in pages]


EVERY = (50, 100, 200, 300, 500, 1000)
CALIBRATED: dict[str, Draw] = {
    "2 classes, mean confidence 73 %": partial(softmax, classes=2, scale=1),
    "10 classes, mean confidence 66 %": partial(softmax, classes=10, scale=3),
    "10 classes, mean confidence 87 %": partial(softmax, classes=10, scale=8),
    "100 classes, mean confidence 26 %": partial(softmax, classes=100, scale=2),
    "every confidence 90 %": partial(constant, confidence=0.9),
    "every confidence 99 %": partial(constant, confidence=0.99),
    "10 classes, mean confidence 66 %, right independently of it": partial(softmax, classes=10, scale=3, flat=True),
}
FILMS = (
    (0.96, 0.2, "mostly all right or all wrong"),
    (0.96, 5.0, "that differ"),
    (0.8, 0.2, "mostly all right or all wrong"),
)
"""Confidence, parameter of `films`, description."""
CLAIMS = (
    Claim(
        "Calibration",
        "The model is overconfident (underconfident): mean confidence minus accuracy is +9.1 [+3.2, +15.0] points",
        "the report of a classifier",
        (
            *(
                Row(
                    f"calibrated model, {name}",
                    "false alarms",
                    partial(said, draw),
                    (0, 0.05),
                    EVERY,
                    600,
                    150 * (i < 6),
                )
                for i, (name, draw) in enumerate(CALIBRATED.items())
            ),
            *(
                Row(
                    f"calibrated model, films of 20 frames, every confidence {share:.0%}, frames {alike}",
                    "false alarms",
                    partial(said_of_films, share=share, strength=strength),
                    (0, 0.05),
                    (240, 600, 2000),
                    600,
                )
                for share, strength, alike in FILMS
            ),
            Row(
                "10 classes, temperature 0.5 (overconfident)",
                "power",
                partial(said, partial(softmax, classes=10, scale=3, temperature=0.5)),
                (0.7, 1),
                (50, 200),
                400,
                100,
            ),
            Row(
                "10 classes, temperature 2 (underconfident)",
                "power",
                partial(said, partial(softmax, classes=10, scale=3, temperature=2)),
                (0.7, 1),
                (50, 200),
                400,
            ),
            Row(
                "10 classes, temperature 0.7",
                "coverage",
                partial(covered, partial(softmax, classes=10, scale=3, temperature=0.7)),
                (0.95, 1),
                (50, 300),
                600,
            ),
        ),
        "Intervals are wider than necessary where confidences differ, so that they hold without a mistake too.",
    ),
    Claim(
        "Calibration",
        "Overconfidence of a class, in bold",
        "the class table of a classifier's report",
        (
            Row(
                "calibrated model, 10 classes",
                "false alarms",
                partial(class_bold, partial(softmax, classes=10, scale=3)),
                (0, 0.05),
                (50, 300, 1000),
                400,
                80,
            ),
            Row(
                "calibrated model, 50 classes",
                "false alarms",
                partial(class_bold, partial(softmax, classes=50, scale=4)),
                (0, 0.05),
                (300, 2500),
                200,
            ),
            *(
                Row(
                    f"calibrated model, 2 classes, films of 20 frames, every confidence {share:.0%}, frames {alike}",
                    "false alarms",
                    partial(class_bold_of_films, share=share, strength=strength),
                    (0, 0.05),
                    (240, 600, 2000),
                    600,
                )
                for share, strength, alike in FILMS
            ),
            Row(
                "temperature 0.5, 10 classes",
                "power",
                partial(class_bold, partial(softmax, classes=10, scale=3, temperature=0.5)),
                (0.7, 1),
                (300,),
                200,
            ),
        ),
        "A false alarm is a page with at least one class in bold.",
    ),
    Claim(
        "Calibration",
        "A perfectly calibrated model with these confidences has an expected calibration error of 7.3% on average",
        "the report of a classifier",
        (
            Row(
                "calibrated model, 10 classes: mean error / what the page says",
                "ratio",
                partial(against_chance, CALIBRATED["10 classes, mean confidence 66 %"]),
                (0.95, 1.05),
                EVERY,
                400,
                200,
            ),
        ),
    ),
)
