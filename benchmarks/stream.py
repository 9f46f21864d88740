"""Images/s of loading batches from shards, from the original files, and from the decoded cache.

    python benchmarks/stream.py --data photographs/ streets/ --sides 32 0 --palette camvid --out stream.json

For each data set, three loaders run in this process. `files` reads, decodes and batches the training images with a
thread pool. `shards` yields the batches of an epoch as in training, including shuffling and checks. `cache` reads them
from the decoded cache. --sides has one number per data set: the side to which images are resized, or 0 for image-mask
pairs at their own size, whose masks are read with --palette.

The loaders alternate. Printed are the median and the range of --repeats epochs, and `first`, the epoch before these, in
which the SHA-256 of the shards is verified. After it the files are in the page cache, so disk speed is not measured.
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
    """Measure all data sets, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="folders of images")
    parser.add_argument("--sides", nargs="+", type=int, required=True, help="image side of each data set, 0 for pairs")
    parser.add_argument("--palette", default="camvid")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("stream.json"))
    options = parser.parse_args()
    results = [measure(path, side, options) for path, side in zip(options.data, options.sides, strict=True)]
    print(f"{'data':<24} {'images':>7} {'loader':<7} {'images/s':>9}  {'range':<20} first")
    for result in results:
        for loader, speeds in result["images_per_second"].items():
            median, bounds = statistics.median(speeds[1:]), f"{min(speeds[1:]):,.0f} to {max(speeds[1:]):,.0f}"
            row = f"{Path(result['data']).name:<24} {result['images']:>7,} {loader:<7} {median:>9,.0f}  {bounds:<20}"
            print(f"{row} {speeds[0]:,.0f}")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"machine": platform.processor() or platform.machine(), "threads": threads, "batch": BATCH}
    options.out.write_text(json.dumps(machine | {"sets": results}, indent=2) + "\n")


def measure(path: str, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the images/s of each epoch and loader for one data set."""
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
        loaders: dict[str, Callable[[int], int]] = {
            "files": lambda epoch: load_files(source.splits["train"], side, epoch),
            "shards": lambda epoch: load_batches(streamed, epoch),
            "cache": lambda epoch: load_batches(cached, epoch),
        }
        speeds: dict[str, list[float]] = {name: [] for name in loaders}
        for epoch in range(options.repeats + 1):
            for name, load in loaders.items():
                start = time.perf_counter()
                count = load(epoch)
                speeds[name].append(count / (time.perf_counter() - start))
        size = sum(file.stat().st_size for file in out.glob("train-*.tar"))
        return {"data": path, "side": side, "images": len(cached.names), "bytes": size, "images_per_second": speeds}


def load_files(items: Items, side: int, epoch: int) -> int:
    """Decode and batch all images, and their masks, with a thread pool; return the number of images."""
    square = Square(side) if side else None

    def load(index: int) -> tuple[np.ndarray, np.ndarray | None]:
        image = items.read(index, side)
        mask = None if square or items.read_mask is None else items.read_mask(index)
        return square.of(image) if square else planes(image), mask

    order, count = epoch_order(0, epoch, len(items.names)).tolist(), 0
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(order), BATCH):
            pairs = list(pool.map(load, order[start : start + BATCH]))
            count += len(np.stack([image for image, _ in pairs]))
    return count


def load_batches(decoded: Decoded, epoch: int) -> int:
    """Load all batches of an epoch; return the number of images."""
    return sum(len(batch.samples) for batch in training_batches(decoded, BATCH, 0, epoch))


if __name__ == "__main__":
    main()
