"""The page of `sightline masks`: each picture, its masks over it and alone, and what a clean-up is worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from ..data.decode.images import open_image
from ..data.decode.palettes import display_colors
from ..errors import SightlineError, counted
from ..insight.strips import hatched
from ..insight.style import png_rgb
from ..report.html import Child, Html, element, jpeg_uri, missing_note, png_uri, table
from ..report.page import layout
from ..stats.intervals import points
from ..tasks.segment.metrics import as_counts, mean_iou
from .clean_up import SHOWN, SIDE, CleanUp, small
from .outputs import Done, Task, colored_ids

SETTINGS = {
    "points_per_side": "points a side",
    "points_per_batch": "points at once",
    "quality": "predicted IoU above",
    "stability": "stability score above",
    "nms": "box IoU of doubles above",
}
MASKS = "Each mask has a color. Where masks lie on one another, the smaller one is on top, as in the PNG of numbers."


def render(
    name: str,
    tasks: Sequence[Task],
    done: dict[str, Done],
    record: dict[str, Any],
    clean_up: CleanUp | None,
    pixels: int,
) -> str:
    """The whole page. done: by the name of the picture; pixels: the most that a picture may have."""
    content: list[tuple[str, list[Child]]] = [("Summary", summary(list(done.values()), record))]
    if clean_up:
        content.append(("Clean-up", effect(record["clean_up"], clean_up)))
    content.append(("Pictures", pictures([task for task in tasks if task.name in done], done, clean_up, pixels)))
    if record["errors"]:
        rows: list[list[Child]] = [[error["filename"], error["error"]] for error in record["errors"][:SHOWN]]
        more = len(record["errors"]) - len(rows)
        note = element("p", f"And {more:,} more, in errors.csv.", class_="small") if more else None
        content.append(("Not used", [table(["Picture", "Why"], rows, "Pictures that were not used"), note]))
    content.append(("How it was made", origin(record)))
    return layout("Sightline: Segment Anything", name, "", content)


def summary(done: Sequence[Done], record: dict[str, Any]) -> list[Child]:
    """How many masks, how much of the pictures they cover, and what they took."""
    masks = sum(one.masks for one in done)
    area = sum(one.size[0] * one.size[1] for one in done)
    covered = sum(one.covered * one.size[0] * one.size[1] for one in done) / area
    lead = f"{counted(masks, 'mask')} in {counted(len(done), 'picture')}; {covered:.0%} of the pixels lie within one."
    cards = [
        ("pictures", f"{len(done):,}"),
        ("masks", f"{masks:,}"),
        ("masks a picture", f"{masks / len(done):,.1f}"),
        ("seconds a picture", f"{record['seconds_a_picture']:,.1f}"),
    ]
    blocks = [element("div", element("dt", key), element("dd", value)) for key, value in cards]
    note = "These masks have no classes: the model says what belongs together, and not what it is."
    return [
        element("p", lead, class_="lead"),
        element("dl", blocks, class_="cards cards-4"),
        element("p", note, class_="small"),
    ]


def effect(facts: dict[str, Any], clean_up: CleanUp) -> list[Child]:
    """What was cleaned up, and what that is worth where the truth is known."""
    rule = (
        "Within each mask every pixel got the class that the run predicts for most of it, the largest masks first; "
        "pixels in no mask stayed as they were."
    )
    says: list[Child] = [element("p", rule), element("p", "The run: ", element("code", facts["run"]))]
    if "sentence" not in facts:
        return [*says, missing_note("Not measured: --truth DIR compares with true masks.")]
    lead = element("p", f"{facts['sentence'][:1].upper()}{facts['sentence'][1:]}.", class_="lead")
    found, rows = clean_up.by_class(), []
    for place, name in enumerate(clean_up.parts.palette.classes):
        values = (part[place] for part in found)
        first, second, difference, low, high = values
        span = f"[{points(low)}, {points(high)}]" if np.isfinite(low) else "-"
        rows.append([name, share(first), share(second), points(difference) if np.isfinite(difference) else "-", span])
    head = ["Class", "IoU before", "IoU after", "Difference, points", "95 % interval"]
    note = (
        "IoU over all pictures. Differences are paired: both masks are of the same pictures, and the intervals are "
        "bootstrapped over pictures. Choose quality and stability on other pictures than those that you report."
    )
    return [lead, *says, table(head, rows, "IoU of each class", numeric=1), element("p", note, class_="small")]


def share(value: float) -> str:
    """Four digits, or a dash."""
    return f"{value:.4f}" if np.isfinite(value) else "-"


def pictures(tasks: Sequence[Task], done: dict[str, Done], clean_up: CleanUp | None, pixels: int) -> list[Child]:
    """A strip for each of the first pictures."""
    says: list[Child] = [element("p", MASKS, class_="small")]
    if clean_up:
        says.append(legend(clean_up))
    for task in tasks[:SHOWN]:
        says += strip(task, done[task.name], clean_up, pixels)
    if len(tasks) > SHOWN:
        rest = f"And {counted(len(tasks) - SHOWN, 'more picture')}, in the folder of this page."
        says.append(element("p", rest, class_="small"))
    return says


def strip(task: Task, one: Done, clean_up: CleanUp | None, pixels: int) -> list[Child]:
    """One picture: as it is, with its masks, the masks alone; below them its classes before and after."""
    title = element("h3", task.name)
    try:
        with Image.open(task.file("_overlay.png")) as overlay, Image.open(task.file("_segments.png")) as numbers:
            ids, image = np.asarray(numbers).astype(np.uint16), open_image(task.path, pixels)
            panels = [
                panel(jpeg_uri(image, SIDE), "image", f"{one.size[1]:,} x {one.size[0]:,} pixels"),
                panel(jpeg_uri(overlay.convert("RGB"), SIDE), "masks over it", f"{one.covered:.0%} of the pixels"),
                panel(png(colored_ids(small(ids))), "masks", f"{one.masks:,} of them, {one.seconds:,.1f} s"),
            ]
    except (OSError, SightlineError) as error:
        return [title, missing_note(f"Its files cannot be shown: {getattr(error, 'why', '') or error}")]
    if clean_up and task.name in clean_up.shown:
        scores = scores_of(task.name, clean_up)
        colors = display_colors(clean_up.parts.palette)
        panels += [panel(png(hatched(mask, colors)), kind, scores.get(kind, ""))
                   for kind, mask in clean_up.shown[task.name].items()]  # fmt: skip
    return [title, element("div", panels, class_="triple")]


def scores_of(name: str, clean_up: CleanUp) -> dict[str, str]:
    """The mean IoU of one picture before and after, in words; nothing where it was not measured."""
    if name not in clean_up.measured:
        return {}
    place = clean_up.measured.index(name)
    before, after = (as_counts(counts) for counts in clean_up.counts())
    found = zip(("prediction", "cleaned up"), (before, after), strict=True)
    values = {kind: float(mean_iou(counts)[place]) for kind, counts in found}
    return {kind: f"mean IoU {value:.3f}" for kind, value in values.items() if np.isfinite(value)}


def panel(source: str, kind: str, note: str) -> Html:
    """One picture of a strip with its caption."""
    caption = element("figcaption", element("b", kind), f": {note}" if note else None)
    return element("figure", element("img", src=source, alt=f"{kind} {note}".strip(), loading="lazy"), caption)


def legend(clean_up: CleanUp) -> Html:
    """The classes' colors."""
    palette = clean_up.parts.palette
    entries = []
    for name, color in zip(palette.classes, display_colors(palette), strict=True):
        square = element("rect", width="12", height="12", fill=to_hex(color / 255), stroke="#8a929a")
        drawn = element("svg", square, width="13", height="13", viewBox="-0.5 -0.5 13 13", aria_hidden="true")
        entries.append(element("li", drawn, name))
    return element("ul", entries, class_="legend flat")


def png(pixels: np.ndarray) -> str:
    """Exact colors uint8 [h, w, 3] as a data: address."""
    return png_uri(png_rgb(pixels))


def facts(*cells: Child) -> list[Child]:
    """A row of a table."""
    return list(cells)


def origin(record: dict[str, Any]) -> list[Child]:
    """Checkpoint, settings, versions."""
    checkpoint = record["checkpoint"]
    rows: list[list[Child]] = [
        ["checkpoint", checkpoint["name"]],
        *(facts(f"SHA-256 of {name}", element("code", digest)) for name, digest in checkpoint["sha256"].items()),
        *(facts(words, str(record["settings"][key])) for key, words in SETTINGS.items()),
        ["computed on", f"{record['device']}, {counted(record['threads'], 'thread')}"],
        ["versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())],
    ]
    note = (
        "Beside this page lie each picture NAME_segments.png (16 bits: the number of the mask, 0 none), "
        "NAME_segments.json (COCO run lengths and scores) and NAME_overlay.png; segments.json has this page's numbers."
    )
    return [table(["", ""], rows, "How it was made", kind="facts"), element("p", note, class_="small")]
