"""Combine settings: the command line overrides the recipe, which overrides the defaults. Errors for unknown keys
name the most similar existing key."""

import difflib
import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

import pydantic

from ..errors import SightlineError, listing, nearest_hint
from .fields import Section
from .schema import Config
from .strict_yaml import dump_yaml, parse_yaml

C = TypeVar("C", bound=Config)

OTHERS = {
    "learning_rate": "lr", "wd": "weight_decay", "bs": "batch_size", "batch": "batch_size", "imgsz": "size",
    "image_size": "size", "img_size": "size", "num_epochs": "epochs", "max_epochs": "epochs",
    "target": "label_column", "target_column": "label_column", "label_col": "label_column", "y_col": "label_column",
}  # fmt: skip
"""Names of settings in other programs, and ours."""


def resolve(base: C, overrides: Mapping[str, Any] | None = None, where: str = "the command line") -> C:
    """Apply overrides to a configuration; returns a new one of the same class.

    overrides: nested ({"optim": {"lr": 0.1}}) or dotted ({"optim.lr": 0.1}) keys. A string is parsed as YAML: "0.1",
    "true" and "[10, 50]" become a number, a boolean and a list. If the setting itself is a string, it is not parsed
    ("01" as a name). where: where the overrides are from, for messages. Raises one SightlineError that names all
    invalid keys.
    """
    kind = type(base)
    settings = {key: from_text(key, value, where, kind) for key, value in flat(overrides or {}, where, kind).items()}
    if base.task and settings.get("task", base.task) != base.task:
        why = f"the recipe {base.name} trains the task {base.task}"
        cure = "use a recipe of the task that you want; to list all recipes: sightline recipes"
        raise SightlineError("the task of a recipe cannot be changed", where="task", why=why, cure=cure)
    return apply_settings(base, settings, where)


