"""Draw an architecture as SVG panels: first the whole model, then blocks that are a single box in an earlier panel."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ...errors import printable
from ..style import INK
from .boxes import SOFT, Panel, Totals, quantity, shortened, tag, text, translated
from .layout import arrange, column_of, least_width, overhang
from .siamese import siamese_networks, siamese_panel
from .tree import Architecture, Block, shape_text
from .unet_layout import unet_layout, unet_skips
from .view import class_name, shape_of, view_of, with_labels

WIDTH, HEIGHT, TALLEST = 348.0, 1030.0, 1290.0
"""Pixels: width of a phone, height of a printed page, maximum height of a U-Net or of the panel of a block."""

MAX_PANELS, MAX_BOXES = 5, 120
"""Maximum number of panels, and of boxes in a panel."""
FEW_BOXES, MIN_SHARE = 4, 0.02
"""A panel with up to FEW_BOXES boxes is expanded even if it then exceeds the size limits. A block gets its own panel
only if it has at least MIN_SHARE of the model's parameters or multiply-adds."""


@dataclass(frozen=True)
class Draft:
    """A panel that may be drawn again with more detail.

    boxes: (box, number of its repetitions). fits: whether width and height are within the limits. unet: whether it is
    drawn as a U-Net.
    """

    panel: Panel
    boxes: tuple[tuple[Block, int], ...]
    fits: bool
    unet: bool


def panels_of(architecture: Architecture) -> list[Panel]:
    """The panels of an architecture; [] if it could not be traced, or if it has too many blocks to draw."""
    if architecture.model is None:
        return []
    image, pair = f"image {shape_text(architecture.image)}", siamese_networks(architecture)
    if pair is None:
        return block_panels(
            architecture.name or architecture.model.kind, architecture.model, image, architecture.outputs
        )
    return [siamese_panel(architecture, *pair, WIDTH), *block_panels("backbone", pair[0][0], image, ("features",))]


def block_panels(title: str, root: Block, input_label: str, outputs: Sequence[str]) -> list[Panel]:
    """The panel of a block, followed by panels of the blocks inside it that this panel draws as one box.

    At most two panels show blocks of the same class. input_label, outputs: labels at the input and at the outputs.
    """
    first = draw(title, "", with_labels(root, input_label, outputs))
    drafts = [first] if first else []
    seen: dict[str, list[object]] = {}
    for draft in drafts:  # the loop appends drafts
        for box, share in sorted(closed_blocks(draft, root), key=lambda item: -item[1]):
            known, shape = seen.setdefault(class_name(box), []), structure(box)
            if shape in known or len(known) > 1 or share < MIN_SHARE or len(drafts) == MAX_PANELS:
                continue
            note = f"{box.name}, one of {box.repeat}" if box.repeat > 1 else box.name
            drawn = draw(class_name(box), note, with_labels(replace(box, repeat=1), "input", ()))
            if drawn is not None and drawn.panel.height <= TALLEST:
                drafts.append(drawn)
                known.append(shape)
    return [draft.panel for draft in drafts]


def closed_blocks(draft: Draft, root: Block) -> Iterator[tuple[Block, float]]:
    """Yield (block, share) for each block that has children but is drawn as one box.

    share: its share of the parameters or of the multiply-adds of `root`, whichever is larger.
    """
    for box, times in draft.boxes:
        if box.role == "block" and box.children:
            costs = (box.parameters, root.parameters), (box.multiply_adds, root.multiply_adds)
            yield box, max(times * own / max(1, total) for own, total in costs)


def structure(block: Block) -> object:
    """The classes and connections in a block. They are equal for blocks whose drawings differ only in numbers."""
    return class_name(block), tuple((structure(child), child.inputs) for child in block.children)


