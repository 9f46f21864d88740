"""One thread that computes: who asks is answered first, in batches; what can wait is done while nobody asks."""

import threading
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

LARGEST = 32
"""Requests that are answered in one batch."""
ROOM = 128
"""Requests that may wait; one more is told to come again."""

Compute = Callable[[list[Any]], Sequence[Any]]


class Crowded(Exception):
    """Too many requests wait already."""


class Asked(NamedTuple):
    """One request. kind: those of one kind go through `compute` together."""

    kind: Hashable
    compute: Compute
    item: Any
    answer: "Future[Any]"


class Worker:
    """The only thread that runs the models, so that requests do not fight for the processor.

    Requests that arrive while it computes are the next batch: the more there are, the larger it is, and one that
    comes alone does not wait for others. begin: called first in the thread, whose number of threads is its own.
    """

    def __init__(self, begin: Callable[[], object] = lambda: None, room: int = ROOM, largest: int = LARGEST):
        self.begin, self.room, self.largest = begin, room, largest
        self.waiting: deque[Asked] = deque()
        self.later: deque[Iterator[None]] = deque()
        self.changed, self.ended = threading.Condition(), False
        self.thread = threading.Thread(target=self.run, name="models", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self.thread.start()

    def stop(self) -> None:
        """End after the batch that is computed now; who waits is told."""
        with self.changed:
            self.ended = True
            self.changed.notify()
        if self.thread.is_alive():
            self.thread.join()
        for asked in self.waiting:
            asked.answer.cancel()

    def ask(self, kind: Hashable, compute: Compute, item: Any) -> "Future[Any]":
        """What `compute` gives for `item`; it is called with several items of one `kind`. Crowded: there is no room."""
        with self.changed:
            if len(self.waiting) >= self.room:
                raise Crowded
            asked = Asked(kind, compute, item, Future())
            self.waiting.append(asked)
            self.changed.notify()
            return asked.answer

    def when_idle(self, steps: Iterator[None]) -> None:
        """Go through `steps`, one at a time, while nobody asks."""
        with self.changed:
            self.later.append(steps)
            self.changed.notify()

    def run(self) -> None:
        """The thread: a batch, or one step of what can wait, or sleep."""
        self.begin()
        while True:
            with self.changed:
                while not (self.waiting or self.later or self.ended):
                    self.changed.wait()
                if self.ended:
                    return
                batch = self.next_batch()
                steps = self.later[0] if not batch else None
            if batch:
                answer(batch)
            elif steps is not None and over(steps):
                self.later.popleft()

    def next_batch(self) -> list[Asked]:
        """The request that waits longest and those of its kind behind it; those that nobody waits for are dropped."""
        batch: list[Asked] = []
        others: deque[Asked] = deque()
        while self.waiting and len(batch) < self.largest:
            asked = self.waiting.popleft()
            if batch and asked.kind != batch[0].kind:
                others.append(asked)
            elif asked.answer.set_running_or_notify_cancel():
                batch.append(asked)
        self.waiting.extendleft(reversed(others))
        return batch


def over(steps: Iterator[None]) -> bool:
    """Go one step on; whether there are no more, or one has failed, which the terminal is told."""
    try:
        return next(steps, steps) is steps
    except Exception:
        traceback.print_exc()
        return True


def answer(batch: list[Asked]) -> None:
    """Compute a batch; where that fails, each of its requests hears why."""
    try:
        found = batch[0].compute([asked.item for asked in batch])
        for asked, one in zip(batch, found, strict=True):
            asked.answer.set_result(one)
    except Exception as error:
        for asked in batch:
            if not asked.answer.done():
                asked.answer.set_exception(error)
