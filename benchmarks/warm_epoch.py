"""What the toolkit costs in a warm epoch: each step of `sightline train` against a bare one, in turn, in one process.

    python benchmarks/warm_epoch.py --objects objects50/ --camvid camvid/ --json warm.json

A run goes its ordinary way (data, augmentation, logging). After each of its steps the clock stops, a bare step is
taken and timed (the same model, batch, precision, memory format and optimizer, on synthetic tensors that are in memory
already), and the run goes on. The ratio is that of the two medians; neighbors on the machine slow down both alike.
The first steps are not timed, and neither are evaluation and saving, which lie between epochs.

    resnet18 64    ResNet-18 (7x7 stem) at 64x64, batch 128, random crops and flips   aim 0.97
    resnet50 128   ResNet-50 at 128x128, batch 32, random crops and flips       aim 0.97
    byol 32        `byol_fast` at 32x32, batch 256: two views, two networks     aim 0.90
    camvid         our U-Net on whole pictures of 360x480, batch 8              aim 0.95
"""

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from machine import machine_info, machine_line, write_results, write_split
from sightline.engine.device import autocast
from sightline.engine.optim import build_optimizer
from sightline.engine.schedules import training_side
from sightline.engine.state import Training
from sightline.runs.atomic import write_json

WARM_STEPS = 8
CROPS = {"augment.crop": "random", "augment.padding": 4, "augment.horizontal_flip": 0.5, "augment.resize": 0}
COMMON = {"train.epochs": 50, "train.evaluate_every": 50, "train.checkpoint_minutes": 60, "report.samples": 0}


@dataclass(frozen=True)
class Case:
    """A run and how its bare step is made. data: which option names its pictures."""

    recipe: str
    data: str
    settings: dict[str, Any]
    aim: float


CASES = {
    "resnet18 64": Case(
        "photos_scratch",
        "objects",
        CROPS
        | {"model.name": "resnet18", "model.args": {"small_images": False}, "data.size": 64}
        | {"train.batch_size": 128, "loss.smoothing": 0},
        0.97,
    ),
    "resnet50 128": Case(
        "photos_scratch",
        "objects",
        CROPS | {"model.name": "resnet50", "data.size": 128, "train.batch_size": 32, "loss.smoothing": 0},
        0.97,
    ),
    "byol 32": Case("byol_fast", "objects", {"augment.progressive": [], "train.batch_size": 256}, 0.90),
    "camvid": Case("camvid_fast", "camvid", {"train.batch_size": 8, "optim.ema": 0}, 0.95),
}

LITTLE = {"data.size": 32, "train.batch_size": 64, "train.precision": "fp32", "train.threads": 1}
SMALL = {
    "classify": Case("photos_scratch", "", CROPS | LITTLE | {"model.name": "small_cnn", "loss.smoothing": 0}, 0.0),
    "byol": Case("byol_fast", "", LITTLE | {"augment.progressive": [], "model.args": {"widths": [16, 32, 64]}}, 0.0),
}
"""For tests/test_speed.py, which holds their ratios to those in ratios.json; `--record` writes these."""


class Enough(Exception):
    """The run has been watched for long enough."""


def bare_loss(training: Training) -> Callable[[], Tensor]:
    """The forward pass and the loss of a step on tensors in memory, by the model of the run."""
    config, parts = training.config, training.parts
    batch, side = config.train.batch_size, training_side(config, 0)
    if config.task == "pretrain":
        task: Any = parts.learner
        views = [torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last) for _ in range(2)]

        def pretraining() -> Tensor:
            (first, one), (second, two) = (parts.model(view) for view in views)
            return task.loss(first, two) + task.loss(second, one)

        return pretraining
    if config.task == "segment":
        height, width = config.augment.window or parts.train.images.shape[2:]
        images = torch.randn(batch, 3, height, width).to(memory_format=torch.channels_last)
        masks = torch.randint(len(parts.train.classes), (batch, height, width), dtype=torch.uint8)
        segment: Any = parts.learner
        return lambda: segment.loss(segment.forward(images)["logits"], masks, weights=segment.class_weights)
    images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    labels = torch.randint(len(parts.train.classes), (batch,))
    return lambda: functional.cross_entropy(parts.model(images), labels)


