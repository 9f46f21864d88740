"""Two networks that are trained on each other (BYOL), or one on itself (SimSiam), side by side."""

from dataclasses import replace

from .boxes import GRAY, Whole, box, leaf, quantity
from .marks import SOFT, Panel, Piece, arrow, arrowhead, corner, cut, line, moved, tag, text
from .tree import Architecture, Block
from .view import item_of, shape_text

METHODS = {"byol": "BYOL", "simsiam": "SimSiam"}
NETWORKS = ("backbone", "projector", "predictor")
MIDDLE, STEP, MOST_LAYERS = 62.0, 24.0, 6
"""Pixels between the two networks, and of an arrow; layers that are named one by one."""


def pair_of(found: Architecture) -> tuple[list[Block], list[Block]] | None:
    """(backbone, projector and predictor of the online network, backbone and projector of the target, if it has one);
    None where the architecture is not such a pair."""
    root = found.root
    blocks = {block.name: block for block in root.children} if root else {}
    if not found.method or not set(NETWORKS) <= blocks.keys():
        return None
    target = list(blocks["target"].children) if "target" in blocks else []
    online = [blocks[name] for name in NETWORKS]
    return (online, target) if len(target) in (0, 2) and all(block.shapes for block in online) else None


def pair_panel(found: Architecture, width: float) -> Panel | None:
    """Both networks with what goes between them; None where the architecture is not such a pair."""
    networks = pair_of(found)
    if networks is None or found.root is None:
        return None
    (online, target), own, name = networks, (width - 4 - MIDDLE) / 2, titled(found)
    lanes = 2 + own / 2, width - 2 - own / 2
    marks, y = heading(found.root, online, target, name, width, lanes)
    whole = Whole(found.root.parameters, found.root.multiply_adds)
    left = [network(block, words, own, whole) for block, words in zip(online, NETWORKS, strict=True)]
    right = [network(block, words, own, whole) for block, words in zip(target, NETWORKS, strict=False)]
    right = right or [shadow(piece, words, own) for piece, words in zip(left[:2], NETWORKS, strict=False)]
    shapes = [shape_text(found.image), *(shape_text(block.shapes[0]) for block in online)]
    feet = [y, y]
    for row, pieces in enumerate(zip(left, right, strict=False)):
        top = max(feet) + STEP
        for side, (lane, piece) in enumerate(zip(lanes, pieces, strict=True)):
            marks.append(arrow(lane, feet[side], top) + shape_beside(shapes[row], lane, top - STEP / 2))
            marks.append(moved(piece.marks, lane - own / 2, top))
            feet[side] = top + piece.height
        marks.append(between(lanes[0] + own / 2, top + pieces[0].height / 2, bool(target)))
    top = feet[0] + STEP
    marks += [arrow(lanes[0], feet[0], top), shape_beside(shapes[2], lanes[0], top - STEP / 2)]
    marks.append(moved(left[2].marks, lanes[0] - own / 2, top))
    feet[0] = top + left[2].height
    marks.append(ending(lanes, feet, shapes, width))
    says = f"{name}: an online network of backbone, projector and predictor, and "
    says += "a target network of backbone and projector that follows it by a moving average" if target else "itself"
    says += "; a loss compares the prediction of one view with the projection of the other, which gets no gradient"
    return Panel(name, says, "".join(marks), width, feet[0] + 96)


def titled(found: Architecture) -> str:
    """What is trained, and how."""
    return f"{found.name}, {METHODS.get(found.method, found.method)}" if found.name else found.method


