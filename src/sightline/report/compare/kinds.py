"""Dataclasses that hold a comparison of runs, and `TaskComparison`: how the runs of a task are compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...data.label_arrays import label_texts
from ...insight.curves import History, MetricCurve, number
from ...stats.intervals import Estimate, Interval
from ...stats.paired import ClassDifferences
from ..drawing import Plan
from ..formatting import section
from ..html import Child
from ..run import RunFiles


@dataclass(frozen=True)
class ImageResults:
    """The results of a finished run for each of its N validation images. K is the number of classes.

    names: file names of the images. rows: int64 [N], the index of each image in the run's own files, such as the row in
    predictions/val.csv; it differs from the position here if the images were reordered to match another run.

    For classifiers: truth and predicted are class indices, int64 [N]; confidence: float64 [N], of the predicted class.

    groups: int64 [N], the group of each image that shares its errors with others, see `stats.groups`; None without.

    For label sets: truth and predicted are bool [N, K]; scores: float64 [N, K], the probabilities.

    For segmenters: truth is the number of pixels of each class, int64 [N, K]; predicted has a confusion matrix per
    image, int64 [N, K, K], with the true classes as rows and the predicted classes as columns; confidence is empty.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    rows: np.ndarray
    scores: np.ndarray | None = None
    groups: np.ndarray | None = None

    @property
    def has_sets(self) -> bool:
        """Whether these are results for label sets."""
        return self.truth.dtype == bool

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction of a classifier is correct, bool [N]; a label set must be right in every class."""
        same = self.predicted == self.truth
        return same.all(1) if self.has_sets else same

    def label(self, row: int, predicted: bool = False) -> str:
        """The true or predicted label of an image as text; "no label" for an empty label set."""
        labels = self.predicted if predicted else self.truth
        return label_texts(labels[[row]], self.classes)[0] or "no label"


class PairedNumbers(NamedTuple):
    """The difference between two runs on the same images.

    difference: metric of the second run minus that of the first, as a share of 1, with its error.
    agreement: numbers of images on which the runs agree or differ, by the keys of `TaskComparison.agreement`. classes:
    differences of each class, by the name of the measure.
    """

    difference: Estimate
    agreement: dict[str, int]
    classes: dict[str, ClassDifferences]


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    quality: the task's metric, NaN if unknown. so_far: whether the run is unfinished; `quality` is then its best logged
    value. results: the results of each image; None if there are none. `reason` then has the reason as a predicate ("is
    not finished"), and `cure` what to do. seconds, flops, parameters, epochs: the cost of training, NaN if unknown.
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
    def chosen(self) -> bool:
        """Whether its best epoch was chosen on the validation images."""
        return any(record.get("selection") for record in self.files.records)

    @property
    def planned(self) -> float:
        """The number of epochs in the recipe; NaN if unknown."""
        return number(section(self.files.recipe, "train").get("epochs"))


@dataclass(frozen=True)
class RunPair:
    """The reference run `first` and a run `second`, compared on the same images.

    results: the results of both runs, with images and classes in the order of the reference. corrected: p value after
    Bonferroni's correction for all pairs of the comparison. level: of the interval, 0.95 or more, so that the interval
    excludes 0 if and only if `corrected` is below 0.05. sentence: the result in words.
    """

    first: str
    second: str
    results: tuple[ImageResults, ImageResults]
    numbers: PairedNumbers
    corrected: float
    level: float
    sentence: str
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of images on which the two runs are compared."""
        return len(self.results[0].names)

    @property
    def difference(self) -> float:
        """The metric of the second run minus that of the first, as a share of 1."""
        return float(self.numbers.difference.value)

    @property
    def interval(self) -> Interval:
        """The interval of the difference."""
        low, high = np.clip(self.numbers.difference.interval(self.level), -1, 1)  # a t interval may be wider
        return float(low), float(high)

    @property
    def p(self) -> float:
        """The p value of no difference, before the correction."""
        return float(self.numbers.difference.p)

    @property
    def significant(self) -> bool:
        """Whether the corrected p value is below 0.05, and the interval excludes zero."""
        return self.corrected < 0.05


@dataclass(frozen=True)
class UnpairedRun:
    """A run that cannot be compared with the reference image by image. why: the reason. cure: what to do."""

    name: str
    why: str
    cure: str


@dataclass(frozen=True)
class Comparison:
    """A complete comparison of runs.

    entries: all runs, the reference first. pairs: the reference with each run that can be compared image by image.
    unpaired: the remaining runs. recipes: (dotted key, value of each run) of every setting that differs between the
    runs.
    """

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
        """The pair of the reference and the run `name`; None if the two are not compared image by image."""
        return next((pair for pair in self.pairs if pair.second == name), None)


@dataclass(frozen=True)
class TaskComparison:
    """How the runs of one task are compared.

    field: the metric's name in metrics.jsonl. title: the metric as a heading. percent: whether it is a share, shown in
    percent; only such metrics are compared image by image. decoding: settings of `data` that change the decoded pixels,
    a possible reason why the data of two runs differ, each with the value that it has in recipes of versions without
    the setting. columns: additional columns of the table
    of runs, (field, title). curves: additional curves.

    Functions: image_results returns (results per image or None; if None, the reason; the cure). read adds to a run's
    files those that `image_results` and `images` need. result returns (metric, interval) of a run. paired compares two
    runs; it is None if the task has no results per image, and `no_pairs` then has the reason. plan returns the
    functions that draw additional figures, by file name. images returns the section of images on which the runs differ,
    from the drawn figures. notes returns sentences on what else limits the comparison.

    Texts: test is a sentence that names the statistical test. class_note is a sentence on the order of the class table.
    agreement: column headings by the keys of `PairedNumbers.agreement`; {first} is replaced by the name of the
    reference.
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
    percent: bool = True
    lower_is_better: bool = False
    agreement: Mapping[str, str] | None = None
    decoding: tuple[tuple[str, Any], ...] = (
        ("size", None),
        ("fit", "squash"),
        ("filter", "bilinear"),
        ("eval_crop", 1.0),
    )
    columns: tuple[tuple[str, str], ...] = ()
    curves: tuple[MetricCurve, ...] = ()
    plan: Callable[[Comparison], Plan] = lambda comparison: {}
    images: Callable[[Comparison, Mapping[str, bytes]], list[Child]] = lambda comparison, drawn: []
    notes: Callable[[Sequence[ComparedRun]], list[str]] = lambda entries: []

    @property
    def unit(self) -> str:
        """The unit in which the metric is shown: "%" or ""."""
        return "%" if self.percent else ""

    @property
    def heading(self) -> str:
        """The metric's title with its unit."""
        return f"{self.title}, %" if self.percent else self.title

    @property
    def name(self) -> str:
        """The metric's title with a lowercase first letter, for use within a sentence."""
        return self.title[0].lower() + self.title[1:]
