"""The data of a comparison of runs, and what a task declares about its comparisons."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...insight.curves import History, MetricCurve, number
from ...stats.intervals import Interval
from ...stats.paired import ClassDifferences
from ..drawing import Plan
from ..html import Child
from ..run import RunFiles
from ..words import section


@dataclass(frozen=True)
class ItemResults:
    """The predictions of a finished run for its validation images. names: N.

    given: int64 [N], the predicted classes, or int64 [N, K, K], the confusion matrix of each image. truth: int64 [N],
    or int64 [N, K], the pixels of each class. sure: float64 [N], confidences; empty with confusion matrices. rows:
    int64 [N], the index of each image in the run's own files.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    given: np.ndarray
    sure: np.ndarray
    rows: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Which predicted classes are correct, bool [N]."""
        return self.given == self.truth


class PairedNumbers(NamedTuple):
    """Two runs on the same items. difference: second - first, with its paired 95 % interval. agreement: counts of
    items, by the keys of `TaskComparison.agreement`. classes: differences of each class, by the name of the measure."""

    difference: float
    interval: Interval
    p: float
    agreement: dict[str, int]
    classes: dict[str, ClassDifferences]


@dataclass(frozen=True)
class ComparedRun:
    """One run. quality: the task's metric, NaN where unknown; so_far: it is the best of the log of an unfinished run.

    answers: None where the run has no results for single images; `lacks` is the reason ("is not ..."), `cure` the
    remedy. seconds, flops, parameters, epochs: the cost, NaN where unknown.
    """

    name: str
    files: RunFiles
    past: History
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
        """The epochs in its recipe; NaN where unknown."""
        return number(section(self.files.recipe, "train").get("epochs"))


@dataclass(frozen=True)
class RunPair:
    """A run and the reference on the same items, with the `numbers` of the pair.

    answers: of the reference and of the run, in the same order. holm: p corrected for all pairs of the comparison.
    """

    first: str
    second: str
    answers: tuple[ItemResults, ItemResults]
    numbers: PairedNumbers
    holm: float
    sentence: str
    notes: tuple[str, ...]

    @property
    def items(self) -> int:
        return len(self.answers[0].names)

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero and the corrected p is below 0.05."""
        low, high = self.numbers.interval
        return self.holm < 0.05 and (low > 0 or high < 0)


@dataclass(frozen=True)
class LeftOut:
    """A run that cannot be compared with the reference item by item: the reason and the remedy."""

    name: str
    why: str
    cure: str


@dataclass(frozen=True)
class Comparison:
    """The content of a comparison. recipes: (dotted key, one value per run) of the settings that differ."""

    task: str
    kind: "TaskComparison"
    entries: tuple[ComparedRun, ...]
    pairs: tuple[RunPair, ...]
    refused: tuple[LeftOut, ...]
    recipes: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]

    @property
    def reference(self) -> ComparedRun:
        return self.entries[0]

    @property
    def paired(self) -> list[ComparedRun]:
        """The reference and the runs that are compared with it item by item."""
        return [one for one in self.entries if one is self.reference or self.pair_of(one.name)]

    def pair_of(self, name: str) -> RunPair | None:
        """The pair of a run with the reference, if there is one."""
        return next((pair for pair in self.pairs if pair.second == name), None)


@dataclass(frozen=True)
class TaskComparison:
    """How runs of a task are compared.

    field: the metric in metrics.jsonl; title: its name as a heading. items: (files) -> (results of each image or None,
    why there are none, the remedy). read: add the files that `items` and `images` need. result: the metric with its
    interval from the results. paired: the numbers of two runs; None where a task has no results for single images, with
    the reason in `no_pairs`. test: the test that p is from. class_note: the order of the class table. agreement: column
    headings by the keys of `PairedNumbers.agreement`, with the name of the reference as {first}. decoding:
    settings of `data` that change decoded pixels. columns: further columns of the table, (field, title). curves:
    further curves. plan: further figures. images: the section of images on which runs differ, from the drawn figures.
    notes: sentences on further differences between the runs.
    """

    field: str
    title: str
    items: Callable[[RunFiles], tuple[ItemResults | None, str, str]]
    read: Callable[[RunFiles], RunFiles] = lambda files: files
    result: Callable[[ItemResults, RunFiles], tuple[float, Interval | None]] | None = None
    paired: Callable[[ItemResults, ItemResults], PairedNumbers] | None = None
    no_pairs: str = ""
    test: str = ""
    class_note: str = ""
    agreement: Mapping[str, str] | None = None
    decoding: tuple[str, ...] = ("size", "fit", "filter")
    columns: tuple[tuple[str, str], ...] = ()
    curves: tuple[MetricCurve, ...] = ()
    plan: Callable[[Comparison], Plan] = lambda found: {}
    images: Callable[[Comparison, Mapping[str, bytes]], list[Child]] = lambda found, drawn: []
    notes: Callable[[Sequence[ComparedRun]], list[str]] = lambda entries: []

    @property
    def name(self) -> str:
        """The metric's title within a sentence."""
        return self.title[0].lower() + self.title[1:]
