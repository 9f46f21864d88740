"""Write predictions/val.csv of a multi-label run; read it for its report and for comparisons."""

import csv
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...data.label_arrays import SEPARATOR, label_texts
from ...data.types import Decoded
from ...errors import SightlineError, some_of
from ...report.run import RunFiles, attempt, mistakes_of, with_samples
from ...runs.atomic import atomic_write, read_json
from ...runs.csv_io import RUN_COLUMNS, class_columns, classes_of, csv_text
from ...runs.run_folder import THRESHOLDS_FILE


@dataclass(frozen=True)
class LabelSets:
    """predictions/val.csv of a multi-label run, for N images and K classes.

    names: of the images. truth: bool [N, K]. probabilities: float64 [N, K]. thresholds: float64 [K].
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray
    thresholds: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The predicted label sets, bool [N, K]."""
        return self.probabilities >= self.thresholds


def read_label_sets(files: RunFiles) -> tuple[RunFiles, LabelSets | None]:
    """(the files with samples, and with lines in `missing` for what cannot be read; the predictions or None).

    Without readable thresholds they are 0.5.
    """
    files = with_samples(files)
    missing = list(files.missing)
    found = attempt(f"predictions/{files.split}.csv", files.path, parse, missing, None)
    mistakes = mistakes_of(files, missing)
    classes = found.classes if found else files.classes
    if found:
        half = found.thresholds
        chosen = attempt(THRESHOLDS_FILE, files.path, lambda path: load_thresholds(path.parent, classes), missing, half)
        found = replace(found, thresholds=chosen)
    return replace(files, mistakes=mistakes, missing=tuple(missing), classes=classes), found


def parse(path: Path) -> LabelSets:
    """Parse the predictions of a run; its thresholds are 0.5. Raises one of UNREADABLE for invalid content."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *rows = csv.reader(file)
    if tuple(header[: len(RUN_COLUMNS)]) != RUN_COLUMNS or not rows:
        raise ValueError("it has no row, or other columns")
    classes = classes_of(header[len(RUN_COLUMNS) :])
    number, truth = {name: index for index, name in enumerate(classes)}, np.zeros((len(rows), len(classes)), bool)
    for row, cells in enumerate(rows):
        truth[row, [number[name] for name in cells[2].split(SEPARATOR) if name]] = True
    probabilities = np.array([cells[len(RUN_COLUMNS) :] for cells in rows], np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("a probability is not from 0 to 1")
    return LabelSets(tuple(cells[0] for cells in rows), classes, truth, probabilities, np.full(len(classes), 0.5))


def load_thresholds(folder: Path, classes: tuple[str, ...]) -> np.ndarray:
    """The thresholds of a run in the order of `classes`, float64 [K]; 0.5 if the run has no thresholds.json.

    Raises SightlineError for a file that is not JSON, or has other classes or values.
    """
    path = folder / THRESHOLDS_FILE
    if not path.exists():
        return np.full(len(classes), 0.5)
    found = read_json(path)
    valid = isinstance(found, dict) and all(isinstance(one, float | int) and 0 <= one <= 1 for one in found.values())
    if not valid or {*found} != {*classes}:
        why = f"it must have a number from 0 to 1 for each of {some_of(classes)}, and nothing else"
        cure = f"restore the file; or remove it, so that every threshold is 0.5: rm {shlex.quote(str(path))}"
        raise SightlineError("the thresholds do not fit the classes of this run", where=str(path), why=why, cure=cure)
    return np.array([found[name] for name in classes], np.float64)


def confidences(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The highest probability [...] of a predicted label; 0 where none is predicted. probabilities: [..., K]. A class
    with a higher probability may be below its own threshold."""
    return np.where(probabilities >= thresholds, probabilities, 0.0).max(-1)


def write_predictions(path: Path, decoded: Decoded, probabilities: np.ndarray, thresholds: np.ndarray) -> Path:
    """Write a CSV: filename, label (the predicted label set), truth, confidence, a probability for each class.

    probabilities: float [N, K], written with nine digits, from which a float32 is read back exactly.
    """
    sure = confidences(probabilities, thresholds)
    predicted = label_texts(probabilities >= thresholds, decoded.classes)
    truth = [""] * len(predicted) if decoded.labels is None else label_texts(decoded.labels, decoded.classes)

    def rows() -> Iterator[list[str]]:
        yield [*RUN_COLUMNS, *class_columns(decoded.classes)]
        for row, name in enumerate(decoded.names):
            values = [f"{value:.9g}" for value in probabilities[row]]
            yield [name, predicted[row], truth[row], f"{sure[row]:.9g}", *values]

    return atomic_write(path, csv_text(rows()))


@dataclass(frozen=True)
class Pair:
    """A missed class and a class that was predicted instead, with the rows of the images in which this happened."""

    missed: str
    predicted: str
    rows: np.ndarray


def confusion(sets: LabelSets) -> np.ndarray:
    """What is confused with what, float64 [K + 1, K + 1]; rows: true class, columns: predicted class, the last: none.

    The diagonal has the number of images in which a class was found. A class that was missed in an image counts 1,
    divided equally among the classes that were wrongly predicted in this image, or in the last column if there are
    none. So the row of a class sums to the number of its images. The last row has wrong predictions in images where no
    class was missed.
    """
    truth, predicted = sets.truth, sets.predicted
    missed, wrong = truth & ~predicted, predicted & ~truth
    with_none = [np.column_stack([part, ~part.any(1)]).astype(np.float64) for part in (missed, wrong)]
    with_none[1] /= np.maximum(with_none[1].sum(1, keepdims=True), 1)
    matrix = with_none[0].T @ with_none[1]
    matrix[-1, -1] = 0  # images without an error
    matrix[-1, :-1] = (wrong & ~missed.any(1, keepdims=True)).sum(0)
    diagonal = np.arange(len(sets.classes))
    matrix[diagonal, diagonal] = (truth & predicted).sum(0)
    return matrix


def confused_pairs(sets: LabelSets, most: int) -> list[Pair]:
    """The pairs of a missed class and a class wrongly predicted in the same image.

    Those come first that occur in more images than expected if misses and wrong predictions were independent. So a
    class that is predicted too often does not fill the list.
    """
    missed, wrong = sets.truth & ~sets.predicted, sets.predicted & ~sets.truth
    counts = missed.astype(np.int64).T @ wrong
    excess = counts - np.outer(missed.sum(0), wrong.sum(0)) / len(sets.names)
    best = np.argsort(-np.where(counts > 0, excess, -np.inf), axis=None, kind="stable")[:most]
    pairs = [divmod(int(cell), len(sets.classes)) for cell in best if counts.flat[cell]]
    return [Pair(sets.classes[a], sets.classes[b], np.flatnonzero(missed[:, a] & wrong[:, b])) for a, b in pairs]


def losses_of(sets: LabelSets) -> np.ndarray:
    """Binary cross-entropy of each image, float64 [N]: the mean over the classes."""
    likelihood = np.where(sets.truth, sets.probabilities, 1 - sets.probabilities)
    return -np.log(np.maximum(likelihood, 1e-7)).mean(1)


def captions(sets: LabelSets) -> dict[int, tuple[tuple[int, ...], bool]]:
    """{row of predictions/val.csv: (the true classes, whether exactly these are predicted)}."""
    right = (sets.predicted == sets.truth).all(1).tolist()
    true = (tuple(np.flatnonzero(row).tolist()) for row in sets.truth)
    return dict(enumerate(zip(true, right, strict=True)))
