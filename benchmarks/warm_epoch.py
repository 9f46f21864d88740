"""Overhead of `sightline train` in a warm epoch: its steps alternate with bare steps in the same process.

    python benchmarks/warm_epoch.py --objects objects50/ --camvid camvid/ --json warm.json

Steps of the run include data loading, augmentation and logging. A bare step trains on synthetic tensors in memory, with
the same model, loss, optimizer, batch size, precision and memory format. The ratio is the median time of a bare step
divided by that of a step of the run. Because the steps alternate, other processes on the machine slow down both. The
first steps, evaluation and saving are excluded.

    resnet18 64    ResNet-18 (7x7 stem) at 64x64, batch 128, random crops and flips    target 0.97
    resnet50 128   ResNet-50 at 128x128, batch 32, random crops and flips              target 0.97
    lite0 128      EfficientNet-Lite0 at 128x128, batch 32, random crops and flips     target 0.97
    mobilenet 128  MobileNetV3-large at 128x128, batch 32, random crops and flips      target 0.97
    byol 32        `moco_fast` at 32x32, batch 256: two views, two networks            target 0.90
    camvid         our U-Net on crops of 256x320 from images of 360x480, batch 8       target 0.95
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
DEPTHWISE = CROPS | {"data.size": 128, "train.batch_size": 32, "loss.smoothing": 0}
COMMON = {"train.epochs": 50, "train.evaluate_every": 50, "train.checkpoint_minutes": 60, "report.samples": 0}


@dataclass(frozen=True)
class Case:
    """A run to measure. data: the command-line option with its data. target: of the ratio."""

    recipe: str
    data: str
    settings: dict[str, Any]
    target: float


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
    "lite0 128": Case("photos_scratch", "objects", DEPTHWISE | {"model.name": "timm/tf_efficientnet_lite0"}, 0.97),
    "mobilenet 128": Case("photos_scratch", "objects", DEPTHWISE | {"model.name": "timm/mobilenetv3_large_100"}, 0.97),
    "byol 32": Case("moco_fast", "objects", {"augment.progressive": [], "train.batch_size": 256}, 0.90),
    "camvid": Case(
        "landcover_scratch", "camvid", {"data.palette": "camvid", "train.batch_size": 8, "optim.ema": 0}, 0.95
    ),
}

TINY = {"data.size": 32, "train.batch_size": 64, "train.precision": "fp32", "train.threads": 1}
SMALL = {
    "classify": Case("photos_scratch", "", CROPS | TINY | {"model.name": "small_cnn", "loss.smoothing": 0}, 0.0),
    "byol": Case("moco_fast", "", TINY | {"augment.progressive": [], "model.args": {"widths": [16, 32, 64]}}, 0.0),
}
"""Cases of tests/test_speed.py, which compares their ratios with ratios.json. `--record` writes this file."""


class EnoughSteps(Exception):
    """Raised to end a run after the requested number of steps."""


def bare_loss(training: Training) -> Callable[[], Tensor]:
    """Return a function that computes the loss of the run's model on synthetic tensors in memory."""
    config, parts = training.config, training.parts
    learner: Any = parts.learner
    model: Any = parts.model
    batch, side = config.train.batch_size, training_side(config, 0)
    if config.task == "pretrain":
        views = [torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last) for _ in range(2)]

        def pretraining_loss() -> Tensor:
            (first, first_target), (second, second_target) = (model(view) for view in views)
            return learner.loss(first, second_target) + learner.loss(second, first_target)

        return pretraining_loss
    if config.task == "segment":
        height, width = config.augment.window or parts.train.images.shape[2:]
        images = torch.randn(batch, 3, height, width).to(memory_format=torch.channels_last)
        masks = torch.randint(len(parts.train.classes), (batch, height, width), dtype=torch.uint8)
        forward = learner.forward or model.outputs
        return lambda: learner.loss(forward(images)["logits"], masks, weights=learner.class_weights)
    images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    labels = torch.randint(len(parts.train.classes), (batch,))
    return lambda: functional.cross_entropy(model(images), labels)


