"""How long one waits: `sightline --help`, the first training step of a cached set, t-SNE, a report's maps.

    python benchmarks/start.py --json start.json

Help: the whole command, best and median of five after one that writes byte code. First step: from the start of the
process to the end of step 1 of `sightline train`, the images decoded by a run before; images are 2,000 of 32x32 in 10
classes, the model ResNet-18 at batch 128. t-SNE: 2,500 features of 512 numbers in 50 classes, as a run's report draws
them, PCA included; then the maps of so many epochs of one run in one pass. The aims are those of the project's issue.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from machine import facts, headline, keep, spread, write_split

AIMS = {"help": 0.3, "first step": 8.0, "t-SNE": 6.0}


def help_seconds(repeats: int) -> list[float]:
    """Seconds of `sightline --help`, each a process of its own."""
    command, times = [sys.executable, "-m", "sightline", "--help"], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times[1:]


def first_step_seconds(repeats: int, folder: Path, images: int) -> list[float]:
    """Seconds from the start of the process to the end of the first step; the first run, which decodes, is left out."""
    write_split(folder / "data" / "train", images, 10, 32, 32, "png", [])
    write_split(folder / "data" / "val", 200, 10, 32, 32, "png", [])
    settings = {"data.size": 32, "augment.resize": 0, "train.batch_size": 128, "train.epochs": 1, "report.samples": 0}
    command = [sys.executable, "-m", "sightline", "train", "photos_scratch", "--data", str(folder / "data"), "--quiet"]
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    environ = os.environ | {"SIGHTLINE_CACHE": str(folder / "cache")}
    times = []
    for repeat in range(repeats + 1):
        run = folder / f"run{repeat}"
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--out", str(run)], stdout=subprocess.DEVNULL, env=environ)
        while process.poll() is None and not has_trained(run / "metrics.jsonl"):
            time.sleep(0.01)
        times.append(time.perf_counter() - start)
        if process.poll():
            raise SystemExit(f"sightline train failed with status {process.returncode}")
        process.kill()
        process.wait()
    return times[1:]


def has_trained(log: Path) -> bool:
    """Whether metrics.jsonl has a line of a training step."""
    return log.exists() and any(json.loads(line)["event"] == "train" for line in log.read_text().splitlines(True)[:9])


def map_seconds(samples: int, epochs: int, repeats: int) -> tuple[list[float], list[float]]:
    """(seconds of one epoch's PCA and t-SNE, seconds of the maps of `epochs` epochs) of clouds that grow apart."""
    from sightline.insight.projection import COMPONENTS, epoch_maps, principal_components, tsne

    random = np.random.default_rng(0)
    labels = random.integers(0, 50, samples)
    centers, noise = random.normal(size=(50, 512)), random.normal(size=(samples, 512))
    features = [(centers[labels] * (1 + epoch) / epochs + 2 * noise).astype(np.float32) for epoch in range(epochs)]
    tsne(principal_components(features[0][:200], COMPONENTS)[0], None)  # imports
    one, many = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        tsne(principal_components(features[-1], COMPONENTS)[0], None)
        one.append(time.perf_counter() - start)
    start = time.perf_counter()
    epoch_maps(list(range(1, epochs + 1)), features, labels)
    many.append(time.perf_counter() - start)
    return one, many


def main() -> None:
    """Print one table; write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of the first step and of t-SNE")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=2500, help="points of the maps")
    parser.add_argument("--epochs", type=int, default=8, help="in the maps of one report")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    known = facts()
    results: dict[str, Any] = {"help": help_seconds(5)}
    with tempfile.TemporaryDirectory() as folder:
        results["first step"] = first_step_seconds(options.repeats, Path(folder), options.images)
    results["t-SNE"], results["maps"] = map_seconds(options.samples, options.epochs, options.repeats)
    print(headline(known))
    print(f"{'':<12} {'best':>6} {'median (range), seconds':>26} {'aim':>5}")
    for name, times in results.items():
        print(f"{name:<12} {min(times):>6.2f} {spread(times, 2):>26} {AIMS.get(name, ''):>5}")
    print(f"maps: {options.epochs} epochs of {options.samples:,} samples, PCA, t-SNE, k-NN and silhouette")
    keep(options.json, known, results)


if __name__ == "__main__":
    main()
