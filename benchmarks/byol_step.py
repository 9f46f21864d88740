"""Compare BYOL and MoCo v3 in Sightline, `lightly` and `byol-pytorch`: images/s, and k-NN after equal training times.

    python benchmarks/byol_step.py --data transfer/pretrain/train --probe transfer/target --rivals rivals/bin/python

All use the same backbone (ResNet-18 with a 3x3 stem), batch size, images and number of threads, and run one after
another, or with --at-once at the same time, each on one core of its own. The other packages run BYOL as in their
documentation, with their own views, heads, optimizer and precision (float32), and once more in bfloat16 and
channels_last; byol_rivals.py describes how to install them. Sightline trains `byol_fast`, BYOL with its own loss,
without progressive resizing, with heads as wide as those of the other package: 1024 for lightly, 4096 for byol-pytorch.
Neither package has MoCo v3; `moco_fast` is compared with one from lightly's modules. In each row all have the same
objective; optimizer, momentum and views are those of each.

Speed is measured in pairs of short runs on 2,000 images, without the first steps. It includes data loading, views and
training steps, and for the other packages the start of data workers in each epoch. Sightline's evaluation is not timed.

k-NN accuracy is measured after one longer run of each, whose schedule has the number of epochs that fit into --minutes
at the measured speed. One function computes it for all, from the backbone's features of the validation images in
--probe, and also from their pixels minus the mean image, and from the features of the backbone without training. A
package that cannot be imported is skipped with a message.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from sightline.config.resolve import resolve
from sightline.data.augment.batch import NORMALIZATIONS, evaluation_transform
from sightline.data.channels import RGB
from sightline.data.loader import evaluation_batches
from sightline.models import build_backbone
from sightline.recipes import load_recipe
from sightline.runs.atomic import read_json_lines
from sightline.runs.checkpoint import load_model
from sightline.stats.metrics import knn_votes
from sightline.tasks.pretrain.build import probe_images
from sightline.tasks.pretrain.config import PretrainConfig
from sightline.train import train


@dataclass(frozen=True)
class Rival:
    """What is compared: our recipe, the width of its heads, and the program and precision of the other package."""

    program: str
    recipe: str = "byol_fast"
    hidden: int = 1024
    bf16: bool = False


RIVALS = {
    "lightly": Rival("lightly"),
    "lightly, bfloat16": Rival("lightly", bf16=True),
    "byol-pytorch": Rival("byol-pytorch", hidden=4096),
    "byol-pytorch, bfloat16": Rival("byol-pytorch", hidden=4096, bf16=True),
    "lightly, MoCo v3": Rival("lightly-moco", "moco_fast"),
    "lightly, MoCo v3, bfloat16": Rival("lightly-moco", "moco_fast", bf16=True),
}
FEW = 2000
"""The number of images on which speed is measured: a line of the log, whose speed is read, is of a 20th of them."""
CORES = sorted(os.sched_getaffinity(0))
WORKER = Path(__file__).with_name("byol_rivals.py")


def link_images(data: str, images: Path, count: int) -> str:
    """Create a folder of links to the first `count` PNG files of `data`, sorted by path; return its path."""
    images.mkdir()
    for path in sorted(Path(data).rglob("*.png"))[:count]:
        (images / path.name).symlink_to(path.resolve())
    return str(images)


def run_sightline(
    options: argparse.Namespace, rival: Rival, folder: Path, minutes: float, epochs: int
) -> tuple[float, Path]:
    """Train with Sightline for `minutes`; return the images/s and the run folder.

    The learning rate of SGD is scaled to the batch size, and the warm-up is at most a third of a short run: with that
    of the recipe and without warm-up, three epochs of BYOL with batches of 64 made the features worse (LOG.md).
    """
    recipe = load_recipe(rival.recipe)
    scale = options.batch / recipe.train.batch_size if recipe.optim.name == "sgd" else 1
    settings = {
        "data.path": options.data,
        "data.size": options.size,
        "model": {"name": "resnet18", "args": {}},
        "augment.progressive": [],
        "augment.normalize": "imagenet",
        "pretrain.projector": [rival.hidden, 256],
        "pretrain.predictor": rival.hidden,
        "optim.lr": recipe.optim.lr * scale,
        "schedule.warmup_epochs": min(recipe.schedule.warmup_epochs, epochs // 3),
        "train.epochs": epochs,
        "train.batch_size": options.batch,
        "train.max_minutes": minutes,
        "train.evaluate_every": 1000,
        "report.samples": 0,
    }
    run = train(resolve(recipe, settings), out=folder, quiet=True)
    records = [r for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "train"]
    warm = [(after["step"] - before["step"], after["images_per_second"]) for before, after in pairwise(records)]
    return sum(steps for steps, _ in warm) / sum(steps / speed for steps, speed in warm), run.path


def run_rival(
    options: argparse.Namespace, rival: Rival, folder: Path, minutes: float, epochs: int
) -> tuple[float, Path] | None:
    """Train with another package for `minutes`; return the images/s and the file of weights, or None if it fails."""
    out = folder / "weights.pt"
    arguments = {"data": options.data, "size": options.size, "batch": options.batch, "epochs": epochs}
    arguments |= {"seconds": 60 * minutes, "out": out}
    flags = [item for key, value in arguments.items() for item in (f"--{key}", str(value))]
    flags += ["--bf16"] if rival.bf16 else []
    pinned = ["taskset", "--cpu-list", str(CORES[1])] if options.at_once else []
    command = [*pinned, options.rivals, str(WORKER), rival.program, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        print(f"skipped {rival.program}: {reason[0]}; how to install it is in {WORKER.name}")
        return None
    return float(json.loads(done.stdout.strip().splitlines()[-1])["images_per_second"]), out


def run_both(
    options: argparse.Namespace, rival: Rival, folder: Path, minutes: float, epochs: tuple[int, int]
) -> list[tuple[float, Path]]:
    """Train with the other package and with Sightline; return what each of them returned, or nothing if the other
    fails. epochs: of Sightline's schedule and of the other's."""
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(run_rival, options, rival, folder, minutes, epochs[1])
        if not options.at_once and job.result() is None:
            return []
        ours = run_sightline(options, rival, folder / "run", minutes, epochs[0])
        other = job.result()
    return [ours, other] if other else []


def compare_speed(options: argparse.Namespace, name: str) -> tuple[float, float] | None:
    """Print the images/s of each pair of runs; return the medians (Sightline, rival), or None if the rival fails."""
    rival, pairs = RIVALS[name], list[tuple[float, float]]()
    epochs = 1000  # more than a run can finish in --seconds
    for _ in range(options.pairs):
        with tempfile.TemporaryDirectory() as folder:
            found = run_both(options, rival, Path(folder), options.seconds / 60, (epochs, epochs))
        if not found:
            return None
        (ours, _), (other, _) = found
        pairs.append((ours, other))
        print(f"{name:<28}{ours:>10.1f}{other:>8.1f}{ours / other:>8.3f}", flush=True)
    print(f"{name:<28}{'':>18}{statistics.median(a / b for a, b in pairs):>8.3f}   median", flush=True)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def compare_accuracy(options: argparse.Namespace, rival: Rival, speeds: tuple[float, float]) -> tuple[float, float]:
    """Train both for --minutes; return the k-NN accuracies (Sightline, rival)."""
    ours, others = (max(1, round(60 * options.minutes * speed / options.images)) for speed in speeds)
    with tempfile.TemporaryDirectory() as name:
        (_, run), (_, file) = run_both(options, rival, Path(name), options.minutes, (ours, others))
        state, _ = load_model(run / "checkpoints" / "best")
        weights = {key.removeprefix("backbone."): v for key, v in state.items() if key.startswith("backbone.")}
        return knn_accuracy(options, weights), knn_accuracy(options, torch.load(file, weights_only=True))


def knn_accuracy(options: argparse.Namespace, weights: dict[str, torch.Tensor] | None) -> float:
    """Return the k-NN accuracy on --probe of a ResNet-18 with these weights, or without training if they are None;
    images are normalized for ImageNet."""
    torch.manual_seed(0)
    network, _ = build_backbone("resnet18", options.size)
    if weights is not None:
        network.load_state_dict(weights)
    network.eval()
    transform = evaluation_transform(options.size, *NORMALIZATIONS["imagenet"])
    return accuracy_of_neighbors(options, lambda images: network(transform(images)))


@torch.inference_mode()
def accuracy_of_neighbors(
    options: argparse.Namespace, features: Callable[[torch.Tensor], torch.Tensor], centered: bool = False
) -> float:
    """Return the k-NN accuracy on --probe of features of images uint8 [N, 3, H, W]. centered: minus their mean over
    the labeled images."""
    config = resolve(load_recipe("byol_fast"), {"data.size": options.size, "pretrain.probe": options.probe})
    assert isinstance(config, PretrainConfig)
    val, bank = probe_images(config, lambda text: None, RGB)
    known, asked = (torch.cat([features(b.images) for b in evaluation_batches(d, 256)]) for d in (bank, val))
    assert bank.labels is not None and val.labels is not None
    if centered:
        known, asked = known - known.mean(0), asked - known.mean(0)
    votes = knn_votes(known, torch.from_numpy(bank.labels), asked, len(bank.classes))
    return float((votes.argmax(1) == torch.from_numpy(val.labels)).float().mean())


def main() -> None:
    """Print the images/s of each pair with the median ratios, then the k-NN accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = "; ".join(RIVALS)
    parser.add_argument("--data", required=True, help="folder of PNG files")
    parser.add_argument("--probe", required=True, help="folder of labeled images for the k-NN accuracy")
    parser.add_argument("--rivals", default=sys.executable, help="Python with lightly and byol-pytorch")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=2000, help="number of images of --data for k-NN")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each run that measures speed")
    parser.add_argument("--minutes", type=float, default=3.0, help="length of each run that measures k-NN, or 0")
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=list(RIVALS), metavar="NAME", help=f"of {names}")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--at-once", action="store_true", help="train both at the same time, each on one core")
    options = parser.parse_args()
    if options.at_once:
        os.sched_setaffinity(0, CORES[:1])
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        every, threads = options.data, 1 if options.at_once else len(CORES)
        options.data = link_images(every, Path(name) / "few", FEW)
        print(
            f"ResNet-18 at {options.size} pixels, batch {options.batch}, {options.seconds:g} s each, {threads} threads"
        )
        print(f"{'images/s':<28}{'sightline':>10}{'other':>8}{'ratio':>8}")
        speeds = {name: compare_speed(options, name) for name in options.only}
        if not options.minutes:
            return
        options.data = link_images(every, Path(name) / "images", options.images)
        print(f"k-NN accuracy after {options.minutes:g} minutes of each, {options.images:,} images")
        pixels = evaluation_transform(options.size, (0.0,) * 3, (1.0,) * 3)
        raw = accuracy_of_neighbors(options, lambda images: pixels(images).flatten(1), centered=True)
        print(f"{'raw pixels':<28}{raw:>10.4f}\n{'untrained':<28}{knn_accuracy(options, None):>10.4f}", flush=True)
        for rival, pair in speeds.items():
            if pair:
                accuracy, other = compare_accuracy(options, RIVALS[rival], pair)
                print(f"{rival:<28}{accuracy:>10.4f}{other:>8.4f}", flush=True)


if __name__ == "__main__":
    main()
