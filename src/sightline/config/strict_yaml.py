"""Strict YAML. PyYAML alone reads 1e-3 as text, `no` as false, 012 as 10, and keeps the last of two equal keys."""

import copy
import functools
import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from ..errors import SightlineError

MAX_CHARACTERS = 1_000_000


class StrictLoader(yaml.SafeLoader):
    """YAML loader for plain values: 1e-3 is a number, only true and false are booleans, and a repeated key is an
    error. Aliases and tags are errors too: 300 bytes of nested aliases could expand to billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or tag not in (None, "!"):
            problem = "anchors (&), aliases (*) and tags (!!) are not allowed"
            raise ConstructorError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)


StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if not tag.endswith((":bool", ":int", ":float", ":timestamp"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")
)
StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
    ),
    list("-+.0123456789"),
)


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node)
        problem = "a key must be a single value" if not isinstance(key_node, yaml.ScalarNode) else ""
        problem = problem or (f"the key {key!r} appears twice" if key in values else "")
        if problem:
            raise ConstructorError(None, None, problem, key_node.start_mark)
        values[key] = loader.construct_object(value_node, deep=True)
    return values


StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse_yaml(text: str, where: str) -> Any:
    """Parse strict YAML to plain values. Raises SightlineError with line and column. where: the file, for messages."""
    if len(text) > MAX_CHARACTERS:
        why = f"it has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}"
        raise SightlineError(
            "this file is too long for a recipe", where=where, why=why, cure="check that this is the path of a recipe"
        )
    try:
        return copy.deepcopy(loaded(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        why = getattr(error, "problem", None) or str(error)
        raise SightlineError(
            "this is not valid YAML", where=where + line, why=why, cure="correct the file at this position"
        ) from error


@functools.lru_cache(64)
def loaded(text: str) -> Any:
    """The values of strict YAML. Kept, because comparisons and pages read the recipe of each run several times, which
    takes 14 ms."""
    return yaml.load(text, StrictLoader)


class StrictDumper(yaml.SafeDumper):
    """YAML dumper without aliases that quotes text which YAML 1.1 or `StrictLoader` would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


StrictDumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, []) + StrictLoader.yaml_implicit_resolvers.get(first, [])
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *StrictLoader.yaml_implicit_resolvers}
}


def _text(dumper: StrictDumper, text: str) -> yaml.Node:
    quoted = None if text.isprintable() else '"'  # PyYAML writes U+0085 unquoted, and reads it as a line break
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=quoted)


StrictDumper.add_representer(str, _text)


def dump_yaml(values: Any, one_line: bool = False) -> str:
    """Convert values to YAML, from which `parse_yaml` reads equal values (tuples as lists). Keys keep their order.

    one_line: write mappings as {a: 1} and lists as [1, 2].
    """
    width = 2**31 if one_line else 110
    return yaml.dump(
        values, Dumper=StrictDumper, sort_keys=False, allow_unicode=True, width=width, default_flow_style=one_line
    )
