"""The process of a trial."""

import importlib
from pathlib import Path
from typing import Any

import pytest

import sightline
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.sweep.child import train_or_resume


def test_a_resumed_trial_gets_the_settings_of_the_new_command_that_do_not_change_its_steps(
    recipe: Config, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve(recipe, {"data.path": str(tiles), "train.epochs": 1, "name": "trial"})
    sightline.train(config, out=tmp_path / "trial", quiet=True)
    resumed: list[dict[str, Any]] = []
    module = importlib.import_module("sightline.sweep.child")
    monkeypatch.setattr(module, "resume", lambda folder, **settings: resumed.append(settings))
    train_or_resume(tmp_path / "trial", config)
    train_or_resume(tmp_path / "trial", resolve(config, {"train.on_out_of_memory": "halve"}))
    assert resumed == [{}, {"train.on_out_of_memory": "halve"}]
