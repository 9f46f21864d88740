"""Build HTML: plain text is escaped; markup has its own type, `Html`, and is not escaped again."""

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
AFTER_HOME = r"(?![\w-]|\.\w)"  # matches /home/me, not /home/me-too
HOMES = re.compile(
    r"(?<![\w.~-])(?:/(?:home|Users)/[^/\s\"'<>:;,]+|/root|[A-Za-z]:\\Users\\[^\\\s\"'<>:;,]+)" + AFTER_HOME
)
Child: TypeAlias = "Html | str | int | float | Iterable[Child] | None"


class Html(str):
    """A string of HTML markup. Created only by `element` and from asset files of the package."""

    __slots__ = ()


def element(tag: str, /, *children: Child, **attributes: object) -> Html:
    """An HTML element with children and attributes.

    In names of attributes, a trailing underscore is dropped and other underscores become hyphens. Attributes with the
    value None or False are omitted.
    """
    parts = [tag]
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            text = printable(value)
            text = text if key in ("href", "src") else without_home(text)  # URLs stay complete
            parts.append(key if value is True else f'{key}="{html.escape(text)}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening if tag in VOID else f"{opening}{inner(*children)}</{tag}>")


def inner(*children: Child) -> Html:
    """Concatenate children of an element. Text that is not of type Html is escaped; None is skipped."""
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
    """Replace home folders by `~`, so that a shared page does not contain user names.

    Covers the home folder of this user and, for runs of other machines, the usual paths of home folders.
    """
    home = os.path.expanduser("~")
    if len(home) > 1 and home in text:
        text = re.sub(rf"(?<![\w.~-]){re.escape(home)}{AFTER_HOME}", "~", text)
    return HOMES.sub("~", text) if "/" in text or "\\" in text else text


def missing_note(text: str) -> Html:
    """A paragraph that says which content is missing."""
    return element("p", text, class_="missing")


def png_uri(data: bytes) -> str:
    """Encode the bytes of a PNG as a data: URL."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def jpeg_uri(image: Image.Image, side: int) -> str:
    """Encode an image as a data: URL of a JPEG without metadata, reduced to at most `side` x `side` pixels."""
    image, buffer = image.copy(), io.BytesIO()
    image.thumbnail((side, side))
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def png_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels, from the header of a PNG."""
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
    """An HTML table in a scrolling box.

    head: the column headings; omitted if all are empty. rows: cells; the first cell of a row is its header. name: the
    accessible name of the box. numeric: index of the first right-aligned column, or the range of these columns.
    sortable: whether a click on a heading sorts the rows. kind: an additional CSS class.
    """
    figures = range(numeric, len(head)) if isinstance(numeric, int) else numeric
    sides = ["figures" if column in figures else "words" for column in range(len(head))]
    top = [
        element("th", element("button", name, type="button") if sortable and name else name, scope="col", class_=side)
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
    """Convert a heading to an element identifier."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def typeset(sentence: str) -> list[Child]:
    """Typeset a sentence: minus signs before digits, and no line breaks within intervals, values of p and options."""
    signed = re.sub(r"(?<![\w.])-(?=\d)", "\u2212", sentence)
    parts = re.split(r"(\[[\d\u2212., %+-]+\]|\bp = [\d.e-]*\d|--[a-z][\w.]*(?: \d+)?)", signed)
    whole = ("[", "p = ", "--")
    return [element("span", part, class_="whole") if part.startswith(whole) else part for part in parts if part]
