"""The numbers of a transfer grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class SettingResult:
    """The finished runs of one setting. seeds: S. correct: bool [S, N], one column per image. accuracy: the mean over
    the seeds, with its 95 % interval over images and seeds. seconds: mean time of a run."""

    setting: str
    seeds: tuple[int, ...]
    correct: np.ndarray
    accuracy: float
    interval: tuple[float, float]
    seconds: float

    @property
    def accuracies(self) -> list[float]:
        """The accuracy of each seed."""
        return [float(value) for value in self.correct.mean(1)]


@dataclass(frozen=True)
class GridResult:
    """The numbers of a grid. path: its folder. comparisons: (first, second, difference, interval, sentence). missing:
    unfinished runs. notes: warnings, and why something could not be computed."""

    path: Path
    outcomes: tuple[SettingResult, ...]
    comparisons: tuple[tuple[str, str, float, tuple[float, float], str], ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def report(self) -> Path:
        return self.path / "report.html"
