"""Where the boxes of an architecture drawing stand: columns, branches beside each other, lines past them, frames."""

from collections.abc import Sequence
from dataclasses import dataclass

from .boxes import THIN, Whole, leaf, short
from .flow import Column, Flow, Fork, Frame, Leaf, places_in
from .marks import SOFT, Piece, arrow, corner, cut, line, moved, tag, text, text_width
from .tree import TIMES
from .view import Item, View

GAP, LANE, PAD, BETWEEN, LEAST, LONGEST = 21.0, 14.0, 6.0, 10.0, 80.0, 130.0
"""Pixels: of an arrow, a line past boxes, a frame's padding, between boxes side by side; a box's least width; a word
that is not cut."""


@dataclass(frozen=True)
class Sheet:
    """What the marks of one panel need to know. around: paths that are written around items, and so not in their
    names; entrance: what comes in; ends: the name of each output by its item."""

    view: View
    whole: Whole
    around: tuple[str, ...]
    entrance: str
    ends: dict[int, str]


def arrange(flow: Flow, width: float, sheet: Sheet, last: bool = False) -> Piece:
    """A flow with boxes of this width; last: nothing comes behind it but the outputs."""
    if isinstance(flow, Leaf):
        item = sheet.view.items[flow.place]
        return leaf(item, name_of(item, sheet), width, sheet.whole)
    if isinstance(flow, Frame):
        return frame(flow, width, sheet)
    if isinstance(flow, Fork):
        return bypassed(flow, width, sheet, None) if len(flow.flows) == 1 else beside(flow, width, sheet, last)
    return linked(flow, width, sheet) if flow.links else stacked(flow.flows, width, sheet, last)


def name_of(item: Item, sheet: Sheet) -> str:
    """An item's name below what is written around it; "" where it says no more than the item's words."""
    name = below(item.name, sheet)
    return "" if name.rpartition(".")[2] == item.words[item.main] else name


def below(path: str, sheet: Sheet) -> str:
    """A path without the beginning that is written around it already."""
    front = max((one for one in sheet.around if path.startswith(f"{one}.")), key=len, default="")
    rest = path[len(front) + 1 :] if front else path
    return f"{front.rpartition('.')[2]}.{rest}" if front and rest[:1].isdigit() else rest


def framed_paths(flow: Flow) -> set[str]:
    """Paths of the blocks that have a frame."""
    inside = flow.flows if isinstance(flow, Column | Fork) else (flow.column,) if isinstance(flow, Frame) else ()
    own = {flow.part.path} if isinstance(flow, Frame) else set()
    return own.union(*(framed_paths(inner) for inner in inside))


def overhang(flow: Flow, sheet: Sheet) -> tuple[float, float]:
    """How far a flow sticks out to the left and to the right of its boxes."""
    if isinstance(flow, Leaf):
        return 0, 5 if sheet.view.items[flow.place].repeat > 1 else 0
    if isinstance(flow, Frame):
        left, right = overhang(flow.column, sheet)
        return left + PAD, right + PAD
    sides = [overhang(inner, sheet) for inner in flow.flows] or [(0.0, 0.0)]
    left, right = max(side[0] for side in sides), max(side[1] for side in sides)
    if isinstance(flow, Column):
        return left, right + (LANE * len(lanes_of(flow.links)) + 4 if flow.links else 0)
    if len(flow.flows) > 1:
        left = right = 0
    return left, right + (LANE if flow.bypass else 0)


def least_width(flow: Flow, sheet: Sheet) -> float:
    """The narrowest that the boxes of a flow may be."""
    if isinstance(flow, Leaf):
        item = sheet.view.items[flow.place]
        if item.role == "join":
            return 40
        words = " ".join(map(short, item.words[: item.main + 1])).replace(f" {TIMES} ", TIMES).split(" ")
        longest = max(text_width(word, 10, item.role not in THIN) for word in words)
        return max(LEAST, min(longest, LONGEST) + 12)
    if isinstance(flow, Frame):
        return least_width(flow.column, sheet)
    if isinstance(flow, Column) or len(flow.flows) == 1:
        return max((least_width(inner, sheet) for inner in flow.flows), default=LEAST)
    return sum(sum(overhang(inner, sheet)) + least_width(inner, sheet) + BETWEEN for inner in flow.flows) - BETWEEN


