"""A small trained run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import sightline
from config_toys import configured
from conftest import figures
from multilabel_toys import SETTINGS, read_rows
from report.conftest import open_page  # noqa: F401  a fixture


@pytest.fixture(scope="session")
def trained(quarters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of four epochs. Tests that change it use `copied`."""
    folder = tmp_path_factory.mktemp("multilabel") / "run"
    with pytest.MonkeyPatch.context() as patch, figures(lambda figure: False):
        patch.setenv("SIGHTLINE_CACHE", str(folder.parent / "cache"))
        config = configured(SETTINGS | {"train.epochs": 4, "report.samples": 16})
        sightline.train(config, quarters, out=folder, quiet=True)
    return folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` that the test may change."""
    return shutil.copytree(trained, tmp_path / "copied")


@pytest.fixture(scope="session")
def predictions(trained: Path) -> list[dict[str, str]]:
    """The rows of predictions/val.csv."""
    return read_rows(trained / "predictions" / "val.csv")


@pytest.fixture
def train_with(quarters: Path, tmp_path: Path, no_figures: None) -> Callable[..., sightline.Run]:
    """train_with(data=quarters, **settings): train one epoch, without figures."""

    def train(data: Path = quarters, out: str = "run", **settings: object) -> sightline.Run:
        config = configured(SETTINGS | {"train.epochs": 1, "report.samples": 0} | settings)
        return sightline.train(config, data, out=tmp_path / out, quiet=True)

    return train
