"""Memory and time per process of the index of streamed shards: names, labels and positions of all samples.

    python benchmarks/index_memory.py --images 100000 1000000 4000000 --json index_memory.json

No images are used: synthetic tables of 10,000 samples with names of about 30 characters replace those of the shards.
For each number of images, a separate process opens the split as a run does and computes the order of one epoch. Bytes
per image are the increase of the peak resident memory from the smallest number of images, divided by the added images.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from machine import machine_info, machine_line, write_results

SHARD = 10_000


def time_index(images: int) -> tuple[float, float]:
    """Return the seconds to open the split and the seconds to compute the order of an epoch."""
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
        rows = np.arange(first, first + count)
        return SampleTable(starts, starts + 51_200, rows, rows % 1000, sizes, np.zeros((count, 0), np.int64), names)

    entries = [
        ShardEntry(
            file=f"train-{index:06d}.tar",
            samples=SHARD,
            bytes=51_200 * SHARD,
            sha256="0" * 64,
            table_sha256="0" * 64,
            table=str(index * SHARD),
        )
        for index in range(images // SHARD)
    ]
    start = time.perf_counter()
    data = Data(path="synthetic", stream_mb=512)
    store = Store(data)
    store.table = table
    items = items_of(store, entries, None)
    assert items.shards is not None and len(items.names) == images
    opened = time.perf_counter()
    order = Stream(items.shards, items.labels, (3, 224, 224), None, None, data).order(0, 0)
    assert len(order) == images
    return opened - start, time.perf_counter() - opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=int, nargs="+", default=[100_000, 1_000_000, 4_000_000], help="multiples of 10000"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        seconds = time_index(options.one)
        print(*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    info, rows = machine_info(), []
    print(machine_line(info))
    print(f"{'images':>12} {'open, s':>8} {'order, s':>8} {'peak, MB':>9} {'bytes/image':>14}")
    for images in sorted(options.images):
        command = [sys.executable, __file__, "--one", str(images)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        opening, ordering, peak = map(float, done.stdout.split())
        per_image = (peak - rows[0]["peak"]) / (images - rows[0]["images"]) if rows else None
        rows.append({"images": images, "open": opening, "order": ordering, "peak": peak, "bytes": per_image})
        text = f"{per_image:14.0f}" if per_image else f"{'':14}"
        print(f"{images:12,} {opening:8.2f} {ordering:8.2f} {peak / 1e6:9.0f} {text}", flush=True)
    write_results(options.json, info, rows)


if __name__ == "__main__":
    main()
