"""Time to start: `sightline --help`, the first training step with cached data, t-SNE, the maps of a report.

    python benchmarks/start.py --json start.json

Help: five calls of the command, after one that writes bytecode. First step: from the start of `sightline train` to the
log line of its first step, with ResNet-18, batch size 128 and 2,000 synthetic images of 32x32 in 10 classes, which are
in the cache. t-SNE: PCA and t-SNE of 2,500 x 512 features in 50 classes, as for the report of a run. Maps:
those of --epochs epochs of one run.
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

from machine import machine_info, machine_line, median_range, write_results, write_split

TARGETS = {"help": 0.3, "first step": 8.0, "t-SNE": 6.0}  # seconds


def help_seconds(repeats: int) -> list[float]:
    """Return the seconds of each call of `sightline --help`, without the first, which writes bytecode."""
    command, times = [sys.executable, "-m", "sightline", "--help"], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times[1:]


def first_step_seconds(repeats: int, folder: Path, images: int) -> list[float]:
    """Return the seconds from the start of each run to its first step, without the first run, which decodes images."""
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
        while process.poll() is None and not has_step(run / "metrics.jsonl"):
            time.sleep(0.01)
        times.append(time.perf_counter() - start)
        if process.poll():
            raise SystemExit(
                f"sightline train failed with exit status {process.returncode}; its error message is above"
            )
        process.kill()
        process.wait()
    return times[1:]


def has_step(log: Path) -> bool:
    """Return whether metrics.jsonl has a line of a training step."""
    return log.exists() and any(json.loads(line)["event"] == "train" for line in log.read_text().splitlines(True)[:9])


def map_seconds(samples: int, epochs: int, repeats: int) -> tuple[list[float], list[float]]:
    """Return the seconds of PCA and t-SNE of one epoch, and those of the maps of `epochs` epochs.

    The features are Gaussian clusters whose distances increase with the epoch.
    """
    from sightline.insight.projection import COMPONENTS, epoch_maps, principal_components, tsne

    random = np.random.default_rng(0)
    labels = random.integers(0, 50, samples)
    centers, noise = random.normal(size=(50, 512)), random.normal(size=(samples, 512))
    features = [(centers[labels] * (1 + epoch) / epochs + 2 * noise).astype(np.float32) for epoch in range(epochs)]
    tsne(principal_components(features[0][:200], COMPONENTS)[0], None)  # import the libraries
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
    """Print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="repeats of the first step and of t-SNE")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=2500, help="number of points in the maps")
    parser.add_argument("--epochs", type=int, default=8, help="number of epochs in the maps")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    info = machine_info()
    results: dict[str, Any] = {"help": help_seconds(5)}
    with tempfile.TemporaryDirectory() as folder:
        results["first step"] = first_step_seconds(options.repeats, Path(folder), options.images)
    results["t-SNE"], results["maps"] = map_seconds(options.samples, options.epochs, options.repeats)
    print(machine_line(info))
    print(f"{'':<12} {'best':>6} {'median (range), seconds':>26} {'target':>6}")
    for name, times in results.items():
        print(f"{name:<12} {min(times):>6.2f} {median_range(times, 2):>26} {TARGETS.get(name, ''):>6}")
    print(f"maps: {options.epochs} epochs of {options.samples:,} samples, PCA, t-SNE, k-NN and silhouette")
    write_results(options.json, info, results)


if __name__ == "__main__":
    main()
