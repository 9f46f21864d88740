"""The order of a drawing: what stands below what, and what beside what.

Items that feed each other are taken together, again and again: a chain is a Column, branches between the same two
neighbors are a Fork. Most networks are one Column in the end; what is not has its connections listed as `links`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from .view import Part, View

IN, OUT = -1, -2


@dataclass(frozen=True)
class Leaf:
    """An item by its place in the view."""

    place: int


@dataclass(frozen=True)
class Column:
    """Flows one below the other, each feeding the next. Where it is not as simple, links: who feeds whom, by place
    among the flows; -1 is the input, and `len(flows)` the output."""

    flows: tuple["Flow", ...]
    links: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Fork:
    """Flows side by side between the same two neighbors. bypass: a connection that leads past all of them."""

    flows: tuple["Flow", ...]
    bypass: bool


@dataclass(frozen=True)
class Frame:
    """A column that is the inside of an opened block."""

    part: Part
    column: Column


Flow = Leaf | Column | Fork | Frame


@dataclass
class Knot:
    """A part of the graph while it is being taken together."""

    flow: Flow
    before: set[int] = field(default_factory=set)
    after: set[int] = field(default_factory=set)


def flow_of(view: View) -> Column:
    """The items of a view as one column from its input to its outputs."""
    knots = {place: Knot(Leaf(place)) for place in range(len(view.items))}
    knots |= {IN: Knot(Column(())), OUT: Knot(Column(()))}
    for place, item in enumerate(view.items):
        connect(knots, item.sources or (IN,), place)
    connect(knots, view.outputs, OUT)
    for place in range(len(view.items)):
        if not knots[place].after:  # whose result nobody takes
            connect(knots, (place,), OUT)
    while any(take(knots, place) for place in sorted(knots) if place in knots):
        pass
    order = sorted(place for place in knots if place >= 0)
    rank = {IN: -1, OUT: len(order)} | {place: number for number, place in enumerate(order)}
    links = [(rank[place], rank[goal]) for place, knot in knots.items() for goal in knot.after]
    if len(order) == 1:
        only = knots[order[0]].flow
        return only if isinstance(only, Column) and not only.links else Column((only,))
    return Column(tuple(knots[place].flow for place in order), tuple(sorted(links)))


def connect(knots: dict[int, Knot], places: Iterable[int], goal: int) -> None:
    """Let `goal` take from all these."""
    for place in places:
        knots[place].after.add(goal)
        knots[goal].before.add(place)


def take(knots: dict[int, Knot], place: int) -> bool:
    """Take a knot together with its neighbor or its like, if that can be done."""
    knot = knots[place]
    if place < 0 or len(knot.before) != 1 or len(knot.after) != 1:
        return place >= 0 and len(knot.after) == 1 and chain(knots, place)
    (start,), (end,) = knot.before, knot.after
    alike = [other for other in sorted(knots[start].after) if other >= 0 and other != end]
    alike = [other for other in alike if knots[other].before == {start} and knots[other].after == {end}]
    past = end in knots[start].after
    if len(alike) > 1 or past:
        inner: list[Flow] = []
        bypass = past
        for other in alike:
            flow = knots[other].flow
            inner += flow.flows if isinstance(flow, Fork) else (flow,)
            bypass |= isinstance(flow, Fork) and flow.bypass
        knots[start].after -= {*alike, end}
        knots[end].before -= {*alike, start}
        for other in alike:
            del knots[other]
        knots[min(alike)] = Knot(Fork(tuple(sorted(inner, key=lambda flow: min(places_in(flow)))), bypass))
        connect(knots, (start,), min(alike))
        connect(knots, (min(alike),), end)
        return True
    return chain(knots, place)


def chain(knots: dict[int, Knot], place: int) -> bool:
    """Put the only one that takes from a knot, and from nothing else, below it."""
    (end,) = knots[place].after
    if end < 0 or knots[end].before != {place}:
        return False
    flows = [flow.flows if isinstance(flow, Column) else (flow,) for flow in (knots[place].flow, knots[end].flow)]
    knots[place].flow = Column((*flows[0], *flows[1]))
    knots[place].after = knots[end].after
    for goal in knots[end].after:
        knots[goal].before = (knots[goal].before - {end}) | {place}
    del knots[end]
    return True


def places_in(flow: Flow) -> list[int]:
    """The places of all items in a flow."""
    if isinstance(flow, Leaf):
        return [flow.place]
    inside = (flow.column,) if isinstance(flow, Frame) else flow.flows
    return [place for inner in inside for place in places_in(inner)]


def with_frames(flow: Flow, view: View, depth: int = 0) -> Flow:
    """The flow with a frame around every stretch that is the whole inside of an opened block and worth one."""
    if isinstance(flow, Fork):
        return Fork(tuple(with_frames(inner, view, depth) for inner in flow.flows), flow.bypass)
    if not isinstance(flow, Column):
        return flow
    if flow.links:
        return Column(tuple(with_frames(inner, view, depth) for inner in flow.flows), flow.links)
    result: list[Flow] = []
    for part, group in groupby(flow.flows, lambda inner: common_part(inner, view, depth)):
        column = Column(tuple(group))
        if part is None:
            result += [with_frames(inner, view, depth) for inner in column.flows]
            continue
        inside = with_frames(column, view, depth + 1)
        assert isinstance(inside, Column)
        whole = sum(part in item.parts for item in view.items) == len(places_in(column))
        result += [Frame(part, inside)] if whole and deserves_frame(part, view) else inside.flows
    return Column(tuple(result))


def common_part(flow: Flow, view: View, depth: int) -> Part | None:
    """The opened block at this depth around all items of a flow, if there is one."""
    parts = {view.items[place].parts[depth : depth + 1] for place in places_in(flow)}
    (found,) = parts if len(parts) == 1 else [()]
    return found[0] if found else None


def deserves_frame(part: Part, view: View) -> bool:
    """Whether it comes several times, or is a block of more than one item that is not all there is."""
    count = sum(part in item.parts for item in view.items)
    return part.repeat > 1 or (part.role == "block" and 1 < count < 0.75 * len(view.items))


def nesting(column: Column) -> list[tuple[Column, Column]]:
    """Levels of bypasses within each other, from the outermost: (what comes before the bypass and feeds it, what takes
    from it); the last is (the innermost column, nothing). One level where there are none."""
    forks = [place for place, flow in enumerate(column.flows) if isinstance(flow, Fork)]
    if len(forks) == 1 and not column.links:
        (place,) = forks
        fork, before, after = column.flows[place], column.flows[:place], column.flows[place + 1 :]
        simple = all(isinstance(flow, Leaf) for flow in (*before, *after)) and before and after
        if simple and isinstance(fork, Fork) and fork.bypass and len(fork.flows) == 1:
            inner = fork.flows[0] if isinstance(fork.flows[0], Column) else Column(fork.flows)
            return [(Column(before), Column(after)), *nesting(inner)]
    return [(column, Column(()))]
