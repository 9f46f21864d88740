"""What every row of the harness is: a promise, a check that counts, and broken implementations that it must see."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SHORT_SCALE = 0.02  # of the full counts; the broken implementations are tried at this scale, too


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a check is to run: `folder` is an empty scratch folder of its own, full counts are multiplied by `scale`.

    `blind`: a broken implementation is installed, and one failure is enough: a check may stop there (`seen`)."""

    short: bool
    seed: int
    folder: Path
    scale: float = 1.0
    blind: bool = False

    def count(self, full: int, least: int = 1) -> int:
        """The number of trials at this scale, never under `least`."""
        return max(least, round(full * self.scale))

    def seen(self, failures: Sequence[str]) -> bool:
        """Whether a broken implementation has been seen, so that nothing more has to be tried."""
        return self.blind and bool(failures)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a check gave. `trials`: faults that were really injected (one that did not fire is no trial).
    `failures`: one line each. `notes`: further numbers for the page, by name."""

    trials: int
    failures: tuple[str, ...]
    notes: dict[str, int | float | str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """One class of fault.

    `broken`: by name, context managers that install a deliberately broken implementation (in this process, or by an
    environment variable that child processes honor). With one installed `check` has to give failures: a check that
    raises, or gives none, does not see it, and the row has failed. `needs` says why it can't run here ("": it can).
    """

    name: str
    section: str
    promise: str
    check: Callable[[Settings], Outcome]
    broken: Mapping[str, Callable[[], contextlib.AbstractContextManager[None]]]
    needs: Callable[[], str] = lambda: ""
    quick: bool = True  # whether a short run of the harness tries the broken implementations, too
    limit_seconds: float = 900  # of one run of the check in the full harness; a longer one is ended, and a failure
