"""Images/s of `sightline train` on a CUDA device against the bare step on synthetic tensors that lie there.

    python benchmarks/gpu.py --json gpu.json

One call, under eight minutes, pictures of its own. Without a CUDA device it says so and ends with status 3. For each
job: the whole command's warm epoch (machine.warm_speed), the bare forward, backward and optimizer step of the same
network, loss, batch, precision and memory format, and the ratio; with and without `train.compile`; with the images on
the device from the start (`data.resident`) and copied batch by batch. BYOL's bare step is Sightline's own on two views
made before; those of the others use nothing of it but the network and the loss. Every run is a process of
its own, but with --tiny.
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

from machine import facts, headline, keep, warm_speed, write_split
from sightline.config.resolve import resolve
from sightline.engine.device import autocast, pick_precision
from sightline.errors import ENVIRONMENT
from sightline.recipes import load_recipe
from sightline.train import train

SECONDS, WARM_STEPS, DISTINCT = 450, 10, 256


@dataclass(frozen=True)
class Job:
    """A recipe and what of it is changed. picture: height and width on disk. window: those of a training image."""

    recipe: str
    model: str
    batch: int
    steps: int
    picture: tuple[int, int]
    window: tuple[int, int]
    settings: dict[str, Any]


CLASSES = 11
PLAIN = {"augment.resize": 0, "loss.smoothing": 0}
JOBS = {
    "resnet50-224": Job("photos_scratch", "resnet50", 256, 20, (224, 224), (224, 224), PLAIN),
    "resnet18-32": Job("photos_scratch", "resnet18", 512, 40, (32, 32), (32, 32), PLAIN),
    "byol-64": Job("byol_fast", "resnet18", 256, 20, (64, 64), (64, 64), {"augment.progressive": []}),
    "segment-360x480": Job(
        "camvid_fast", "unet", 8, 40, (360, 480), (360, 480), {"augment.scale": [1.0, 1.0], "optim.ema": 0}
    ),
}
TINY = {
    "resnet50-224": ("small_cnn", 4, (16, 16), {}),
    "resnet18-32": ("small_cnn", 4, (16, 16), {}),
    "byol-64": ("small_cnn", 4, (16, 16), {"pretrain.projector": [16, 8], "pretrain.predictor": 16}),
    "segment-360x480": ("unet", 2, (32, 32), {"model.args": "{width: 8, blocks: [1, 1, 1, 1], decoder: [8, 8]}"}),
}
"""For --tiny: model, batch, size and settings of a job that a processor does in a second."""


def chosen(name: str, options: argparse.Namespace) -> Job:
    """The job as these options want it."""
    job = JOBS[name]
    if options.tiny:
        model, batch, side, settings = TINY[name]
        job = Job(job.recipe, model, batch, job.steps, side, side, job.settings | settings)
    return replace(job, steps=options.steps or job.steps)


def settings_of(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """What is changed of the recipe."""
    segments = job.recipe == "camvid_fast"
    sizes: dict[str, Any] = {"augment.window": list(job.window)} if segments else {"data.size": job.window[0]}
    names = str([f"class{number}" for number in range(CLASSES)])
    sizes |= {"data.palette": "", "data.classes": names} if segments else {}
    sizes |= {"pretrain.probe": ""} if job.recipe == "byol_fast" else {}
    return {
        **{"model.name": job.model, "model.args": "{}", "train.epochs": 2, "train.batch_size": job.batch},
        **{"train.device": options.device, "report.samples": 0, **sizes, **job.settings},
    }


def write_data(job: Job, folder: Path) -> None:
    """Training pictures for `steps` batches, DISTINCT different ones under many names, and a few for validation."""
    height, width = job.picture
    for split, count in (("train", job.steps * job.batch), ("val", 8)):
        first = min(count, DISTINCT)
        write_split(folder / split, first, CLASSES, width, height, "jpg", [])
        files = sorted((folder / split).rglob("*.jpg"), key=lambda path: path.stem)
        for number in range(first, count):
            os.link(files[number % first], files[number % first].with_name(f"{number:06}.jpg"))
    if job.recipe == "camvid_fast":
        write_masks(folder, height, width)


def write_masks(folder: Path, height: int, width: int) -> None:
    """A mask of blocks beside each picture, in CamVid's layout: train, trainannot, val, valannot."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / f"{split}annot").mkdir()
        for path in sorted((folder / split).rglob("*.jpg")):
            blocks = Image.fromarray(random.integers(0, CLASSES, (6, 8), dtype=np.uint8))
            blocks.resize((width, height), Image.Resampling.NEAREST).save(folder / f"{split}annot" / f"{path.stem}.png")
            path.rename(folder / split / path.name)
        for left in (folder / split).iterdir():
            if left.is_dir():
                left.rmdir()


