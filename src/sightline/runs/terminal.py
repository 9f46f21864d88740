"""Format the lines of the log for a terminal, and a run for a notebook: functions without state."""

import base64
import html
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.text import Text

from ..errors import printable

EPOCH_LINE = ("loss", "metric", "val loss", "speed", "wait", "left")  # by priority, as far as they fit
BEST = " (best)"
LIVE_LINE = ("loss", "left", "metric", "speed", "wait")
METRICS = ("accuracy", "mean_iou", "knn_accuracy")  # the first in an eval event is displayed, else its first number
NO_METRICS = ("seconds", "epoch", "loss")
LEAD = re.compile(r'<p class="lead">.*?</p>', re.DOTALL)
SMALL_CURVES = ("curve-learning-rate", "curve-gradient-norm", "curve-data-wait")
MISTAKES = ("mistakes", "worst")
"""Figures of the images with the worst predictions, of classifiers and of segmenters."""
MOST_CURVES, CURVE_PIXELS, MISTAKES_PIXELS = 2, 320, 660
FONT = "font: 14px/1.5 system-ui, sans-serif; max-width: 72ch"


def is_rich_terminal() -> bool:
    """Whether stdout is a terminal that supports cursor movement and Unicode."""
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return "utf" in (sys.stdout.encoding or "").lower()


def print_plain(text: str, file: TextIO | None = None) -> None:
    """Print text to `file` (default stdout); control characters and unencodable characters are escaped."""
    stream = sys.stdout if file is None else file
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def print_warning(text: str) -> None:
    """Print a text that is a warning; others are left out."""
    if text.startswith("warning:"):
        print_plain(text)


def print_path(path: str | os.PathLike[str]) -> None:
    """Print a path: to a terminal with control characters escaped, to a pipe as its exact bytes."""
    stream = sys.stdout
    raw = getattr(stream, "buffer", None)
    if raw is None or stream.isatty():
        print_plain(os.fspath(path))
        return
    stream.flush()
    raw.write(os.fsencode(path) + os.linesep.encode())
    raw.flush()


def train_parts(record: dict[str, Any]) -> dict[str, str]:
    """Parts of the epoch line from a train event of metrics.jsonl: {name: text}, such as `loss 1.234`."""
    parts = {}
    if record.get("loss") is not None:
        parts["loss"] = f"loss {record['loss']:.3f}"
    if record.get("images_per_second") is not None:
        parts["speed"] = f"{record['images_per_second']:,.0f} images/s"
    if record.get("data_wait") is not None:
        parts["wait"] = f"data wait {100 * record['data_wait']:.0f} %"
    return parts


def eval_parts(record: dict[str, Any]) -> dict[str, str]:
    """Parts of the epoch line from an eval event of metrics.jsonl: {name: text}, such as `accuracy 0.7811`."""
    parts = {}
    if record.get("loss") is not None:
        parts["val loss"] = f"val loss {record['loss']:.3f}"
    numbers = [name for name, value in record.items() if isinstance(value, float) and name not in NO_METRICS]
    metric = next((name for name in (*METRICS, *numbers) if record.get(name) is not None), None)
    if metric:
        parts["metric"] = f"{metric.replace('_', ' ')} {record[metric]:.4f}" + (BEST if record.get("best") else "")
    return parts


def fitting_parts(parts: dict[str, str], wanted: tuple[str, ...], room: int | None) -> list[str]:
    """Names of the parts that fit into `room` columns (None: no limit), in display order. wanted: names of the
    parts, the most important first."""
    present = [name for name in wanted if parts.get(name)]
    while room is not None and present and sum(2 + len(parts[name]) for name in present) > room:
        present.pop()
    return [name for name in ("loss", "val loss", "metric", "speed", "wait", "left") if name in present]


def epoch_line(epoch: int, epochs: int, parts: dict[str, str], width: int | None = None) -> Text:
    """The line that is printed after each epoch, such as `epoch 12/50 loss 1.234 val loss 1.100 accuracy 0.7811
    (best) 812 images/s data wait 1 % 2 min left`."""
    number = f"{epoch}/{epochs}" if epochs else str(epoch)
    line = Text(end="").append(f"epoch {number:>6}", style="bold")
    best = parts.get("metric", "").endswith(BEST)
    if not best and "metric" in parts:
        parts = parts | {"metric": parts["metric"] + " " * len(BEST)}  # keeps the following columns aligned
    for name in fitting_parts(parts, EPOCH_LINE, width and width - len(line)):
        line.append("  ").append(parts[name], style="green" if best and name == "metric" else style(name))
    line.rstrip()
    return line


