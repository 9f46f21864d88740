"""What a run says: metrics.jsonl for machines; for people a live line in a terminal, elsewhere a line an epoch."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .errors import SightlineError, printable
from .files import append_line, atomic_write, finite, read_json_lines

REFRESH_SECONDS = 0.25
WARM_UP_STEPS, ESTIMATE_STEPS = 5, 20  # the first steps allocate, compile and fill queues: they are not timed
EPOCH_LINE = ("loss", "metric", "val loss", "speed", "wait", "left")  # what fits is shown; the most wanted first
BEST = " (best)"
LIVE_LINE = ("loss", "left", "metric", "speed", "wait")
METRICS = ("accuracy", "mean_iou", "knn_accuracy")  # what an eval event is shown by: the first that it has


class RunLog:
    """The log of one run; use it in a `with` statement, so that the terminal is left as it was.

    `event` appends a line to metrics.jsonl, `tick` tells of a step, `say` and `warn` speak to the user. Everything
    may be called without a thought to cost (a tick takes microseconds) and none of it can end the run: where
    stdout is closed it falls silent, and where the disk is full metrics are lost with one warning.
    """

    def __init__(self, folder: Path, quiet: bool = False, clock: Callable[[], float] = time.monotonic):
        self.path = Path(folder) / "metrics.jsonl"
        self.quiet, self.clock = quiet, clock
        self.warnings: list[str] = []
        self.losing = False  # lines of metrics.jsonl, because the disk is full
        self.begin = clock()
        spent = [record.get("seconds") for record in read_json_lines(self.path)]
        self.spent_before = max((float(value) for value in spent if isinstance(value, int | float)), default=0.0)
        self.epochs = self.epoch_steps = self.step = 0
        self.timed_from: tuple[int, float] | None = None  # step and time after the warm-up
        self.ticks, self.next_refresh, self.estimated, self.doing = 0, 0.0, False, ""
        self.shown: dict[str, str] = {}  # the parts of the live line
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

    def plan(self, epochs: int, epoch_steps: int, step: int = 0) -> None:
        """Tell how long the run will be and at which step it is; without it no time left is shown."""
        self.epochs, self.epoch_steps, self.step = epochs, epoch_steps, step
        self.ticks, self.timed_from, self.estimated = 0, None, False

    def rewind(self, step: int, seconds: float) -> None:
        """Before going on from `step`: drop what was logged after it, so that one continuous curve is left.

        seconds: what the run had taken at that step.
        """
        records = read_json_lines(self.path)
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
            append_line(self.path, json.dumps(record, ensure_ascii=False, allow_nan=False))
        except SightlineError as error:
            if not self.losing:
                self.warn(f"metrics are being lost: {error.what}: {error.why}")
            self.losing = True
        if name == "train":
            self.step = max(self.step, step)
            self.shown |= train_parts(record)
            self.refresh()
        elif name == "eval":
            self.shown |= eval_parts(record)
            self.say_line(epoch_line(int(epoch), self.epochs, self.shown | {"left": self.time_left()}, self.width()))
            self.shown.pop("val loss", None)

    def tick(self, step: int, doing: str = "") -> None:
        """After every step, or while the run does something else (`doing="validating"`). Costs microseconds."""
        self.step, self.doing, self.ticks = step, doing, self.ticks + 1
        now = self.clock()
        if self.ticks == WARM_UP_STEPS:
            self.timed_from = (step, now)
        elif self.ticks == ESTIMATE_STEPS and self.timed_from and self.epochs:
            first, since = self.timed_from
            whole = eta_seconds(step - first, self.epochs * self.epoch_steps, now - since)
            plural = "s" if self.epochs > 1 else ""
            self.say(f"about {duration(whole)} for {self.epochs} epoch{plural} on this machine, without evaluation")
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

    def time_left(self) -> str:
        """`12 min left`, or nothing while it cannot be known."""
        if self.timed_from is None or not self.epochs:
            return ""
        first, since = self.timed_from
        left = self.epochs * self.epoch_steps - self.step
        if left <= 0 or self.step <= first:
            return ""
        return f"{duration(eta_seconds(self.step - first, left, self.clock() - since))} left"

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


def is_rich_terminal() -> bool:
    """Whether stdout can show a line that moves, drawn with characters beyond ASCII."""
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return "utf" in (sys.stdout.encoding or "").lower()


def print_plain(text: str) -> None:
    """Print a line whatever the encoding of stdout can hold."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def train_parts(record: dict[str, Any]) -> dict[str, str]:
    """What of a train event is shown."""
    parts = {}
    if record.get("loss") is not None:
        parts["loss"] = f"loss {record['loss']:.3f}"
    if record.get("images_per_second") is not None:
        parts["speed"] = f"{record['images_per_second']:,.0f} images/s"
    if record.get("data_wait") is not None:
        parts["wait"] = f"data wait {100 * record['data_wait']:.0f} %"
    return parts


