"""Read recipes of this and of earlier versions: convert a YAML file or plain values to the configuration of a task."""

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..config.resolve import apply_settings, flat
from ..config.schema import Config
from ..config.strict_yaml import MAX_CHARACTERS, parse_yaml
from ..errors import SightlineError
from ..runs.code_file import require_code
from ..runs.terminal import print_plain
from . import TASKS, task_named


def load_recipe_file(path: Path) -> Config:
    """Read the configuration in a recipe.yaml; settings that are missing get their defaults.

    Raises SightlineError for an unreadable file, invalid YAML and invalid settings, and for the recipe of a run whose
    code is not loaded.
    """
    where = str(path)
    if path.name == "recipe.yaml":
        require_code(path.parent)
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise SightlineError(
            "cannot read the recipe", where=where, why=str(error), cure="check that this is the path of a recipe"
        ) from error
    values = parse_yaml(text, where)
    if not isinstance(values, dict):
        cure = "write settings as `key: value`; for an example: sightline recipes NAME"
        raise SightlineError("a recipe must be a YAML mapping", where=where, cure=cure)
    name = path.resolve().parent.name if path.name == "recipe.yaml" else path.stem
    return config_of({"name": name} | values, where)


def config_of(values: Mapping[str, Any], where: str) -> Config:
    """Build the configuration of the task that `values["task"]` names, from nested values of this or an earlier
    version.

    where: origin of the values, for error messages.
    """
    requested = values.get("task")
    task = task_named(requested, where)
    if requested and requested != task.name:
        note_renamed(f"the task {requested} is now called {task.name}", where)
    for upgrade in filter(None, (one.upgrade for one in TASKS.values())):  # recipes had the sections of all tasks
        values, note = upgrade(values, where)
        if note:
            note_renamed(note, where)
    known = {key: value for key, value in values.items() if not is_unused(task.config, key, value)}
    return apply_settings(task.config(), flat(known | {"task": task.name}, where, task.config), where)


def typed(config: Config) -> Config:
    """Convert a plain Config to the class of its task: `sightline.Config(task="segment")` to a SegmentConfig."""
    return config_of(config.model_dump(mode="json"), "the recipe") if type(config) is Config else config


@cache
def note_renamed(note: str, where: str) -> None:
    """Print to standard error that a task or a setting has a new name, once per process for each file."""
    print_plain(f"note: {note} ({where})", sys.stderr)


def is_unused(kind: type[Config], key: str, value: Any) -> bool:
    """Whether `key` is a section of a task other than `kind`, and has only default values.

    Recipes of earlier versions have such sections. kind: the configuration class of the recipe's own task.
    """
    if key in kind.model_fields or not isinstance(value, Mapping):
        return False
    fields = [task.config.model_fields[key] for task in TASKS.values() if key in task.config.model_fields]
    defaults = [field.get_default().model_dump(mode="json") for field in fields]
    return any(all(name in known and known[name] == one for name, one in value.items()) for known in defaults)
