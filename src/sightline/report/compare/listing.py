"""The command `sightline runs`: a table of all runs below a folder, newest first."""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import SightlineError, nearest_path, printable
from ...insight.curves import history
from ...runs.atomic import read_json_lines
from ...runs.lock import is_locked
from ...runs.run_folder import NOT_FINITE, provenance
from ...runs.terminal import METRICS

GAP = "  "
NARROW = ("minutes", "data", "started")
"""Columns that are left out of a narrow table, the first first."""


@dataclass(frozen=True)
class ListedRun:
    """A run in the table. path: of its folder. name: the path relative to the folder that is listed. data: path of the
    data. started: in ISO 8601, or "". metric, value: its most important metric, of the validation images. interval: of
    the value, once the run has finished. minutes: time of training. state: finished, running (another process writes
    into the folder), stopped (its training ended, but not its last evaluation), failed (by an error that is recorded
    in its folder) or interrupted (otherwise)."""

    path: str
    name: str
    data: str
    started: str
    metric: str
    value: float | None
    interval: tuple[float, float] | None
    minutes: float
    state: str


def runs_below(folder: str | os.PathLike[str] = "runs") -> list[ListedRun]:
    """All runs below `folder`, or this run itself; newest first. Raises SightlineError if there is no such folder.

    Each has the fields path, name, data, started, metric, value, interval, minutes and state, as in the table of
    `sightline runs`: `[run.path for run in sightline.runs_below() if run.state == "finished"]`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        cure = f"{nearest_path(folder)}; give the folder in which the runs are: sightline runs FOLDER"
        raise SightlineError("there is no such folder", where=str(folder), cure=cure)
    paths = sorted(run_folders(folder))
    return sorted((listed_run(path, folder) for path in paths), key=start_time, reverse=True)


def run_folders(folder: Path) -> Iterator[Path]:
    """Folders below `folder`, or itself, with a recipe and a log. Folders inside of runs are not searched."""
    for path, folders, files in os.walk(folder):
        if "recipe.yaml" in files and ("metrics.jsonl" in files or "provenance.json" in files or ".lock" in files):
            folders.clear()
            yield Path(path)


def listed_run(path: Path, folder: Path) -> ListedRun:
    """Read the row of a run; a missing or damaged file leaves its cells empty."""
    try:
        records = read_json_lines(path / "metrics.jsonl")
    except SightlineError:
        records = []
    past, origin = history(records), provenance(path)
    last = next((record for record in reversed(records) if record.get("event") in ("done", "resume", "stop")), {})
    failed = (path / NOT_FINITE).is_file()
    ended = "stopped" if past.stop else "failed" if failed else "interrupted"
    state = "finished" if past.finished else "running" if is_locked(path) else ended
    best = [record for record in records if record.get("event") == "eval" and record.get("best")]
    metric, value, interval = headline(last if past.finished else best[-1] if best else {})
    data = origin.get("data")
    return ListedRun(
        path=str(path),
        name=os.path.relpath(path, folder) if path != folder else path.resolve().name,
        data=str(data.get("path") or "") if isinstance(data, dict) else "",
        started=str(origin.get("started") or ""),
        metric=metric,
        value=value,
        interval=interval,
        minutes=round(past.seconds / 60, 2),
        state=state,
    )


def headline(record: dict[str, Any]) -> tuple[str, float | None, tuple[float, float] | None]:
    """(name, value, interval or None) of the most important metric in a record of the log: one of METRICS, else the
    first number that has an interval."""
    others = [key.removesuffix("_interval") for key in record if key.endswith("_interval") and key != "loss_interval"]
    name = next((name for name in (*METRICS, *others) if isinstance(record.get(name), float)), "")
    edges = record.get(f"{name}_interval")
    known = isinstance(edges, list) and len(edges) == 2 and all(isinstance(edge, float) for edge in edges)
    return name, record.get(name), (edges[0], edges[1]) if known and edges is not None else None


def start_time(run: ListedRun) -> float:
    """Seconds since 1970 at the start of the run, by which runs are sorted; without a record of it, the time at which
    its recipe was written."""
    try:
        return time.mktime(time.strptime(run.started[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return (Path(run.path) / "recipe.yaml").stat().st_mtime


def as_json(run: ListedRun) -> dict[str, Any]:
    """The row as a JSON object, with the interval as a list."""
    return asdict(run) | {"interval": list(run.interval) if run.interval else None}


def table(runs: list[ListedRun], width: int | None = None) -> str:
    """The runs as a table of at most `width` columns, if at least the names, metrics and states fit; None: no limit."""
    rows = [cells(run) for run in runs]
    names = list(rows[0])
    while True:
        sizes = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
        total = sum(sizes.values()) + len(GAP) * (len(names) - 1)
        hidden = next((name for name in NARROW if name in names), "")
        if width is None or total <= width or not hidden:
            break
        names.remove(hidden)
    if width is not None and total > width:
        sizes["run"] = max(12, sizes["run"] - (total - width))
    head = {name: name for name in names}
    return "\n".join(
        GAP.join(shortened(row[name], sizes[name]).ljust(sizes[name]) for name in names).rstrip()
        for row in [head, *rows]
    )


def cells(run: ListedRun) -> dict[str, str]:
    """The texts of a row, by column."""
    value = "" if run.value is None else f"{run.metric.replace('_', ' ')} {run.value:.4f}"
    edges = f" [{run.interval[0]:.4f}, {run.interval[1]:.4f}]" if run.interval else ""
    return {
        "run": printable(run.name),
        "data": printable(os.path.basename(run.data.rstrip("/" + os.sep))),
        "metric": value + edges,
        "minutes": f"{run.minutes:.1f}",
        "state": run.state,
        "started": run.started[:16].replace("T", " "),
    }


def shortened(text: str, size: int) -> str:
    """The text with at most `size` characters; the end of a path is kept, in which names differ."""
    return text if len(text) <= size else "..." + text[len(text) - size + 3 :]
