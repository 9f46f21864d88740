"""The time that the network of a recipe takes on this machine, measured before training."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ...config.checks import FITTED
from ...config.schema import Config
from ...data.types import Source
from ...engine.device import autocast, has_bfloat16, pick_device, pick_precision, use_threads
from ...engine.parts import flops_by_side, training_flops
from ...models import Classifier, build_model, forward_flops
from ...models.folding import fold_norms

IMAGES, REPETITIONS = 16, 3


def seconds_per_image(config: Config, source: Source) -> tuple[float, float]:
    """Seconds per image of the forward pass, and of a training step (0 for a head that is fitted): the mean over the
    epochs, in proportion to the operations for the side of the training images, and twice with sharpness-aware
    minimization. Raises SightlineError if the network does not support a side."""
    chosen, side, channels = config.model, config.data.size, len(source.channels)
    rest = (max(2, len(source.classes)), side, dict(chosen.args), chosen.head, channels)

    def build() -> Classifier:
        model = build_model(chosen.name, *rest)
        model.fixed_norm = chosen.fixed_norm
        return model

    cost = mean_cost(config, build, channels)
    forward, step = measured(config, build, (IMAGES, channels, side, side))
    return forward, step * cost


def mean_cost(config: Config, build: Callable[[], Classifier], channels: int) -> float:
    """The operations of a training step, the mean over the epochs, relative to those with images of the full side."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build()
        cost = flops_by_side(config, lambda side: forward_flops(network, side, channels))
    full = cost[config.data.size]  # 0 for networks that look at no pixel
    return training_flops(config, cost, 1, config.train.epochs) / config.train.epochs / full if full else 1.0


def measured(config: Config, build: Callable[[], Any], shape: tuple[int, ...]) -> tuple[float, float]:
    """Seconds per image of the forward pass of a network, and of a training step (0 for a head that is fitted): the
    shortest of REPETITIONS measurements, in the precision that is faster. shape: of the images, [N, C, H, W]."""
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    with torch.random.fork_rng(devices=[]):
        model = build()
    model.to(device).to(memory_format=torch.channels_last)
    fold_norms(model, shape[1:])
    images = torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last)

    def forward(dtype: torch.dtype) -> None:
        with torch.no_grad(), autocast(device, dtype):
            model.eval()(images)

    def step(dtype: torch.dtype) -> None:
        with autocast(device, dtype):
            loss = model.train()(images).float().square().mean()
        if loss.requires_grad:
            loss.backward()

    dtypes = [pick_precision(config.train.precision, device)]
    if device.type == "cpu" and config.train.precision == "auto" and has_bfloat16():
        dtypes.append(torch.bfloat16)  # the run takes the faster one
    functions = (forward,) if config.optim.name in FITTED else (forward, step)
    found = [min(shortest(partial(one, dtype), device) for dtype in dtypes) / shape[0] for one in functions]
    return found[0], found[1] if len(found) > 1 else 0.0


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
