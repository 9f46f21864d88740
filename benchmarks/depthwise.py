"""Time depthwise convolutions, and training steps of networks with and without them, in float32 and bfloat16.

    python benchmarks/depthwise.py networks
    python benchmarks/depthwise.py shapes
    python benchmarks/depthwise.py folding

`networks`: images/s of a training step (batch 32, 128 pixels) by torch in float32, by torch in bfloat16 (with matrix
products for small maps), and by Sightline in both; the precision that `--train.precision auto` chooses and the seconds
that this takes. The gain is the speed in this precision divided by the better one of torch.

`shapes`: milliseconds of the gradients of one depthwise convolution with respect to images and weights, by torch and
by `sightline.engine.fast_layers`, also where a run uses torch's (stride 2 and kernel 3 in float32).

`folding`: images/s of a training step whose batch norms keep their statistics (`model.fixed_norm`), and of a forward
pass without gradients, with batch norms as layers and as part of the convolutions before them.

The variants are timed in turn; each number is the shortest time of --rounds, with `--threads 1` processor time.
"""

import argparse
import copy
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.nn import functional

from machine import machine_info, machine_line, write_results
from sightline.engine import fast_layers
from sightline.engine.device import autocast, pick_precision, precision_name
from sightline.engine.fast_layers import (
    depthwise_image_gradient,
    depthwise_weight_gradient,
    library_gradients,
)
from sightline.engine.memory import keep_freed_memory
from sightline.models import build_model
from sightline.models.folding import fold_norms

NETWORKS = (
    *("timm/tf_efficientnet_lite0", "timm/mobilenetv3_large_100", "timm/efficientnet_b0", "timm/convnext_atto"),
    *("timm/vit_tiny_patch16_224", "resnet18", "resnet50"),
)
BATCH, SIDE = 32, 128
DTYPES = (torch.float32, torch.bfloat16)
SHAPES = [  # channels, side of the map, kernel, stride, name of the network
    (32, 64, 3, 1, "EfficientNet-Lite0 at 128"),
    (96, 64, 3, 2, "EfficientNet-Lite0 at 128"),
    (144, 32, 3, 1, "EfficientNet-Lite0 at 128"),
    (144, 32, 5, 2, "EfficientNet-Lite0 at 128"),
    (240, 16, 3, 2, "EfficientNet-Lite0 at 128"),
    (240, 16, 5, 1, "EfficientNet-Lite0 at 128"),
    (480, 8, 3, 1, "EfficientNet-Lite0 at 128"),
    (672, 8, 5, 1, "EfficientNet-Lite0 at 128"),
    (672, 8, 5, 2, "EfficientNet-Lite0 at 128"),
    (1152, 4, 3, 1, "EfficientNet-Lite0 at 128"),
    (1152, 4, 5, 1, "EfficientNet-Lite0 at 128"),
    (72, 32, 5, 2, "MobileNetV3-large at 128"),
    (120, 16, 5, 1, "MobileNetV3-large at 128"),
    (200, 8, 3, 1, "MobileNetV3-large at 128"),
    (960, 4, 5, 1, "MobileNetV3-large at 128"),
    (96, 112, 3, 2, "EfficientNet-Lite0 at 224"),
    (672, 14, 5, 1, "EfficientNet-Lite0 at 224"),
    (40, 32, 7, 1, "ConvNeXt-atto at 128"),
    (160, 8, 7, 1, "ConvNeXt-atto at 128"),
    (320, 4, 7, 1, "ConvNeXt-atto at 128"),
    (384, 14, 7, 1, "ConvNeXt-tiny at 224"),
]


