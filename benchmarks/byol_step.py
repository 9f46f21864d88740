"""BYOL side by side: images/s, and k-NN accuracy after equal minutes, of Sightline, `lightly` and `byol-pytorch`.

    python benchmarks/byol_step.py --data transfer/pretrain/train --probe transfer/target --rivals rivals/bin/python

The same backbone (ResNet-18 with a 3x3 stem), batch and images, on the same machine and thread count, in turn. Each
package does what its own documentation shows (byol_rivals.py says how to install them): its own views, heads, optimizer
and precision. Sightline is the whole command, `byol_fast` with its contrastive loss and Muon, at full size throughout,
and with the heads of the rival that it is compared with: 1024 wide against lightly, 4096 wide against byol-pytorch.

First the speed, in pairs of short runs: images by seconds after the first steps. Data, views and steps count,
Sightline's evaluation between epochs does not; of the rivals, which evaluate nothing, the new start of data workers at
each epoch does. Then one longer run of each, its schedule laid for the epochs that its own speed allows in these
minutes, which are those from the first step on. k-NN accuracy is measured by one function for all, on the backbone's
features of the probe's validation images, each normalized as the package trained it. An interpreter that lacks a rival
leaves it out with a message.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import torch

from sightline.config.resolve import resolve
from sightline.data.augment.batch import NORMALIZATIONS, evaluation_transform
from sightline.data.loader import evaluation_batches
from sightline.models import build_backbone
from sightline.recipes import load_recipe
from sightline.runs.atomic import read_json_lines
from sightline.runs.checkpoint import load_model
from sightline.stats.metrics import knn_votes
from sightline.tasks.pretrain.build import probe_images
from sightline.tasks.pretrain.config import PretrainConfig
from sightline.train import train

HEADS = {"lightly": 1024, "byol-pytorch": 4096}
CORES = len(os.sched_getaffinity(0))
WORKER = Path(__file__).with_name("byol_rivals.py")


def some_images(options: argparse.Namespace, folder: Path) -> str:
    """A folder of links to the first so many images by name, for all."""
    paths = sorted(Path(options.data).rglob("*.png"))[: options.images]
    place = folder / "images"
    place.mkdir()
    for path in paths:
        (place / path.name).symlink_to(path.resolve())
    return str(place)


def ours(options: argparse.Namespace, hidden: int, folder: Path, minutes: float, epochs: int) -> tuple[float, Path]:
    """(images/s, run folder) of `sightline train` for so many minutes."""
    settings = {
        "data.path": options.data,
        "data.size": options.size,
        "model": {"name": "resnet18", "args": {}},
        "augment.progressive": [],
        "augment.normalize": "imagenet",
        "pretrain.projector": [hidden, 256],
        "pretrain.predictor": hidden,
        "schedule.warmup_epochs": 0,
        "train.epochs": epochs,
        "train.batch_size": options.batch,
        "train.max_minutes": minutes,
        "train.evaluate_every": 1000,
        "report.samples": 0,
    }
    run = train(resolve(load_recipe("byol_fast"), settings), out=folder, quiet=True)
    records = [r for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "train"]
    warm = [(after["step"] - before["step"], after["images_per_second"]) for before, after in pairwise(records)]
    return sum(steps for steps, _ in warm) / sum(steps / speed for steps, speed in warm), run.path


def theirs(
    options: argparse.Namespace, rival: str, folder: Path, minutes: float, epochs: int
) -> tuple[float, Path] | None:
    """(images/s, file of weights) of a rival for so many minutes; None where it cannot be imported."""
    out = folder / f"{rival}.pt"
    arguments = {"data": options.data, "size": options.size, "batch": options.batch, "epochs": epochs}
    arguments |= {"seconds": 60 * minutes, "out": out}
    flags = [item for key, value in arguments.items() for item in (f"--{key}", str(value))]
    done = subprocess.run([options.rivals, str(WORKER), rival, *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        print(f"{rival} is left out: {reason[0]}; byol_rivals.py says how to install it")
        return None
    return float(json.loads(done.stdout.strip().splitlines()[-1])["images_per_second"]), out


def speeds(options: argparse.Namespace, rival: str, hidden: int) -> tuple[float, float] | None:
    """(our median images/s, the rival's) over the pairs, each printed; None where the rival is not there."""
    pairs: list[tuple[float, float]] = []
    many = 1000  # epochs: a schedule that does not end within these seconds
    for _ in range(options.pairs):
        with tempfile.TemporaryDirectory() as name:
            found = theirs(options, rival, Path(name), options.seconds / 60, many)
            if found is None:
                return None
            speed, _ = ours(options, hidden, Path(name) / "run", options.seconds / 60, many)
        pairs.append((speed, found[0]))
        print(f"{rival:<14}{speed:>8.1f}{found[0]:>8.1f}{speed / found[0]:>8.3f}", flush=True)
    print(f"{rival:<14}{'':>16}{statistics.median(a / b for a, b in pairs):>8.3f}   median", flush=True)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def worths(options: argparse.Namespace, rival: str, hidden: int, speed: tuple[float, float]) -> tuple[float, float]:
    """k-NN accuracies of ours and theirs after equal minutes."""
    epochs = [max(1, round(60 * options.minutes * own / options.images)) for own in speed]
    with tempfile.TemporaryDirectory() as name:
        found = theirs(options, rival, Path(name), options.minutes, epochs[1])
        assert found is not None
        _, run = ours(options, hidden, Path(name) / "run", options.minutes, epochs[0])
        state, _ = load_model(run / "checkpoints" / "best")
        own = {key.removeprefix("backbone."): v for key, v in state.items() if key.startswith("backbone.")}
        return (
            knn_of(options, own, "imagenet"),
            knn_of(options, torch.load(found[1], weights_only=True), "imagenet"),
        )


def knn_of(options: argparse.Namespace, tensors: dict[str, torch.Tensor], normalization: str) -> float:
    """k-NN accuracy of a ResNet-18 with these weights on the probe."""
    config = resolve(load_recipe("byol_fast"), {"data.size": options.size, "pretrain.probe": options.probe})
    assert isinstance(config, PretrainConfig)
    val, bank = probe_images(config, lambda text: None)
    network, _ = build_backbone("resnet18", options.size)
    network.load_state_dict(tensors)
    network.eval()
    mean, std = NORMALIZATIONS[normalization]
    transform = evaluation_transform(options.size, mean, std)
    with torch.inference_mode():
        features = [torch.cat([network(transform(b.images)) for b in evaluation_batches(d, 256)]) for d in (bank, val)]
    assert bank.labels is not None and val.labels is not None
    votes = knn_votes(features[0], torch.from_numpy(bank.labels), features[1], len(bank.classes))
    return float((votes.argmax(1) == torch.from_numpy(val.labels)).float().mean())


def main() -> None:
    """Print a line a pair, then the median ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of PNG files")
    parser.add_argument("--probe", required=True, help="labeled images for the k-NN accuracy")
    parser.add_argument("--rivals", default=sys.executable, help="the Python that has the rivals")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=2000, help="of the folder, an epoch")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run for the speed")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each run for the k-NN accuracy")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        options.data = some_images(options, Path(name))
        print(f"ResNet-18 at {options.size} pixels, batch {options.batch}, {options.seconds:g} s each, {CORES} threads")
        print(f"{'rival':<14}{'ours':>8}{'theirs':>8}{'ratio':>8}")
        found = {rival: speeds(options, rival, hidden) for rival, hidden in HEADS.items()}
        print(f"k-NN accuracy after {options.minutes:g} minutes of each, {options.images:,} images")
        for rival, hidden in HEADS.items():
            speed = found[rival]
            if speed:
                own, other = worths(options, rival, hidden, speed)
                print(f"{rival:<14}{own:>8.4f}{other:>8.4f}", flush=True)


if __name__ == "__main__":
    main()
