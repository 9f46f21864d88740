"""Write the results of a transfer grid: the text in the terminal, grid.csv, grid.json, figures and report.html."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..insight.curves import MetricCurve, draw_metric, history
from ..insight.style import BLUE, INK, MUTED, new_figure, png, styled
from ..runs.atomic import atomic_write
from ..runs.csv_io import csv_text
from ..stats.baselines import baselines_text
from .grid import SETTINGS, SPLIT_NAMES, Grid
from .outcomes import GridResult, Interval, SettingResult
from .page import grid_page
from .plan import log_of, pretraining_folder
from .results import read_results

KNN = MetricCurve("knn_accuracy", "k-NN accuracy during pre-training")


def write_grid_report(folder: Path, grid: Grid) -> GridResult:
    """Write grid.csv, grid.json, figures/*.png and report.html from the runs of a grid; returns the results."""
    result = read_results(folder, grid)
    write_tables(folder, result)
    first = grid.pretrainings("unlabeled")[0]
    pretraining = pretraining_folder(folder, grid, "unlabeled", first or 0)
    figures = {name: png(draw()) for name, draw in plan_grid(pretraining, result).items()}
    for name, data in figures.items():
        atomic_write(folder / "figures" / f"{name}.png", data)
    atomic_write(folder / "report.html", grid_page(folder, grid, result, figures))
    return result


def text_table(result: GridResult) -> str:
    """Format the results as text: one line per setting, one sentence per comparison, the notes."""
    lines = [f"\n{'':<3}{'pre-training':<16}{'trained':<20}{result.metric[1]:>8}  {'interval (95%+)':<17} each run"]
    for outcome in result.outcomes:
        each = " | ".join(" ".join(f"{value:.4f}" for value in values) for values in outcome.scores)
        pretraining, trained = SETTINGS[outcome.setting].description
        edges = edges_text(outcome.interval)
        lines.append(f"{outcome.setting:<3}{pretraining:<16}{trained:<20}{outcome.score:>8.4f}  {edges:<17} {each}")
    lines += ["", *(training_line(outcome) for outcome in result.outcomes)]
    lines += [baselines_text(result.baselines)] if result.baselines else []
    lines += ["", *(comparison.sentence for comparison in result.comparisons), *result.notes]
    return "\n".join(lines)


def edges_text(interval: Interval | None) -> str:
    """An interval of shares as text."""
    return "none" if interval is None else f"[{interval[0]:.4f}, {interval[1]:.4f}]"


def training_line(outcome: SettingResult) -> str:
    """A line on how the runs of a setting were trained, from how many tries this was chosen, and k-NN."""
    tries = f", the best of {len(outcome.choice.tried)} tries" if outcome.choice else ""
    knn = f"; k-NN on the features {outcome.knn.mean():.4f}" if outcome.knn is not None else ""
    return f"{outcome.setting}: {outcome.training}{tries}{knn}"


def write_tables(folder: Path, result: GridResult) -> None:
    """Write grid.csv with one row per run, and grid.json with intervals and comparisons."""
    rows = [["setting", "pretraining", "seed", result.metric[0], "knn_accuracy", "images"]]
    for outcome in result.outcomes:
        for p, s in np.ndindex(outcome.values.shape[:2]):
            pretraining, knn = outcome.pretrainings[p], outcome.knn
            names = [outcome.setting, "" if pretraining is None else str(pretraining), str(outcome.seeds[s])]
            knn_text = "" if knn is None else f"{knn[p, s]:.9g}"
            rows.append([*names, f"{outcome.scores[p][s]:.9g}", knn_text, str(outcome.values.shape[2])])
    atomic_write(folder / "grid.csv", csv_text(rows))
    values = {
        "split": result.split,
        "metric": result.metric[0],
        "settings": {outcome.setting: setting_values(outcome, result.metric[0]) for outcome in result.outcomes},
        "comparisons": [
            comparison._asdict() | {"p": None if np.isnan(comparison.p) else comparison.p}
            for comparison in result.comparisons
        ],
        "baselines": dict(result.baselines),
        "missing": result.missing,
        "notes": result.notes,
    }
    atomic_write(folder / "grid.json", json.dumps(values, indent=2) + "\n")


def setting_values(outcome: SettingResult, metric: str) -> dict[str, object]:
    """The entry of a setting in grid.json. runs, knn_accuracies: a list for each pre-training, with a number for each
    seed; `runs` is named `accuracies` in a grid of classifiers. tries: what was tried to choose the settings, with the
    score on the inner split, None if it diverged."""
    tried = outcome.choice.tried if outcome.choice else ()
    return {
        metric: outcome.score,
        "interval": outcome.interval,
        "pretrainings": outcome.pretrainings,
        "seeds": outcome.seeds,
        "accuracies" if metric == "accuracy" else "runs": outcome.scores,
        "knn_accuracies": None if outcome.knn is None else outcome.knn.tolist(),
        "training": outcome.training,
        "train_flops": outcome.flops,
        "tries": [{**settings, metric: score if score == score else None} for settings, score in tried],
    }


def plan_grid(pretraining: Path, result: GridResult) -> dict[str, Callable[[], Figure]]:
    """Plan the figures: scores by setting, k-NN accuracy during pre-training. Returns functions that draw, by name.

    pretraining: the run folder of the first pre-training without labels.
    """
    todo: dict[str, Callable[[], Figure]] = {}
    if result.outcomes:
        todo["grid"] = lambda: draw_grid(result)
    past = history(log_of(pretraining))
    if KNN.drawn_for(past):
        todo[f"curve-{KNN.name}"] = lambda: draw_metric(past, KNN)
    return todo


@styled
def draw_grid(result: GridResult) -> Figure:
    """Draw one row per setting: the mean score with its interval, and a small dot for each run; the runs from one
    pre-training are at one height."""
    outcomes = result.outcomes
    drawing = new_figure(6.4, 0.9 + 0.42 * len(outcomes))
    axes = drawing.add_subplot()
    for row, outcome in enumerate(reversed(outcomes)):
        if outcome.interval:
            low, high = (100 * edge for edge in outcome.interval)
            axes.plot([low, high], [row, row], color=BLUE, linewidth=2.2, solid_capstyle="round")
        heights = np.linspace(0.14, -0.14, len(outcome.pretrainings)) if len(outcome.pretrainings) > 1 else [0.0]
        for height, values in zip(heights, outcome.scores, strict=True):
            axes.plot([100 * value for value in values], [row + height] * len(values), "o", color=MUTED, markersize=3)
        axes.plot([100 * outcome.score], [row], "o", color=BLUE, markersize=7)
        axes.annotate(f"{100 * outcome.score:.1f}", (100 * outcome.score, row), xytext=(0, 9),
                      textcoords="offset points", ha="center", fontsize=8, color=INK)  # fmt: skip
    labels = [f"{', '.join(SETTINGS[o.setting].description)}  {o.setting}" for o in reversed(outcomes)]
    axes.set_yticks(range(len(outcomes)), labels)
    axes.set_ylim(-0.6, len(outcomes) - 0.3)
    axes.set_xlabel(f"{SPLIT_NAMES[result.split]} {result.metric[1]}, %")
    return drawing
