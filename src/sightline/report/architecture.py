"""The architecture of a run's model: its drawing, and the list of its blocks, each of which opens."""

from pathlib import Path

from ..insight.architecture.boxes import quantity
from ..insight.architecture.svg import WIDTH, file_svg, page_svg, panels_of
from ..insight.architecture.tree import TIMES, Architecture, Block, from_json, shape_text
from .html import Child, Html, element, missing_note
from .run import UNREADABLE, RunFiles
from .sections import HINT

FILE = "architecture.json"
READING = (
    "From top to bottom; each arrow says the shape of what it carries. Numbers are parameters and multiply-adds, and "
    f"those of something that comes several times ({TIMES} n) are of all of them together. The bars are shares of the "
    "whole panel. BN: batch normalization."
)
COUNTED = "Multiply-adds are those of convolutions, linear layers and matrix products; nothing else is counted."
WITHOUT = "There is no architecture.json: runs of earlier versions have none."


def architecture(files: RunFiles) -> tuple[list[Child], str]:
    """(totals, drawing, and the list of blocks; the drawing as the text of an SVG file, "" where there is none)."""
    found, why = read_architecture(files.path)
    if found is None:
        return [missing_note(why)], ""
    notes: list[Child] = [missing_note(note) for note in found.notes]
    if found.model is None:
        return notes or [missing_note("architecture.json has no blocks.")], ""
    panels = panels_of(found)
    # The builder of the marks escapes every text that it is given.
    drawings = [
        element("div", Html(page_svg(panel)), class_="scroll", tabindex="0", role="region", aria_label=panel.title)
        for panel in panels
    ]
    hint = element("span", HINT, class_="hint") if any(panel.width > WIDTH for panel in panels) else None
    drawing = element("figure", element("div", drawings, class_="drawing"), element("figcaption", hint, READING))
    blocks = [entry(block, 1, opened(block, found.model)) for block in found.model.children]
    content: list[Child] = [
        element("p", totals(found)),
        *notes,
        drawing if drawings else missing_note("It has too many blocks to be drawn."),
        element("h3", "Block by block"),
        element("div", heads(), element("ul", blocks), class_="blocks"),
        element("p", COUNTED, class_="small"),
    ]
    return content, file_svg(panels) if panels else ""


def read_architecture(folder: Path) -> tuple[Architecture | None, str]:
    """(what architecture.json says, ""), or (None, why there is nothing)."""
    path = folder / FILE
    if not path.is_file():
        return None, WITHOUT
    try:
        return from_json(path.read_text(encoding="utf-8")), ""
    except UNREADABLE as error:
        why = f"{FILE} cannot be read ({type(error).__name__}: {error})."
        return None, why.replace("\n", " ")[:300]


def totals(found: Architecture) -> str:
    """How large the model is, and for what image it was counted."""
    root = found.model
    assert root is not None, "without blocks there are no totals"
    what = "view" if found.method else "image"
    text = f"{root.parameters:,} parameters; {quantity(root.multiply_adds)} multiply-adds for one {what} of "
    text += shape_text(found.image)
    return f"{text}, both networks together." if any(block.name == "target" for block in root.children) else f"{text}."


def heads() -> Html:
    """The heads of the columns."""
    names = ("Block", "Output", "Parameters", "Multiply-adds")
    return element("div", [element("span", name) for name in names], class_="entry heads")


def opened(block: Block, root: Block) -> bool:
    """Whether a block is most of the model, and so is of no use closed."""
    return block.repeat == 1 and 2 * block.parameters > root.parameters and len(root.children) < 4


def entry(block: Block, times: int, opened: bool = False) -> Html:
    """A block of the list with those in it; times: how often all of it comes."""
    times *= block.repeat
    often = element("b", f" {TIMES} {block.repeat}") if block.repeat > 1 else None
    name = element("small", block.name) if block.name != block.kind else None
    shared = f"{quantity(times * block.shared)} shared" if block.shared else ""
    spans = [
        element("span", block.kind, often, " ", name),
        element("span", ", ".join(dict.fromkeys(map(shape_text, block.shapes)))),
        element("span", quantity(times * block.parameters) if block.parameters or not shared else shared),
        element("span", quantity(times * block.multiply_adds)),
    ]
    if not block.children:
        return element("li", element("div", spans, class_="entry"))
    inside = element("ul", [entry(child, times) for child in block.children])
    return element("li", element("details", element("summary", spans, class_="entry"), inside, open=opened))
