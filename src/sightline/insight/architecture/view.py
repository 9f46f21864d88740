"""Which blocks of an architecture a drawing shows, and who feeds whom among them.

A tree of blocks is cut: some blocks are opened and their children shown, others stay closed. A layer takes the
normalization and activation behind it into its own box, as one draws it by hand.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from .tree import DASH, TIMES, Block, Source, span

WEIGHTED = ("convolution", "linear", "attention", "product", "block", "sequence")
FUSED = ("norm", "activation", "dropout", "scale")
LONGEST_CHAIN, MOST_PORTS = 7, 64

Values = list[tuple[int, int]]
"""Tensors while a view is made: (item, port)."""

UNKNOWN = (-1 << 20, 0)


@dataclass(frozen=True)
class Part:
    """An opened block around items. path: from the root; repeat: how often all of it comes."""

    path: str
    kind: str
    role: str
    repeat: int


@dataclass(frozen=True)
class Item:
    """One box of a drawing, or a join.

    words: what happens in it, in order; main: which of them matters. shape: of what comes out, as text. parameters,
    multiply_adds: of all repetitions together. sources: the items that it takes from, -1 for what comes in. parts:
    the opened blocks around it, the outermost first. block: what it is, closed.
    """

    name: str
    words: tuple[str, ...]
    main: int
    role: str
    shape: str
    parameters: int
    multiply_adds: int
    repeat: int
    sources: tuple[int, ...]
    parts: tuple[Part, ...]
    block: Block


@dataclass(frozen=True)
class View:
    """The items in the order in which they run, and those that give the outputs (-1: an input is passed on)."""

    items: tuple[Item, ...]
    outputs: tuple[int, ...]


def view_of(root: Block, opened: Collection[str]) -> View:
    """What is seen of a block with blocks of the kinds in `opened` open, and all sequences."""
    items: list[Item] = []

    def put(block: Block, given: Values, path: str, count: int, parts: tuple[Part, ...]) -> Values:
        leaves = chain_of(block)
        if given and leaves is not None and all(leaf.role == "identity" for leaf in leaves):
            return given[:1]
        count *= block.repeat
        if block is root or (block.children and leaves is None and (block.role == "sequence" or block.kind in opened)):
            inner = parts if block is root else (*parts, Part(path, block.kind, block.role, block.repeat))
            results: list[Values] = []
            for child in block.children:
                sources = [found for source in child.inputs for found in pick(source, given, results)]
                results.append(put(child, sources, f"{path}.{child.name}" if path else child.name, count, inner))
            return [found for output in block.outputs for found in (pick(output, given, results) or [UNKNOWN])]
        used = ports_used(block)
        taken = [value for port, value in enumerate(given) if used is None or port in used]
        items.append(item_of(block, leaves, path, count, distinct(taken), parts))
        return [(len(items) - 1, port) for port in range(MOST_PORTS)]

    found = put(root, [(-1 - port, 0) for port in range(MOST_PORTS)], "", 1, ())
    return repeated(fused(with_inputs(View(tuple(items), distinct(found)))))


def ports_used(block: Block) -> set[int] | None:
    """Which of its inputs a block makes use of; None: all. Some take a list of maps and leave the first one aside."""
    if not block.children:
        return None
    used = {output[1] for output in block.outputs if output is not None and output[0] < 0}
    for child in block.children:
        inner = ports_used(child)
        for port, (place, source) in enumerate(child.inputs):
            used |= {source} if place < 0 and (inner is None or port in inner) else set()
    return used


def distinct(values: Values) -> tuple[int, ...]:
    """The items that values come from, each once."""
    return tuple(dict.fromkeys(place for place, _ in values if place != UNKNOWN[0]))


def with_inputs(view: View) -> View:
    """The view with an item for each input, where there are several; until then the port-th input is -1 - port."""
    used = sorted({place for item in view.items for place in item.sources if place < 0}, reverse=True)
    if len(used) < 2:
        moved = {place: max(place, -1) for place in (*used, *view.outputs, *range(len(view.items)))}
        items = view.items
    else:
        moved = {place: number for number, place in enumerate(used)}
        moved |= {place: place + len(used) for place in range(len(view.items))}
        moved |= {place: -1 for place in view.outputs if place not in moved}
        words = [f"input {number}" for number in range(1, len(used) + 1)]
        nothing = Block("", "", "input", (), 0, 0, 0, 1, (), (), ())
        items = tuple(Item(name, (name,), 0, "input", "", 0, 0, 1, (-1,), (), nothing) for name in words)
        items += view.items
    first = len(items) - len(view.items)
    changed = [
        replace(item, sources=tuple(dict.fromkeys(moved[source] for source in item.sources)))
        if place >= first
        else item
        for place, item in enumerate(items)
    ]
    return View(tuple(changed), tuple(dict.fromkeys(moved[output] for output in view.outputs)))


def pick(source: Source | None, given: Values, results: list[Values]) -> Values:
    """[what a source of a child is among all items], [] where that is not known."""
    if source is None:
        return []
    place, port = source
    values = given if place < 0 else results[place]
    return values[port : port + 1]


def item_of(
    block: Block, leaves: list[Block] | None, path: str, count: int, sources: tuple[int, ...], parts: tuple[Part, ...]
) -> Item:
    """A closed block as an item. leaves: of a short chain with one layer that has weights, its layers."""
    shown = [leaf for leaf in leaves or [block] if leaf.role != "identity"] or [block]
    heavy = [place for place, leaf in enumerate(shown) if leaf.role in WEIGHTED]
    main = heavy[0] if heavy else 0
    shapes = block.shapes or ((),)
    return Item(
        name=path,
        words=tuple(leaf.kind for leaf in shown),
        main=main,
        role=shown[main].role,
        shape=shape_text(shapes[0]) if len(set(shapes)) == 1 else f"{len(shapes)} maps",
        parameters=count * block.parameters,
        multiply_adds=count * block.multiply_adds,
        repeat=block.repeat,
        sources=sources,
        parts=parts,
        block=block,
    )


def shape_text(shape: tuple[int, ...]) -> str:
    """`64 x 112 x 112`; "1" for a single number."""
    return f" {TIMES} ".join(map(str, shape)) or "1"


def chain_of(block: Block) -> list[Block] | None:
    """The layers of a block that is nothing but a short chain with at most one layer that has weights; else None."""
    if not block.children:
        return [block]
    leaves: list[Block] = []
    for place, child in enumerate(block.children):
        inner = chain_of(child)
        follows = all(source == place - 1 for source, _ in child.inputs)
        if inner is None or not follows or child.repeat > 1:
            return None
        leaves += inner
    heavy = sum(leaf.role in WEIGHTED for leaf in leaves)
    ends = all(output is not None and output[0] == len(block.children) - 1 for output in block.outputs)
    return leaves if heavy <= 1 and len(leaves) <= LONGEST_CHAIN and ends else None


def users_of(view: View) -> list[set[int]]:
    """Who takes from each item; an output of the whole counts as one more, -1."""
    users: list[set[int]] = [set() for _ in view.items]
    for place, item in enumerate(view.items):
        for source in item.sources:
            if source >= 0:
                users[source].add(place)
    for output in view.outputs:
        if output >= 0:
            users[output].add(-1)
    return users


def merged(view: View, into: dict[int, tuple[int, Item]]) -> View:
    """The view without the items in `into`, each of which went into an earlier one, given with what that became."""
    changed: dict[int, Item] = dict(enumerate(view.items))
    target = {place: place for place in range(-1, len(view.items))}
    for place, (goal, item) in into.items():
        target[place] = target[goal]
        changed[target[goal]] = item
    kept = [place for place in range(len(view.items)) if place not in into]
    moved = {-1: -1} | {place: number for number, place in enumerate(kept)}
    move = {place: moved[goal] for place, goal in target.items()}
    items = [
        replace(changed[place], sources=tuple(dict.fromkeys(move[source] for source in view.items[place].sources)))
        for place in kept
    ]
    return View(tuple(items), tuple(dict.fromkeys(move[output] for output in view.outputs)))


def fused(view: View) -> View:
    """Normalization, activation and dropout in the box of the layer before them, where that feeds nobody else."""
    users, current, into = users_of(view), dict(enumerate(view.items)), {}
    home = {place: place for place in current}
    for place, item in enumerate(view.items):
        if item.role not in FUSED or len(item.sources) != 1 or item.sources[0] < 0 or item.repeat > 1:
            continue
        before = item.sources[0]
        goal = home[before]
        layer = current[goal]
        takes = layer.role in WEIGHTED[:4] or (layer.role == "join" and item.role == "activation")
        takes |= item.role == "scale" or (layer.role in FUSED and item.role == "activation")
        if users[before] != {place} or not takes or layer.parts != item.parts or layer.repeat > 1:
            continue
        current[goal] = replace(
            layer,
            words=layer.words + item.words,
            shape=item.shape,
            parameters=layer.parameters + item.parameters,
            multiply_adds=layer.multiply_adds + item.multiply_adds,
        )
        home[place] = goal
        into[place] = (before, current[goal])
    return merged(view, into)


def repeated(view: View) -> View:
    """Equal layers in a row as one, such as convolutions that have names of their own."""
    users, current, into = users_of(view), dict(enumerate(view.items)), {}
    home = {place: place for place in current}
    for place, item in enumerate(view.items):
        before = place - 1
        if before < 0 or item.sources != (before,) or users[before] != {place} or item.role not in WEIGHTED[:2]:
            continue
        first = current[home[before]]
        once = (first.parameters // first.repeat, first.multiply_adds // first.repeat)
        alike = (item.words, item.shape, item.parts) == (first.words, first.shape, first.parts)
        if alike and item.repeat == 1 and (item.parameters, item.multiply_adds) == once:
            home[place] = home[before]
            name, repeat = span(first.name.partition(DASH)[0], item.name), first.repeat + 1
            costs = {"parameters": repeat * once[0], "multiply_adds": repeat * once[1]}
            current[home[place]] = replace(first, name=name, repeat=repeat, **costs)
            into[place] = (before, current[home[place]])
    return merged(view, into)
