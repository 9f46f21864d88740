"""Fixtures for fast sweeps: 8x8 images, and trials forked from the test process, which has already imported torch."""

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
"""Replaces the figures of comparisons, which have their own tests."""


@pytest.fixture(scope="module")
def forked(quick_figures: None) -> Iterator[None]:
    """Fork trials instead of starting an interpreter, and draw no figures."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("scheduler", "cluster"):
            patch.setattr(importlib.import_module(f"sightline.sweep.{module}"), "start_process", ForkedProcess)
        patch.setattr(importlib.import_module("sightline.sweep.scheduler"), "POLL_SECONDS", 0.02)
        patch.setattr(importlib.import_module("sightline.report.compare.files"), "png", lambda figure: BLANK)
        yield


@pytest.fixture(scope="session")
def tiles(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with 16 training and 8 validation images of 8x8 each."""
    return make_photos(tmp_path_factory.mktemp("tiles"), classes=2, train=16, val=8, size=8)


@pytest.fixture(scope="session")
def recipe() -> Config:
    return configured(SMALL)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The lines printed since the last call."""
    return lambda: capsys.readouterr().out.splitlines()
