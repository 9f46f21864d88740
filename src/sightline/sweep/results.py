"""What a sweep leaves besides its runs: sweep.json, sweep.csv, best.yaml; and the line of a trial in a terminal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.files import load_recipe_file
from ..config.resolve import resolve, to_yaml
from ..errors import counted
from ..runs.atomic import atomic_write, finite, read_json, write_json
from ..runs.csv_io import csv_text
from ..runs.run_folder import Run
from ..runs.terminal import duration
from .board import Board
from .plan import Plan
from .space import as_typed, plain
from .trial import folder_of

COLUMNS = ("metric", "best_epoch", "epochs", "seconds", "train_flops", "message")


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, and what lies in its sweep.json."""

    path: Path

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def values(self) -> dict[str, Any]:
        found = read_json(self.path / "sweep.json")
        return found if isinstance(found, dict) else {}

    @property
    def trials(self) -> list[dict[str, Any]]:
        """A dict a trial, by number: state, values, value of the metric, epochs, seconds, message."""
        return self.values.get("trials", [])

    @property
    def best(self) -> Run | None:
        """The run of the best trial."""
        number = self.values.get("best")
        return None if number is None else Run(folder_of(self.path, number))


def ranked(plan_lowest: bool, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Whole trials that have runs of their own, the best first; of equal ones the earlier."""
    whole = [row for row in rows if row["state"] == "complete" and row["value"] is not None and row["same_as"] is None]
    return sorted(whole, key=lambda row: ((1 if plan_lowest else -1) * row["value"], row["trial"]))


def write_results(board: Board) -> Sweep:
    """sweep.json, sweep.csv and best.yaml as the trials stand; returns where they are."""
    plan, folder, rows = board.plan, board.folder, board.rows()
    best = next(iter(ranked(plan.lowest, rows)), None)
    values = {
        "format": 1,
        "name": plan.name,
        "metric": plan.metric,
        "lowest": plan.lowest,
        "sampler": "every combination" if board.walk else plan.sampler,
        "pruner": plan.pruner,
        "seed": plan.seed,
        "wanted": board.trials,
        "space": as_typed(plan.space),
        "log": [key for key, spec in plan.space.items() if getattr(spec, "log", False)],
        "fixed": {key: plain(value) for key, value in plan.fixed.items() if key != "train.best_metric"},
        "data": plan.data,
        "best": best and best["trial"],
        "trials": rows,
    }
    write_json(folder / "sweep.json", finite(values))
    atomic_write(folder / "sweep.csv", as_csv(plan, rows))
    recipe = folder_of(folder, best["trial"]) / "recipe.yaml" if best else None
    if recipe and recipe.is_file():
        atomic_write(folder / "best.yaml", to_yaml(resolve(load_recipe_file(recipe), {"name": f"{plan.name}-best"})))
    return Sweep(folder)


def as_csv(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A row a trial: number, state, the settings, then what became of it."""
    head = [plan.metric if column == "metric" else column for column in COLUMNS]
    lines: list[list[object]] = [["trial", "state", *plan.space, *head]]
    for row in rows:
        settings = [json.dumps(v) if isinstance(v := row["values"].get(key, ""), list | dict) else written(v)
                    for key in plan.space]  # fmt: skip
        own = [row["value"], row["best_epoch"], row["epochs"], row["seconds"], row["flops"]]
        lines.append([row["trial"], row["state"], *settings, *map(written, own), row["message"]])
    return csv_text(lines)


def written(value: Any) -> str:
    """A number with nine digits, anything else as it is typed; empty where there is none."""
    if value is None or value == "":
        return ""
    return f"{value:.9g}" if isinstance(value, float) else plain(value)


def line_of(row: Mapping[str, Any], metric: str, done: str, best: Mapping[str, Any] | None) -> str:
    """A finished trial for a terminal: number, metric, settings, how long, the best so far."""
    value = "" if row["value"] is None else f"{metric.replace('_', ' ')} {row['value']:.4f}"
    if row["state"] == "failed":
        value = f"failed: {row['message']}"
    elif row["state"] == "pruned":
        value += f", {row['message']}"
    settings = "  ".join(f"{key} {short(value)}" for key, value in row["values"].items())
    parts = [done, f"trial {row['trial']}", value, settings]
    if row["same_as"] is not None:
        parts.append(f"as trial {row['same_as']}")
    elif row["state"] == "complete":
        parts.append(f"{counted(int(row['epochs']), 'epoch')}, {duration(row['seconds'])}")
    if best is row:
        parts.append("(best)")
    elif best is not None:
        parts.append(f"best {best['value']:.4f} (trial {best['trial']})")
    return "  ".join(parts)


def short(value: Any) -> str:
    """A value of a setting in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else plain(value)
