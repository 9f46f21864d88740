"""LabelMe: a JSON file per image, with shapes in pixels and with flags of the whole image.

Drawn are polygons, rectangles, circles and masks, as by LabelMe's own export; points and lines are not areas.
"""

import base64
import binascii
import io
from typing import Any

import numpy as np
from PIL import Image

from .checks import FaultList
from .shapes import AnnotatedImage, FileContent, Runs, Shape, ellipse, runs_of

TITLE = "LabelMe"
LINES = ("point", "points", "line", "linestrip")


def read(path: str, name: str, faults: FaultList) -> FileContent:
    """Read the file of one image; name: its path relative to the data, for messages."""
    content, data, before = FileContent(), faults.json(path, name), len(faults)
    if data is None:
        return content
    file, shapes = (faults.member(data, key, kind, name) for key, kind in (("imagePath", str), ("shapes", list)))
    flags = faults.member(data, "flags", dict, name, default={})
    sized = isinstance(data, dict) and (data.get("imageWidth") or data.get("imageHeight"))
    size = faults.size(data, ("imageWidth", "imageHeight"), name) if sized else None
    if file is None or shapes is None or flags is None or (sized and size is None):
        return content
    if wrong := [flag for flag, value in flags.items() if not isinstance(value, bool)]:
        faults.append(f"{name}: flags.{wrong[0]} is not true or false")
    objects, drawn = [], []
    for index, item in enumerate(shapes):
        where = f"{name}: shapes[{index}]"
        label, points = (faults.member(item, key, kind, where) for key, kind in (("label", str), ("points", list)))
        kind = faults.member(item, "shape_type", str, where, default="polygon")
        if label is None or points is None or kind is None:
            continue
        objects.append(label)
        shape = shape_of(item, label, kind, points, size, where, faults, content)
        drawn += [shape] if shape and not (size and faults.outside(shape, size, f"{where}.points")) else []
    tags = tuple(flag for flag, value in flags.items() if value is True)
    if len(faults) == before:
        content.images.append(AnnotatedImage(file.replace("\\", "/"), name, tags, tuple(objects), tuple(drawn), size))
    return content


def shape_of(
    item: dict[str, Any],
    label: str,
    kind: str,
    points: list[Any],
    size: tuple[int, int] | None,
    where: str,
    faults: FaultList,
    content: FileContent,
) -> Shape | None:
    """The area of a shape; None for points and lines, or after adding a fault."""
    if kind in LINES:
        content.unused[kind] += 1
        return None
    if kind == "polygon":
        corners = faults.polygon(points, f"{where}.points", content.unused)
        return None if corners is None else Shape(label, (corners,))
    if kind not in ("rectangle", "circle", "mask"):
        faults.append(f"{where}.shape_type is {kind!r}, which is not polygon, rectangle, circle, mask, line or point")
        return None
    ends = faults.numbers(points, f"{where}.points")
    if ends is None or ends.shape != (2, 2):
        faults.append(f"{where}.points: a {kind} needs 2 points")
        return None
    (x, y), (other_x, other_y) = ends.tolist()
    if kind == "rectangle":
        return Shape(label, (np.array([(x, y), (other_x, y), (other_x, other_y), (x, other_y)]),))
    if kind == "circle":
        radius = float(np.hypot(other_x - x, other_y - y))
        return Shape(label, (ellipse(x, y, radius, radius),))
    runs = runs_of_png(item, (int(x), int(y)), (int(other_x), int(other_y)), size, where, faults)
    return None if runs is None else Shape(label, runs=runs)


def runs_of_png(
    item: dict[str, Any],
    first: tuple[int, int],
    last: tuple[int, int],
    size: tuple[int, int] | None,
    where: str,
    faults: FaultList,
) -> Runs | None:
    """The mask in a shape: a PNG in base64, from the pixel `first` to the pixel `last`."""
    text, (left, top), part = (
        faults.member(item, "mask", str, where),
        first,
        (last[0] - first[0] + 1, last[1] - first[1] + 1),
    )
    if text is None:
        return None
    if min(left, top) < 0 or (size and (last[0] >= size[0] or last[1] >= size[1])):
        faults.append(f"{where}.points: the mask is not inside the image")
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.size == part:
                return runs_of(np.asarray(image.convert("L")) > 0, left, top)
            faults.append(f"{where}.mask has {image.size} pixels instead of {part}, as its points say")
    except (OSError, ValueError, binascii.Error, SyntaxError, Image.DecompressionBombError) as error:
        faults.append(f"{where}.mask is not a PNG in base64: {error}")
    return None
