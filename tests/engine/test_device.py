"""Precision is chosen by measurement, and a wrong device is the environment's fault, said in one message."""

import pytest
import torch

from sightline import SightlineError
from sightline.engine import device


def test_bf16_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: 0.5}
    monkeypatch.setattr(device, "convolution_seconds", lambda dtype: seconds[dtype])
    assert device.pick_precision("auto", torch.device("cpu")) is torch.bfloat16
    seconds[torch.bfloat16] = 0.95
    assert device.pick_precision("auto", torch.device("cpu")) is torch.float32
    assert device.pick_precision("bf16", torch.device("cpu")) is torch.bfloat16


def test_the_measurement_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert device.convolution_seconds(torch.float32) > 0
    assert torch.equal(before, torch.get_rng_state())


def refusal(name: str) -> SightlineError:
    with pytest.raises(SightlineError) as caught:
        device.pick_device(name)
    assert caught.value.cure == "--train.device auto" and repr(name) in caught.value.what and caught.value.why
    return caught.value


@pytest.mark.parametrize("name", ["bogus", "", "cuda:x", "meta"])
def test_a_name_that_is_no_device_is_a_mistake_of_the_user(name: str) -> None:
    assert refusal(name).status == 2


def test_a_card_beyond_the_last_is_a_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for count, why in ((1, "cuda:0 is the only one"), (2, "there are cuda:0 to cuda:1")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        error = refusal("cuda:9")
        assert error.status == 2 and error.why == why


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
@pytest.mark.parametrize("name", ["cuda", "cuda:9"])
def test_a_kind_of_device_that_is_not_here_is_the_environments_fault(name: str) -> None:
    assert refusal(name).status == 3


@pytest.mark.parametrize("name", ["bogus", "cuda:9", "auto"])
def test_with_fallback_a_device_of_another_machine_is_no_error(name: str) -> None:
    assert device.pick_device(name, fallback=True) == device.pick_device("auto")
    assert device.pick_device("cpu", fallback=True).type == "cpu"


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What torch is told, instead of doing it."""
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [("3", 3), ("4,2", 4), (" 2 , 1", 2), ("", 7), ("many", 7), ("-3", 7), ("0", 7), (",", 7), ("²", 7), ("9" * 30, 7)],
)
def test_threads_by_the_environment(
    wish: str, chosen: int, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wish)
    monkeypatch.setattr(device, "processors", lambda: 7)
    assert device.use_threads(0) == chosen and threads == [chosen]


def test_threads_that_are_asked_for_are_given_within_reason(threads: list[int]) -> None:
    assert device.use_threads(1024) == 1024 and threads == [1024]
    with pytest.raises(SightlineError) as caught:
        device.use_threads(1025)
    assert caught.value.status == 2 and "--train.threads 0" in caught.value.cure and threads == [1024]


def test_processors_where_the_system_tells_only_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(device.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(device.os, "cpu_count", lambda: 6)
    assert device.processors() == 6
    monkeypatch.setattr(device.os, "cpu_count", lambda: None)
    assert device.processors() == 1


def test_the_name_of_a_processor_leaves_the_threads_to_their_own_field() -> None:
    name = device.device_name(torch.device("cpu"))
    assert name.strip() and "thread" not in name
