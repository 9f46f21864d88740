"""Claims of `sightline doctor`: near copies, images in several splits, wrong labels."""

import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import sightline
from near_copies import planted
from sightline.doctor.labels import likely_wrong
from sightline.stats.metrics import confusion_matrix

from .photographs import OBJECTS, TRANSFER, features, photographs
from .row import Claim, Kind, Row

AREA = "Doctor"
CHECKED = 1000
"""Number of validation images whose labels are checked."""


def sample_of(rng: np.random.Generator, variable: str, count: int) -> np.ndarray:
    """Images uint8 [N, H, W, 3]: photographs of all classes, drawn at random; with "" images of smooth random colors,
    all different."""
    if not variable:
        coarse = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
        return np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in coarse])
    images, _ = photographs(variable, 50)
    return images[rng.choice(len(images), count, replace=False)]


def copies(rng: np.random.Generator, sets: int, count: int, alteration: str, variable: str = "") -> list[bool]:
    """Whether the altered copy of each of `sets` images among `count` is grouped with it."""
    images = sample_of(rng, variable, count).transpose(0, 3, 1, 2)
    found, _ = planted(images, alteration, int(rng.integers(2**31)), sets)
    return [True] * found + [False] * (sets - found)


def listed(rng: np.random.Generator, sets: int, count: int, variable: str = "") -> list[bool]:
    """Whether each of `count` different images is listed as a near copy of another."""
    images = sample_of(rng, variable, count)
    with tempfile.TemporaryDirectory() as folder:
        for index, image in enumerate(images):
            path = Path(folder) / "data" / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(path)
        result = sightline.doctor(Path(folder) / "data", out=Path(folder) / "out", quiet=True)
    files = {file for one in result.findings if one.kind.startswith("near_") for file in one.files}
    return [f"{index}.png" in files for index in range(count)]


def leaks(rng: np.random.Generator, sets: int, count: int, leaked: bool) -> list[bool]:
    """Whether each validation image is listed as an image in several splits. leaked: all are copies of training
    images, saved in another format; else none is."""
    images = sample_of(rng, "", 2 * count)
    with tempfile.TemporaryDirectory() as folder:
        for index, image in enumerate(images):
            split, number = ("val", index - count) if index >= count else ("train", index)
            name = Path(folder) / "data" / split / "ab"[number % 2] / (f"{number}.{'bmp' if index >= count else 'png'}")
            name.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number] if leaked else image).save(name)
        result = sightline.doctor(Path(folder) / "data", out=Path(folder) / "out", quiet=True)
    files = {Path(file).name for one in result.findings if one.kind == "leak" for file in one.files}
    return [f"{number}.bmp" in files for number in range(count)]


@cache
def labeled(variable: str) -> tuple[np.ndarray, np.ndarray]:
    """(features [N, D], labels [N]) of the digits of scikit-learn for "", or of 3,500 photographs of 10 classes."""
    if not variable:
        digits = load_digits()
        return digits.data / 16, digits.target
    images, labels = photographs(variable)
    chosen = np.random.default_rng(0).permutation(len(labels))[:3500]
    return features(images[chosen]), labels[chosen]


