"""Arrange the boxes of a drawing in a column, with branches side by side and skip connections on the right."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise

from .boxes import LINE, SOFT, Piece, Totals, box, route, shortened, tag, text, text_width, translated
from .tree import TIMES, Block
from .view import SEPARATOR, abbreviated_kind, shape_of, short_name

GAP, FORK, LANE, PAD, BETWEEN, LEAST, WORD = 21.0, 16.0, 14.0, 6.0, 10.0, 80.0, 142.0
"""Pixels: length of an arrow, height in which a skip connection starts, width of a lane (the vertical part of a skip
connection), padding of a frame, gap between branches, minimum width of a box, and the largest minimum width of a box
with a long word."""

Edge = tuple[int, int]
"""A connection: (index of the source, index of the user). -1 is the input, and the number of blocks the output."""


@dataclass(frozen=True)
class Leaf:
    """One block in the layout. index: its index among the children of the view. inside: the column of its boxes if
    it is a frame, else None."""

    index: int
    block: Block
    inside: "Column | None"


@dataclass(frozen=True)
class Fork:
    """Parallel branches that have the same block before them and the same block after them."""

    parts: tuple["Column", ...]


@dataclass(frozen=True)
class Column:
    """Parts that are drawn one below the other; the rows of the column are their indices.

    links: connections as (row of the source, row of the user); row -1 is the input of the column, and row len(parts)
    its output.
    """

    parts: tuple[Leaf | Fork, ...]
    links: tuple[Edge, ...]


def column_of(view: Block) -> Column:
    """Layout of the boxes of a view, a block whose children are the boxes of a drawing.

    Boxes through which all paths pass form a column. Between two of them, parallel branches form a fork. The same is
    applied recursively to each branch, and to the boxes that a skip connection bypasses.
    """
    boxes, last = view.children, len(view.children)
    taken = {(source, index) for index, child in enumerate(boxes) for source, _ in child.inputs or ((-1, 0),)}
    taken |= {(output[0], last) for output in view.outputs if output}
    # Boxes without users, and labels without inputs, get connections that are not drawn.
    unused = {(index, last) for index in range(last) if index not in {source for source, _ in taken}}
    undrawn = unused | {(-1, index) for index, child in enumerate(boxes) if child.role == "label" and not child.inputs}

    def region(members: Collection[int], start: int, end: int, edges: set[Edge]) -> Column:
        """The column of boxes whose only outer source is `start` and whose only outer user is `end`."""
        parts = parts_of(members, start, end, edges)
        rows = {start: -1, end: len(parts)} | {index: row for row, part in enumerate(parts) for index in indices(part)}
        links = {(rows[source], rows[goal]) for source, goal in edges - undrawn}
        return Column(tuple(parts), tuple(sorted(link for link in links if link[0] != link[1])))

    def parts_of(members: Collection[int], start: int, end: int, edges: set[Edge]) -> list[Leaf | Fork]:
        passed = [index for index in members if not any(source < index < goal for source, goal in edges)]
        parts: list[Leaf | Fork] = []
        for before, after in pairwise([start, *passed, end]):
            inside = [index for index in members if before < index < after]
            inner = {edge for edge in edges if before <= edge[0] and edge[1] <= after} - {(before, after)}
            branches = components(inside, inner)
            if len(branches) > 1:
                groups = [(sorted(group), {edge for edge in inner if group & {*edge}}) for group in branches]
                parts.append(Fork(tuple(region(group, before, after, own) for group, own in groups)))
            elif inside and (before, after) in edges:
                parts += parts_of(inside, before, after, inner)
            else:
                parts += [leaf(index) for index in inside]
            parts += [leaf(after)] if after != end else []
        return parts

    def leaf(index: int) -> Leaf:
        box = boxes[index]
        return Leaf(index, box, column_of(box) if box.role == "frame" and box.children else None)

    return region(range(last), -1, last, taken | unused)


def components(members: Collection[int], edges: set[Edge]) -> list[set[int]]:
    """The connected components of a graph, in the order of their smallest member."""
    groups = [{index} for index in members]
    for source, goal in edges:
        if source in members and goal in members:
            touched = [group for group in groups if source in group or goal in group]
            groups = [*(group for group in groups if group not in touched), set().union(*touched)]
    return sorted(groups, key=min)


def indices(part: Leaf | Fork | Column) -> list[int]:
    """Indices of all blocks in a part of the layout."""
    return [part.index] if isinstance(part, Leaf) else [index for inner in part.parts for index in indices(inner)]


def least_width(part: Leaf | Fork | Column) -> float:
    """Minimum width of a part in pixels, without `overhang`."""
    if isinstance(part, Fork):
        return sum(least_width(inner) + sum(overhang(inner)) + BETWEEN for inner in part.parts) - BETWEEN
    if isinstance(part, Column):
        return max(map(least_width, part.parts), default=LEAST)
    longest = max(text_width(word, 10, True) for word in abbreviated_kind(part.block).split(" "))
    return least_width(part.inside) if part.inside else max(LEAST, min(WORD, 12 + longest))


def overhang(part: Leaf | Fork | Column) -> tuple[float, float]:
    """(left, right): pixels beside the boxes that a part needs for frames, skip connections and edges of repeated
    blocks."""
    if isinstance(part, Fork):
        return 0, 0
    if isinstance(part, Column):
        sides = [(0.0, 0.0), *map(overhang, part.parts)]
        return max(left for left, _ in sides), max(right for _, right in sides) + LANE * len(set(lanes(part).values()))
    if part.inside:
        left, right = overhang(part.inside)
        return left + PAD, right + PAD
    return 0, 5 if part.block.repeat > 1 else 0


def lanes(column: Column) -> dict[int, int]:
    """Assign skip connections to lanes on the right of a column: {row of the source: lane}, lane 0 is the innermost.

    Connections whose rows do not overlap share a lane.
    """
    farthest = {start: end for start, end in column.links if end - start > 1}
    used: list[list[Edge]] = []
    for start, end in sorted(farthest.items(), key=lambda link: (link[1] - link[0], link)):
        free = next((lane for lane in used if all(end <= first or start >= last for first, last in lane)), None)
        if free is None:
            used.append(free := [])
        free.append((start, end))
    return {start: number for number, lane in enumerate(used) for start, _ in lane}


def arrange(part: Leaf | Fork | Column, width: float, totals: Totals) -> Piece:
    """Draw a part of the layout. width: of its boxes in pixels, without `overhang`."""
    if isinstance(part, Column):
        return stack(part, width, totals)
    if isinstance(part, Fork):
        return branches(part, width, totals)
    return frame(part, width, totals) if part.inside else box(part.block, width, totals)


def stack(column: Column, width: float, totals: Totals) -> Piece:
    """Draw the parts of a column one below the other, with arrows between neighbors and skip connections on the
    right."""
    pieces = [arrange(part, width, totals) for part in column.parts]
    lane_of, middle = lanes(column), width / 2
    markup: list[str] = []
    tops, bottoms, y, shape = [], [0.0], 0.0, ""
    for row, piece in enumerate(pieces):
        top = y + (GAP if row else 0) + (FORK if row - 1 in lane_of else 0)
        if top > y and (row - 1, row) in column.links:
            markup.append(route((middle, y), (middle, top), head=piece.arrowhead))
        markup += [shape_label(shape, middle, y + GAP / 2, width), translated(piece.markup, 0, top)]
        tops.append(top)
        y, shape = top + piece.height, piece.shape
        bottoms.append(y)
    y += GAP if any(end == len(pieces) and end - start > 1 for start, end in column.links) else 0
    markup.append(long_links(column, pieces, [*tops, y], bottoms, width) if lane_of else "")
    arrowhead = bool(pieces) and pieces[0].arrowhead and -1 not in lane_of
    return Piece("".join(markup), y, arrowhead, shape=shape)


def long_links(column: Column, pieces: list[Piece], tops: list[float], bottoms: list[float], width: float) -> str:
    """Draw skip connections: from a dot below the source to the right side of the user, or to the column's output.

    tops: y of the top of each row and of the output. bottoms: y of the bottom of the input and of each row.
    """
    middle, lane_of = width / 2, lanes(column)
    inner = width + max(overhang(part)[1] for part in column.parts)
    long = [link for link in column.links if link[1] - link[0] > 1]
    markup: list[str] = []
    for start, end in long:
        level = bottoms[start + 1] + (GAP if start >= 0 else 0)
        x = inner + LANE * (lane_of[start] + 0.5)
        others = [first for first, goal in long if goal == end]
        piece = pieces[end] if end < len(pieces) else Piece("", 0)
        shift = (len(others) - 1) / 2 - others.index(start)
        y = tops[end] + piece.side_y + shift * min(6, 2 * piece.side_y / len(others))
        goal = [(piece.side_x, y)] if piece.side_x else [(middle, tops[end] - 8), (middle, tops[end])]
        markup.append(tag("circle", cx=middle, cy=level, r=2.2, fill=LINE))
        if (start, start + 1) not in column.links:
            markup.append(route((middle, bottoms[start + 1]), (middle, level), head=False))
        markup.append(route((middle, level), (x, level), (x, goal[0][1]), *goal, head=piece.arrowhead))
    return "".join(dict.fromkeys(markup))


def shape_label(shape: str, x: float, y: float, width: float) -> str:
    """The shape of a tensor as SVG text beside its arrow; "" if there is no room. width: of the box, in pixels."""
    size, room = 10.0, width / 2 + BETWEEN - 8
    if text_width(shape, size) > room:
        shape, size = shape.replace(" ", ""), 9.0
    return text(x + 7, y + 3, shape, size, opacity=SOFT) if shape and text_width(shape, size) <= room else ""


def branches(fork: Fork, width: float, totals: Totals) -> Piece:
    """Draw the branches of a fork side by side, with lines that split above and merge below."""
    hangs, least = [overhang(part) for part in fork.parts], [least_width(part) for part in fork.parts]
    extra = width - sum(least) - sum(map(sum, hangs)) - BETWEEN * (len(least) - 1)
    widths = [own + max(0.0, extra) / len(least) for own in least]
    pieces = [arrange(part, own, totals) for part, own in zip(fork.parts, widths, strict=True)]
    fed = any(start == -1 for part in fork.parts for start, _ in part.links)
    top = 20.0 if fed else 0.0
    bottom = top + max(piece.height for piece in pieces)
    x, height, center, markup = 0.0, bottom, width / 2, []
    for part, piece, own, (left, right) in zip(fork.parts, pieces, widths, hangs, strict=True):
        x += left
        middle, bottom_y = x + own / 2, top + piece.height
        corners = (center, 0), (center, 6), (middle, 6), (middle, top)
        markup += [route(*corners, head=piece.arrowhead) if fed else "", translated(piece.markup, x, top)]
        if any(end == len(part.parts) for _, end in part.links):
            height, turn = bottom + 8, bottom + 6
            markup.append(route((middle, bottom_y), (middle, turn), (center, turn), (center, height), head=False))
        x += own + right + BETWEEN
    return Piece("".join(markup), height, arrowhead=False)


def frame(part: Leaf, width: float, totals: Totals) -> Piece:
    """Draw a frame with the name of its block around its boxes."""
    assert part.inside is not None
    block, (left, right) = part.block, overhang(part)
    inner = stack(part.inside, width, replace(totals, times=totals.times * block.repeat))
    middle, top = width / 2, 26.0
    height = top + inner.height + 10
    title, room = f"{short_name(block.name)}{SEPARATOR}{block.kind}", middle + left - 12
    title = shortened(title if text_width(title, 10) <= room else block.kind, room, 10)
    ink = {"fill": "currentColor", "fill_opacity": 0.035, "stroke": "currentColor", "stroke_opacity": 0.25}
    markup = [
        tag("rect", x=-left, y=0, width=width + left + right, height=height, rx=7, **ink),
        text(7 - left, 14, title, 10, opacity=SOFT),
        text(width + right - 8, 16, f"{TIMES} {block.repeat}", 12, "end", font_weight=600) if block.repeat > 1 else "",
        route((middle, 0), (middle, top), head=inner.arrowhead),
        translated(inner.markup, 0, top),
        route((middle, top + inner.height), (middle, height), head=False),
    ]
    return Piece("".join(markup), height, arrowhead=False, shape=shape_of(block))