def stacked(flows: Sequence[Flow], width: float, sheet: Sheet, last: bool) -> Piece:
    """Flows one below the other, with arrows and the shapes that they carry."""
    marks: list[str] = []
    pieces: list[Piece] = []
    y, place = 0.0, 0
    while place < len(flows):
        flow, start = flows[place], place
        target = flows[place + 1] if place + 1 < len(flows) else None
        if isinstance(flow, Fork) and len(flow.flows) == 1 and isinstance(target, Leaf):
            piece, place = bypassed(flow, width, sheet, target), place + 2
        elif isinstance(flow, Fork) and isinstance(target, Leaf) and meets(flow, target, sheet):
            piece, place = met(flow, width, sheet, target), place + 2
        else:
            piece, place = arrange(flow, width, sheet, last and target is None), place + 1
        if pieces:
            marks.append(arrow(width / 2, y, y + GAP, piece.headed))
            marks.append(carried(flows[start - 1], width, y + GAP / 2, sheet))
            y += GAP
        marks.append(moved(piece.marks, 0, y))
        y += piece.height
        pieces.append(piece)
    left, right = max((piece.left for piece in pieces), default=0), max((piece.right for piece in pieces), default=0)
    first = pieces[0] if pieces else Piece("", width, 0)
    return Piece("".join(marks), width, y, left, right, first.headed, first.side, first.edge)


def carried(flow: Flow, width: float, y: float, sheet: Sheet, x: float = 0) -> str:
    """The shape of what a flow gives, beside its arrow, written as closely as the boxes are narrow; width: theirs."""
    while not isinstance(flow, Leaf):
        inside = (flow.column,) if isinstance(flow, Frame) else flow.flows
        if not inside or (isinstance(flow, Fork) and len(inside) > 1):
            return ""
        flow = inside[-1]
    shape, size, room = sheet.view.items[flow.place].shape, 10.0, width / 2 + BETWEEN - 8
    if text_width(shape, size) > room:
        shape, size = shape.replace(" ", ""), 9.0
    return text(x + width / 2 + 7, y + 3, shape, size, opacity=SOFT) if text_width(shape, size) <= room else ""


def bypassed(flow: Fork, width: float, sheet: Sheet, target: Leaf | None) -> Piece:
    """A flow with a line past it that ends at the side of `target`, which stands below it."""
    middle, inner = width / 2, arrange(flow.flows[0], width, sheet)
    top = 16.0 if inner.headed else 8.0
    y, gap = top + inner.height, GAP if target else 8.0
    goal = arrange(target, width, sheet) if target else Piece("", width, 0, edge=middle)
    marks = [tag("circle", cx=middle, cy=0, r=2.2, fill="currentColor", opacity=SOFT)]
    marks += [arrow(middle, 0, top, inner.headed), moved(inner.marks, 0, top)]
    marks.append(arrow(middle, y, y + gap, target is not None))
    marks.append(carried(flow.flows[0], width, y + gap / 2, sheet) if target else "")
    y += gap
    right = max(inner.right, goal.right) + LANE
    marks += [moved(goal.marks, 0, y), corner(middle, 0, width + right - 4, y + goal.side, goal.edge)]
    return Piece("".join(marks), width, y + goal.height, max(inner.left, goal.left), right, False)


