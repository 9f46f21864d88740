"""CVAT for images 1.1: an XML file with polygons, masks, ellipses and tags. Shapes are drawn by z_order, then by the
order of the file. Boxes, lines, points, skeletons and cuboids are not read as areas.

The XML parser neither expands entities nor loads other files: a document type declaration is an error.
"""

import os
from typing import Any
from xml.parsers import expat

import numpy as np

from .checks import LARGEST, MAX_BYTES, FaultList
from .shapes import AnnotatedImage, FileContent, Shape, ellipse

TITLE = "CVAT"
LINES = ("box", "polyline", "points", "skeleton", "cuboid")


class DoctypeFound(ValueError):
    """The XML file has a document type declaration, which may define entities."""


class CvatHandler:
    """Collect the images of a CVAT file while expat reads it."""

    def __init__(self, name: str, faults: FaultList, content: FileContent):
        self.name, self.faults, self.content = name, faults, content
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler, self.parser.EndElementHandler = self.start, self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.path: list[str] = []
        self.classes: list[str] = []
        self.image: AnnotatedImage | None = None
        self.shapes: list[tuple[float, Shape]] = []
        self.objects: list[str] = []
        self.tags: list[str] = []

    @property
    def where(self) -> str:
        return f"{self.name}, line {self.parser.CurrentLineNumber}"

    def doctype(self, *details: Any) -> None:
        raise DoctypeFound("it has a document type declaration (<!DOCTYPE>), which could define entities")

    def start(self, tag: str, given: dict[str, str]) -> None:
        if not self.path and tag != "annotations":
            self.faults.append(f"{self.where}: the first element is <{tag}> instead of <annotations>")
        if self.path == ["annotations"] and tag == "track":
            self.content.unused["video track"] += 1
        if self.path == ["annotations"] and tag == "image":
            self.image, self.shapes, self.objects, self.tags = None, [], [], []
            name, sizes = self.value(given, "name"), [self.number(given, key) for key in ("width", "height")]
            if name is not None and None not in sizes:
                size = (int(sizes[0] or 0), int(sizes[1] or 0))
                if min(size) > 0:
                    self.image = AnnotatedImage(name, self.where, size=size, split=given.get("subset", ""))
                else:
                    self.faults.append(f"{self.where}: the size {size[0]} x {size[1]} is not that of an image")
        elif self.path == ["annotations", "image"]:
            self.add(tag, given)
        if self.path[-1:] == ["label"] and tag == "name" and "attribute" not in self.path:
            self.classes.append("")
        self.path.append(tag)

    def text(self, text: str) -> None:
        if self.path[-2:] == ["label", "name"]:
            self.classes[-1] += text

    def end(self, tag: str) -> None:
        self.path.pop()
        if self.path == ["annotations"] and tag == "image" and self.image:
            shapes = tuple(shape for _, shape in sorted(self.shapes, key=lambda pair: pair[0]))
            kept = self.image._replace(tags=tuple(self.tags), objects=tuple(self.objects), shapes=shapes)
            self.content.images.append(kept)

    def value(self, given: dict[str, str], key: str) -> str | None:
        """The attribute `key`; None after adding a fault."""
        if key not in given:
            self.faults.append(f"{self.where}: the attribute {key!r} is missing")
        return given.get(key)

    def number(self, given: dict[str, str], key: str) -> float | None:
        """The attribute `key` as a number; None after adding a fault."""
        text = self.value(given, key)
        try:
            if text is None or abs(float(text)) < LARGEST:
                return None if text is None else float(text)
        except ValueError:
            pass
        self.faults.append(f"{self.where}: {key}={text!r} is not a number")
        return None

    def add(self, tag: str, given: dict[str, str]) -> None:
        """Add an element of an image: a tag, or an object with its area if it has one."""
        label = self.value(given, "label")
        if label is None:
            return
        if tag == "tag":
            self.tags.append(label)
            return
        self.objects.append(label)
        if tag in LINES:
            self.content.unused[tag] += 1
        elif tag not in ("polygon", "mask", "ellipse"):
            self.faults.append(f"{self.where}: <{tag}> is not an element of an image in CVAT for images 1.1")
        elif shape := self.area(tag, label, given):
            order = self.number(given, "z_order") if "z_order" in given else 0.0
            self.shapes += [(order or 0.0, shape)]

    def area(self, tag: str, label: str, given: dict[str, str]) -> Shape | None:
        """The shape of a polygon, mask or ellipse; None after adding a fault."""
        size = self.image.size if self.image and self.image.size else (0, 0)
        if tag == "mask":
            text, box = (
                self.value(given, "rle"),
                [self.number(given, key) for key in ("left", "top", "width", "height")],
            )
            counts = None if text is None else self.split(text, ",")
            if counts is None or None in box or not self.image:
                return None
            left, top, width, height = (int(value or 0) for value in box)
            runs = self.faults.runs(counts, (left, top, width, height), size, f"{self.where}: rle")
            return None if runs is None else Shape(label, runs=runs)
        if tag == "ellipse":
            center, radii = ([self.number(given, key) for key in keys] for keys in (("cx", "cy"), ("rx", "ry")))
            if None in (*center, *radii):
                return None
            turned = self.number(given, "rotation") if "rotation" in given else 0.0
            shape = Shape(label, (ellipse(*(value or 0.0 for value in (*center, *radii, turned))),))
        else:
            text = self.value(given, "points")
            pairs = None if text is None else [self.split(pair, ",") for pair in text.split(";")]
            if pairs is None or None in pairs:
                return None
            points = self.faults.polygon(pairs, f"{self.where}: points", self.content.unused)
            if points is None:
                return None
            shape = Shape(label, (points,))
        return None if self.image and self.faults.outside(shape, size, self.where) else shape

    def split(self, text: str, separator: str) -> list[float] | None:
        """The numbers in a text; None after adding a fault."""
        try:
            return np.array(text.split(separator), np.float64).tolist()
        except ValueError:
            self.faults.append(f"{self.where}: {text[:40]!r} is not a list of numbers")
            return None


def read(path: str, name: str, faults: FaultList) -> FileContent:
    """Read a CVAT file; name: its path relative to the data, for messages."""
    content = FileContent()
    handler = CvatHandler(name, faults, content)
    try:
        if os.path.getsize(path) > MAX_BYTES:
            faults.append(f"{name} has more than {MAX_BYTES >> 30} GiB")
            return content
        with open(path, "rb") as file:
            handler.parser.ParseFile(file)
    except OSError as error:
        faults.append(f"{name} cannot be read: {error.strerror}")
    except DoctypeFound as error:
        faults.append(f"{handler.where}: {error}")
    except (expat.ExpatError, ValueError, LookupError) as error:
        faults.append(f"{handler.where}: not valid XML: {error}")
    content.classes = tuple(dict.fromkeys(filter(None, (text.strip() for text in handler.classes))))
    if content.unused["video track"]:
        faults.append(f"{name} has tracks of a video; export it as 'CVAT for images 1.1'")
    elif not content.images and not faults:
        faults.append(f"{name}: the element <image> is missing")
    return content
