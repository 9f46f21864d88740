"""Images a second out of shards, against the same files read directly: what a training step could be fed with.

    python benchmarks/stream.py --data photographs/ streets/ --sides 32 0 --palette camvid --out stream.json

For each set, in this one process: `files` opens, decodes and batches the training images where they lie, in the order
of an epoch, with the same threads and nothing else; `shards` iterates over the batches of an epoch as training does,
order, mixing and checks included; `cache` gathers them from the decoded cache. Sides: that to which images are decoded;
0: image-mask pairs at their own size, read with the palette. Each is run `--repeats` times in turn after one that is
not counted (files are then in the system's memory: it is the processor that is measured, not the disk); the median is
printed, and the smallest and the largest. The shards' SHA-256 are taken in that first run, whose speed is printed as
`first`.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import sightline
from sightline.config.schema import Data
from sightline.data.decode.images import Square, planes
from sightline.data.image_cache import decode
from sightline.data.loader import epoch_order, training_batches
from sightline.data.pair_cache import decode_pairs
from sightline.data.shards.stream import stream_images, stream_pairs
from sightline.data.sources.open import open_source
from sightline.data.sources.pairs import open_pairs
from sightline.data.types import Decoded, Items

BATCH = 64


def main() -> None:
    """Measure every set, print one table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--sides", nargs="+", type=int, required=True)
    parser.add_argument("--palette", default="camvid")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("stream.json"))
    options = parser.parse_args()
    results = [measure(path, side, options) for path, side in zip(options.data, options.sides, strict=True)]
    print(f"{'data':<24} {'images':>7} {'way':<7} {'images/s':>9}  {'smallest to largest':<20} first")
    for result in results:
        for way, speeds in result["images_per_second"].items():
            middle, spread = statistics.median(speeds[1:]), f"{min(speeds[1:]):,.0f} to {max(speeds[1:]):,.0f}"
            row = f"{Path(result['data']).name:<24} {result['images']:>7,} {way:<7} {middle:>9,.0f}  {spread:<20}"
            print(f"{row} {speeds[0]:,.0f}")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"machine": platform.processor() or platform.machine(), "threads": threads, "batch": BATCH}
    options.out.write_text(json.dumps(machine | {"sets": results}, indent=2) + "\n")


def measure(path: str, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """Images a second of each way through one set."""
    with tempfile.TemporaryDirectory() as folder:
        data = Data(path=path, palette=options.palette if not side else "", cache_dir=f"{folder}/cache")
        settings: dict[str, Any] = {"data.palette": data.palette} if not side else {}
        out = sightline.pack(path, f"{folder}/shards", shard_mb=64, quiet=True, **settings)
        packed = Data(path=str(out), cache_dir=data.cache_dir)
        cached: Decoded
        streamed: Decoded
        if side:
            source = open_source(data, 0)
            cached = decode(source, "train", side, data, lambda text: None)
            streamed = stream_images(open_source(packed, 0), "train", side, packed)
        else:
            source, palette = open_pairs(data, 0)
            cached = decode_pairs(source, "train", palette, data, lambda text: None)
            streamed = stream_pairs(open_pairs(packed, 0)[0], "train", palette, packed)
        ways: dict[str, Callable[[int], int]] = {
            "files": lambda epoch: through_files(source.splits["train"], side, epoch),
            "shards": lambda epoch: through_batches(streamed, epoch),
            "cache": lambda epoch: through_batches(cached, epoch),
        }
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        for epoch in range(options.repeats + 1):
            for way, go in ways.items():
                start = time.perf_counter()
                count = go(epoch)
                speeds[way].append(count / (time.perf_counter() - start))
        size = sum(file.stat().st_size for file in out.glob("train-*.tar"))
        return {"data": path, "side": side, "images": len(cached.names), "bytes": size, "images_per_second": speeds}


def through_files(items: Items, side: int, epoch: int) -> int:
    """Decode all images, and masks, where they lie, in batches and threads; returns how many."""
    square = Square(side) if side else None

    def one(place: int) -> tuple[np.ndarray, np.ndarray | None]:
        image = items.read(place, side)
        mask = None if square or items.read_mask is None else items.read_mask(place)
        return square.of(image) if square else planes(image), mask

    order, count = epoch_order(0, epoch, len(items.names)).tolist(), 0
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(order), BATCH):
            found = list(pool.map(one, order[start : start + BATCH]))
            count += len(np.stack([image for image, _ in found]))
    return count


def through_batches(decoded: Decoded, epoch: int) -> int:
    """All batches of an epoch; returns how many images they had."""
    return sum(len(batch.samples) for batch in training_batches(decoded, BATCH, 0, epoch))


if __name__ == "__main__":
    main()
