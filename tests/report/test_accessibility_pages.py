"""Accessibility of the pages of a comparison and of the doctor in a real browser, by axe-core in both themes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sightline
from accessibility import violations_of_file
from config_toys import configured
from conftest import TINY

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make .venv/.installed-dev")
if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.mark.slow
def test_the_comparison(photos: Path, tmp_path: Path, browser: "Browser") -> None:
    config = configured(TINY | {"task": "classify", "train.epochs": 1, "report.samples": 8})
    runs = [sightline.train(config, photos, out=tmp_path / f"{n}", quiet=True, **{"train.seed": n}) for n in range(2)]
    page = sightline.report(*runs, out=tmp_path / "both", quiet=True)
    assert violations_of_file(browser, page) == []


@pytest.mark.slow
def test_the_doctor(make_photos: Callable[..., Path], tmp_path: Path, browser: "Browser") -> None:
    data = make_photos(tmp_path / "photos", size=48)
    train = data / "train"
    shutil.copy(next((train / "class_0").iterdir()), data / "val" / "class_1" / "copy.png")
    (train / "class_2" / "empty.png").touch()
    sightline.doctor(data, out=tmp_path / "out", quiet=True)
    assert violations_of_file(browser, tmp_path / "out" / "doctor.html") == []
