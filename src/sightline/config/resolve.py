"""Settings from recipes and the command line, put together and checked.

Three levels of override and no more: the defaults of config.py < a recipe < the command line. `resolve` is the only
place where they meet; afterwards nothing changes. An unknown key is refused with the nearest right one.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pydantic

from ..errors import SightlineError, listing
from .fields import Section
from .schema import Config
from .strict_yaml import MAX_CHARACTERS, dump_yaml, parse_yaml


def resolve(base: Config, overrides: Mapping[str, Any] | None = None, where: str = "the command line") -> Config:
    """`base` with overrides, as a new frozen Config.

    overrides: nested ({"optim": {"lr": 0.1}}) or dotted ({"optim.lr": 0.1}) keys; text is read as a YAML value, so
    "0.1", "true" and "[10, 50]" mean what they say, but stays text where the setting is one ("01" as a name).
    Raises SightlineError naming every wrong key.
    """
    settings = {key: from_text(key, value, where) for key, value in flat(overrides or {}, where).items()}
    return combined(base, settings, where)


def flat(values: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """Nested or dotted settings as one dict of dotted keys; a section given twice is merged, a setting is refused."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        section = isinstance(field_type(key), type) and issubclass(field_type(key), Section)
        inner = flat(value, where, f"{key}.") if isinstance(value, Mapping) and section else {key: value}
        twice = next((key for key in inner if key in settings), None)
        if twice is not None:
            raise SightlineError(f"the setting {twice!r} is given twice", where=where, cure="keep one of them")
        settings |= inner
    return settings


def field_type(key: str) -> Any:
    """The declared type of a setting or section; None where there is none, as below `model.args`."""
    kind: Any = Config
    for part in key.split("."):
        if not (isinstance(kind, type) and issubclass(kind, Section)) or part not in kind.model_fields:
            return None
        kind = kind.model_fields[part].annotation
    return kind


def from_text(key: str, value: Any, where: str) -> Any:
    """The value that a text stands for: the text itself for a setting that is text, names or a choice, else YAML."""
    kind = field_type(key)
    if not isinstance(value, str) or kind is str or all(isinstance(choice, str) for choice in get_args(kind) or [0]):
        return value
    if tuple[str, ...] in get_args(kind):
        return value
    return parse_yaml(value, f"{where}, {key}")


def combined(base: Config, settings: Mapping[str, Any], where: str) -> Config:
    """`base` with dotted settings put in their places and checked."""
    return validated(placed(base, settings, where), where)


def placed(base: Config, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The plain values of `base` with dotted settings in their places, not checked yet."""
    values = base.model_dump()
    for key, value in settings.items():
        *parents, last = key.split(".")
        place = values
        for parent in parents:  # an unknown section is put in too: validation then names it along with all the rest
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                cure = f"did you mean {nearest(key)}?"
                raise SightlineError(f"{parent!r} in {key!r} is a single value, {place!r}", where=where, cure=cure)
        place[last] = value
    return values


def validated(values: dict[str, Any], where: str) -> Config:
    """A Config out of plain values, or one SightlineError that lists everything wrong with them."""
    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        faults = error.errors()
    if len(faults) == 1 and faults[0]["type"] == "extra_forbidden":
        raise unknown_key(leaf(faults[0]), where)
    lines = [described(fault) for fault in faults]
    raise SightlineError(
        "the configuration is wrong" if len(lines) > 1 else f"the setting {lines[0]}" if faults[0]["loc"] else lines[0],
        where=where,
        why="\n" + listing(lines) if len(lines) > 1 else "",
        cure="`sightline recipes NAME` shows every setting with a value that works",
    )


def described(fault: Any) -> str:
    """One of pydantic's faults as `key: what is expected, found what`."""
    if fault["type"] == "extra_forbidden":
        return f"{leaf(fault)}: there is no such setting; did you mean {nearest(leaf(fault))}?"
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


def unknown_key(key: str, where: str) -> SightlineError:
    """The error for a setting that does not exist, with the nearest that does."""
    return SightlineError(
        f"there is no setting {key!r}",
        where=where,
        cure=f"did you mean {nearest(key)}? `sightline recipes NAME` shows all",
    )


def all_keys(section: type[Section] = Config, prefix: str = "") -> list[str]:
    """Every dotted key of the configuration, in order."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            keys += all_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def nearest(key: str) -> str:
    """The existing dotted keys most like `key`: the same name in other sections, else a similar whole or name."""
    keys, last = all_keys(), key.rsplit(".", 1)[-1]
    elsewhere = [candidate for candidate in keys if candidate.rsplit(".", 1)[-1] == last]
    section = key.partition(".")[0]
    if elsewhere and (section in Config.model_fields or section == last):
        return " or ".join(elsewhere)
    whole = difflib.get_close_matches(key, keys, 1, 0.6)
    names = {candidate.rsplit(".", 1)[-1] for candidate in keys}
    part = difflib.get_close_matches(last, sorted(names), 1, 0.5)
    if whole or not part:
        return whole[0] if whole else "one of these sections: " + ", ".join(Config.model_fields)
    return " or ".join(candidate for candidate in keys if candidate.rsplit(".", 1)[-1] == part[0])


def load_recipe_file(path: Path) -> Config:
    """A Config out of a recipe.yaml; settings that it leaves out have their defaults."""
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
    return combined(Config(name=name), flat(values, str(path)), str(path))


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML that `load_recipe_file` reads back to an equal Config."""
    return dump_yaml(config.model_dump(mode="json"))
