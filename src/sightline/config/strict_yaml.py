"""YAML without its traps: PyYAML reads 1e-3 as text, `no` as false, 012 as 10, and keeps the last of two equal keys."""

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from ..errors import SightlineError

MAX_CHARACTERS = 1_000_000


class StrictLoader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number, only true and false are booleans, and a repeated key is an error.

    Aliases and explicit tags are refused: 300 bytes of nested aliases unfold to billions of values.
    """

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
        problem = problem or (f"the key {key!r} stands twice" if key in values else "")
        if problem:
            raise ConstructorError(None, None, problem, key_node.start_mark)
        values[key] = loader.construct_object(value_node, deep=True)
    return values


StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse_yaml(text: str, where: str) -> Any:
    """Plain values out of strict YAML; SightlineError with the line where it is not."""
    if len(text) > MAX_CHARACTERS:
        why = f"{len(text):,} characters; at most {MAX_CHARACTERS:,} are read"
        raise SightlineError("this is too long for a recipe", where=where, why=why, cure="check the path")
    try:
        loader = StrictLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SightlineError(
            "this is not valid YAML", where=where + line, why=error.problem or "", cure="mend that line"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SightlineError("this is not valid YAML", where=where, why=str(error), cure="mend the file") from error


class StrictDumper(yaml.SafeDumper):
    """Quotes whatever either YAML 1.1 or `StrictLoader` would take for something other than text; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


StrictDumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, []) + StrictLoader.yaml_implicit_resolvers.get(first, [])
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *StrictLoader.yaml_implicit_resolvers}
}


def _text(dumper: StrictDumper, text: str) -> yaml.Node:
    quoted = None if text.isprintable() else '"'  # PyYAML writes U+0085 as it is, and reads it as a line end
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=quoted)


StrictDumper.add_representer(str, _text)


def dump_yaml(values: Any) -> str:
    """YAML that `parse_yaml` reads back to equal values (tuples as lists); keys keep their order."""
    return yaml.dump(values, Dumper=StrictDumper, sort_keys=False, allow_unicode=True, width=110)
