"""The number of trials of sweeps that were extended."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sightline
from sightline.config.schema import Config

pytestmark = pytest.mark.usefixtures("forked")


def test_a_sweep_that_was_extended_is_repeated_without_trials(
    recipe: Config, tiles: Path, tmp_path: Path, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("sightline.sweep.plan"), "TRIALS", 2)
    arguments: dict[str, Any] = {"out": tmp_path / "s", "optim.lr": "1e-3..1e-1", "train.epochs": 1}
    sightline.sweep(recipe, tiles, trials=3, **arguments)
    lines()
    result = sightline.sweep(recipe, tiles, **arguments)
    said = lines()
    assert "resuming: 3 of 3 trials are done" in said and not [line for line in said if "are left" in line]
    assert len(result.trials) == result.values["wanted"] == 3


def test_extended_to_all_combinations_each_is_tried_although_sampled_trials_repeated_some(
    recipe: Config, tiles: Path, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    arguments: dict[str, Any] = {"out": tmp_path / "s", "sampler": "random", "train.epochs": 1, "seed": 0}
    arguments |= {"train.batch_size": "15..18"}
    first = sightline.sweep(recipe, tiles, trials=3, **arguments)
    tried = [row["values"]["train.batch_size"] for row in first.trials]
    assert len(set(tried)) < len(tried), "another seed is needed for this test"
    result = sightline.sweep(recipe, tiles, trials=4, **arguments)
    assert "the search space has 4 combinations of values; each is tried once" in lines()
    assert {row["values"]["train.batch_size"] for row in result.trials} == {15, 16, 17, 18}
    assert len(result.trials) == 4 + len(tried) - len(set(tried)) and result.values["sampler"] == "every combination"
