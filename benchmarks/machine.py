"""What the benchmarks say of the machine that they ran on, pictures for those that have none, and how results are kept.

The pictures are smooth noise with some grain: no photographs, but JPEG takes about as long to decode them.
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


def facts() -> dict[str, Any]:
    """Machine, versions, command and time, for the JSON of a benchmark."""
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


def headline(known: dict[str, Any]) -> str:
    """One line of `facts` above a table."""
    processor = f"{known['machine']}, {known['processors']} processors, load {known['load_before']:.1f}"
    return f"{processor}{', ' + known['gpu'] if known['gpu'] else ''}; torch {known['versions']['torch']}"


def keep(path: Path | None, known: dict[str, Any], results: Any) -> None:
    """Write a benchmark's JSON, where it was asked for."""
    if path:
        write_json(path, {**known, "results": results})


def sources(folder: str | None) -> list[Path]:
    """Pictures to make a benchmark's from; [] without a folder: noise is taken."""
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES) if folder else []
    if folder and not found:
        raise SystemExit(f"there are no pictures in {folder}")
    return found


def noise(width: int, height: int, seed: int) -> Image.Image:
    """Smooth noise with grain, RGB."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    return Image.fromarray((smooth + random.integers(-6, 7, smooth.shape)).clip(0, 255).astype(np.uint8))


def write_split(
    folder: Path, count: int, classes: int, width: int, height: int, suffix: str, pictures: list[Path]
) -> None:
    """`count` pictures of width x height in class folders 00, 01, ... below `folder`, out of `pictures` or of noise.

    Where there are too few, they come again, turned; labels go round and mean nothing: only the speed is measured. A
    spot in a corner makes each a picture of its own, for training stops where a split has the pictures of another.
    """
    for number in range(count):
        if pictures:
            with Image.open(pictures[number % len(pictures)]) as opened:
                picture = opened.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            if turns := number // len(pictures) % 2:
                picture = picture.transpose(Image.Transpose(turns - 1))
        else:
            picture = noise(width, height, number)
        mark = zlib.crc32(f"{folder.name} {number}".encode())
        picture.paste((mark & 255, mark >> 8 & 255, mark >> 16 & 255), (0, 0, 4, 4))
        place = folder / f"{number % classes:02}" / f"{number:05}.{suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place, quality=90)  # PNG has no use for it


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Median and range, for a table."""
    known = sorted(values)
    return f"{float(np.median(known)):.{digits}f} ({known[0]:.{digits}f} to {known[-1]:.{digits}f})"


def warm_speed(records: list[dict[str, Any]], steps: int, batch: int) -> float:
    """Images per second of the training steps after the first `steps`, an epoch's, from the records of metrics.jsonl.

    From asking for the epoch's first batch to the end of its last step; evaluation and saving lie between epochs.
    """
    trained = [record for record in records if record["event"] == "train"]
    warm = [(after["step"] - before["step"], after) for before, after in pairwise(trained) if after["step"] > steps]
    seconds = sum(count * batch / record["images_per_second"] for count, record in warm)
    return batch * sum(count for count, _ in warm) / seconds
