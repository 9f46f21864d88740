"""A claim that a page or the terminal makes, the rows in which its error rate is measured, and their results."""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Measure = Callable[[np.random.Generator, int, int], Sequence[float]]
"""(random numbers, number of simulated sets, images of a set) -> for each set 1 or 0, such as whether the interval
contains the true value, or a share from 0 to 1. NaN: the set says nothing, such as the precision of no finding."""
NO_INTERVAL = "no interval"
"""Reason for no coverage: in at least 98 % of the sets no interval is given, because there is too little data."""
Kind = Literal["coverage", "false alarms", "power", "recall", "precision", "no interval", "ratio"]


@dataclass(frozen=True)
class Row:
    """One way to simulate a claim.

    simulated: the data, for the table. kind: what the mean of `measure` is. target: its smallest and largest allowed
    value; None if the rate is only reported. sizes: numbers of images of a set. sets: number of simulated sets. quick:
    their number in the tests; 0 to leave the row out there. quick_size: images of a set in the tests, by default the
    first of `sizes`.
    """

    simulated: str
    kind: Kind
    measure: Measure
    target: tuple[float, float] | None
    sizes: tuple[int, ...]
    sets: int = 1000
    quick: int = 0
    quick_size: int = 0


@dataclass(frozen=True)
class Claim:
    """A sentence with a measured error rate. area: heading of its table. said: the pages and commands that say it.
    note: a sentence below the table."""

    area: str
    sentence: str
    said: str
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Result:
    """The measured rate of a row for one size of the sets, with its Monte-Carlo standard error.

    sets: those that say something. why: reason for no measurement, else "".
    """

    images: int
    sets: int
    rate: float
    error: float
    seconds: float
    why: str = ""

    def meets(self, target: tuple[float, float] | None, errors: float = 2.0) -> bool:
        """Whether the target is within this number of standard errors of the rate."""
        low, high = target or (0.0, 1.0)
        return not self.why and low - errors * self.error <= self.rate <= high + errors * self.error


class NoData(Exception):
    """Raised by `Measure` if the row needs a file that is not there; the message names it."""


def measured(row: Row, images: int, sets: int, seed: str) -> Result:
    """Simulate a row. seed: any text; equal texts give equal random numbers."""
    started = time.perf_counter()
    rng = np.random.default_rng(zlib.crc32(f"{seed} {images}".encode()))
    try:
        values = np.asarray(row.measure(rng, sets, images), dtype=np.float64)
    except NoData as error:
        return Result(images, 0, 0.0, 0.0, 0.0, str(error))
    values = values[~np.isnan(values)]
    count = len(values)
    if row.kind == "coverage" and count < sets / 50:
        return Result(images, 0, 0.0, 0.0, 0.0, NO_INTERVAL)
    if not count:
        return Result(images, 0, 0.0, 0.0, 0.0, "no set had anything to measure")
    smoothed = (values.sum() + 1) / (count + 2)  # so that a rate of 0 or 1 has an error too
    spread = max(float(values.var()), float(smoothed * (1 - smoothed)) if set(values) <= {0.0, 1.0} else 0.0)
    seconds = time.perf_counter() - started
    return Result(images, count, float(values.mean()), float(np.sqrt(spread / count)), seconds)


def contains(interval: Sequence[float], truth: float) -> float:
    """1 if an interval (low, high) contains the true value, 0 if not, NaN if no interval was given."""
    low, high = interval
    return float("nan") if low != low else float(low <= truth <= high)
