"""Convolutions of small maps: `sightline.engine.small_maps` against torch's own, forward and backward, in bfloat16.

    python benchmarks/small_maps.py --json small_maps.json

Milliseconds of one forward and backward pass, median and range of 11. Each shape is forced through the matrix
products as they would be planned; "left" says that the plan leaves the shape to torch, and shows what it would give.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

from machine import facts, headline, keep
from sightline.engine import small_maps
from sightline.engine.memory import keep_freed_memory
from sightline.engine.small_maps import Plan, SmallMaps, plan_for

SHAPES = [
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


def seconds(shape: tuple[int, ...], images: torch.Tensor, weight: torch.Tensor, rounds: int) -> tuple[list[float], ...]:
    """Of torch's convolution and of ours, in turn."""
    kernel, stride = shape[4:6]
    forced = plan_for(tuple(images.shape), tuple(weight.shape), stride, kernel // 2) or Plan(True, False)
    gradient = torch.randn_like(torch.conv2d(images, weight, None, stride, kernel // 2))

    def step() -> None:
        output = torch.conv2d(images, weight, None, stride, kernel // 2)
        torch.autograd.grad(output, (images, weight), gradient)

    def ours() -> None:
        with torch.autocast("cpu", torch.bfloat16), SmallMaps(), mock.patch.object(small_maps, "plan_for", always):
            step()

    def always(*_: object) -> Plan:
        return forced

    times: tuple[list[float], ...] = ([], [])
    for each in range(rounds + 3):
        for way, kept in zip((step, ours), times, strict=True):
            spent = clock(way)
            kept.extend([spent] if each >= 3 else [])
    return times


def clock(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as a run does: else each way is charged for its page faults too
    known = facts()
    print(headline(known))
    print("\n| where | batch | channels | map | kernel | torch, ms | ours, ms | gain | plan |\n" + "|---" * 9 + "|")
    rows = []
    for shape in SHAPES:
        count, channels, outputs, side, kernel, stride, where = shape
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(count, channels, side, side, generator=generator).bfloat16()
        weight = (torch.randn(outputs, channels, kernel, kernel, generator=generator) / channels).bfloat16()
        tensors = [each.to(memory_format=torch.channels_last).requires_grad_() for each in (images, weight)]
        theirs, ours = (sorted(1000 * each for each in times) for times in seconds(shape[:6], *tensors, options.rounds))
        plan = plan_for((count, channels, side, side), (outputs, channels, kernel, kernel), stride, kernel // 2)
        parts = ["weights"] + (["output"] if plan and plan.output else [])
        parts += ["images"] if plan and plan.image_gradient else []
        gain = statistics.median(theirs) / statistics.median(ours)
        rows.append({"where": where, "torch_ms": theirs, "ours_ms": ours, "gain": gain, "planned": plan is not None})
        print(
            f"| {where} | {count} | {channels} to {outputs} | {side}x{side} | {kernel}x{kernel}"
            f"{' stride 2' if stride == 2 else ''} | {told(theirs)} | {told(ours)} | {gain:.2f} | "
            f"{', '.join(parts) if plan else 'left'} |"
        )
    keep(options.json, known, rows)


def told(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} ({times[0]:.1f} to {times[-1]:.1f})"


if __name__ == "__main__":
    main()
