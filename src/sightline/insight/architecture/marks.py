"""The marks of an architecture drawing: lines, arrows, and text that fits. SVG by attributes alone, no style sheet.

Ink is `currentColor`, so that a drawing stands on light and on dark ground alike.
"""

import html
from dataclasses import dataclass

from ...errors import printable
from .tree import DASH, TIMES

MINUS = "\u2212"
SLIM, BROAD = "ijlI.,:;'|!()[] \u00b7f", "mwMW@%"
"""Characters that are narrower and wider than others."""

SOFT = 0.64
"""Opacity of ink for what matters less."""


@dataclass(frozen=True)
class Piece:
    """Marks within [0, width] x [0, height], whose line comes in and goes out in the middle.

    left, right: how far marks stick out. headed: an arrow may point at its top; others draw arrows of their own.
    side: height at which a line from the right may end, and `edge` where it does.
    """

    marks: str
    width: float
    height: float
    left: float = 0
    right: float = 0
    headed: bool = True
    side: float = 0
    edge: float = 0


@dataclass(frozen=True)
class Panel:
    """One drawing. says: what it shows, for who does not see it."""

    title: str
    says: str
    marks: str
    width: float
    height: float


def tag(name: str, *children: str, **attributes: object) -> str:
    """One element; attribute names get hyphens for underscores. Children are markup."""
    parts = [name]
    for key, value in attributes.items():
        text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{html.escape(printable(text))}"')
    return f"<{' '.join(parts)}>{''.join(children)}</{name}>" if children else f"<{' '.join(parts)}/>"


def text(x: float, y: float, words: str, size: float = 11, anchor: str = "start", **more: object) -> str:
    """A line of text."""
    extra = {"text_anchor": anchor} if anchor != "start" else {}
    return tag("text", html.escape(printable(words)), x=x, y=y, font_size=size, **extra, **more)


def moved(marks: str, x: float, y: float) -> str:
    """Marks at another place."""
    return tag("g", marks, transform=f"translate({x:.1f} {y:.1f})") if marks else ""


def text_width(words: str, size: float, bold: bool = False) -> float:
    """About the width of a text in pixels, in a rather wide typeface: too much rather than too little."""
    ems = 0.0
    for c in words:
        signs = 0.84 if c in f"{TIMES}{DASH}{MINUS}+" else 0.7 if c.isupper() else 0.61 if ord(c) < 0x1100 else 1.0
        ems += 0.34 if c in SLIM else 0.92 if c in BROAD else signs
    return size * ems * (1.1 if bold else 1.0)


def cut(words: str, width: float, size: float, bold: bool = False) -> str:
    """The text, ended by an ellipsis where it would be wider."""
    if text_width(words, size, bold) <= width:
        return words
    while words and text_width(f"{words}…", size, bold) > width:
        words = words[:-1]
    return f"{words.rstrip(' ·,')}…"


def wrapped(words: str, width: float, size: float, bold: bool = False) -> list[str]:
    """The text in lines of at most this width, broken at spaces, but not within `3 x 3`."""
    lines: list[str] = []
    for word in words.replace(f" {TIMES} ", f"\u00a0{TIMES}\u00a0").replace(" · ", "\u00a0· ").split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [cut(line.replace("\u00a0", " "), width, size, bold) for line in lines]


def arrow(x: float, start: float, end: float, head: bool = True) -> str:
    """A line down (or up) with a head at its end."""
    if not head:
        return line(f"M{x:.1f} {start:.1f}V{end:.1f}")
    back = 5 if end > start else -5
    return line(f"M{x:.1f} {start:.1f}V{end - back:.1f}") + arrowhead(x, end, 0, back)


def arrowhead(x: float, y: float, across: float, down: float) -> str:
    """A filled triangle whose tip is at (x, y), of so much length in one of the two directions."""
    wide, high = 0.64 * down, 0.64 * across
    first, second = (x - across - wide, y - down + high), (x - across + wide, y - down - high)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in ((x, y), first, second))
    return tag("polygon", points=points, fill="currentColor", opacity=SOFT)


def line(path: str, dashed: bool = False) -> str:
    """A thin line along a path."""
    dashes = {"stroke_dasharray": "4 3"} if dashed else {}
    return tag("path", d=path, fill="none", stroke="currentColor", stroke_opacity=SOFT, stroke_width=1.1, **dashes)


def corner(x: float, y: float, to_x: float, to_y: float, end_x: float) -> str:
    """From (x, y) along to `to_x`, down (or up) to `to_y`, along to `end_x`: with rounded corners and a head."""
    across, down, back = (1 if to_x > x else -1), (1 if to_y > y else -1), (1 if end_x > to_x else -1)
    first = max(0.0, min(6.0, abs(to_x - x), abs(to_y - y) / 2)) * across
    last = max(0.0, min(6.0, abs(to_y - y) / 2, abs(end_x - to_x) - 6)) * back
    path = f"M{x:.1f} {y:.1f}H{to_x - first:.1f}q{first:.1f} 0 {first:.1f} {abs(first) * down:.1f}"
    path += f"V{to_y - abs(last) * down:.1f}q0 {abs(last) * down:.1f} {last:.1f} {abs(last) * down:.1f}"
    return line(f"{path}H{end_x - 5 * back:.1f}") + arrowhead(end_x, to_y, 5 * back, 0)
