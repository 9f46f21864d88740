"""Validation accuracy against training FLOPs of finished runs, as a table and a figure.

    python benchmarks/accuracy_per_flop.py runs/objects_fast runs/vgg13_scratch --out accuracy-per-flop.png

Training FLOPs are 2 x multiply-adds of the forward pass, times 3 for forward and backward, times images seen, counted
at the size that the images had in each epoch. Accuracy is plain evaluation after each epoch, as metrics.jsonl has it.
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from sightline.config import Config
from sightline.files import atomic_write, read_json_lines
from sightline.insight.style import png
from sightline.models import build_model, forward_flops
from sightline.runs import provenance
from sightline.schedules import training_side
from sightline.settings import load_recipe_file


def curve(run: Path) -> tuple[str, list[float], list[float]]:
    """(name, cumulative training FLOPs, validation accuracy) at the end of each epoch of a run."""
    config = load_recipe_file(run / "recipe.yaml")
    data = provenance(run)["data"]
    model = build_model(config.model.name, len(data["classes"]), config.data.size, dict(config.model.args))
    images, spent, flops, accuracy = data["counts"]["train"], 0.0, [], []
    evaluations = [r for r in read_json_lines(run / "metrics.jsonl") if r.get("event") == "eval"]
    for record in evaluations:
        spent += images * epoch_cost(config, model, record["epoch"] - 1)
        flops.append(spent)
        accuracy.append(record["accuracy"])
    return run.name, flops, accuracy


def epoch_cost(config: Config, model: object, epoch: int) -> float:
    """Training FLOPs of one image in an epoch, counted from 0."""
    return 3 * forward_flops(model, training_side(config, epoch))  # ty: ignore[invalid-argument-type]


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("accuracy-per-flop.png"))
    options = parser.parse_args()
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    print(f"{'run':<24} {'epochs':>6} {'FLOPs':>9} {'last':>7} {'best':>7}")
    for run in options.runs:
        name, flops, accuracy = curve(run)
        axes.plot(flops, accuracy, label=name, marker="o", markersize=2.5, linewidth=1.2)
        print(f"{name:<24} {len(flops):>6} {flops[-1]:>9.2e} {accuracy[-1]:>7.4f} {max(accuracy):>7.4f}")
    axes.set(xscale="log", xlabel="training FLOPs", ylabel="validation accuracy, plain evaluation")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    atomic_write(options.out, png(figure))


if __name__ == "__main__":
    main()
