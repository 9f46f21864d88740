"""The HTML page of `sightline doctor`: the findings with their images and cures, and the list of checks."""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from ..errors import SightlineError, counted
from ..report.html import Child, Html, element, jpeg_uri, png_uri, table
from ..report.page import layout
from .findings import Diagnosis, Finding, Group

Opener = Callable[[str], Image.Image]
TILE = 256
SMALL = 40
"""Images with sides of at most this many pixels are put into the page as PNG, larger ones as JPEG."""
SHOWN_GROUPS, SHOWN_FILES, SHOWN_SINGLES, SHOWN_WORDS = 12, 12, 36, 100
WITHOUT_IMAGES = ("unreadable", "hidden", "unreadable_mask", "not_used")
"""Kinds of findings that the page lists by file names, without images."""


def render(found: Diagnosis, open_named: Opener | None) -> str:
    """The complete HTML page. open_named: function that opens an image by its name; None: the page shows no images."""
    content: list[tuple[str, list[Child]]] = [("Summary", summary(found))]
    if found.understood:
        content.append(("What was understood", understood(found)))
    used: Counter[str] = Counter()
    for finding in found.findings:
        used[finding.kind] += 1
        title = finding.kind.replace("_", " ").capitalize()
        again = used[finding.kind]
        content.append((title if again == 1 else f"{title}, {again}", section(finding, open_named)))
    notes: list[Child] = [element("h3", "How the data are read"), listed(found.notes)] if found.notes else []
    content.append(("What was checked", [element("p", ", ".join(found.checks), class_="small"), *notes]))
    kicker = "Sightline doctor" if found.task != "labels" else "Sightline doctor: labels"
    return layout(kicker, Path(found.data).name or found.data, "", content)


def summary(found: Diagnosis) -> list[Child]:
    """The numbers of findings and images, and a table of the findings."""
    errors = sum(finding.severity == "error" for finding in found.findings)
    warnings = len(found.findings) - errors
    numbers = [counted(errors, "error")] * bool(errors) + [counted(warnings, "warning")] * bool(warnings)
    lead = f"{' and '.join(numbers) or 'Nothing was found'} in {counted(sum(found.counts.values()), 'image')}."
    cards = found.counts | ({"classes": len(found.classes)} if found.classes else {})
    blocks = [element("div", element("dt", name), element("dd", f"{count:,}")) for name, count in cards.items()]
    parts: list[Child] = [element("p", lead, class_="lead"), element("dl", blocks, class_=f"cards cards-{len(cards)}")]
    if not found.findings:
        return parts
    rows: list[list[Child]] = [
        [element("span", one.severity, class_="wrong" if one.severity == "error" else None), one.what, one.cure]
        for one in found.findings
    ]
    note = "Errors stop training or make its scores wrong. Check the warnings. No file was changed."
    return [*parts, table(["Severity", "What", "Cure"], rows, "Findings"), element("p", note, class_="small")]


def understood(found: Diagnosis) -> list[Child]:
    """The section on what was understood of the data: a table, and pictures with their labels."""
    rows: list[list[Child]] = [[topic.capitalize(), text] for topic, text in found.understood.items()]
    parts: list[Child] = [table(["Topic", "Understood"], rows, "What was understood of the data")]
    if not found.pictures:
        return parts
    named = not found.colors
    text = "Images as a network gets them, with their labels." if named else "Images with their masks drawn over them."
    key = [element("li", swatch(color), name) for name, color in zip(found.classes, found.colors, strict=False)]
    tiles = [framed(picture.image, picture.name, picture.label if named else None) for picture in found.pictures]
    parts += [element("p", text), element("ul", key, class_="legend flat") if key else None]
    return [*parts, element("ul", [element("li", one) for one in tiles], class_="gallery" if named else "gallery wide")]


def swatch(color: tuple[int, int, int]) -> Html:
    """A small square of a color, for a legend."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), color).save(buffer, "PNG")
    return element("img", src=png_uri(buffer.getvalue()), alt="", class_="dot square")


def section(finding: Finding, open_named: Opener | None) -> list[Child]:
    """The section of the page on one finding: what, why, cure, and its files."""
    lines = [line.strip() for line in finding.why.strip().splitlines() if line.strip()]
    parts: list[Child] = [
        element("p", element("b", f"{finding.severity.capitalize()}: {finding.what}.")),
        element("p", f"Why: {lines[0]}.") if len(lines) == 1 else listed(lines),
        element("p", f"Cure: {finding.cure}."),
    ]
    if open_named is None or finding.kind in WITHOUT_IMAGES or not finding.files:
        return [*parts, *words(finding.groups)]
    if any(len(group.files) > 1 for group in finding.groups):
        return [*parts, *rows_of(finding.groups, open_named)]
    tiles = [tile(group.files[0], group.note, open_named) for group in finding.groups[:SHOWN_SINGLES] if group.files]
    return [*parts, gallery(tiles), more(len(finding.groups) - SHOWN_SINGLES)]


def listed(lines: Sequence[str]) -> Html:
    """A bulleted list."""
    return element("ul", [element("li", line) for line in lines], class_="notes small")


def words(groups: Sequence[Group]) -> list[Child]:
    """The file names and notes of a finding as a table or list, without images."""
    shown, rest = groups[:SHOWN_WORDS], more(len(groups) - SHOWN_WORDS)
    if not any(group.files for group in shown):
        return [listed([group.note for group in shown]), rest] if shown else []
    rows: list[list[Child]] = [[", ".join(group.files), group.note] for group in shown]
    return [table(["File", "What"], rows, "Files"), rest]


def more(count: int) -> Html | None:
    """A note on the number of files that are not shown; None if `count` is not positive."""
    return element("p", f"{count:,} more are in doctor.json.", class_="small") if count > 0 else None


def rows_of(groups: Sequence[Group], open_named: Opener) -> list[Child]:
    """For each set of files, its note and a row of its images."""
    parts: list[Child] = []
    for group in groups[:SHOWN_GROUPS]:
        tiles = [tile(name, "", open_named) for name in group.files[:SHOWN_FILES]]
        parts += [element("p", group.note, class_="row"), gallery(tiles), more(len(group.files) - len(tiles))]
    return [*parts, more(len(groups) - SHOWN_GROUPS)]


def gallery(tiles: Sequence[Html]) -> Html:
    """Images in a grid."""
    return element("ul", [element("li", one) for one in tiles], class_="gallery")


def tile(name: str, note: str, open_named: Opener) -> Html:
    """An image with its name and note. If it cannot be read, its name and the reason. Metadata (EXIF) are not put
    into the page."""
    try:
        image = open_named(name)
    except SightlineError as error:
        return element("figure", element("figcaption", name, element("span", error.why or error.what, class_="wrong")))
    return framed(image, name, element("span", note, class_="wrong") if note else None)


def framed(image: Image.Image, name: str, caption: Child) -> Html:
    """An image with a caption and the name of its file."""
    small, buffer = max(image.size) <= SMALL, io.BytesIO()
    if small:
        image.save(buffer, "PNG", optimize=True)
    source = png_uri(buffer.getvalue()) if small else jpeg_uri(image, TILE)
    shown = element("img", src=source, alt=name, title=name, loading="lazy", class_="pixels" if small else None)
    return element("figure", shown, element("figcaption", caption, element("span", name, class_="sure")))
