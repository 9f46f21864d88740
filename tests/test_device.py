"""Precision is chosen by measurement, and a wrong device is the environment's fault, said in one message."""

import pytest
import torch

from sightline import SightlineError, device


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
    assert device.convolution_seconds(torch.float32, repeats=1) > 0
    assert torch.equal(before, torch.get_rng_state())


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(SightlineError) as caught:
        device.pick_device("cuda:99" if not torch.cuda.is_available() else "cuda:9999")
    assert caught.value.status == 3 and "--train.device" in caught.value.cure
