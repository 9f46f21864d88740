"""Sweeps in seconds: pictures of 8x8, and trials that are forked from the test, which has torch loaded already."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config_toys import configured
from sightline.config.schema import Config
from sweep_toys import ForkedProcess

SMALL = {
    "name": "small",
    "data.size": 8,
    "model.name": "small_cnn",
    "model.args": {"widths": [8, 8]},
    "train.epochs": 2,
    "train.batch_size": 16,
    "train.precision": "fp32",
    "train.threads": 1,
    "report.samples": 0,
}


BLANK = b"\x89PNG\r\n\x1a\n" + bytes(8) + (64).to_bytes(4, "big") * 2
"""For the comparison's drawings, which have tests of their own."""


@pytest.fixture(scope="module")
def forked(quick_figures: None) -> Iterator[None]:
    """Trials begin without a fresh interpreter, and their reports draw nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("work", "cluster"):
            patch.setattr(importlib.import_module(f"sightline.sweep.{module}"), "start_process", ForkedProcess)
        patch.setattr(importlib.import_module("sightline.sweep.work"), "POLL_SECONDS", 0.02)
        patch.setattr(importlib.import_module("sightline.report.compare.files"), "png", lambda figure: BLANK)
        yield


@pytest.fixture(scope="session")
def tiles(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, 16 + 8 pictures of 8x8 each."""
    return make_photos(tmp_path_factory.mktemp("tiles"), classes=2, train=16, val=8, size=8)


@pytest.fixture(scope="session")
def recipe() -> Config:
    return configured(SMALL)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What the sweep has said since the last call."""
    return lambda: capsys.readouterr().out.splitlines()
