"""Alternate `sightline train` with a bare PyTorch loop, each in a separate process; used by *_step.py.

A ratio is computed for each pair of consecutive measurements, because the speed of a shared machine drifts.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

WARM_STEPS = 5


def train_speed(recipe: str, data: str, settings: Mapping[str, object], folder: Path) -> float:
    """Run `sightline train` and return the images per second after the first epoch.

    Computed from the `seconds` in metrics.jsonl: includes data loading, augmentation and logging, but not evaluation.
    settings: must set `train.epochs` to 2.
    """
    command = [sys.executable, "-m", "sightline", "train", recipe, "--data", data, "--out", str(folder)]
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    subprocess.run([*command, "--overwrite", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    warm = [record for record in records if record["event"] == "train" and record["epoch"] > 1]
    first, last = warm[0], warm[-1]
    images = json.loads((folder / "provenance.json").read_text())["data"]["counts"]["train"]
    return images * (last["epoch"] - first["epoch"]) / (last["seconds"] - first["seconds"])


def bare_speed(
    loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer, batch: int, steps: int, precision: str
) -> float:
    """Return the images per second of forward pass, backward pass and optimizer step.

    loss: computes the forward pass and the loss of one batch in memory. The first WARM_STEPS steps are not timed.
    """
    start = 0.0
    for step in range(steps + WARM_STEPS):
        if step == WARM_STEPS:
            start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return batch * steps / (time.perf_counter() - start)


def compare(title: str, script: str, recipe: str, data: str, settings: Mapping[str, object], pairs: int) -> None:
    """Print a table of all pairs, and the median ratio.

    script: a benchmark that prints the images per second of the bare loop when called with --bare.
    """
    ratios = []
    print(f"{title}, images/s\n{'pair':>4} {'bare loop':>10} {'sightline':>10} {'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(pairs):
            command = [sys.executable, script, *sys.argv[1:], "--bare"]
            bare = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ours = train_speed(recipe, data, settings, Path(folder) / "run")
            ratios.append(ours / bare)
            print(f"{pair + 1:>4} {bare:>10.1f} {ours:>10.1f} {ratios[-1]:>7.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
