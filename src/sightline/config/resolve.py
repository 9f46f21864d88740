"""Resolution of settings: defaults < recipe < command line, then one frozen configuration.

`resolve` is the only function in which the three levels meet. An unknown key raises an error that names the nearest
existing one.
"""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

import pydantic

from ..errors import SightlineError, listing
from .fields import Section
from .schema import Config
from .strict_yaml import dump_yaml, parse_yaml

C = TypeVar("C", bound=Config)


def resolve(base: C, overrides: Mapping[str, Any] | None = None, where: str = "the command line") -> C:
    """`base` with overrides, as a new frozen configuration of the same class.

    overrides: nested ({"optim": {"lr": 0.1}}) or dotted ({"optim.lr": 0.1}) keys. Text is read as a YAML value, so
    "0.1", "true" and "[10, 50]" become a number, a boolean and a list, but stays text where the setting is a string
    ("01" as a name). Raises SightlineError naming every wrong key.
    """
    kind = type(base)
    settings = {key: from_text(key, value, where, kind) for key, value in flat(overrides or {}, where, kind).items()}
    if base.task and settings.get("task", base.task) != base.task:
        why = f"the recipe {base.name} is of the task {base.task}"
        raise SightlineError(
            "a recipe has one task", where="task", why=why, cure="`sightline recipes` lists all recipes"
        )
    return combined(base, settings, where)


def flat(values: Mapping[str, Any], where: str, kind: type[Section] = Config, prefix: str = "") -> dict[str, Any]:
    """Nested or dotted settings as one dict of dotted keys. A section given twice is merged; a setting given twice
    raises SightlineError. kind: the class of the configuration."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        declared = field_type(key, kind)
        section = isinstance(declared, type) and issubclass(declared, Section)
        inner = flat(value, where, kind, f"{key}.") if isinstance(value, Mapping) and section else {key: value}
        twice = next((key for key in inner if key in settings), None)
        if twice is not None:
            raise SightlineError(f"the setting {twice!r} is given twice", where=where, cure="keep one of them")
        settings |= inner
    return settings


def field_type(key: str, kind: type[Section] = Config) -> Any:
    """The declared type of a setting or section of `kind`; None where there is none, as below `model.args`."""
    declared: Any = kind
    for part in key.split("."):
        if not (isinstance(declared, type) and issubclass(declared, Section)) or part not in declared.model_fields:
            return None
        declared = declared.model_fields[part].annotation
    return declared


def from_text(key: str, value: Any, where: str, kind: type[Section] = Config) -> Any:
    """The value of a text: the text itself for a setting that is a string, names or a choice, else parsed as YAML."""
    declared = field_type(key, kind)
    if not isinstance(value, str) or declared is str:
        return value
    if all(isinstance(choice, str) for choice in get_args(declared) or [0]) or tuple[str, ...] in get_args(declared):
        return value
    return parse_yaml(value, f"{where}, {key}")


def combined(base: C, settings: Mapping[str, Any], where: str) -> C:
    """`base` with dotted settings inserted, validated."""
    return validated(inserted(base, settings, where), where, type(base))


def inserted(base: Config, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The plain values of `base` with dotted settings inserted, not validated yet."""
    values = base.model_dump()
    for key, value in settings.items():
        *parents, last = key.split(".")
        section = values
        for parent in parents:  # an unknown section is inserted too: validation then reports it along with the rest
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                cure = f"did you mean {nearest(key, type(base))}?"
                raise SightlineError(f"{parent!r} in {key!r} is a single value, {section!r}", where=where, cure=cure)
        section[last] = value
    return values


def validated(values: dict[str, Any], where: str, kind: type[C]) -> C:
    """A configuration of class `kind` from plain values, or one SightlineError that lists everything wrong."""
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        faults = error.errors()
    if len(faults) == 1 and faults[0]["type"] == "extra_forbidden":
        raise unknown_key(leaf(faults[0]), where, kind)
    lines = [described(fault, kind) for fault in faults]
    raise SightlineError(
        "the configuration is wrong" if len(lines) > 1 else f"the setting {lines[0]}" if faults[0]["loc"] else lines[0],
        where=where,
        why="\n" + listing(lines) if len(lines) > 1 else "",
        cure="`sightline recipes NAME` shows every setting with a value that works",
    )


def described(fault: Any, kind: type[Section]) -> str:
    """One of pydantic's errors as `key: what is expected, found what`."""
    if fault["type"] == "extra_forbidden":
        return f"{leaf(fault)}: there is no such setting; did you mean {nearest(leaf(fault), kind)}?"
    key = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    found = repr(fault["input"])
    if fault["type"] == "tuple_type" and isinstance(fault["input"], str):
        message += f"; write a list: '[{fault['input']}]'"
    shown = "" if fault["type"] == "value_error" and isinstance(fault["input"], Mapping) else f", found {found[:80]}"
    return f"{key}: {message[0].lower()}{message[1:]}{shown}" if key else f"{message}{shown}"


def leaf(fault: Any) -> str:
    """The dotted key of an unknown setting; of an unknown section, its first setting."""
    keys, value = [str(part) for part in fault["loc"]], fault["input"]
    while isinstance(value, Mapping) and value:
        name, value = next(iter(value.items()))
        keys.append(str(name))
    return ".".join(keys)


def unknown_key(key: str, where: str, kind: type[Section]) -> SightlineError:
    """The error for a setting that does not exist, with the nearest that does."""
    declared = kind.model_fields.get("task")
    task = f" of the task {declared.default}" if declared and declared.default else ""
    cure = f"did you mean {nearest(key, kind)}? `sightline recipes NAME` shows all"
    return SightlineError(
        f"there is no setting {key!r}", where=f"{where}, a recipe{task}" if task else where, cure=cure
    )


def all_keys(section: type[Section] = Config, prefix: str = "") -> list[str]:
    """Every dotted key of a configuration class, in order."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            keys += all_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def nearest(key: str, kind: type[Section] = Config) -> str:
    """The existing dotted keys most like `key`: the same name in other sections, else a similar key or name."""
    keys, last = all_keys(kind), key.rsplit(".", 1)[-1]
    elsewhere = [candidate for candidate in keys if candidate.rsplit(".", 1)[-1] == last]
    section = key.partition(".")[0]
    if elsewhere and (section in kind.model_fields or section == last):
        return " or ".join(elsewhere)
    whole = difflib.get_close_matches(key, keys, 1, 0.6)
    names = {candidate.rsplit(".", 1)[-1] for candidate in keys}
    part = difflib.get_close_matches(last, sorted(names), 1, 0.5)
    if whole or not part:
        return whole[0] if whole else "one of these sections: " + ", ".join(kind.model_fields)
    return " or ".join(candidate for candidate in keys if candidate.rsplit(".", 1)[-1] == part[0])


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML that `recipes.files.load_recipe_file` reads back to an equal Config."""
    return dump_yaml(config.model_dump(mode="json"))
