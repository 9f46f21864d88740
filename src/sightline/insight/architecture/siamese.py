"""Drawing of a Siamese network: the online network beside its target network, or beside itself."""

from dataclasses import replace

from .boxes import GRAY, SOFT, Panel, Totals, box, outline, quantity, route, shortened, tag, text, translated
from .layout import GAP, Column, Leaf, stack
from .tree import Architecture, Block, shape_text
from .view import SEPARATOR

NETWORKS = ("backbone", "projector", "predictor")
MIDDLE, TOP, MAX_LAYERS = 62.0, 81.0, 6
"""Pixels between the two networks, and above them; maximum number of layers that the box of a network lists by name."""


def siamese_networks(architecture: Architecture) -> tuple[list[Block], list[Block]] | None:
    """The two networks of a Siamese model, or None for other models.

    Returns ([backbone, projector, predictor] of the online network, [backbone, projector] of the target network). The
    second list is empty if the method has no target network.
    """
    blocks = {block.name: block for block in architecture.model.children} if architecture.model else {}
    if not architecture.method or not set(NETWORKS) <= blocks.keys():
        return None
    online, target = [blocks[name] for name in NETWORKS], list(blocks["target"].children) if "target" in blocks else []
    return (online, target) if len(target) in (0, 2) and all(block.shapes for block in [*online, *target]) else None


def siamese_panel(architecture: Architecture, online: list[Block], target: list[Block], width: float) -> Panel:
    """Draw the online network beside the target network, or beside itself if `target` is empty, and the loss below.

    Dashed lines show whether the target's weights are moving averages or the same weights. online, target: as returned
    by `siamese_networks`. width: of the panel in pixels.
    """
    own, title = (width - 4 - MIDDLE) / 2, f"{architecture.name}, {architecture.method}".removeprefix(", ")
    trained, averaged = (sum(block.parameters for block in blocks) for blocks in (online, target))
    work = sum(block.multiply_adds for block in [*online, *target])
    suffix = f", {quantity(averaged)} moving averages" if target else ""
    markup = [
        text(2, 17, shortened(title, width - 4, 13, True), 13, font_weight=600),
        text(2, 32, f"{quantity(trained)} trainable parameters{suffix}", 10.5, opacity=SOFT),
        text(2, 47, f"{quantity(work)} multiply-adds per view", 10.5, opacity=SOFT),
    ]
    totals, lanes, bottoms = Totals(trained + averaged, work), (2 + own / 2, width - 2 - own / 2), []
    titles = ("online network", "target network" if target else "same network")
    for side, (x, blocks) in enumerate(zip(lanes, (online, target or online[:2]), strict=True)):
        view = Block("", f"view {side + 1}", "label", (architecture.image,), 0, 0, ())
        boxes = [view, *map(network, blocks, NETWORKS)]
        leaves = tuple(Leaf(index, block, None) for index, block in enumerate(boxes))
        column = stack(Column(leaves, tuple((row, row + 1) for row in range(len(boxes)))), own, totals)
        markup.append(text(x, 74, titles[side], 11.5, "middle", font_weight=600))
        markup.append(translated(column.markup, x - own / 2, TOP))
        bottoms.append(TOP + column.height)
    y = TOP + 16 + GAP
    for block, name in zip(online[:2], NETWORKS, strict=False):
        height = box(network(block, name), own, totals).height
        markup.append(weight_relation(2 + own, y + height / 2, bool(target)))
        y += GAP + height
    markup.append(loss(lanes, bottoms, online, width))
    other = "a target network, its moving average" if target else "itself"
    alt = f"{title}: an online network of backbone, projector and predictor, and {other}; the loss compares the "
    alt += "prediction of one view with the projection of the other, whose gradient is stopped"
    return Panel(title, alt, "".join(markup), width, bottoms[0] + 82)


def network(block: Block, name: str) -> Block:
    """Reduce a network to one box, which lists its layers by name if there are at most MAX_LAYERS. name: its name in
    NETWORKS."""
    layers = layers_of(block)
    kind = SEPARATOR.join([name, *(layers if len(layers) <= MAX_LAYERS else [block.kind])])
    return replace(block, name="", kind=kind, role="block" if name == NETWORKS[0] else "linear", children=(), repeat=1)


def layers_of(block: Block) -> list[str]:
    """The kinds of the layers in a block, such as `ReLU`; those of linear layers with their output size."""
    if block.children:
        return [words for child in block.children for words in layers_of(child)]
    return [f"{block.kind} {shape_text(block.shapes[0])}" if block.role == "linear" and block.shapes else block.kind]


def weight_relation(x: float, y: float, averaged: bool) -> str:
    """A dashed line between corresponding parts of the two networks, labeled "moving average" or "shared weights"."""
    words = ("moving", "average") if averaged else ("shared", "weights")
    labels = [
        text(x + MIDDLE / 2, y + down, word, 9.5, "middle", opacity=SOFT)
        for word, down in zip(words, (-6, 13), strict=True)
    ]
    return "".join([route((x + 2, y), (x + MIDDLE - 2, y), head=averaged, dashed=True), *labels])


def loss(lanes: tuple[float, float], bottoms: list[float], online: list[Block], width: float) -> str:
    """Draw the loss below both networks, and the mark of the stop-gradient.

    lanes: x of the two networks' outputs. bottoms: y of these outputs. online: blocks of the online network.
    """
    (left, right), y, stop = lanes, bottoms[0] + 34, bottoms[1] + 30
    markup = [
        translated(outline(50, 22, "attention"), width / 2 - 25, y - 11),
        text(width / 2, y + 4, "loss", 11.5, "middle", font_weight=600),
        tag("path", d=f"M{right - 7:.1f} {stop + 3:.1f}l14 -6m-14 11l14 -6", stroke=GRAY, stroke_width=1.6),
        text(right - 12, stop + 7, "stop-gradient", 9.5, "end", opacity=SOFT),
        text(2, y + 34, "Each view passes through both networks: the loss is symmetric.", 10, opacity=SOFT),
    ]
    for x, bottom, end, block in ((left, bottoms[0], -25, online[2]), (right, bottoms[1], 25, online[1])):
        markup.append(route((x, bottom), (x, y), (width / 2 + end, y)))
        markup.append(text(x + 7, bottom + 15, shape_text(block.shapes[0]), 10, opacity=SOFT))
    return "".join(markup)
