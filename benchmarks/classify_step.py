"""What the toolkit costs: images/s of `sightline train` in a warm epoch against a bare loop on synthetic tensors.

Both train the same model with the same batch size, precision, memory format, optimizer and thread count, in turn, in
processes of their own; the ratio is taken pair by pair, because a shared machine drifts.

    python benchmarks/classify_step.py --data objects50/ --model resnet18 --size 32 --pairs 5

The bare loop has its tensors in memory before the clock starts: no data, no augmentation, no logging, no evaluation.
`sightline train` is the whole command; its images/s are those of the training steps after the first epoch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def bare(model: str, size: int, batch: int, steps: int, precision: str, classes: int) -> float:
    """Images per second of forward, backward and SGD step on one synthetic batch."""
    import time

    import torch
    from torch.nn import functional

    from sightline.models import build_model

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = build_model(model, classes, size).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,))
    start = 0.0
    for step in range(steps + 5):
        if step == 5:
            start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return batch * steps / (time.perf_counter() - start)


def sightline(data: str, model: str, size: int, batch: int, precision: str, folder: Path) -> float:
    """Images per second of the training steps of `sightline train` after its first epoch."""
    command = [sys.executable, "-m", "sightline", "train", "photos_scratch", "--data", data, "--out", str(folder)]
    settings = {
        "data.size": size,
        "model.name": model,
        "augment.resize": 0,
        "augment.crop": "random",
        "augment.padding": 4,
        "train.epochs": 2,
        "train.batch_size": batch,
        "train.precision": precision,
        "loss.smoothing": 0,
        "report.samples": 0,
    }
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    subprocess.run([*command, "--overwrite", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    warm = [record for record in records if record["event"] == "train" and record["epoch"] > 1]
    first, last = warm[0], warm[-2]  # the epoch's last batch is smaller
    return batch * (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])


def main() -> None:
    """Print one table: each pair, then the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--bare", action="store_true", help="run only the bare loop and print its images/s")
    options = parser.parse_args()
    shape = (options.model, options.size, options.batch)
    if options.bare:
        print(bare(*shape, options.steps, options.precision, options.classes))
        return
    ratios = []
    print(f"{options.model} at {options.size}x{options.size}, batch {options.batch}, {options.precision}, images/s")
    print(f"{'pair':>4} {'bare loop':>10} {'sightline':>10} {'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(options.pairs):
            command = [sys.executable, __file__, *sys.argv[1:], "--bare"]
            floor = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ours = sightline(options.data, *shape, options.precision, Path(folder) / "run")
            ratios.append(ours / floor)
            print(f"{pair + 1:>4} {floor:>10.1f} {ours:>10.1f} {ratios[-1]:>7.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
