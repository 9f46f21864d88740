"""Overhead of `sightline train` on a CUDA device: its images/s relative to a bare PyTorch loop.

    python benchmarks/gpu.py --json gpu.json

Takes under eight minutes and uses synthetic images. Without a CUDA device it prints an error and exits with status 3.
For each job it measures the second epoch of `sightline train`, and bare steps (forward pass, backward pass, optimizer)
on synthetic tensors on the device. Network, loss, batch size, precision and memory format are the same. Jobs run with
and without `train.compile`, and with the data on the device (`data.resident`) or copied batch by batch.

The bare step of BYOL is the step of Sightline's learner on two precomputed views. The other bare steps use only the
network, and for segmentation the loss, of Sightline. Each measurement runs in a separate process, except with --tiny.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from machine import machine_info, machine_line, warm_speed, write_results, write_split
from sightline.config.resolve import resolve
from sightline.engine.device import autocast, pick_precision
from sightline.errors import ENVIRONMENT
from sightline.recipes import load_recipe
from sightline.train import train

SECONDS, WARM_STEPS, DISTINCT = 450, 10, 256


@dataclass(frozen=True)
class Job:
    """A recipe with overrides. file_size: height and width of the image files. input_size: those of network inputs."""

    recipe: str
    model: str
    batch: int
    steps: int
    file_size: tuple[int, int]
    input_size: tuple[int, int]
    settings: dict[str, Any]


CLASSES = 11
PLAIN = {"augment.resize": 0, "loss.smoothing": 0}
JOBS = {
    "resnet50-224": Job("photos_scratch", "resnet50", 256, 20, (224, 224), (224, 224), PLAIN),
    "resnet18-32": Job("photos_scratch", "resnet18", 512, 40, (32, 32), (32, 32), PLAIN),
    "moco-64": Job("moco_fast", "resnet18", 256, 20, (64, 64), (64, 64), {"augment.progressive": []}),
    "segment-360x480": Job(
        "landcover_scratch", "unet", 8, 40, (360, 480), (360, 480), {"augment.scale": [1.0, 1.0], "optim.ema": 0}
    ),
}
NARROW = {"model.args": "{widths: [8, 16, 16], hidden: 16}"}
TINY = {
    "resnet50-224": ("small_cnn", 4, (16, 16), NARROW),
    "resnet18-32": ("small_cnn", 4, (16, 16), NARROW),
    "moco-64": ("small_cnn", 4, (16, 16), NARROW | {"pretrain.projector": [16, 8], "pretrain.predictor": 16}),
    "segment-360x480": ("unet", 2, (32, 32), {"model.args": "{width: 8, blocks: [1, 1, 1, 1], decoder: [8, 8]}"}),
}
"""For --tiny: model, batch size, image size and overrides that take a second on a CPU."""


def select_job(name: str, options: argparse.Namespace) -> Job:
    """Return a job with --tiny and --steps applied."""
    job = JOBS[name]
    if options.tiny:
        model, batch, side, settings = TINY[name]
        job = Job(job.recipe, model, batch, job.steps, side, side, job.settings | settings)
    return replace(job, steps=options.steps or job.steps)


def overrides(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """Return the overrides of the recipe's settings."""
    data: dict[str, Any] = {"data.size": job.input_size[0]}
    if job.recipe == "landcover_scratch":
        names = str([f"class{index}" for index in range(CLASSES)])
        data = {"augment.window": list(job.input_size), "data.palette": "", "data.classes": names}
    elif job.recipe == "moco_fast":
        data["pretrain.probe"] = ""
    return {
        **{"model.name": job.model, "model.args": "{}", "train.epochs": 2, "train.batch_size": job.batch},
        **{"train.device": options.device, "report.samples": 0, **data, **job.settings},
    }


def write_data(job: Job, folder: Path) -> None:
    """Write `steps` batches of training images, with the pixels of at most DISTINCT images, and 8 validation images."""
    height, width = job.file_size
    for split, count in (("train", job.steps * job.batch), ("val", 8)):
        distinct = min(count, DISTINCT)
        write_split(folder / split, distinct, CLASSES, width, height, "jpg", [])
        files = sorted((folder / split).rglob("*.jpg"), key=lambda path: path.stem)
        for index in range(distinct, count):
            file = files[index % distinct]
            same = file.read_bytes() + index.to_bytes(4, "big")  # another file: links to one file are used once
            file.with_name(f"{index:06}.jpg").write_bytes(same)
    if job.recipe == "landcover_scratch":
        write_masks(folder, height, width)