def heading(
    root: Block, online: list[Block], target: list[Block], name: str, width: float, lanes: tuple[float, float]
) -> tuple[list[str], float]:
    """(title, totals, what stands above the two networks; where their arrows begin)."""
    trained, work = (sum(getattr(block, key) for block in online) for key in ("parameters", "multiply_adds"))
    totals = f"{quantity(trained)} parameters are trained"
    totals += f", {quantity(sum(block.parameters for block in target))} follow" if target else ""
    marks = [text(2, 17, cut(name, width - 4, 13, True), 13, font_weight=600)]
    marks += [text(2, 32, totals, 10.5, opacity=SOFT)]
    marks += [text(2, 47, f"{quantity(root.multiply_adds or work)} multiply-adds a view", 10.5, opacity=SOFT)]
    titles = ("online network", "target network" if target else "the same network")
    for lane, words, view in zip(lanes, titles, ("view 1", "view 2"), strict=True):
        marks += [text(lane, 74, words, 11.5, "middle", font_weight=600), text(lane, 92, view, 10.5, "middle")]
    return marks, 97.0


def network(block: Block, words: str, width: float, whole: Whole) -> Piece:
    """A network of the pair as one box with its layers named, where they are few."""
    layers = layers_of(block)
    inside = layers if len(layers) <= MOST_LAYERS else [block.kind]
    item = item_of(block, None, words, 1, (), ())
    role = "block" if words == "backbone" else "linear"
    return leaf(replace(item, words=(words, *inside), main=0, role=role), "", width, whole)


def layers_of(block: Block) -> list[str]:
    """The kinds of the layers in a block, with the width of the linear ones."""
    if block.children:
        return [words for child in block.children for words in layers_of(child)]
    return [f"{block.kind} {shape_text(block.shapes[0])}" if block.role == "linear" and block.shapes else block.kind]


def shadow(piece: Piece, words: str, width: float) -> Piece:
    """A network that is the other's, a second time."""
    middle = piece.height / 2
    marks = box(width, piece.height, "", dashed=True)
    marks += text(width / 2, middle - 2, words, 11, "middle", font_weight=600)
    marks += text(width / 2, middle + 12, "the same weights", 9.5, "middle", opacity=SOFT)
    return Piece(marks, width, piece.height)


def shape_beside(shape: str, lane: float, y: float) -> str:
    """The shape that an arrow carries."""
    return text(lane + 8, y + 3, shape, 10, opacity=SOFT)


def between(x: float, y: float, follows: bool) -> str:
    """How the weights of one side come to the other."""
    path = line(f"M{x + 2:.1f} {y:.1f}H{x + MIDDLE - 7:.1f}", dashed=True)
    words = ("moving", "average") if follows else ("shared", "")
    marks = [path, arrowhead(x + MIDDLE - 2, y, 5, 0) if follows else ""]
    for word, height in zip(words, (y - 6, y + 13), strict=True):
        marks.append(text(x + MIDDLE / 2, height, word, 9.5, "middle", opacity=SOFT) if word else "")
    return "".join(marks)


def ending(lanes: tuple[float, float], feet: list[float], shapes: list[str], width: float) -> str:
    """The loss, into which both sides run, and the stop of the gradient on the right."""
    y, middle, half = feet[0] + 34, width / 2, 25.0
    stop = feet[1] + 30
    right = lanes[1]
    marks = [
        moved(box(2 * half, 22, "attention"), middle - half, y - 11),
        text(middle, y + 4, "loss", 11.5, "middle", font_weight=600),
        corner(lanes[0], feet[0], lanes[0], y, middle - half),
        corner(right, feet[1], right, y, middle + half),
        shape_beside(shapes[3], lanes[0], feet[0] + 12),
        shape_beside(shapes[2], right, feet[1] + 12),
        # Two strokes across the line: what a gradient does not pass.
        tag("path", d=f"M{right - 7:.1f} {stop + 3:.1f}l14 -6M{right - 7:.1f} {stop + 8:.1f}l14 -6", stroke=GRAY,
            stroke_width=1.6, fill="none"),
        text(right - 12, stop + 7, "stop-gradient", 9.5, "end", opacity=SOFT),
        text(2, y + 34, "Each view takes both ways; the loss is the sum of both.", 10, opacity=SOFT),
    ]  # fmt: skip
    return "".join(marks)
