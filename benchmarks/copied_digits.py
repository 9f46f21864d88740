"""Write a folder of images with a common mistake, and measure what the mistake does to the validation accuracy.

The images are scikit-learn's handwritten digits. The digits 8 and 9 are rare: 12 images each, where the others have 60.
To balance the classes, each of these 24 images was copied four times, and then the images were split at random, as
many scripts do. The example of docs/doctor.md:

    python benchmarks/copied_digits.py digits/
    python benchmarks/copied_digits.py digits/ --measure
"""

import argparse
import contextlib
import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import sightline

IMAGES, RARE, FEW, COPIES, VAL = 60, (8, 9), 12, 4, 0.2
SETTINGS: dict[str, Any] = {
    "data.size": 16,
    "model.name": "fastnet",
    "model.args": {"widths": [32, 64, 64]},
    "train.epochs": 30,
}
QUIET = {"report.samples": 0, "report.train_samples": 0, "data.on_copies": "warn"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder to write")
    parser.add_argument("--measure", action="store_true", help="train with and without the copies, three seeds each")
    options = parser.parse_args()
    rest = write(options.folder)
    print(f"{sum(1 for _ in options.folder.rglob('*.png'))} images written to {options.folder}")
    if options.measure:
        measure(options.folder, rest)


def write(folder: Path) -> dict[int, np.ndarray]:
    """Write the folder; return the images that were not used, uint8 [n, 8, 8] by digit."""
    data, rng, rest = load_digits(), np.random.default_rng(0), {}
    for digit in range(10):
        images = np.rint(data.images[data.target == digit] * 255 / 16).astype(np.uint8)
        count = FEW if digit in RARE else IMAGES
        names = [f"{index}.png" for index in range(count)]
        if digit in RARE:
            names += [f"{index} ({copy}).png" for index in range(count) for copy in range(1, 1 + COPIES)]
        for name, place in zip(names, rng.random(len(names)), strict=True):
            path = folder / ("val" if place < VAL else "train") / str(digit) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[int(name.split(".")[0].split()[0])]).save(path)
        rest[digit] = images[count:]
    return rest


def measure(folder: Path, rest: dict[int, np.ndarray]) -> None:
    """Train on the folder and on the doctor's clean list; print the recall of the rare digits on the validation images,
    and on the images that were not used."""
    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(io.StringIO()):
        clean = sightline.doctor(folder, out=Path(work, "doctor"), fix=True, quiet=True).clean_list
        others = Path(work, "others")
        for digit, images in rest.items():
            (others / str(digit)).mkdir(parents=True)
            for index, image in enumerate(images):
                Image.fromarray(image).save(others / str(digit) / f"{index}.png")
        lines = []
        balanced = {"data.sampler": "balanced"}
        cases = (("with copies", folder, {}), ("clean list", clean, {}), ("clean list, balanced", clean, balanced))
        for name, data, more in cases:
            for seed in range(3):
                out = Path(work, f"{name}-{seed}")
                settings: dict[str, Any] = SETTINGS | QUIET | {"train.seed": seed} | more
                run = sightline.train("photos_scratch", data, out=out, **settings)
                said = recall(out / "predictions" / "val.csv")
                table = Path(work, f"{name}-{seed}.csv")
                sightline.predict(run, others, out=table)
                hits = [
                    path.split("/")[0] == label for path, label in predictions(table) if int(path.split("/")[0]) in RARE
                ]
                lines.append(f"{name}, seed {seed}: recall of 8 and 9 {said:.3f}, on other images {np.mean(hits):.3f}")
    print("\n".join(lines))


def predictions(table: Path) -> list[tuple[str, str]]:
    """(file, predicted class) of each row of a table of predictions, with the last two parts of the path."""
    with open(table, newline="", encoding="utf-8") as file:
        return [("/".join(Path(row["filename"]).parts[-2:]), row["label"]) for row in csv.DictReader(file)]


def recall(table: Path) -> float:
    """The share of the validation images of the rare digits that are recognized."""
    return float(
        np.mean([path.split("/")[0] == label for path, label in predictions(table) if int(path.split("/")[0]) in RARE])
    )


if __name__ == "__main__":
    main()
