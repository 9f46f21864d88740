"""Compare the objectives of pre-training at equal compute: k-NN, logistic regression, fine-tuning, speed, memory.

    python benchmarks/objectives.py measure --images images/ --target target/ --weights FILE --out OUT --flops 2e14
    python benchmarks/objectives.py table --out OUT
    python benchmarks/objectives.py curves OUT/byol-8.8e+14-0 OUT/moco-8.8e+14-0 --figure docs/images/objectives.png

`measure` trains the recipe of each objective on the unlabeled IMAGES for as many whole epochs as the budget allows,
in a process of its own, and then, with --finetune, a classifier of TARGET from its weights: setting C of the grid
`transfer_fast`, whose learning rate and epochs are chosen on a fifth of the training images. --weights are those of the
teacher of `distill`. Each result is a line of OUT/results.jsonl; what is there is not computed again. Recipes have the
suffix `_fast`; settings that follow the options are passed to every pre-training. IMAGES are images without a split,
and the network is that of `transfer_fast`.

`curves` draws the k-NN accuracy and that of a logistic regression after each epoch against training FLOPs.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

import sightline
from sightline.engine.parts import epoch_cost, flops_by_side, training_flops
from sightline.insight.style import PALETTE, new_figure, png, styled
from sightline.recipes import load_recipe
from sightline.recipes.transfer import with_epochs
from sightline.runs.atomic import append_line, atomic_write, read_json_lines
from sightline.runs.run_folder import provenance
from sightline.tasks.files import load_recipe_file
from sightline.tasks.pretrain.config import PretrainConfig
from sightline.tasks.pretrain.networks import build_siamese, step_flops

OBJECTIVES = ("byol", "simsiam", "moco", "dino", "distill")
COLUMNS = {"knn_accuracy": "k-NN", "linear_accuracy": "logistic regression", "finetuned": "fine-tuned"}


def cost_of(config: PretrainConfig) -> Callable[[int], float]:
    """FLOPs of a step for one image, by the side of the large views; the network is built once."""
    model = build_siamese(config)
    return cache(lambda side: step_flops(config, model, side))


def cumulative_flops(config: PretrainConfig, images: int) -> np.ndarray:
    """Training FLOPs after each epoch of a pre-training on `images` images."""
    cost = flops_by_side(config, cost_of(config))
    return images * np.cumsum([epoch_cost(config, cost, epoch) for epoch in range(config.train.epochs)])


def epochs_for(config: PretrainConfig, images: int, budget: float) -> int:
    """The largest number of epochs, at least one, whose training FLOPs are within the budget."""
    cost, fits = cost_of(config), 0
    while True:
        longer = with_epochs(config, fits + 1)
        if fits and training_flops(longer, flops_by_side(longer, cost), images, fits + 1) > budget:
            return fits
        fits += 1


def measure(given: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Compute all results that are not yet in OUT/results.jsonl, each in a process of its own."""
    images = sum(1 for path in given.images.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    for seed in given.seeds:
        for objective in given.objectives:
            key = {"objective": objective, "flops": given.flops, "seed": seed, "settings": settings}
            if any(key.items() <= each.items() for each in results(given.out)):
                continue
            config = load_recipe(f"{objective}_fast")
            assert isinstance(config, PretrainConfig)
            wanted = {"pretrain.probe": str(given.target), "train.seed": seed, "train.threads": given.threads}
            wanted |= {"pretrain.teacher_weights": given.weights} if objective == "distill" else {}
            wanted |= {"train.epochs": epochs_for(config, images, given.flops)} | settings
            out = given.out / f"{objective}-{given.flops:g}-{seed}"
            command = [sys.executable, __file__, "train", objective, json.dumps(wanted), str(given.images), str(out)]
            subprocess.run(command, check=True)
            result = key | json.loads((out / "measured.json").read_text())
            print(result, flush=True)
            if given.finetune:
                result["finetuned"] = finetuned(out, given.target, given.threads)
            append_line(given.out / "results.jsonl", json.dumps(result))


def train(objective: str, settings: str, images: str, out: Path) -> None:
    """Pre-train; write accuracies, FLOPs, images/s over all steps and the peak of the memory to OUT/measured.json."""
    sightline.train(f"{objective}_fast", data=images, out=out, overwrite=True, quiet=True, **json.loads(settings))
    records = read_json_lines(out / "metrics.jsonl")
    seconds_per_image = [1 / each["images_per_second"] for each in records if each.get("event") == "train"]
    done = records[-1]
    names = ("knn_accuracy", "knn_accuracy_interval", "linear_accuracy", "effective_rank", "train_flops", "seconds")
    found = {name: done[name] for name in names} | {"epochs": done["epoch"], "baselines": done.get("baselines", {})}
    found |= {"images_per_second": 1 / mean(seconds_per_image)}
    found |= {"gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    atomic_write(out / "measured.json", json.dumps(found).encode())


def finetuned(run: Path, target: Path, threads: int) -> float:
    """The accuracy of setting C of the grid from the weights of a run."""
    common: dict[str, Any] = {"full.train.threads": threads, "seeds": "0", "settings": "C", "quiet": True}
    grid = sightline.transfer("transfer_fast", target, unlabeled=run, out=run.with_name(f"{run.name}-grid"), **common)
    return grid.outcomes[0].score


def results(out: Path) -> list[dict[str, Any]]:
    """The results so far."""
    path = out / "results.jsonl"
    return read_json_lines(path) if path.exists() else []


def table(out: Path) -> str:
    """A Markdown table: means over the seeds, with the range in parentheses if there are several."""
    lines = [f"| objective | FLOPs | epochs | {' | '.join(COLUMNS.values())} | images/s | memory |", "|---" * 8 + "|"]
    found = results(out)
    for objective, flops in sorted({(each["objective"], each["flops"]) for each in found}, key=lambda one: one[::-1]):
        group = [each for each in found if (each["objective"], each["flops"]) == (objective, flops)]
        scores = [spread([each[name] for each in group if name in each]) for name in COLUMNS]
        speed, memory = (mean(each[name] for each in group) for name in ("images_per_second", "gigabytes"))
        cells = [objective, f"{flops:.2g}", str(group[0]["epochs"]), *scores, f"{speed:,.0f}", f"{memory:.1f} GB"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """The mean of the values, with their range if there are several; "-" without any."""
    if not values:
        return "-"
    return f"{mean(values):.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")


@styled
def curves(runs: list[Path]) -> Figure:
    """Two accuracies after each epoch against training FLOPs, with k-NN on raw pixels."""
    figure = new_figure(7.2, 3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for run, color in zip(runs, PALETTE, strict=False):
        config, records = load_recipe_file(run / "recipe.yaml"), read_json_lines(run / "metrics.jsonl")
        assert isinstance(config, PretrainConfig)
        flops = cumulative_flops(config, provenance(run)["data"]["counts"]["train"])
        found = [each for each in records if each.get("event") == "eval" and each["epoch"] > 0]
        for panel, name in zip(panels, ("knn_accuracy", "linear_accuracy"), strict=True):
            values = [each[name] for each in found]
            panel.plot([flops[each["epoch"] - 1] for each in found], values, color=color, label=config.pretrain.method)
            print(run.name, name, [round(value, 3) for value in values])
        for value in [each["baselines"]["knn_raw_pixels"] for each in records if each.get("baselines")]:
            panels[0].axhline(value, color="gray", linestyle=":", linewidth=1)
    for panel, title in zip(panels, ("k-NN", "logistic regression"), strict=True):
        panel.set(xscale="log", xlabel="training FLOPs", title=title)
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e+", "e")))
        panel.xaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel("accuracy")
    panels[1].legend()
    return figure


def main() -> None:
    """Measure, print the table, or draw the curves."""
    if sys.argv[1:2] == ["train"]:  # in a process of its own
        return train(*sys.argv[2:5], Path(sys.argv[5]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "table", "curves"))
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--flops", type=float, default=2e14)
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0])
    parser.add_argument("--objectives", type=lambda text: text.split(","), default=list(OBJECTIVES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--finetune", action="store_true")
    parser.add_argument("--figure", type=Path)
    given, rest = parser.parse_known_args()
    if given.action == "curves":
        atomic_write(given.figure, png(curves(given.runs)))
    elif given.action == "table":
        print(table(given.out))
    else:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the pre-training too
        names, values = rest[::2], rest[1::2]
        pairs = zip(names, values, strict=True)
        measure(given, {name.removeprefix("--"): yaml.safe_load(value) for name, value in pairs})
    return None


if __name__ == "__main__":
    main()