def write_masks(folder: Path, height: int, width: int) -> None:
    """Write a mask of random blocks for each image, in CamVid's layout: train, trainannot, val, valannot."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / f"{split}annot").mkdir()
        for path in sorted((folder / split).rglob("*.jpg")):
            blocks = Image.fromarray(random.integers(0, CLASSES, (6, 8), dtype=np.uint8))
            blocks.resize((width, height), Image.Resampling.NEAREST).save(folder / f"{split}annot" / f"{path.stem}.png")
            path.rename(folder / split / path.name)
        for entry in (folder / split).iterdir():
            if entry.is_dir():  # a class folder, now empty
                entry.rmdir()


def train_speed(name: str, options: argparse.Namespace, folder: Path, compiled: bool, resident: bool) -> float:
    """Return the images/s of the second epoch of `sightline train`, run in a subprocess (in this one with --tiny)."""
    job, run = select_job(name, options), folder / "run"
    settings = overrides(job, options)
    settings |= {"train.compile": str(compiled).lower(), "data.resident": "always" if resident else "never"}
    if options.tiny:
        train(resolve(load_recipe(job.recipe), settings), folder / name, out=run, overwrite=True, quiet=True)
    else:
        command = [sys.executable, "-m", "sightline", "train", job.recipe, "--data", str(folder / name)]
        command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        subprocess.run([*command, "--out", str(run), "--overwrite", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return warm_speed(records, job.steps, job.batch)


def bare_speed_in_subprocess(name: str, options: argparse.Namespace, data: Path, compiled: bool) -> float:
    """Return the images/s of the bare step, measured in a subprocess (in this one with --tiny)."""
    options.bare_data = str(data)
    if options.tiny:
        return bare_speed(name, options, compiled)
    command = [sys.executable, __file__, *sys.argv[1:], "--bare", name, "--bare-data", str(data)]
    command += ["--bare-compiled"] if compiled else []
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def bare_speed(name: str, options: argparse.Namespace, compiled: bool) -> float:
    """Measure the images/s of the bare step in this process."""
    job, device = select_job(name, options), torch.device(options.device)
    dtype = pick_precision("auto", device)
    make = {"moco_fast": bare_byol, "landcover_scratch": bare_segment}.get(job.recipe, bare_classify)
    compute_loss, optimizer, after_step = make(name, job, options, device, compiled)
    steps, start = max(job.steps, 3), 0.0
    synchronize = torch.cuda.synchronize if device.type == "cuda" else contextlib.nullcontext
    for step in range(steps + WARM_STEPS):
        if step == WARM_STEPS:
            synchronize()
            start = time.perf_counter()
        with autocast(device, dtype):
            loss = compute_loss()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        after_step(step + 1)
    synchronize()
    return job.batch * steps / (time.perf_counter() - start)


Bare = tuple[Callable[[], torch.Tensor], torch.optim.Optimizer, Callable[[int], None]]
"""A bare step: computes the loss, the optimizer, called with the number of steps after each."""


def bare_classify(name: str, job: Job, options: argparse.Namespace, device: torch.device, compiled: bool) -> Bare:
    """Classifier with cross-entropy and SGD."""
    from sightline.models import build_model

    network = (
        build_model(job.model, CLASSES, job.input_size[0]).to(device).to(memory_format=torch.channels_last).train()
    )
    images = torch.randn(job.batch, 3, *job.input_size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (job.batch,), device=device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
    forward = torch.compile(network, dynamic=False) if compiled else network
    return lambda: functional.cross_entropy(forward(images), labels), optimizer, lambda step: None


def bare_segment(name: str, job: Job, options: argparse.Namespace, device: torch.device, compiled: bool) -> Bare:
    """Segmenter with weighted cross-entropy and AdamW."""
    from sightline.models.segmenters import build_segmenter
    from sightline.tasks.segment.losses import cross_entropy

    config = resolve(load_recipe(job.recipe), overrides(job, options))
    network = build_segmenter(job.model, CLASSES, dict(config.model.args)).to(device)
    network = network.to(memory_format=torch.channels_last).train()
    images = torch.randn(job.batch, 3, *job.input_size, device=device).to(memory_format=torch.channels_last)
    masks = torch.randint(CLASSES, (job.batch, *job.input_size), dtype=torch.uint8, device=device)
    weights = torch.ones(CLASSES, device=device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(network, dynamic=False) if compiled else network
    return lambda: cross_entropy(forward(images), masks, weights), optimizer, lambda step: None


def bare_byol(name: str, job: Job, options: argparse.Namespace, device: torch.device, compiled: bool) -> Bare:
    """The learner's step and optimizer, on two precomputed views."""
    from sightline.data.loader import training_batches
    from sightline.engine.optim import build_optimizer
    from sightline.tasks import TASKS

    settings = overrides(job, options) | {"train.compile": compiled, "data.path": options.bare_data}
    config = resolve(load_recipe(job.recipe), settings)
    parts = TASKS[config.task].build(config, lambda text: None, "", True)
    batch = next(training_batches(parts.train, job.batch, 0, 0, 0, device))
    learner: Any = parts.learner
    views = learner.prepare(batch)
    learner.prepare = lambda batch: views
    learner.parameters().train()
    optimizer = build_optimizer(parts.model, config.optim, {}, parts.dtype)
    return lambda: learner.step(batch)["loss"], optimizer, lambda step: learner.after_step(step, 10**4)


