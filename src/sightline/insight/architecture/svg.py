"""An architecture as a drawing for a paper: panels of boxes from top to bottom, as SVG text.

The first panel is the whole model, the others the insides of the blocks that it leaves closed.
"""

import html
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...errors import printable
from ..style import INK
from .boxes import COLUMNS, THIN, WIDE, Whole, quantity
from .flow import Column, Flow, Fork, Frame, Leaf, flow_of, nesting, places_in, with_frames
from .layout import Sheet, arrange, begins, framed_paths, least_width, overhang
from .marks import SOFT, Panel, Piece, arrow, cut, moved, tag, text
from .pair import pair_of, pair_panel
from .tree import Architecture, Block
from .valley import side_width, valley
from .view import View, shape_text, view_of

WIDTH, HEIGHT, PANELS = 348.0, 960.0, 5
"""Pixels that a panel has, a phone's width and a printed page's height, and the most panels."""

TALLEST, MOST_BOXES = 1.3 * HEIGHT, 120
"""Pixels that the inside of a block may take, or an encoder beside its decoder; boxes that a panel may have."""

FEW = 4
"""Boxes that say too little of a model: then one is opened, however much room its inside takes."""

VALLEY = 4
"""Levels of connections within each other from which on an encoder stands beside its decoder."""

WORTH, WORTH_AGAIN = 0.02, 0.05
"""Share of the parameters or multiply-adds from which on a closed block gets a panel; one of a kind that has one."""


def panels_of(found: Architecture) -> list[Panel]:
    """The drawings of an architecture: none where there is no tree, or one too large to be drawn."""
    if found.root is None:
        return []
    pair, networks = pair_panel(found, WIDTH), pair_of(found)
    if pair is None or networks is None:
        return block_panels(found.name or found.root.kind, found.root, shape_text(found.image), found.outputs)
    return [pair, *block_panels("backbone", networks[0][0], shape_text(found.image), ("features",))]


def block_panels(title: str, root: Block, image: str, outputs: Sequence[str]) -> list[Panel]:
    """A panel for a block, and more for those that stay closed in it, of each kind one or two."""
    first = draw_panel(title, "", root, image, outputs)
    panels, waiting = ([first[0]], [first[1]]) if first else ([], [])
    seen: dict[str, list[object]] = {}
    while waiting:
        closed = [item for item in waiting.pop(0).items if item.role == "block" and item.block.children]
        for item in sorted(closed, key=lambda item: (-item.multiply_adds, -item.parameters)):
            share = max(item.multiply_adds / max(1, root.multiply_adds), item.parameters / max(1, root.parameters))
            known, look = seen.setdefault(item.block.kind.partition(",")[0], []), looks(item.block)
            if look in known or len(known) > 1 or share < (WORTH_AGAIN if known else WORTH) or len(panels) == PANELS:
                continue
            known.append(look)
            note = f"{item.name}, one of {item.repeat}" if item.repeat > 1 else item.name
            drawn = draw_panel(item.block.kind, note, replace(item.block, repeat=1), "", ())
            if drawn is not None and drawn[0].height <= TALLEST:  # the list of blocks has what is larger
                panels.append(drawn[0])
                waiting.append(drawn[1])
    return panels


def looks(block: Block) -> object:
    """What is the same for blocks whose drawings differ in numbers alone."""
    inside = tuple((looks(child), child.inputs) for child in block.children)
    return block.kind.partition(",")[0], inside


def draw_panel(title: str, note: str, root: Block, image: str, outputs: Sequence[str]) -> tuple[Panel, View] | None:
    """The panel of a block, with as much opened as fits, and what it shows; None where it is too much."""
    opened: set[str] = set()
    refused: set[str] = set()
    plan = planned(root, opened, image, outputs)
    if plan is None:
        return None
    view, flow, sheet = plan
    while True:
        kinds: dict[str, int] = {}
        for item in view.items:
            if item.role == "block" and item.block.children and item.block.kind not in refused | opened:
                kinds[item.block.kind] = kinds.get(item.block.kind, 0) + item.multiply_adds + item.parameters
        if not kinds:
            break
        kind = max(kinds, key=lambda name: (kinds[name], name))
        trial = planned(root, opened | {kind}, image, outputs)
        if trial is not None and (fits(*trial[1:]) or len(view.items) <= FEW):
            opened.add(kind)
            view, flow, sheet = trial
        else:
            refused.add(kind)
    return finished(title, note, root, flow, sheet), view


def planned(root: Block, opened: set[str], image: str, outputs: Sequence[str]) -> tuple[View, Column, Sheet] | None:
    """View, flow and sheet of a block with these kinds opened; None where these are more boxes than one can read."""
    view = view_of(root, opened)
    if not 0 < len(view.items) <= MOST_BOXES:
        return None
    flow = with_frames(flow_of(view), view)
    assert isinstance(flow, Column)
    ends = dict(zip(view.outputs, outputs, strict=False)) if len(outputs) == len(view.outputs) else {}
    entrance = f"image {image}" if image else "input"
    around = tuple(filter(None, (prefix_of(view), *framed_paths(flow))))
    return view, flow, Sheet(view, Whole(root.parameters, root.multiply_adds), around, entrance, ends)


def prefix_of(view: View) -> str:
    """The first part of a path that most items share, such as `backbone`."""
    fronts = [item.name.partition(".")[0] for item in view.items if "." in item.name]
    best = max(fronts, key=fronts.count, default="")
    return best if fronts.count(best) > 0.6 * len(view.items) and not best[-1:].isdigit() else ""


