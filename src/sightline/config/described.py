"""Explain settings: their docstrings, units, accepted values, and which of them a configuration changes."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from .fields import LARGEST, Section
from .schema import Config
from .strict_yaml import dump_yaml

UNITS = {
    "data.size": "pixels", "data.tolerance": "gray levels", "data.threshold": "gray levels",
    "data.max_pixels": "pixels", "data.stream_mb": "MB", "augment.resize": "pixels", "augment.padding": "pixels",
    "augment.hue": "turns", "augment.blur_sigma": "pixels", "augment.window": "pixels",
    "pretrain.small_size": "pixels", "schedule.total_epochs": "epochs", "schedule.warmup_epochs": "epochs",
    "schedule.milestone_epochs": "epochs", "schedule.restart_epochs": "epochs", "train.epochs": "epochs",
    "train.batch_size": "images", "train.max_minutes": "minutes", "train.patience": "epochs",
    "train.evaluate_every": "epochs", "train.ensemble": "epochs", "train.eval_batch_size": "images",
    "train.checkpoint_minutes": "minutes", "train.rank_timeout_seconds": "seconds", "train.threads": "threads",
    "report.samples": "images", "report.train_samples": "images", "report.snapshots": "epochs",
    "optim.accumulate": "batches", "pretrain.momentum_batch": "images", "pretrain.neighbors": "images",
    "pretrain.small_crops": "views", "pretrain.projector": "channels", "pretrain.predictor": "channels",
}  # fmt: skip
"""Setting -> unit of its number. Other numbers have none: factors, shares and seeds."""
TYPES = {str: "text", bool: "true or false", int: "whole number", float: "number", dict: "mapping"}
COMMENT_COLUMN = 36
GIST = 84
"""Longest explanation of a setting beside its value, in characters."""


@cache
def explanations(kind: type[Section]) -> dict[str, str]:
    """The docstring of each setting of a configuration class, by its dotted key; on one line."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, Section) and base is not Section:
            found |= _attribute_docstrings(base)
    for name, section in _sections(kind):
        found |= {f"{name}.{key}": text for key, text in explanations(section).items()}
    return found


def _attribute_docstrings(kind: type[Section]) -> dict[str, str]:
    """The strings that stand after the attributes of a class."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        line.target.id: " ".join(after.value.value.split())
        for line, after in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


def _sections(kind: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


def gist(text: str) -> str:
    """The first sentence of an explanation, without what follows a semicolon and cut at a word if it is long."""
    first = re.split(r"(?<=[^.])\.(?= [A-Z`]|$)", text, maxsplit=1)[0]
    if len(first) > GIST and not first.startswith("`"):
        first = first.partition(";")[0]
    return textwrap.shorten(first, GIST, placeholder=" ...")


def accepted(key: str, kind: type[Section]) -> str:
    """The values that a setting accepts, in words: `0 to 1`, `a, b or c`, `text`, `list of numbers from 1`."""
    *parents, name = key.split(".")
    for parent in parents:
        section = kind.model_fields[parent].annotation
        assert isinstance(section, type) and issubclass(section, Section)
        kind = section
    field = kind.model_fields[name]
    return _in_words(field.annotation, field.metadata)


def _in_words(declared: Any, metadata: Sequence[Any] = ()) -> str:
    origin, inner = get_origin(declared), get_args(declared)
    if hasattr(declared, "__metadata__"):  # Annotated[...]
        return _in_words(inner[0], declared.__metadata__)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(each) for each in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        parts = [_in_words(each) for each in inner]
        return f"{len(parts)} values: " + ", ".join(parts) if len(set(parts)) > 1 else f"{len(parts)} x {parts[0]}"
    if origin is tuple:
        return f"list: {_in_words(inner[0])}"
    return (TYPES.get(origin or declared, "text") + _limits(metadata)).strip()


def _limits(metadata: Sequence[Any]) -> str:
    """The limits among the metadata of a field, in words, with a space before; "" if it has none."""
    limits = [limit for each in metadata for limit in getattr(each, "metadata", None) or [each]]
    words = []
    for limit in limits:
        for name, word in (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "to")):
            value = getattr(limit, name, None)
            if value is not None and value != LARGEST:
                words.append(f"{word} {value:g}")
    return " " + " ".join(words) if words else ""


def changed(config: Config) -> dict[str, Any]:
    """The settings of a configuration that differ from the defaults of its class, as nested plain values, after its
    name and task. A recipe file with these values is the same configuration."""
    values, defaults = config.model_dump(mode="json"), type(config)().model_dump(mode="json")
    different: dict[str, Any] = {"name": values["name"], "task": values["task"]}
    for section, settings in values.items():
        if isinstance(settings, dict):
            own = {key: value for key, value in settings.items() if value != defaults[section][key]}
            different |= {section: own} if own else {}
    return different


def explained_yaml(values: dict[str, Any], kind: type[Config], indent: str = "") -> str:
    """Nested settings as YAML, each with the first sentence of its explanation as a comment."""
    texts = explanations(kind)
    lines = []
    for name, value in values.items():
        if name in dict(_sections(kind)):
            lines.append(f"{indent}{name}:")
            lines += [_line({key: one}, texts.get(f"{name}.{key}", ""), f"{indent}  ") for key, one in value.items()]
        else:
            lines.append(_line({name: value}, texts.get(name, ""), indent))
    return "\n".join(lines)


def _line(setting: dict[str, Any], text: str, indent: str) -> str:
    """One setting as YAML: its comment is at the end of the line, or before it if the line is long."""
    body = indent + dump_yaml(setting, one_line=True).strip()[1:-1]
    if not text:
        return body
    return (
        f"{indent}# {gist(text)}\n{body}"
        if len(body) > COMMENT_COLUMN - 2
        else f"{body:<{COMMENT_COLUMN}}# {gist(text)}"
    )
