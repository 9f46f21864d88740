"""Section of a report on the model's architecture: a drawing and a nested list of blocks."""

from pathlib import Path

from ..insight.architecture.boxes import quantity
from ..insight.architecture.svg import WIDTH, file_svg, page_svg, panels_of
from ..insight.architecture.tree import TIMES, Architecture, Block, from_json, shape_text
from .html import Child, Html, element, missing_note
from .run import UNREADABLE, RunFiles
from .sections import SCROLL

FILE = "architecture.json"
READING = (
    "Beside each arrow: the shape of a feature map, without the batch. In each box: parameters and multiply-adds; bars "
    f"are their shares of the panel's total. Numbers of repeated blocks (n {TIMES}) are sums. BN: batch normalization."
)
COUNTED = "Only multiply-adds of convolutions, linear layers and matrix products are counted."
WITHOUT = "architecture.json is missing, as in runs of earlier versions."


def architecture(files: RunFiles) -> tuple[list[Child], str]:
    """Build the section on the model's architecture; returns (HTML elements, the drawing as SVG text).

    The SVG text is "" if there is no drawing: if architecture.json is missing, unreadable or without blocks, or if the
    model has too many blocks.
    """
    arch, why = read_architecture(files.path)
    if arch is None:
        return [missing_note(why)], ""
    notes: list[Child] = [missing_note(note) for note in arch.notes]
    if arch.model is None:
        return notes or [missing_note("architecture.json has no blocks.")], ""
    panels = panels_of(arch)
    # page_svg escapes every text.
    drawings = [
        element("div", Html(page_svg(panel)), class_="scroll", tabindex="0", role="region", aria_label=panel.title)
        for panel in panels
    ]
    hint = element("span", SCROLL, class_="hint") if any(panel.width > WIDTH for panel in panels) else None
    drawing = element("figure", element("div", drawings, class_="drawing"), element("figcaption", hint, READING))
    blocks = [entry(block, 1, opened(block, arch.model)) for block in arch.model.children]
    content: list[Child] = [
        element("p", totals(arch)),
        *notes,
        drawing if drawings else missing_note("The model has too many blocks for a drawing."),
        element("h3", "Blocks"),
        element("div", heads(), element("ul", blocks), class_="blocks"),
        element("p", COUNTED, class_="small"),
    ]
    return content, file_svg(panels) if panels else ""


def read_architecture(folder: Path) -> tuple[Architecture | None, str]:
    """Read architecture.json of a run folder; returns (the architecture, ""), or (None, a sentence with the reason)."""
    path = folder / FILE
    if not path.is_file():
        return None, WITHOUT
    try:
        return from_json(path.read_text(encoding="utf-8")), ""
    except UNREADABLE as error:
        return None, f"{FILE} cannot be read ({type(error).__name__}: {error}).".replace("\n", " ")[:300]


def totals(arch: Architecture) -> str:
    """Sentence: parameters and multiply-adds of the model, and the image shape for which they were counted."""
    root = arch.model
    assert root is not None, "without blocks there are no totals"
    what = "view" if arch.method else "image"
    text = f"{root.parameters:,} parameters; {quantity(root.multiply_adds)} multiply-adds for one {what} of "
    text += shape_text(arch.image)
    return f"{text}, both networks together." if any(block.name == "target" for block in root.children) else f"{text}."


def heads() -> Html:
    """Column headings of the list of blocks in the architecture section."""
    names = ("Block", "Output", "Parameters", "Multiply-adds")
    return element("div", [element("span", name) for name in names], class_="entry heads")


def opened(block: Block, root: Block) -> bool:
    """Whether a block of the list is initially expanded: if it is not repeated and has more than half of the model's
    parameters, and the model has fewer than four blocks at the top level."""
    return block.repeat == 1 and 2 * block.parameters > root.parameters and len(root.children) < 4


def entry(block: Block, times: int, opened: bool = False) -> Html:
    """HTML list item of a block, with the blocks inside it as a nested list.

    times: product of the repetitions of all enclosing blocks. Parameters and multiply-adds are multiplied by it.
    opened: whether the nested list is initially expanded.
    """
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
