"""Plot validation accuracy or mean IoU against training FLOPs, for runs of one task.

    python benchmarks/accuracy_per_flop.py ours=runs/objects_fast vgg13=runs/vgg13_scratch --out accuracy-per-flop.png

Training FLOPs: 2 x multiply-adds of the forward pass, times 3 (forward and backward pass), times the number of training
images seen. They are computed for the image size of each epoch, and a step of sharpness-aware minimization counts
twice. The metric is read from the evaluations in metrics.jsonl.
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
    "classify": ("accuracy", "validation accuracy, no test-time augmentation"),
    "segment": ("mean_iou", "validation mean IoU, no test-time augmentation"),
}


def curve(run: Path) -> tuple[list[float], list[float]]:
    """Return the cumulative training FLOPs and the validation metric of each evaluation of a run."""
    config = load_recipe_file(run / "recipe.yaml")
    cumulative = np.cumsum(epoch_flops(config, provenance(run))).tolist()
    records = read_json_lines(run / "metrics.jsonl")
    evaluations = [record for record in records if record.get("event") == "eval"]
    flops = [cumulative[record["epoch"] - 1] for record in evaluations]
    logged = [record["train_flops"] for record in records if "train_flops" in record]
    if logged:
        flops[-1] = min(flops[-1], logged[-1])  # training may have stopped within the last epoch
    metric = METRICS[config.task][0]
    return flops, [record[metric] for record in evaluations]


def epoch_flops(config: Config, record: dict[str, Any]) -> list[float]:
    """Return the training FLOPs of each epoch. record: the content of provenance.json."""
    epochs = range(config.train.epochs)
    if config.task == "segment":  # the size of the crops is constant
        return [record["train_flops"] / len(epochs) for _ in epochs]
    data = record["data"]
    model = build_model(config.model.name, len(data["classes"]), config.data.size, dict(config.model.args))
    by_side = {side: 3 * forward_flops(model, side) for side in {training_side(config, epoch) for epoch in epochs}}
    return [data["counts"]["train"] * epoch_cost(config, by_side, epoch) for epoch in epochs]


def main() -> None:
    """Print a table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="run folders, each as FOLDER or NAME=FOLDER")
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
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:.0e}".replace("+", "") if f"{value:e}"[0] in "125" else "")
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    atomic_write(options.out, png(figure))


if __name__ == "__main__":
    main()
