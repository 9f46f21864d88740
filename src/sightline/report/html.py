"""HTML out of values: whatever is not markup already is escaped, so that a class may be called <script>."""

import base64
import html
import io
import os
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from PIL import Image

from ..errors import printable

VOID = ("img", "link", "meta", "wbr")
AFTER_HOME = r"(?![\w-]|\.\w)"  # /home/me, but not /home/me-too
HOMES = re.compile(
    r"(?<![\w.~-])(?:/(?:home|Users)/[^/\s\"'<>:;,]+|/root|[A-Za-z]:\\Users\\[^\\\s\"'<>:;,]+)" + AFTER_HOME
)
Child: TypeAlias = "Html | str | int | float | Iterable[Child] | None"


class Html(str):
    """Text that is markup. Only `element` and the page's own assets make it."""

    __slots__ = ()


def element(tag: str, /, *children: Child, **attributes: object) -> Html:
    """One element. Attribute names lose a trailing underscore and get hyphens for the others; None leaves one out."""
    parts = [tag]
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            text = printable(value)
            text = text if key in ("href", "src") else without_home(text)  # addresses lead where they lead
            parts.append(key if value is True else f'{key}="{html.escape(text)}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening if tag in VOID else f"{opening}{inner(*children)}</{tag}>")


def inner(*children: Child) -> Html:
    """Children one after the other, escaped where they are not Html; None is nothing."""
    pieces: list[str] = []
    for child in children:
        if isinstance(child, Html):
            pieces.append(child)
        elif isinstance(child, str | int | float):
            pieces.append(html.escape(without_home(printable(child))))
        elif child is not None:
            pieces.append(inner(*child))
    return Html("".join(pieces))


def without_home(text: str) -> str:
    """The text with home folders as `~`: a page is sent around, and has not to say whose machine it was made on.

    That is this user's home and, since a run may come from elsewhere, where systems usually have them.
    """
    home = os.path.expanduser("~")
    if len(home) > 1 and home in text:
        text = re.sub(rf"(?<![\w.~-]){re.escape(home)}{AFTER_HOME}", "~", text)
    return HOMES.sub("~", text) if "/" in text or "\\" in text else text


def missing_note(text: str) -> Html:
    """A line that says what is not here."""
    return element("p", text, class_="missing")


def png_uri(data: bytes) -> str:
    """A PNG as a data: address."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def jpeg_uri(picture: Image.Image, side: int) -> str:
    """A picture as a data: address: a JPEG of at most `side` pixels a side, without metadata."""
    picture, buffer = picture.copy(), io.BytesIO()
    picture.thumbnail((side, side))
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, out of a PNG's header."""
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Child]],
    name: str,
    *,
    numeric: int | range = 99,
    sortable: bool = False,
    kind: str = "",
) -> Html:
    """A table in a box of its own that scrolls, called `name` for those who hear it.

    Columns from `numeric` on, or within it, are right-aligned figures; the first cell of a row is its header. A head of
    empty texts is left out. kind: one more class for the style sheet.
    """
    figures = range(numeric, len(head)) if isinstance(numeric, int) else numeric
    sides = ["figures" if place in figures else "words" for place in range(len(head))]
    top = [
        element("th", element("button", name, type="button") if sortable else name, scope="col", class_=side)
        for name, side in zip(head, sides, strict=True)
    ]
    body = [
        element("tr", element("th", row[0], scope="row"),
                [element("td", cell, class_=side) for cell, side in zip(row[1:], sides[1:], strict=True)])
        for row in rows
    ]  # fmt: skip
    heading = element("thead", element("tr", top)) if any(head) else None
    whole = element("table", heading, element("tbody", body), data_sortable=sortable)
    classes = ["scroll", "rows", *(["tall"] if len(rows) > 25 else []), *([kind] if kind else [])]
    return element("div", whole, class_=" ".join(classes), tabindex="0", role="region", aria_label=name)


def slug(text: str) -> str:
    """A fragment name for a heading."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def set_in_type(sentence: str) -> list[Child]:
    """Minus signs for hyphens before digits; intervals that do not break over lines."""
    signed = re.sub(r"(?<![\w.])-(?=\d)", "\u2212", sentence)
    parts = re.split(r"(\[[\d\u2212., %-]+\])", signed)
    return [element("span", part, class_="whole") if part.startswith("[") else part for part in parts if part]
