"""A prediction shared by the processes of `torchrun`: each writes a table of its own, the last puts them together."""

import csv
import os
from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import SightlineError
from ..runs.atomic import remove
from .resumable_csv import Growing

PIECE = 4096


class Share(NamedTuple):
    """Which of how many processes this one is."""

    rank: int
    world: int


def share_of(environment: dict[str, str] | os._Environ[str]) -> Share:
    """The place that torchrun gave this process; (0, 1) without torchrun."""
    try:
        share = Share(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))
    except ValueError:
        share = Share(-1, 0)
    if not 0 <= share.rank < share.world:
        where, cure = "RANK, WORLD_SIZE", "unset them, or start with torchrun"
        raise SightlineError("these variables name no process of a group", where=where, cure=cure)
    return share


def own_target(target: Path, share: Share) -> Path:
    """The table of this process: `guesses.rank-0-of-4.csv` for `guesses.csv`, and that itself where it is alone."""
    if share.world == 1:
        return target
    return target.with_name(f"{target.stem}.rank-{share.rank}-of-{share.world}.csv")


def put_together(target: Path, columns: list[str], share: Share) -> bool:
    """Make the table out of those of all processes, in the order of the pictures, once all are whole.

    Each process calls it at its end; the one that finds all of them does it, and True is returned there.
    """
    parts = [Growing(own_target(target, Share(rank, share.world)), columns) for rank in range(share.world)]
    if not all(part.target.is_file() for part in parts):
        return False
    claim = target.with_name(f"{target.name}.merging")
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    try:
        whole = Growing(target, columns)
        whole.begin({"parts": share.world}, overwrite=True)
        features = [np.load(part.features, mmap_mode="r") for part in parts if part.features.is_file()]
        rows, done = in_turn([rows_of(part.target) for part in parts]), 0
        while piece := list(islice(rows, PIECE)):
            whole.add(piece, rows_in_turn(features, done, done + len(piece)) if features else None)
            done += len(piece)
        whole.finish()
        remove([place for part in parts for place in (part.target, part.features)])
    finally:
        remove([claim])
    return True


def rows_of(table: Path) -> Iterator[list[str]]:
    """The rows of a table behind its head."""
    with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield from islice(csv.reader(file), 1, None)


def in_turn(tables: list[Iterator[list[str]]]) -> Iterator[list[str]]:
    """A row of each table in turn."""
    for rows in zip_longest(*tables):
        yield from (row for row in rows if row is not None)


def rows_in_turn(tables: list[np.ndarray], start: int, stop: int) -> np.ndarray:
    """Rows start to stop, [stop - start, D], of what a row of each table in turn makes."""
    places = np.arange(start, stop)
    found = np.empty((stop - start, tables[0].shape[1]), np.float32)
    for rank, table in enumerate(tables):
        own = places % len(tables) == rank
        found[own] = table[places[own] // len(tables)]
    return found
