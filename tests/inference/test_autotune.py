"""The fastest way to compute a prediction: the batch, the threads and the precision that take the least time."""

from dataclasses import dataclass, field

import pytest
import torch

from sightline.data.decode.images import Square
from sightline.inference import autotune
from sightline.inference.autotune import Way, fastest_batch, fastest_way, threads_to_try
from sightline.inference.predictor import Predictor

PIXELS = torch.zeros(3, 3, 2, 2, dtype=torch.uint8)
Machine = dict[tuple[int, torch.dtype], float]


@dataclass
class Clock:
    """A machine's time: seconds an image by (threads, precision), times those of the batch, for each pass."""

    speeds: Machine
    batches: dict[int, float]
    now: float = 0.0
    threads: int = 4
    asked: list[tuple[int, int, torch.dtype]] = field(default_factory=list)

    def use(self, threads: int) -> None:
        self.threads = threads


def found(monkeypatch: pytest.MonkeyPatch, clock: Clock, precision: str, own: torch.dtype = torch.float32) -> Way:
    def of(answers: Predictor, pixels: torch.Tensor) -> tuple[None, None]:
        clock.asked.append((len(pixels), clock.threads, answers.dtype))
        clock.now += len(pixels) * clock.batches[len(pixels)] * clock.speeds[clock.threads, answers.dtype]
        return None, None

    monkeypatch.setattr(Predictor, "of", of)
    monkeypatch.setattr(autotune.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(torch, "get_num_threads", lambda: clock.threads)
    device = torch.device("cpu")
    answers = Predictor((), ("a",), torch.nn.Identity(), Square(2), (2, 2), device, own, False, False)
    return fastest_way(answers, PIXELS, precision, [2], clock.use)


BATCHES = {1: 2.0, 8: 1.0, 32: 0.5, 128: 0.5}
F, B = torch.float32, torch.bfloat16
QUICK_B = {(4, F): 0.01, (4, B): 0.005, (2, F): 0.011, (2, B): 0.006}


def test_the_batch_that_takes_the_least_time_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, Clock(QUICK_B, BATCHES), "run").batch == 32
    assert found(monkeypatch, Clock(QUICK_B, BATCHES | {128: 0.4}), "run").batch == 128
    assert found(monkeypatch, Clock(QUICK_B, dict.fromkeys(BATCHES, 1.0)), "run").batch == 8
    slow = {key: 100 * value for key, value in QUICK_B.items()}
    clock = Clock(slow, BATCHES)
    assert found(monkeypatch, clock, "run").batch == 8 and max(size for size, *_ in clock.asked) == 8


def test_fewer_threads_where_they_are_faster_and_never_for_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    for speed, threads in ((0.0098, 4), (0.0090, 2), (0.02, 4)):
        clock = Clock({**QUICK_B, (2, F): speed}, BATCHES)
        way = found(monkeypatch, clock, "run")
        assert clock.threads == threads and f"{threads} threads, float32" in way.said


@pytest.mark.parametrize(
    ("precision", "own", "fast", "dtype"),
    [
        ("run", F, 0.001, F),
        ("run", B, 0.005, B),
        ("run", B, 0.009, F),
        ("run", B, 0.050, F),
        ("auto", F, 0.005, B),
        ("auto", F, 0.009, F),
        ("auto", B, 0.050, F),
        ("fp32", F, 0.001, F),
        ("bf16", B, 0.050, B),
    ],
)
def test_the_precision_of_the_run_unless_it_is_slow_here_or_the_fastest_is_wanted(
    monkeypatch: pytest.MonkeyPatch, precision: str, own: torch.dtype, fast: float, dtype: torch.dtype
) -> None:
    clock = Clock({(4, F): 0.01, (4, B): fast, (2, F): 0.02, (2, B): 2 * fast}, BATCHES)
    assert found(monkeypatch, clock, precision, own).answers.dtype == dtype


def test_threads_are_left_alone_where_a_number_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "processors", lambda: 8)
    assert threads_to_try(0, "") == [4]
    assert threads_to_try(2, "") == [] and threads_to_try(0, "1") == []
    monkeypatch.setattr(autotune, "processors", lambda: 1)
    assert threads_to_try(0, "") == []


def test_a_batch_that_would_take_too_long_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    spent, now = {8: 0.4, 32: 0.8, 128: 6.4, 1: 0.1}, [0.0]  # seconds a batch: 0.05, 0.025 and 0.05 an image

    class Slow:
        def of(self, pixels: torch.Tensor) -> None:
            now[0] += spent[len(pixels)]

    monkeypatch.setattr(autotune.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(autotune, "LONGEST", 100.0)
    assert fastest_batch(Slow(), PIXELS) == (32, pytest.approx(0.025))  # ty: ignore
    monkeypatch.setattr(autotune, "LONGEST", 1.0)
    assert fastest_batch(Slow(), PIXELS) == (8, pytest.approx(0.05))  # ty: ignore
