"""CVAT for images 1.1: an XML file with polygons, masks and tags. Shapes are drawn by z_order, then by the
order of the file. Boxes, lines, points, skeletons and cuboids are not areas. Ellipses are an error.

The XML parser neither expands entities nor loads other files: a document type declaration is an error.
"""

from collections.abc import Callable
from typing import Any
from xml.parsers import expat

import numpy as np

from .checks import Coordinate, Record, Side, content_of, parsed, polygon_shape, runs_shape
from .shapes import AnnotatedImage, FileContent, Runs, Shape

TITLE = "CVAT"
LINES = ("box", "polyline", "points", "skeleton", "cuboid")


class CvatRecord(Record, strict=False):
    """Attributes of an XML element: text, which is converted to numbers."""


class CvatImage(CvatRecord):
    name: str
    width: Side
    height: Side
    subset: str = ""


class CvatObject(CvatRecord):
    label: str
    z_order: Coordinate = 0


class CvatPolygon(CvatObject):
    points: str


class CvatMask(CvatObject):
    rle: str
    left: int
    top: int
    width: Side
    height: Side


class CvatHandler:
    """Collect the images of a CVAT file while expat reads it."""

    def __init__(self, name: str, faults: list[str]):
        self.name, self.faults, self.content = name, faults, FileContent()
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler, self.parser.EndElementHandler = self.start, self.end
        self.parser.CharacterDataHandler, self.parser.StartDoctypeDeclHandler = self.text, self.doctype
        self.path: list[str] = []
        self.classes: list[str] = []
        self.image: CvatImage | None = None
        self.line = self.tracks = 0
        self.tags, self.objects, self.shapes = list[str](), list[str](), list[tuple[float, Shape]]()

    @property
    def where(self) -> str:
        return f"{self.name}, line {self.parser.CurrentLineNumber}"

    def doctype(self, *details: Any) -> None:
        raise ValueError("it has a document type declaration (<!DOCTYPE>), which may define entities")

    def start(self, tag: str, given: dict[str, str]) -> None:
        if self.path == ["annotations"] and tag == "image":
            self.image, self.line = parsed(CvatImage, given, self.where, self.faults), self.parser.CurrentLineNumber
            self.tags, self.objects, self.shapes = [], [], []
        elif self.path == ["annotations", "image"] and self.image:
            self.add(tag, given, self.image)
        self.tracks += self.path == ["annotations"] and tag == "track"
        if self.path[-1:] == ["label"] and tag == "name":
            self.classes.append("")
        self.path.append(tag)

    def text(self, text: str) -> None:
        if self.path[-2:] == ["label", "name"]:
            self.classes[-1] += text

    def end(self, tag: str) -> None:
        self.path.pop()
        if self.path == ["annotations"] and tag == "image" and self.image:
            where, size = f"{self.name}, line {self.line}", (self.image.width, self.image.height)
            shapes = tuple(shape for _, shape in sorted(self.shapes, key=lambda pair: pair[0]))
            about = (tuple(self.tags), tuple(self.objects), shapes, size)
            self.content.images.append(AnnotatedImage(self.image.name, where, *about, split=self.image.subset))

    def add(self, tag: str, given: dict[str, str], image: CvatImage) -> None:
        """Add an element of an image: a tag, or an object with its area if it has one."""
        if tag not in (*READERS, *LINES, "tag"):
            self.faults.append(f"{self.where}: <{tag}> cannot be read; convert it to a polygon or a mask")
            return
        model, area = READERS.get(tag, (CvatObject, None))
        item = parsed(model, given, self.where, self.faults)
        if item is None or tag == "tag":
            self.tags += [item.label] if item else []
            return
        self.objects.append(item.label)
        shapes = area(item, (image.width, image.height), self.where, self.faults) if area else ()
        self.shapes += [(item.z_order, shape) for shape in shapes]
        self.content.unused[tag if tag in LINES else f"{tag} without an area"] += not shapes


def polygon(item: CvatPolygon, size: tuple[int, int], where: str, faults: list[str]) -> tuple[Shape, ...]:
    """The area of <polygon>, with `points` such as `x,y;x,y;x,y`."""
    pairs = numbers([pair.split(",") for pair in item.points.split(";")], f"{where}: points", faults)
    if pairs is None or pairs.shape[1:] != (2,):
        faults += [] if pairs is None else [f"{where}: points are not pairs of x and y"]
        return ()
    return polygon_shape(item.label, [pairs], size, where, faults)


def mask(item: CvatMask, size: tuple[int, int], where: str, faults: list[str]) -> tuple[Shape, ...]:
    """The area of <mask>, with run lengths along the rows of a part of the image."""
    counts = numbers(item.rle.split(","), f"{where}: rle", faults)
    box = (item.left, item.top, item.width, item.height)
    return () if counts is None else runs_shape(item.label, Runs(counts.astype(np.int64), box), size, where, faults)


READERS: dict[str, tuple[type[CvatObject], Callable[..., tuple[Shape, ...]]]] = {
    "polygon": (CvatPolygon, polygon),
    "mask": (CvatMask, mask),
}


def numbers(texts: list[Any], where: str, faults: list[str]) -> np.ndarray | None:
    """Texts as numbers, float64; None after adding a fault."""
    try:
        values = np.array(texts, np.float64)
        if (np.abs(values) < 1e7).all():
            return values
    except ValueError:
        pass
    faults.append(f"{where} are not a list of numbers")
    return None


def read(path: str, name: str, faults: list[str]) -> FileContent:
    """Read a CVAT file; name: its path relative to the data, for messages."""
    handler, before = CvatHandler(name, faults), len(faults)
    try:
        handler.parser.Parse(content_of(path, name, faults), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        faults.append(f"{handler.where}: not valid XML: {error}")
    handler.content.classes = tuple(dict.fromkeys(filter(None, (text.strip() for text in handler.classes))))
    if handler.tracks:
        faults.append(f"{name} has tracks of a video; export the task as 'CVAT for images 1.1'")
    elif not handler.content.images and len(faults) == before:
        faults.append(f"{name}: the element <image> is missing in <annotations>")
    return handler.content
