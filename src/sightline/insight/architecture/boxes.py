"""The boxes of an architecture drawing: what happens there, its name, its numbers with bars for their shares.

Fills are thin layers of color, so that a box stands on light and on dark ground alike.
"""

import html
from dataclasses import dataclass

from ...errors import printable
from ..style import BLUE, GREEN, ORANGE, VIOLET
from .marks import MINUS, SOFT, Piece, cut, moved, tag, text, text_width, wrapped
from .tree import DASH, TIMES
from .view import Item

COLORS = {
    **dict.fromkeys(("convolution", "block", "sequence"), BLUE),
    **dict.fromkeys(("linear",), GREEN),
    **dict.fromkeys(("attention", "product"), VIOLET),
    **dict.fromkeys(("pooling", "resize"), ORANGE),
}
GRAY = "#808a94"
THIN = ("norm", "activation", "pooling", "resize", "dropout", "scale", "identity")
"""Roles whose boxes are low, for they hardly compute."""

SYMBOLS = {"add": "+", "multiply": TIMES, "subtract": MINUS}
ABBREVIATIONS = (
    ("transposed convolution", "transposed conv"),
    ("convolution", "conv"),
    ("batch norm", "BN"),
    ("scaled dot-product attention", "softmax attention"),
)
WIDE = 250
"""Pixels from which on a box has its numbers in columns on the right."""

COLUMNS = (74, 10)
"""Right edges of the numbers in a wide box, from its right."""

TRACK = 54
"""Length of the bar that stands for all of the model."""


@dataclass(frozen=True)
class Whole:
    """What shares are shares of."""

    parameters: int
    multiply_adds: int


def quantity(count: int) -> str:
    """Three digits and a unit: 1.21 k, 25.6 M, 4.09 G; a dash for none."""
    if count == 0:
        return DASH
    size, units = float(f"{count:.3g}"), list("kMGTPE")
    unit = ""
    while size >= 1000 and units:
        size, unit = float(f"{size / 1000:.3g}"), units.pop(0)
    return f"{size:g} {unit}".strip()


def short(words: str) -> str:
    """The usual abbreviations."""
    for long, brief in ABBREVIATIONS:
        words = words.replace(long, brief)
    return words


def box(width: float, height: float, role: str, repeat: int = 1, dashed: bool = False) -> str:
    """A filled rectangle in the color of its role; a small pile of them for what comes several times."""
    color = COLORS.get(role, GRAY)
    edge = {"stroke": color, "stroke_opacity": 0.75, "rx": 4, "fill": color}
    edge |= {"stroke_dasharray": "4 3"} if dashed else {}
    shadows = ((2.5, 0.6), (5.0, 0.4)) if repeat > 1 else ()
    behind = [
        tag("path", d=f"M{gap + 4:.1f} {height + gap - 2.5:.1f}v2.5H{width + gap:.1f}V{gap + 4:.1f}h-2.5", fill="none",
            stroke=color, stroke_opacity=opacity)
        for gap, opacity in shadows
    ]  # fmt: skip
    return "".join([*behind, tag("rect", width=width, height=height, fill_opacity=0.13, **edge)])


def leaf(item: Item, name: str, width: float, whole: Whole) -> Piece:
    """The box of an item, or its circle if it is a join; name: as it is to be written."""
    if item.role == "input":
        return Piece(text(width / 2, 11, item.words[0], 10.5, "middle"), width, 16, side=8, edge=width / 2)
    if item.role == "join":
        return join(item, width)
    pile = 5.0 if item.repeat > 1 else 0.0
    if item.role in THIN:
        marks, height = thin(item, name, width)
    elif width >= WIDE:
        marks, height = wide(item, name, width, whole)
    else:
        marks, height = compact(item, name, width, whole)
    full = tag("title", html.escape(printable(describe(item))))
    inside = tag("g", full, box(width, height, item.role, item.repeat), marks)
    return Piece(inside, width, height + pile / 2, right=pile, side=height / 2, edge=width)


def describe(item: Item) -> str:
    """Everything about an item on one line, for who points at it."""
    numbers = f"{item.parameters:,} parameters, {item.multiply_adds:,} multiply-adds"
    return f"{item.name}: {times(', '.join(item.words), item.repeat)}; {item.shape}; {numbers}"


def times(words: str, repeat: int) -> str:
    """`words x 22`, or `(conv 3 x 3) x 2` where the sign stands between sides too; as it is where it comes once."""
    if repeat == 1:
        return words
    return f"({words}) {TIMES} {repeat}" if TIMES in words else f"{words} {TIMES} {repeat}"


