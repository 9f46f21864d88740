"""The architecture of a model as a tree of blocks; reading and writing architecture.json."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ...runs.atomic import atomic_write

TIMES, DASH = "\u00d7", "\u2013"
"""Multiplication sign in shapes, and dash in ranges of names."""

Count = Annotated[int, Field(ge=0, lt=1 << 62)]
Text = Annotated[str, Field(max_length=1_000)]
Shape = Annotated[tuple[Count, ...], Field(max_length=10)]
Role = Literal[
    "block", "sequence", "convolution", "linear", "attention", "product", "norm", "activation", "pooling", "resize",
    "dropout", "identity", "join", "scale", "frame", "label",
]  # fmt: skip
"""What a block is; it determines how the block is drawn. Tracing does not produce `frame` (a block drawn around its
children) and `label` (the name of an input or output): they are added for drawing."""

Source = tuple[Annotated[int, Field(ge=-1)], Count]
"""Where an input comes from, (index, port): output number `port` of the sibling block at `index`; for index -1,
input number `port` of the parent."""

Sources = tuple[Source | None, ...]
"""Sources of values; None for a value that does not depend on the input."""


@dataclass(frozen=True)
class Block:
    """A call of a module, or an operation between modules. Equal consecutive calls are one block with `repeat` above 1.

    name: path relative to the parent; `layer3.1-22` if repeated. kind: class of the module or description of the
    operation. shapes: of each output, without the batch. parameters, multiply_adds: of a single repetition; parameters
    that several blocks share are counted in the first of them. inputs: sources of its inputs among its siblings.
    outputs: sources of its outputs among its children.
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

    name: of the model. image: (channels, height, width) of the input. model: root of the tree, None if tracing failed.
    outputs: names of the model's outputs, if they have names. method: title of the method that pre-trains a Siamese
    network, else "". notes: the error of tracing, or unused parameters.
    """

    name: Text
    image: Shape
    model: Block | None
    outputs: tuple[Text, ...] = ()
    method: Text = ""
    notes: tuple[Text, ...] = ()
    format: Literal[1] = 1


ADAPTER = TypeAdapter(Architecture)


def write_architecture(path: str | Path, make: Callable[[], Architecture], name: str, image: Sequence[int]) -> Path:
    """Write the architecture that `make` returns as JSON to `path`, and return `path`.

    If `make` raises, the file has `name`, `image` and the error as a note, so that training is not interrupted.
    """
    try:
        architecture = make()
    except Exception as error:  # a model may raise any type
        why = f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
        note = f"The model could not be traced: its forward pass fails on torch's meta device ({why})."
        architecture = Architecture(name, tuple(image), None, notes=(note,))
    return atomic_write(path, to_json(architecture) + "\n")


def to_json(architecture: Architecture) -> str:
    """The text of architecture.json."""
    return json.dumps(asdict(architecture), separators=(",", ":"))


def from_json(text: str) -> Architecture:
    """Parse the text of architecture.json. Raises ValueError if it is invalid."""
    try:
        architecture = ADAPTER.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if architecture.model is not None:
        check_sources(architecture.model)
    return architecture


def check_sources(block: Block) -> None:
    """Raise ValueError if an input of a child is an output of the same or of a later child, or if an output is that
    of a missing child."""
    for index, child in enumerate(block.children):
        if any(source >= index for source, _ in child.inputs):
            raise ValueError(f"{child.name}: an input is an output of this block or a later one")
        check_sources(child)
    if any(output is not None and output[0] >= len(block.children) for output in block.outputs):
        raise ValueError(f"{block.name}: an output is of a missing block")


def shape_text(shape: Sequence[int]) -> str:
    """Format a shape as `64 x 112 x 112`; that of a scalar as `1`."""
    return f" {TIMES} ".join(map(str, shape)) or "1"


def merge_children(
    children: Sequence[Block], outputs: Sources, merged: Callable[[Block, Block, int], Block | None]
) -> tuple[tuple[Block, ...], Sources]:
    """Merge children of a block into their predecessors; returns (children, outputs) with renumbered sources.

    merged(host, child, index of the host) returns the merged block, or None to keep both. `host` is the last source of
    `child`. The function is called only if no block except `child` uses that source.
    """
    users: list[set[int]] = [set() for _ in children]
    sources = [*([source for source, _ in child.inputs] for child in children), [out[0] for out in outputs if out]]
    for user, taken in enumerate(sources):
        for source in taken:
            if source >= 0:
                users[source].add(user)
    kept: list[Block] = []
    new_index = {-1: -1}
    for index, child in enumerate(children):
        child = replace(child, inputs=tuple((new_index[source], port) for source, port in child.inputs))
        last = max(sources[index], default=-1)
        exclusive = last >= 0 and users[last] == {index}
        block = merged(kept[new_index[last]], child, new_index[last]) if exclusive else None
        if block is None:
            new_index[index] = len(kept)
            kept.append(child)
        else:
            new_index[index] = new_index[last]
            kept[new_index[last]] = block
    return tuple(kept), tuple(out and (new_index[out[0]], out[1]) for out in outputs)


def merge_repeat(host: Block, child: Block, index: int) -> Block | None:
    """Merge `child` into `host` as one more repetition; None if they differ in more than a number in the name.

    Each input of `child` must be an output of `host` or equal the corresponding input of `host`; at least one must be
    an output of `host`. index: of `host` among the blocks.
    """
    first = host.name.partition(DASH)[0]
    if child.name.rstrip("0123456789") != first.rstrip("0123456789"):
        return None
    if replace(child, name="", inputs=()) != replace(host, name="", inputs=(), repeat=1):
        return None
    changed = [own for own, other in zip(child.inputs, host.inputs, strict=False) if own != other]
    if len(child.inputs) != len(host.inputs) or not changed or any(source != index for source, _ in changed):
        return None
    return replace(host, name=name_range(first, child.name), repeat=host.repeat + 1)


def name_range(first: str, last: str) -> str:
    """Name of a range of blocks: `layer3.1`, `layer3.22` -> `layer3.1-22`, with DASH."""
    if first == last:
        return first
    front, _, tail = last.rpartition(".")
    return f"{first}{DASH}{tail if first.rpartition('.')[0] == front else last}"
