"""Dataclasses that hold a comparison of runs, and `TaskComparison`: how the runs of a task are compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...insight.curves import History, MetricCurve, number
from ...stats.intervals import Interval
from ...stats.paired import ClassDifferences
from ..drawing import Plan
from ..formatting import section
from ..html import Child
from ..run import RunFiles


@dataclass(frozen=True)
class ImageResults:
    """The results of a finished run for each of its N validation images.

    names: of the image files. predicted: class indices int64 [N], or the confusion matrix of each image, int64
    [N, K, K]. truth: class indices int64 [N], or pixels of each class, int64 [N, K]. confidence: float64 [N]; empty
    with confusion matrices. rows: int64 [N], the index of each image in the files of the run.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    rows: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction is correct, bool [N]."""
        return self.predicted == self.truth


class PairedNumbers(NamedTuple):
    """Paired results of two runs on the same images.

    difference: metric of the second run minus that of the first, as a share. interval: its paired 95 % interval. p: of
    the task's test. agreement: image counts, by the keys of `TaskComparison.agreement`. classes: differences of each
    class, by the name of the measure.
    """

    difference: float
    interval: Interval
    p: float
    agreement: dict[str, int]
    classes: dict[str, ClassDifferences]


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    quality: the task's metric, NaN if unknown. so_far: the run is unfinished, and `quality` is its best logged value.
    results: None if there are no per-image results; `reason` is then a predicate ("is not finished"), `cure` the
    remedy. seconds, flops, parameters, epochs: the cost of training, NaN if unknown.
    """

    name: str
    files: RunFiles
    past: History
    quality: float
    interval: Interval | None
    so_far: bool
    results: ImageResults | None
    reason: str
    cure: str
    seconds: float
    flops: float
    parameters: float
    epochs: float

    @property
    def planned(self) -> float:
        """The number of epochs in the recipe; NaN if unknown."""
        return number(section(self.files.recipe, "train").get("epochs"))


@dataclass(frozen=True)
class RunPair:
    """The reference run `first` and another run `second`, compared on the same images.

    results: of both runs, with images and classes in the same order. holm: p value after Holm's correction for all
    pairs of the comparison. sentence: the result in words.
    """

    first: str
    second: str
    results: tuple[ImageResults, ImageResults]
    numbers: PairedNumbers
    holm: float
    sentence: str
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.results[0].names)

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero and the corrected p value is below 0.05."""
        low, high = self.numbers.interval
        return self.holm < 0.05 and (low > 0 or high < 0)


@dataclass(frozen=True)
class UnpairedRun:
    """A run that cannot be compared with the reference image by image: its name, the reason, the remedy."""

    name: str
    why: str
    cure: str


@dataclass(frozen=True)
class Comparison:
    """A complete comparison. entries: all runs, the reference first. recipes: (dotted key, one value per run) of each
    setting that differs."""

    task: str
    kind: "TaskComparison"
    entries: tuple[ComparedRun, ...]
    pairs: tuple[RunPair, ...]
    unpaired: tuple[UnpairedRun, ...]
    recipes: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]

    @property
    def reference(self) -> ComparedRun:
        return self.entries[0]

    @property
    def paired(self) -> list[ComparedRun]:
        """The reference and the runs that are compared with it image by image."""
        return [one for one in self.entries if one is self.reference or self.pair_of(one.name)]

    def pair_of(self, name: str) -> RunPair | None:
        """The pair of the reference and the run `name`; None if there is none."""
        return next((pair for pair in self.pairs if pair.second == name), None)


@dataclass(frozen=True)
class TaskComparison:
    """How runs of a task are compared.

    field: the metric's name in metrics.jsonl. title: the metric as a heading. image_results: returns (results of each
    image or None, why there are none, the remedy). read: adds the files that `image_results` and `images` need. result:
    (results, files) -> (metric, interval). paired: compares two runs; None if the task has no per-image results, with
    the reason in `no_pairs`. test: sentence that names the statistical test. class_note: sentence on the order of the
    class table. agreement: column headings by the keys of `PairedNumbers.agreement`, where {first} is replaced by the
    name of the reference. decoding: settings of `data` that change the decoded pixels. columns: additional columns of
    the table, (field, title). curves, plan: additional curves and figures. images: returns the section of images on
    which the runs differ. notes: returns sentences on other differences between the runs.
    """

    field: str
    title: str
    image_results: Callable[[RunFiles], tuple[ImageResults | None, str, str]]
    read: Callable[[RunFiles], RunFiles] = lambda files: files
    result: Callable[[ImageResults, RunFiles], tuple[float, Interval | None]] | None = None
    paired: Callable[[ImageResults, ImageResults], PairedNumbers] | None = None
    no_pairs: str = ""
    test: str = ""
    class_note: str = ""
    agreement: Mapping[str, str] | None = None
    decoding: tuple[str, ...] = ("size", "fit", "filter")
    columns: tuple[tuple[str, str], ...] = ()
    curves: tuple[MetricCurve, ...] = ()
    plan: Callable[[Comparison], Plan] = lambda comparison: {}
    images: Callable[[Comparison, Mapping[str, bytes]], list[Child]] = lambda comparison, drawn: []
    notes: Callable[[Sequence[ComparedRun]], list[str]] = lambda entries: []

    @property
    def name(self) -> str:
        """The metric's title with a lowercase first letter, for use within a sentence."""
        return self.title[0].lower() + self.title[1:]
