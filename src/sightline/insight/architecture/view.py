"""Choose the boxes of a drawing: expand some blocks of the tree, and fuse layers with their activation or norm."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from .tree import Block, Source, merge_children, merge_repeat, shape_text

SEPARATOR = " \u00b7 "
"""Separator in the text of a box, between its main layer and the layers that follow it."""

WEIGHTED = ("convolution", "linear", "attention", "product", "block", "sequence", "frame")
FUSED = ("norm", "activation", "dropout", "scale")
MAX_CHAIN, MAX_PORTS = 7, 64
"""Maximum number of layers in a chain that is drawn as one box; maximum number of inputs or outputs of a block."""


def view_of(root: Block, expanded: Collection[str], path: str = "") -> Block:
    """Copy of `root` whose children are the boxes of a drawing, named by their paths.

    expanded: class names. Sequences, and blocks of these classes, are replaced by the boxes of their children. If such
    a sequence or block is repeated, it becomes a `frame` with these boxes as children. So does a block of a class in
    `expanded` that has one input and one output, unless it has more than 3/4 of the multiply-adds of `root`. path:
    prefix of the names if `root` is in a frame.
    """
    boxes: list[Block] = []

    def add(block: Block, taken: Sequence[Source | None], path: str, main: bool) -> Sequence[Source | None]:
        """Append the boxes of a block; returns the sources of the block's outputs.

        taken: sources of the block's inputs. path: name of the block. main: whether every block around it has more than
        3/4 of the multiply-adds of `root`.
        """
        closed = chain_box(block)
        if closed is not None and closed.role == "identity" and taken:
            return taken[:1]
        main &= 4 * block.multiply_adds > 3 * root.multiply_adds
        expand = closed is None and bool(block.children) and (block.role == "sequence" or class_name(block) in expanded)
        if expand and block is not root and (block.repeat > 1 or not (main or block.role == "sequence")):
            closed = frame_of(block, taken, expanded, path)
            expand = closed is None and block.repeat == 1
        if not expand and block is not root:
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


def frame_of(block: Block, taken: Sequence[Source | None], expanded: Collection[str], path: str) -> Block | None:
    """A block drawn as a frame around its boxes; None if it has only one box, or several inputs or outputs.

    taken: sources of its inputs. expanded, path: see `view_of`.
    """
    view = view_of(block, expanded, path)
    origins = {source[0] for source in taken if source is not None}
    single = len(view.children) > 1 and len(origins) == len({output for output in view.outputs if output}) == 1
    return replace(view, role="frame") if single else None


def chain_box(block: Block) -> Block | None:
    """One box for a layer, or for a chain of layers with at most one weighted layer; None for any other block."""
    layers = chain_of(block)
    if layers is None:
        return None
    shown = [layer for layer in layers if layer.role != "identity"] or layers[:1]
    main = next((index for index, layer in enumerate(shown) if layer.role in WEIGHTED), 0)
    kinds = [layer.kind for layer in shown]
    kind = SEPARATOR.join([", ".join(kinds[: main + 1]), *kinds[main + 1 :]])
    return replace(block, kind=kind, role=shown[main].role, children=(), outputs=())


def chain_of(block: Block) -> list[Block] | None:
    """The layers of a block if they are a chain that can be drawn as one box, else None.

    Such a chain has at most MAX_CHAIN layers, at most one of them with weights.
    """
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
    """Merge a normalization, activation, dropout or scale into the box of the layer before it; None if this is not
    possible.

    host: the box of the layer. child: the box that follows. index: of `host` among the boxes.
    """
    if child.role not in FUSED or child.repeat * host.repeat > 1 or any(source != index for source, _ in child.inputs):
        return None
    follows = host.role in WEIGHTED[:4] or (host.role in ("join", *FUSED) and child.role == "activation")
    if not follows and (child.role != "scale" or host.role == "frame"):
        return None
    costs = {key: getattr(host, key) + getattr(child, key) for key in ("parameters", "multiply_adds")}
    return replace(host, kind=f"{host.kind}{SEPARATOR}{child.kind}", shapes=child.shapes, **costs)


def with_labels(block: Block, input_label: str, names: Sequence[str]) -> Block:
    """Add labels of the inputs and outputs to a block.

    input_label: of a single input; several are labeled "input 1", "input 2", ... names: labels of the outputs.
    """
    ports = 1 + max((port for child in block.children for source, port in child.inputs if source < 0), default=0)
    kinds = [input_label] if ports == 1 else [f"input {port + 1}" for port in range(ports)]
    labels = [Block("", kind, "label", (), 0, 0, ()) for kind in kinds]

    def shifted(source: Source) -> Source:
        return (source[0] + ports, source[1]) if source[0] >= 0 else (min(source[1], ports - 1), 0)

    children = [replace(child, inputs=tuple(map(shifted, child.inputs))) for child in block.children]
    names = names if len(names) == len(block.shapes) else ["output" for _ in block.shapes]
    sources = [shifted(output) for output in block.outputs[: len(names)] if output]
    ends = [Block("", name, "label", (), 0, 0, (source,)) for name, source in zip(names, sources, strict=False)]
    return replace(block, children=(*labels, *children, *ends), outputs=())


def shape_of(block: Block) -> str:
    """Shape of a block's outputs as text; if their shapes differ, the number of outputs (`3 maps`)."""
    shapes = block.shapes or ((),)
    return shape_text(shapes[0]) if len(set(shapes)) == 1 else f"{len(shapes)} maps"


def class_name(block: Block) -> str:
    """Class of a block, such as `Attention` for the kind `Attention, 12 heads`."""
    return block.kind.partition(SEPARATOR)[0].partition(", ")[0]


def abbreviated_kind(block: Block) -> str:
    """Kind of a block, with the abbreviations "conv" and "BN"."""
    return block.kind.replace("convolution", "conv").replace("batch norm", "BN")


def short_name(path: str) -> str:
    """The end of a dotted path, from its last component that is not a number: `layer1.0` for `backbone.layer1.0`."""
    return re.sub(r"^.*\.(?=[^.\d][^.]*(\.\d[^.]*)*$)", "", path)
