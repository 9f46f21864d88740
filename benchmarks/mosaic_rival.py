"""Score a classifier of single photographs on the validation mosaics of benchmarks/mosaics.py, as an informed rival.

    python benchmarks/mosaic_rival.py runs/objects_fast mosaics/

The rival knows the layout: it classifies each of the one to four photographs of a mosaic by itself. The probability
that a mosaic has a class is 1 - product of (1 - probability of the class) over its photographs. Prints the mean average
precision with its interval, and the metrics of the label sets of the most likely class of each photograph.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

import sightline
from sightline.tasks.multilabel.metrics import decisions, precision_intervals


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as dicts."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Predict the photographs, combine them by mosaic, and print the metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("mosaics", type=Path)
    options = parser.parse_args()
    labels = {row["filename"]: row["label"].split(";") for row in read(options.mosaics / "labels.csv")}
    rows = [row for row in read(options.mosaics / "quarters.csv") if row["mosaic"].startswith("val/")]
    pairs = [(index, row[f"q{at}"]) for index, row in enumerate(rows) for at in range(4) if row[f"q{at}"]]
    model = sightline.load(options.run)
    found = np.stack([one.probabilities for one in model.predict([path for _, path in pairs])]).astype(np.float64)
    absent, predicted = np.ones((len(rows), len(model.classes))), np.zeros((len(rows), len(model.classes)), bool)
    for (index, _), probabilities in zip(pairs, found, strict=True):
        absent[index] *= 1 - probabilities
        predicted[index, probabilities.argmax()] = True
    truth = np.array([[name in labels[row["mosaic"]] for name in model.classes] for row in rows])
    ranked, made = precision_intervals(1 - absent, truth), decisions(predicted, truth)
    low, high = ranked.interval
    print(f"mean average precision {ranked.mean:.4f} [{low:.4f}, {high:.4f}] on {len(rows):,} mosaics")
    print(f"macro F1 {made.macro_f1[0]:.4f}, micro F1 {made.micro_f1[0]:.4f}, exactly right {made.exact[0]:.4f}")


if __name__ == "__main__":
    main()
