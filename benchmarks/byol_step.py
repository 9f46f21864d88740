"""BYOL side by side: images/s, and k-NN accuracy after equal minutes, of Sightline, `lightly` and `byol-pytorch`.

    python benchmarks/byol_step.py --data transfer/pretrain/train --probe transfer/target \
        --rivals rivals/bin/python --minutes 3 --pairs 3

The same backbone (ResNet-18 with a 3x3 stem), batch and images, on the same machine and thread count, in turn. Each
package does what its own documentation shows (byol_rivals.py says how to install them): its own views, heads, optimizer
and precision. Sightline is the whole command, `byol_fast` with its contrastive loss and Muon, and with the heads of the
rival that it is compared with: 1024 wide against lightly, 4096 wide against byol-pytorch.

Speed is images by seconds after the first steps: data, views and steps count, Sightline's evaluation between epochs
does not; of the rivals, which evaluate nothing, the restart of the data workers at each epoch does. The minutes are
those from the first step on; Sightline's decoding into the cache comes before, and its evaluations are within. k-NN
accuracy is measured by one function for all, on the backbone's features of the probe's validation images, each
normalized as the package trained it. An interpreter that lacks a rival leaves it out with a message.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import torch

from sightline.build_pretrain import probe_images
from sightline.checkpoint import load_model
from sightline.data.augment import NORMALIZATIONS, evaluation_transform
from sightline.data.loader import evaluation_batches
from sightline.files import read_json_lines
from sightline.metrics import knn_votes
from sightline.models import build_backbone
from sightline.recipes import load_recipe
from sightline.settings import resolve
from sightline.train import train

HEADS = {"lightly": 1024, "byol-pytorch": 4096}
WORKER = Path(__file__).with_name("byol_rivals.py")


def ours(options: argparse.Namespace, hidden: int, folder: Path) -> tuple[float, Path]:
    """(images/s, run folder) of `sightline train` for so many minutes."""
    settings = {
        "data.path": options.data,
        "data.size": options.size,
        "model": {"name": "resnet18", "args": {}},
        "augment.progressive": [],
        "augment.normalize": "imagenet",
        "pretrain.projector": [hidden, 256],
        "pretrain.predictor": hidden,
        "train.epochs": options.epochs,
        "train.batch_size": options.batch,
        "train.max_minutes": options.minutes,
        "report.samples": 0,
    }
    run = train(resolve(load_recipe("byol_fast"), settings), out=folder, quiet=True)
    records = [r for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "train"]
    warm = [(after["step"] - before["step"], after["images_per_second"]) for before, after in pairwise(records)]
    return sum(steps for steps, _ in warm) / sum(steps / speed for steps, speed in warm), run.path


def theirs(options: argparse.Namespace, rival: str, folder: Path) -> tuple[float, Path] | None:
    """(images/s, file of weights) of a rival for so many minutes; None where it cannot be imported."""
    out = folder / f"{rival}.pt"
    arguments = {"data": options.data, "size": options.size, "batch": options.batch, "epochs": options.epochs}
    arguments |= {"seconds": 60 * options.minutes, "out": out}
    flags = [item for key, value in arguments.items() for item in (f"--{key}", str(value))]
    done = subprocess.run([options.rivals, str(WORKER), rival, *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        print(f"{rival} is left out: {reason[0]}; byol_rivals.py says how to install it")
        return None
    return float(json.loads(done.stdout.strip().splitlines()[-1])["images_per_second"]), out


def knn_of(options: argparse.Namespace, tensors: dict[str, torch.Tensor], normalization: str) -> float:
    """k-NN accuracy of a ResNet-18 with these weights on the probe."""
    config = resolve(load_recipe("byol_fast"), {"data.size": options.size, "pretrain.probe": options.probe})
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
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=20, help="that the schedules are laid for")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    print(f"ResNet-18 at {options.size} pixels, batch {options.batch}, {options.minutes:g} minutes each")
    print(f"{'rival':<14}{'ours':>8}{'theirs':>8}{'ratio':>8}   k-NN ours, theirs")
    for rival, hidden in HEADS.items():
        ratios = []
        for _ in range(options.pairs):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                found = theirs(options, rival, folder)
                if found is None:
                    break
                speed, run = ours(options, hidden, folder / "run")
                state, _ = load_model(run / "checkpoints" / "best")
                own = {key.removeprefix("backbone."): v for key, v in state.items() if key.startswith("backbone.")}
                worths = (
                    knn_of(options, own, "imagenet"),
                    knn_of(options, torch.load(found[1], weights_only=True), "imagenet"),
                )
            ratios.append(speed / found[0])
            print(f"{rival:<14}{speed:>8.1f}{found[0]:>8.1f}{ratios[-1]:>8.3f}   {worths[0]:.4f}, {worths[1]:.4f}")
        if ratios:
            print(f"{rival:<14}{'':>16}{statistics.median(ratios):>8.3f}   median")


if __name__ == "__main__":
    main()
