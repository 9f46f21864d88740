"""Checks of annotation files: missing keys and wrong types are collected as lines, and one error reports all."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import SightlineError, counted, listing
from .shapes import Runs, Shape

Coordinate = Annotated[float, Field(gt=-1e7, lt=1e7)]
Pair = Annotated[list[Coordinate], Field(min_length=2, max_length=2)]
Side = Annotated[int, Field(gt=0, lt=1e7)]
"""Width or height of an image in pixels."""


class Record(BaseModel):
    """An object in an annotation file. Further keys are not read; text is not converted to numbers."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


R = TypeVar("R", bound=BaseModel)


def parsed(model: type[R], path: str, name: str, faults: list[str]) -> R | None:
    """Read a JSON file; None after adding a fault for each invalid value. name: the path for messages."""
    try:
        with open(path, "rb") as file:
            return model.model_validate(json.loads(file.read()))
    except json.JSONDecodeError as error:
        faults.append(f"{name}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}")
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        for each in error.errors(include_url=False, include_context=False, include_input=False):
            keys = [part for part in each["loc"] if isinstance(part, int) or not part.startswith(TYPES)]
            where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
            found.setdefault(where, []).append(each["msg"].replace("Field required", "missing"))
        faults += [f"{name}{': ' * bool(where)}{where}: {' or '.join(texts)}" for where, texts in found.items()]
    except (OSError, ValueError, RecursionError) as error:
        faults.append(f"{name} cannot be read: {error}")
    return None


TYPES = ("int", "str", "list[", "CocoRuns")
"""Pydantic's names of the types in a union, which are in the position of an error but not in the file."""


def numbers(values: Any, kinds: str, where: str, faults: list[str]) -> np.ndarray:
    """A list as float64; [] after adding a fault. kinds: NumPy's letters of the allowed types: `iuf`, or `U` for text.
    For millions of coordinates, this needs less memory than models."""
    try:
        array = np.array(values)
        if array.ndim and array.dtype.kind in kinds and (np.abs(found := array.astype(np.float64)) < 1e7).all():
            return found
    except (ValueError, OverflowError):
        pass
    faults.append(f"{where}: these are not numbers")
    return np.zeros(0)


def polygon_shape(
    label: str, parts: Sequence[np.ndarray], size: tuple[int, int], where: str, faults: list[str]
) -> list[Shape]:
    """The shape of polygons, float64 [corners, 2], in an image (width, height); [] for polygons with fewer than 3
    corners, which have no area, and after adding a fault, if all are outside of the image."""
    if not (areas := tuple(part for part in parts if len(part) > 2)):
        return []
    corners = np.concatenate(areas)
    if (corners.max(0) > 0).all() and (corners.min(0) < size).all():
        return [Shape(label, areas)]
    faults.append(f"{where}: a shape at {corners[0].tolist()} is outside of the image of {size[0]} x {size[1]} pixels")
    return []


def runs_shape(label: str, runs: Runs, size: tuple[int, int], where: str, faults: list[str]) -> list[Shape]:
    """The shape of run lengths in an image (width, height); [] after adding a fault."""
    left, top, width, height = runs.box
    if min(runs.box) < 0 or left + width > size[0] or top + height > size[1]:
        faults.append(
            f"{where}: {width} x {height} pixels at ({left}, {top}) are not in an image of {size[0]} x {size[1]}"
        )
    elif (runs.counts < 0).any() or runs.counts.sum() != width * height:
        faults.append(f"{where}: the run lengths are not those of a mask of {width} x {height} pixels")
    else:
        return [Shape(label, runs=runs)]
    return []


def report(faults: list[str], title: str, root: str) -> None:
    """Raise SightlineError with all faults, if there are any. title: name of the format."""
    if faults:
        what = f"the {title} annotations are not complete: {counted(len(faults), 'fault')}"
        cure = "export them again, or correct these entries; to read the images without them, choose another "
        cure += "--data.layout, such as splits, classes, csv or unlabelled"
        raise SightlineError(what, where=root, why="\n" + listing(faults), cure=cure)
