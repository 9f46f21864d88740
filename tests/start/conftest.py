"""Fixtures of the tests of `sightline start`."""

from pathlib import Path

import pytest

import sightline
from config_toys import configured
from sightline.recipes import ladders
from sightline.recipes.ladders import LADDERS
from start_toys import FAST, SMALL, toy_steps


@pytest.fixture
def toy_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    """`toy_steps` in the place of the ladder for photographs."""
    monkeypatch.setitem(LADDERS, "labels", lambda side: toy_steps())
    monkeypatch.setattr(ladders, "SIDES", (16, 8))


@pytest.fixture(scope="module")
def weights(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    config = configured({"task": "classify", **SMALL, **FAST, "train.epochs": 3, "report.baselines": False})
    return str(sightline.train(config, photos, out=tmp_path_factory.mktemp("weights") / "run", quiet=True).path)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cached weights, and downloads are forbidden."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
