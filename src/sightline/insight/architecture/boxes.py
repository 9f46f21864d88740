"""SVG elements of an architecture drawing: text, arrows, and boxes of layers with their parameters and multiply-adds.

Styles are attributes, without CSS. Text is `currentColor` and fills are translucent, for light and dark backgrounds.
"""

import html
import math
from dataclasses import dataclass

from ...errors import printable
from ..style import BLUE, GREEN, ORANGE, VIOLET, si_number
from .tree import DASH, TIMES, Block
from .view import SEPARATOR, abbreviated_kind, shape_of, short_name

COLORS = {"convolution": BLUE, "block": BLUE, "sequence": BLUE, "linear": GREEN, "attention": VIOLET, "product": VIOLET}
COLORS |= {"pooling": ORANGE, "resize": ORANGE}
GRAY, LINE, SOFT = "#808a94", "#747c84", 0.64
"""Color of boxes whose role is not in COLORS, color of lines, opacity of secondary text."""

THIN = ("norm", "activation", "pooling", "resize", "dropout", "scale", "identity")
"""Roles of layers with few parameters and multiply-adds. Their boxes are low and have no numbers."""

SYMBOLS = {"add": "M-4 0H4M0 -4V4", "multiply": "M-3 -3L3 3M-3 3L3 -3", "subtract": "M-4 0H4"}
NARROW, BROAD = "ijlI.,:;'|!()[] \u00b7f", "mwMW@%"
"""Characters that are narrower and wider than the average, to estimate the width of a text."""

WIDE, BAR = 250, 48
"""Pixels: minimum width of a box with numbers at its right side, and length of a bar that shows 100 %."""


@dataclass(frozen=True)
class Piece:
    """Markup of a part of the drawing. Its input is at the middle of its top edge, its output at the middle of its
    bottom edge.

    arrowhead: whether the line to the input ends in an arrowhead. side_x, side_y: position at which a line from the
    right ends, in pixels from the upper left corner; side_x is 0 if the part has no input on the right. shape: of the
    output, as text.
    """

    markup: str
    height: float
    arrowhead: bool = True
    side_y: float = 0
    side_x: float = 0
    shape: str = ""


@dataclass(frozen=True)
class Panel:
    """A finished drawing. width, height: in pixels. markup: SVG elements. alt: description for screen readers."""

    title: str
    alt: str
    markup: str
    width: float
    height: float


@dataclass(frozen=True)
class Totals:
    """Parameters and multiply-adds of all blocks of a panel, of which the bars of a box show the share.

    times: how often the box is repeated: product of the repetitions of the frames around it.
    """

    parameters: int
    multiply_adds: int
    times: int = 1


def tag(name: str, *children: str, **attributes: object) -> str:
    """An SVG element. children: markup. attributes: escaped; underscores in their names become hyphens."""
    parts = [name]
    for key, value in attributes.items():
        content = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f'{key.replace("_", "-")}="{html.escape(printable(content))}"')
    return f"<{' '.join(parts)}>{''.join(children)}</{name}>" if children else f"<{' '.join(parts)}/>"


def text(x: float, y: float, words: str, size: float = 11, anchor: str = "start", **more: object) -> str:
    """A line of text as SVG, escaped. x, y: position of the start, middle or end of its baseline, see `anchor`."""
    return tag("text", html.escape(printable(words)), x=x, y=y, font_size=size, text_anchor=anchor, **more)


def translated(markup: str, x: float, y: float) -> str:
    """Shift markup by (x, y) pixels."""
    return tag("g", markup, transform=f"translate({x:.1f} {y:.1f})") if markup else ""


def text_width(words: str, size: float, bold: bool = False) -> float:
    """Upper estimate of the width of a text in pixels, for common sans-serif fonts. size: of the font, in pixels."""
    ems = 0.0
    for c in words:
        other = 0.84 if c in f"{TIMES}{DASH}+" else 0.7 if c.isupper() else 0.61 if ord(c) < 0x1100 else 1.0
        ems += 0.34 if c in NARROW else 0.92 if c in BROAD else other
    return size * ems * (1.1 if bold else 1.0)


