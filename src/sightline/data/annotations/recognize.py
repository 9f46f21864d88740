"""Recognize annotation files in a folder by their content."""

import os
import re
from collections.abc import Callable

from ...config.schema import Data
from ...errors import SightlineError, some_of
from ..sources.scan import entries, is_hidden, list_folder
from . import coco, cvat, label_studio, labelme, yolo
from .shapes import FileContent

Reader = Callable[[str, str, list[str]], FileContent]
READERS: dict[str, tuple[str, Reader]] = {
    "coco": (coco.TITLE, coco.read),
    "yolo": (yolo.TITLE, yolo.read),
    "labelme": (labelme.TITLE, labelme.read),
    "cvat": (cvat.TITLE, cvat.read),
    "label_studio": (label_studio.TITLE, label_studio.read),
}
"""By the value of `data.layout`: (title, function that reads one file)."""
ENDINGS = (".json", ".xml", ".yaml", ".yml")
PEEK = 1 << 16
"""Bytes that are inspected at the start and at the end of a file."""
SAMPLE, MOST = 8, 1000
"""Of the JSON, XML and YAML files of a folder, at least the first SAMPLE are inspected, and more while fewer than MOST
files of all folders are inspected. Once a file with annotations is found in a folder, all of its files are."""


def find(root: str, data: Data) -> tuple[str, list[str]] | None:
    """The format of the annotations of `root` and its files, relative to the root; None if there are none.

    Searched are the folder itself and the folders in it; for LabelMe, which has a file per image, all folders below.
    Raises SightlineError if there are several formats, or if there is none although `data.layout` names one.
    """
    if data.layout not in ("auto", *READERS):
        return None
    kinds = kinds_in(root, complete=data.layout in READERS)
    shown = "; ".join(f"{READERS[kind][0]}: {some_of(files)}" for kind, files in kinds.items())
    if data.layout in READERS and data.layout not in kinds:
        title, cure = READERS[data.layout][0], "give the folder that has the images and the annotations: --data FOLDER"
        why = f"no file in it or in a folder in it looks like {title}{f'; found: {shown}' if shown else ''}"
        raise SightlineError(f"there are no {title} annotations", where=root, why=why, cure=cure)
    if len(kinds) > 1 and data.layout == "auto":
        cure = "choose one: " + " or ".join(f"--data.layout {kind}" for kind in kinds)
        raise SightlineError("there are annotations in several formats", where=root, why=shown, cure=cure)
    if not kinds:
        return None
    kind = data.layout if data.layout in READERS else next(iter(kinds))
    if kind == "labelme":
        folders = sorted(os.path.relpath(folder, root) for folder, _, _ in os.walk(root))
        files = [os.path.normpath(file) for folder in folders for file in files_in(root, folder)]
        return kind, [file for file in files if kind_of(os.path.join(root, file)) == kind]
    return kind, kinds[kind]


def kinds_in(root: str, complete: bool) -> dict[str, list[str]]:
    """The annotation files in a folder and in the folders in it, by format. complete: whether all files are inspected.
    Otherwise those of LabelMe, which has a file per image, are not all listed."""
    kinds, inspected = dict[str, list[str]](), 0
    for folder in ("", *list_folder(root).folders):
        known = set[str]()
        for number, file in enumerate(files_in(root, folder)):
            enough = "labelme" in known if known else inspected >= MOST
            if number >= SAMPLE and enough and not complete:
                break
            inspected += 1
            if kind := kind_of(os.path.join(root, file)):
                known.add(kind)
                kinds.setdefault(kind, []).append(file)
    return kinds


def files_in(root: str, folder: str) -> list[str]:
    """The JSON, XML and YAML files directly in a folder, relative to the root."""
    found = [each for each in entries(os.path.join(root, folder)) if each.name.lower().endswith(ENDINGS)]
    return sorted(os.path.join(folder, each.name) for each in found if not is_hidden(each.name) and not each.is_dir())


def kind_of(path: str) -> str:
    """The format of a file by its first and last bytes, or "". A file that is damaged or lacks a key is recognized by
    what it has, so that reading it reports the rest."""
    try:
        with open(path, "rb") as file:
            head = file.read(PEEK)
            file.seek(max(len(head), os.fstat(file.fileno()).st_size - PEEK))
            text = (head + file.read(PEEK)).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    except OSError:
        return ""
    if path.lower().endswith((".yaml", ".yml")):
        keys = set(re.findall(r"^(names|nc|train|val|path)\s*:", text, re.MULTILINE))
        return "yolo" if len(keys) > 1 and keys & {"train", "val", "nc"} else ""
    keys = set(re.findall(r'"(\w+)"\s*:', text))
    if text.startswith("<"):
        return "cvat" if re.search(r"<annotations\b", text) else ""
    if text.startswith("["):
        of_task = keys & {"annotations", "completions", "predictions", "annotation_id", "annotator"}
        return "label_studio" if of_task and keys & {"data", "image", "result"} else ""
    if re.search(r'"(images|annotations|categories)"\s*:\s*\[', text):
        return "coco" if len(keys & {"images", "annotations", "categories"}) > 1 else ""
    return "labelme" if "shapes" in keys and keys & {"imagePath", "imageData", "imageHeight", "flags"} else ""
