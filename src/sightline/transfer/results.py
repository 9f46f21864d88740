"""The transfer grid as numbers, as text and as a page: a table, a drawing, and a sentence for every comparison."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..insight.curves import draw_metric, history, number
from ..insight.style import BLUE, INK, MUTED, new_figure, png, styled
from ..report.run import UNREADABLE, read_predictions
from ..runs.atomic import atomic_write, read_json_lines
from ..runs.run_folder import provenance
from ..stats.intervals import seeded_bootstrap, verdict
from ..tasks.pretrain.collapse import collapse
from .grid import COMPARISONS, PRETRAININGS, WAYS, Grid
from .outcomes import GridResult, Outcome
from .page import grid_page


def read_results(folder: Path, grid: Grid) -> GridResult:
    """The numbers of the runs in a grid's folder that are finished."""
    outcomes, missing, notes = [], [], []
    images: tuple[str, ...] = ()
    for setting in grid.settings:
        seeds, rows, seconds = [], [], []
        for seed in grid.seeds:
            run = folder / f"{setting}-{seed}"
            done = [r for r in read_json_lines(run / "metrics.jsonl") if r.get("event") == "done"]
            try:
                predictions = read_predictions(run / "predictions" / "val.csv") if done else None
            except UNREADABLE as error:
                notes.append(f"{run.name}: its predictions cannot be read ({error})")
                predictions = None
            if predictions is None:
                missing.append(run.name)
                continue
            images = images or predictions.names
            if predictions.names != images:
                notes.append(f"{run.name} was validated on other images and is left out")
                continue
            seeds.append(seed)
            rows.append(predictions.predicted == predictions.truth)
            seconds.append(number(done[-1].get("seconds"), 0.0))
        if rows:
            correct = np.stack(rows)
            accuracy, interval = seeded_bootstrap(correct)
            outcomes.append(Outcome(setting, tuple(seeds), correct, accuracy, interval, float(np.mean(seconds))))
    notes += [*collapsed(pretraining_of(folder, grid)), *unequal(folder, grid)]
    return GridResult(folder, tuple(outcomes), compared(outcomes), tuple(missing), tuple(notes))


def collapsed(pretraining: Path) -> list[str]:
    """[what the last evaluation of the pre-training says of a collapse], or []."""
    evaluations = [r for r in read_json_lines(pretraining / "metrics.jsonl") if r.get("event") == "eval"]
    last = evaluations[-1] if evaluations else {}
    alarm = collapse(
        {name: value for name in ("feature_std", "effective_rank") if (value := last.get(name)) is not None}
    )
    return [f"the pre-training without labels has {alarm}"] if alarm else []


def compared(outcomes: list[Outcome]) -> tuple[tuple[str, str, float, tuple[float, float], str], ...]:
    """Every comparison of COMPARISONS whose settings are there."""
    known, found = {outcome.setting: outcome for outcome in outcomes}, []
    for first, second in COMPARISONS:
        if first in known and second in known:
            difference, interval = seeded_bootstrap(known[first].correct, known[second].correct)
            found.append((first, second, difference, interval, verdict(difference, interval, first, second)))
    return tuple(found)


def text_table(result: GridResult) -> str:
    """The grid for a terminal: a line a setting, a sentence a comparison."""
    lines = [f"\n{'':<3}{'pre-training':<16}{'trained':<12}{'accuracy':>8}  {'95 % interval':<17} each seed"]
    for outcome in result.outcomes:
        low, high = outcome.interval
        each = " ".join(f"{value:.4f}" for value in outcome.accuracies)
        edges = f"[{low:.4f}, {high:.4f}]"
        start, tune = WAYS[outcome.setting].words
        lines.append(f"{outcome.setting:<3}{start:<16}{tune:<12}{outcome.accuracy:>8.4f}  {edges:<17} {each}")
    lines += ["", *(sentence for *_, sentence in result.comparisons), *result.notes]
    return "\n".join(lines)


