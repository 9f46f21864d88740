"""Divide a prediction among the processes of `torchrun`: each writes a table, the last one merges them."""

import contextlib
import csv
import os
from collections.abc import Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from ..data.parallel import Share
from ..runs.atomic import atomic_path, remove
from .resumable_csv import ResumableTable

MERGED_ROWS = 4096
"""Number of rows that are merged at a time."""


def shard_path(path: Path, share: Share) -> Path:
    """The output path of one process: `guesses.rank-0-of-4.csv` for `guesses.csv`; `path` for a single process."""
    return path if share.world == 1 else path.with_stem(f"{path.stem}.rank-{share.rank}-of-{share.world}")


def shard_table(target: Path, columns: list[str], share: Share) -> ResumableTable:
    """The table that one process writes; it is CSV if there are several processes, even if `target` is Parquet."""
    return ResumableTable(shard_path(target if share.world == 1 else target.with_suffix(".csv"), share), columns)


def merge_shards(target: Path, columns: list[str], share: Share, origin: dict[str, Any]) -> bool:
    """Merge the tables of all processes into `target`, in the order of the images, if all tables are complete and of
    the same `origin`: the inputs of the prediction. Tables that an earlier prediction left are not merged.

    Every process calls this when its table is complete. Returns True in the process that merged the tables.
    """
    shards = [shard_table(target, columns, Share(rank, share.world)) for rank in range(share.world)]
    claimed = shards[0].target.with_suffix(".merging")
    if not all(shard.is_share(origin) for shard in shards):
        return False
    try:
        os.rename(shards[0].target, claimed)  # succeeds in one process only
    except FileNotFoundError:
        return False
    tables = [claimed, *(shard.target for shard in shards[1:])]
    merged = ResumableTable(target, columns)
    merged.begin({}, overwrite=True)
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(open(path, encoding="utf-8", errors="surrogateescape", newline="")) for path in tables
        ]
        turns = islice(zip_longest(*map(csv.reader, files)), 1, None)
        rows = (row for turn in turns for row in turn if row is not None)
        while chunk := list(islice(rows, MERGED_ROWS)):
            merged.add(chunk)
    if any(shard.width for shard in shards):
        with atomic_path(merged.features) as path:
            merge_features(path, shards, merged.rows)
    merged.finish()
    remove([*tables, *(path for shard in shards for path in (shard.record, shard.features_part))])
    return True


def merge_features(target: Path, shards: Sequence[ResumableTable], rows: int) -> None:
    """Write the features of all ranks to `target`, in the order of the images. All files are released at the end;
    Windows renames and removes no mapped file."""
    width = max(shard.width for shard in shards)
    merged = np.lib.format.open_memmap(target, "w+", np.float32, (rows, width))
    merged[:] = np.nan
    for rank, shard in enumerate(shards):
        if shard.width:
            values = np.memmap(shard.features_part, np.float32, "r", shape=(shard.rows, width))
            merged[rank :: len(shards)] = values
    merged.flush()
