"""What the index of streamed shards costs in memory and seconds, a process: all names, labels and places of a split.

    python benchmarks/index_memory.py --images 100000 1000000 4000000 --json index_memory.json

No picture is made or read: tables of 10,000 samples each stand in for those that lie beside shards, with names of about
30 letters. For each number of images a process of its own opens the split as a run does and orders one epoch; its peak
of resident memory, less that of the smallest number, is divided by the images between.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from machine import facts, headline, keep

SHARD = 10_000


def opened(images: int) -> tuple[float, float]:
    """(seconds to open the split, seconds to order an epoch) in this process."""
    from sightline.config.schema import Data
    from sightline.data.shard_format import SampleTable, ShardEntry
    from sightline.data.shards.fetch import Store
    from sightline.data.shards.index import items_of
    from sightline.data.shards.stream import Stream

    def table(entry: ShardEntry) -> SampleTable:
        first, count = int(entry.table), entry.samples
        starts = np.arange(count, dtype=np.int64) * 51_200
        sizes = np.stack([np.full(count, 224), np.full(count, 224)], 1)
        names = tuple(f"train/n{i % 1000:08d}/n{i % 1000:08d}_{i}.jpg" for i in range(first, first + count))
        numbers, labels = np.arange(first, first + count), np.arange(first, first + count) % 1000
        return SampleTable(starts, starts + 51_200, numbers, labels, sizes, np.zeros((count, 0), np.int64), names)

    entries = [
        ShardEntry(
            file=f"train-{n:06d}.tar",
            samples=SHARD,
            bytes=51_200 * SHARD,
            sha256="0" * 64,
            table_sha256="0" * 64,
            table=str(n * SHARD),
        )
        for n in range(images // SHARD)
    ]
    begin = time.perf_counter()
    data = Data(path="nowhere", stream_mb=512)
    store = Store(data)
    store.table = table
    items = items_of(store, entries, None)
    assert items.shards is not None and len(items.names) == images
    middle = time.perf_counter()
    order = Stream(items.shards, items.labels, (3, 224, 224), None, None, data).order(0, 0)
    assert len(order) == images
    return middle - begin, time.perf_counter() - middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 1_000_000, 4_000_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        seconds = opened(options.one)
        print(*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    known, rows = facts(), []
    print(headline(known))
    print(f"{'images':>12} {'open, s':>8} {'order, s':>8} {'peak, MB':>9} {'bytes an image':>14}")
    for images in sorted(options.images):
        command = [sys.executable, __file__, "--one", str(images)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        opening, ordering, peak = map(float, done.stdout.split())
        each = (peak - rows[0]["peak"]) / (images - rows[0]["images"]) if rows else None
        rows.append({"images": images, "open": opening, "order": ordering, "peak": peak, "bytes": each})
        told = f"{each:14.0f}" if each else f"{'':14}"
        print(f"{images:12,} {opening:8.2f} {ordering:8.2f} {peak / 1e6:9.0f} {told}", flush=True)
    keep(options.json, known, rows)


if __name__ == "__main__":
    main()