def eval_parts(record: dict[str, Any]) -> dict[str, str]:
    """What of an eval event is shown."""
    parts = {}
    if record.get("loss") is not None:
        parts["val loss"] = f"val loss {record['loss']:.3f}"
    metric = next((name for name in METRICS if record.get(name) is not None), None)
    if metric:
        parts["metric"] = f"{metric.replace('_', ' ')} {record[metric]:.4f}" + (BEST if record.get("best") else "")
    return parts


def chosen(parts: dict[str, str], wanted: tuple[str, ...], room: int | None) -> list[str]:
    """Names of the parts that fit into `room` columns, in the order in which they are shown."""
    present = [name for name in wanted if parts.get(name)]
    while room is not None and present and sum(2 + len(parts[name]) for name in present) > room:
        present.pop()
    return [name for name in ("loss", "val loss", "metric", "speed", "wait", "left") if name in present]


def epoch_line(epoch: int, epochs: int, parts: dict[str, str], width: int | None = None) -> Text:
    """`epoch  12/50  loss 1.234  val loss 1.100  accuracy 0.7811 (best)  812 images/s  data wait 1 %  2 min left`."""
    number = f"{epoch}/{epochs}" if epochs else str(epoch)
    line = Text(end="").append(f"epoch {number:>6}", style="bold")
    best = parts.get("metric", "").endswith(BEST)
    if not best and "metric" in parts:
        parts = parts | {"metric": parts["metric"] + " " * len(BEST)}  # the columns behind it stay in line
    for name in chosen(parts, EPOCH_LINE, width and width - len(line)):
        line.append("  ").append(parts[name], style="green" if best and name == "metric" else style(name))
    line.rstrip()
    return line


def live_line(step: int, epoch_steps: int, epochs: int, parts: dict[str, str], width: int) -> Text:
    """The moving line: epoch, a bar for the part of it that is done, numbers; never wider than `width`."""
    epoch, done = divmod(step, epoch_steps) if epoch_steps else (0, 0)
    if step and epoch_steps and not done:  # the end of an epoch, not the beginning of the next
        epoch, done = epoch - 1, epoch_steps
    share = done / epoch_steps if epoch_steps else 0.0
    head = f"epoch {f'{epoch + 1}/{epochs}':>6}" if epochs else f"step {step:,}"
    names = chosen(parts, LIVE_LINE, width - len(head) - 21)
    size = max(0, min(30, width - len(head) - 9 - sum(2 + len(parts[name]) for name in names)))
    full = round(share * size)
    line = Text(end="", no_wrap=True, overflow="ellipsis").append(head, style="bold")
    line.append("  ").append("━" * full, style="cyan").append("━" * (size - full), style="bright_black")
    line.append(f" {100 * share:3.0f} %", style="cyan")
    for name in names:
        line.append("  ").append(parts[name], style=style(name))
    return line


def style(name: str) -> str:
    """The look of a part: numbers to be read plainly, the rest dimmer."""
    return "" if name in ("loss", "val loss", "metric") else "bright_black"


def eta_seconds(done_steps: int, left_steps: int, seconds: float) -> float:
    """Seconds for `left_steps` where `done_steps` took `seconds`; 0 where nothing is known, and never negative."""
    if done_steps <= 0 or left_steps <= 0 or not math.isfinite(seconds):
        return 0.0
    return max(0.0, seconds) / done_steps * left_steps


def duration(seconds: float) -> str:
    """`48 s`, `27 min`, `1 h 12 min`, `2 d 3 h`: two units at most, nothing finer than anyone reads."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(hours + minutes / 60), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
