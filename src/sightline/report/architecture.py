"""The architecture of a run's model: a drawing and an expandable list of its blocks."""

from pathlib import Path

from ..insight.architecture.boxes import quantity
from ..insight.architecture.svg import WIDTH, file_svg, page_svg, panels_of
from ..insight.architecture.tree import TIMES, Architecture, Block, from_json, shape_text
from .html import Child, Html, element, missing_note
from .run import UNREADABLE, RunFiles
from .sections import SCROLL

FILE = "architecture.json"
READING = (
    "From top to bottom; each arrow has the shape of its tensor. Numbers are parameters and multiply-adds; those of a "
    f"repeated block ({TIMES} n) are of all its repetitions. The bars are shares of the whole panel. BN: batch "
    "normalization."
)
COUNTED = "Multiply-adds are counted in convolutions, linear layers and matrix products only."
WITHOUT = "There is no architecture.json; runs of earlier versions have none."


def architecture(files: RunFiles) -> tuple[list[Child], str]:
    """(totals, drawing and list of blocks; the drawing as an SVG file, or "" without one)."""
    found, why = read_architecture(files.path)
    if found is None:
        return [missing_note(why)], ""
    notes: list[Child] = [missing_note(note) for note in found.notes]
    if found.model is None:
        return notes or [missing_note("architecture.json has no blocks.")], ""
    panels = panels_of(found)
    # `page_svg` escapes its texts.
    drawings = [
        element("div", Html(page_svg(panel)), class_="scroll", tabindex="0", role="region", aria_label=panel.title)
        for panel in panels
    ]
    hint = element("span", SCROLL, class_="hint") if any(panel.width > WIDTH for panel in panels) else None
    drawing = element("figure", element("div", drawings, class_="drawing"), element("figcaption", hint, READING))
    blocks = [entry(block, 1, opened(block, found.model)) for block in found.model.children]
    content: list[Child] = [
        element("p", totals(found)),
        *notes,
        drawing if drawings else missing_note("It has too many blocks for a drawing."),
        element("h3", "Block by block"),
        element("div", heads(), element("ul", blocks), class_="blocks"),
        element("p", COUNTED, class_="small"),
    ]
    return content, file_svg(panels) if panels else ""


def read_architecture(folder: Path) -> tuple[Architecture | None, str]:
    """(the architecture in architecture.json, ""), or (None, why there is none)."""
    path = folder / FILE
    if not path.is_file():
        return None, WITHOUT
    try:
        return from_json(path.read_text(encoding="utf-8")), ""
    except UNREADABLE as error:
        return None, f"{FILE} cannot be read ({type(error).__name__}: {error}).".replace("\n", " ")[:300]


def totals(found: Architecture) -> str:
    """Parameters and multiply-adds of the model, and the image size that they were counted for."""
    root = found.model
    assert root is not None, "without blocks there are no totals"
    what = "view" if found.method else "image"
    text = f"{root.parameters:,} parameters; {quantity(root.multiply_adds)} multiply-adds for one {what} of "
    text += shape_text(found.image)
    return f"{text}, both networks together." if any(block.name == "target" for block in root.children) else f"{text}."


def heads() -> Html:
    """The column headings of the list."""
    names = ("Block", "Output", "Parameters", "Multiply-adds")
    return element("div", [element("span", name) for name in names], class_="entry heads")


def opened(block: Block, root: Block) -> bool:
    """Whether a block holds most of the model and is therefore shown expanded."""
    return block.repeat == 1 and 2 * block.parameters > root.parameters and len(root.children) < 4


def entry(block: Block, times: int, opened: bool = False) -> Html:
    """A block of the list with its children; times: repetitions of its parent."""
    times *= block.repeat
    often = element("b", f" {TIMES} {block.repeat}") if block.repeat > 1 else None
    name = element("small", block.name) if block.name != block.kind else None
    spans = [
        element("span", block.kind, often, " ", name),
        element("span", ", ".join(dict.fromkeys(map(shape_text, block.shapes)))),
        element("span", quantity(times * block.parameters)),
        element("span", quantity(times * block.multiply_adds)),
    ]
    if not block.children:
        return element("li", element("div", spans, class_="entry"))
    inside = element("ul", [entry(child, times) for child in block.children])
    return element("li", element("details", element("summary", spans, class_="entry"), inside, open=opened))
