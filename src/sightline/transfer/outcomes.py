"""The numbers of a transfer grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """What the finished runs of one setting say. seeds: S of them. correct: bool [S, N], one column an image.

    accuracy: the mean over the seeds, interval: its 95 % interval over images and seeds. seconds: of training, mean.
    """

    setting: str
    seeds: tuple[int, ...]
    correct: np.ndarray
    accuracy: float
    interval: tuple[float, float]
    seconds: float

    @property
    def accuracies(self) -> list[float]:
        """One of each seed."""
        return [float(value) for value in self.correct.mean(1)]


@dataclass(frozen=True)
class GridResult:
    """A grid's numbers. path: its folder. comparisons: (first, second, difference, interval, sentence). missing: runs
    that are not finished. notes: why something could not be computed."""

    path: Path
    outcomes: tuple[Outcome, ...]
    comparisons: tuple[tuple[str, str, float, tuple[float, float], str], ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def report(self) -> Path:
        return self.path / "report.html"
