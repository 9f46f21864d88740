"""YOLO: a file data.yaml with the class names and the images of the splits, and a text file of polygons per image.

A line of a text file is `class x y x y x y ...`, with coordinates as shares of width and height. Lines with four
numbers after the class are boxes, which are not areas. The text file of `images/a.jpg` is `labels/a.txt`.
"""

import os
from collections import Counter
from typing import Any

import numpy as np

from ...config.paths import relative_path
from ...config.strict_yaml import parse_yaml
from ...errors import SightlineError
from ..sources.labels import read_text
from ..sources.scan import images_below
from ..sources.splits import split_of
from .shapes import AnnotatedImage, FileContent, Shape

TITLE = "YOLO"
MARGIN = 0.01
"""Coordinates may be outside of 0 to 1 by this much, as rounding leaves them."""


def read(path: str, name: str, faults: list[str]) -> FileContent:
    """Read data.yaml and the text files of all images; name: its path relative to the data, for messages."""
    root, content = os.path.dirname(path), FileContent()
    try:
        config = parse_yaml(read_text(path), name)
        content.classes = class_names(config, name, faults)
        for split, file in split_images(config, root, name, faults) if content.classes else ():
            head, found, tail = file.rpartition("images/")  # the last folder of this name is replaced
            texts = os.path.splitext(f"{head}labels/{tail}" if found else file)[0] + ".txt"
            image = AnnotatedImage(file, texts, relative=True, split=split)
            known = os.path.isfile(os.path.join(root, texts))
            content.images.append(with_objects(image, root, content, faults) if known else image)
    except SightlineError as error:
        faults.append(f"{error.where}: {error.what}: {error.why}")
    return content


def class_names(config: Any, name: str, faults: list[str]) -> tuple[str, ...]:
    """The class names; () after adding a fault."""
    names = config.get("names") if isinstance(config, dict) else None
    if isinstance(names, dict) and {*names} == {*range(len(names))}:
        names = [names[index] for index in range(len(names))]
    if isinstance(names, list) and names and len({*map(str, names)}) == len(names):
        return tuple(map(str, names))
    wrong = "missing" if names is None else "not a list of different names, or not numbered from 0"
    faults.append(f"{name}: names: {wrong}; write `names: [cat, dog]` or `names: {{0: cat, 1: dog}}`")
    return ()


def split_images(config: dict[Any, Any], root: str, name: str, faults: list[str]) -> list[tuple[str, str]]:
    """(split, image relative to the root) of the keys train, val and test: folders, or text files with lists of images.

    Paths are relative to the key `path` if that folder exists in the data, else to data.yaml; a leading `../`, as some
    programs write it, is left out if nothing is found otherwise. Missing test images are allowed. Without these keys,
    all images are read, with the splits that their folders name.
    """
    found: list[tuple[str, str]] = []
    splits = [split for split in ("train", "val", "test") if config.get(split)]
    for split in splits:
        entry = config[split]
        for text in map(str, entry if isinstance(entry, list) else [entry]):
            options = [os.path.join(str(config.get("path") or ""), text), text, text.removeprefix("../")]
            options += [relative_path(each, root) for each in options if os.path.isabs(each)]
            paths = [os.path.normpath(each) for each in options if not os.path.isabs(each) and "\0" not in each]
            inside = [each for each in paths if each[:2] != ".." and os.path.exists(os.path.join(root, each))]
            if inside and inside[0].endswith(".txt"):
                lines = filter(None, map(str.strip, read_text(os.path.join(root, inside[0])).splitlines()))
                below = [relative_path(line, root) if os.path.isabs(line) else line for line in lines]
                listed = [os.path.normpath(os.path.join(os.path.dirname(inside[0]), line)) for line in below]
                found += [(split, file) for file in listed if file[:2] != ".." and not os.path.isabs(file)]
                wrong = [file for file in listed if file[:2] == ".." or os.path.isabs(file)]
                faults += [f"{inside[0]}: {file[:80]!r} is a path outside of the data" for file in wrong]
            elif inside and os.path.isdir(os.path.join(root, inside[0])):
                folder = "" if inside[0] == "." else inside[0].replace(os.sep, "/")
                found += [(split, file.name) for file in images_below(root, folder, Counter())]
            elif split != "test":
                faults.append(f"{name}: {split}: {text[:80]!r} is not a folder or list of images in the data")
    if splits:
        return found
    names = [file.name for file in images_below(root, "", Counter())]
    return [(next(filter(None, map(split_of, file.split("/")[:-1])), ""), file) for file in names]


def with_objects(image: AnnotatedImage, root: str, content: FileContent, faults: list[str]) -> AnnotatedImage:
    """Add the objects in the text file of an image."""
    objects, shapes, count = list[str](), list[Shape](), len(content.classes)
    for number, line in enumerate(read_text(os.path.join(root, image.where)).splitlines(), 1):
        if not line.strip():
            continue
        wrong, index, values = "", -1.0, list[float]()
        try:
            index, *values = np.array(line.split(), np.float64).tolist()
        except ValueError:
            wrong = f"{line[:40]!r} is not a list of numbers"
        if not wrong and index not in range(count):
            wrong = f"there is no class {index:g}; the {count} classes are 0 to {count - 1}"
        elif not wrong and len(values) != 4 and (len(values) < 6 or len(values) % 2):
            wrong = f"{len(values)} numbers after the class; a box has 4, a polygon has 2 for each corner"
        elif not all(-MARGIN <= value <= 1 + MARGIN for value in values):
            wrong = "coordinates are not shares of width and height, from 0 to 1"
        if wrong:
            faults.append(f"{image.where}, line {number}: {wrong}")
            continue
        objects.append(content.classes[int(index)])
        shapes += [Shape(objects[-1], (np.array(values).reshape(-1, 2),))] if len(values) > 4 else []
        content.unused["box without an area"] += len(values) == 4
    return image._replace(objects=tuple(objects), shapes=tuple(shapes))
