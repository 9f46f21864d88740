"""Tensors and descriptions for the tests of checkpoints."""

import os

import pytest
import torch
from torch import Tensor

DESCRIPTION = {
    "format": 1,
    "model": {"name": "resnet18", "args": {}},
    "classes": ["cat", "dog"],
    "preprocessing": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "resize": "bilinear"},
    "palette": None,
}


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync, which is slow; runs/test_atomic.py tests the order of fsync and rename."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def tensors(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(4, 6, generator=generator)
    return {
        "weight": weight,
        "view": weight.T,  # not contiguous, and shares memory with `weight`
        "half": torch.randn(5, generator=generator).to(torch.bfloat16),
        "count": torch.tensor(step),
        "empty": torch.zeros(0, 3),
        "mask": torch.tensor([True, False, True]),
        "channels": torch.randn(2, 3, 4, 4, generator=generator).to(memory_format=torch.channels_last),
    }


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    same = [torch.equal(first[name], second[name]) and first[name].dtype == second[name].dtype for name in first]
    return list(sorted(first)) == list(sorted(second)) and all(same)


def describe(step: int) -> dict:
    return DESCRIPTION | {"epoch": step, "step": 10 * step, "metrics": {"accuracy": step / 100}}