def draw(title: str, note: str, root: Block) -> Draft | None:
    """The panel of a block; None if it has too many boxes.

    Starting with the class that costs most, blocks of more and more classes are replaced by the boxes of their
    children, as far as the panel fits. title, note: first lines of the panel.
    """
    expanded: set[str] = set()
    tried: set[str] = set()
    best = draft_of(title, note, root, expanded)
    while best is not None:
        shares: dict[str, float] = {}
        for box, share in closed_blocks(best, root):
            shares[class_name(box)] = shares.get(class_name(box), 0) + share
        kind = max(shares.keys() - tried, key=lambda name: (shares[name], name), default=None)
        if kind is None:
            return best
        tried.add(kind)
        trial = draft_of(title, note, root, expanded | {kind})
        if trial is not None and ((trial.fits and trial.unet >= best.unet) or len(best.boxes) <= FEW_BOXES):
            expanded.add(kind)
            best = trial
    return None


def draft_of(title: str, note: str, root: Block, expanded: set[str]) -> Draft | None:
    """Draw the panel of a block; None if it has more than MAX_BOXES boxes.

    expanded: class names ("Bottleneck"). Blocks of these classes are drawn as the boxes of their children, all others
    as one box. title, note: first lines of the panel.
    """
    view, totals = view_of(root, expanded), Totals(root.parameters, root.multiply_adds)
    boxes = tuple(boxes_in(view))
    if len(boxes) > MAX_BOXES:
        return None
    column = column_of(view)
    left, right = overhang(column)
    width = max(WIDTH - 4, least_width(column) + left + right)
    skips = unet_skips(column)
    inner = width - left - right
    piece = unet_layout(column, skips, width, totals) if skips else arrange(column, inner, totals)
    fits = width <= WIDTH - 4 and piece.height <= (TALLEST if skips else HEIGHT)
    sizes = f"{quantity(root.parameters)} parameters, {quantity(root.multiply_adds)} multiply-adds"
    markup, y = [text(2, 17, shortened(title, width, 13, True), 13, font_weight=600)], 17.0
    for words in filter(None, (note, sizes, "Boxes: parameters, multiply-adds; bars: shares of the total.")):
        y += 15
        markup.append(text(2, y, shortened(words, width, 10.5), 10.5, opacity=SOFT))
    markup.append(translated(piece.markup, 2 + (0 if skips else left), y + 12))
    steps = [f"{f'{times} times ' if times > 1 else ''}{class_name(box)} to {shape_of(box)}" for box, times in boxes]
    panel = Panel(
        title, f"{title}, {sizes}: {', then '.join(steps)}", "".join(markup), width + 4, y + piece.height + 16
    )
    return Draft(panel, boxes, fits, bool(skips))


def boxes_in(view: Block, times: int = 1) -> Iterator[tuple[Block, int]]:
    """Yield (box, number of its repetitions) for all boxes of a view, including those inside frames, except labels."""
    for box in view.children:
        if box.role == "frame":
            yield from boxes_in(box, times * box.repeat)
        elif box.role != "label":
            yield box, times * box.repeat


def page_svg(panel: Panel) -> str:
    """A panel as an SVG element of an HTML page, in the text color of the page."""
    size = {"width": panel.width, "height": panel.height, "viewBox": f"0 0 {panel.width:g} {panel.height:g}"}
    return tag("svg", panel.markup, **size, role="img", aria_label=panel.alt)


def file_svg(panels: Sequence[Panel]) -> str:
    """All panels as one SVG file on a white background.

    The first panel has a column of its own; the others are arranged in columns of the height of a page.
    """
    margin, gap = 16.0, 28.0
    x, height, markup = margin, 0.0, []
    columns = [[panels[0]]]
    for panel in panels[1:]:
        if len(columns) == 1 or sum(one.height for one in [*columns[-1], panel]) > max(HEIGHT, panels[0].height):
            columns.append([])
        columns[-1].append(panel)
    for column in columns:
        y = margin
        for panel in column:
            markup.append(translated(panel.markup, x, y))
            y += panel.height + gap / 2
        x += max(panel.width for panel in column) + gap
        height = max(height, y)
    width, height = x - gap + margin, height + margin - gap / 2
    background = tag("rect", width=width, height=height, fill="#ffffff")
    title = tag("title", html.escape(printable(panels[0].title)))
    fonts = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
    size = {"width": width, "height": height, "viewBox": f"0 0 {width:g} {height:g}", "font_family": fonts}
    return tag(
        "svg", title, background, tag("g", *markup, fill=INK), xmlns="http://www.w3.org/2000/svg", color=INK, **size
    )
