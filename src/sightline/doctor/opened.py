"""Opening data that may be broken: what `train` would refuse becomes a finding, and the files are looked at all the
same."""

import os
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ..config.schema import Data
from ..data.decode.images import open_image
from ..data.decode.palettes import Palette
from ..data.shards.index import is_sharded
from ..data.sources.labels import sorted_classes
from ..data.sources.open import FOLDER_HINT, Items, Source, locate, open_source
from ..data.sources.pair_layouts import holds_pairs
from ..data.sources.pairs import labeled_by_folders
from ..data.sources.scan import EXTENSIONS, File, images_below, is_hidden, list_folder
from ..data.sources.splits import WHOLE, split_folders
from ..errors import ENVIRONMENT, SightlineError, counted
from .findings import Finding, Group, number, singles

MAGIC = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
"""How PNG, JPEG, GIF and TIFF files begin; WebP and what phones write have their mark further on."""


@dataclass
class Opened:
    """Data as found. splits: as in a Source. files: whether the images are files below `root`. regular: whether
    `train` could list it, so that a clean list can say the same. Of images with masks also the palette, where it is
    known, and the whole pairs of each split."""

    root: str
    splits: dict[str, Items]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    files: bool = True
    regular: bool = True
    palette: Palette | None = None
    masked: dict[str, Items] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def is_segmentation(data: Data) -> bool:
    """Whether the data are images with masks, by the settings or by how they lie."""
    if is_sharded(data):
        cure = "look at the data before they are packed: sightline doctor DATA; or unpack them"
        raise SightlineError("doctor looks at files, and these are shards", where=data.path, cure=cure)
    if data.mask or data.palette or data.colors:
        return True
    if data.layout != "auto" or data.path.partition(":")[0] in ("sklearn", "torchvision"):
        return False
    try:
        source = open_source(data, data.split_seed, hold_out=False)
    except SightlineError:
        return holds_pairs(data.path)
    return not labeled_by_folders(source) and holds_pairs(data.path)


def open_labeled(data: Data) -> Opened:
    """Images, labeled or not. Raises SightlineError where there is nothing to look at."""
    try:
        source = open_source(data, data.split_seed, hold_out=False)
    except SightlineError as error:
        if error.status == ENVIRONMENT or data.path.partition(":")[0] in ("sklearn", "torchvision"):
            raise
        return as_found(data, error)
    files = source.layout not in ("sklearn", "torchvision")
    opened = Opened(source.path, dict(source.splits), source.classes, source.notes, files)
    opened.findings += structure(source)
    if files and not locate(data)[1]:  # a table may lie in a folder of all kinds of things
        opened.findings += strays(source.path)
    return opened


def structure(source: Source) -> list[Finding]:
    """What `train` would refuse of data that can be listed."""
    found = []
    if len(source.classes) == 1:
        what = f"there is 1 class ({source.classes[0]!r}), and a classifier needs 2"
        found.append(Finding("one_class", "error", what, "training stops", FOLDER_HINT))
    if not {WHOLE, "train"} & source.splits.keys():
        what = f"there is no training split, only {' and '.join(source.splits)}"
        found.append(Finding("no_training_split", "error", what, "training stops", "name one of the folders 'train'"))
    return found


def as_found(data: Data, error: SightlineError) -> Opened:
    """All images below the folder, although its layout is refused; splits and labels by their folders."""
    root, _ = locate(data)
    files = images_below(root, "", Counter())
    if not files:
        raise error
    refused = Finding("layout", "error", error.what, error.why or "training stops", error.cure)
    try:
        folders = split_folders(list_folder(root).folders, root, forced=False)
    except SightlineError:
        folders = {}
    names = {folder: split for split, folder in folders.items()}
    parts: dict[str, list[tuple[File, str]]] = {}
    for file in files:
        first, _, rest = file.name.partition("/")
        split = names.get(first, WHOLE)
        label = (rest if split != WHOLE else file.name).rpartition("/")[0].partition("/")[0]
        parts.setdefault(split, []).append((file, label))
    classes = sorted_classes({label for members in parts.values() for _, label in members if label})
    splits = {split: found_items(root, members, classes, data.max_pixels) for split, members in parts.items()}
    note = "the layout is not one that can be trained on; splits and classes are guessed by the folders' names"
    found = [refused, *strays(root)]
    return Opened(root, splits, classes, (note,), regular=False, findings=found)


def found_items(root: str, members: list[tuple[File, str]], classes: tuple[str, ...], max_pixels: int) -> Items:
    """Items of files with a folder's name as label; -1 where there is none."""
    place = {name: index for index, name in enumerate(classes)}
    names = tuple(file.name for file, _ in members)
    return Items(
        names=names,
        labels=np.array([place.get(label, -1) for _, label in members], np.int64),
        read=lambda index, side=0: open_image(os.path.join(root, names[index]), max_pixels, side),
        stamps=tuple(file.stamp for file, _ in members),
    )


def strays(root: str) -> list[Finding]:
    """Hidden folders and files that hold images, and images whose names do not end like an image's; none is used."""
    hidden: list[Group] = []
    unnamed: list[str] = []
    for folder, folders, files in os.walk(root):
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        for name in sorted(filter(is_hidden, folders)):
            inside = [file for _, _, some in os.walk(os.path.join(folder, name)) for file in some]
            count = sum(file.lower().endswith(EXTENSIONS) for file in inside)
            if count:
                hidden.append(Group((f"{prefix}{name}/",), counted(count, "image")))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            if is_hidden(name) and name.lower().endswith(EXTENSIONS):
                hidden.append(Group((prefix + name,), "hidden file"))
            elif not is_hidden(name) and not name.lower().endswith((*EXTENSIONS, ".csv", ".tsv", ".txt")):
                unnamed += [prefix + name] * begins_as_image(os.path.join(folder, name))
    found = []
    if hidden:
        what = number(len(hidden), "hidden place", "holds images", "hold images")
        why = "they are left out here; other tools take such a folder for a class, or its pictures for data"
        found.append(Finding("hidden", "warning", what, why, "remove them: rm -r PATH", tuple(hidden)))
    if unnamed:
        what = number(len(unnamed), "image", "has", "have") + " a name that does not end like an image's"
        cure = "give them their ending, such as .png or .jpg; HEIC and AVIF need converting first"
        found.append(Finding("not_used", "warning", what, "they are not used", cure, singles(unnamed)))
    return found


def begins_as_image(path: str) -> bool:
    """Whether a file's first bytes are those of an image. Pipes and devices are not opened."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return head.startswith(MAGIC) or head[8:12] == b"WEBP" or head[4:12] in (b"ftypheic", b"ftypmif1", b"ftypavif")
