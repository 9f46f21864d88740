"""Threads, the share of a process, and random orders, for all readers of data; without torch."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from ..errors import SightlineError

Given = TypeVar("Given")
Result = TypeVar("Result")


class Share(NamedTuple):
    """Rank of this process, and the number of processes."""

    rank: int
    world: int


def share_of(environment: Mapping[str, str]) -> Share:
    """The rank and world size set by torchrun; (0, 1) without torchrun."""
    try:
        share = Share(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))
    except ValueError:
        share = Share(-1, 0)
    if not 0 <= share.rank < share.world:
        where, cure = "RANK, WORLD_SIZE", "unset them, or start with torchrun"
        raise SightlineError("these variables name no process of a group", where=where, cure=cure)
    return share


def processors() -> int:
    """Number of processors that this process may use; on macOS and Windows, of all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def submit_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Given], Result], items: Iterable[Given], ahead: int
) -> Iterator[tuple[Given, Future[Result]]]:
    """(item, future of function(item)) in order; at most `ahead` later items have been submitted."""
    queue: deque[tuple[Given, Future[Result]]] = deque()
    for item in items:
        queue.append((item, pool.submit(function, item)))
        if len(queue) > ahead:
            yield queue.popleft()
    while queue:
        yield queue.popleft()


def permutation(count: int, seed: int, *key: int) -> np.ndarray:
    """A permutation int64 [count] for a seed and further numbers.

    Sorts random 64-bit keys instead of calling NumPy's `permutation`: NumPy keeps the raw stream of PCG64 the same over
    its versions (NEP 19), but not the methods built on it.
    """
    keys = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64)
