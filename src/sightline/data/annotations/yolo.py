"""YOLO: a file data.yaml with the class names and the folders of the splits, and a text file of polygons per image.

A line of a text file is `class x y x y x y ...`, with coordinates as shares of width and height. Lines with four
numbers after the class are boxes, which are not areas. The text file of `images/a.jpg` is `labels/a.txt`.
"""

import os
from collections import Counter
from typing import Any

import numpy as np

from ...config.strict_yaml import parse_yaml
from ...errors import SightlineError
from ..sources.labels import read_class_list
from ..sources.scan import CLASS_LIST, images_below
from .checks import FaultList, described
from .shapes import AnnotatedImage, FileContent, Shape

TITLE = "YOLO"
MARGIN = 0.01
"""Coordinates may be outside of 0 to 1 by this much, as rounding leaves them."""


def read(path: str, name: str, faults: FaultList) -> FileContent:
    """Read data.yaml, or a folder without one (`path` is then the folder), and the text files of all images."""
    root = os.path.dirname(path) if os.path.isfile(path) else path
    config = {} if path == root else settings(path, name, faults)
    content = FileContent(class_names(config, root, name, faults))
    folders = split_folders(config, root, name, faults) if path != root else [("", "images")]
    for split, folder in folders:
        for file in images_below(root, folder, Counter()):
            parts = file.name.split("/")
            if "images" in parts:  # the last folder of this name is the one that is replaced
                parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
            label_file = os.path.splitext("/".join(parts))[0] + ".txt"
            image = AnnotatedImage(file.name, label_file, relative=True, split=split)
            if os.path.isfile(os.path.join(root, label_file)):
                image = with_objects(image, root, content, faults)
            content.images.append(image)
    return content


def settings(path: str, name: str, faults: FaultList) -> dict[Any, Any]:
    """The content of data.yaml; {} after adding a fault."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            found = parse_yaml(file.read(), name)
    except SightlineError as error:
        faults.append(f"{error.where}: {error.what}: {error.why}")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{name} cannot be read: {error}")
    else:
        if isinstance(found, dict):
            return found
        faults.append(f"{name} is {described(found)} instead of settings such as `names: [cat, dog]`")
    return {}


def class_names(config: dict[Any, Any], root: str, name: str, faults: FaultList) -> tuple[str, ...]:
    """The class names by data.yaml, or by classes.txt; () after adding a fault."""
    names = config.get("names")
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[index] for index in range(len(names))]
    if isinstance(names, list) and names and all(isinstance(each, str | int | float) for each in names):
        if len({*map(str, names)}) != len(names):
            faults.append(f"{name}: two of the names are equal")
        return tuple(map(str, names))
    if names is None and os.path.isfile(os.path.join(root, CLASS_LIST)):
        return read_class_list(os.path.join(root, CLASS_LIST))
    wrong = "the key 'names' is missing" if names is None else f"names is {described(names)}"
    faults.append(f"{name}: {wrong}; the class names are needed, as `names: [cat, dog]` or `names: {{0: cat, 1: dog}}`")
    return ()


def split_folders(config: dict[Any, Any], root: str, name: str, faults: FaultList) -> list[tuple[str, str]]:
    """(split, folder of images relative to the root) of the keys train, val and test.

    Paths are relative to the key `path` if that folder exists in the data, else to data.yaml; a leading `../`, as some
    programs write it, is left out if the folder is not found otherwise.
    """
    base, found = str(config.get("path") or ""), list[tuple[str, str]]()
    for split in ("train", "val", "test"):
        entry = config.get(split) or []
        for text in entry if isinstance(entry, list) else [entry]:
            options = [os.path.join(base, str(text)), str(text), str(text).removeprefix("../")]
            inside = [os.path.normpath(each) for each in options if not os.path.isabs(each)]
            inside = [each for each in inside if not each.startswith("..") and os.path.isdir(os.path.join(root, each))]
            if inside:
                found.append((split, "" if inside[0] == "." else inside[0].replace(os.sep, "/")))
            elif split != "test" or str(text).lower().endswith(".txt"):
                kind = "a list of files; give a folder" if str(text).endswith(".txt") else "not a folder in the data"
                faults.append(f"{name}: {split} is {str(text)[:80]!r}, which is {kind}")
    if not found and not faults:
        faults.append(f"{name}: the key 'train' is missing")
    return found


def with_objects(image: AnnotatedImage, root: str, content: FileContent, faults: FaultList) -> AnnotatedImage:
    """Add the objects in the text file of an image."""
    name, objects, shapes = image.where, list[str](), list[Shape]()
    try:
        with open(os.path.join(root, name), encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{name} cannot be read: {error}")
        return image
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            index, *values = np.array(line.split(), np.float64).tolist()
        except ValueError:
            faults.append(f"{where}: {line[:40]!r} is not a list of numbers")
            continue
        if index not in range(len(content.classes)):
            if content.classes:
                faults.append(f"{where}: there is no class {index:g}; there are {len(content.classes)}, from 0")
        elif len(values) != 4 and (len(values) < 6 or len(values) % 2):
            faults.append(f"{where}: {len(values)} numbers after the class; a box has 4, a polygon 2 for each corner")
        elif not all(-MARGIN <= value <= 1 + MARGIN for value in values):
            faults.append(f"{where}: coordinates must be shares of width and height, from 0 to 1")
        else:
            objects.append(content.classes[int(index)])
            if len(values) == 4:
                content.unused["box without an area"] += 1
            else:
                shapes.append(Shape(objects[-1], (np.array(values).reshape(-1, 2),)))
    return image._replace(objects=tuple(objects), shapes=tuple(shapes))