def fits(flow: Column, sheet: Sheet) -> bool:
    """Whether a panel would be no larger than it should be."""
    deep = len(nesting(flow)) >= VALLEY
    piece, both = body(flow, sheet)
    small = piece.left + piece.width + piece.right <= WIDTH - 3 and piece.height <= (TALLEST if both else HEIGHT)
    return small and both == deep


def body(flow: Column, sheet: Sheet) -> tuple[Piece, bool]:
    """The marks of a panel's flow at the width that it gets, and whether they have their own input and outputs."""
    levels, room = nesting(flow), side_width(WIDTH - 4)
    columns = [column for level in levels for column in level]
    wide = any(least_width(column, sheet) + max(overhang(column, sheet)) > room for column in columns)
    if len(levels) >= VALLEY and not wide and len(sheet.view.outputs) < 2:
        return valley(levels, WIDTH - 4, sheet), True
    left, right = overhang(flow, sheet)
    width = max(WIDTH - 4 - left - right, least_width(flow, sheet))
    return arrange(flow, width, sheet, True), False


def finished(title: str, note: str, root: Block, flow: Column, sheet: Sheet) -> Panel:
    """A panel with its heading, its input and its outputs."""
    piece, own = body(flow, sheet)
    width, y, left = piece.left + piece.width + piece.right + 4, 17.0, 2 + piece.left
    totals = f"{quantity(root.parameters)} parameters, {quantity(root.multiply_adds)} multiply-adds"
    marks = [text(2, y, cut(title, width - 4, 13, True), 13, font_weight=600)]
    columns = not own and is_wide(flow, piece.width, sheet)
    for words in filter(None, (note, totals, "" if columns else "In a box: parameters, multiply-adds.")):
        y += 15
        marks.append(text(2, y, cut(words, width - 4, 10.5), 10.5, opacity=SOFT))
    says = f"{title}, {totals}: {', then '.join(spoken(sheet.view))}"
    if own:
        return Panel(title, says, "".join([*marks, moved(piece.marks, left, y + 12)]), width, y + piece.height + 16)
    center, y = left + piece.width / 2, y + 22
    if begins(flow, sheet):
        y -= 6
    else:
        marks.append(text(center, y, sheet.entrance, 10.5, "middle"))
        top, y = y + 6, y + (30 if piece.headed else 25)
        marks.append(arrow(center, top, y, piece.headed))
    for name, right in zip(("parameters", "multiply-adds"), COLUMNS, strict=True) if columns else ():
        marks.append(text(left + piece.width - right, y - 10, name, 8.5, "end", opacity=SOFT))
    marks.append(moved(piece.marks, left, y))
    y += piece.height
    if len(sheet.view.outputs) < 2:
        place = max(places_in(flow))
        name, shape = sheet.ends.get(place, "output"), sheet.view.items[place].shape
        marks += [arrow(center, y, y + 18), text(center, y + 30, f"{name} {shape}", 10.5, "middle")]
        y += 36
    return Panel(title, says, "".join(marks), width, y + 4)


def is_wide(flow: Flow, width: float, sheet: Sheet) -> bool:
    """Whether the first box of a flow has its numbers in columns."""
    while not isinstance(flow, Leaf):
        if isinstance(flow, Fork) and len(flow.flows) > 1:
            return False
        flow = flow.column if isinstance(flow, Frame) else flow.flows[0]
    return width >= WIDE and sheet.view.items[flow.place].role not in (*THIN, "join")


def spoken(view: View) -> Iterator[str]:
    """The items in words."""
    for item in view.items:
        times = f"{item.repeat} times " if item.repeat > 1 else ""
        yield f"{times}{item.words[item.main]} to {item.shape}"


def page_svg(panel: Panel) -> str:
    """A panel to stand in a page, in the page's ink."""
    label = {"role": "img", "aria_label": panel.says}
    size = {"width": panel.width, "height": panel.height, "viewBox": f"0 0 {panel.width:g} {panel.height:g}"}
    return tag("svg", panel.marks, **size, **label)


def file_svg(panels: Sequence[Panel]) -> str:
    """All panels as one file on white: the first on the left, the others beside it."""
    margin, gap = 16.0, 28.0
    marks: list[str] = []
    x, height = margin, 0.0
    for column in side_by_side(panels):
        y = margin
        for panel in column:
            marks.append(moved(panel.marks, x, y))
            y += panel.height + gap / 2
        x += max(panel.width for panel in column) + gap
        height = max(height, y)
    width, height = x - gap + margin, height + margin - gap / 2
    ground = tag("rect", width=width, height=height, fill="#ffffff")
    title = tag("title", html.escape(printable(panels[0].title)))
    fonts = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
    size = {"width": width, "height": height, "viewBox": f"0 0 {width:g} {height:g}", "font_family": fonts}
    return tag("svg", title, ground, tag("g", *marks, fill=INK), xmlns="http://www.w3.org/2000/svg", color=INK, **size)


def side_by_side(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Panels in columns: the first alone, the others in one more, or in as many as are about as high."""
    columns = [[panels[0]], *([[]] if len(panels) > 1 else [])]
    room = max(HEIGHT, panels[0].height)
    room = 1.5 * room if sum(panel.height for panel in panels[1:]) <= 1.5 * room else room
    for panel in panels[1:]:
        if columns[-1] and sum(one.height for one in columns[-1]) + panel.height > room:
            columns.append([])
        columns[-1].append(panel)
    return columns