def beside(flow: Fork, width: float, sheet: Sheet, last: bool) -> Piece:
    """Flows beside each other between a line that forks and one that they run into, or the outputs."""
    pieces, free = columns_of(flow, width, sheet, last), begins(flow, sheet)
    top, middle = 0.0 if free else 20.0, width / 2
    bottom = top + max(piece.height for piece in pieces)
    marks, x, centers = [], 0.0, []
    for inner, piece in zip(flow.flows, pieces, strict=True):
        center = x + piece.left + piece.width / 2
        marks.append("" if free else arrow(center, 6, top, piece.headed))
        marks.append(moved(piece.marks, x + piece.left, top))
        foot, room = top + piece.height, piece.width + BETWEEN
        out = ending(inner, center, foot, bottom, sheet, room) if last else arrow(center, foot, bottom + 10, False)
        marks.append(out)
        x += piece.left + piece.width + piece.right + BETWEEN
        centers.append(center)
    aside = width + LANE - 4
    ends = [*centers, middle, *([aside] if flow.bypass else [])]
    marks.append("" if free else line(f"M{middle:.1f} 0V6M{min(ends):.1f} 6H{max(ends):.1f}"))
    marks.append(line(f"M{aside:.1f} 6V{bottom + 10:.1f}") if flow.bypass else "")
    right, height = LANE if flow.bypass else 0.0, bottom + 36
    if not last:
        height = bottom + 12
        marks.append(line(f"M{min(ends):.1f} {bottom + 10:.1f}H{max(ends):.1f}M{middle:.1f} {bottom + 10:.1f}v2"))
    return Piece("".join(marks), width, height, 0, right, False)


def meets(flow: Fork, target: Leaf, sheet: Sheet) -> bool:
    """Whether two branches can come into a join from both sides."""
    return len(flow.flows) == 2 and not flow.bypass and sheet.view.items[target.place].role == "join"


def begins(flow: Flow, sheet: Sheet) -> bool:
    """Whether a flow begins with inputs, into which no line runs."""
    if isinstance(flow, Leaf):
        return sheet.view.items[flow.place].role == "input"
    inside = (flow.column,) if isinstance(flow, Frame) else flow.flows
    return all(begins(inner, sheet) for inner in (inside if isinstance(flow, Fork) else inside[:1]))


def met(flow: Fork, width: float, sheet: Sheet, target: Leaf) -> Piece:
    """Two branches that end at the sides of a join below them."""
    first, second = columns_of(flow, width, sheet, False)
    goal, middle, top = arrange(target, width, sheet), width / 2, 0.0 if begins(flow, sheet) else 20.0
    centers = (first.left + first.width / 2, width - second.right - second.width / 2)
    bottom = top + max(first.height, second.height) + 10
    marks = [moved(goal.marks, 0, bottom)]
    marks.append(line(f"M{middle:.1f} 0V6M{centers[0]:.1f} 6H{centers[1]:.1f}") if top else "")
    for piece, center, edge in zip((first, second), centers, (width - goal.edge, goal.edge), strict=True):
        marks.append(arrow(center, 6, top, piece.headed) if top else "")
        marks.append(moved(piece.marks, center - piece.width / 2, top))
        marks.append(corner(center, top + piece.height, center, bottom + goal.side, edge))
    return Piece("".join(marks), width, bottom + goal.height, 0, 0, False)


def columns_of(flow: Fork, width: float, sheet: Sheet, last: bool) -> list[Piece]:
    """The branches of a fork, arranged so that together they are so wide; equally wide if that is enough for all."""
    least = [least_width(inner, sheet) for inner in flow.flows]
    hangs = [overhang(inner, sheet) for inner in flow.flows]
    room = width - sum(map(sum, hangs)) - BETWEEN * (len(least) - 1)
    share, extra = room / len(least), max(0.0, room - sum(least)) / len(least)
    widths = [share if share >= max(least) else own + extra for own in least]
    pieces = [arrange(inner, own, sheet, last) for inner, own in zip(flow.flows, widths, strict=True)]
    return [
        Piece(piece.marks, piece.width, piece.height, left, right, piece.headed, piece.side, piece.edge)
        for piece, (left, right) in zip(pieces, hangs, strict=True)
    ]


