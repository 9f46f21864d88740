"""LabelMe: a JSON file per image, with shapes in pixels and with flags of the whole image.

Drawn are polygons, rectangles (also rotated ones) and masks, as by LabelMe's own export; points and lines are not
areas. Circles are an error.
"""

import base64
import io
from collections import Counter
from typing import Literal

import numpy as np
from PIL import Image

from .checks import Pair, Record, Side, parsed, polygon_shape, runs_shape
from .shapes import AnnotatedImage, FileContent, Shape, runs_of

TITLE = "LabelMe"
CORNERS = 64
"""Corners of the polygon that is drawn for a circle."""


class LabelMeShape(Record):
    label: str
    points: list[Pair]
    shape_type: (
        Literal["polygon", "rectangle", "oriented_rectangle", "circle", "mask", "point", "points", "line", "linestrip"]
        | None
    ) = None
    mask: str | None = None


class LabelMe(Record):
    imagePath: str
    shapes: list[LabelMeShape]
    flags: dict[str, bool] | None = None
    imageWidth: Side | None = None
    imageHeight: Side | None = None


def read(path: str, name: str, faults: list[str]) -> FileContent:
    """Read the file of one image; name: its path relative to the data, for messages."""
    data, found = parsed(LabelMe, path, name, faults), list[Shape]()
    if data is None:
        return FileContent()
    size = (data.imageWidth, data.imageHeight) if data.imageWidth and data.imageHeight else None
    for index, item in enumerate(data.shapes):
        found += shape_of(item, size or (10**7, 10**7), f"{name}: shapes[{index}]", faults)
    tags, objects = (flag for flag, value in (data.flags or {}).items() if value), (item.label for item in data.shapes)
    image = AnnotatedImage(data.imagePath, name, tuple(tags), tuple(objects), tuple(found), size)
    return FileContent((), [image], Counter({"point, line or empty polygon": len(data.shapes) - len(found)}))


def shape_of(item: LabelMeShape, size: tuple[int, int], where: str, faults: list[str]) -> list[Shape]:
    """The area of a shape; [] for points and lines, or after adding a fault."""
    kind, points = item.shape_type or "polygon", np.array(item.points).reshape(-1, 2)
    if kind in ("polygon", "oriented_rectangle"):
        return polygon_shape(item.label, [points], size, f"{where}.points", faults)
    if kind not in ("rectangle", "circle", "mask") or len(points) != 2:
        wrong = kind in ("rectangle", "circle", "mask")
        faults += [f"{where}.points: a {kind} has 2 points, not {len(points)}"] * wrong
        return []
    if kind == "circle":  # its center, and a point on it
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        corners = points[0] + np.hypot(*(points[1] - points[0])) * np.stack([np.cos(angles), np.sin(angles)], 1)
        return polygon_shape(item.label, [corners], size, f"{where}.points", faults)
    if kind == "rectangle":
        corners = np.stack([points[[0, 1, 1, 0], 0], points[[0, 0, 1, 1], 1]], 1)
        return polygon_shape(item.label, [corners], size, f"{where}.points", faults)
    (left, top), (width, height) = points[0].astype(int).tolist(), (points[1].astype(int) - points[0].astype(int) + 1)
    try:  # a PNG in base64
        with Image.open(io.BytesIO(base64.b64decode(item.mask or "", validate=True)), formats=("PNG",)) as image:
            if image.size == (width, height):
                runs = runs_of(np.asarray(image.convert("L")) > 0, left, top)
                return runs_shape(item.label, runs, size, f"{where}.mask", faults)
            faults.append(
                f"{where}.mask has {image.size[0]} x {image.size[1]} pixels; by its points, {width} x {height}"
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        faults.append(f"{where}.mask is not a PNG in base64: {error}")
    return []
