"""How a prediction is computed fastest on this machine: how many images at once, threads and precision, by trying."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..engine.device import processors
from .predictor import Predictor, in_precision

BATCHES = (8, 32, 128)
"""How many images at once are tried; the fastest is taken."""
LONGEST = 1.5
"""Seconds that one try may take."""
GAIN = 0.97
"""What is tried next has to take this share of the time at most, or it is noise."""
MUCH = 1 / 1.2
"""bfloat16 has to take this share at most, for it costs digits."""
PRECISIONS = ("run", "auto", "fp32", "bf16")
Set = Callable[[int], None]


@dataclass(frozen=True)
class Way:
    """What was found. batch: images at once. said: in words, empty where nothing was tried."""

    answers: Predictor
    batch: int
    said: str = ""


def fastest_way(
    answers: Predictor, pixels: torch.Tensor, precision: str, threads: Sequence[int], use: Set = torch.set_num_threads
) -> Way:
    """The fastest of some ways to compute the answers for images like `pixels` uint8 [N, 3, h, w].

    precision: "run", the one that the run was trained and measured in, but float32 where its bfloat16 is no faster
    here; "auto", the faster one; "fp32" or "bf16", which the answers have already. threads: the numbers to try;
    `use` sets one.
    """
    batch, seconds = fastest_batch(answers, pixels)
    best = torch.get_num_threads()
    for count in threads:
        use(count)
        tried = seconds_an_image(answers, repeated(pixels, batch))
        if tried < GAIN * seconds:
            best, seconds = count, tried
    use(best)
    answers = fastest_precision(answers, repeated(pixels, batch), precision)
    known = "bfloat16" if answers.dtype == torch.bfloat16 else "float32"
    cores = "" if answers.device.type != "cpu" else f", {best} thread{'s' * (best > 1)}"
    return Way(answers, batch, f"fastest here: {batch} images at once{cores}, {known}")


def fastest_precision(answers: Predictor, batch: torch.Tensor, precision: str) -> Predictor:
    """The answers in the precision that is wanted; see `fastest_way`."""
    exact, fast = in_precision(answers, "fp32"), in_precision(answers, "bf16")
    if precision in ("fp32", "bf16") or (precision == "run" and answers.dtype == torch.float32):
        return answers
    gained = seconds_an_image(fast, batch) < MUCH * seconds_an_image(exact, batch)
    return fast if gained else exact


def threads_to_try(fixed: int, wished: str) -> list[int]:
    """One for each processor and half as many (two of them may share a core); none where a number was asked for."""
    count = processors()
    return [] if fixed or wished or count < 2 else [count // 2]


def fastest_batch(answers: Predictor, pixels: torch.Tensor) -> tuple[int, float]:
    """(the number of BATCHES at which the model takes the least time an image, that time in seconds), by trying."""
    best, least = BATCHES[0], seconds_an_image(answers, pixels[:1])
    for size in BATCHES:
        if least * size > LONGEST:
            break
        seconds = seconds_an_image(answers, repeated(pixels, size))
        if seconds < GAIN * least:
            best, least = size, seconds
    return best, least


def repeated(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """`size` images, the given ones over and over."""
    return pixels.repeat(-(-size // len(pixels)), 1, 1, 1)[:size]


def seconds_an_image(answers: Predictor, batch: torch.Tensor) -> float:
    """How long the second pass of a batch takes, by image; the first one prepares."""
    answers.of(batch)
    start = time.perf_counter()
    answers.of(batch)
    return (time.perf_counter() - start) / len(batch)