def shortened(words: str, width: float, size: float, bold: bool = False) -> str:
    """Shorten a text to a width in pixels; an ellipsis replaces its end."""
    if text_width(words, size, bold) <= width:
        return words
    while words and text_width(f"{words}…", size, bold) > width:
        words = words[:-1]
    return f"{words.rstrip(' ·,')}…"


def wrapped(words: str, width: float, size: float, bold: bool = False) -> list[str]:
    """Split a text at spaces into lines of at most `width` pixels. There is no line break within `3 x 3`."""
    lines: list[str] = []
    for word in words.replace(f" {TIMES} ", f"\u00a0{TIMES}\u00a0").replace(SEPARATOR, "\u00a0· ").split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [shortened(line.replace("\u00a0", " "), width, size, bold) for line in lines]


def route(*points: tuple[float, float], head: bool = True, dashed: bool = False) -> str:
    """A line through points with rounded corners. head: whether it ends in an arrowhead."""
    path = "M{:.1f} {:.1f}".format(*points[0])
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(6, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        bend = (*toward(corner, before, radius), *corner, *toward(corner, after, radius))
        path += "L{:.1f} {:.1f}Q{:.1f} {:.1f} {:.1f} {:.1f}".format(*bend)
    end, tip = points[-1], ""
    if head:
        x, y = toward(points[-1], points[-2], 5)
        across, down = 0.64 * (y - end[1]), 0.64 * (end[0] - x)
        corners = (end, (x - across, y - down), (x + across, y + down))
        tip = tag("polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in corners), fill=LINE)
        end = (x, y)
    path += "L{:.1f} {:.1f}".format(*end)
    dashes = {"stroke_dasharray": "4 3"} if dashed else {}
    return tag("path", d=path, fill="none", stroke=LINE, stroke_width=1.1, **dashes) + tip


def toward(start: tuple[float, float], goal: tuple[float, float], length: float) -> tuple[float, float]:
    """The point at distance `length` from `start`, in the direction of `goal`."""
    share = length / max(math.dist(start, goal), 1e-9)
    return start[0] + share * (goal[0] - start[0]), start[1] + share * (goal[1] - start[1])


def quantity(count: int) -> str:
    """Format a count with three significant digits and an SI prefix (25.6 M), or as a dash if it is 0."""
    return si_number(count) if count else DASH


def box(block: Block, width: float, totals: Totals) -> Piece:
    """Draw one block of the architecture.

    A label is drawn as text, a join (addition, concatenation) by `join`, and any other role as a box with its
    parameters and multiply-adds.
    """
    kind, shape, repeat = abbreviated_kind(block), shape_of(block), block.repeat
    if block.role == "label":
        return Piece(text(width / 2, 11, kind, 10.5, "middle"), 16, shape=shape if block.shapes else "")
    if block.role == "join":
        return join(kind, width, shape)
    counts = [totals.times * repeat * count for count in (block.parameters, block.multiply_adds)]
    title, _, after = kind.partition(SEPARATOR)
    title = f"{repeat} {TIMES} {title}" if repeat > 1 else title
    name = "" if block.name.endswith(block.kind.partition(SEPARATOR)[0]) else short_name(block.name)
    rest = SEPARATOR.join(filter(None, (name, after)))
    if block.role in THIN:
        lines = wrapped(kind, width - 12, 10.5)
        markup = "".join(text(width / 2, 14 + 13 * row, words, 10.5, "middle") for row, words in enumerate(lines))
        height = 7 + 13.0 * len(lines)
    elif width >= WIDE:
        markup, height = title_lines(title, rest, width - 122, 10, "start", 12)
        height = max(36.0, height + 6)
        markup += cost_bars(block.role, counts, totals, (width - 90, width - 34), 16)
    else:
        markup, height = title_lines(title, rest, width - 10, width / 2, "middle", 11 if width > 100 else 10)
        height += 25
        markup += cost_bars(block.role, counts, totals, (0.25 * width, 0.75 * width), height - 12)
    full = f"{block.name}: {block.kind}; {shape}; {counts[0]:,} parameters, {counts[1]:,} multiply-adds"
    hint = tag("title", html.escape(printable(full)))
    markup = tag("g", hint, outline(width, height, block.role, repeat), markup)
    return Piece(markup, height + (2.5 if repeat > 1 else 0), side_y=height / 2, side_x=width, shape=shape)


def outline(width: float, height: float, role: str, repeat: int = 1) -> str:
    """A rectangle in the color of a role. repeat: if above 1, edges of two more rectangles are drawn behind it."""
    color = COLORS.get(role, GRAY)
    behind = [
        tag("path", d=f"M{gap + 4:.1f} {height + gap - 2.5:.1f}v2.5H{width + gap:.1f}V{gap + 4:.1f}h-2.5", fill="none",
            stroke=color, stroke_opacity=opacity)
        for gap, opacity in ((2.5, 0.6), (5.0, 0.4))
    ]  # fmt: skip
    edge = {"stroke": color, "stroke_opacity": 0.75, "fill": color, "fill_opacity": 0.13, "rx": 4}
    return "".join([*(behind if repeat > 1 else ()), tag("rect", width=width, height=height, **edge)])


def join(kind: str, width: float, shape: str) -> Piece:
    """Draw an operation that joins several tensors.

    Addition, multiplication and subtraction are drawn as a circle with the sign, other operations as a small box with
    text. Left of the circle are the names of layers that were merged into it, such as a ReLU that follows. width: of
    the column. shape: text of the output's shape.
    """
    first, _, after = kind.partition(SEPARATOR)
    middle = width / 2
    if first in SYMBOLS:
        ring = {"fill": "currentColor", "fill_opacity": 0.05, "stroke": LINE}
        sign = tag("path", d=SYMBOLS[first], stroke="currentColor", stroke_width=1.3)
        markup = translated(tag("circle", r=9, **ring) + sign, middle, 9)
        markup += text(middle - 14, 13, after, 10, "end", opacity=SOFT) if after else ""
        return Piece(markup, 18, side_y=9, side_x=middle + 9, shape=shape)
    words = shortened(kind, width - 16, 10.5)
    half = min(width, text_width(words, 10.5) + 18) / 2
    markup = translated(outline(2 * half, 18, "join"), middle - half, 0) + text(middle, 13, words, 10.5, "middle")
    return Piece(markup, 18, side_y=9, side_x=middle + half, shape=shape)


def title_lines(title: str, rest: str, width: float, x: float, anchor: str, size: int) -> tuple[str, float]:
    """(SVG markup, height) of a bold title and of the secondary text `rest` below it, wrapped to `width` pixels."""
    markup, y = [], 3.0
    for words in wrapped(title, width, size, True):
        y += size + 3
        markup.append(text(x, y - 1, words, size, anchor, font_weight=600))
    for words in wrapped(rest, width, 9.5) if rest else ():
        y += 12.5
        markup.append(text(x, y - 1, words, 9.5, anchor, opacity=SOFT))
    return "".join(markup), y


def cost_bars(role: str, counts: list[int], totals: Totals, middles: tuple[float, float], y: float) -> str:
    """Draw the numbers of parameters and multiply-adds, each above a bar that shows its share of the panel's total.

    counts: (parameters, multiply-adds). middles: x of the center of each number.
    """
    length = min(BAR, middles[1] - middles[0] - 8)
    markup: list[str] = []
    for count, total, x in zip(counts, (totals.parameters, totals.multiply_adds), middles, strict=True):
        bar = {"x": x - length / 2, "y": y + 4, "height": 3}
        share = max(1.0, length * min(1.0, count / total)) if count and total else 0.0
        markup.append(text(x, y, quantity(count), 11 if length == BAR else 9.5, "middle"))
        markup.append(tag("rect", width=length, fill="currentColor", fill_opacity=0.13, **bar))
        markup.append(tag("rect", width=share, fill=COLORS.get(role, GRAY), **bar) if share else "")
    return "".join(markup)
