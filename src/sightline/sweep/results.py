"""The result files of a sweep: sweep.json, sweep.csv and best.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.resolve import resolve, to_yaml
from ..data.sources.splits import OUTER
from ..errors import counted
from ..evaluate import evaluate
from ..runs.atomic import atomic_write, finite, read_json, write_json
from ..runs.csv_io import csv_text
from ..runs.run_folder import Run
from ..runs.terminal import duration
from ..tasks.files import load_recipe_file
from .page import COMPARED, DIGITS, described, ranked, trial_folder, value_text
from .plan import SweepPlan
from .space import format_value
from .study import SweepStudy


@dataclass(frozen=True)
class Sweep:
    """The folder of a sweep. values: the content of its sweep.json; {} if that file cannot be read."""

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
        """One dict per trial, in order: settings (`values`), state, metric (`value`), epochs, seconds, message and
        others."""
        return self.values.get("trials", [])

    @property
    def best(self) -> Run | None:
        """The run of the best trial; None if no trial is complete."""
        number = self.values.get("best")
        return None if number is None else Run(trial_folder(self.path, number))


def write_results(study: SweepStudy, reported: list[dict[str, Any]] | None = None) -> Sweep:
    """Write sweep.json, sweep.csv and best.yaml with the trials that have started so far.

    reported: results of trials on images that chose nothing; None: those in sweep.json.
    """
    plan, folder, rows = study.plan, study.folder, study.rows()
    lowest = plan.direction == "minimize"
    best = next(iter(ranked(rows, lowest)), None)
    reported = Sweep(folder).values.get("reported", []) if reported is None else reported
    values = {
        "format": 1,
        "name": plan.base.name,
        "metric": plan.metric,
        "lowest": lowest,
        "sampler": "every combination" if study.is_grid and study.trials >= len(plan.grid()) else plan.sampler,
        "pruner": plan.pruner,
        "seed": plan.seed,
        "wanted": study.trials,
        "space": {key: str(spec) for key, spec in plan.space.items()},
        "fixed": {key: format_value(value) for key, value in plan.fixed.items() if key != "train.best_metric"},
        "data": plan.data,
        "selection": {
            "split": "inner" if plan.first.data.inner_fraction else "val",
            "images": plan.data["images"]["val"],
        },
        "report_split": plan.report_split,
        "best": best and best["trial"],
        "reported": reported,
        "trials": rows,
    }
    write_json(folder / "sweep.json", finite(values))
    atomic_write(folder / "sweep.csv", as_csv(plan, rows, reported))
    recipe = trial_folder(folder, best["trial"]) / "recipe.yaml" if best else None
    if recipe and recipe.is_file():
        whole = {"name": f"{plan.base.name}-best", "data.inner_fraction": plan.base.data.inner_fraction}
        atomic_write(folder / "best.yaml", to_yaml(resolve(load_recipe_file(recipe), whole)))
    return Sweep(folder)


def report_best(study: SweepStudy) -> Sweep:
    """Evaluate the best trial on the split that chose nothing, and write the results again.

    On OUTER, the next best trials are evaluated too, for the comparison. A trial is evaluated once: repeating the
    command of a complete sweep is no further look at a test set.
    """
    plan, split = study.plan, study.plan.report_split
    best = ranked(study.rows(), plan.direction == "minimize")[: COMPARED if split == OUTER else 1]
    known = {(one["trial"], one["split"]): one for one in Sweep(study.folder).values.get("reported", [])}
    for number in [row["trial"] for row in best if split and (row["trial"], split) not in known]:
        found = evaluate(trial_folder(study.folder, number), split=split, quiet=True)
        kept = ("split", "images", plan.metric, f"{plan.metric}_interval", "look", "look_runs")
        known[number, split] = {"trial": number, **{key: found[key] for key in kept if key in found}}
        write_results(study, [*known.values()])  # at once, because evaluations may be looks at a test set
    return Sweep(study.folder)


def as_csv(plan: SweepPlan, rows: Sequence[Mapping[str, Any]], reported: Sequence[Mapping[str, Any]]) -> bytes:
    """The content of sweep.csv, one row per trial: number, state, settings and outcome.

    The metric is that on the images that chose the trials, `selected_on`; `reported` is that on `reported_on`.
    """
    head: list[object] = [
        "trial",
        "state",
        *plan.space,
        plan.metric,
        "best_epoch",
        "epochs",
        "seconds",
        "train_flops",
        "message",
    ]
    head += ["selected_on", "reported", "reported_on"]
    results = {one["trial"]: one for one in reported if one["split"] == plan.report_split}
    selected = "inner split of train" if plan.first.data.inner_fraction else "val"
    lines: list[list[object]] = [head]
    for row in rows:
        settings = [row["values"].get(key) for key in plan.space]
        numbers = [row[key] for key in ("value", "best_epoch", "epochs", "seconds", "flops")]
        cells = ["" if value is None else format_value(value) for value in (*settings, *numbers)]
        own = results.get(row["trial"], {})
        result = [own[plan.metric], own["split"]] if plan.metric in own else ["", ""]
        lines.append([row["trial"], row["state"], *cells, row["message"], selected, *result])
    return csv_text(lines)


def progress_line(study: SweepStudy, number: int, jobs: int) -> str:
    """The line that is printed when a trial has ended: count, metric, settings, duration, best value so far, time
    left."""
    rows = [row for row in study.rows() if row["state"] != "running"]
    row = next(row for row in rows if row["trial"] == number)
    best = next(iter(ranked(rows, study.plan.direction == "minimize")), None)
    metric, sign = study.plan.metric, "%" * described(study.plan.metric).percent
    parts = [f"{len(rows):>{len(str(study.trials))}}/{study.trials}", f"trial {number}"]
    if row["value"] is not None:
        parts.append(f"{metric.replace('_', ' ')} {value_text(metric, row['value'])}{sign}")
    if row["state"] != "complete":
        parts.append(row["message"] if row["state"] == "pruned" else f"failed: {row['message']}")
    parts += [f"{key} {format_value(value, DIGITS)}" for key, value in row["values"].items()]
    if row["same_as"] is not None:
        parts.append(f"same settings as trial {row['same_as']}")
    elif row["state"] == "complete":
        parts.append(f"{counted(int(row['epochs']), 'epoch')}, {duration(row['seconds'])}")
    if best is not None:
        value = value_text(metric, best["value"]) + sign
        parts.append("(best)" if best is row else f"best {value} (trial {best['trial']})")
    times, left = [row["seconds"] for row in rows if row["seconds"]], study.trials - len(rows)
    if times and left > 0:
        parts.append(f"about {duration(sum(times) / len(times) * left / jobs)} left")
    return "  ".join(parts)