class Watch:
    """Stands in for a run's `log.tick`: times its step, then takes a bare one."""

    def __init__(self, training: Training, pairs: int):
        self.training, self.pairs = training, pairs
        self.loss = bare_loss(training)
        self.optimizer = build_optimizer(training.parts.model, training.config.optim, {}, training.parts.dtype)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # the run's weights stay what they are
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.before = 0.0

    def tick(self, step: int, doing: str = "") -> None:
        now = time.perf_counter()
        if doing:
            return
        if self.before:
            self.ours.append(now - self.before)
        start = time.perf_counter()
        with autocast(self.training.parts.device, self.training.parts.dtype):
            loss = self.loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.training.parts.learner.after_step(step, 10_000)
        self.bare.append(time.perf_counter() - start)
        if len(self.ours) >= self.pairs + WARM_STEPS:
            raise Enough
        self.before = 0.0 if step % self.training.epoch_steps == 0 else time.perf_counter()


def watched(case: Case, data: str, pairs: int, **settings: Any) -> Watch:
    """A run of `case` on `data`, ended after `pairs` timed steps."""
    loop: Any = importlib.import_module("sightline.train")
    real, found = loop.assemble, []

    def assembled(*arguments: Any) -> Training:
        training = real(*arguments)
        found.append(Watch(training, pairs))
        training.log.tick = found[-1].tick
        return training

    loop.assemble = assembled
    try:
        with tempfile.TemporaryDirectory() as folder:
            loop.train(case.recipe, data, out=Path(folder) / "run", quiet=True, **COMMON | case.settings | settings)
    except Enough:
        pass
    finally:
        loop.assemble = real
    return found[0]


def ratio(watch: Watch) -> float:
    """Images/s of the run as a share of the bare step's."""
    ours, bare = watch.ours[WARM_STEPS:], watch.bare[WARM_STEPS:]
    return statistics.median(bare) / statistics.median(ours)


def row(name: str, case: Case, watch: Watch) -> dict[str, Any]:
    """What is kept of a case; the range is that of the ratios of tenths of the steps."""
    ours, bare = watch.ours[WARM_STEPS:], watch.bare[WARM_STEPS:]
    batch, size = watch.training.config.train.batch_size, max(3, len(ours) // 10)
    starts = range(0, len(ours) - size + 1, size)
    tenths = [statistics.median(bare[s : s + size]) / statistics.median(ours[s : s + size]) for s in starts]
    return {
        "case": name,
        "precision": str(watch.training.parts.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "steps": len(ours),
        "sightline": batch / statistics.median(ours),
        "bare": batch / statistics.median(bare),
        "ratio": ratio(watch),
        "lowest": min(tenths),
        "highest": max(tenths),
        "aim": case.aim,
    }


def record(repeats: int = 5) -> None:
    """Write the medians of the small cases' ratios for tests/test_speed.py."""
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", 256), ("val", 8)):
            write_split(Path(folder) / split, count, 4, 32, 32, "png", [])
        found = {
            name: statistics.median(ratio(watched(case, folder, 24)) for _ in range(repeats))
            for name, case in SMALL.items()
        }
    write_json(Path(__file__).with_name("ratios.json"), machine_info() | {"ratios": found})
    print(found)


def main() -> None:
    """Print one table, a row as each case ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", help="pictures in class folders")
    parser.add_argument("--camvid", help="pictures and masks, 360x480")
    parser.add_argument("--pairs", type=int, default=40, help="steps that are timed")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--record", action="store_true", help="write ratios.json beside this file, and nothing else")
    options = parser.parse_args()
    if options.record:
        record()
        return
    known, rows = machine_info(), []
    print(machine_line(known))
    print(f"{'case':14} {'precision':9} {'sightline':>10} {'bare':>8} {'ratio':>6}  {'range':15} {'aim':>5}   images/s")
    for name in options.only:
        case, data = CASES[name], getattr(options, CASES[name].data)
        if not data:
            print(f"{name:14} left out: --{case.data} is not given")
            continue
        found = row(name, case, watched(case, data, options.pairs))
        rows.append(found)
        spread = f"{found['lowest']:.3f} to {found['highest']:.3f}"
        numbers = f"{found['sightline']:10.1f} {found['bare']:8.1f} {found['ratio']:6.3f}  {spread:15} {case.aim:5.2f}"
        print(f"{name:14} {found['precision']:9} {numbers}", flush=True)
    write_results(options.json, known, rows)


if __name__ == "__main__":
    sys.exit(main())