def write_grid_report(folder: Path, grid: Grid) -> GridResult:
    """grid.csv, grid.json, figures/*.png and report.html of a grid's folder, from what its runs left on disk; returns
    their numbers."""
    result = read_results(folder, grid)
    write_tables(folder, result)
    figures = {name: png(draw()) for name, draw in plan_grid(pretraining_of(folder, grid), result).items()}
    for name, data in figures.items():
        atomic_write(folder / "figures" / f"{name}.png", data)
    atomic_write(folder / "report.html", grid_page(folder, grid, result, figures))
    return result


def write_tables(folder: Path, result: GridResult) -> None:
    """grid.csv, a row a run, and grid.json with the intervals and comparisons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["setting", "seed", "accuracy", "images"])
    for outcome in result.outcomes:
        for seed, row in zip(outcome.seeds, outcome.correct, strict=True):
            writer.writerow([outcome.setting, seed, f"{row.mean():.9g}", len(row)])
    atomic_write(folder / "grid.csv", text.getvalue())
    values = {
        "settings": {
            o.setting: {"accuracy": o.accuracy, "interval": o.interval, "seeds": o.seeds, "accuracies": o.accuracies}
            for o in result.outcomes
        },
        "comparisons": [
            {"first": first, "second": second, "difference": difference, "interval": interval, "sentence": sentence}
            for first, second, difference, interval, sentence in result.comparisons
        ],
        "missing": result.missing,
        "notes": result.notes,
    }
    atomic_write(folder / "grid.json", json.dumps(values, indent=2) + "\n")


def pretraining_of(folder: Path, grid: Grid, stage: str = "unlabeled") -> Path:
    """The run of a pre-training: the one that was given, or the grid's own."""
    given = getattr(grid, f"{stage}_weights")
    return Path(given) if given else folder / f"pretrain-{stage}"


def unequal(folder: Path, grid: Grid) -> list[str]:
    """[how many images each pre-training has seen], where both are known and differ."""
    counts = []
    for stage in PRETRAININGS:
        data = provenance(pretraining_of(folder, grid, stage)).get("data")
        counts.append(data.get("counts", {}).get("train") if isinstance(data, dict) else None)
    if None in counts or counts[0] == counts[1]:
        return []
    return [
        f"The pre-training with labels saw {counts[0]:,} images and chose its epoch by others; that without labels saw "
        f"{counts[1]:,}."
    ]


def plan_grid(pretraining: Path, result: GridResult) -> dict[str, Callable[[], Figure]]:
    """What to draw, by name."""
    todo: dict[str, Callable[[], Figure]] = {}
    if result.outcomes:
        todo["grid"] = lambda: draw_grid(result.outcomes)
    past = history(read_json_lines(pretraining / "metrics.jsonl"))
    if np.isfinite(past.evaluation["knn_accuracy"]).any():
        todo["curve-knn-accuracy"] = lambda: draw_metric(past, "knn_accuracy", "k-NN accuracy while pre-training, %")
    return todo


@styled
def draw_grid(outcomes: tuple[Outcome, ...]) -> Figure:
    """A row a setting: its accuracy with the interval, and each seed as a dot."""
    drawing = new_figure(6.4, 0.9 + 0.42 * len(outcomes))
    axes = drawing.add_subplot()
    for place, outcome in enumerate(reversed(outcomes)):
        low, high = (100 * edge for edge in outcome.interval)
        axes.plot([low, high], [place, place], color=BLUE, linewidth=2.2, solid_capstyle="round")
        axes.plot(
            [100 * value for value in outcome.accuracies], [place] * len(outcome.seeds), "o", color=MUTED, markersize=3
        )
        axes.plot([100 * outcome.accuracy], [place], "o", color=BLUE, markersize=7)
        axes.annotate(f"{100 * outcome.accuracy:.1f}", (100 * outcome.accuracy, place), xytext=(0, 6),
                      textcoords="offset points", ha="center", fontsize=8, color=INK)  # fmt: skip
    labels = [f"{', '.join(WAYS[o.setting].words)}  {o.setting}" for o in reversed(outcomes)]
    axes.set_yticks(range(len(outcomes)), labels)
    axes.set_ylim(-0.6, len(outcomes) - 0.3)
    axes.set_xlabel("validation accuracy, %")
    return drawing
