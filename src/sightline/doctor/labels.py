"""Find validation labels of a run that are likely wrong, by a mixture of right and random labels."""

import csv
import shlex
from pathlib import Path

import numpy as np
from scipy import optimize, special

from ..config.schema import Config
from ..errors import SightlineError
from ..runs import run_folder
from ..runs.csv_io import RUN_COLUMNS, classes_of
from ..tasks import TASKS
from ..tasks.files import load_recipe_file
from .findings import Finding, Group, finding


def label_checks(folder: Path) -> tuple[list[Finding], tuple[str, ...], int, Config]:
    """Find likely wrong validation labels of a run: (findings, classes, number of images, the run's recipe).

    They are found by the probabilities in predictions/val.csv. Raises SightlineError if the run does not predict one
    label per image, or predicts the same class for all images of several classes.
    """
    config = load_recipe_file(run_folder.existing(folder) / "recipe.yaml")
    if TASKS[config.task].predicts != "label":
        cure = "pass the run of a classifier: sightline doctor RUN; or check the data: sightline doctor DATA"
        why = f"the task of this run is {config.task}"
        raise SightlineError("only the labels of a classifier can be checked", why=why, cure=cure)
    names, labels, classes, probabilities = read_probabilities(folder / "predictions" / "val.csv")
    predicted = np.unique(probabilities.argmax(1))
    if len(predicted) == 1 and len(np.unique(labels)) > 1:
        why = f"it predicts {classes[predicted[0]]} for every validation image, so it does not distinguish the classes"
        cure = f"train it for more epochs: sightline resume {shlex.quote(str(folder))} --train.epochs N"
        what = "the predictions of this run cannot show wrong labels"
        raise SightlineError(what, where=str(folder), why=why, cure=cure)
    groups = []
    for row in likely_wrong(labels, probabilities):
        best, own = int(probabilities[row].argmax()), labels[row]
        note = f"labeled {classes[own]} ({probabilities[row, own]:.0%}), "
        groups.append(Group((names[row],), f"{note}looks like {classes[best]} ({probabilities[row, best]:.0%})"))
    return finding("wrong_label", groups), classes, len(names), config


def wrong_chances(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The probability that each label is wrong, float64 [N], by maximum likelihood.

    labels: int64 [N], class indices. probabilities: float64 [N, K], predicted for images that the model was not trained
    on. A share of the labels, at most half, is taken to be wrong: any class but the true one, all equally likely. The
    true class is taken to have the probabilities at another temperature, because most models are overconfident. The
    share and the temperature are those with which the labels are most likely. Wrong labels that the model predicts too,
    such as those of two similar classes, are missed.
    """
    logits = np.log(np.maximum(probabilities, 1e-12))
    rows, others = np.arange(len(labels)), max(probabilities.shape[1] - 1, 1)

    def likelihoods(settings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(likelihood of each label as a right one, as a wrong one)."""
        share, own = special.expit(settings[0]) / 2, special.softmax(logits / np.exp(settings[1]), 1)[rows, labels]
        return (1 - share) * own, share * (1 - own) / others

    def surprise(settings: np.ndarray) -> float:
        return -float(np.log(np.maximum(sum(likelihoods(settings)), 1e-300)).mean())

    starts = [np.array([share, temperature]) for share in (-4.0, -1.0) for temperature in (0.0, 0.7)]
    fits = [optimize.minimize(surprise, start, method="Nelder-Mead") for start in starts]
    right, wrong = likelihoods(min(fits, key=lambda fit: fit.fun).x)
    return wrong / np.maximum(right + wrong, 1e-300)


def likely_wrong(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Indices of the images whose label is more likely wrong than right, the most likely first; see `wrong_chances`."""
    chances = wrong_chances(labels, probabilities)
    order = np.argsort(-chances, kind="stable")
    return order[chances[order] > 0.5]


def read_probabilities(path: Path) -> tuple[list[str], np.ndarray, tuple[str, ...], np.ndarray]:
    """Read (names, true labels int64 [N], classes, probabilities float64 [N, K]) from a predictions CSV."""
    skip = len(RUN_COLUMNS)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            header, *rows = csv.reader(file)
        if tuple(header[:skip]) != RUN_COLUMNS or not rows:
            raise ValueError(f"it has no row, or not the columns {', '.join(RUN_COLUMNS)}")
        classes = classes_of(header[skip:])
        labels = np.array([classes.index(row[2]) for row in rows], np.int64)
        probabilities = np.array([row[skip:] for row in rows], np.float64)
    except (OSError, ValueError, LookupError, csv.Error) as error:
        what, cure = "the predictions of this run cannot be read", "write the predictions again: sightline evaluate RUN"
        raise SightlineError(what, where=str(path), why=str(error), cure=cure) from error
    return [row[0] for row in rows], labels, classes, probabilities
