"""The models' thread: batching, a bounded queue, errors, cancellation, background work."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sightline.serve.worker import InferenceWorker, QueueFull


@pytest.fixture
def make() -> Iterator[Callable[..., InferenceWorker]]:
    """make(**options): a worker that is stopped after the test."""
    workers: list[InferenceWorker] = []

    def made(**options: object) -> InferenceWorker:
        workers.append(InferenceWorker(**options))  # ty: ignore[invalid-argument-type]
        return workers[-1]

    yield made
    for worker in workers:
        worker.stop()


class BlockingModel:
    """A model that records its batches and computes when released."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.released = threading.Event()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        assert self.released.wait(10)
        return [10 * item for item in items]


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.001)


def test_requests_during_a_computation_are_the_next_batch_in_order(make: Callable[..., InferenceWorker]) -> None:
    worker, model = make(largest=4), BlockingModel()
    worker.start()
    results = [worker.submit("a", model, 0)]
    wait_until(lambda: model.batches)
    results += [worker.submit("a", model, item) for item in range(1, 8)]
    model.released.set()
    assert [result.result(10) for result in results] == [10 * item for item in range(8)]
    assert model.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


def test_kinds_are_batched_separately(make: Callable[..., InferenceWorker]) -> None:
    worker, first, second = make(), BlockingModel(), BlockingModel()
    second.released.set()
    worker.start()
    results = [worker.submit("a", first, 0)]
    wait_until(lambda: first.batches)
    for item in range(1, 4):
        results += [worker.submit("b", second, item), worker.submit("a", first, item)]
    first.released.set()
    assert [result.result(10) for result in results] == [0, 10, 10, 20, 20, 30, 30]
    assert first.batches == [[0], [1, 2, 3]] and second.batches == [[1, 2, 3]]


def test_a_full_queue_raises(make: Callable[..., InferenceWorker]) -> None:
    worker, model = make(most=2), BlockingModel()
    worker.start()
    worker.submit("a", model, 0)
    wait_until(lambda: model.batches)
    queued = [worker.submit("a", model, item) for item in (1, 2)]
    with pytest.raises(QueueFull):
        worker.submit("a", model, 3)
    model.released.set()
    assert [result.result(10) for result in queued] == [10, 20]
    assert worker.submit("a", model, 4).result(10) == 40


def test_an_error_is_raised_for_its_batch_only(make: Callable[..., InferenceWorker]) -> None:
    worker = make()

    def broken(items: list[int]) -> list[int]:
        raise ValueError("no")

    worker.start()
    with pytest.raises(ValueError, match="no"):
        worker.submit("a", broken, 1).result(10)
    with pytest.raises(ValueError, match="shorter"):
        worker.submit("a", lambda items: [], 1).result(10)
    assert worker.submit("a", lambda items: items, 1).result(10) == 1


def test_cancelled_requests_are_not_computed(make: Callable[..., InferenceWorker]) -> None:
    worker, model = make(), BlockingModel()
    worker.start()
    first = worker.submit("a", model, 0)
    wait_until(lambda: model.batches)
    cancelled, kept = worker.submit("a", model, 1), worker.submit("a", model, 2)
    assert cancelled.cancel()
    model.released.set()
    assert (first.result(10), kept.result(10)) == (0, 20) and model.batches == [[0], [2]]


def test_background_steps_run_after_requests_and_their_errors_are_logged(
    make: Callable[..., InferenceWorker], capsys: pytest.CaptureFixture[str]
) -> None:
    worker, done = make(), []

    def steps() -> Iterator[None]:
        for number in range(3):
            done.append(number)
            yield
        raise ValueError("the disk is gone")

    worker.when_idle(steps())
    worker.when_idle(iter([None, None]))
    result = worker.submit("a", lambda items: [len(done)] * len(items), 0)
    worker.start()
    assert result.result(10) == 0, "requests come first"
    wait_until(lambda: not worker.background)
    assert done == [0, 1, 2] and not worker.background and "the disk is gone" in capsys.readouterr().err
    assert worker.submit("a", lambda items: items, 5).result(10) == 5


def test_stop_cancels_queued_requests(make: Callable[..., InferenceWorker]) -> None:
    worker, model = make(), BlockingModel()
    worker.start()
    first = worker.submit("a", model, 0)
    wait_until(lambda: model.batches)
    queued = worker.submit("a", model, 1)
    threading.Timer(0.05, model.released.set).start()
    worker.stop()
    assert first.result(1) == 0 and queued.cancelled()


def test_setup_runs_in_the_thread(make: Callable[..., InferenceWorker]) -> None:
    names: list[str] = []
    worker = make(setup=lambda: names.append(threading.current_thread().name))
    worker.start()
    assert worker.submit("a", lambda items: items, 1).result(10) == 1 and names == ["models"]