def best_of(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The shortest time of each function in seconds, for one thread processor time, which other processes hardly
    affect. The functions are called in turn, `rounds` times after a warm-up."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = clock()
            function()
            times[name].append(clock() - start)
    return {name: min(seconds[1:]) for name, seconds in times.items()}


def gradients(shape: tuple[int, ...], dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Milliseconds of both gradients of a depthwise convolution, by torch and by Sightline."""
    channels, side, kernel, stride = shape
    generator, padding = torch.Generator().manual_seed(0), kernel // 2

    def drawn(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator).to(dtype).to(memory_format=torch.channels_last)

    images, weight = drawn(BATCH, channels, side, side), drawn(channels, 1, kernel, kernel)
    after = fast_layers.output_side(side, kernel, stride, padding)
    given = (drawn(BATCH, channels, after, after), images, weight, stride, padding)
    seconds = best_of(
        {
            "images, torch": lambda: library_gradients(*given, [True, False, False]),
            "images": lambda: depthwise_image_gradient(*given),
            "weights, torch": lambda: library_gradients(*given, [False, True, False]),
            "weights": lambda: depthwise_weight_gradient(*given),
        },
        rounds,
    )
    return {name: 1000 * value for name, value in seconds.items()}


def table_of_shapes(rounds: int) -> Iterable[dict[str, Any]]:
    """Print the table of shapes row by row."""
    print(
        "\n| layer | channels | map | kernel | dtype | images: torch, ms | ours, ms | weights: torch, ms | ours, ms |"
    )
    print("|---" * 9 + "|")
    for *shape, where in SHAPES:
        channels, side, kernel, stride = shape
        for dtype in DTYPES:
            row = gradients(tuple(shape), dtype, rounds)
            numbers = " | ".join(f"{row[name]:.2f}" for name in row)
            size = f"{kernel}x{kernel}{f' stride {stride}' if stride > 1 else ''}"
            print(
                f"| {where} | {channels} | {side}x{side} | {size} | {precision_name(dtype)} | {numbers} |", flush=True
            )
            yield {"layer": where, "shape": shape, "dtype": precision_name(dtype), **row}


@contextmanager
def torch_only() -> Generator[None]:
    """Context manager: leave depthwise convolutions and means over pixels to torch."""
    with (
        mock.patch.object(fast_layers, "is_slow_depthwise", lambda *_: False),
        mock.patch.object(fast_layers, "has_slow_mean", lambda *_: False),
    ):
        yield


def step_of(model: torch.nn.Module, dtype: torch.dtype, context: Callable[[], AbstractContextManager[Any]]) -> Any:
    """A function that computes one training step without an update of the weights."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=generator).to(memory_format=torch.channels_last)
    labels = torch.randint(50, (BATCH,), generator=generator)

    def step() -> None:
        with context(), autocast(torch.device("cpu"), dtype):
            loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        model.zero_grad(set_to_none=True)

    return step


def table_of_networks(rounds: int, networks: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Print the table of networks row by row."""
    print("\n| network | torch, fp32 | torch, bf16 | fp32 | bf16 | auto | gain |   images/s")
    print("|---" * 7 + "|")
    for name in networks:
        model = build_model(name, 50, SIDE, {}).to(memory_format=torch.channels_last).train()
        start = time.perf_counter()
        chosen = pick_precision("auto", torch.device("cpu"), model, (BATCH, 3, SIDE, SIDE))
        took = time.perf_counter() - start
        steps = {
            "torch, fp32": step_of(model, torch.float32, torch_only),
            "torch, bf16": step_of(model, torch.bfloat16, torch_only),
            "fp32": step_of(model, torch.float32, nullcontext),
            "bf16": step_of(model, torch.bfloat16, nullcontext),
        }
        speed = {key: BATCH / seconds for key, seconds in best_of(steps, rounds).items()}
        gain = speed[precision_name(chosen)] / max(speed["torch, fp32"], speed["torch, bf16"])
        numbers = " | ".join(f"{value:.1f}" for value in speed.values())
        print(f"| {name} | {numbers} | {precision_name(chosen)} in {took:.1f} s | {gain:.2f} |", flush=True)
        yield {"network": name, "chosen": precision_name(chosen), "seconds": took, **speed, "gain": gain}


def forward_of(model: torch.nn.Module, dtype: torch.dtype) -> Callable[[], None]:
    """A function that computes one forward pass without gradients, as an evaluation does."""
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    images = images.to(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode(), autocast(torch.device("cpu"), dtype):
            model(images)

    return forward


def table_of_folding(rounds: int, networks: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Print the table of folded batch norms row by row."""
    print("\n| network | dtype | step | folded | gain | forward | folded | gain |   images/s")
    print("|---" * 8 + "|")
    for name in networks:
        model = build_model(name, 50, SIDE, {}).to(memory_format=torch.channels_last).eval()
        folded = copy.deepcopy(model)
        if not fold_norms(folded, (3, SIDE, SIDE)):
            continue
        for dtype in DTYPES:
            steps = {"step": step_of(model, dtype, nullcontext), "folded": step_of(folded, dtype, nullcontext)}
            passes = {"forward": forward_of(model, dtype), "folded forward": forward_of(folded, dtype)}
            speed = {key: BATCH / seconds for key, seconds in best_of(steps | passes, rounds).items()}
            gains = speed["folded"] / speed["step"], speed["folded forward"] / speed["forward"]
            first, second = ([f"{value:.1f}" for value in list(speed.values())[at : at + 2]] for at in (0, 2))
            cells = [name, precision_name(dtype), *first, f"{gains[0]:.2f}", *second, f"{gains[1]:.2f}"]
            print("| " + " | ".join(cells) + " |", flush=True)
            yield {"network": name, "dtype": precision_name(dtype), **speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["networks", "shapes", "folding"])
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as in a run; otherwise the times include page faults
    info = machine_info()
    print(machine_line(info))
    if options.table == "shapes":
        rows = table_of_shapes(options.rounds)
    else:
        table = table_of_networks if options.table == "networks" else table_of_folding
        rows = table(options.rounds, options.networks)
    write_results(options.json, info, list(rows))


if __name__ == "__main__":
    main()
