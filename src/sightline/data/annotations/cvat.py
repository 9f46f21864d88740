"""CVAT for images 1.1: an XML file with polygons, masks and tags. Shapes are drawn by z_order, then by the order of the
file. Boxes, lines, points, skeletons and cuboids are not areas. Ellipses are an error.

The XML parser neither expands entities nor loads other files: a document type declaration is an error.
"""

from typing import Any, NamedTuple
from xml.parsers import expat

import numpy as np

from .checks import numbers, polygon_shape, runs_shape
from .shapes import AnnotatedImage, FileContent, Runs, Shape

TITLE = "CVAT"
LINES = ("box", "polyline", "points", "skeleton", "cuboid")
NEEDED = {
    "image": ("name", "width", "height"),
    "polygon": ("label", "points"),
    "mask": ("label", "rle", "left", "top", "width", "height"),
    **dict.fromkeys(("tag", *LINES), ("label",)),
}
"""The attributes that an element must have."""


class Element(NamedTuple):
    """An element of an XML file. path: the names of its parents and its own. where: its line, for messages."""

    path: tuple[str, ...]
    given: dict[str, str]
    where: str
    text: list[str]


def elements(path: str, name: str, faults: list[str]) -> list[Element]:
    """The elements of an XML file in order; only those before the first fault."""
    found: list[Element] = []
    parents: list[Element] = []
    parser = expat.ParserCreate()

    def start(tag: str, given: dict[str, str]) -> None:
        above = parents[-1].path if parents else ()
        parents.append(Element((*above, tag), given, f"{name}, line {parser.CurrentLineNumber}", []))
        found.append(parents[-1])

    def doctype(*details: Any) -> None:
        raise ValueError("it has a document type declaration (<!DOCTYPE>), which may define entities")

    parser.StartElementHandler, parser.EndElementHandler = start, lambda tag: parents.pop()
    parser.CharacterDataHandler = lambda text: parents[-1].text.append(text)
    parser.StartDoctypeDeclHandler = doctype
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
    except (OSError, expat.ExpatError, ValueError, LookupError) as error:
        faults.append(f"{name}, line {parser.CurrentLineNumber}: not valid XML: {error}")
    return found


def read(path: str, name: str, faults: list[str]) -> FileContent:
    """Read a CVAT file; name: its path relative to the data, for messages."""
    content, before, classes, levels = FileContent(), len(faults), list[str](), list[list[tuple[float, Shape]]]()
    for element in elements(path, name, faults):
        tag, given, where = element.path[-1], element.given, element.where
        if element.path[-2:] == ("label", "name"):
            classes.append("".join(element.text).strip())
        if element.path[:2] != ("annotations", "image") or len(element.path) > 3:
            if element.path == ("annotations", "track"):
                faults.append(f"{where}: this is a track of a video; export the task as 'CVAT for images 1.1'")
            continue
        if len(element.path) == 3 and not levels:
            continue  # of an image with a fault
        missing = [key for key in NEEDED.get(tag, ()) if key not in given]
        if tag not in NEEDED or missing:
            faults += [f"{where}: {key}: missing" for key in missing]
            faults += [f"{where}: <{tag}> cannot be read; convert it to a polygon or a mask"] * (tag not in NEEDED)
        elif tag == "image":
            sides = numbers([given["width"], given["height"]], "U", f"{where}: width, height", faults).astype(int)
            size, split = (int(sides[0]), int(sides[1])) if sides.size else (0, 0), given.get("subset", "")
            faults += [] if min(size) > 0 or not sides.size else [f"{where}: width or height is not above 0"]
            content.images.append(AnnotatedImage(given["name"], where, size=size, split=split))
            levels.append([])
        elif tag == "tag":
            content.images[-1] = (last := content.images[-1])._replace(tags=(*last.tags, given["label"]))
        else:
            last = content.images[-1]
            shapes = area(tag, given, last.size or (0, 0), where, faults)
            level = numbers([given.get("z_order", "0")], "U", f"{where}: z_order", faults).sum()
            levels[-1] += [(float(level), shape) for shape in shapes]
            content.images[-1] = last._replace(objects=(*last.objects, given["label"]))
            content.unused[tag if tag in LINES else f"{tag} without an area"] += not shapes
    if not content.images and len(faults) == before:
        faults.append(f"{name}: the element <image> is missing in <annotations>")
    for index, found in enumerate(levels):
        shapes = tuple(shape for _, shape in sorted(found, key=lambda pair: pair[0]))
        content.images[index] = content.images[index]._replace(shapes=shapes)
    content.classes = tuple(dict.fromkeys(filter(None, classes)))
    return content


def area(tag: str, given: dict[str, str], size: tuple[int, int], where: str, faults: list[str]) -> list[Shape]:
    """The area of <polygon>, with `points` such as `x,y;x,y;x,y`, or of <mask>, with run lengths along the rows of a
    part of the image; [] for other elements, or after adding a fault."""
    if tag == "polygon":
        pairs = numbers([pair.split(",") for pair in given["points"].split(";")], "U", f"{where}: points", faults)
        if pairs.shape[1:] == (2,):
            return polygon_shape(given["label"], [pairs], size, where, faults)
        faults += [f"{where}: points are not pairs of x and y"] * pairs.size
    if tag == "mask":
        counts = numbers(given["rle"].split(","), "U", f"{where}: rle", faults)
        box = numbers([given[key] for key in NEEDED["mask"][2:]], "U", f"{where}: left, top, ...", faults)
        if counts.size and box.size:
            left, top, width, height = box.astype(int).tolist()
            runs = Runs(counts.astype(np.int64), (left, top, width, height))
            return runs_shape(given["label"], runs, size, where, faults)
    return []
