"""The doctor's page: what was looked at, what was found, the pictures, and what mends each."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from ..errors import SightlineError, counted
from ..report.html import Child, Html, element, jpeg_uri, png_uri, table
from ..report.page import layout
from .findings import Diagnosis, Finding, Group

TILE = 128
SMALL = 40
"""Pictures up to this side are shown in their own pixels, as exact PNG."""
SHOWN_GROUPS, SHOWN_FILES, SHOWN_SINGLES, SHOWN_WORDS = 12, 12, 36, 100
HEADINGS = {
    "unreadable": "Unreadable files",
    "layout": "The layout",
    "wrong_extension": "Wrong endings",
    "conflicting_labels": "Conflicting labels",
    "leak": "In several splits",
    "near_leak": "Nearly the same, across splits",
    "duplicate": "Copies",
    "near_duplicate": "Nearly the same",
    "missing_class": "Missing classes",
    "imbalance": "Rare classes",
    "tiny": "Tiny images",
    "huge": "Huge images",
    "long": "Long images",
    "plain": "One color",
    "transparent": "Transparency",
    "deep": "16 bits",
    "cmyk": "CMYK",
    "rotated": "Turned by EXIF",
    "gray": "Gray among color",
    "frames": "Several frames",
    "hidden": "Hidden files",
    "not_used": "Images without their ending",
    "wrong_label": "Likely wrong labels",
    "mask": "Masks that do not fit",
    "mask_size": "Masks of another size",
    "unreadable_mask": "Unreadable masks",
    "empty_mask": "Empty masks",
    "image_without_mask": "Images without mask",
    "mask_without_image": "Masks without image",
    "ambiguous_pair": "Unclear pairs",
    "palette": "The palette",
    "no_masks": "No masks",
    "one_class": "A single class",
    "no_training_split": "No training split",
}
GROUPED = ("conflicting_labels", "leak", "near_leak", "duplicate", "near_duplicate", "mask_size")
BLIND = ("unreadable", "hidden", "unreadable_mask", "not_used")
"""Findings whose files cannot be shown, or need not be."""


COMMAND = re.compile(r"(--[a-z][\w.-]*(?: (?:'[^']*'|[^\s;,]+))?|(?:rm -r|mv|mogrify -auto-orient) [A-Z.a-z ]*\w)")
"""Options and commands within a cure."""


def render(found: Diagnosis, open_picture: Callable[[str], Image.Image] | None) -> str:
    """The whole page; open_picture gives an image by its name, or raises SightlineError."""
    content: list[tuple[str, list[Child]]] = [("Summary", summary(found))]
    used: dict[str, int] = {}
    for finding in found.findings:
        heading = HEADINGS.get(finding.kind, finding.kind)
        used[heading] = used.get(heading, 0) + 1
        title = heading if used[heading] == 1 else f"{heading}, {used[heading]}"
        content.append((title, section(finding, open_picture)))
    content.append(("What was looked at", looked(found)))
    kicker = "Sightline doctor" if found.task != "labels" else "Sightline doctor: labels"
    return layout(kicker, Path(found.data).name or found.data, "", content)


def summary(found: Diagnosis) -> list[Child]:
    """The verdict, the counts, and a line for each finding."""
    errors = sum(finding.severity == "error" for finding in found.findings)
    warnings = len(found.findings) - errors
    parts = [counted(errors, "error")] * bool(errors) + [counted(warnings, "warning")] * bool(warnings)
    if not found.findings:
        lead = f"Nothing was found in {counted(sum(found.counts.values()), 'image')}."
    else:
        lead = f"{' and '.join(parts)} in {counted(sum(found.counts.values()), 'image')}."
    cards = [(split, f"{count:,}") for split, count in found.counts.items()]
    cards += [("classes", f"{len(found.classes):,}")] * bool(found.classes)
    blocks = [element("div", element("dt", name), element("dd", value)) for name, value in cards]
    says: list[Child] = [element("p", lead, class_="lead"), element("dl", blocks, class_=f"cards cards-{len(cards)}")]
    if not found.findings:
        return says
    rows: list[list[Child]] = [
        [
            element("span", finding.severity, class_="wrong" if finding.severity == "error" else None),
            finding.what,
            commands(finding.cure),
        ]
        for finding in found.findings
    ]
    note = "An error stops training, or makes its numbers wrong; a warning is worth a look. No file was changed."
    return [*says, table(["Severity", "What", "Cure"], rows, "Findings"), element("p", note, class_="small")]


def section(finding: Finding, open_picture: Callable[[str], Image.Image] | None) -> list[Child]:
    """One finding: what, why, cure, and its files."""
    sentence = sentence_of(f"{finding.severity}: {finding.what}")
    parts: list[Child] = [element("p", element("b", sentence))]
    lines = [line.strip() for line in finding.why.strip().splitlines() if line.strip()]
    parts.append(element("p", sentence_of(lines[0])) if len(lines) == 1 else listed(lines))
    parts.append(element("p", "What mends it: ", commands(finding.cure)))
    if not finding.groups:
        return parts
    blind = open_picture is None or finding.kind in BLIND or not finding.files
    if blind:
        return [*parts, *words(finding.groups)]
    assert open_picture is not None
    if finding.kind in GROUPED:
        return [*parts, *rows_of(finding.groups, open_picture)]
    return [*parts, *one_gallery(finding.groups, open_picture)]


def sentence_of(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?")) else ".")


def commands(text: str) -> list[Child]:
    """A cure with its options and commands set apart."""
    pieces = re.split(COMMAND, " ".join(text.split()))
    return [element("code", piece) if place % 2 else piece for place, piece in enumerate(pieces)]


def listed(lines: Sequence[str]) -> Html:
    """Sentences under one another."""
    return element("ul", [element("li", line) for line in lines], class_="notes small")


def words(groups: Sequence[Group]) -> list[Child]:
    """The files without pictures."""
    rows: list[list[Child]] = [[", ".join(group.files) or group.note, group.note] for group in groups[:SHOWN_WORDS]]
    named = any(group.files for group in groups)
    if not named or not any(group.note for group in groups):
        return [listed([str(row[0]) for row in rows]), more(len(groups) - len(rows))]
    return [table(["File", "What"], rows, "Files"), more(len(groups) - len(rows))]


def more(count: int) -> Html | None:
    """How many there are beyond those shown."""
    return element("p", f"And {count:,} more, in doctor.json.", class_="small") if count > 0 else None


def rows_of(groups: Sequence[Group], open_picture: Callable[[str], Image.Image]) -> list[Child]:
    """A row of pictures for each group."""
    parts: list[Child] = []
    for group in groups[:SHOWN_GROUPS]:
        parts.append(element("p", group.note, class_="row"))
        tiles = [element("li", tile(name, "", open_picture)) for name in group.files[:SHOWN_FILES]]
        parts.append(element("ul", tiles, class_="gallery"))
        parts.append(more(len(group.files) - len(tiles)))
    return [*parts, more(len(groups) - SHOWN_GROUPS)]


def one_gallery(groups: Sequence[Group], open_picture: Callable[[str], Image.Image]) -> list[Child]:
    """All pictures in one grid, with what is said of each."""
    some = groups[:SHOWN_SINGLES]
    tiles = [element("li", tile(group.files[0], group.note, open_picture)) for group in some if group.files]
    return [element("ul", tiles, class_="gallery"), more(len(groups) - len(some))]


def tile(name: str, note: str, open_picture: Callable[[str], Image.Image]) -> Html:
    """One picture with its name and what is said of it; where it cannot be read, the name alone."""
    try:
        picture = open_picture(name)
    except SightlineError as error:
        return element("figure", element("figcaption", name, element("span", error.why or error.what, class_="wrong")))
    small = max(picture.size) <= SMALL
    source = picture_uri(picture, small)
    image = element("img", src=source, alt=f"{name} {note}".strip(), title=name, loading="lazy",
                    class_="pixels" if small else None)  # fmt: skip
    says = element("span", note, class_="wrong") if note else None
    return element("figure", image, element("figcaption", says, element("span", name, class_="sure")))


def picture_uri(picture: Image.Image, small: bool) -> str:
    """A picture as a data: address: small ones exactly, others as a JPEG of at most TILE pixels, without metadata."""
    if not small:
        return jpeg_uri(picture, 2 * TILE)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return png_uri(buffer.getvalue())


def looked(found: Diagnosis) -> list[Child]:
    """What the doctor looked at, so that an empty page means something; and what is known of the data."""
    parts: list[Child] = [listed(found.looked)]
    if found.notes:
        parts += [element("h3", "The data as Sightline reads them"), listed(found.notes)]
    return parts
