"""The HTML page of `sightline masks`: images with their masks, and the effect of a clean-up by a segmentation run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from ..data.channels import RGB
from ..data.decode.images import planes
from ..data.decode.masks import MAX_PIXELS
from ..data.decode.palettes import display_colors
from ..data.decode.rasters import read_for
from ..errors import counted
from ..insight.mask_figures import colored, hatched
from ..insight.style import png_rgb
from ..report.formatting import fixed, fixed_interval
from ..report.html import Child, Html, element, jpeg_uri, missing_note, png_uri, table
from ..report.page import layout
from ..stats.groups import ids_in
from ..stats.paired import paired_ious
from .clean_up import SHOWN, SIDE, CleanUp, subsampled
from .outputs import COLORS, PlannedImage, colors_of


def render(name: str, images: Sequence[PlannedImage], record: dict[str, Any], clean_up: CleanUp | None) -> str:
    """The complete HTML page. record: the content of segments.json. clean_up: its results, or None."""
    content: list[tuple[str, list[Child]]] = [("Summary", summary(record))]
    if clean_up:
        content.append(("Clean-up", effect(record["clean_up"], clean_up)))
    content.append(("Images", image_panels(images, record["images"], clean_up)))
    if record["errors"]:
        rows: list[list[Child]] = [[error["filename"], error["error"]] for error in record["errors"][:SHOWN]]
        note = element("p", f"errors.csv lists {counted(len(record['errors']), 'image')}.", class_="small")
        content.append(("Images with errors", [table(["Image", "Error"], rows, "Images with errors"), note]))
    content.append(("How it was made", origin(record)))
    return layout("Sightline: Segment Anything", name, "", content)


def summary(record: dict[str, Any]) -> list[Child]:
    """Section: cards with the number of images and masks, the share of pixels in a mask, and the time per image."""
    done = record["images"]
    masks, sizes = sum(one["masks"] for one in done), [one["height"] * one["width"] for one in done]
    covered = float(np.average([one["covered"] for one in done], weights=sizes))
    cards = {
        "images": f"{len(done):,}",
        "masks": f"{masks:,}",
        "masks per image": f"{masks / len(done):,.1f}",
        "pixels in a mask": f"{covered:.0%}",
        "seconds per image": f"{record['seconds_per_image']:,.1f}",
        "checkpoint": record["checkpoint"]["name"],
    }
    blocks = [element("div", element("dt", name), element("dd", value)) for name, value in cards.items()]
    note = "The masks have no classes: the model segments objects, but does not classify them."
    return [element("dl", blocks, class_="cards cards-3"), element("p", note, class_="small")]


def effect(facts: dict[str, Any], clean_up: CleanUp) -> list[Child]:
    """Section: how the clean-up works and, with true masks, its effect on the IoU of each class."""
    rule = "Each mask has the class that the run predicts most often in it. Pixels outside all masks keep their class."
    parts: list[Child] = [element("p", rule), element("p", "The run: ", element("code", facts["run"]))]
    if "sentence" not in facts:
        return [*parts, missing_note("The effect was not measured: add --truth DIR, a folder of true masks.")]
    lead = element("p", f"{facts['sentence'][:1].upper()}{facts['sentence'][1:]}.", class_="lead")
    rows: list[list[Child]] = [
        [name, fixed(before), fixed(after), fixed(difference), fixed_interval((low, high))]
        for name, before, after, difference, low, high in zip(
            clean_up.parts.palette.classes, *paired_ious(*clean_up.counts(), ids_in(clean_up.groups())), strict=True
        )
    ]
    head = ["Class", "IoU before", "IoU after", "Difference", "95 % interval"]
    note = (
        "IoU over all images. Differences are paired by image, and intervals are over images, or over groups of images "
        "that belong together. Do not choose quality and stability on the images for which you report results."
    )
    return [lead, *parts, table(head, rows, "IoU of each class", numeric=1), element("p", note, class_="small")]


def image_panels(
    images: Sequence[PlannedImage], done: Sequence[dict[str, Any]], clean_up: CleanUp | None
) -> list[Child]:
    """Section: the first SHOWN images with their masks and, with a clean-up, the classes before and after."""
    note = "Each mask has one of 250 colors. Smaller masks cover larger ones, as in the PNG of mask ids."
    parts: list[Child] = [element("p", note, class_="small"), legend(clean_up) if clean_up else None]
    by_name = {image.name: image for image in images}
    for summary in done[:SHOWN]:
        image = by_name[summary["file_name"]]
        original = Image.fromarray(planes(read_for(image.path, RGB, MAX_PIXELS)).transpose(1, 2, 0))
        with Image.open(image.file("_overlay.png")) as overlay, Image.open(image.file("_segments.png")) as numbers:
            over, ids = jpeg_uri(overlay, SIDE), subsampled(np.asarray(numbers).astype(np.uint16))
        masks = f"{counted(summary['masks'], 'mask')}, {summary['seconds']:,.1f} s"
        panels = [
            panel(jpeg_uri(original, SIDE), "image", f"{original.width:,} x {original.height:,} pixels"),
            panel(over, "overlay", f"masks cover {summary['covered']:.0%} of the pixels"),
            panel(png_uri(png_rgb(colored(colors_of(ids), COLORS))), "masks", masks),
        ]
        if clean_up:
            colors = display_colors(clean_up.parts.palette)
            for kind, mask, score in clean_up.shown.get(image.name, []):
                panels.append(panel(png_uri(png_rgb(hatched(mask, colors))), kind, score))
        parts += [element("h3", image.name), element("div", panels, class_="triple")]
    if len(done) > SHOWN:
        rest = f"{counted(len(done) - SHOWN, 'more image')} in the folder of this page."
        parts.append(element("p", rest, class_="small"))
    return parts


def panel(source: str, kind: str, note: str) -> Html:
    """One image with its caption. source: a data URI."""
    caption = element("figcaption", element("b", kind), f": {note}" if note else None)
    return element("figure", element("img", src=source, alt=f"{kind} {note}".strip(), loading="lazy"), caption)


def legend(clean_up: CleanUp) -> Html:
    """A list of the classes with their colors."""
    palette, entries = clean_up.parts.palette, []
    for name, color in zip(palette.classes, display_colors(palette), strict=True):
        square = element("rect", width="12", height="12", fill=to_hex(color / 255), stroke="#8a929a")
        drawn = element("svg", square, width="13", height="13", viewBox="-0.5 -0.5 13 13", aria_hidden="true")
        entries.append(element("li", drawn, name))
    return element("ul", entries, class_="legend flat")


def origin(record: dict[str, Any]) -> list[Child]:
    """Section: a table of checkpoint, settings, device and versions."""
    rows: dict[str, Child] = {"checkpoint": record["checkpoint"]["name"]}
    rows["SHA-256 of the weights"] = element("code", record["checkpoint"]["sha256"])
    rows |= {name.replace("_", " "): str(value) for name, value in record["settings"].items()}
    rows["computed on"] = f"{record['device']}, {counted(record['threads'], 'thread')}"
    rows["versions"] = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    note = (
        "In this folder, for each image: NAME_segments.png (16 bits: mask ids, 0 for no mask), NAME_segments.json "
        "(COCO run lengths and scores) and NAME_overlay.png; segments.json has the data of this page."
    )
    body = table(["", ""], [list(row) for row in rows.items()], "How it was made", kind="facts")
    return [body, element("p", note, class_="small")]
