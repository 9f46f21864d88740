"""Device, precision and threads: automatic choices, and the errors for invalid names and missing devices."""

import contextlib
import copy
import itertools
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional

from sightline import SightlineError
from sightline.engine import device

CPU = torch.device("cpu")


class Noisy(nn.Module):
    """Batch norm, dropout and a linear layer, with nested outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        return {"logits": [self.head(functional.dropout(self.norm(images), 0.5, self.training).mean((2, 3)))]}


measured_bfloat16 = device.has_bfloat16
"""The function itself, which conftest.py replaces."""


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> Noisy:
    monkeypatch.setattr(device, "has_bfloat16", lambda: True)
    return Noisy()


@pytest.mark.parametrize(
    ("half", "supported", "measured"),
    [([70.0], False, 2), ([9.0, 1.2], True, 5), ([9.0, 1.0, 0.8], True, 5), ([9.0, 1.8], False, 5)],
    ids=["emulated", "as fast", "faster", "slower"],
)
def test_emulated_bfloat16_is_found_by_two_measurements_and_compiling_a_kernel_is_no_emulation(
    half: list[float], supported: bool, measured: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, times = [0.0], itertools.chain(half, itertools.repeat(half[-1]))
    calls: list[torch.dtype] = []

    def convolve(images: torch.Tensor, weight: torch.Tensor) -> None:
        calls.append(images.dtype)
        clock[0] += 1.0 if images.dtype is torch.float32 else next(times)

    monkeypatch.setattr(device.functional, "conv2d", convolve)
    monkeypatch.setattr(device.time, "process_time", lambda: clock[0])
    assert measured_bfloat16.__wrapped__() is supported
    assert calls.count(torch.bfloat16) == measured


@pytest.mark.parametrize(("full", "half", "counts"), [(0.02, 0.01, {2, 20}), (1e-4, 1e-4, {2, 32}), (0.6, 0.5, {2})])
def test_auto_is_bfloat16_if_it_is_faster(
    noisy: Noisy, monkeypatch: pytest.MonkeyPatch, full: float, half: float, counts: set[int]
) -> None:
    calls: list[tuple[int, torch.dtype]] = []

    def seconds(model: nn.Module, images: torch.Tensor, run: object, dtype: torch.dtype) -> float:
        calls.append((len(images), dtype))
        return full if dtype is torch.float32 else half

    monkeypatch.setattr(device, "step_seconds", seconds)
    faster = torch.bfloat16 if half < full else torch.float32
    assert device.pick_precision("auto", CPU, noisy, (64, 3, 4, 4)) is faster
    assert {count for count, _ in calls} == counts
    assert [dtype for _, dtype in calls] == [torch.float32, torch.bfloat16] * (len(calls) // 2)
    assert device.pick_precision("bf16", CPU) is torch.bfloat16 and device.pick_precision("fp32", CPU) is torch.float32


def test_a_step_longer_than_the_limit_is_measured_once(noisy: Noisy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "ROUNDS_SECONDS", 0.0)
    with mock.patch.object(device, "step_seconds", wraps=device.step_seconds) as measured:
        device.pick_precision("auto", CPU, noisy, (64, 3, 4, 4))
    assert measured.call_count == 2


def test_the_measurement_changes_no_state(noisy: Noisy, threads: list[int]) -> None:
    before, state = copy.deepcopy(noisy.state_dict()), torch.get_rng_state()
    device.pick_precision("auto", CPU, noisy, (4, 3, 4, 4))
    assert torch.equal(state, torch.get_rng_state()) and threads == [1, torch.get_num_threads()]
    assert all(torch.equal(value, before[name]) for name, value in noisy.state_dict().items())
    assert all(parameter.grad is None for parameter in noisy.parameters())


def test_the_backward_pass_is_measured_unless_nothing_is_trained(noisy: Noisy, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: passes.append(loss))
    with torch.no_grad():
        device.pick_precision("auto", CPU, noisy, (4, 3, 4, 4))
    device.pick_precision("auto", CPU, noisy.requires_grad_(False), (4, 3, 4, 4))
    assert not passes
    device.pick_precision("auto", CPU, noisy.requires_grad_(), (4, 3, 4, 4))
    assert len(passes) >= 2


def test_auto_is_float32_where_bfloat16_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "EMULATED", 0.0)
    with mock.patch.object(device, "step_seconds", side_effect=AssertionError("was measured")):
        assert device.pick_precision("auto", CPU, Noisy(), (4, 3, 4, 4)) is torch.float32


@pytest.mark.parametrize(("native", "gain", "dtype"), [(True, 0.5, "bf16"), (False, 2.0, "fp16"), (False, 0.5, "fp32")])
def test_cards_without_bfloat16_take_float16_if_it_is_faster(
    native: bool, gain: float, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: the timing itself needs a card."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: contextlib.nullcontext())
    card = torch.device("cuda")
    with mock.patch.object(device, "step_gain", return_value=gain) as measured:
        chosen = device.pick_precision("auto", card, Noisy(), (4, 3, 4, 4))
    assert device.precision_name(chosen) == dtype and measured.called is not native
    assert all(call.args[3:] == (card, torch.float16) for call in measured.call_args_list)


def test_float16_on_mps_is_refused() -> None:
    with pytest.raises(SightlineError, match="float16 is not available on MPS"):
        device.pick_precision("fp16", torch.device("mps"))


def error_of(name: str) -> SightlineError:
    with pytest.raises(SightlineError) as caught:
        device.pick_device(name)
    assert caught.value.cure.endswith("--train.device auto") and repr(name) in caught.value.what and caught.value.why
    return caught.value


@pytest.mark.parametrize("name", ["bogus", "", "cuda:x", "meta"])
def test_an_invalid_device_name_has_status_2(name: str) -> None:
    assert error_of(name).status == 2


def test_a_cuda_index_that_does_not_exist_has_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for count, why in ((1, "the only CUDA device is cuda:0"), (2, "there are cuda:0 to cuda:1")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        error = error_of("cuda:9")
        assert error.status == 2 and error.why == why


def test_more_processes_than_cuda_devices_is_an_error_with_the_number_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda *shape, device: None)
    for processes in ("2", "3"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert device.pick_device("cpu").type == "cpu"
        if processes == "2":
            assert device.pick_device("auto").type == "cuda"
    with pytest.raises(SightlineError, match="more processes than devices") as caught:
        device.pick_device("auto")
    assert "has 2, and runs 3" in caught.value.why and "--nproc-per-node 2" in caught.value.cure


def test_a_cuda_device_for_several_processes_must_have_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda *shape, device: None)
    assert device.pick_device("cuda:1").index == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert device.pick_device("cuda").index is None
    with pytest.raises(SightlineError, match="several processes cannot share cuda:1") as caught:
        device.pick_device("cuda:1")
    assert caught.value.status == 2 and "--train.device cuda;" in caught.value.cure


def test_float32_on_cuda_is_not_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch, "empty", lambda *shape, device: None)
    device.pick_device("cpu")
    assert torch.backends.cudnn.allow_tf32
    device.pick_device("cuda")
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available")
@pytest.mark.parametrize("name", ["cuda", "cuda:9"])
def test_an_unavailable_type_of_device_has_status_3(name: str) -> None:
    assert error_of(name).status == 3


@pytest.mark.parametrize("name", ["bogus", "cuda:9", "auto"])
def test_fallback_uses_auto_for_unavailable_devices(name: str) -> None:
    assert device.pick_device(name, fallback=True) == device.pick_device("auto")
    assert device.pick_device("cpu", fallback=True).type == "cpu"


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The arguments of calls of torch.set_num_threads, which are not executed."""
    calls: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    return calls


@pytest.mark.parametrize(
    ("value", "chosen"),
    [("3", 3), ("4,2", 4), (" 2 , 1", 2), ("", 7), ("many", 7), ("-3", 7), ("0", 7), (",", 7), ("²", 7), ("9" * 30, 7)],
)
def test_threads_from_the_environment(
    value: str, chosen: int, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(device, "processors", lambda: 7)
    assert device.use_threads(0) == chosen and threads == [chosen]


def test_maximum_number_of_threads(threads: list[int]) -> None:
    assert device.use_threads(1024) == 1024 and threads == [1024]
    with pytest.raises(SightlineError) as caught:
        device.use_threads(1025)
    assert caught.value.status == 2 and "--train.threads 0" in caught.value.cure and threads == [1024]


def test_processors_without_sched_getaffinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(device.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(device.os, "cpu_count", lambda: 6)
    assert device.processors() == 6
    monkeypatch.setattr(device.os, "cpu_count", lambda: None)
    assert device.processors() == 1


def test_device_name_does_not_have_the_number_of_threads() -> None:
    name = device.device_name(torch.device("cpu"))
    assert name.strip() and "thread" not in name
