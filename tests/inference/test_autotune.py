"""The batch size and the dtype of a prediction."""

import pytest
import torch

from sightline.data.decode.images import Square
from sightline.engine import device
from sightline.inference.autotune import batch_size, choose_precision
from sightline.inference.predictor import Predictor

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
F, B = torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("precision", "own", "gain", "chosen"),
    [
        *(("run", F, 2.0, F), ("run", B, 2.0, B), ("run", B, 1.1, B), ("run", B, 0.9, F)),
        *(("auto", F, 2.0, B), ("auto", B, 1.1, F), ("fp32", B, 2.0, F), ("bf16", F, 0.9, B)),
    ],
)
def test_the_dtype_is_that_of_the_run_unless_slow_or_overridden(
    monkeypatch: pytest.MonkeyPatch, precision: str, own: torch.dtype, gain: float, chosen: torch.dtype
) -> None:
    monkeypatch.setattr(device, "convolution_seconds", lambda dtype: 1.0 if dtype == B else gain)
    answers = Predictor((), ("a",), torch.nn.Identity(), Square(2), (2, 2), CPU, own, False, False)
    assert choose_precision(answers, precision).dtype == chosen


def test_the_batch_size_on_an_accelerator_is_limited_by_the_recipe() -> None:
    assert batch_size(CPU, 256) == batch_size(CPU, 8) == 32
    assert batch_size(CUDA, 256) == 128 and batch_size(CUDA, 8) == 8
