"""Choose the boxes of a drawing: open some blocks of the tree, close others, fuse layers with what follows them."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from .tree import Block, Source, merge_children, merge_repeat, shape_text

SEPARATOR = " \u00b7 "
"""Separator in the kind of a box, between its main layer and the layers behind it."""

WEIGHTED = ("convolution", "linear", "attention", "product", "block", "sequence", "frame")
FUSED = ("norm", "activation", "dropout", "scale")
MAX_CHAIN, MAX_PORTS = 7, 64


def view_of(root: Block, opened: Collection[str], path: str = "") -> Block:
    """The block with the boxes of a drawing as its children, named by their paths. path: of `root`, if in a frame.

    Sequences and blocks of the classes in `opened` are replaced by their children. A block that repeats, or has one
    input and one output, becomes a `frame` around its own view instead, unless it is nearly all of `root`.
    """
    boxes: list[Block] = []

    def add(block: Block, taken: Sequence[Source | None], path: str, main: bool) -> Sequence[Source | None]:
        """Append the boxes of a block; returns its outputs as sources among the boxes."""
        closed = chain_box(block)
        if closed is not None and closed.role == "identity" and taken:
            return taken[:1]
        main &= 4 * block.multiply_adds > 3 * root.multiply_adds
        opens = closed is None and bool(block.children) and (block.role == "sequence" or class_name(block) in opened)
        if opens and block is not root and (block.repeat > 1 or not (main or block.role == "sequence")):
            closed = frame_of(block, taken, opened, path)
            opens = closed is None and block.repeat == 1
        if not opens and block is not root:
            inputs = tuple(source for source in taken if source is not None)
            boxes.append(replace(closed or block, name=path, inputs=inputs))
            return [(len(boxes) - 1, port) for port in range(MAX_PORTS)]
        known = {(-1, port): source for port, source in enumerate(taken)}
        for index, child in enumerate(block.children):
            name = f"{path}.{child.name}" if path else child.name
            outputs = add(child, [known.get(source) for source in child.inputs], name, main)
            known |= {(index, port): source for port, source in enumerate(outputs)}
        return [output and known.get(output) for output in block.outputs]

    outputs = tuple(add(root, [(-1, port) for port in range(MAX_PORTS)], path, True))
    children, outputs = merge_children(*merge_children(boxes, outputs, fused), merge_repeat)
    return replace(root, children=children, outputs=outputs)


def frame_of(block: Block, taken: Sequence[Source | None], opened: Collection[str], path: str) -> Block | None:
    """An opened block as a frame around its boxes, None if it has one box or several inputs or outputs."""
    view = view_of(block, opened, path)
    origins = {source[0] for source in taken if source is not None}
    single = len(view.children) > 1 and len(origins) == len({output for output in view.outputs if output}) == 1
    return replace(view, role="frame") if single else None


def chain_box(block: Block) -> Block | None:
    """A layer, or a short chain with at most one weighted layer, as one box; None for any other block."""
    layers = chain_of(block)
    if layers is None:
        return None
    shown = [layer for layer in layers if layer.role != "identity"] or layers[:1]
    main = next((index for index, layer in enumerate(shown) if layer.role in WEIGHTED), 0)
    kinds = [layer.kind for layer in shown]
    kind = SEPARATOR.join([", ".join(kinds[: main + 1]), *kinds[main + 1 :]])
    return replace(block, kind=kind, role=shown[main].role, children=(), outputs=())


def chain_of(block: Block) -> list[Block] | None:
    """The layers of a short chain with at most one weighted layer, else None."""
    if not block.children:
        return [block]
    layers: list[Block] = []
    for index, child in enumerate(block.children):
        inner = chain_of(child)
        if inner is None or child.repeat > 1 or any(source != index - 1 for source, _ in child.inputs):
            return None
        layers += inner
    last = len(block.children) - 1
    simple = sum(layer.role in WEIGHTED for layer in layers) <= 1 and len(layers) <= MAX_CHAIN
    return layers if simple and all(output and output[0] == last for output in block.outputs) else None


def fused(host: Block, child: Block, index: int) -> Block | None:
    """A layer with the normalization, activation or dropout that follows it as one box, else None."""
    if child.role not in FUSED or child.repeat * host.repeat > 1 or any(source != index for source, _ in child.inputs):
        return None
    follows = host.role in WEIGHTED[:4] or (host.role in ("join", *FUSED) and child.role == "activation")
    if not follows and (child.role != "scale" or host.role == "frame"):
        return None
    costs = {key: getattr(host, key) + getattr(child, key) for key in ("parameters", "multiply_adds")}
    return replace(host, kind=f"{host.kind}{SEPARATOR}{child.kind}", shapes=child.shapes, **costs)


def with_labels(block: Block, input_label: str, names: Sequence[str]) -> Block:
    """The block with a label for each input, called `input_label` if there is one, and for each output."""
    ports = 1 + max((port for child in block.children for source, port in child.inputs if source < 0), default=0)
    kinds = [input_label] if ports == 1 else [f"input {port + 1}" for port in range(ports)]
    labels = [Block("", kind, "label", (), 0, 0, ()) for kind in kinds]

    def moved(source: Source) -> Source:
        return (source[0] + ports, source[1]) if source[0] >= 0 else (min(source[1], ports - 1), 0)

    children = [replace(child, inputs=tuple(map(moved, child.inputs))) for child in block.children]
    names = names if len(names) == len(block.shapes) else ["output" for _ in block.shapes]
    sources = [moved(output) for output in block.outputs[: len(names)] if output]
    ends = [Block("", name, "label", (), 0, 0, (source,)) for name, source in zip(names, sources, strict=False)]
    return replace(block, children=(*labels, *children, *ends), outputs=())


def shape_of(block: Block) -> str:
    """Shape of a block's output, or the number of its outputs if they differ."""
    shapes = block.shapes or ((),)
    return shape_text(shapes[0]) if len(set(shapes)) == 1 else f"{len(shapes)} maps"


def class_name(block: Block) -> str:
    """Class of a block: `Attention` of `Attention, 12 heads`."""
    return block.kind.partition(SEPARATOR)[0].partition(", ")[0]


def abbreviated_kind(block: Block) -> str:
    """Kind of a block with abbreviations."""
    return block.kind.replace("convolution", "conv").replace("batch norm", "BN")


def short_name(path: str) -> str:
    """The last part of a path that is no number, with numbers behind it: `layer1.0` of `backbone.layer1.0`."""
    return re.sub(r"^.*\.(?=[^.\d][^.]*(\.\d[^.]*)*$)", "", path)
