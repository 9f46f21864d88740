"""Wrong labels, crops and mirror images that `sightline doctor --weights` finds, beside methods on raw pixels.

    python benchmarks/doctor_features.py DATA --weights pretrained [--split val] [--side 96] [--copies 40] [--seed 0]

DATA: images with one label each. --split: the images that are used. --side: height and width of the images for the
network. Writes the images into a temporary folder, makes labels wrong (to another class at random), adds altered
copies of --copies images for each alteration, and runs the doctor. Prints precision and recall with 95 % intervals.
Raw pixels: for wrong labels, k-NN (20 neighbors) on images of 32 x 32 pixels with the same decision; for copies, the
doctor without --weights.
"""

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import sightline
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.data.sources.open import open_source
from sightline.doctor.findings import Diagnosis
from sightline.doctor.labels import likely_wrong
from sightline.stats.intervals import wilson_interval
from sightline.stats.metrics import knn_votes

Options = dict[str, Any]
SHARES = (0.01, 0.05, 0.10)


def mirrored(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def cropped(share: float, mirror: bool = False) -> Callable[[Image.Image, np.random.Generator], Image.Image]:
    """A function that takes a part with this share of the sides at a random position."""

    def alter(image: Image.Image, random: np.random.Generator) -> Image.Image:
        width, height = round(image.width * share), round(image.height * share)
        left, top = random.integers((image.width - width + 1, image.height - height + 1)).tolist()
        part = image.crop((left, top, left + width, top + height))
        return mirrored(part, random) if mirror else part

    return alter


ALTERATIONS = {
    "mirrored": mirrored,
    "crop of 90 % of the sides": cropped(0.9),
    "crop of 80 %": cropped(0.8),
    "crop of 70 %": cropped(0.7),
    "crop of 60 %": cropped(0.6),
    "crop of 80 %, mirrored": cropped(0.8, mirror=True),
}


def share(count: int, total: int) -> str:
    """A share with its 95 % interval, as text."""
    low, high = wilson_interval(count, total) if total else (0.0, 1.0)
    return f"{count}/{total} = {count / max(total, 1):.0%} [{low:.0%}, {high:.0%}]"


def score(found: set[str], planted: set[str]) -> str:
    """Precision and recall as text."""
    right = len(found & planted)
    return f"precision {share(right, len(found))}, recall {share(right, len(planted))}"


def write_table(folder: Path, rows: Iterable[tuple[str, str]]) -> Path:
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("filename", "label"), *rows])
    return folder / "labels.csv"


def by_pixels(images: list[Image.Image], labels: np.ndarray) -> np.ndarray:
    """The images with likely wrong labels by k-NN on raw pixels."""
    small = [np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), np.float32).ravel() for image in images]
    vectors = torch.from_numpy(np.stack(small))
    vectors, classes = vectors - vectors.mean(0), int(labels.max()) + 1
    folds = np.random.default_rng(0).permutation(len(labels)) % 5
    chances = np.zeros((len(labels), classes))
    for fold in range(5):
        bank, queries = folds != fold, folds == fold
        votes = knn_votes(vectors[bank], torch.from_numpy(labels[bank]), vectors[queries], classes)
        chances[queries] = (votes / votes.sum(1, keepdim=True)).numpy()
    return likely_wrong(labels, np.maximum(chances, 1e-6))


def files_of(found: Diagnosis, *kinds: str) -> list[set[str]]:
    """The sets of files of these kinds of findings."""
    return [{*group.files} for one in found.findings if one.kind in kinds for group in one.groups]


def wrong_labels(
    folder: Path, images: list[Image.Image], truth: np.ndarray, seed: int, options: dict[str, Any]
) -> None:
    """Print precision and recall for wrong labels."""
    names, classes = [f"{row:05}.png" for row in range(len(images))], int(truth.max()) + 1
    for part in SHARES:
        random = np.random.default_rng([seed, round(1000 * part)])
        wrong = random.choice(len(truth), round(part * len(truth)), replace=False)
        labels = truth.copy()
        labels[wrong] = (truth[wrong] + random.integers(1, classes, len(wrong))) % classes
        data = write_table(folder, ((name, f"class_{label}") for name, label in zip(names, labels, strict=True)))
        found = sightline.doctor(data, out=folder / "doctor", quiet=True, **options)
        planted = {names[row] for row in wrong}
        listed = {name for group in files_of(found, "suspicious_label") for name in group}
        print(f"{part:.0%} of labels wrong: features: {score(listed, planted)}", flush=True)
        print(f"    raw pixels: {score({names[row] for row in by_pixels(images, labels)}, planted)}", flush=True)


def copies(
    folder: Path, images: list[Image.Image], truth: np.ndarray, seed: int, count: int, options: dict[str, Any]
) -> None:
    """Print recall for altered copies, and how many other sets are reported."""
    random = np.random.default_rng([seed, 1])
    rows = [(f"{row:05}.png", f"class_{label}") for row, label in enumerate(truth)]
    chosen = random.permutation(len(images))[: count * len(ALTERATIONS)].reshape(len(ALTERATIONS), -1)
    planted: dict[str, list[tuple[str, str]]] = {}
    for number, (title, alter) in enumerate(ALTERATIONS.items()):
        for row in chosen[number]:
            name = f"copy_{number}_{row:05}.png"
            alter(images[row], random).save(folder / name)
            rows.append((name, rows[row][1]))
            planted.setdefault(title, []).append((rows[row][0], name))
    found = sightline.doctor(write_table(folder, rows), out=folder / "doctor", quiet=True, **options)
    near = files_of(found, "near_duplicate", "near_leak")
    every = [*near, *files_of(found, "altered_duplicate", "altered_leak")]
    for title, pairs in planted.items():
        by_features, by_pixels = (
            sum(any({*pair} <= each for each in sets) for pair in pairs) for sets in (every, near)
        )
        print(f"{title:26} features: {share(by_features, len(pairs))}, raw pixels: {share(by_pixels, len(pairs))}")
    true = [{*pair} for pairs in planted.values() for pair in pairs]
    for title, sets in (("features", every), ("raw pixels", near)):
        print(
            f"sets without a planted copy, {title}: {sum(not any(t <= s for t in true) for s in sets)} of {len(sets)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--split", default="val")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--copies", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    source = open_source(resolve(Config(), {"data.path": arguments.data}).data, 0, hold_out=False)
    items = source.splits[arguments.split]
    assert items.labels is not None
    read = [items.read(row) for row in range(len(items.names))]
    images = [image for image in read if isinstance(image, Image.Image)]
    options: Options = {"weights": arguments.weights, "data.size": arguments.side}
    print(f"{len(images):,} images of {len(source.classes)} classes")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for row, image in enumerate(images):
            image.save(folder / f"{row:05}.png")
        copies(folder, images, items.labels, arguments.seed, arguments.copies, options)
        wrong_labels(folder, images, items.labels, arguments.seed, options)


if __name__ == "__main__":
    main()
