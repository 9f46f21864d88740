"""What a comparison of runs asks of their task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...insight.curves import History, number
from ...stats.intervals import Interval
from ...stats.paired import ClassDifferences
from ..run import RunFiles
from ..words import section


class Curve(NamedTuple):
    """One curve of each run. column: of the train or evaluation records; factor: to the unit of the title."""

    file: str
    part: str
    column: str
    title: str
    factor: float


@dataclass(frozen=True)
class ItemResults:
    """What a finished run predicts for its validation images. names: N.

    given: int64 [N], the predicted classes, or int64 [N, K, K], the confusion matrix of each image of a segmenter.
    truth: int64 [N], or int64 [N, K], the pixels of each class. sure: float64 [N], confidences; empty of a segmenter.
    rows: int64 [N], the index of each image in the run's own files.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    given: np.ndarray
    sure: np.ndarray
    rows: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """bool [N] of a classifier: which images are classified correctly."""
        return self.given == self.truth


class PairedNumbers(NamedTuple):
    """Two runs on the same items. difference: second - first, with its paired 95 % interval. agreement: counts of items
    by what the two predict. classes: a measure's name -> its differences by class."""

    difference: float
    interval: Interval
    p: float
    agreement: dict[str, int]
    classes: dict[str, ClassDifferences]


def no_notes(entries: Sequence[Any]) -> list[str]:
    """Of tasks that have nothing to add."""
    return []


def unchanged(files: RunFiles) -> RunFiles:
    """Of tasks that read what they need in `items`."""
    return files


@dataclass(frozen=True)
class TaskComparison:
    """How runs of a task are compared.

    field: the number of the validation that counts, as metrics.jsonl has it; name, title: for people. does: what runs of
    the task do, for a message. items: (files) -> (results of each image or None, why there are none, what helps).
    read: adds the files that the page shows, such as thumbnails. result: the measure and its interval from these. paired: None where a task has no result for each image, and
    `no_pairs` is the sentence that says so. test: which test p is of. class_note: how the class table is sorted.
    decoding: settings of `data` and `augment` that change decoded pixels. columns: further columns of the table, (field,
    title); curves: further curves. masks: (comparison) -> the images of a segmenter on which runs differ most. notes:
    sentences about what else is not the same.
    """

    field: str
    name: str
    title: str
    does: str
    items: Callable[[RunFiles], tuple[ItemResults | None, str, str]]
    read: Callable[[RunFiles], RunFiles] = unchanged
    result: Callable[[ItemResults, RunFiles], tuple[float, Interval | None]] | None = None
    paired: Callable[[ItemResults, ItemResults], PairedNumbers] | None = None
    no_pairs: str = ""
    test: str = ""
    class_note: str = ""
    decoding: tuple[str, ...] = ("size", "fit", "filter")
    columns: tuple[tuple[str, str], ...] = ()
    curves: tuple[Curve, ...] = ()
    masks: Callable[[Any], Any] | None = None
    notes: Callable[[Sequence[Any]], list[str]] = no_notes


@dataclass(frozen=True)
class ComparedRun:
    """One run. quality: the task's measure, NaN where there is none; so_far: it is of the log, not of the result.

    answers: None where there is nothing that can be paired; `lacks` says why ("is not ..."), `cure` what helps.
    seconds, flops, parameters, epochs: what it cost, NaN where unknown. evaluation: columns of the validations, with
    `seconds`.
    """

    name: str
    files: RunFiles
    past: History
    evaluation: dict[str, np.ndarray]
    quality: float
    interval: Interval | None
    so_far: bool
    answers: ItemResults | None
    lacks: str
    cure: str
    seconds: float
    flops: float
    parameters: float
    epochs: float

    @property
    def planned(self) -> float:
        """The epochs that its recipe asks for; NaN where unknown."""
        return number(section(self.files.recipe, "train").get("epochs"))


@dataclass(frozen=True)
class RunPair:
    """A run against the reference, on the same `items`. difference: second - first, with its paired 95 % interval.

    p: of McNemar's exact test, or of a segmenter of random swaps. holm: corrected for all pairs of the comparison.
    agreement: counts of items by what the two say of them. classes: a measure's name -> its differences by class.
    """

    first: str
    second: str
    answers: tuple[ItemResults, ItemResults]
    difference: float
    interval: Interval
    p: float
    holm: float
    sentence: str
    agreement: dict[str, int]
    classes: dict[str, ClassDifferences]
    notes: tuple[str, ...]

    @property
    def items(self) -> int:
        return len(self.answers[0].names)

    @property
    def told_apart(self) -> bool:
        """Whether a difference is shown: the interval excludes zero and the corrected p is below 0.05."""
        low, high = self.interval
        return self.holm < 0.05 and (low > 0 or high < 0)


@dataclass(frozen=True)
class LeftOut:
    """A run that cannot be compared with the reference item by item: why, and what helps."""

    name: str
    why: str
    cure: str


@dataclass(frozen=True)
class Comparison:
    """All that the page says. recipes: (dotted key, one value a run), those that differ."""

    task: str
    kind: TaskComparison
    entries: tuple[ComparedRun, ...]
    pairs: tuple[RunPair, ...]
    refused: tuple[LeftOut, ...]
    recipes: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]

    @property
    def reference(self) -> ComparedRun:
        return self.entries[0]

    def pair_of(self, name: str) -> RunPair | None:
        """The pair of a run with the reference, where there is one."""
        return next((pair for pair in self.pairs if pair.second == name), None)
