"""Paths with ~ and $VARIABLES: followed everywhere, kept whole in recipe.yaml, refused by name where one is not set."""

import os
from pathlib import Path

import pytest

from config_toys import configured
from sightline import SightlineError
from sightline.config.paths import absolute, expanded
from sightline.config.schema import Data
from sightline.data.sources.open import open_source
from sightline.errors import USER
from sightline.recipes import load_recipe
from sightline.runs.run_folder import with_absolute_paths


def test_variables_and_the_home_are_put_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/data")
    monkeypatch.setenv("HOME", "/people/ann")
    for text in ("$PLACE/photos", "${PLACE}/photos"):
        assert expanded(text) == absolute(text) == "/data/photos"
    assert expanded("~/photos") == "/people/ann/photos" and expanded("a$5/x") == "a$5/x"
    assert expanded("https://host/$PLACE.tar") == "https://host/$PLACE.tar", "of an address it is a part"
    assert absolute("photos") == os.path.abspath("photos")


def test_variables_that_are_not_set_are_named_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(SightlineError, match="not set") as caught:
        expanded("$NOWHERE/${EMPTY}/photos")
    assert caught.value.why == "$NOWHERE, $EMPTY" and caught.value.where == "$NOWHERE/${EMPTY}/photos"
    assert caught.value.status == USER and "export NOWHERE=" in caught.value.cure


def test_data_are_found_by_a_variable_and_kept_whole(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", str(photos.parent))
    data = f"$PLACE/{photos.name}"
    assert open_source(Data(path=data), 0).path == str(photos)
    byol = {"task": "pretrain", "train.best_metric": "epoch", "pretrain.probe": "~/none"}
    config = configured(byol | {"data.path": data, "model.weights": "$PLACE"})
    kept = with_absolute_paths(config)
    assert kept.data.path == str(photos) and kept.model.weights == str(photos.parent)
    assert kept.pretrain.probe == "~/none", "what leads nowhere is told as it was written"
    monkeypatch.delenv("PLACE")
    for opening in (lambda: open_source(Data(path=data), 0), lambda: with_absolute_paths(config)):
        with pytest.raises(SightlineError, match="not set") as caught:
            opening()
        assert caught.value.why == "$PLACE"


def test_a_folder_with_a_dollar_in_its_name_is_that_folder(
    make_photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECYCLE", raising=False)
    make_photos(tmp_path / "$RECYCLE", classes=2, train=2, val=1)
    assert open_source(Data(path=str(tmp_path / "$RECYCLE")), 0).path == str(tmp_path / "$RECYCLE")


def test_a_recipe_file_names_what_lies_beside_it_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("recipes/photos", "here/photos", "here/other"):
        (tmp_path / place).mkdir(parents=True)
    file = tmp_path / "recipes" / "mine.yaml"
    monkeypatch.chdir(tmp_path / "here")
    for written, meant in (("photos", "recipes/photos"), ("./photos", "recipes/photos"), ("other", "here/other")):
        byol = "task: byol\ntrain: {best_metric: epoch}\npretrain: {probe: ../here/other}\n"
        file.write_text(f"data: {{path: {written}}}\n{byol}")
        for name in (str(file), "../recipes/mine.yaml"):
            config = with_absolute_paths(load_recipe(name))
            assert config.data.path == str(tmp_path / meant) and config.pretrain.probe == str(tmp_path / "here/other")
            assert config.model.weights == "none"
