"""The architecture of a model as a tree of blocks: what one image passes through, in order, and what that costs.

`trace` makes the tree; architecture.json of a run holds it (file.py), so that a report needs no model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from .tracing import Node, Run
    from .tracing import Source as NodeSource

Source = tuple[int, int]
"""(place, port): the port-th output of the sibling at this place; place -1: the port-th input of the parent."""

TIMES, DASH = "\u00d7", "\u2013"
"""The sign between the sides of a shape, and the one between first and last."""

ROLES = (
    *("block", "sequence", "convolution", "linear", "attention", "product", "norm", "activation", "pooling"),
    *("resize", "dropout", "identity", "join", "scale"),
)


@dataclass(frozen=True)
class Block:
    """One call of a module, or an operation between them; `repeat` equal ones in a row count as one.

    name: path below the parent, `layer3.1-22` for a row. kind: what it is, in words. role: one of ROLES. shapes: of
    each output, without the batch. parameters, multiply_adds: of one of the row; parameters that an earlier block
    has too are in `shared` instead. inputs: what it takes, from its siblings. outputs: what each of its outputs is,
    from its children; None where that is not known.
    """

    name: str
    kind: str
    role: str
    shapes: tuple[tuple[int, ...], ...]
    parameters: int
    shared: int
    multiply_adds: int
    repeat: int
    inputs: tuple[Source, ...]
    outputs: tuple[Source | None, ...]
    children: tuple["Block", ...]


@dataclass(frozen=True)
class Architecture:
    """A traced model. name: the model's. image: channels, height, width of the input. outputs: names of the model's
    outputs, if it has names for them. method: how two networks are trained on each other (`byol`, `simsiam`), else "".
    notes: what is not in the tree, and why; without a tree, why there is none."""

    name: str
    image: tuple[int, ...]
    root: Block | None
    outputs: tuple[str, ...] = ()
    method: str = ""
    notes: tuple[str, ...] = ()


def trace(
    model: "nn.Module", image: Sequence[int], run: "Run | None" = None, name: str = "", method: str = ""
) -> Architecture:
    """The architecture of a model by the pass of one image [C, H, W] through it; nothing is computed, and neither the
    model nor a random state changes.

    run: what to call, a function of (model, images [1, C, H, W]); by default the model. A dict that it returns names
    the outputs. Raises whatever the model raises on torch's meta device.
    """
    from .tracing import record

    node, twin, outputs = record(model, image, run or (lambda net, images: net(images)))
    for inner in nodes_below(node):
        whole = inner.role not in ("block", "sequence")
        if whole or not any(child.module is not None for child in inner.children):
            inner.children, inner.outputs = [], []
    for inner in nodes_below(node):
        for child in inner.children:
            for source in child.inputs:
                link(inner, source)
        for output in inner.outputs if inner.children else ():
            link(inner, output)
    sizes = {id(value): value.numel() for value in twin.parameters()}
    root = block_of(node, sizes, set())
    unused = sum(sizes.values()) - root.parameters
    notes = [f"{unused:,} parameters take no part in this pass: {', '.join(idle(node, twin))}."] if unused else []
    return Architecture(name, tuple(image), root, outputs, method, tuple(notes))


def nodes_below(node: "Node") -> Iterator["Node"]:
    """The node and all below it, parents first."""
    yield node
    for child in node.children:
        yield from nodes_below(child)


def link(frame: "Node", source: "NodeSource | None") -> None:
    """Make a value known in `frame`: from outside as one of its inputs, from deep inside as an output of its child."""
    if source is None:
        return
    child = source[0]
    while child.parent is not None and child.parent is not frame:
        child = child.parent
    if child.parent is frame:
        if child is not source[0] and source not in child.outputs:
            child.outputs.append(source)
            link(child, source)
    elif source not in frame.inputs:
        frame.inputs.append(source)
        if frame.parent is not None:
            link(frame.parent, source)


def place(frame: "Node", source: "NodeSource | None") -> Source | None:
    """A value as (child of the frame, port) or (-1, input of the frame)."""
    if source is None:
        return None
    child = source[0]
    while child.parent is not None and child.parent is not frame:
        child = child.parent
    if child.parent is not frame:
        return -1, frame.inputs.index(source)
    return frame.children.index(child), source[1] if child is source[0] else child.outputs.index(source)


def parameters_of(node: "Node") -> set[int]:
    """Ids of the parameters that a node works with."""
    found = set(node.weights)
    if node.module is not None and not node.children:
        return found | {id(value) for value in node.module.parameters()}
    if node.module is not None:
        found |= {id(value) for value in node.module._parameters.values() if value is not None}
    return found.union(*(parameters_of(child) for child in node.children))


def block_of(node: "Node", sizes: dict[int, int], counted: set[int]) -> Block:
    """The block of a node. sizes: numbers in each parameter by id; counted: those that earlier blocks have counted."""
    own = parameters_of(node)
    new, known = (sum(sizes[key] for key in keys) for keys in (own - counted, own & counted))
    children = [replace(block_of(child, sizes, counted), inputs=places(node, child.inputs)) for child in node.children]
    counted |= own
    outputs = tuple(place(node, output) for output in node.outputs) if children else ()
    children, outputs = folded(children, outputs)
    shapes, name = tuple(node.shapes), node.name
    return Block(name, node.words, node.role, shapes, new, known, node.multiply_adds, 1, (), outputs, tuple(children))


def places(frame: "Node", sources: list["NodeSource"]) -> tuple[Source, ...]:
    """Where in the frame these values come from."""
    found = (place(frame, source) for source in sources)
    return tuple(source for source in found if source is not None)


def folded(children: list[Block], outputs: tuple[Source | None, ...]) -> tuple[list[Block], tuple[Source | None, ...]]:
    """The children with every row of equal ones as one, and the outputs of their parent."""
    users: dict[int, set[int]] = {place: set() for place in range(-1, len(children))}
    for user, child in enumerate(children):
        for source, _ in child.inputs:
            users[source].add(user)
    for output in outputs:
        if output is not None:
            users[output[0]].add(len(children))
    rows: list[list[int]] = []
    for here in range(len(children)):
        if rows and continues(children, rows[-1], here) and users[here - 1] == {here}:
            rows[-1].append(here)
        else:
            rows.append([here])
    moved = {-1: -1} | {here: number for number, row in enumerate(rows) for here in row}
    result = []
    for row in rows:
        first, last = children[row[0]], children[row[-1]]
        inputs = tuple((moved[source], port) for source, port in first.inputs)
        result.append(replace(first, name=span(first.name, last.name), repeat=len(row), inputs=inputs))
    return result, tuple(None if output is None else (moved[output[0]], output[1]) for output in outputs)


def continues(children: list[Block], row: list[int], here: int) -> bool:
    """Whether a child is equal to those of the row before it but for the number in its name, and takes from the last
    of them what the first of the row takes from whatever is before; values from further off must be the same for all.
    """
    first, child = children[row[0]], children[here]
    if child.name.rstrip("0123456789") != first.name.rstrip("0123456789"):
        return False
    if replace(child, name="", inputs=()) != replace(first, name="", inputs=()):
        return False
    pairs = list(zip(child.inputs, first.inputs, strict=False))
    steps = [mine for mine, theirs in pairs if mine != theirs]
    alike = len(child.inputs) == len(first.inputs)
    return alike and bool(steps) and all(source == row[-1] for source, _ in steps) and row[-1] == here - 1


def span(first: str, last: str) -> str:
    """`layer3.1`, `layer3.22` -> `layer3.1-22`, with a dash."""
    if first == last:
        return first
    front, _, tail = last.rpartition(".")
    return f"{first}{DASH}{tail if first.rpartition('.')[0] == front else last}"


def idle(node: "Node", twin: "nn.Module") -> list[str]:
    """Paths of the largest modules of which no parameter takes part."""
    used = parameters_of(node)
    unused = {name for name, module in twin.named_modules() if not used & {id(value) for value in module.parameters()}}
    largest = (name for name in unused if name.rpartition(".")[0] not in unused)
    return sorted(name for name in largest if any(True for _ in twin.get_submodule(name).parameters()))
