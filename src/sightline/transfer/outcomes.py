"""Data classes with the results of a transfer grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..stats.groups import Groups
from .tuning import Choice

Interval = tuple[float, float]


@dataclass(frozen=True)
class SettingResult:
    """Results of the finished runs of one setting: S seeds after each of P pre-trainings.

    setting: letter of the setting. pretrainings: seeds of the P pre-trainings; (None,) without pre-training. seeds: of
    the S runs from each. values: float [P, S, N], of each run and each of the N images, whose mean over the images is
    the score of the run: 1 for a correct prediction and 0 for a wrong one, or the part of an image in the mean IoU.
    score, interval: the mean score of the runs, and its 95 % interval over pre-trainings, seeds and images; None if
    none can be given. seconds, flops: mean time and floating-point operations of the training of a run. training: how
    the runs are trained, as text. choice: the result of tuning. knn: float [P, S], accuracy of k-nearest neighbors by
    the features of each run of a linear evaluation.
    """

    setting: str
    pretrainings: tuple[int | None, ...]
    seeds: tuple[int, ...]
    values: np.ndarray
    score: float
    interval: Interval | None
    seconds: float
    flops: float
    training: str
    choice: Choice | None = None
    knn: np.ndarray | None = None

    @property
    def scores(self) -> list[list[float]]:
        """The score of each run: one list for each pre-training, with one number for each seed."""
        return self.values.mean(2).tolist()


class SettingComparison(NamedTuple):
    """The difference in the score of two settings, as a share of 1.

    difference: second - first. interval: None if none can be given. p: corrected for the number of comparisons of the
    grid; NaN if there is none.
    """

    first: str
    second: str
    difference: float
    interval: Interval | None
    p: float
    sentence: str


@dataclass(frozen=True)
class GridResult:
    """Results of a transfer grid.

    path: folder of the grid. split: the split on which the settings are compared. metric: (key, name in a sentence) of
    the metric by which they are compared. outcomes: one per setting with a
    finished run. groups: of the images; None if each is alone. baselines: scores without training by name, on the
    validation images. missing: names of runs without results. notes: warnings, and reasons why results are missing.
    """

    path: Path
    split: str
    metric: tuple[str, str]
    outcomes: tuple[SettingResult, ...]
    comparisons: tuple[SettingComparison, ...]
    groups: Groups | None
    baselines: Mapping[str, float]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def report(self) -> Path:
        return self.path / "report.html"
