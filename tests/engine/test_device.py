"""Device, precision and threads: automatic choices, and the errors for invalid names and missing devices."""

import pytest
import torch

from sightline import SightlineError
from sightline.engine import device


def test_bf16_only_if_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: 0.5}
    monkeypatch.setattr(device, "convolution_seconds", lambda dtype: seconds[dtype])
    assert device.pick_precision("auto", torch.device("cpu")) is torch.bfloat16
    seconds[torch.bfloat16] = 0.95
    assert device.pick_precision("auto", torch.device("cpu")) is torch.float32
    assert device.pick_precision("bf16", torch.device("cpu")) is torch.bfloat16


def test_the_measurement_does_not_change_the_global_random_state() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert device.convolution_seconds(torch.float32) > 0
    assert torch.equal(before, torch.get_rng_state())


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