def ending(flow: Flow, x: float, start: float, bottom: float, sheet: Sheet, width: float) -> str:
    """An arrow out of the drawing to the name of an output and its shape, which have so much room."""
    place = max(places_in(flow))
    name, shape = sheet.ends.get(place, ""), sheet.view.items[place].shape
    if name and text_width(f"{name} {shape}", 10.5) <= width:
        name, shape = f"{name} {shape}", ""
    marks = [arrow(x, start, bottom + 12), text(x, bottom + 23, name or shape, 10.5, "middle")]
    return "".join([*marks, text(x, bottom + 35, shape, 10, "middle", opacity=SOFT) if name and shape else ""])


def frame(flow: Frame, width: float, sheet: Sheet) -> Piece:
    """A column in a frame with the name of the block whose inside it is."""
    inner, part = arrange(flow.column, width, sheet), flow.part
    middle, top = width / 2, 26.0
    left, right, height = inner.left + PAD, inner.right + PAD, top + inner.height + 10
    names = (f"{below(part.path, sheet)} · {part.kind}", part.kind, below(part.path, sheet))
    room = middle + left - 12
    title = next((name for name in names if text_width(name, 10) <= room), cut(part.kind, room, 10))
    marks = [
        tag("rect", x=-left, y=0, width=width + left + right, height=height, rx=7, fill="currentColor",
            fill_opacity=0.035, stroke="currentColor", stroke_opacity=0.25),
        text(7 - left, 14, title, 10, opacity=SOFT),
        text(width + right - 8, 16, f"{TIMES} {part.repeat}", 12, "end", font_weight=600) if part.repeat > 1 else "",
        arrow(middle, 0, top, inner.headed),
        moved(inner.marks, 0, top),
        arrow(middle, top + inner.height, height, False),
    ]  # fmt: skip
    return Piece("".join(marks), width, height, left, right, False)


def lanes_of(links: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Links that are not between neighbors, in as few lanes as let them pass each other; those of one source share."""
    farthest: dict[int, int] = {}
    for start, end in links:
        if end - start > 1:
            farthest[start] = max(farthest.get(start, 0), end)
    lanes: list[list[tuple[int, int]]] = []
    for start, end in sorted(farthest.items(), key=lambda link: (link[1] - link[0], link)):
        free = next((lane for lane in lanes if all(end <= first or start >= final for first, final in lane)), None)
        if free is None:
            lanes.append([(start, end)])
        else:
            free.append((start, end))
    return lanes


def linked(flow: Column, width: float, sheet: Sheet) -> Piece:
    """Flows one below the other of which some feed others further down, by lines along the right."""
    pieces = [arrange(inner, width, sheet) for inner in flow.flows]
    middle, y = width / 2, 20.0
    tops: list[float] = []
    marks: list[str] = []
    for piece in pieces:
        tops.append(y)
        marks.append(moved(piece.marks, 0, y))
        y += piece.height + GAP + 4
    height = y - 8
    feet = [0.0, *(top + piece.height for top, piece in zip(tops, pieces, strict=True))]
    hang, lanes = max(piece.right for piece in pieces), lanes_of(flow.links)
    lane_of = {start: number for number, lane in enumerate(lanes) for start, _ in lane}
    for start in dict.fromkeys(start for start, _ in flow.links if start >= 0):
        marks.append(carried(flow.flows[start], width, feet[start + 1] + 14, sheet))
    for start, end in flow.links:
        foot, goal = feet[start + 1], tops[end] if end < len(tops) else height
        piece = pieces[end] if end < len(pieces) else Piece("", width, 0, headed=False)
        if start < 0 and end < len(pieces) and begins(flow.flows[end], sheet):
            continue
        if end - start == 1:
            marks.append(arrow(middle, foot, goal, piece.headed))
            continue
        level, x = foot + (6 if start >= 0 else 0), width + hang + 4 + LANE * (lane_of[start] + 0.5)
        own = min(6.0 + 6 * lane_of[start], 2 * piece.side - 5) if piece.side > 10 else piece.side
        side, edge = (goal + own, piece.edge) if piece.edge else (goal - 5, middle)
        marks += [arrow(middle, foot, level, False), corner(middle, level, x, side, edge)]
    return Piece("".join(marks), width, height, max(p.left for p in pieces), hang + LANE * len(lanes) + 4, False)
