"""Label Studio: the JSON export, a list of tasks with annotations: polygons, brush masks and choices.

Boxes and key points are not areas; ellipses are an error. Of several annotations of a task, the first that is not
canceled is read.
"""

import os
import re
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from pydantic import AliasChoices, Field, RootModel

from ..sources.scan import EXTENSIONS
from .checks import Coordinate, Pair, Record, Side, parsed, polygon_shape, runs_shape
from .shapes import AnnotatedImage, FileContent, Runs, Shape, runs_of

TITLE = "Label Studio"
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


def renamed(path: str) -> str:
    """A path after Label Studio's server has replaced spaces and removed special characters, as Django does."""
    return re.sub(r"[^-\w./]", "", path.replace(" ", "_"))


class StudioValue(Record):
    choices: list[str] = []
    polygonlabels: list[str] = []
    brushlabels: list[str] = []
    rectanglelabels: list[str] = []
    points: list[Pair] = []
    rle: list[int] = []


class StudioResult(Record):
    type: str
    value: StudioValue = StudioValue()
    original_width: Side | None = None
    original_height: Side | None = None
    image_rotation: Coordinate = 0


class StudioAnnotation(Record):
    result: list[StudioResult]
    was_cancelled: bool | None = None


class StudioTask(Record):
    data: dict[str, Any]
    annotations: list[StudioAnnotation] = Field([], validation_alias=AliasChoices("annotations", "completions"))


class StudioExport(RootModel[list[StudioTask]]):
    pass


def read(path: str, name: str, faults: list[str]) -> FileContent:
    """Read an export; name: its path relative to the data, for messages."""
    tasks, content = parsed(StudioExport, path, name, faults), FileContent()
    if tasks is None and faults[-1].endswith("data: missing"):
        faults[-1] += "; export the project as JSON, not as JSON-MIN"
    for index, task in enumerate(tasks.root if tasks else ()):
        texts = {key: image_path(value) for key, value in task.data.items() if isinstance(value, str)}
        files = {key: text for key, text in texts.items() if text.lower().endswith(EXTENSIONS)}
        if len(files) != 1 and "image" not in files:
            faults.append(f"{name}: [{index}].data has {len(files) or 'no'} paths of images, and none is called image")
            continue
        valid = [each.result for each in task.annotations if not each.was_cancelled]
        content.unused["further annotation of an image"] += max(0, len(valid) - 1)
        image = AnnotatedImage(files.get("image") or next(iter(files.values())), f"{name}: [{index}]")
        content.images.append(with_results(image, valid[0] if valid else [], faults, content.unused))
    return content


def image_path(text: str) -> str:
    """The path in an address such as `/data/upload/3/0a1b2c3d-cat.jpg` or `/data/local-files/?d=photos/cat.jpg`."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    if parts.path.endswith("/local-files/"):
        return parse_qs(parts.query).get("d", [""])[0]
    path = unquote(parts.path)
    return os.path.basename(path) if parts.scheme or path.startswith("/data/upload/") else path


def with_results(
    image: AnnotatedImage, results: list[StudioResult], faults: list[str], unused: Counter[str]
) -> AnnotatedImage:
    """Add the choices and regions of an annotation to its image."""
    tags, objects, shapes, sizes = list[str](), list[str](), list[Shape](), set[tuple[int, int]]()
    for index, item in enumerate(results):
        where, value = f"{image.where}.result[{index}]", item.value
        labels = value.polygonlabels or value.brushlabels
        tags += value.choices
        objects += [*labels, *value.rectanglelabels]
        if item.type == "ellipselabels" or len(labels) > 1 or (labels and item.image_rotation):
            faults.append(f"{where}: an ellipse, several labels of a region, or a rotated image cannot be read")
        elif labels and not (item.original_width and item.original_height):
            faults.append(f"{where}: original_width or original_height: missing")
        elif labels:
            sizes.add(size := (item.original_width or 0, item.original_height or 0))
            shapes += (found := region(value, labels[0], size, f"{where}.value", faults))
            unused["region without an area"] += not found
        elif not value.choices and item.type != "relation":
            unused[item.type.removesuffix("labels")[:40]] += 1
    faults += [f"{image.where}: original_width and original_height differ between regions"] * (len(sizes) > 1)
    size = sizes.pop() if sizes else None
    return image._replace(tags=tuple(tags), objects=tuple(objects), shapes=tuple(shapes), size=size)


def region(value: StudioValue, label: str, size: tuple[int, int], where: str, faults: list[str]) -> list[Shape]:
    """The area of a region, whose coordinates are percentages of the image; [] after adding a fault."""
    if value.polygonlabels:
        points = np.array(value.points).reshape(-1, 2) * np.array(size) / 100
        return polygon_shape(label, [points], size, where, faults)
    runs = brush_runs(value.rle, size)
    faults += [] if runs else [f"{where}.rle is not a brush mask of {size[0]} x {size[1]} pixels"]
    return runs_shape(label, runs, size, where, faults) if runs else []


def brush_codes(mask: np.ndarray) -> list[int]:
    """Encode a mask, bool [height, width], as a brush mask that `brush_runs` decodes."""
    bits = f"{4 * mask.size:032b}" + f"{8 - 1:05b}" + f"{16 - 1:04b}" * 4  # 8 bits per value, 16 per length
    for number, count in enumerate(runs_of(mask).counts.tolist()):
        for start in range(0, 4 * count, 1 << 16):
            bits += f"111{min(4 * count - start, 1 << 16) - 1:016b}{255 * (number % 2):08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def brush_runs(codes: list[int], size: tuple[int, int]) -> Runs | None:
    """Decode a brush mask (format of @thi.ng/rle-pack): bytes of red, green, blue and alpha; a pixel is in the mask if
    its alpha is above 0. None if the codes are not those of an image of this size (width, height)."""
    values, lengths, total, position = list[int](), list[int](), 0, 0

    def read(width: int) -> int:
        nonlocal position
        position += width
        return int(bits[position - width : position], 2)  # ValueError after the last bit

    try:
        bits = "".join(f"{byte:08b}" for byte in bytes(codes))
        count, word = read(32), read(5) + 1
        widths = [read(4) + 1 for _ in range(4)]
        if count != 4 * size[0] * size[1] or word != 8:
            return None
        while total < count and position < len(bits):
            repeated = read(1)
            length = 1 + read(widths[read(2)])
            values += [read(8)] if repeated else [read(8) for _ in range(length)]
            lengths += [length] if repeated else [1] * length
            total += length
    except ValueError:
        return None
    if total != count or position > len(bits):
        return None
    return runs_of(np.repeat(np.array(values, np.uint8), lengths)[3::4].reshape(size[::-1]) > 0)
