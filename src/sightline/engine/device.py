"""The device, the precision and the number of CPU threads of a run."""

import copy
import functools
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ..data.parallel import processors
from ..errors import ENVIRONMENT, USER, SightlineError
from .distributed import world
from .fast_layers import FastLayers

ROUNDS = 5
"""Maximum number of times that a model's step is timed in each precision."""

ROUNDS_SECONDS = 1.0
"""No round but the second begins later than this after the start of the measurement."""

STEP_SECONDS, STEP_IMAGES = 0.2, 32
"""Processor time in float32 and maximum number of images of a timed step; it has at least 2 images."""

EMULATED = 1.5  # times as slow as float32

GAIN = 1.05
"""A 16-bit format is chosen if a step in float32 takes more than this many times as long."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The values of the setting `train.precision` besides `auto`."""

MAX_THREADS = 1024  # with more, libraries fail or crash


def pick_device(name: str, fallback: bool = False) -> torch.device:
    """The torch device for `name`; "auto" is CUDA if available, else the CPU. Apple's MPS, on which nothing was run
    yet, is used only if it is named.

    fallback: if the device is not available, use "auto" instead; for commands that read runs of other machines. Without
    `fallback`, raises SightlineError: with status 2 for an invalid name or index, with status 3 for a type of device
    that this machine or this build of torch does not have.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "cpu"
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
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun
    if device.type == "cuda" and device.index is not None and processes > 1:
        why = f"each of the {processes} processes on this machine needs a CUDA device of its own"
        one = "let each process take its own: --train.device cuda; to resume a run with this device, use one process"
        raise SightlineError(f"several processes cannot share {name}", where="train.device", why=why, cure=one)
    if device.type == "cuda" and processes > count > 0:
        why = f"each process needs a CUDA device of its own: this machine has {count}, and runs {processes} processes"
        fewer = f"torchrun --nproc-per-node {count} -m sightline ...; or use the CPU: --train.device cpu"
        raise SightlineError("there are more processes than devices", where="torchrun", why=why, cure=fewer)
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


def pick_precision(
    name: str,
    device: torch.device,
    model: nn.Module | None = None,
    shape: tuple[int, ...] = (),
    run: Callable[[Any, torch.Tensor], Any] = lambda model, images: model(images),
) -> torch.dtype:
    """The dtype for a value of the setting `train.precision`: torch.float32, torch.bfloat16 or torch.float16.

    "auto" depends on the device. CPU: bfloat16 if a step of the model is measured to be faster, see `step_gain`. CUDA:
    bfloat16 if the GPU supports it without emulation, else float16 if that is measured to be faster. Other devices:
    float32. Raises SightlineError for float16 on MPS.

    model: unchanged by the measurement, which is of a copy. shape: of a batch [N, C, H, W]; fewer images may be used.
    run: the forward pass of a step, (model, images) -> tensors. The backward pass is measured with it, except within
    torch.no_grad and for a frozen model.
    """
    on_cuda = device.type == "cuda"
    if name == "fp16" and device.type == "mps":
        cure = "use --train.precision fp32 or bf16"
        raise SightlineError("float16 is not available on MPS", where="train.precision", cure=cure)
    if name != "auto":
        return DTYPES[name]
    if on_cuda and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    if device.type not in ("cpu", "cuda") or model is None:
        return torch.float32
    half = torch.float16 if on_cuda else torch.bfloat16
    with torch.random.fork_rng(devices=[device] if on_cuda else []), one_thread():
        faster = (on_cuda or has_bfloat16()) and step_gain(copy.deepcopy(model), shape, run, device, half) > GAIN
    return half if faster else torch.float32


def loss_scaler(device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler:
    """The factor by which the loss of a run in float16 is multiplied, because small gradients would be rounded to 0. It
    is halved whenever a gradient is not finite; that step is left out. In other formats it is 1."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)


