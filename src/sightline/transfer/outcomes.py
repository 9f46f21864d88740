"""The results of a transfer grid as values."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class SettingResult:
    """Results of the finished runs of one setting.

    setting: its letter. seeds: S seeds. correct: bool [S, N], whether each seed's run is right on each validation
    image. accuracy, interval: the mean over the seeds and its 95% interval over images and seeds. seconds: mean
    training time of a run.
    """

    setting: str
    seeds: tuple[int, ...]
    correct: np.ndarray
    accuracy: float
    interval: tuple[float, float]
    seconds: float

    @property
    def accuracies(self) -> list[float]:
        """The validation accuracy of each seed."""
        return [float(value) for value in self.correct.mean(1)]


@dataclass(frozen=True)
class GridResult:
    """Results of a grid.

    path: its folder. outcomes: one per setting with a finished run. comparisons: (first, second, difference, interval,
    sentence), the difference as a fraction, second - first. missing: names of runs without results. notes: warnings,
    and reasons why results are missing.
    """

    path: Path
    outcomes: tuple[SettingResult, ...]
    comparisons: tuple[tuple[str, str, float, tuple[float, float], str], ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def report(self) -> Path:
        return self.path / "report.html"
