"""Pre-training without baselines, on one batch of images."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.config.schema import Config


@pytest.fixture(scope="session")
def small(small: Callable[..., Config]) -> Callable[..., Config]:
    """The `small` of all tests, without baselines, which take a tenth of the time of a run."""
    return lambda **settings: small(**{"report.baselines": False} | settings)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path]) -> Path:
    """Class folders with one batch of training images and 8 validation images."""
    return make_photos(tmp_path_factory.mktemp("few"), train=4, val=2)
