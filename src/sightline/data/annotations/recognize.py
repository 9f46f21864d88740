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
PEEK = 1 << 16
"""Bytes that are inspected at the start and at the end of a file."""
ENDINGS = (".json", ".xml", ".yaml", ".yml")
SAMPLE = 8
"""Number of JSON, XML and YAML files of a folder that are inspected."""


def find(root: str, data: Data) -> tuple[str, list[str]] | None:
    """The format of the annotations of `root` and its files, relative to the root; None if there are none.

    Searched are the folder itself and the folders in it; for LabelMe, which has a file per image, all folders below.
    Raises SightlineError if there are several formats, or if there is none although `data.layout` names one.
    """
    if data.layout not in ("auto", *READERS):
        return None
    folders = ["", *list_folder(root).folders]
    kinds: dict[str, list[str]] = {}
    for folder in folders:
        for file in files_in(root, folder)[: None if data.layout in READERS else SAMPLE]:
            if kind := kind_of(os.path.join(root, file)):
                kinds.setdefault(kind, []).append(file)
    if "yolo" not in kinds and is_yolo_folder(root):
        kinds["yolo"] = [""]
    if data.layout in READERS:
        title = READERS[data.layout][0]
        if data.layout not in kinds:
            found = f"; found: {some_of([READERS[kind][0] for kind in kinds])}" if kinds else ""
            why = f"the folder and the folders in it have no file that looks like {title}{found}"
            cure = "give the folder that has both the images and the annotations: --data FOLDER"
            raise SightlineError(f"there are no {title} annotations", where=root, why=why, cure=cure)
        kinds = {data.layout: kinds[data.layout]}
    if len(kinds) > 1:
        shown = "; ".join(f"{READERS[kind][0]}: {some_of([file or '.' for file in kinds[kind]])}" for kind in kinds)
        cure = "choose one: " + " or ".join(f"--data.layout {kind}" for kind in kinds)
        raise SightlineError("there are annotations in several formats", where=root, why=shown, cure=cure)
    for kind, files in kinds.items():
        return kind, labelme_files(root) if kind == "labelme" else files
    return None


def files_in(root: str, folder: str) -> list[str]:
    """The JSON, XML and YAML files directly in a folder, relative to the root."""
    found = [each for each in entries(os.path.join(root, folder)) if each.name.lower().endswith(ENDINGS)]
    return sorted(os.path.join(folder, each.name) for each in found if not is_hidden(each.name) and is_file(each))


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether a directory entry is a regular file, or a link to one."""
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def labelme_files(root: str) -> list[str]:
    """All LabelMe files below `root`. Other JSON files are left out."""
    walked = (os.path.relpath(folder, root) for folder, _, _ in os.walk(root))
    folders = sorted("" if folder == "." else folder for folder in walked)
    files = [file for folder in folders for file in files_in(root, folder)]
    return [file for file in files if kind_of(os.path.join(root, file)) == "labelme"]


def kind_of(path: str) -> str:
    """The format of a file by its first and last bytes, or "". A file that is damaged or lacks a key is recognized by
    what it has, so that reading it reports the rest."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(PEEK)
            file.seek(max(len(head), size - PEEK))
            text = (head + file.read(PEEK)).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    except OSError:
        return ""
    if path.lower().endswith((".yaml", ".yml")):
        keys = set(re.findall(r"^(names|nc|train|val|path)\s*:", text, re.MULTILINE))
        return "yolo" if len(keys) > 1 and keys & {"train", "val"} else ""
    if text.startswith("<"):
        return "cvat" if re.search(r"<annotations\b", text) else ""
    keys = set(re.findall(r'"(\w+)"\s*:', text))
    if text.startswith("["):
        of_task = keys & {"annotations", "completions", "predictions", "annotation_id", "annotator"}
        return "label_studio" if of_task and keys & {"data", "image", "result"} else ""
    if text.startswith("{") and re.search(r'"(images|annotations|categories)"\s*:\s*\[', text):
        return "coco" if len(keys & {"images", "annotations", "categories"}) > 1 else ""
    labelme_keys = keys & {"imagePath", "imageData", "imageHeight", "imageWidth", "flags"}
    return "labelme" if text.startswith("{") and "shapes" in keys and labelme_keys else ""


def is_yolo_folder(root: str) -> bool:
    """Whether a folder without data.yaml has `images/`, and `labels/` with text files that start with five numbers."""
    if not all(os.path.isdir(os.path.join(root, folder)) for folder in ("images", "labels")):
        return False
    for each in entries(os.path.join(root, "labels"))[:SAMPLE]:
        if each.name.endswith(".txt") and is_file(each):
            with open(each.path, "rb") as file:
                if re.match(rb"\s*\d+(\s+[\d.eE+-]+){4}", file.read(1024)):
                    return True
    return False
