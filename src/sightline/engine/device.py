"""The device, the precision and the number of CPU threads of a run."""

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

REPETITIONS = 8  # of the speed measurement; about 0.2 s in total
MAX_THREADS = 1024  # with more, libraries fail or crash


def pick_device(name: str, fallback: bool = False) -> torch.device:
    """The torch device for `name`; "auto" is CUDA if available, else Apple's MPS, else the CPU.

    fallback: if the device is not available, use "auto" instead; for commands that read runs of other machines. Without
    `fallback`, raises SightlineError: with status 2 for an invalid name or index, with status 3 for a type of device
    that this machine or this build of torch does not have.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return usable_device(best, "use the CPU: --train.device cpu; or hide the GPU: export CUDA_VISIBLE_DEVICES=")
    try:
        return usable_device(name, "choose the device automatically: --train.device auto")
    except SightlineError:
        if fallback:
            return pick_device("auto")
        raise


def usable_device(name: str, cure: str) -> torch.device:
    """The torch device `name`; raises SightlineError with `cure` if no tensor can be allocated on it. On CUDA, TF32 is
    switched off: results in float32 must be those of an exported graph."""

    def unusable(why: str, status: int = USER) -> SightlineError:
        what = f"the device {name!r} cannot be used"
        return SightlineError(what, where="train.device", why=why, cure=cure, status=status)

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise unusable("valid names are auto, cpu, mps, cuda, cuda:1 and so on") from error
    if device.type == "meta":
        raise unusable("tensors on the meta device have no values")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and count and (device.index or 0) >= count:
        raise unusable("the only CUDA device is cuda:0" if count == 1 else f"there are cuda:0 to cuda:{count - 1}")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise unusable((str(error) or type(error).__name__).splitlines()[0], ENVIRONMENT) from error
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # on by default for convolutions, with 10 of float32's 23 bits
    return device


def use_threads(threads: int) -> int:
    """Set the number of CPU threads of torch and return it.

    threads: the number; it may exceed the number of processors. 0: the value of the environment variable
    OMP_NUM_THREADS, or without it the number of processors that this process may use. Raises SightlineError for more
    than MAX_THREADS.
    """
    if threads > MAX_THREADS:
        cure = f"use one thread per processor (here {processors()}): --train.threads 0"
        where, why = f"train.threads = {threads}", f"at most {MAX_THREADS:,} threads are allowed"
        raise SightlineError("too many threads", where=where, why=why, cure=cure)
    threads = threads or omp_num_threads(os.environ.get("OMP_NUM_THREADS", "")) or processors()
    torch.set_num_threads(threads)
    return threads


def omp_num_threads(text: str) -> int:
    """Parse the value of OMP_NUM_THREADS: a number, or a list such as "4,2" for nested levels, of which the first
    number is used. 0 if invalid."""
    first = text.split(",")[0].strip()
    number = int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0
    return number if number <= MAX_THREADS else 0


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype for a value of the setting `train.precision`: torch.float32 or torch.bfloat16.

    "auto" depends on the device. CPU: bfloat16 if a 3x3 convolution, forward and backward, is measured to be more
    than 1.2 times as fast as in float32, because CPUs with bfloat16 instructions can still be slower. CUDA: bfloat16
    if the GPU supports it without emulation. Other devices: float32.
    """
    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    return torch.bfloat16 if bfloat16_gain() > 1.2 else torch.float32


def bfloat16_gain() -> float:
    """Time of a convolution in float32 / its time in bfloat16, on this CPU; above 1, bfloat16 is faster. Both are
    timed REPETITIONS times in alternation, and the shortest time of each is used."""
    seconds = [(convolution_seconds(torch.float32), convolution_seconds(torch.bfloat16)) for _ in range(REPETITIONS)]
    full, half = (min(each) for each in zip(*seconds, strict=True))
    return full / half


def precision_name(dtype: torch.dtype) -> str:
    """The name of a dtype as in recipes and provenance.json: `fp32` or `bf16`."""
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def convolution_seconds(dtype: torch.dtype) -> float:
    """Seconds of one forward and backward pass of a 3x3 convolution, 64 to 64 channels, of images [64, 64, 16, 16]."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 64, 16, 16, generator=generator).to(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        functional.conv2d(images, weight, padding=1).float().sum().backward()
    return time.perf_counter() - start


@contextmanager
def autocast(device: torch.device, dtype: torch.dtype) -> Generator[None]:
    """Context manager: torch.autocast for bfloat16; does nothing for float32. On the CPU it also applies
    `SmallMaps`, which computes bfloat16 convolutions of small feature maps faster."""
    half = dtype == torch.bfloat16
    small = SmallMaps() if half and device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=half), small:
        yield


def device_name(device: torch.device) -> str:
    """Description of the device: the GPU's name, or the CPU's model and vector instructions ("... (AVX512)")."""
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
    """What affects how sums are rounded: device, number of threads, number of processes."""
    return {"device": device_name(device), "threads": torch.get_num_threads(), "processes": world().size}