def planted_labels(
    rng: np.random.Generator, variable: str, share: float, similar: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, probabilities, whether the label was made wrong) of CHECKED images that the classifier, a linear
    discriminant, was not trained on.

    Labels are made wrong in training and checked images alike: at random, or if `similar` by the class with which the
    classifier confuses the true one most.
    """
    values, labels = labeled(variable)
    order = rng.permutation(len(labels))
    wrong, other = rng.random(len(labels)) < share, (labels + rng.integers(1, 10, len(labels))) % 10
    if similar:
        half = order[::2]
        predicted = classifier(variable).fit(values[half], labels[half]).predict(values)
        confused = confusion_matrix(predicted, labels, 10)
        other = (confused - np.diag(np.diag(confused))).argmax(1)[labels]
    given = np.where(wrong, other, labels)
    train, check = order[CHECKED:], order[:CHECKED]
    model = classifier(variable).fit(values[train], given[train])
    return given[check], model.predict_proba(values[check]), wrong[check]


def classifier(variable: str) -> LinearDiscriminantAnalysis:
    """An untrained classifier."""
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3 if variable else 0.1)


def flagged(rng: np.random.Generator, sets: int, count: int, variable: str) -> list[float]:
    """Share of the checked images that are listed although no label was made wrong."""
    found = (planted_labels(rng, variable, 0, False) for _ in range(sets))
    return [len(likely_wrong(labels, probabilities)) / count for labels, probabilities, _ in found]


def precision(
    rng: np.random.Generator, sets: int, count: int, variable: str, share: float, similar: bool = False
) -> list[bool]:
    """Whether each image that is listed has a label that was made wrong."""
    found: list[bool] = []
    for _ in range(sets):
        labels, probabilities, wrong = planted_labels(rng, variable, share, similar)
        found += wrong[likely_wrong(labels, probabilities)].tolist()
    return found


def recall(
    rng: np.random.Generator, sets: int, count: int, variable: str, share: float, similar: bool = False
) -> list[bool]:
    """Whether each label that was made wrong is listed."""
    found: list[bool] = []
    for _ in range(sets):
        labels, probabilities, wrong = planted_labels(rng, variable, share, similar)
        found += np.isin(np.flatnonzero(wrong), likely_wrong(labels, probabilities)).tolist()
    return found


DATA = {
    "digits, accuracy 0.96": "",
    "photographs (objects50), accuracy 0.63": OBJECTS,
    "photographs (transfer), accuracy 0.66": TRANSFER,
}
MEASURES: dict[Kind, tuple[Callable[..., list[bool]], tuple[float, float]]] = {
    "precision": (precision, (0.8, 1)),
    "recall": (recall, (0.7, 1)),
}


def wrong_rows(share: float, similar: bool) -> list[Row]:
    """Rows with precision and recall for a share of wrong labels. A target is set for the digits and 5 %."""
    how, held = "the most similar class" if similar else "a random class", share == 0.05 and not similar
    return [
        Row(f"{name}; {share:.0%} changed to {how}", kind,
            partial(measure, variable=data, share=share, similar=similar), target if held and not data else None,
            (CHECKED,), 20, 8 * (held and not data))
        for name, data in DATA.items()
        for kind, (measure, target) in MEASURES.items()
    ]  # fmt: skip


CLAIMS = (
    Claim(
        AREA,
        "12 validation labels that may be wrong",
        "`doctor RUN`",
        (
            *(
                Row(
                    f"{name}; no label changed",
                    "false alarms",
                    partial(flagged, variable=data),
                    (0, 0.05),
                    (CHECKED,),
                    20,
                    5 * (data == ""),
                )
                for name, data in DATA.items()
            ),
            *(row for share in (0.01, 0.05, 0.1) for row in wrong_rows(share, False)),
            *wrong_rows(0.05, True),
        ),
        "False alarms: share of the images. Of the photographs some labels are wrong already, so that their precision "
        "is a lower bound. No threshold was chosen on these data: a label is listed if it is more likely wrong than "
        "right.",
    ),
    Claim(
        AREA,
        "3 sets of near copies (within a split, or in several splits)",
        "`doctor DATA`",
        (
            *(
                Row(
                    f"photographs (transfer), {name}",
                    "recall",
                    partial(copies, alteration=name, variable=TRANSFER),
                    None,
                    (2000,),
                    500,
                )
                for name in (
                    "JPEG of quality 90",
                    "JPEG of quality 50",
                    "half the size",
                    "20 % brighter",
                    "noise of 8 levels",
                    "border of 2 % removed",
                    "mirrored",
                )
            ),
            Row(
                "generated images, JPEG of quality 50",
                "recall",
                partial(copies, alteration="JPEG of quality 50"),
                (0.95, 1),
                (300,),
                100,
                50,
            ),
            Row("different generated images", "false alarms", listed, (0, 0.01), (300,), 1, 1),
            Row(
                "photographs (objects50) as they are",
                "false alarms",
                partial(listed, variable=OBJECTS),
                (0, 0.02),
                (2000,),
                1,
            ),
        ),
        "False alarms: share of the images that are listed. Among photographs some are real near copies, so that it is "
        "an upper bound. docs/doctor.md has more alterations, and what was found among real photographs.",
    ),
    Claim(
        AREA,
        "4 images in several splits",
        "`doctor DATA`, and for identical files `train`",
        (
            Row(
                "validation images that are training images in another format",
                "recall",
                partial(leaks, leaked=True),
                (1, 1),
                (100,),
                1,
                1,
            ),
            Row("validation images that are none", "false alarms", partial(leaks, leaked=False), (0, 0), (100,), 1, 1),
        ),
    ),
)
