"""The time that the network of a recipe takes on this machine, measured before training."""

import time
from collections.abc import Callable
from functools import partial

import torch

from ...config.checks import FITTED
from ...config.schema import Config
from ...data.types import Source
from ...engine.device import autocast, has_bfloat16, pick_device, pick_precision, use_threads
from ...models import build_model

IMAGES, REPETITIONS = 16, 3


def seconds_per_image(config: Config, source: Source) -> tuple[float, float]:
    """Seconds per image of the forward pass, and of a training step (0 for a head that is fitted): the shortest of
    REPETITIONS measurements with random images."""
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    chosen, channels = config.model, len(source.channels)
    with torch.random.fork_rng(devices=[]):
        classes = max(2, len(source.classes))
        model = build_model(chosen.name, classes, config.data.size, dict(chosen.args), chosen.head, channels)
    model.to(device).to(memory_format=torch.channels_last)
    images = torch.zeros(IMAGES, channels, config.data.size, config.data.size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)

    def forward(dtype: torch.dtype) -> None:
        with torch.no_grad(), autocast(device, dtype):
            model.eval()(images)

    def step(dtype: torch.dtype) -> None:
        with autocast(device, dtype):
            loss = model.train()(images).float().square().mean()
        loss.backward()

    dtypes = [pick_precision(config.train.precision, device)]
    if device.type == "cpu" and config.train.precision == "auto" and has_bfloat16():
        dtypes.append(torch.bfloat16)  # the run takes the faster one
    functions = [forward] if config.optim.name in FITTED else [forward, step]
    seconds = [min(shortest(partial(one, dtype), device) for dtype in dtypes) / IMAGES for one in functions]
    return seconds[0], seconds[-1] if len(functions) > 1 else 0.0


def shortest(function: Callable[[], None], device: torch.device) -> float:
    """The seconds of the fastest of REPETITIONS calls."""
    taken = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return min(taken)
