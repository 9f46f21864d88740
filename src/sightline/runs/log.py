"""What a run says: metrics.jsonl for machines; for people a live line in a terminal, elsewhere a line an epoch."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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
WARM_UP_STEPS, ESTIMATE_STEPS = 5, 20  # the first steps allocate, compile and fill queues: they are not timed


class RunLog:
    """The log of one run; use it in a `with` statement, so that the terminal is left as it was.

    `event` appends a line to metrics.jsonl, `tick` tells of a step, `say` and `warn` speak to the user. Everything
    may be called without a thought to cost (a tick takes microseconds) and none of it can end the run: where
    stdout is closed it falls silent, and where the disk is full metrics are lost with one warning. Without `writes` it
    does nothing but count: so it is in all processes of a run but the first.
    """

    def __init__(
        self, folder: Path, quiet: bool = False, clock: Callable[[], float] = time.monotonic, writes: bool = True
    ):
        self.path = Path(folder) / "metrics.jsonl"
        self.quiet, self.clock, self.writes = quiet or not writes, clock, writes
        self.warnings: list[str] = []
        self.losing = False  # lines of metrics.jsonl, because the disk is full
        self.begin = clock()
        spent = [record.get("seconds") for record in read_json_lines(self.path)]
        self.spent_before = max((float(value) for value in spent if isinstance(value, int | float)), default=0.0)
        self.epochs = self.epoch_steps = self.step = 0
        self.begun = 0  # the step at which this piece of the run began
        self.costs: tuple[float, ...] = ()  # of each epoch's steps, relative to each other
        self.timed_from: tuple[int, float] | None = None  # step and time after the warm-up
        self.ticks, self.next_refresh, self.doing = 0, 0.0, ""
        self.shown: dict[str, str] = {}  # the parts of the live line
        self.noted = 0  # the step of the last train record
        self.epoch_records: list[dict[str, Any]] = []  # train records since the last evaluation
        self.live: Live | None = None

    def __enter__(self) -> Self:
        if is_rich_terminal() and not self.quiet:
            self.live = Live(console=Console(highlight=False), auto_refresh=False, transient=True)
            self.speak(self.live.start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.speak(self.live.stop)
            self.live = None

    def seconds(self) -> float:
        """Seconds that the run has taken so far, those before it was resumed included."""
        return self.spent_before + self.clock() - self.begin

    def plan(self, epochs: int, epoch_steps: int, step: int = 0, costs: Sequence[float] = ()) -> None:
        """Tell how long the run will be and at which step it is; without it no time left is shown.

        costs: what a step of each epoch costs relative to the others', where images grow; empty: all the same.
        """
        self.epochs, self.epoch_steps = epochs, epoch_steps
        self.step = self.begun = self.noted = step
        self.costs = tuple(costs)
        self.ticks, self.timed_from = 0, None

    def rewind(self, step: int, seconds: float) -> None:
        """Before going on from `step`: drop what was logged after it, so that one continuous curve is left.

        seconds: what the run had taken at that step.
        """
        records = read_json_lines(self.path) if self.writes else []
        kept = [r for r in records if not (r.get("event") in ("train", "eval") and (r.get("step") or 0) > step)]
        if len(kept) < len(records):
            atomic_write(self.path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
        self.spent_before, self.begin = seconds, self.clock()

    def event(self, name: str, *, step: int, epoch: float, **fields: Any) -> None:
        """Append one line to metrics.jsonl, and show it if it is about training or evaluation.

        NaN and infinity become null, which is the only way that JSON has to say them.
        """
        record = finite({"event": name, "step": step, "epoch": epoch, "seconds": round(self.seconds(), 3), **fields})
        try:
            if self.writes:
                append_line(self.path, json.dumps(record, ensure_ascii=False, allow_nan=False))
        except SightlineError as error:
            if not self.losing:
                self.warn(f"metrics are being lost: {error.what}: {error.why}")
            self.losing = True
        if name == "train":
            self.step = max(self.step, step)
            self.epoch_records.append(record | {"steps": step - self.noted})
            self.noted = step
            self.shown |= train_parts(record)
            self.refresh()
        elif name == "eval":
            self.shown |= eval_parts(record)
            parts = self.shown | train_parts(epoch_means(self.epoch_records)) | {"left": self.time_left()}
            self.say_line(epoch_line(int(epoch), self.epochs, parts, self.width()))
            self.epoch_records.clear()
            self.shown.pop("val loss", None)

    def tick(self, step: int, doing: str = "") -> None:
        """After every step, or while the run does something else (`doing="validating"`). Costs microseconds."""
        self.step, self.doing, self.ticks = step, doing, self.ticks + 1
        now = self.clock()
        if self.ticks == WARM_UP_STEPS:
            self.timed_from = (step, now)
        elif self.ticks == ESTIMATE_STEPS and self.timed_from and self.step < self.epochs * self.epoch_steps:
            self.say(self.estimate(now))
        if self.live and now >= self.next_refresh:
            self.refresh()

    def refresh(self) -> None:
        """Draw the live line, at most four times a second."""
        now = self.clock()
        if self.live is None or now < self.next_refresh:
            return
        self.next_refresh = now + REFRESH_SECONDS
        parts = self.shown | {"left": self.doing or self.time_left()}
        line = live_line(self.step, self.epoch_steps, self.epochs, parts, self.width() or 80)
        self.speak(self.live.update, line, refresh=True)

    def estimate(self, now: float) -> str:
        """How long this piece of the run will take, from the steps that were timed: a sentence for the user.

        Where epochs are so short that one has passed since it began: how long what is left of it will take.
        """
        start = self.begun if self.step - self.begun <= self.epoch_steps else self.step
        seconds = duration(self.projected(start, now))
        left = max(self.epochs - start / self.epoch_steps, 0.1)  # of "0 epochs left" nothing would be to do
        number = f"{left:.1f}".removesuffix(".0")
        what = f"{number} epoch{'' if number == '1' else 's'}"
        what = f"the {what} left" if start else what
        return f"about {seconds} for {what} on this machine, without evaluation"

    def time_left(self) -> str:
        """`12 min left`, or nothing while it cannot be known."""
        if self.timed_from is None or not self.epochs:
            return ""
        if self.step >= self.epochs * self.epoch_steps or self.step <= self.timed_from[0]:
            return ""
        return f"{duration(self.projected(self.step, self.clock()))} left"

    def projected(self, start: int, now: float) -> float:
        """Seconds from step `start` to the end, if the work goes on as fast as since the warm-up."""
        first, since = self.timed_from or (self.step, now)
        return eta_seconds(self.work(first, self.step), self.work(start, self.epochs * self.epoch_steps), now - since)

    def work(self, start: int, end: int) -> float:
        """What the steps from `start` to `end` cost, in steps of cost 1."""
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
        """Columns of the terminal; None where stdout is none: lines may then be long."""
        return self.live.console.width if self.live else None

    def say(self, text: str) -> None:
        """A sentence to the user."""
        self.say_line(Text(printable(text)))

    def say_line(self, line: Text) -> None:
        if self.quiet or sys.stdout is None:
            return
        if self.live:
            self.speak(self.live.console.print, line, soft_wrap=True)
        else:
            self.speak(print_plain, line.plain)

    def warn(self, text: str) -> None:
        """A warning to the user, on stderr even when quiet; `warnings` keeps it for the run's provenance."""
        self.warnings.append(text)
        if not self.writes:
            return
        with contextlib.suppress(OSError, ValueError):
            print(f"warning: {printable(text)}", file=sys.stderr, flush=True)

    def speak(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Call a function that writes to stdout; once nobody listens (`| head`) say no more, and the run goes on."""
        try:
            function(*arguments, **options)
        except (OSError, ValueError):  # ValueError: the file is closed
            self.quiet, self.live = True, None
            with contextlib.suppress(OSError, ValueError):  # so that Python's own flush at exit does not fail again
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, sys.stdout.fileno())
                os.close(null)
