"""The parts of a row of the harness: a promise, a check that counts trials, and defects that the check must detect."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SHORT_SCALE = 0.02
"""Share of the full trial counts in a short run, and in the runs with a defect."""

Defect = Callable[[], contextlib.AbstractContextManager[None]]
"""Returns a context manager that installs a deliberately wrong implementation."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of one check.

    folder: an empty scratch folder. scale: factor on the full trial counts. with_defect: a defect is installed, so one
    failure is enough and the check may stop there.
    """

    short: bool
    seed: int
    folder: Path
    scale: float = 1.0
    with_defect: bool = False

    def count(self, full: int, minimum: int = 1) -> int:
        """The number of trials at this scale, at least `minimum`."""
        return max(minimum, round(full * self.scale))

    def detected(self, failures: Sequence[str]) -> bool:
        """Whether an installed defect has been detected, so that the check can stop."""
        return self.with_defect and bool(failures)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a check. trials: number of faults that were really injected. failures: one line each. notes: further
    numbers for the page, by name."""

    trials: int
    failures: tuple[str, ...]
    notes: dict[str, int | float | str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """One class of faults.

    defects: by name, deliberately wrong implementations, installed in this process or through an environment variable
    for child processes. The row fails if `check` raises, or reports no failure, while one is installed. unavailable:
    returns why the row cannot run on this system, "" if it can. quick: whether a short run of the harness tries the
    defects too. limit_seconds: time limit of one full check; exceeding it is a failure.
    """

    name: str
    section: str
    promise: str
    check: Callable[[Settings], Outcome]
    defects: Mapping[str, Defect]
    unavailable: Callable[[], str] = lambda: ""
    quick: bool = True
    limit_seconds: float = 900
