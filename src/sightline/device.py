"""Where and in which precision a run computes: chosen by measurement, not by flags."""

import os
import time
from contextlib import AbstractContextManager

import torch
from torch.nn import functional

from .errors import ENVIRONMENT, SightlineError


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes CUDA, then Apple's MPS, then the processor."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        cure = "--train.device cpu, or auto"
        raise SightlineError(f"the device {name!r} cannot be used", why=why, cure=cure, status=ENVIRONMENT) from error
    return device


def use_threads(threads: int) -> int:
    """Let torch compute with `threads` threads; 0: one for each processor this process may use."""
    threads = threads or int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    return threads


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """torch.float32 or torch.bfloat16.

    "auto" on a processor times a 3x3 convolution, forward and backward, in both and takes bfloat16 where it is
    1.2 times as fast: flags promise instructions, not speed. On CUDA it asks the library; elsewhere float32.
    """
    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    gain = convolution_seconds(torch.float32) / convolution_seconds(torch.bfloat16)
    return torch.bfloat16 if gain > 1.2 else torch.float32


def convolution_seconds(dtype: torch.dtype, repeats: int = 3) -> float:
    """Seconds of one forward and backward pass of a 64 to 64 channel convolution at [64, 64, 16, 16]; the best."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 64, 16, 16, generator=generator).to(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    best = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            functional.conv2d(images, weight, padding=1).float().sum().backward()
        best = min(best, time.perf_counter() - start)
    return best


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """The automatic precision of a run; does nothing for float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def device_name(device: torch.device) -> str:
    """A name for people: the graphics card's, or the processor's as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        model = platform.processor() or platform.machine()
    return f"{model} ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"
