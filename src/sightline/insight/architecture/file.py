"""architecture.json: the tree of a model's blocks as a file, written when training starts, read by the report."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...runs.atomic import atomic_write
from .tree import ROLES, Architecture, Block, Source

FORMAT, MOST, DEEPEST, LARGEST, LONGEST = 1, 5_000, 40, 1 << 62, 300
"""Version of the file; the most blocks, the deepest nesting, the largest number, and the longest text of one that is
still believed."""


def write_architecture(path: str | Path, make: Callable[[], Architecture], name: str, image: Sequence[int]) -> Path:
    """architecture.json of what `make` returns, or of why it fails, for a drawing is not worth a run. name, image: of
    the architecture if there is none."""
    try:
        found = make()
    except Exception as error:  # of whatever kind: a model of any library may be in there
        why = f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
        note = f"The model could not be traced: its pass does not work on shapes without values ({why})."
        found = Architecture(name, tuple(image), None, notes=(note,))
    return atomic_write(path, to_json(found) + "\n")


def to_json(found: Architecture) -> str:
    """The text of architecture.json."""
    values: dict[str, Any] = {"format": FORMAT, "name": found.name, "image": found.image}
    values |= {
        "outputs": found.outputs,
        "method": found.method,
        "notes": found.notes,
        "model": as_dict(found.root) if found.root else None,
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def as_dict(block: Block) -> dict[str, Any]:
    """A block as plain values; what is as usual is left out."""
    values: dict[str, Any] = {"name": block.name, "kind": block.kind, "role": block.role, "shapes": block.shapes}
    values |= {"parameters": block.parameters, "multiply_adds": block.multiply_adds, "inputs": block.inputs}
    values |= {"shared": block.shared} if block.shared else {}
    values |= {"repeat": block.repeat} if block.repeat > 1 else {}
    if block.children:
        values |= {"outputs": block.outputs, "children": [as_dict(child) for child in block.children]}
    return values


def from_json(text: str) -> Architecture:
    """The architecture out of the text of architecture.json. Raises ValueError for whatever is not one."""
    values = json.loads(text)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}")
    outputs, notes = (tuple(text_of(item) for item in items(values.get(key))) for key in ("outputs", "notes"))
    model = values.get("model")
    root = None if model is None else block_from(model, 0, 0, [MOST])
    name, method = text_of(values.get("name")), text_of(values.get("method"))
    return Architecture(name, numbers(values.get("image")), root, outputs, method, notes)


def block_from(values: Any, before: int, depth: int, left: list[int]) -> Block:
    """A block out of plain values. before: siblings before it; left: [how many blocks there may still be]."""
    left[0] -= 1
    if not isinstance(values, dict) or values.get("role") not in ROLES or depth > DEEPEST or left[0] < 0:
        raise ValueError("a block is no object, has no known role, or there are too many of them")
    children: list[Block] = []
    for child in items(values.get("children", [])):
        children.append(block_from(child, len(children), depth + 1, left))
    outputs = items(values.get("outputs", []))
    return Block(
        name=text_of(values.get("name")),
        kind=text_of(values.get("kind")),
        role=values["role"],
        shapes=tuple(numbers(shape) for shape in items(values.get("shapes"))),
        parameters=number(values.get("parameters")),
        shared=number(values.get("shared", 0)),
        multiply_adds=number(values.get("multiply_adds")),
        repeat=number(values.get("repeat", 1), 1),
        inputs=tuple(source_from(source, before) for source in items(values.get("inputs"))),
        outputs=tuple(None if source is None else source_from(source, len(children)) for source in outputs),
        children=tuple(children),
    )


def items(value: Any) -> list[Any]:
    """A list as it is."""
    if not isinstance(value, list) or len(value) > MOST:
        raise ValueError("a list is none, or too long")
    return value


def number(value: Any, least: int = 0, limit: int = LARGEST) -> int:
    """A whole number as it is."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < limit:
        raise ValueError("a number is none, or out of range")
    return value


def numbers(value: Any) -> tuple[int, ...]:
    """A few whole numbers as they are."""
    found = items(value)
    if len(found) > 10:
        raise ValueError("a shape has more than ten sides")
    return tuple(number(item) for item in found)


def text_of(value: Any) -> str:
    """A text, cut where it is too long to be shown."""
    if not isinstance(value, str):
        raise ValueError("a text is none")
    return value[:LONGEST]


def source_from(value: Any, siblings: int) -> Source:
    """(one of so many siblings, or -1; port)."""
    pair = items(value)
    if len(pair) != 2:
        raise ValueError("a source is no pair")
    return number(pair[0], -1, siblings), number(pair[1])
