"""Threads and random orders that several readers of data share; without torch."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

Given = TypeVar("Given")
Result = TypeVar("Result")


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
