"""Time convolutions of small feature maps in bfloat16: `sightline.engine.fast_layers` and torch.

    python benchmarks/convolutions.py --json convolutions.json

Prints milliseconds of one forward and backward pass: the median and the range of --rounds. Each shape is computed with
matrix products, also where a run uses torch's convolution ("torch" in the column "products for").
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

from machine import machine_info, machine_line, median_range, write_results
from sightline.engine import fast_layers
from sightline.engine.fast_layers import FastLayers, Plan, plan_for
from sightline.engine.memory import keep_freed_memory

WARM_UP = 3
SHAPES = [  # batch, input channels, output channels, side of the map, kernel, stride, name of the layer
    (128, 512, 512, 2, 3, 1, "ResNet-18 at 64, last stage"),
    (128, 256, 512, 4, 3, 2, "ResNet-18 at 64, into the last stage"),
    (128, 256, 512, 4, 1, 2, "its shortcut"),
    (128, 256, 256, 4, 3, 1, "ResNet-18 at 64, third stage"),
    (128, 128, 256, 8, 3, 2, "ResNet-18 at 64, into the third stage"),
    (128, 128, 128, 8, 3, 1, "ResNet-18 at 64, second stage"),
    (128, 512, 512, 1, 3, 1, "ResNet-18 at 32, last stage"),
    (32, 512, 512, 4, 3, 1, "ResNet-50 at 128, last stage"),
    (32, 256, 256, 8, 3, 1, "ResNet-50 at 128, third stage"),
    (32, 1024, 2048, 8, 1, 2, "ResNet-50 at 128, last shortcut"),
    (32, 2048, 512, 4, 1, 1, "ResNet-50 at 128, last stage, 1x1"),
    (32, 1024, 256, 8, 1, 1, "ResNet-50 at 128, third stage, 1x1"),
    (32, 64, 256, 32, 1, 1, "ResNet-50 at 128, first stage, 1x1"),
    (64, 512, 512, 7, 3, 1, "ResNet-18 at 224, last stage"),
    (64, 256, 256, 14, 3, 1, "ResNet-18 at 224, third stage"),
    (256, 128, 128, 4, 3, 1, "a narrow network, 4x4"),
    (256, 64, 64, 8, 3, 1, "a narrow network, 8x8"),
    (8, 512, 512, 11, 3, 1, "U-Net at 360x480, bottom"),
]


def measure(shape: tuple[int, ...], images: torch.Tensor, weight: torch.Tensor, rounds: int) -> tuple[list[float], ...]:
    """Return the seconds of each round of torch's convolution and of matrix products, measured alternately."""
    kernel, stride = shape[4:6]
    plan = plan_for(tuple(images.shape), tuple(weight.shape), stride, kernel // 2) or Plan(True, False)
    gradient = torch.randn_like(torch.conv2d(images, weight, None, stride, kernel // 2))

    def step() -> None:
        output = torch.conv2d(images, weight, None, stride, kernel // 2)
        torch.autograd.grad(output, (images, weight), gradient)

    def step_with_products() -> None:
        with (
            torch.autocast("cpu", torch.bfloat16),
            FastLayers(),
            mock.patch.object(fast_layers, "plan_for", always),
        ):
            step()

    def always(*_: object) -> Plan:
        return plan

    times: tuple[list[float], ...] = ([], [])
    for index in range(rounds + WARM_UP):
        for function, seconds in zip((step, step_with_products), times, strict=True):
            duration = time_call(function)
            if index >= WARM_UP:
                seconds.append(duration)
    return times


def time_call(function: Callable[[], object]) -> float:
    """The seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as in a run; otherwise the times include page faults
    info = machine_info()
    print(machine_line(info))
    print("\n| layer | batch | channels | map | kernel | torch, ms | ours, ms | speedup | products for |")
    print("|---" * 9 + "|")
    rows = []
    for shape in SHAPES:
        count, channels, outputs, side, kernel, stride, where = shape
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(count, channels, side, side, generator=generator).bfloat16()
        weight = (torch.randn(outputs, channels, kernel, kernel, generator=generator) / channels).bfloat16()
        tensors = [tensor.to(memory_format=torch.channels_last).requires_grad_() for tensor in (images, weight)]
        measured = measure(shape[:6], *tensors, options.rounds)
        theirs, ours = (sorted(1000 * seconds for seconds in times) for times in measured)
        plan = plan_for((count, channels, side, side), (outputs, channels, kernel, kernel), stride, kernel // 2)
        products = ["weights"] + (["output"] if plan and plan.output else [])
        products += ["images"] if plan and plan.image_gradient else []
        gain = statistics.median(theirs) / statistics.median(ours)
        rows.append({"where": where, "torch_ms": theirs, "ours_ms": ours, "gain": gain, "planned": plan is not None})
        print(
            f"| {where} | {count} | {channels} to {outputs} | {side}x{side} | {kernel}x{kernel}"
            f"{' stride 2' if stride == 2 else ''} | {median_range(theirs)} | {median_range(ours)} | {gain:.2f} | "
            f"{', '.join(products) if plan else 'torch'} |"
        )
    write_results(options.json, info, rows)


if __name__ == "__main__":
    main()
