"""Label Studio: the JSON export, a list of tasks with annotations: polygons, brush masks, ellipses and choices.

Boxes and key points are not areas. Of several annotations of a task, the first that is not canceled is read.
"""

import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ..sources.scan import EXTENSIONS
from .checks import FaultList
from .shapes import AnnotatedImage, FileContent, Runs, Shape, ellipse, runs_of

TITLE = "Label Studio"
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""
AREAS = ("polygonlabels", "brushlabels", "ellipselabels")


def read(path: str, name: str, faults: FaultList) -> FileContent:
    """Read an export; name: its path relative to the data, for messages."""
    content, tasks = FileContent(), faults.json(path, name)
    if tasks is not None and not isinstance(tasks, list):
        faults.append(f"{name} is not a list of tasks")
        tasks = None
    for index, task in enumerate(tasks or ()):
        where = f"{name}: [{index}]"
        data = faults.member(task, "data", dict, where)
        if data is None:
            continue
        file = image_file(data, f"{where}.data", faults)
        key = "completions" if "completions" in task else "annotations"
        found = faults.member(task, key, list, where, default=[])
        if file is None or found is None:
            continue
        results = [
            faults.member(each, "result", list, f"{where}.{key}[{number}]")
            for number, each in enumerate(found)
            if not (isinstance(each, dict) and each.get("was_cancelled") is True)
        ]
        content.unused["further annotation of an image"] += max(0, len(results) - 1)
        image = AnnotatedImage(file, where)
        content.images.append(
            with_results(image, results[0] or [] if results else [], f"{where}.{key}", faults, content)
        )
    return content


def image_file(data: dict[str, Any], where: str, faults: FaultList) -> str | None:
    """The path of the image of a task, from the only value that ends like an image, or from `image`."""
    texts = {key: image_path(value) for key, value in data.items() if isinstance(value, str)}
    found = {key: text for key, text in texts.items() if text.lower().endswith(EXTENSIONS)}
    if len(found) == 1 or "image" in found:
        return found.get("image") or next(iter(found.values()))
    faults.append(f"{where} has {len(found) or 'no'} paths of images{', and none is called image' * bool(found)}")
    return None


def image_path(text: str) -> str:
    """The path in an address such as `/data/upload/3/0a1b2c3d-cat.jpg` or `/data/local-files/?d=photos/cat.jpg`."""
    try:
        parts = urlsplit(text)
        local = parse_qs(parts.query).get("d") if parts.path.endswith("/local-files/") else None
    except ValueError:
        return text
    if local:
        return local[0]
    if parts.scheme or parts.path.startswith("/data/upload/"):
        return os.path.basename(unquote(parts.path))
    return unquote(parts.path)


def with_results(
    image: AnnotatedImage, results: list[Any], where: str, faults: FaultList, content: FileContent
) -> AnnotatedImage:
    """Add the choices and regions of an annotation to its image."""
    tags, objects, shapes = list[str](), list[str](), list[Shape]()
    size: tuple[int, int] | None = None
    for index, item in enumerate(results):
        at = f"{where}.result[{index}]"
        kind = faults.member(item, "type", str, at, default="relation")
        value = faults.member(item, "value", dict, at, default={})
        if kind is None or value is None:
            continue
        labels = faults.member(value, kind, list, f"{at}.value", default=[])
        if labels and not all(isinstance(label, str) for label in labels):
            faults.append(f"{at}.value.{kind} is not a list of labels")
        elif kind == "choices":
            tags += [label for label in labels or () if label not in tags]
        elif labels:
            objects += labels
            if kind not in AREAS:
                content.unused[kind.removesuffix("labels")] += 1
                continue
            own = faults.size(item, ("original_width", "original_height"), at)
            if own and size and own != size:
                faults.append(f"{at}: the image has {own[0]} x {own[1]} pixels here, and {size[0]} x {size[1]} before")
            size = size or own
            shapes += [each for each in (region(kind, item, labels, own, at, faults, content),) if each]
        elif kind != "relation":
            content.unused[f"{kind} without a label"] += 1
    return image._replace(tags=tuple(tags), objects=tuple(objects), shapes=tuple(shapes), size=size)


def region(
    kind: str,
    item: Any,
    labels: list[str],
    size: tuple[int, int] | None,
    where: str,
    faults: FaultList,
    content: FileContent,
) -> Shape | None:
    """The area of a region, whose coordinates are percentages of the image; None after adding a fault."""
    value = item["value"]
    if size is None:
        return None
    if item.get("image_rotation") or len(labels) > 1:
        faults.append(f"{where}: a region of a rotated image, or with several labels, cannot be read")
        return None
    if kind == "brushlabels":
        codes = faults.numbers(faults.member(value, "rle", list, f"{where}.value") or [], f"{where}.value.rle")
        runs = None if codes is None else brush_runs(codes, size)
        if runs is None:
            faults.append(f"{where}.value.rle is not a brush mask of {size[0]} x {size[1]} pixels")
        return None if runs is None else Shape(labels[0], runs=runs)
    if kind == "polygonlabels":
        given = faults.member(value, "points", list, f"{where}.value")
        points = None if given is None else faults.polygon(given, f"{where}.value.points", content.unused)
    else:
        keys = ("x", "y", "radiusX", "radiusY")
        numbers = [faults.member(value, key, float, f"{where}.value") for key in keys]
        turned = faults.member(value, "rotation", float, f"{where}.value", default=0.0)
        points = None
        if None not in (*numbers, turned):
            x, y, wide, high = (number * side / 100 for number, side in zip(numbers, size * 2, strict=True))
            points = ellipse(x, y, wide, high, turned) * 100 / size
    shape = None if points is None else Shape(labels[0], (points * size / 100,))
    return None if shape is None or faults.outside(shape, size, f"{where}.value") else shape


def brush_runs(codes: np.ndarray, size: tuple[int, int]) -> Runs | None:
    """Decode a brush mask (format of @thi.ng/rle-pack): bytes of red, green, blue and alpha; a pixel is in the mask if
    its alpha is above 0. None if the codes are not those of an image of this size (width, height)."""
    if (codes < 0).any() or (codes > 255).any() or (codes % 1).any():
        return None
    content = codes.astype(np.uint8).tobytes()
    read = bit_reader("".join(f"{byte:08b}" for byte in content))
    values, lengths, total = list[int](), list[int](), 0
    try:
        count, word = read(32), read(5) + 1
        widths = [read(4) + 1 for _ in range(4)]
        if count != 4 * size[0] * size[1] or word != 8:
            return None
        while total < count:
            repeated = read(1)
            length = 1 + read(widths[read(2)])
            values += [read(8)] if repeated else [read(8) for _ in range(length)]
            lengths += [length] if repeated else [1] * length
            total += length
    except ValueError:  # the bits are over
        return None
    if total != count:
        return None
    alpha = np.repeat(np.array(values, np.uint8), lengths)[3::4]
    return runs_of(alpha.reshape(size[1], size[0]) > 0)


def bit_reader(bits: str) -> Callable[[int], int]:
    """A function (number of bits) -> the integer in the next bits; ValueError after the last bit."""
    position = 0

    def read(width: int) -> int:
        nonlocal position
        position += width
        if position > len(bits):
            raise ValueError("no more bits")
        return int(bits[position - width : position], 2)

    return read
