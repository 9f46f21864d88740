"""What the step benchmarks share: `sightline train` against a bare loop, in turn, each in a process of its own.

The ratio is taken pair by pair, because a shared machine drifts.
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
    """Images per second of the training steps of `sightline train` after its first epoch, its last batch left out.

    From the log's own clock: what lies between two training steps (data, augmentation, logging) counts, evaluation
    does not.
    """
    command = [sys.executable, "-m", "sightline", "train", recipe, "--data", data, "--out", str(folder)]
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    subprocess.run([*command, "--overwrite", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    warm = [record for record in records if record["event"] == "train" and record["epoch"] > 1]
    first, last = warm[0], warm[-2]
    batch = int(str(settings["train.batch_size"]))
    return batch * (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])


def bare_speed(
    loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer, batch: int, steps: int, precision: str
) -> float:
    """Images per second of forward, backward and optimizer step on one batch that lies in memory.

    loss: the forward pass and the loss. The first WARM_STEPS are not timed.
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
    """Print one table: each pair, then the median ratio. `script --bare` prints the bare loop's images per second."""
    ratios = []
    print(f"{title}, images/s\n{'pair':>4} {'bare loop':>10} {'sightline':>10} {'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(pairs):
            command = [sys.executable, script, *sys.argv[1:], "--bare"]
            floor = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ours = train_speed(recipe, data, settings, Path(folder) / "run")
            ratios.append(ours / floor)
            print(f"{pair + 1:>4} {floor:>10.1f} {ours:>10.1f} {ratios[-1]:>7.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
