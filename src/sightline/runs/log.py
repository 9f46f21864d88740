"""Log of a run: metrics.jsonl, and messages to the user (a live line in a terminal, else one line per epoch)."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..errors import SightlineError, printable
from .atomic import append_line, atomic_write, finite, read_json_lines
from .terminal import (
    duration,
    epoch_line,
    epoch_means,
    eta_seconds,
    eval_parts,
    is_rich_terminal,
    live_line,
    print_plain,
    train_parts,
)

REFRESH_SECONDS = 0.25
WARM_UP_STEPS, ESTIMATE_STEPS = 5, 20  # the first steps allocate, compile and fill queues, and are not timed


class Tracker(Protocol):
    """Another destination of a run's events. Both methods may raise OSError if a write fails."""

    def event(self, record: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


SAID: ContextVar[set[str] | None] = ContextVar("SAID", default=None)
"""Within `said_once`: the lines of `once` so far."""


@contextlib.contextmanager
def said_once() -> Generator[None]:
    """Context manager: lines on data and weights that are the same for several runs are printed for the first one."""
    token = SAID.set(set())
    try:
        yield
    finally:
        SAID.reset(token)


def once(say: Callable[[str], None]) -> Callable[[str], None]:
    """A function like `say`, which omits lines that were printed before within `said_once`."""
    known = SAID.get()
    if known is None:
        return say

    def say_new(text: str) -> None:
        if text not in known:
            known.add(text)
            say(text)

    return say_new


class RunLog:
    """The log of one run, a context manager that restores the terminal at the end.

    `event` appends a line to metrics.jsonl, `tick` counts a step, `say` and `warn` print to stdout and stderr. A tick
    takes microseconds. No method raises an error for a failed write. After stdout is closed, nothing more is printed;
    on a full disk, metrics are lost and one warning is printed. writes: False on all ranks but 0, where steps and time
    are only counted. trackers: get every event as the dict of its line, and are closed at the end of the run.
    """

    def __init__(
        self, folder: Path, quiet: bool = False, clock: Callable[[], float] = time.monotonic, writes: bool = True
    ):
        self.path = Path(folder) / "metrics.jsonl"
        self.quiet, self.clock, self.writes = quiet or not writes, clock, writes
        self.warnings: list[str] = []
        self.metrics_lost = False  # whether lines of metrics.jsonl could not be written
        self.begin = clock()
        spent = [record.get("seconds") for record in read_json_lines(self.path)]
        self.spent_before = max((float(value) for value in spent if isinstance(value, int | float)), default=0.0)
        self.epochs = self.epoch_steps = self.step = 0
        self.first_step = 0  # at the start or resumption
        self.costs: tuple[float, ...] = ()  # relative cost of a step in each epoch
        self.timed_from: tuple[int, float] | None = None  # step and time after the warm-up
        self.ticks, self.next_refresh, self.doing = 0, 0.0, ""
        self.live_parts: dict[str, str] = {}  # text of the live line by part
        self.last_train_step = 0  # the step of the last train record
        self.epoch_records: list[dict[str, Any]] = []  # train records since the last evaluation
        self.live: Live | None = None
        self.trackers: list[Tracker] = []

    def __enter__(self) -> Self:
        if is_rich_terminal() and not self.quiet:
            self.live = Live(console=Console(highlight=False), auto_refresh=False, transient=True)
            self.call_writer(self.live.start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.call_writer(self.live.stop)
            self.live = None
        self.track(lambda tracker: tracker.close())

    def seconds(self) -> float:
        """Duration of the run so far in seconds, including the time before it was resumed."""
        return self.spent_before + self.clock() - self.begin

    def plan(self, epochs: int, epoch_steps: int, step: int = 0, costs: Sequence[float] = ()) -> None:
        """Set the number of epochs, the steps per epoch, and the current step, to estimate the remaining time.
        costs: relative cost of a step in each epoch, for progressive image sizes; empty: equal costs."""
        self.epochs, self.epoch_steps = epochs, epoch_steps
        self.step = self.first_step = self.last_train_step = step
        self.costs = tuple(costs)
        self.ticks, self.timed_from = 0, None

    def rewind(self, step: int, seconds: float) -> None:
        """Remove the train and eval events after `step` from metrics.jsonl, before training resumes at that step.
        Otherwise the file would have two records of the repeated steps. seconds: duration of the run up to `step`."""
        records = read_json_lines(self.path) if self.writes else []
        kept = [r for r in records if not (r.get("event") in ("train", "eval") and (r.get("step") or 0) > step)]
        if len(kept) < len(records):
            atomic_write(self.path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
        self.spent_before, self.begin = seconds, self.clock()

    def event(self, name: str, *, step: int, epoch: float, **fields: Any) -> None:
        """Append one line to metrics.jsonl, and show train and eval events. NaN and infinity become null, as JSON has
        neither.
        """
        record = finite({"event": name, "step": step, "epoch": epoch, "seconds": round(self.seconds(), 3), **fields})
        try:
            if self.writes:
                append_line(self.path, json.dumps(record, ensure_ascii=False, allow_nan=False))
        except SightlineError as error:
            if not self.metrics_lost:
                self.warn(f"metrics are being lost: {error.what}: {error.why}")
            self.metrics_lost = True
        self.track(lambda tracker: tracker.event(record))
        if name == "train":
            self.step = max(self.step, step)
            self.epoch_records.append(record | {"steps": step - self.last_train_step})
            self.last_train_step = step
            self.live_parts |= train_parts(record)
            self.refresh()
        elif name == "eval":
            self.live_parts |= eval_parts(record)
            parts = self.live_parts | train_parts(epoch_means(self.epoch_records)) | {"left": self.time_left()}
            self.print_line(epoch_line(int(epoch), self.epochs, parts, self.width()))
            self.epoch_records.clear()
            self.live_parts.pop("val loss", None)

    def track(self, call: Callable[[Tracker], None]) -> None:
        """Call a method of each tracker. After a failed write, warn and use this tracker no more."""
        for tracker in list(self.trackers):
            try:
                call(tracker)
            except OSError as error:
                self.trackers.remove(tracker)
                self.warn(f"no more events are written by {type(tracker).__name__}: {error.strerror or error}")

    def tick(self, step: int, doing: str = "") -> None:
        """Count a step. With `doing`, such as "validating", show this activity in the live line instead."""
        self.step, self.doing, self.ticks = step, doing, self.ticks + 1
        now = self.clock()
        if self.ticks == WARM_UP_STEPS:
            self.timed_from = (step, now)
        elif self.ticks == ESTIMATE_STEPS and self.timed_from and self.step < self.epochs * self.epoch_steps:
            self.say(self.estimate(now))
        if self.live and now >= self.next_refresh:
            self.refresh()

    def refresh(self) -> None:
        """Redraw the live line, at most four times a second."""
        now = self.clock()
        if self.live is None or now < self.next_refresh:
            return
        self.next_refresh = now + REFRESH_SECONDS
        parts = self.live_parts | {"left": self.doing or self.time_left()}
        line = live_line(self.step, self.epoch_steps, self.epochs, parts, self.width() or 80)
        self.call_writer(self.live.update, line, refresh=True)

    def estimate(self, now: float) -> str:
        """A sentence with the estimated duration of training on this machine, from the steps timed so far; now: clock
        time.

        In the first epoch since the start or resumption, it is the duration of all epochs since then; later, that of
        the remaining epochs.
        """
        start = self.first_step if self.step - self.first_step <= self.epoch_steps else self.step
        seconds = duration(self.projected(start, now))
        left = max(self.epochs - start / self.epoch_steps, 0.1)  # never "0 epochs left"
        number = f"{left:.1f}".removesuffix(".0")
        what = f"{number} epoch{'' if number == '1' else 's'}"
        what = f"the {what} left" if start else what
        return f"about {seconds} for {what} on this machine, without evaluation"

    def time_left(self) -> str:
        """The estimated remaining time, such as `12 min left`; "" if unknown."""
        if self.timed_from is None or not self.epochs:
            return ""
        if self.step >= self.epochs * self.epoch_steps or self.step <= self.timed_from[0]:
            return ""
        return f"{duration(self.projected(self.step, self.clock()))} left"

    def projected(self, start: int, now: float) -> float:
        """Estimated seconds from step `start` to the end of the run, at the speed since the warm-up steps."""
        first, since = self.timed_from or (self.step, now)
        return eta_seconds(self.work(first, self.step), self.work(start, self.epochs * self.epoch_steps), now - since)

    def work(self, start: int, end: int) -> float:
        """Sum of the relative costs (see `plan`) of the steps from `start` to `end`; their number without costs."""
        if not self.costs:
            return end - start
        total, step = 0.0, start
        while step < end:
            epoch = step // self.epoch_steps
            until = min(end, (epoch + 1) * self.epoch_steps)
            total += (until - step) * self.costs[min(epoch, len(self.costs) - 1)]
            step = until
        return total

    def width(self) -> int | None:
        """Columns of the terminal; None if stdout is not a terminal (no limit)."""
        return self.live.console.width if self.live else None

    def say(self, text: str) -> None:
        """Print a message to the user."""
        self.print_line(Text(printable(text)))

    def print_line(self, line: Text) -> None:
        if self.quiet or sys.stdout is None:
            return
        if self.live:
            self.call_writer(self.live.console.print, line, soft_wrap=True)
        else:
            self.call_writer(print_plain, line.plain)

    def warn(self, text: str) -> None:
        """Print a warning to stderr, even if quiet; `warnings` collects them for provenance.json."""
        self.warnings.append(text)
        if not self.writes:
            return
        with contextlib.suppress(OSError, ValueError):
            print(f"warning: {printable(text)}", file=sys.stderr, flush=True)

    def call_writer(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Call a function that writes to stdout. After an error, such as a closed pipe, print nothing more."""
        try:
            function(*arguments, **options)
        except (OSError, ValueError):  # ValueError: the file is closed
            self.quiet, self.live = True, None
            with contextlib.suppress(OSError, ValueError):  # so that Python's flush of stdout at exit does not raise
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, sys.stdout.fileno())
                os.close(null)
