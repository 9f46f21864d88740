"""The thread that computes: batches of what waits, no more than there is room for, nothing lost when one fails."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sightline.serve.worker import Crowded, Worker


@pytest.fixture
def made() -> Iterator[Callable[..., Worker]]:
    """made(**options): a worker that is stopped at the end."""
    workers: list[Worker] = []

    def make(**options: object) -> Worker:
        workers.append(Worker(**options))  # ty: ignore[invalid-argument-type]
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()


class Slow:
    """A model that keeps what it was given, and can be held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        assert self.free.wait(10)
        return [10 * item for item in items]


def held(worker: Worker, model: Slow) -> None:
    """Wait until the model computes its first batch."""
    until = time.monotonic() + 10
    while not model.batches and time.monotonic() < until:
        time.sleep(0.001)


def test_what_comes_meanwhile_is_one_batch_in_order(made: Callable[..., Worker]) -> None:
    worker, model = made(largest=4), Slow()
    worker.start()
    answers = [worker.ask("a", model, 0)]
    held(worker, model)
    answers += [worker.ask("a", model, item) for item in range(1, 8)]
    model.free.set()
    assert [answer.result(10) for answer in answers] == [10 * item for item in range(8)]
    assert model.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


def test_kinds_do_not_mix_and_none_waits_forever(made: Callable[..., Worker]) -> None:
    worker, first, second = made(), Slow(), Slow()
    second.free.set()
    worker.start()
    answers = [worker.ask("a", first, 0)]
    held(worker, first)
    for item in range(1, 4):
        answers += [worker.ask("b", second, item), worker.ask("a", first, item)]
    first.free.set()
    assert [answer.result(10) for answer in answers] == [0, 10, 10, 20, 20, 30, 30]
    assert first.batches == [[0], [1, 2, 3]] and second.batches == [[1, 2, 3]]


def test_beyond_its_room_it_says_so(made: Callable[..., Worker]) -> None:
    worker, model = made(room=2), Slow()
    worker.start()
    worker.ask("a", model, 0)
    held(worker, model)
    waiting = [worker.ask("a", model, item) for item in (1, 2)]
    with pytest.raises(Crowded):
        worker.ask("a", model, 3)
    model.free.set()
    assert [answer.result(10) for answer in waiting] == [10, 20]
    assert worker.ask("a", model, 4).result(10) == 40


def test_one_that_fails_is_told_and_the_next_is_answered(made: Callable[..., Worker]) -> None:
    worker = made()

    def broken(items: list[int]) -> list[int]:
        raise ValueError("no")

    worker.start()
    with pytest.raises(ValueError, match="no"):
        worker.ask("a", broken, 1).result(10)
    with pytest.raises(ValueError, match="shorter"):
        worker.ask("a", lambda items: [], 1).result(10)
    assert worker.ask("a", lambda items: items, 1).result(10) == 1


def test_who_gave_up_costs_nothing(made: Callable[..., Worker]) -> None:
    worker, model = made(), Slow()
    worker.start()
    first = worker.ask("a", model, 0)
    held(worker, model)
    left, kept = worker.ask("a", model, 1), worker.ask("a", model, 2)
    assert left.cancel()
    model.free.set()
    assert (first.result(10), kept.result(10)) == (0, 20) and model.batches == [[0], [2]]


def test_what_can_wait_is_done_in_between_and_a_fault_in_it_hurts_nobody(
    made: Callable[..., Worker], capsys: pytest.CaptureFixture[str]
) -> None:
    worker, done = made(), []

    def steps() -> Iterator[None]:
        for number in range(3):
            done.append(number)
            yield
        raise ValueError("the disk is gone")

    worker.when_idle(steps())
    worker.when_idle(iter([None, None]))
    answer = worker.ask("a", lambda items: [len(done)] * len(items), 0)
    worker.start()
    assert answer.result(10) == 0, "who asks comes first"
    until = time.monotonic() + 10
    while worker.later and time.monotonic() < until:
        time.sleep(0.001)
    assert done == [0, 1, 2] and not worker.later and "the disk is gone" in capsys.readouterr().err
    assert worker.ask("a", lambda items: items, 5).result(10) == 5


def test_the_end_tells_who_waits(made: Callable[..., Worker]) -> None:
    worker, model = made(), Slow()
    worker.start()
    first = worker.ask("a", model, 0)
    held(worker, model)
    waiting = worker.ask("a", model, 1)
    threading.Timer(0.05, model.free.set).start()
    worker.stop()
    assert first.result(1) == 0 and waiting.cancelled()


def test_it_begins_in_its_own_thread(made: Callable[..., Worker]) -> None:
    began: list[str] = []
    worker = made(begin=lambda: began.append(threading.current_thread().name))
    worker.start()
    assert worker.ask("a", lambda items: items, 1).result(10) == 1 and began == ["models"]
