"""The architecture of a model as a tree of blocks, and architecture.json, the file that holds it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ...runs.atomic import atomic_write

TIMES, DASH = "\u00d7", "\u2013"
"""Multiplication sign between the sides of a shape, and the dash of a range."""

Count = Annotated[int, Field(ge=0, lt=1 << 62)]
Text = Annotated[str, Field(max_length=1_000)]
Shape = Annotated[tuple[Count, ...], Field(max_length=10)]
Role = Literal[
    "block", "sequence", "convolution", "linear", "attention", "product", "norm", "activation", "pooling", "resize",
    "dropout", "identity", "join", "scale", "frame", "label",
]  # fmt: skip
"""How a block is drawn. `frame` (a block with its inside) and `label` (an input or output) are for drawings only."""

Source = tuple[Annotated[int, Field(ge=-1)], Count]
"""(index, port): output number `port` of the sibling at this index; index -1: input number `port` of the parent."""

Sources = tuple[Source | None, ...]
"""Where values come from; None where a value does not depend on the input."""


@dataclass(frozen=True)
class Block:
    """One call of a module, or an operation between modules; `repeat` equal ones in a row are one block.

    name: path below the parent, `layer3.1-22` for a row. kind: class or operation, in words. shapes: of each output,
    without the batch. parameters, multiply_adds: of one of the row; parameters count where they are used first. inputs:
    sources among the siblings. outputs: sources among the children.
    """

    name: Text
    kind: Text
    role: Role
    shapes: tuple[Shape, ...]
    parameters: Count
    multiply_adds: Count
    inputs: tuple[Source, ...]
    repeat: Annotated[int, Field(ge=1, lt=1 << 62)] = 1
    outputs: Sources = ()
    children: Annotated[tuple["Block", ...], Field(max_length=5_000)] = ()


@dataclass(frozen=True)
class Architecture:
    """A traced model.

    name: of the model. image: channels, height, width of the input. model: the tree, None if tracing failed. outputs:
    names of the model's outputs, if they have names. method: title of the method that trains a Siamese pair, else "".
    notes: why there is no tree, or which parameters are not in it.
    """

    name: Text
    image: Shape
    model: Block | None
    outputs: tuple[Text, ...] = ()
    method: Text = ""
    notes: tuple[Text, ...] = ()
    format: Literal[1] = 1


FILE = TypeAdapter(Architecture)


def write_architecture(path: str | Path, make: Callable[[], Architecture], name: str, image: Sequence[int]) -> Path:
    """Write architecture.json of what `make` returns; if it raises, of `name` and `image`, with the error as a note."""
    try:
        found = make()
    except Exception as error:  # a model may raise anything, and a drawing is not worth a run
        why = f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
        note = f"The model could not be traced: its pass does not work on shapes without values ({why})."
        found = Architecture(name, tuple(image), None, notes=(note,))
    return atomic_write(path, to_json(found) + "\n")


def to_json(found: Architecture) -> str:
    """Text of architecture.json."""
    return json.dumps(asdict(found), separators=(",", ":"))


def from_json(text: str) -> Architecture:
    """Parse the text of architecture.json. Raises ValueError if it is invalid."""
    try:
        found = FILE.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if found.model is not None:
        check_sources(found.model)
    return found


def check_sources(block: Block) -> None:
    """Raise ValueError if a child takes from itself or a later sibling, or an output from a child that is missing."""
    for index, child in enumerate(block.children):
        if any(source >= index for source, _ in child.inputs):
            raise ValueError(f"{child.name}: an input from itself or a later block")
        check_sources(child)
    if any(output is not None and output[0] >= len(block.children) for output in block.outputs):
        raise ValueError(f"{block.name}: an output of a missing block")


def shape_text(shape: Sequence[int]) -> str:
    """`64 x 112 x 112`; "1" for a single number."""
    return f" {TIMES} ".join(map(str, shape)) or "1"


def merge_children(
    children: Sequence[Block], outputs: Sources, join: Callable[[Block, Block, int], Block | None]
) -> tuple[tuple[Block, ...], Sources]:
    """(children, outputs) with children merged into the one before them.

    join(host, child, index of the host) returns the merged block, or None to keep both. It is called where the last
    source of `child` feeds nothing else; inputs are renumbered.
    """
    users: list[set[int]] = [set() for _ in children]
    sources = [*([source for source, _ in child.inputs] for child in children), [out[0] for out in outputs if out]]
    for user, taken in enumerate(sources):
        for source in taken:
            if source >= 0:
                users[source].add(user)
    kept: list[Block] = []
    moved = {-1: -1}
    for index, child in enumerate(children):
        child = replace(child, inputs=tuple((moved[source], port) for source, port in child.inputs))
        before = max(sources[index], default=-1)
        alone = before >= 0 and users[before] == {index}
        merged = join(kept[moved[before]], child, moved[before]) if alone else None
        if merged is None:
            moved[index] = len(kept)
            kept.append(child)
        else:
            moved[index] = moved[before]
            kept[moved[before]] = merged
    return tuple(kept), tuple(out and (moved[out[0]], out[1]) for out in outputs)


def merge_repeat(host: Block, child: Block, index: int) -> Block | None:
    """`host` repeated once more, if `child` equals it but for a number in its name and follows it; else None.

    Inputs of the child come from `host`, or from where the host has them too.
    """
    first = host.name.partition(DASH)[0]
    if child.name.rstrip("0123456789") != first.rstrip("0123456789"):
        return None
    if replace(child, name="", inputs=()) != replace(host, name="", inputs=(), repeat=1):
        return None
    steps = [mine for mine, theirs in zip(child.inputs, host.inputs, strict=False) if mine != theirs]
    if len(child.inputs) != len(host.inputs) or not steps or any(source != index for source, _ in steps):
        return None
    return replace(host, name=name_range(first, child.name), repeat=host.repeat + 1)


def name_range(first: str, last: str) -> str:
    """`layer3.1`, `layer3.22` -> `layer3.1-22`, with a dash."""
    if first == last:
        return first
    front, _, tail = last.rpartition(".")
    return f"{first}{DASH}{tail if first.rpartition('.')[0] == front else last}"
