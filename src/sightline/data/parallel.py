"""Thread pools, the rank of a process, and random permutations, for all readers of data; without torch."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from ..errors import SightlineError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Share(NamedTuple):
    """Rank of this process and world size (number of processes), by which work is divided."""

    rank: int
    world: int


def share_of(environment: Mapping[str, str]) -> Share:
    """Read rank and world size from the environment variables that torchrun sets; (0, 1) without torchrun."""
    try:
        share = Share(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))
    except ValueError:
        share = Share(-1, 0)
    if not 0 <= share.rank < share.world:
        where, cure = "RANK, WORLD_SIZE", "unset both (unset RANK WORLD_SIZE), or start the processes with torchrun"
        raise SightlineError("these environment variables are not a valid rank and world size", where=where, cure=cure)
    return share


def processors() -> int:
    """Number of processors that this process may use; on macOS and Windows, the number in the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def submit_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Call `function` for each item in the threads of `pool`; yield (item, future of the result) in order. At most
    `ahead` calls beyond the yielded item are submitted."""
    queue: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        queue.append((item, pool.submit(function, item)))
        if len(queue) > ahead:
            yield queue.popleft()
    while queue:
        yield queue.popleft()


def permutation(count: int, seed: int, *key: int) -> np.ndarray:
    """A random permutation of 0 .. count - 1, int64 [count], that depends only on `seed` and `key`.

    It sorts random 64-bit keys, because NumPy keeps the raw stream of PCG64 stable across versions (NEP 19), but not
    its method `permutation`.
    """
    keys = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64)