@contextmanager
def one_thread() -> Generator[None]:
    """Context manager: compute with one CPU thread. Several threads would wait for each other where other processes
    are running, which can make times useless."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@functools.cache
def has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16 without slow emulation: a 3x3 convolution of images [16, 64, 16, 16] takes
    less than EMULATED times as long as in float32. Measured once per process, in a few milliseconds; with emulation in
    0.15 s."""
    images, weight = torch.ones(16, 64, 16, 16), torch.ones(64, 64, 3, 3)

    def seconds(dtype: torch.dtype) -> float:
        start = time.process_time()
        functional.conv2d(images.to(dtype), weight.to(dtype))
        return time.process_time() - start

    full = min(seconds(torch.float32) for _ in range(ROUNDS))
    half = [seconds(torch.bfloat16), seconds(torch.bfloat16)]  # in the first, oneDNN compiles its kernel
    while len(half) < ROUNDS and half[-1] < 10 * full:
        half.append(seconds(torch.bfloat16))
    return min(half) < EMULATED * full


def step_gain(
    model: nn.Module,
    shape: tuple[int, ...],
    run: Callable[[Any, torch.Tensor], Any],
    device: torch.device,
    half: torch.dtype,
) -> float:
    """Time of a step in float32 / its time in the 16-bit format `half`; above 1, `half` is faster. Arguments as of
    `pick_precision`; the model's statistics and random state change.

    Both are timed in turn, on a CPU in processor time, which other processes hardly affect; the shortest time of each
    is used.
    oneDNN compiles its kernels in the first round, which only counts if it is very slow. The measurement takes 1 to 2
    s on an idle machine, less for small models.
    """

    def timed(count: int) -> tuple[float, float]:
        images = torch.randn(count, *shape[1:], generator=torch.Generator().manual_seed(0))
        images = images.to(device).to(memory_format=torch.channels_last)
        return step_seconds(model, images, run, torch.float32), step_seconds(model, images, run, half)

    deadline, limit = time.perf_counter() + ROUNDS_SECONDS, min(shape[0], STEP_IMAGES)
    count = min(limit, 2)
    rounds = [timed(count)]
    if sum(rounds[0]) < ROUNDS_SECONDS:
        rounds = [timed(count)]
        more = min(limit, int(count * STEP_SECONDS / max(rounds[0][0], 1e-6)))
        if more > count:
            count, rounds = more, []
            timed(count)
        while len(rounds) < 2 or (len(rounds) < ROUNDS and time.perf_counter() < deadline):
            rounds.append(timed(count))
    full, short = (min(seconds) for seconds in zip(*rounds, strict=True))
    return full / max(short, 1e-6)


def step_seconds(
    model: nn.Module, images: torch.Tensor, run: Callable[[Any, torch.Tensor], Any], dtype: torch.dtype
) -> float:
    """Seconds of one forward pass of the model, and of the backward pass if the outputs have gradients; of the
    processor if the images are there."""
    start = seconds_of(images.device)
    with autocast(images.device, dtype):
        outputs = [output for output in tensors_of(run(model, images)) if output.requires_grad]
    if outputs:
        torch.stack([output.float().square().mean() for output in outputs]).sum().backward()
        model.zero_grad(set_to_none=True)
    return seconds_of(images.device) - start


def seconds_of(device: torch.device) -> float:
    """A clock: processor time, or for CUDA the time at which all work of the GPU is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def tensors_of(outputs: Any) -> list[torch.Tensor]:
    """All tensors in the output of a model: a tensor, or a dict, list or tuple of outputs."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    values = outputs.values() if isinstance(outputs, dict) else outputs if isinstance(outputs, list | tuple) else ()
    return [tensor for value in values for tensor in tensors_of(value)]


def precision_name(dtype: torch.dtype) -> str:
    """The name of a dtype as in recipes and provenance.json: `fp32`, `bf16` or `fp16`."""
    return next(name for name, known in DTYPES.items() if known == dtype)


@contextmanager
def autocast(device: torch.device, dtype: torch.dtype) -> Generator[None]:
    """Context manager: torch.autocast for bfloat16 and float16. On the CPU it also applies `FastLayers`, which are not
    for float16; without gradients in float32 there are none."""
    half = dtype != torch.float32
    fast = device.type == "cpu" and (dtype == torch.bfloat16 or (not half and torch.is_grad_enabled()))
    with torch.autocast(device.type, dtype if half else None, enabled=half), FastLayers() if fast else nullcontext():
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
