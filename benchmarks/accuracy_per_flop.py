"""Validation accuracy, or mean IoU, against training FLOPs of runs of one task, as a table and a figure.

    python benchmarks/accuracy_per_flop.py ours=runs/objects_fast vgg13=runs/vgg13_scratch --out accuracy-per-flop.png

Training FLOPs are 2 x multiply-adds of the forward pass, times 3 for forward and backward, times images seen, counted
at the size that the images had in each epoch; sharpness-aware steps count twice. The metric is that after each epoch,
as metrics.jsonl has it.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sightline.config.schema import Config
from sightline.engine.parts import epoch_cost
from sightline.engine.schedules import training_side
from sightline.insight.style import png
from sightline.models import build_model, forward_flops
from sightline.runs.atomic import atomic_write, read_json_lines
from sightline.runs.run_folder import provenance
from sightline.tasks.files import load_recipe_file

METRICS = {
    "classify": ("accuracy", "validation accuracy, plain evaluation"),
    "segment": ("mean_iou", "validation mean IoU, plain evaluation"),
}


def curve(run: Path) -> tuple[list[float], list[float]]:
    """(cumulative training FLOPs, validation metric) at each evaluation of a run."""
    config, known = load_recipe_file(run / "recipe.yaml"), provenance(run)
    costs = np.cumsum(epoch_costs(config, known)).tolist()
    evaluations = [r for r in read_json_lines(run / "metrics.jsonl") if r.get("event") == "eval"]
    costs = [costs[record["epoch"] - 1] for record in evaluations]
    done = [r["train_flops"] for r in read_json_lines(run / "metrics.jsonl") if "train_flops" in r]
    if done:
        costs[-1] = min(costs[-1], done[-1])  # the last epoch may have been cut off
    metric = METRICS[config.task][0]
    return costs, [record[metric] for record in evaluations]


def epoch_costs(config: Config, known: dict[str, Any]) -> list[float]:
    """Training FLOPs of each epoch."""
    epochs = range(config.train.epochs)
    if config.task == "segment":  # all windows have one size
        return [known["train_flops"] / len(epochs) for _ in epochs]
    data = known["data"]
    model = build_model(config.model.name, len(data["classes"]), config.data.size, dict(config.model.args))
    cost = {side: 3 * forward_flops(model, side) for side in {training_side(config, epoch) for epoch in epochs}}
    return [data["counts"]["train"] * epoch_cost(config, cost, epoch) for epoch in epochs]


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="a run's folder, or NAME=FOLDER")
    parser.add_argument("--out", type=Path, default=Path("accuracy-per-flop.png"))
    options = parser.parse_args()
    named = [text.rpartition("=") for text in options.runs]
    runs = [(name or Path(folder).name, Path(folder)) for name, _, folder in named]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    print(f"{'run':<28} {'evals':>6} {'FLOPs':>9} {'last':>7} {'best':>7}")
    for name, run in runs:
        flops, values = curve(run)
        axes.plot(flops, values, label=name, marker="o", markersize=2.5, linewidth=1.2)
        print(f"{name:<28} {len(flops):>6} {flops[-1]:>9.2e} {values[-1]:>7.4f} {max(values):>7.4f}")
    task = load_recipe_file(runs[0][1] / "recipe.yaml").task
    axes.set(xscale="log", xlabel="training FLOPs", ylabel=METRICS[task][1])
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(lambda value, place: f"{value:.0e}".replace("+", "") if f"{value:e}"[0] in "125" else "")
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    atomic_write(options.out, png(figure))


if __name__ == "__main__":
    main()