class StepTimer:
    """Times each step of a run and runs a bare step after it; its `tick` replaces that of the run's log.

    ours: seconds of each step of the run, except the first of an epoch. bare: seconds of each bare step.
    """

    def __init__(self, training: Training, pairs: int):
        self.training, self.pairs = training, pairs
        self.loss = bare_loss(training)
        self.optimizer = build_optimizer(training.parts.model, training.config.optim, {}, training.parts.dtype)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # do not change the weights of the run
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.step_start = 0.0  # 0 before the first step of an epoch, which is not timed

    def tick(self, step: int, doing: str = "") -> None:
        now = time.perf_counter()
        if doing:
            return
        if self.step_start:
            self.ours.append(now - self.step_start)
        start = time.perf_counter()
        with autocast(self.training.parts.device, self.training.parts.dtype):
            loss = self.loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.training.parts.learner.after_step(step, 10_000)
        self.bare.append(time.perf_counter() - start)
        if len(self.ours) >= self.pairs + WARM_STEPS:
            raise EnoughSteps
        self.step_start = 0.0 if step % self.training.epoch_steps == 0 else time.perf_counter()


def time_steps(case: Case, data: str, pairs: int, **settings: Any) -> StepTimer:
    """Run a case on `data` until `pairs` steps are timed; return its timer."""
    module: Any = importlib.import_module("sightline.train")
    assemble, timers = module.assemble, []

    def assemble_with_timer(*arguments: Any) -> Training:
        training = assemble(*arguments)
        timers.append(StepTimer(training, pairs))
        training.log.tick = timers[-1].tick
        return training

    module.assemble = assemble_with_timer
    try:
        with tempfile.TemporaryDirectory() as folder:
            module.train(case.recipe, data, out=Path(folder) / "run", quiet=True, **COMMON | case.settings | settings)
    except EnoughSteps:
        pass
    finally:
        module.assemble = assemble
    return timers[0]


def ratio(timer: StepTimer) -> float:
    """Return the images/s of the run, divided by those of the bare step."""
    ours, bare = timer.ours[WARM_STEPS:], timer.bare[WARM_STEPS:]
    return statistics.median(bare) / statistics.median(ours)


def summarize(name: str, case: Case, timer: StepTimer) -> dict[str, Any]:
    """Return the results of a case; `lowest` and `highest` are the extreme ratios of ten equal parts of the run."""
    ours, bare = timer.ours[WARM_STEPS:], timer.bare[WARM_STEPS:]
    batch, size = timer.training.config.train.batch_size, max(3, len(ours) // 10)
    starts = range(0, len(ours) - size + 1, size)
    parts = [slice(start, start + size) for start in starts]
    ratios = [statistics.median(bare[part]) / statistics.median(ours[part]) for part in parts]
    return {
        "case": name,
        "precision": str(timer.training.parts.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "steps": len(ours),
        "sightline": batch / statistics.median(ours),
        "bare": batch / statistics.median(bare),
        "ratio": ratio(timer),
        "lowest": min(ratios),
        "highest": max(ratios),
        "aim": case.target,
    }


def record(repeats: int = 5) -> None:
    """Write the median ratios of the small cases to ratios.json, for tests/test_speed.py."""
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", 256), ("val", 8)):
            write_split(Path(folder) / split, count, 4, 32, 32, "png", [])
        ratios = {
            name: statistics.median(ratio(time_steps(case, folder, 24)) for _ in range(repeats))
            for name, case in SMALL.items()
        }
    write_json(Path(__file__).with_name("ratios.json"), machine_info() | {"ratios": ratios})
    print(ratios)


def main() -> None:
    """Print a table, with a row after each case, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", help="folder of images in class folders")
    parser.add_argument("--camvid", help="folder of CamVid: images of 360x480 with masks")
    parser.add_argument("--pairs", type=int, default=40, help="number of timed steps per case")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--record", action="store_true", help="only write ratios.json next to this file")
    options = parser.parse_args()
    if options.record:
        record()
        return
    info, rows = machine_info(), []
    print(machine_line(info))
    print(
        f"{'case':14} {'precision':9} {'sightline':>10} {'bare':>8} {'ratio':>6}  {'range':15} {'target':>6}   images/s"
    )
    for name in options.only:
        case, data = CASES[name], getattr(options, CASES[name].data)
        if not data:
            print(f"{name:14} skipped: needs --{case.data} FOLDER")
            continue
        row = summarize(name, case, time_steps(case, data, options.pairs))
        rows.append(row)
        bounds = f"{row['lowest']:.3f} to {row['highest']:.3f}"
        numbers = f"{row['sightline']:10.1f} {row['bare']:8.1f} {row['ratio']:6.3f}  {bounds:15} {case.target:6.2f}"
        print(f"{name:14} {row['precision']:9} {numbers}", flush=True)
    write_results(options.json, info, rows)


if __name__ == "__main__":
    sys.exit(main())