def with_data(settings: Mapping[str, Any], data: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Settings by dotted keys, with `data` as `data.path`. Raises SightlineError if both are given."""
    where = "the command line"
    given = flat(settings, where)
    if data is not None and "data.path" in given:
        cure = "leave out data.path, which is what --data sets"
        raise SightlineError("the setting 'data.path' is given twice", where=where, cure=cure)
    return given | ({"data.path": os.fspath(data)} if data is not None else {})


def flat(values: Mapping[str, Any], where: str, kind: type[Section] = Config, prefix: str = "") -> dict[str, Any]:
    """Convert nested settings to dotted keys; dotted ones stay. kind: the class of the configuration. A section may
    be given twice, and is then merged; a setting that is given twice raises SightlineError."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        declared = field_type(key, kind)
        section = isinstance(declared, type) and issubclass(declared, Section)
        inner = flat(value, where, kind, f"{key}.") if isinstance(value, Mapping) and section else {key: value}
        twice = next((key for key in inner if key in settings), None)
        if twice is not None:
            raise SightlineError(f"the setting {twice!r} is given twice", where=where, cure="remove one of the two")
        settings |= inner
    return settings


def field_type(key: str, kind: type[Section] = Config) -> Any:
    """The declared type of a setting or section of `kind`; None for unknown keys and for keys in `model.args`."""
    declared: Any = kind
    for part in key.split("."):
        if not (isinstance(declared, type) and issubclass(declared, Section)) or part not in declared.model_fields:
            return None
        declared = declared.model_fields[part].annotation
    return declared


def from_text(key: str, value: Any, where: str, kind: type[Section] = Config) -> Any:
    """Parse a string value of a setting as YAML, unless the setting is a string, a choice or a list of names. Other
    values are returned unchanged."""
    declared = field_type(key, kind)
    if not isinstance(value, str) or declared is str:
        return value
    if all(isinstance(choice, str) for choice in get_args(declared) or [0]) or tuple[str, ...] in get_args(declared):
        return value
    return parse_yaml(value, f"{where}, {key}")


def apply_settings(base: C, settings: Mapping[str, Any], where: str) -> C:
    """Set settings, given by dotted keys, in a copy of `base`, and validate the result."""
    return validated(insert_settings(base, settings, where), where, type(base))


def insert_settings(base: Config, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings of `base` as nested values, with `settings` (dotted keys) set in them; not validated. `model.args`
    is set before `model.args.width`, in whatever order they are given."""
    values = base.model_dump()
    for key, value in sorted(settings.items(), key=lambda item: item[0].count(".")):
        *parents, last = key.split(".")
        section = values
        for parent in parents:  # unknown sections are inserted too, so that validation reports all errors together
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                cure = f"did you mean {nearest(key, type(base))}?"
                raise SightlineError(
                    f"there is no setting {key!r}, because {parent!r} has the single value {section!r}",
                    where=where,
                    cure=cure,
                )
        section[last] = value
    return values


def validated(values: dict[str, Any], where: str, kind: type[C]) -> C:
    """Create a configuration of class `kind` from nested values; raises one SightlineError with all errors."""
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        faults = error.errors()
    if len(faults) == 1 and faults[0]["type"] == "extra_forbidden":
        raise unknown_key(unknown_setting(faults[0]), where, kind)
    lines = [format_fault(fault, kind) for fault in faults]
    cure = "correct these settings; to show every setting with a valid value: sightline recipes NAME --all"
    if len(lines) > 1:
        raise SightlineError("the configuration is invalid", where=where, why="\n" + listing(lines), cure=cure)
    raise SightlineError(f"the setting {lines[0]}" if faults[0]["loc"] else lines[0], where=where, cure=cure)


def format_fault(fault: Any, kind: type[Section]) -> str:
    """Format a validation error of pydantic for the user: `key: what is expected, found VALUE`."""
    if fault["type"] == "extra_forbidden":
        key = unknown_setting(fault)
        return f"{key}: there is no such setting; {instead_of(key, kind)}"
    key = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    found = repr(fault["input"])
    if fault["type"] == "tuple_type" and isinstance(fault["input"], str):
        message += f"; write a list: '[{fault['input']}]'"
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        found += nearest_hint(fault["input"], re.findall("'([^']+)'", fault["ctx"]["expected"]))
    if fault["input"] is True:
        found = "true (an option without a value means true)"
    shown = "" if fault["type"] == "value_error" and isinstance(fault["input"], Mapping) else f", found {found[:120]}"
    return f"{key}: {message[0].lower()}{message[1:]}{shown}" if key else f"{message}{shown}"


def unknown_setting(fault: Any) -> str:
    """The dotted key of the unknown setting that a validation error of pydantic is about. If the entire section is
    unknown, it is the first setting in that section."""
    keys, value = [str(part) for part in fault["loc"]], fault["input"]
    while isinstance(value, Mapping) and value:
        name, value = next(iter(value.items()))
        keys.append(str(name))
    return ".".join(keys)


def unknown_key(key: str, where: str, kind: type[Section]) -> SightlineError:
    """The SightlineError for an unknown setting, with the most similar existing one as the cure."""
    declared = kind.model_fields.get("task")
    task = f", a recipe of the task {declared.default}" if declared and declared.default else ""
    cure = instead_of(key, kind)
    cure += " To" if cure.endswith("?") else "; to"
    cure += " show all settings: sightline recipes NAME --all"
    return SightlineError(f"there is no setting {key!r}", where=where + task, cure=cure)


def instead_of(key: str, kind: type[Section]) -> str:
    """What to use instead of a setting that does not exist: for one of an earlier version its replacement, for others
    the most similar one."""
    former: Mapping[str, str] = getattr(kind, "former_keys", {})
    return former.get(key) or f"did you mean {nearest(key, kind)}?"


def all_keys(section: type[Section] = Config, prefix: str = "") -> list[str]:
    """The dotted keys of all settings of a configuration class, in order."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            keys += all_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def nearest(key: str, kind: type[Section] = Config) -> str:
    """The existing keys most similar to `key`, joined by "or". These are settings of the same name in other
    sections; without any, settings with a similar key, then settings with a similar name; without any, all sections."""
    keys = all_keys(kind)
    by_name: dict[str, list[str]] = {}
    for candidate in keys:
        by_name.setdefault(candidate.rpartition(".")[2], []).append(candidate)
    section, own = key.partition(".")[0], key.rpartition(".")[2]
    name = OTHERS.get(own, own)
    if name in by_name and (section in kind.model_fields or section == own):
        return " or ".join(by_name[name])
    if similar := difflib.get_close_matches(key, keys, 1, 0.6):
        return similar[0]
    if similar := difflib.get_close_matches(name, sorted(by_name), 1, 0.5):
        return " or ".join(by_name[similar[0]])
    return "one of these sections: " + ", ".join(kind.model_fields)


def to_yaml(config: Config) -> str:
    """Convert a configuration to YAML, from which `tasks.files.load_recipe_file` reads an equal configuration."""
    return dump_yaml(config.model_dump(mode="json"))
