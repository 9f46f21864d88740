"""The parts of a run of each task are built in the precision that is measured with the network of this run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from config_toys import configured
from parts_toys import build
from sightline.config.schema import Config
from sightline.engine import device


@pytest.mark.parametrize("task", ["classify", "segment", "pretrain"])
def test_auto_measures_the_network_of_the_run_with_its_batches(
    task: str,
    photos: Path,
    make_scenes: Callable[..., Path],
    tiny: dict[str, Any],
    toy: Callable[..., Config],
    small: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[tuple[nn.Module, tuple[int, ...]]] = []

    def step_gain(
        model: nn.Module, shape: tuple[int, ...], run: Callable[[nn.Module, torch.Tensor], Any], *where: object
    ) -> float:
        assert where == (torch.device("cpu"), torch.bfloat16)
        measured.append((model, shape))
        assert any(output.requires_grad for output in device.tensors_of(run(model, torch.zeros(2, *shape[1:]))))
        return 2.0

    monkeypatch.setattr(device, "has_bfloat16", lambda: True)
    monkeypatch.setattr(device, "step_gain", step_gain)
    data = make_scenes(tmp_path / "scenes") if task == "segment" else photos
    auto = {"data.path": str(data), "train.precision": "auto", "train.device": "cpu"}
    config = configured(tiny | auto) if task == "classify" else {"segment": toy, "pretrain": small}[task](**auto)
    parts = build(config, lambda text: None)
    ((model, shape),) = measured
    assert parts.dtype is torch.bfloat16 and shape == (config.train.batch_size, *parts.trace_spec.image)
    assert type(model) is type(parts.model) and model is not parts.model
