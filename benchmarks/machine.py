"""Shared by the benchmarks: machine and versions, synthetic images, JSON output, images/s from a log.

The synthetic images are smooth noise with grain. As JPEG files they take about as long to decode as photographs.
"""

import os
import platform
import sys
import time
import zlib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sightline.engine.device import device_name, processors
from sightline.runs.atomic import write_json
from sightline.runs.provenance import git_commit, installed_versions

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def machine_info() -> dict[str, Any]:
    """Machine, package versions, commit, command and start time, for the JSON file of a benchmark."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "machine": device_name(torch.device("cpu")),
        "processors": processors(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": platform.platform(),
        "load_before": load,
        "versions": installed_versions(),
        "git_commit": git_commit(),
        "command": [Path(sys.executable).name, *sys.argv],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def machine_line(info: dict[str, Any]) -> str:
    """Summarize `machine_info()` in one line, for the top of a table."""
    processor = f"{info['machine']}, {info['processors']} processors, load {info['load_before']:.1f}"
    return f"{processor}{', ' + info['gpu'] if info['gpu'] else ''}; torch {info['versions']['torch']}"


def write_results(path: Path | None, info: dict[str, Any], results: Any) -> None:
    """Write machine information and results to a JSON file; do nothing if `path` is None."""
    if path:
        write_json(path, {**info, "results": results})


def list_images(folder: str | None) -> list[Path]:
    """Return the paths of all image files below `folder`; [] if `folder` is None, so that noise is used."""
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES) if folder else []
    if folder and not found:
        raise SystemExit(f"no image files ({', '.join(SUFFIXES)}) below {folder}: give another folder")
    return found


def noise_image(width: int, height: int, seed: int) -> Image.Image:
    """Generate an RGB image of smooth noise with grain."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    return Image.fromarray((smooth + random.integers(-6, 7, smooth.shape)).clip(0, 255).astype(np.uint8))


def write_split(
    folder: Path, count: int, classes: int, width: int, height: int, suffix: str, paths: list[Path]
) -> None:
    """Write `count` images of width x height to class folders 00, 01, ... below `folder`.

    The images are those of `paths`, repeated (every second time mirrored) if there are too few, or noise if `paths` is
    empty. Classes are assigned in turn, without meaning. Each image has a 4x4 patch of its own color in a corner,
    because training stops if an image is in both splits.
    """
    for index in range(count):
        if paths:
            with Image.open(paths[index % len(paths)]) as opened:
                image = opened.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            if index // len(paths) % 2:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        else:
            image = noise_image(width, height, index)
        color = zlib.crc32(f"{folder.name} {index}".encode())
        image.paste((color & 255, color >> 8 & 255, color >> 16 & 255), (0, 0, 4, 4))
        path = folder / f"{index % classes:02}" / f"{index:05}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=90)  # ignored for PNG


def median_range(values: Iterable[float], digits: int = 1) -> str:
    """Format the median and the range, for a table."""
    ordered = sorted(values)
    return f"{float(np.median(ordered)):.{digits}f} ({ordered[0]:.{digits}f} to {ordered[-1]:.{digits}f})"


def warm_speed(records: list[dict[str, Any]], steps: int, batch: int) -> float:
    """Return the images per second of all epochs but the first, from the records of metrics.jsonl.

    steps: training steps per epoch. The time includes loading of data, and excludes evaluation and saving, which run
    between epochs.
    """
    logged = [record for record in records if record["event"] == "train"]
    warm = [(after["step"] - before["step"], after) for before, after in pairwise(logged) if after["step"] > steps]
    assert warm, "no step was logged after the first epoch"
    seconds = sum(count * batch / record["images_per_second"] for count, record in warm)
    return batch * sum(count for count, _ in warm) / seconds
