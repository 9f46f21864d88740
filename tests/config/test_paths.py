"""Paths with ~ and $VARIABLES: expansion, absolute paths in recipe.yaml, errors for unset variables."""

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


def test_variables_and_the_home_folder_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", "/data")
    monkeypatch.setenv("HOME", "/home/ann")
    for text in ("$FOLDER/photos", "${FOLDER}/photos"):
        assert expanded(text) == absolute(text) == "/data/photos"
    assert expanded("~/photos") == "/home/ann/photos" and expanded("a$5/x") == "a$5/x"
    assert expanded("https://host/$FOLDER.tar") == "https://host/$FOLDER.tar", "URLs are not expanded"
    assert absolute("photos") == os.path.abspath("photos")


def test_unset_variables_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(SightlineError, match="not set") as caught:
        expanded("$NOWHERE/${EMPTY}/photos")
    assert caught.value.why == "not set: $NOWHERE, $EMPTY" and caught.value.where == "$NOWHERE/${EMPTY}/photos"
    assert caught.value.status == USER and "export NOWHERE=" in caught.value.cure


def test_data_paths_with_variables_are_expanded_and_stored_absolute(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDER", str(photos.parent))
    data = f"$FOLDER/{photos.name}"
    assert open_source(Data(path=data), 0).path == str(photos)
    byol = {"task": "pretrain", "train.best_metric": "epoch", "pretrain.probe": "~/none"}
    config = configured(byol | {"data.path": data, "model.weights": "$FOLDER"})
    absolute_config = with_absolute_paths(config)
    assert absolute_config.data.path == str(photos) and absolute_config.model.weights == str(photos.parent)
    assert absolute_config.pretrain.probe == "~/none", "paths that do not exist are unchanged"
    monkeypatch.delenv("FOLDER")
    for function in (lambda: open_source(Data(path=data), 0), lambda: with_absolute_paths(config)):
        with pytest.raises(SightlineError, match="not set") as caught:
            function()
        assert caught.value.why == "not set: $FOLDER"


def test_an_existing_folder_with_a_dollar_in_its_name_is_not_expanded(
    make_photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECYCLE", raising=False)
    make_photos(tmp_path / "$RECYCLE", classes=2, train=2, val=1)
    assert open_source(Data(path=str(tmp_path / "$RECYCLE")), 0).path == str(tmp_path / "$RECYCLE")


def test_paths_in_a_recipe_file_are_first_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("recipes/photos", "here/photos", "here/other"):
        (tmp_path / folder).mkdir(parents=True)
    file = tmp_path / "recipes" / "mine.yaml"
    monkeypatch.chdir(tmp_path / "here")
    for written, expected in (("photos", "recipes/photos"), ("./photos", "recipes/photos"), ("other", "here/other")):
        byol = "task: byol\ntrain: {best_metric: epoch}\npretrain: {probe: ../here/other}\n"
        file.write_text(f"data: {{path: {written}}}\n{byol}")
        for name in (str(file), "../recipes/mine.yaml"):
            config = with_absolute_paths(load_recipe(name))
            assert config.data.path == str(tmp_path / expected) and config.pretrain.probe == str(
                tmp_path / "here/other"
            )
            assert config.model.weights == "none"
