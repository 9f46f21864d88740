"""Mosaics of 2 x 2 photographs with all their labels: real data for several labels per image.

    python benchmarks/mosaics.py objects50/ mosaics/ --train 9000 --val 1000

objects50: train_50 and val_50 with class folders, or with files INDEX_NUMBER.png and the class names in classes.txt.
Each mosaic has one to four different photographs of 32 x 32 pixels in random quarters of 64 x 64 pixels; the other
quarters are gray. Training mosaics contain training photographs only, and validation mosaics validation photographs
only. Writes train/, val/, labels.csv (filename,label,split) and quarters.csv, which has the photograph of each quarter.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
GRAY = 128


def photographs(folder: Path) -> list[tuple[Path, str]]:
    """(path, class) of the photographs of a split, in sorted order."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    names = folder.parent / "classes.txt"
    classes = names.read_text(encoding="utf-8").split() if names.is_file() else []
    return [(path, label_of(path, folder, classes)) for path in files]


def label_of(path: Path, folder: Path, classes: Sequence[str]) -> str:
    """The class of a photograph: the name of its folder, or `classes` at the index in its file name."""
    return path.parent.name if path.parent != folder else classes[int(path.stem.rpartition("_")[0])]


def mosaic(paths: Sequence[Path], quarters: Sequence[int]) -> Image.Image:
    """Photographs in the quarters 0 (top left), 1 (top right), 2 (bottom left) and 3 of a gray square."""
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), (GRAY, GRAY, GRAY))
    for path, quarter in zip(paths, quarters, strict=True):
        image.paste(Image.open(path).convert("RGB").resize((SIDE, SIDE)), (SIDE * (quarter % 2), SIDE * (quarter // 2)))
    return image


def write_split(
    known: list[tuple[Path, str]], split: str, count: int, out: Path, rng: np.random.Generator
) -> tuple[list[list[str]], list[list[str]]]:
    """(rows of labels.csv, rows of quarters.csv) of `count` mosaics, which are written to out/split.

    Photographs are drawn without replacement until all are used, then from all again.
    """
    (out / split).mkdir(parents=True)
    order: list[int] = []
    labels, quarters = [], []
    for number in range(count):
        size = int(rng.integers(1, 5))
        if len(order) < size:
            order = rng.permutation(len(known)).tolist()
        drawn = [known[order.pop()] for _ in range(size)]
        where = rng.permutation(4)[:size].tolist()
        name = f"{split}/{number:05d}.png"
        mosaic([path for path, _ in drawn], where).save(out / name)
        labels.append([name, ";".join(sorted({label for _, label in drawn})), split])
        own = dict(zip(where, drawn, strict=True))
        quarters.append([name, *(str(own[at][0]) if at in own else "" for at in range(4))])
    return labels, quarters


def main() -> None:
    """Write the mosaics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=9000)
    parser.add_argument("--val", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, labels, quarters = np.random.default_rng(options.seed), [], []
    for split, folder, count in (("train", "train_50", options.train), ("val", "val_50", options.val)):
        rows = write_split(photographs(options.objects / folder), split, count, options.out, rng)
        labels += rows[0]
        quarters += rows[1]
    for name, header, rows in (
        ("labels.csv", ["filename", "label", "split"], labels),
        ("quarters.csv", ["mosaic", "q0", "q1", "q2", "q3"], quarters),
    ):
        with open(options.out / name, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
