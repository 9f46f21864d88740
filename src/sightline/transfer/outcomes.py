"""Data classes with the results of a transfer grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class SettingResult:
    """Results of the finished runs of one setting, one run per seed.

    setting: letter of the setting. seeds: of the S runs. correct: bool [S, N], whether each run classifies each of the
    N validation images correctly. accuracy, interval: the mean accuracy over the runs, and its 95 % interval over
    images and seeds. seconds: mean training time of a run.
    """

    setting: str
    seeds: tuple[int, ...]
    correct: np.ndarray
    accuracy: float
    interval: tuple[float, float]
    seconds: float

    @property
    def accuracies(self) -> list[float]:
        """The validation accuracy of the run of each seed."""
        return [float(value) for value in self.correct.mean(1)]


@dataclass(frozen=True)
class GridResult:
    """Results of a transfer grid.

    path: folder of the grid. outcomes: one per setting with a finished run. comparisons: (first setting, second
    setting, difference in accuracy, its interval, sentence); the difference is second - first, as a share of 1.
    missing: names of runs without results. notes: warnings, and reasons why results are missing.
    """

    path: Path
    outcomes: tuple[SettingResult, ...]
    comparisons: tuple[tuple[str, str, float, tuple[float, float], str], ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def report(self) -> Path:
        return self.path / "report.html"
