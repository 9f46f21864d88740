"""Explanations of settings: every setting of every task has one, and recipes are printed with them."""

from pathlib import Path

import pytest

import sightline
from sightline.config.described import UNITS, accepted, changed, explanations, gist
from sightline.config.resolve import all_keys, resolve
from sightline.config.strict_yaml import parse_yaml
from sightline.recipes import GRIDS, RECIPES, load_grid, load_recipe
from sightline.tasks import TASKS
from sightline.tasks.classify.config import ClassifyConfig
from sightline.tasks.files import load_recipe_file


def test_every_setting_of_every_task_has_an_explanation() -> None:
    for task in TASKS.values():
        texts = explanations(task.config)
        assert [key for key in all_keys(task.config) if not texts.get(key)] == []
        assert all(gist(text) and len(gist(text)) < 90 for text in texts.values())


def test_units_are_of_settings_that_exist() -> None:
    assert set(UNITS) <= {key for task in TASKS.values() for key in all_keys(task.config)}


def test_accepted_values_are_in_words() -> None:
    words = {
        "optim.lr": "number above 0",
        "train.epochs": "whole number from 1",
        "augment.hue": "number from 0 to 0.5",
        "augment.mix_until": "number above 0 to 1",
        "augment.crop": "`none`, `random`, `resized`",
        "augment.crop_scale": "2 x number above 0 to 1",
        "augment.progressive": "list: 2 values: whole number from 1, number from 0 to 1",
        "train.compile": "true or false",
        "data.classes": "list: text",
        "model.args": "mapping",
    }
    assert {key: accepted(key, ClassifyConfig) for key in words} == words
    assert all(accepted(key, task.config) for task in TASKS.values() for key in all_keys(task.config))


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_a_printed_recipe_is_a_file_of_the_same_recipe(name: str, every: bool, tmp_path: Path) -> None:
    text = sightline.recipes(name, all=every)
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_recipe_file(path) == load_recipe(name)
    values = parse_yaml(text, "the recipe")
    assert ("cache_dir" in values.get("data", {})) == every
    assert ("--all" in text) != every


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_a_printed_grid_is_a_file_of_the_same_grid(name: str, every: bool, tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(sightline.recipes(name, all=every), encoding="utf-8")
    assert load_grid(str(path)) == load_grid(name)


def test_changed_settings_come_first_and_have_their_explanation() -> None:
    text = sightline.recipes("photos_finetune", all=True)
    assert text.index("  fit_head: true") < text.index("  fresh_head: false")
    [line] = [line for line in text.splitlines() if line.startswith("  lr: ")]
    assert "# Learning rate" in line


def test_only_settings_that_differ_from_the_defaults_are_changed() -> None:
    config = resolve(ClassifyConfig(name="mine"), {"optim.lr": 0.3, "train.seed": 0})
    assert changed(config) == {"name": "mine", "task": "classify", "optim": {"lr": 0.3}}