def live_line(step: int, epoch_steps: int, epochs: int, parts: dict[str, str], width: int) -> Text:
    """The live line: epoch, progress bar within the epoch, numbers; at most `width` columns."""
    epoch, done = divmod(step, epoch_steps) if epoch_steps else (0, 0)
    if step and epoch_steps and not done:  # the end of an epoch, not the start of the next
        epoch, done = epoch - 1, epoch_steps
    share = done / epoch_steps if epoch_steps else 0.0
    head = f"epoch {f'{epoch + 1}/{epochs}':>6}" if epochs else f"step {step:,}"
    names = fitting_parts(parts, LIVE_LINE, width - len(head) - 21)
    size = max(0, min(30, width - len(head) - 9 - sum(2 + len(parts[name]) for name in names)))
    full = round(share * size)
    line = Text(end="", no_wrap=True, overflow="ellipsis").append(head, style="bold")
    line.append("  ").append("━" * full, style="cyan").append("━" * (size - full), style="bright_black")
    line.append(f" {100 * share:3.0f} %", style="cyan")
    for name in names:
        line.append("  ").append(parts[name], style=style(name))
    return line


def style(name: str) -> str:
    """The style of a part for the library rich: plain for losses and metrics, dim for others."""
    return "" if name in ("loss", "val loss", "metric") else "bright_black"


def eta_seconds(done: float, left: float, seconds: float) -> float:
    """Estimated seconds for `left` steps after `done` steps took `seconds`; 0 if unknown, never negative."""
    if done <= 0 or left <= 0 or not math.isfinite(seconds):
        return 0.0
    return max(0.0, seconds) / done * left


def duration(seconds: float) -> str:
    """Format a duration with at most two units: `48 s`, `27 min`, `1 h 12 min`, `2 d 3 h`."""
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


def epoch_means(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Combine the train events of an epoch, each with its number of `steps`, into one for the epoch line. The loss
    is the mean over steps, the speed is total images / total time, and `data wait` is a share of the total time."""
    means: dict[str, Any] = {}
    losses = [(r["loss"], r["steps"]) for r in records if r.get("loss") is not None]
    if losses:
        means["loss"] = sum(loss * steps for loss, steps in losses) / max(sum(steps for _, steps in losses), 1)
    timed = [r for r in records if r.get("images_per_second")]
    times = [r["steps"] / r["images_per_second"] for r in timed]  # in batches, which are nearly equal
    if sum(times) > 0:
        means["images_per_second"] = sum(r["steps"] for r in timed) / sum(times)
        waits = [r.get("data_wait") or 0.0 for r in timed]
        means["data_wait"] = sum(wait * time for wait, time in zip(waits, times, strict=True)) / sum(times)
    return means


def run_html(folder: Path, metrics: Mapping[str, Any]) -> str:
    """A finished run: the first sentence of its report, its curves, its mistakes, and a link to the report.

    An unfinished run: its path and how to resume it. metrics: of the run, {} if it is unfinished. Everything is read
    from the run folder, and images are embedded, so that a notebook shows them without the folder.
    """
    name = html.escape(printable(folder))
    if not metrics:
        return f"<p>Unfinished run <code>{name}</code>. To resume it: <code>sightline.resume(run)</code>.</p>"
    report, figures = folder / "report.html", folder / "figures"
    lead = LEAD.search(report.read_text(encoding="utf-8")) if report.is_file() else None
    curves = sorted(figures.glob("curve-*.png"), key=lambda path: (path.stem != "curve-loss", path.stem))
    curves = [path for path in curves if path.stem not in SMALL_CURVES][:MOST_CURVES]
    parts = [lead.group() if lead else f"<p>Run <code>{name}</code></p>"]
    parts += [image(path, CURVE_PIXELS) for path in curves]
    mistakes = [figures / f"{name}.png" for name in MISTAKES if (figures / f"{name}.png").is_file()]
    parts += [f"<p>Mistakes:</p>{image(path, MISTAKES_PIXELS)}" for path in mistakes[:1]]
    if report.is_file():
        # A link of a notebook is relative to the notebook, whose folder is the working directory of its kernel.
        link = html.escape(Path(os.path.relpath(report)).as_posix(), quote=True)
        parts.append(f'<p><a href="{link}" target="_blank">Open the report</a>, or <code>run.open_report()</code></p>')
    return f'<div style="{FONT}">{"".join(parts)}</div>'


def image(path: Path, width: int) -> str:
    """An embedded PNG with the name of its file as alternative text."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = html.escape(path.stem.replace("-", " "), quote=True)
    return f'<img src="data:image/png;base64,{data}" alt="{text}" style="max-width: min(100%, {width}px)">'
