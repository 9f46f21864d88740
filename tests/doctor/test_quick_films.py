"""Films that are found before a split is made."""

from pathlib import Path

import pytest

from film_toys import write_films
from sightline.config.schema import Data
from sightline.data.sources.open import open_source
from sightline.doctor import quick
from sightline.doctor.quick import divided_films


def said(**settings: str) -> str:
    data = Data.model_validate(settings)
    return divided_films(open_source(data, 0, hold_out=False), data)


def test_films_are_named_with_the_option_that_keeps_them_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_films(tmp_path / "films"))
    found = said(path=path)
    assert found.startswith("120 of 120 images are of 4 films") and "--data.group '{group}_*'" in found
    assert said(path=path, group="{group}_*") == "" and said(path=path, group="none") == ""
    monkeypatch.setattr(quick, "MOST_READ", 100)
    assert said(path=path) == "", "too many to read"


def test_given_splits_and_other_pictures_are_no_films(tmp_path: Path, photos: Path) -> None:
    assert said(path=str(write_films(tmp_path / "films", ("train", "val")))) == ""
    assert said(path=str(photos / "train")) == ""


def test_images_that_cannot_be_read_are_left_to_the_training(tmp_path: Path) -> None:
    path = write_films(tmp_path / "films")
    next(path.rglob("*.png")).write_bytes(b"no picture")
    assert said(path=str(path)) == ""
