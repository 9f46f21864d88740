"""How often a class activation map is brightest where the photograph of the class is.

    python benchmarks/mosaics.py objects50/ mosaics/ --train 3000 --val 600
    sightline train multilabel_probe --data mosaics/labels.csv --model.weights FILE --out RUN
    python benchmarks/class_maps.py mosaics/ RUN

Each mosaic has one to four photographs in its quarters, which quarters.csv names. For each validation mosaic and each
of its labels, the map of the label is brightest in the right quarter or not. With four photographs a map that knows
nothing is right in a quarter of the cases. The interval is over mosaics.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

import sightline
from mosaics import label_of
from sightline.stats.intervals import mean_interval


def quarters(mosaics: Path) -> dict[str, dict[int, str]]:
    """{name of a validation mosaic: {quarter: class}}."""
    found: dict[str, dict[int, str]] = {}
    with (mosaics / "quarters.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["mosaic"].startswith("val/"):
                paths = {number: Path(row[f"q{number}"]) for number in range(4) if row[f"q{number}"]}
                classes = next(iter(paths.values())).parents[1] / "classes.txt"
                names = classes.read_text(encoding="utf-8").split() if classes.is_file() else []
                found[row["mosaic"]] = {number: label_of(path, path.parent, names) for number, path in paths.items()}
    return found


def brightest(values: np.ndarray) -> int:
    """The quarter with the largest value of a map [H, W]: 0 (top left), 1 (top right), 2 (bottom left) or 3."""
    row, column = np.unravel_index(values.argmax(), values.shape)
    return 2 * int(2 * row >= values.shape[0]) + int(2 * column >= values.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mosaics", type=Path)
    parser.add_argument("run", type=Path)
    arguments = parser.parse_args()
    model, shares = sightline.load(arguments.run), defaultdict(list)
    for name, placed in sorted(quarters(arguments.mosaics).items()):
        image = arguments.mosaics / name
        repeated = [label for label in placed.values() if [*placed.values()].count(label) > 1]
        hits = [
            brightest(model.class_map(image, label)) == quarter
            for quarter, label in placed.items()
            if label not in repeated
        ]
        if hits:
            shares[len(placed)].append(np.mean(hits))
    for count, values in sorted(shares.items()):
        low, high = mean_interval(np.array(values))
        print(
            f"{count} photographs: {np.mean(values):.3f} [{low:.3f}, {high:.3f}] of {len(values)} mosaics", flush=True
        )


if __name__ == "__main__":
    main()
