"""Images whose quarters have colored squares, with a label for each color: label sets that are learned in seconds."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLORS = {"blue": (20, 20, 240), "green": (20, 240, 20), "red": (240, 20, 20), "white": (240, 240, 240)}
SHARES = (0.5, 0.4, 0.3, 0.2)
"""Share of the images that have each color."""
SETTINGS: dict[str, Any] = {
    "name": "quarters",
    "task": "multilabel",
    "data.size": 16,
    "model.name": "small_cnn",
    "model.args": {"widths": [8, 16, 16], "hidden": 32},
    "optim.name": "adamw",
    "optim.lr": 5e-3,
    "augment.horizontal_flip": 0.5,
    "train.epochs": 2,
    "train.batch_size": 16,
    "train.precision": "fp32",
    "train.threads": 1,
    "train.best_metric": "mean_average_precision",
    "multilabel.threshold_fraction": 0.3,
}


def square_image(labels: Sequence[str], number: int, size: int = 16) -> Image.Image:
    """Noise with a square of the color of each label, in random quarters."""
    random, half = np.random.default_rng([3, number]), size // 2
    pixels = random.integers(60, 160, (size, size, 3))
    for label, quarter in zip(labels, random.permutation(4), strict=False):
        top, left = half * (quarter // 2), half * (quarter % 2)
        pixels[top : top + half, left : left + half] = COLORS[label] + random.integers(-15, 15, (half, half, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def drawn(number: int) -> list[str]:
    """The labels of an image: any number of colors, often none."""
    chance = np.random.default_rng([4, number]).random(len(COLORS))
    return [name for name, value, share in zip(COLORS, chance, SHARES, strict=True) if value < share]


def write_quarters(folder: Path, train: int = 80, val: int = 24, size: int = 16, test: int = 0) -> Path:
    """Write the images and labels.csv (filename,label,split); returns the path of labels.csv."""
    rows = []
    for split, first, count in (("train", 0, train), ("val", 10_000, val), ("test", 20_000, test)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            labels, name = drawn(number), f"{split}/{number}.png"
            square_image(labels, number, size).save(folder / name)
            rows.append((name, labels, split))
    return write_table(folder, rows)


def write_table(folder: Path, rows: Sequence[tuple[str, Sequence[str], str]], separator: str = ";") -> Path:
    """Write labels.csv with rows of (name, labels, split); returns its path."""
    path = folder / "labels.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", "label", "split"])
        writer.writerows([name, separator.join(labels), split] for name, labels, split in rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