def variants(name: str, options: argparse.Namespace) -> list[tuple[bool, bool]]:
    """Return (compiled, resident) of each run of a job. Copying is measured for two jobs only."""
    copied = [(False, False)] if name in ("resnet50-224", "resnet18-32") else []
    return [(False, True), *copied, *([] if options.no_compile else [(True, True)])]


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure the jobs and print each result; skip those that no time is left for."""
    begin, rows = time.monotonic(), []
    print(f"{'job':<16} {'data':<9} {'compiled':<8} {'bare step':>10} {'sightline':>10} {'ratio':>6}   images/s")
    for name in options.only:
        write_data(select_job(name, options), folder / name)
        bare: dict[bool, float] = {}
        for compiled, resident in variants(name, options):
            label = f"{name:<16} {'resident' if resident else 'copied':<9} {'yes' if compiled else 'no':<8}"
            if time.monotonic() - begin > SECONDS - (90 if compiled else 30):
                print(f"{label} skipped: not enough of the {SECONDS} s left; select jobs with --only")
                continue
            try:
                if compiled not in bare:
                    bare[compiled] = bare_speed_in_subprocess(name, options, folder / name, compiled)
                ours = train_speed(name, options, folder, compiled, resident)
            except subprocess.CalledProcessError as error:
                print(f"{label} failed with exit status {error.returncode}; its error message is above")
                rows.append({"job": name, "resident": resident, "compiled": compiled, "failed": error.returncode})
                continue
            row = {"job": name, "resident": resident, "compiled": compiled, "bare": bare[compiled], "sightline": ours}
            rows.append(row | {"ratio": ours / bare[compiled], "batch": select_job(name, options).batch})
            print(f"{label} {bare[compiled]:>10.1f} {ours:>10.1f} {ours / bare[compiled]:>6.3f}", flush=True)
    return rows


def main() -> None:
    """Print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--steps", type=int, help="steps per epoch, at least 3; default: depends on the job")
    parser.add_argument("--tiny", action="store_true", help="use tiny networks and images, to test this script")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--bare", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--bare-data", default="", help=argparse.SUPPRESS)
    parser.add_argument("--bare-compiled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured; for a test on the CPU: --device cpu --tiny", file=sys.stderr)
        sys.exit(ENVIRONMENT)
    if options.bare:
        print(bare_speed(options.bare, options, options.bare_compiled))
        return
    info = machine_info()
    print(machine_line(info))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SIGHTLINE_CACHE"] = str(Path(folder) / "cache")
        rows = measure(options, Path(folder))
    write_results(options.json, info, rows)
    if any("failed" in row for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