def train_speed(name: str, options: argparse.Namespace, folder: Path, compiled: bool, resident: bool) -> float:
    """Images/s of the second epoch of `sightline train`, in a process of its own; of a toy in this one."""
    job, run = chosen(name, options), folder / "run"
    kept = {"train.compile": str(compiled).lower(), "data.resident": "always" if resident else "never"}
    settings = settings_of(job, options) | kept
    if options.tiny:
        train(resolve(load_recipe(job.recipe), settings), folder / name, out=run, overwrite=True, quiet=True)
    else:
        command = [sys.executable, "-m", "sightline", "train", job.recipe, "--data", str(folder / name)]
        command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        subprocess.run([*command, "--out", str(run), "--overwrite", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return warm_speed(records, job.steps, job.batch)


def bare_elsewhere(name: str, options: argparse.Namespace, data: Path, compiled: bool) -> float:
    """Images/s of the bare step in a process of its own; of a toy in this one."""
    options.bare_data = str(data)
    if options.tiny:
        return bare_speed(name, options, compiled)
    command = [sys.executable, __file__, *sys.argv[1:], "--bare", name, "--bare-data", str(data)]
    command += ["--bare-compiled"] if compiled else []
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def bare_speed(name: str, options: argparse.Namespace, compiled: bool) -> float:
    """Images/s of the bare step; run by a process of its own."""
    job, device = chosen(name, options), torch.device(options.device)
    dtype = pick_precision("auto", device)
    make = {"byol_fast": bare_byol, "camvid_fast": bare_segment}.get(job.recipe, bare_classify)
    loss_of, optimizer, after = make(name, job, options, device, compiled)
    steps, start = max(job.steps, 3), 0.0
    wait = torch.cuda.synchronize if device.type == "cuda" else contextlib.nullcontext
    for step in range(steps + WARM_STEPS):
        if step == WARM_STEPS:
            wait()
            start = time.perf_counter()
        with autocast(device, dtype):
            loss = loss_of()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        after(step + 1)
    wait()
    return job.batch * steps / (time.perf_counter() - start)


Bare = tuple[Callable[[], torch.Tensor], torch.optim.Optimizer, Callable[[int], None]]


def bare_classify(name: str, job: Job, options: argparse.Namespace, device: torch.device, compiled: bool) -> Bare:
    """Cross entropy and SGD of a classifier."""
    from sightline.models import build_model

    network = build_model(job.model, CLASSES, job.window[0]).to(device).to(memory_format=torch.channels_last).train()
    images = torch.randn(job.batch, 3, *job.window, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (job.batch,), device=device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
    forward = torch.compile(network, dynamic=False) if compiled else network
    return lambda: functional.cross_entropy(forward(images), labels), optimizer, lambda step: None


def bare_segment(name: str, job: Job, options: argparse.Namespace, device: torch.device, compiled: bool) -> Bare:
    """Weighted cross entropy and AdamW of a segmenter."""
    from sightline.models.segmenters import build_segmenter
    from sightline.tasks.segment.losses import cross_entropy

    config = resolve(load_recipe(job.recipe), settings_of(job, options))
    network = build_segmenter(job.model, CLASSES, dict(config.model.args)).to(device)
    network = network.to(memory_format=torch.channels_last).train()
    images = torch.randn(job.batch, 3, *job.window, device=device).to(memory_format=torch.channels_last)
    masks = torch.randint(CLASSES, (job.batch, *job.window), dtype=torch.uint8, device=device)
    weights = torch.ones(CLASSES, device=device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(network, dynamic=False) if compiled else network
    return lambda: cross_entropy(forward(images), masks, weights), optimizer, lambda step: None


def bare_byol(name: str, job: Job, options: argparse.Namespace, device: torch.device, compiled: bool) -> Bare:
    """The task's own step and optimizer on two views made before."""
    from sightline.data.loader import training_batches
    from sightline.engine.optim import build_optimizer
    from sightline.tasks import TASKS

    settings = settings_of(job, options) | {"train.compile": compiled, "data.path": options.bare_data}
    config = resolve(load_recipe(job.recipe), settings)
    parts = TASKS[config.task].build(config, lambda text: None, "", True)
    batch = next(training_batches(parts.train, job.batch, 0, 0, 0, device))
    task: Any = parts.learner
    views = task.prepare(batch)
    task.prepare = lambda batch: views
    task.parameters().train()
    optimizer = build_optimizer(parts.model, config.optim, {}, parts.dtype)
    return lambda: task.step(batch)["loss"], optimizer, lambda step: task.after_step(step, 10**4)


def variants(name: str, options: argparse.Namespace) -> list[tuple[bool, bool]]:
    """(compiled, resident) of the runs of a job; copies batch by batch where they can be felt."""
    copied = [(False, False)] if name in ("resnet50-224", "resnet18-32") else []
    return [(False, True), *copied, *([] if options.no_compile else [(True, True)])]


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All rows, printed as they come; what no time is left for is named."""
    begin, rows = time.monotonic(), []
    print(f"{'':<16} {'images':<9} {'compiled':<8} {'bare step':>10} {'sightline':>10} {'ratio':>6}   images/s")
    for name in options.only:
        write_data(chosen(name, options), folder / name)
        bare: dict[bool, float] = {}
        for compiled, resident in variants(name, options):
            place = "resident" if resident else "copied"
            label = f"{name:<16} {place:<9} {'yes' if compiled else 'no':<8}"
            if time.monotonic() - begin > SECONDS - (90 if compiled else 30):
                print(f"{label} left out: the minutes are over")
                continue
            try:
                if compiled not in bare:
                    bare[compiled] = bare_elsewhere(name, options, folder / name, compiled)
                ours = train_speed(name, options, folder, compiled, resident)
            except subprocess.CalledProcessError as error:
                print(f"{label} failed with status {error.returncode}: see above")
                rows.append({"job": name, "resident": resident, "compiled": compiled, "failed": error.returncode})
                continue
            row = {"job": name, "resident": resident, "compiled": compiled, "bare": bare[compiled], "sightline": ours}
            rows.append(row | {"ratio": ours / bare[compiled], "batch": chosen(name, options).batch})
            print(f"{label} {bare[compiled]:>10.1f} {ours:>10.1f} {ours / bare[compiled]:>6.3f}", flush=True)
    return rows


def main() -> None:
    """Print one table; write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--steps", type=int, help="an epoch's, at least 3; default: each job's own")
    parser.add_argument("--tiny", action="store_true", help="toy networks and pictures: does the script run?")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--bare", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--bare-data", default="", help=argparse.SUPPRESS)
    parser.add_argument("--bare-compiled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device is here: nothing was measured", file=sys.stderr)
        sys.exit(ENVIRONMENT)
    if options.bare:
        print(bare_speed(options.bare, options, options.bare_compiled))
        return
    known = facts()
    print(headline(known))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SIGHTLINE_CACHE"] = str(Path(folder) / "cache")
        rows = measure(options, Path(folder))
    keep(options.json, known, rows)
    if any("failed" in row for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
