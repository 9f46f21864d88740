"""Compute the results of a transfer grid from its run folders, and write its tables, figures and page."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..insight.curves import MetricCurve, draw_metric, history, number
from ..insight.style import BLUE, INK, MUTED, new_figure, png, styled
from ..report.run import UNREADABLE, read_predictions
from ..runs.atomic import atomic_write, read_json_lines
from ..runs.csv_io import csv_text
from ..runs.run_folder import provenance
from ..stats.intervals import verdict
from ..stats.nested import nested_difference, nested_mean
from ..stats.paired import holm_levels
from ..tasks.pretrain.collapse import collapse
from .grid import COMPARISONS, PRETRAININGS, SETTINGS, Grid
from .outcomes import GridResult, SettingResult
from .page import grid_page

KNN = MetricCurve("knn_accuracy", "k-NN accuracy during pre-training")


def read_results(folder: Path, grid: Grid) -> GridResult:
    """Read the finished runs in a grid's folder.

    Runs whose predictions cannot be read, or that have other validation images than the first run, are left out.
    """
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
                notes.append(f"the predictions of {run.name} cannot be read ({error})")
                predictions = None
            if predictions is None:
                missing.append(run.name)
                continue
            images = images or predictions.names
            if predictions.names != images:
                notes.append(f"{run.name} was evaluated on other validation images and is left out")
                continue
            seeds.append(seed)
            rows.append(predictions.predicted == predictions.truth)
            seconds.append(number(done[-1].get("seconds"), 0.0))
        if rows:
            correct = np.stack(rows)
            accuracy, interval = nested_mean(correct[None])
            outcomes.append(SettingResult(setting, tuple(seeds), correct, accuracy, interval, float(np.mean(seconds))))
    notes += [*collapse_notes(pretraining_folder(folder, grid)), *image_count_notes(folder, grid)]
    return GridResult(folder, tuple(outcomes), compare_settings(outcomes), tuple(missing), tuple(notes))


def collapse_notes(pretraining: Path) -> list[str]:
    """A warning if the features had collapsed at the last evaluation of the pre-training without labels, else [].

    pretraining: the folder of its run.
    """
    evaluations = [r for r in read_json_lines(pretraining / "metrics.jsonl") if r.get("event") == "eval"]
    last = evaluations[-1] if evaluations else {}
    measured = {name: last[name] for name in ("feature_std", "effective_rank") if last.get(name) is not None}
    warning = collapse(measured, "unlabeled.")
    return [f"the pre-training without labels has {warning}"] if warning else []


def compare_settings(outcomes: list[SettingResult]) -> tuple[tuple[str, str, float, tuple[float, float], str], ...]:
    """Compare the pairs in COMPARISONS for which both settings have finished runs.

    Returns (first, second, difference in accuracy, its interval, sentence) for each pair.
    """
    correct = {outcome.setting: outcome.correct[None] for outcome in outcomes}
    pairs = [pair for pair in COMPARISONS if set(pair) <= correct.keys()]
    apart = [nested_difference(correct[first], correct[second]) for first, second in pairs]
    found = []
    for (first, second), each, level in zip(pairs, apart, holm_levels([each.p for each in apart]), strict=True):
        interval = each.interval(level)
        found.append((first, second, each.value, interval, verdict(each.value, interval, first, second)))
    return tuple(found)


def text_table(result: GridResult) -> str:
    """Format the results as text: one line per setting, one sentence per comparison, the notes."""
    lines = [f"\n{'':<3}{'pre-training':<16}{'trained':<12}{'accuracy':>8}  {'95% interval':<17} each seed"]
    for outcome in result.outcomes:
        low, high = outcome.interval
        each = " ".join(f"{value:.4f}" for value in outcome.accuracies)
        edges = f"[{low:.4f}, {high:.4f}]"
        pretraining, trained = SETTINGS[outcome.setting].description
        lines.append(f"{outcome.setting:<3}{pretraining:<16}{trained:<12}{outcome.accuracy:>8.4f}  {edges:<17} {each}")
    lines += ["", *(sentence for *_, sentence in result.comparisons), *result.notes]
    return "\n".join(lines)


def write_grid_report(folder: Path, grid: Grid) -> GridResult:
    """Write grid.csv, grid.json, figures/*.png and report.html from the runs of a grid; returns the results."""
    result = read_results(folder, grid)
    write_tables(folder, result)
    figures = {name: png(draw()) for name, draw in plan_grid(pretraining_folder(folder, grid), result).items()}
    for name, data in figures.items():
        atomic_write(folder / "figures" / f"{name}.png", data)
    atomic_write(folder / "report.html", grid_page(folder, grid, result, figures))
    return result


def write_tables(folder: Path, result: GridResult) -> None:
    """Write grid.csv with one row per run, and grid.json with intervals and comparisons."""
    rows = [["setting", "seed", "accuracy", "images"]]
    for outcome in result.outcomes:
        for seed, row in zip(outcome.seeds, outcome.correct, strict=True):
            rows.append([outcome.setting, str(seed), f"{row.mean():.9g}", str(len(row))])
    atomic_write(folder / "grid.csv", csv_text(rows))
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


def pretraining_folder(folder: Path, grid: Grid, stage: str = "unlabeled") -> Path:
    """The path of the pre-training of a stage: the weights that were given, or else a run in the grid's folder."""
    given = getattr(grid, f"{stage}_weights")
    return Path(given) if given else folder / f"pretrain-{stage}"


def image_count_notes(folder: Path, grid: Grid) -> list[str]:
    """A note if the two pre-trainings had different numbers of training images, else []."""
    counts = []
    for stage in PRETRAININGS:
        data = provenance(pretraining_folder(folder, grid, stage)).get("data")
        counts.append(data.get("counts", {}).get("train") if isinstance(data, dict) else None)
    if None in counts or counts[0] == counts[1]:
        return []
    return [
        f"The pre-training with labels used {counts[0]:,} images, plus validation images to select its epoch; the "
        f"pre-training without labels used {counts[1]:,}."
    ]


def plan_grid(pretraining: Path, result: GridResult) -> dict[str, Callable[[], Figure]]:
    """Plan the figures: accuracies by setting, k-NN accuracy during pre-training. Returns functions that draw, by name.

    pretraining: the run folder of the pre-training without labels.
    """
    todo: dict[str, Callable[[], Figure]] = {}
    if result.outcomes:
        todo["grid"] = lambda: draw_grid(result.outcomes)
    past = history(read_json_lines(pretraining / "metrics.jsonl"))
    if KNN.drawn_for(past):
        todo[f"curve-{KNN.name}"] = lambda: draw_metric(past, KNN)
    return todo


@styled
def draw_grid(outcomes: tuple[SettingResult, ...]) -> Figure:
    """Draw one row per setting: the mean accuracy with its interval, and a small dot for each seed."""
    drawing = new_figure(6.4, 0.9 + 0.42 * len(outcomes))
    axes = drawing.add_subplot()
    for row, outcome in enumerate(reversed(outcomes)):
        low, high = (100 * edge for edge in outcome.interval)
        axes.plot([low, high], [row, row], color=BLUE, linewidth=2.2, solid_capstyle="round")
        seeds = [100 * value for value in outcome.accuracies]
        axes.plot(seeds, [row] * len(seeds), "o", color=MUTED, markersize=3)
        axes.plot([100 * outcome.accuracy], [row], "o", color=BLUE, markersize=7)
        axes.annotate(f"{100 * outcome.accuracy:.1f}", (100 * outcome.accuracy, row), xytext=(0, 6),
                      textcoords="offset points", ha="center", fontsize=8, color=INK)  # fmt: skip
    labels = [f"{', '.join(SETTINGS[o.setting].description)}  {o.setting}" for o in reversed(outcomes)]
    axes.set_yticks(range(len(outcomes)), labels)
    axes.set_ylim(-0.6, len(outcomes) - 0.3)
    axes.set_xlabel("validation accuracy, %")
    return drawing
