"""Where and in which precision a run computes: chosen by measurement, not by flags."""

import os
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn import functional

from ..data.parallel import processors
from ..errors import ENVIRONMENT, USER, SightlineError
from .distributed import world
from .small_maps import SmallMaps

PROBES = 8  # about 0.2 s in all
MOST_THREADS = 1024  # beyond it libraries fail or crash; no machine that we know gains from more


def pick_device(name: str, fallback: bool = False) -> torch.device:
    """The device called `name`; "auto" takes CUDA, then Apple's MPS, then the processor.

    fallback: take "auto" where the device is not here, as `evaluate` and `predict` do: the machine that trained the
    run may have had another. SightlineError otherwise: status 2 for a name that is none or a number too high, 3 for
    a kind of device that this machine or this torch lacks.
    """
    if name == "auto":
        here = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return usable_device(here, "--train.device cpu, or hide the graphics card with CUDA_VISIBLE_DEVICES=")
    try:
        return usable_device(name, "--train.device auto")
    except SightlineError:
        if fallback:
            return pick_device("auto")
        raise


def usable_device(name: str, cure: str) -> torch.device:
    """The device of this name, on which a tensor was made; SightlineError with this cure where it is none or absent."""

    def unusable(why: str, status: int = USER) -> SightlineError:
        what = f"the device {name!r} cannot be used"
        return SightlineError(what, where="train.device", why=why, cure=cure, status=status)

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise unusable("the names are auto, cpu, cuda, cuda:1 and so on, mps") from error
    if device.type == "meta":
        raise unusable("it holds no numbers")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and count and (device.index or 0) >= count:
        raise unusable("cuda:0 is the only one" if count == 1 else f"there are cuda:0 to cuda:{count - 1}")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise unusable((str(error) or type(error).__name__).splitlines()[0], ENVIRONMENT) from error
    return device


def use_threads(threads: int) -> int:
    """Let torch compute with `threads` threads; 0: OMP_NUM_THREADS, or one for each processor this process may use.

    More threads than processors are allowed where they are asked for. SightlineError beyond MOST_THREADS.
    """
    if threads > MOST_THREADS:
        cure = f"--train.threads 0 takes one for each processor, here {processors()}"
        where, why = f"train.threads = {threads}", f"{MOST_THREADS:,} are the most"
        raise SightlineError("too many threads", where=where, why=why, cure=cure)
    threads = threads or omp_num_threads(os.environ.get("OMP_NUM_THREADS", "")) or processors()
    torch.set_num_threads(threads)
    return threads


def omp_num_threads(text: str) -> int:
    """The number in OMP_NUM_THREADS; of a list ("4,2", one for each level of nesting) the first; 0: nothing usable."""
    first = text.split(",")[0].strip()
    number = int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0
    return number if number <= MOST_THREADS else 0


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """torch.float32 or torch.bfloat16.

    "auto" on a processor times a 3x3 convolution, forward and backward, in both by turns and takes bfloat16 where its
    best time is 1.2 times as fast: flags promise instructions, not speed, and a neighbor that ends slows down one or
    two. On CUDA it asks the library; elsewhere float32.
    """
    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    return torch.bfloat16 if bfloat16_gain() > 1.2 else torch.float32


def bfloat16_gain() -> float:
    """Speed of a convolution in bfloat16 relative to float32 on this processor: the best of PROBES by turns."""
    seconds = [(convolution_seconds(torch.float32), convolution_seconds(torch.bfloat16)) for _ in range(PROBES)]
    whole, half = (min(each) for each in zip(*seconds, strict=True))
    return whole / half


def precision_name(dtype: torch.dtype) -> str:
    """What recipes and provenance call it: `fp32` or `bf16`."""
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def convolution_seconds(dtype: torch.dtype) -> float:
    """Seconds of one forward and backward pass of a 64 to 64 channel convolution at [64, 64, 16, 16]."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 64, 16, 16, generator=generator).to(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        functional.conv2d(images, weight, padding=1).float().sum().backward()
    return time.perf_counter() - start


@contextmanager
def autocast(device: torch.device, dtype: torch.dtype) -> Generator[None]:
    """The automatic precision of a run; does nothing for float32. On a processor with faster small convolutions."""
    half = dtype == torch.bfloat16
    small = SmallMaps() if half and device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=half), small:
        yield


def device_name(device: torch.device) -> str:
    """A name for people: the graphics card's, or the processor's as the system tells it and what it can do at once."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        model = platform.processor() or platform.machine()
    if device.type != "cpu":
        return f"{device.type} of {model}"
    capability = torch.backends.cpu.get_cpu_capability()
    return model if capability in ("DEFAULT", "NO AVX") else f"{model} ({capability})"


def rounding(device: torch.device) -> dict[str, Any]:
    """What decides the order in which sums are rounded, and with it the last bits of every weight."""
    return {"device": device_name(device), "threads": torch.get_num_threads(), "processes": world().size}
