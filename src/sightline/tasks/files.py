"""Recipes on disk: a YAML file becomes the configuration of its task; names of earlier versions are read."""

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..config.resolve import combined, flat, resolve
from ..config.schema import Config
from ..config.strict_yaml import MAX_CHARACTERS, parse_yaml
from ..errors import SightlineError
from ..runs.terminal import print_plain
from . import TASKS, task_named


def load_recipe_file(path: Path) -> Config:
    """The configuration in a recipe.yaml; settings that the file leaves out have their defaults."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise SightlineError(
            "cannot read the recipe", where=str(path), why=str(error), cure="check the path"
        ) from error
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise SightlineError(
            "a recipe must be a YAML mapping", where=str(path), cure="`sightline recipes NAME` prints one"
        )
    name = path.resolve().parent.name if path.name == "recipe.yaml" else path.stem
    return config_of({"name": name} | values, str(path))


def config_of(values: Mapping[str, Any], where: str) -> Config:
    """The configuration of the task that `values` name, from plain nested values of this version or an earlier one."""
    named = values.get("task")
    task = task_named(named, where)
    if named and named != task.name:
        note_renamed(str(named), task.name, where)
    known = {key: value for key, value in values.items() if not is_unused(task.config, key, value)}
    return combined(task.config(), flat(known | {"task": task.name}, where, task.config), where)


def configured(settings: Mapping[str, Any], where: str = "the command line") -> Config:
    """The defaults of the task that `settings` name, or of the first one, with the settings applied; see `resolve`."""
    named = settings.get("task")
    rest = {key: value for key, value in settings.items() if key != "task"}
    return resolve(task_named(named, where).config(), rest, where)


def typed(config: Config) -> Config:
    """A configuration of its task's own class: `sightline.Config(task="segment")` becomes a SegmentConfig."""
    return config_of(config.model_dump(mode="json"), "the recipe") if type(config) is Config else config


@cache
def note_renamed(old: str, new: str, where: str) -> None:
    """Print once on standard error that a task has a new name."""
    print_plain(f"note: the task {old} is now called {new} ({where})", sys.stderr)


def is_unused(kind: type[Config], key: str, value: Any) -> bool:
    """Whether this is the section of another task with nothing but defaults: recipes of earlier versions had those of
    all tasks."""
    if key in kind.model_fields or not isinstance(value, Mapping):
        return False
    fields = [task.config.model_fields[key] for task in TASKS.values() if key in task.config.model_fields]
    defaults = [field.get_default().model_dump(mode="json") for field in fields]
    return any(all(name in known and known[name] == one for name, one in value.items()) for known in defaults)
