"""Train with few images a class: logistic regression on frozen features, fine-tuning, and training from scratch.

    python benchmarks/few_images.py measure photos_finetune --images target --out few --weights FILE --threads 2
    python benchmarks/few_images.py draw --out few --figure docs/images/few-images.png

IMAGES has the folders `train` and `val`, with a table of labels beside each (`train.csv`; columns `filename`, `label`).
For each number of images a class and each seed, `measure` draws that many training images of each class; a drawing
contains those with fewer images. The recipe is trained on each.

The number of epochs and the learning rate are chosen from CANDIDATES, as many for fine-tuning as for scratch, at 10 and
at 40 images a class: by accuracy on a fifth of the drawn training images, with a seed of its own. The validation images
choose nothing. Each result is a line of OUT/results.jsonl; what is there is not computed again.
"""

import argparse
import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import sightline
from sightline.insight.style import BLUE, GREEN, ORANGE, new_figure, png, styled
from sightline.runs.atomic import append_line, atomic_write, read_json_lines

COUNTS, SEEDS = (5, 10, 20, 40), (0, 1, 2)
CHOSEN_AT, CHOICE_SEED = {5: 10, 10: 10, 20: 40, 40: 40}, 100
RECIPES = {  # title, color, settings
    "photos_probe": ("logistic regression on frozen\nfeatures, 224 pixels", BLUE, {}),
    "photos_finetune": ("fine-tuning, 128 pixels", GREEN, {"data.size": 128, "augment.progressive": ((96, 1.0),)}),
    "objects_fast": (
        "from scratch, 32 pixels",
        ORANGE,
        {"train.batch_size": 64, "optim.sam_radius": 0.0, "optim.sam_from": 0.0},
    ),
}
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "photos_probe": [{}],
    "photos_finetune": [{"train.epochs": epochs, "optim.lr": lr} for epochs in (5, 12) for lr in (2e-4, 5e-4)],
    "objects_fast": [{"train.epochs": epochs, "optim.muon_lr": lr} for epochs in (20, 60) for lr in (0.05, 0.15)],
}


def draw_images(images: Path, count: int, seed: int, table: Path) -> Path:
    """Write a table of `count` training images of each class and all validation images, with absolute paths."""
    by_class = defaultdict(list)
    for name, label in rows_of(images, "train"):
        by_class[label].append((name, label))
    rng = np.random.default_rng(seed)
    drawn = [group[index] for _, group in sorted(by_class.items()) for index in rng.permutation(len(group))[:count]]
    lines = [(*row, "train") for row in drawn] + [(*row, "val") for row in rows_of(images, "val")]
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("filename", "label", "split"), *lines])
    return table


def rows_of(images: Path, split: str) -> list[tuple[str, str]]:
    """The absolute path and the label of each image of a split."""
    with (images / f"{split}.csv").open(newline="") as file:
        return [(str((images / split / row["filename"]).resolve()), row["label"]) for row in csv.DictReader(file)]


def accuracy(out: Path, recipe: str, table: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Train on the images of a table; the result on its validation images, or on those held out for a choice."""
    common = {"train.best_metric": "epoch", "train.patience": 0, "report.baselines": False, "report.samples": 0}
    wanted: dict[str, Any] = RECIPES[recipe][2] | common | settings
    wanted["train.evaluate_every"] = wanted.get("train.epochs", 1)
    run = sightline.train(recipe, data=str(table), out=out / "run", overwrite=True, quiet=True, **wanted)
    metrics = {name: run.metrics[name] for name in ("accuracy", "accuracy_interval")}
    shutil.rmtree(out / "run")
    return metrics


def measure(recipe: str, images: Path, out: Path, settings: dict[str, Any]) -> None:
    """Compute all results of a recipe that are not yet in OUT/results.jsonl."""
    chosen = {count: choose(recipe, images, out, count, settings) for count in set(CHOSEN_AT.values())}
    for count in COUNTS:
        for seed in SEEDS:
            key = {"recipe": recipe, "count": count, "seed": seed}
            if not known(out, key):
                table = draw_images(images, count, seed, out / recipe / f"{count}-{seed}.csv")
                best = chosen[CHOSEN_AT[count]]
                result = accuracy(out / recipe, recipe, table, settings | best | {"train.seed": seed})
                record(out, key | {"settings": best} | result)


def choose(recipe: str, images: Path, out: Path, count: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The candidate with the highest accuracy on a fifth of the training images that are drawn for the choice."""
    scores = []
    for candidate in CANDIDATES[recipe] if len(CANDIDATES[recipe]) > 1 else []:
        key = {"recipe": recipe, "count": count, "choice": candidate}
        if not known(out, key):
            table = draw_images(images, count, CHOICE_SEED, out / recipe / f"{count}-choice.csv")
            inner = settings | candidate | {"data.inner_fraction": 0.2}
            record(out, key | accuracy(out / recipe, recipe, table, inner))
        scores.append((known(out, key)[0]["accuracy"], candidate))
    return max(scores, key=lambda each: each[0])[1] if scores else {}


def known(out: Path, key: dict[str, Any]) -> list[dict[str, Any]]:
    """The results with these values."""
    path = out / "results.jsonl"
    records = read_json_lines(path) if path.exists() else []
    return [each for each in records if all(each.get(name) == value for name, value in key.items())]


def record(out: Path, result: dict[str, Any]) -> None:
    """Append a result and print it."""
    append_line(out / "results.jsonl", json.dumps(result))
    print(result, flush=True)


@styled
def figure_of(out: Path) -> Figure:
    """Accuracy against the number of images a class, the mean and the range of the seeds of each recipe."""
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    for recipe, (title, color, _) in RECIPES.items():
        groups = [
            [each["accuracy"] for each in known(out, {"recipe": recipe, "count": n}) if "seed" in each] for n in COUNTS
        ]
        done = [(count, group) for count, group in zip(COUNTS, groups, strict=True) if group]
        counts, means = [count for count, _ in done], [float(np.mean(group)) for _, group in done]
        axes.plot(counts, means, marker="o", color=color)
        axes.vlines(counts, [min(group) for _, group in done], [max(group) for _, group in done], color=color)
        axes.annotate(
            title,
            (counts[-1], means[-1]),
            xytext=(8, {BLUE: -24, GREEN: 4}.get(color, -10)),
            textcoords="offset points",
            color=color,
        )
        print(
            recipe,
            [
                (count, round(mean, 3), [round(one, 3) for one in g])
                for (count, g), mean in zip(done, means, strict=True)
            ],
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.set(xlabel="training images per class", ylabel="accuracy", ylim=(0, 1), xlim=(4.5, 180))
    return figure


def main() -> None:
    """Measure a recipe, or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "draw"))
    parser.add_argument("recipe", nargs="?", choices=tuple(RECIPES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    if given.action == "draw":
        atomic_write(given.figure, png(figure_of(given.out)))
        return
    settings = {"train.threads": given.threads}
    settings |= {} if given.recipe == "objects_fast" else {"model.weights": given.weights}
    measure(given.recipe, given.images, given.out, settings)


if __name__ == "__main__":
    main()
