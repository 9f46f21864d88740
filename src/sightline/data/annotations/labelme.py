"""LabelMe: a JSON file per image, with shapes in pixels and with flags of the whole image.

Drawn are polygons, rectangles and masks, as by LabelMe's own export; points and lines are not areas. Circles are an
error.
"""

import base64
import io
from collections import Counter
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field

from .checks import Coordinate, Record, Side, content_of, parsed, polygon_shape, runs_shape
from .shapes import AnnotatedImage, FileContent, Runs, Shape, runs_of

TITLE = "LabelMe"


class LabelMeShape(Record):
    label: str
    points: list[tuple[Coordinate, Coordinate]]
    shape_type: Literal["polygon", "rectangle", "mask", "point", "points", "line", "linestrip"] | None = None
    mask: str | None = None


class LabelMe(Record):
    imagePath: str
    shapes: list[LabelMeShape]
    flags: dict[str, bool] = Field(default={})
    imageWidth: Side | None = None
    imageHeight: Side | None = None


def read(path: str, name: str, faults: list[str]) -> FileContent:
    """Read the file of one image; name: its path relative to the data, for messages."""
    data = parsed(LabelMe, content_of(path, name, faults), name, faults)
    if data is None:
        return FileContent()
    size = (data.imageWidth, data.imageHeight) if data.imageWidth and data.imageHeight else None
    found: list[Shape] = []
    for index, item in enumerate(data.shapes):
        found += shape_of(item, size, f"{name}: shapes[{index}]", faults)
    tags, objects = (flag for flag, value in data.flags.items() if value), (item.label for item in data.shapes)
    file = data.imagePath.replace("\\", "/")
    unused = Counter({"point, line or polygon with fewer than 3 corners": len(data.shapes) - len(found)})
    return FileContent((), [AnnotatedImage(file, name, tuple(tags), tuple(objects), tuple(found), size)], unused)


def shape_of(item: LabelMeShape, size: tuple[int, int] | None, where: str, faults: list[str]) -> tuple[Shape, ...]:
    """The area of a shape; () for points and lines, or after adding a fault."""
    kind, points, inside = item.shape_type or "polygon", np.array(item.points).reshape(-1, 2), size or (10**7, 10**7)
    if kind in ("rectangle", "mask") and len(points) != 2:
        faults.append(f"{where}.points: a {kind} has 2 points, not {len(points)}")
        return ()
    if kind == "mask":
        (left, top), (right, bottom) = points.astype(int).tolist()
        runs = runs_of_png(item.mask or "", (left, top, right - left + 1, bottom - top + 1), f"{where}.mask", faults)
        return (runs and runs_shape(item.label, runs, inside, where, faults)) or ()
    if kind == "rectangle":
        points = points[[0, 0, 1, 1]] * (1, 0) + points[[0, 1, 1, 0]] * (0, 1)
    elif kind != "polygon":
        return ()
    return polygon_shape(item.label, [points], inside, f"{where}.points", faults)


def runs_of_png(text: str, box: tuple[int, int, int, int], where: str, faults: list[str]) -> Runs | None:
    """The mask in a PNG in base64, which covers the part `box` of an image; None after adding a fault."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.size == box[2:]:
                return runs_of(np.asarray(image.convert("L")) > 0, *box[:2])
            faults.append(f"{where} has {image.size[0]} x {image.size[1]} pixels; by its points, {box[2]} x {box[3]}")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        faults.append(f"{where} is not a PNG in base64: {error}")
    return None