def join(item: Item, width: float) -> Piece:
    """A circle with the sign of the operation, or a small box with its name; what follows at once stands beside it."""
    symbol, after = SYMBOLS.get(item.words[0]), ", ".join(map(short, item.words[1:]))
    middle = width / 2
    if symbol:
        strokes = {"+": "M-4 0H4M0 -4V4", MINUS: "M-4 0H4", TIMES: "M-3 -3L3 3M-3 3L3 -3"}
        ring = {"fill": "currentColor", "fill_opacity": 0.05, "stroke": "currentColor", "stroke_opacity": SOFT}
        sign = tag("path", d=strokes[symbol], stroke="currentColor", stroke_width=1.3)
        marks = moved(tag("circle", r=9, **ring) + sign, middle, 9)
        marks += text(middle + 14, 20, after, 10, opacity=SOFT) if after else ""
        return Piece(marks, width, 18, side=9, edge=middle + 9)
    words = cut(", ".join(map(short, item.words)), width - 16, 10.5)
    half = min(width, text_width(words, 10.5) + 18) / 2
    marks = moved(box(2 * half, 18, "join"), middle - half, 0) + text(middle, 13, words, 10.5, "middle")
    return Piece(marks, width, 18, side=9, edge=middle + half)


def thin(item: Item, name: str, width: float) -> tuple[str, float]:
    """A low box: what it does, and its name where there is room."""
    lines = wrapped(", ".join(map(short, item.words)), width - 12, 10.5)
    if len(lines) > 1 or width < 160:
        marks = [text(width / 2, 14.5 + 13 * place, words, 10.5, "middle") for place, words in enumerate(lines)]
        return "".join(marks), 8 + 13.0 * len(lines)
    room = width - text_width(lines[0], 10.5) - 36
    marks = text(10, 14, lines[0], 10.5)
    if name and text_width(name, 9.5) <= room:
        marks += text(width - 10, 14, name, 9.5, "end", opacity=SOFT)
    return marks, 20


def wide(item: Item, name: str, width: float, whole: Whole) -> tuple[str, float]:
    """Two lines on the left, the two numbers with their bars on the right."""
    room = width - COLUMNS[0] - text_width(quantity(item.parameters), 11) - 20
    title, rest = heading(item)
    if text_width(times(title, item.repeat), 12, True) > room and "," in title:
        title, _, tail = title.partition(", ")
        rest.insert(0, tail)
    size = next((size for size in (12, 11, 10) if text_width(times(title, item.repeat), size, True) <= room), 10)
    taken = text_width(times(title, item.repeat), size, True) - text_width(title, size, True)
    title = cut(title, room - taken, size, True)
    second = wrapped(" \u00b7 ".join([*([name] if name else []), *rest]), width - COLUMNS[0] - TRACK - 18, 10)
    marks = [text(10, 16, times(title, item.repeat), size, font_weight=600)]
    marks += [text(10, 30 + 13 * place, words, 10, opacity=SOFT) for place, words in enumerate(second)]
    for number, total, right in zip(numbers_of(item), numbers_of(whole), COLUMNS, strict=True):
        marks.append(text(width - right, 16, quantity(number), 11, "end"))
        marks.append(bar(width - right - TRACK, 24, TRACK, number / total if total else 0, item.role))
    return "".join(marks), 36 + 13.0 * max(0, len(second) - 1)


def heading(item: Item) -> tuple[str, list[str]]:
    """(what comes first and matters most, what follows)."""
    words = [short(text) for text in item.words]
    return ", ".join(words[: item.main + 1]), words[item.main + 1 :]


def numbers_of(thing: Item | Whole) -> tuple[int, int]:
    """Parameters and multiply-adds."""
    return thing.parameters, thing.multiply_adds


def compact(item: Item, name: str, width: float, whole: Whole) -> tuple[str, float]:
    """Everything in lines one below the other, for boxes that stand side by side."""
    half, large = width / 2, 11 if width > 100 else 10
    title, rest = heading(item)
    second = " \u00b7 ".join([*([name] if name else []), *rest])
    marks: list[str] = []
    y = 3.0
    for words in wrapped(times(title, item.repeat), width - 10, large, True):
        y += large + 3
        marks.append(text(half, y - 1, words, large, "middle", font_weight=600))
    for words in wrapped(second, width - 10, 9.5) if second else []:
        y += 12.5
        marks.append(text(half, y - 1, words, 9.5, "middle", opacity=SOFT))
    y += 14
    length = min(TRACK, half - 8)
    for number, total, middle in zip(numbers_of(item), numbers_of(whole), (0.5 * half, 1.5 * half), strict=True):
        marks.append(text(middle, y - 1, quantity(number), 10.5 if half > 48 else 9.5, "middle"))
        marks.append(bar(middle - length / 2, y + 3, length, number / total if total else 0, item.role))
    return "".join(marks), y + 11


def bar(x: float, y: float, length: float, share: float, role: str) -> str:
    """A small bar that is full for a share of 1."""
    back = tag("rect", x=x, y=y, width=length, height=3, fill="currentColor", fill_opacity=0.13)
    filled = max(0.0, min(1.0, share)) * length
    front = tag("rect", x=x, y=y, width=max(filled, 1.0), height=3, fill=COLORS.get(role, GRAY)) if share > 0 else ""
    return back + front
