"""Checks of annotation files: every missing key and wrong type is collected, and one error reports all."""

import json
import os
from collections import Counter
from typing import Any

import numpy as np

from ...errors import SightlineError, counted, listing
from .shapes import Runs, Shape

LARGEST = 1e7
"""Larger coordinates, in pixels, are faults."""
MAX_BYTES = 4 << 30
REQUIRED = object()
TYPES: dict[type, str] = {
    str: "text",
    int: "an integer",
    float: "a number",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}
KEYS: tuple[type, ...] = (int, str)
"""The types of ids."""


class FaultList(list[str]):
    """The faults of annotation files, as lines for the user."""

    def member(self, item: Any, key: str, kind: type | tuple[type, ...], where: str, default: Any = REQUIRED) -> Any:
        """`item[key]`, which must have the type `kind`; None after adding a fault. default: for a missing key or null;
        without it, a missing key is a fault."""
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(item, dict):
            self.append(f"{where} is {described(item)} instead of an object")
            return None
        value = item.get(key)
        if value is None and default is not REQUIRED:
            return default
        if key not in item:
            self.append(f"{where}: the key {key!r} is missing")
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool) and float in kinds
        fits = abs(value) < LARGEST if number else type(value) in kinds
        if not fits:
            self.append(f"{where}.{key} is {described(value)} instead of {' or '.join(TYPES[each] for each in kinds)}")
            return None
        return value

    def size(self, item: Any, keys: tuple[str, str], where: str) -> tuple[int, int] | None:
        """Width and height of an image, from two keys; None after adding a fault."""
        values = [self.member(item, key, int, where) for key in keys]
        if None not in values and not all(0 < value < LARGEST for value in values):
            self.append(f"{where}: the size {values[0]} x {values[1]} is not that of an image")
            return None
        return None if None in values else (values[0], values[1])

    def numbers(self, value: Any, where: str) -> np.ndarray | None:
        """A list of numbers, or of lists of equal length, as float64; None after adding a fault."""
        try:
            array = np.array(value)
        except (ValueError, OverflowError):
            array = np.array("")
        if array.dtype.kind not in "iuf" or not array.ndim or not (np.abs(array) < LARGEST).all():
            self.append(f"{where} is {described(value)}, which is not a list of numbers")
            return None
        return array.astype(np.float64)

    def polygon(self, value: Any, where: str, unused: Counter[str]) -> np.ndarray | None:
        """The corners of a polygon, float64 [corners, 2], from x, y, x, y, ... or pairs; None after adding a fault.
        Polygons with fewer than 3 corners have no area; they are counted in `unused`."""
        points = self.numbers(value, where) if value != [] else np.zeros((0, 2))
        if points is None:
            return None
        if points.ndim > 2 or points.size % 2 or points.shape[1:] not in ((), (2,)):
            self.append(f"{where} is not a list of x and y coordinates")
            return None
        if points.size < 6:
            unused["polygon with fewer than 3 corners"] += 1
            return None
        return points.reshape(-1, 2)

    def runs(
        self, counts: Any, box: tuple[int, int, int, int], size: tuple[int, int], where: str, by_columns: bool = False
    ) -> Runs | None:
        """Run lengths of a part `box` of an image of this size (width, height); None after adding a fault."""
        lengths = self.numbers(counts, where)
        left, top, width, height = box
        if lengths is None or lengths.ndim > 1:
            return None
        if min(box) < 0 or left + width > size[0] or top + height > size[1]:
            self.append(f"{where}: the mask of {width} x {height} pixels at ({left}, {top}) is not inside the image")
            return None
        if (lengths < 0).any() or (lengths % 1).any() or lengths.sum() != width * height:
            have = f"{lengths.sum():,.0f} pixels instead of {width} x {height}"
            self.append(f"{where}: the run lengths are not those of this mask: {have}")
            return None
        return Runs(lengths.astype(np.int64), box, by_columns)

    def outside(self, shape: Shape, size: tuple[int, int], where: str) -> bool:
        """Whether all polygons of a shape are outside of an image (width, height); then a fault is added."""
        if not shape.polygons:
            return False
        points = np.concatenate(shape.polygons)
        if (points.max(0) <= 0).any() or (points.min(0) >= size).any():
            corner = points[0].tolist()
            self.append(f"{where}: the shape at {corner} is outside of the image of {size[0]} x {size[1]} pixels")
            return True
        return False

    def json(self, path: str, name: str) -> Any:
        """The content of a JSON file; None after adding a fault."""
        try:
            if os.path.getsize(path) > MAX_BYTES:
                self.append(f"{name} has more than {MAX_BYTES >> 30} GiB")
                return None
            with open(path, "rb") as file:
                return json.loads(file.read())
        except json.JSONDecodeError as error:
            self.append(f"{name}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}")
        except OSError as error:
            self.append(f"{name} cannot be read: {error.strerror}")
        except (ValueError, RecursionError) as error:
            self.append(f"{name} is not valid JSON: {error}")
        return None

    def report(self, title: str, root: str) -> None:
        """Raise SightlineError with all faults, if there are any. title: name of the format."""
        if self:
            what = f"the {title} annotations are not complete: {counted(len(self), 'fault')}"
            cure = f"export them again, or correct these entries; if they are not {title} annotations, choose another "
            cure += "--data.layout, such as splits, classes or csv"
            raise SightlineError(what, where=root, why="\n" + listing(list(dict.fromkeys(self))), cure=cure)


def described(value: Any) -> str:
    """A value of a file in a few characters, for messages."""
    if isinstance(value, list | dict):
        return "an object" if isinstance(value, dict) else f"a list of {counted(len(value), 'value')}"
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."
