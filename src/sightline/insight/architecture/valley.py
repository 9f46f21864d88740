"""An encoder beside its decoder, as one draws a U-Net."""

from collections.abc import Sequence
from itertools import pairwise

from .flow import Column, Leaf
from .layout import GAP, Sheet, arrange, carried
from .marks import Piece, arrow, arrowhead, line, moved, text

MIDDLE, LEVEL, HEAD = 30.0, 27.0, 40.0
"""Pixels between the two sides, from one level to the next, and above the first."""


def side_width(width: float) -> float:
    """How wide the boxes of each side are in a drawing of this width."""
    return (width - MIDDLE) / 2


def valley(levels: Sequence[tuple[Column, Column]], width: float, sheet: Sheet) -> Piece:
    """The encoder goes down on the left, the decoder comes up on the right, with lines across where the one feeds the
    other; levels as `nesting` gives them."""
    own = side_width(width)
    left, right = own / 2, own + MIDDLE + own / 2
    marks: list[str] = []
    climbs: list[tuple[float, float, Column]] = []  # on the right: foot, top, and what gives what leaves at the top
    foot, y = 0.0, HEAD
    for number, (down, up) in enumerate(levels[:-1]):
        piece, boxes = arrange(down, own, sheet), [arrange(flow, own, sheet) for flow in up.flows]
        foot_before, foot = foot, y + max(piece.height, sum(box.height + GAP for box in boxes) - GAP)
        top = foot - piece.height
        marks.append(moved(piece.marks, 0, top))
        marks.append(
            arrow(left, foot_before, top) + carried(levels[number - 1][0], own, (foot_before + top) / 2, sheet)
            if number
            else text(left, top - 24, sheet.entrance, 10.5, "middle") + arrow(left, top - 18, top)
        )
        climb, peak = rising(up, boxes, own, foot, sheet)
        last = arrange(down.flows[-1], own, sheet)
        marks += [climb, across(own + last.right, own + MIDDLE, foot - min(last.height, boxes[0].height) / 2)]
        climbs.append((foot, peak, up))
        y = foot + LEVEL
    floor = lowest(levels[-1][0], own, foot, sheet, levels[-2][0])
    climbs.append((0.0, floor.side, levels[-1][0]))
    for (goal, _, _), (_, start, below) in pairwise(climbs):
        marks.append(arrow(right, start, goal) + carried(below, own, (start + goal) / 2, sheet, own + MIDDLE))
    final = levels[0][1].flows[-1]
    assert isinstance(final, Leaf), "`nesting` lets nothing else in"
    words = f"{sheet.ends.get(final.place, 'output')} {sheet.view.items[final.place].shape}"
    peak = climbs[0][1]
    marks += [floor.marks, arrow(right, peak, peak - 18), text(right, peak - 24, words, 10.5, "middle")]
    return Piece("".join(marks), width, floor.height, headed=False)


def rising(up: Column, boxes: Sequence[Piece], own: float, foot: float, sheet: Sheet) -> tuple[str, float]:
    """(marks of boxes one above the other on the right with arrows up, where the topmost begins); the first stands on
    `foot`."""
    marks: list[str] = []
    y, middle, aside = foot, own + MIDDLE + own / 2, own + MIDDLE
    for place, piece in enumerate(boxes):
        if place:
            marks.append(arrow(middle, y, y - GAP) + carried(up.flows[place - 1], own, y - GAP / 2, sheet, aside))
            y -= GAP
        y -= piece.height
        marks.append(moved(piece.marks, aside, y))
    return "".join(marks), y


def across(start: float, end: float, y: float) -> str:
    """An arrow to the right."""
    return line(f"M{start:.1f} {y:.1f}H{end - 5:.1f}") + arrowhead(end, y, 5, 0)


def lowest(column: Column, own: float, foot: float, sheet: Sheet, before: Column) -> Piece:
    """The deepest level: its last box stands on the right where there are several, the others on the left. `side` is
    where the arrow up on the right begins."""
    flows, left, right, top = list(column.flows), own / 2, own + MIDDLE + own / 2, foot + LEVEL
    crossing = flows.pop() if len(flows) > 1 and isinstance(flows[-1], Leaf) else None
    piece, last = arrange(Column(tuple(flows)), own, sheet), arrange(flows[-1], own, sheet)
    bottom = top + piece.height
    marks = [arrow(left, foot, top, piece.headed), carried(before, own, (foot + top) / 2, sheet)]
    marks.append(moved(piece.marks, 0, top))
    if crossing is None:
        y = bottom - last.height / 2
        marks.append(line(f"M{own + last.right:.1f} {y:.1f}H{right - 6:.1f}q6 0 6 -6"))
        return Piece("".join(marks), 0, bottom + 3, side=y - 6)
    goal = arrange(crossing, own, sheet)
    marks.append(across(own + last.right, own + MIDDLE, bottom - min(last.height, goal.height) / 2))
    marks.append(moved(goal.marks, own + MIDDLE, bottom - goal.height))
    return Piece("".join(marks), 0, bottom + 3, side=bottom - goal.height)
