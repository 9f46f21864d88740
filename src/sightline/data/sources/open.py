"""Open a data set of labeled or unlabeled images: files and labels of each split, with one list of classes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import SightlineError, listing, nearest_path
from ..decode.images import image_of
from ..decode.kinds import Raster
from ..decode.rasters import Reading
from ..decode.survey import survey
from ..shards.index import is_sharded, open_packed
from ..shards.parquet import list_parquet, parquet_files
from ..types import FOLDER_HINT, Items, Source
from .labels import check_distinct, declared_labels, read_class_list, sorted_classes, to_indices, to_numbers
from .layouts import recognize
from .leakage import finish_source
from .libraries import open_digits, open_library
from .row_matching import from_tables
from .scan import CLASS_LIST, Label, Layout, SplitFiles, left_out, links_note, list_folder, without_links
from .splits import ALL

LIBRARIES = ("sklearn", "torchvision")
"""Prefixes of `data.path`, and layouts, for data sets from libraries, whose images are not files."""
WITHOUT_FILES = (*LIBRARIES, "parquet", "shards")
"""Layouts whose images are not files."""


def open_source(data: Data, seed: int, hold_out: bool = True) -> Source:
    """Recognize the layout of `data.path` and list its images, without decoding them.

    hold_out: whether the data are for training. Then a training split and two classes are required, and a missing
    validation split is held out by `seed`. If False (for evaluation), the splits are not changed. Raises SightlineError
    for ambiguous or contradicting labels and splits.
    """
    kind = data.path.partition(":")[0] if data.layout == "auto" else data.layout
    if data.labels == "number" and (kind in LIBRARIES or is_sharded(data)):
        cure = "give a table with the columns filename and label: --data TABLE.csv"
        raise SightlineError("numbers are read from tables and file names only", where=data.path, cure=cure)
    if isinstance(data.channels, tuple) and (kind in LIBRARIES or is_sharded(data) or parquet_files(data)[1]):
        cure = "leave it out; or give the images as files: --data FOLDER"
        why = "shards, Parquet files and libraries are read as red, green and blue"
        raise SightlineError("data.channels chooses channels of image files", where=data.path, why=why, cure=cure)
    if kind == "sklearn":
        return open_digits(data, seed, hold_out)
    if kind == "torchvision":
        return open_library(data, seed, hold_out)
    if is_sharded(data):
        return open_packed(data, seed, hold_out)[0]
    root, files = parquet_files(data)
    if files:
        return assemble(root, list_parquet(root, files, data), data, seed, hold_out)
    root, table = locate(data)
    if table:
        layout = from_tables(root, {"": table}, list_folder(root), data, hold_out)
    else:
        layout = recognize(root, data, hold_out)
    return assemble(root, layout, data, seed, hold_out)


def locate(data: Data) -> tuple[str, str]:
    """Where `data.path` is: (folder, name of the table in it), or (folder, '') if the path is a folder.

    Raises SightlineError if it is neither a table nor a folder.
    """
    if not data.path:
        cure = "give a folder of images or a CSV file with labels: --data PATH"
        raise SightlineError("the option --data is missing", where="data.path", cure=cure)
    path = absolute(data.path)
    if os.path.isdir(path):
        return path, ""
    parent, name = os.path.split(path)
    if not os.path.exists(path):
        raise SightlineError("there is no such file or folder", where=path, cure=nearest_path(path))
    ending = os.path.splitext(name)[1].lower()
    if ending in (".csv", ".tsv") and data.layout in ("auto", "csv"):
        return parent, name
    unpack = {".zip": "unzip", ".gz": "tar xf", ".tar": "tar xf"}.get(ending)
    cure = f"unpack it first: {unpack} {name}" if unpack else "give a folder of images or a CSV file: --data PATH"
    if ending in (".json", ".xml", ".yaml"):
        cure = "if this is a file of an annotation program, give the folder that has it and the images: --data FOLDER"
    raise SightlineError("this file is not a data set", where=path, cure=cure)


def assemble(root: str, layout: Layout, data: Data, seed: int, hold_out: bool = True) -> Source:
    """Make a Source of a layout: drop repeated links, convert labels to indices, hold out a validation split."""
    parts, dropped = {}, []
    for split in (ALL, "train", "val", "test"):
        if split in layout.parts:
            part = layout.parts[split]
            kept, links = without_links(part.files, part.labels or [None] * len(part.files))
            labels = part.labels and [part.labels[index] for index in kept]
            groups = part.groups and [part.groups[index] for index in kept]
            parts[split] = SplitFiles([part.files[index] for index in kept], labels, groups)
            dropped += links
    notes = [*layout.notes, *links_note(dropped)]
    classes: tuple[str, ...] = ()
    if data.labels != "number" and any(part.labels is not None for part in parts.values()):
        parts, classes = with_classes(root, layout, parts, data, notes, hold_out)
    reading = Reading()
    if layout.content is None:
        reading, said = survey(root, {file.name: file.stamp for part in parts.values() for file in part.files}, data)
        notes += said
    splits = {split: items_of(root, part, classes, data, reading, layout.content) for split, part in parts.items()}
    if layout.tally:
        notes.append(f"left out: {left_out(layout.tally)}")
    return finish_source(
        Source(root, layout.name, classes, splits, tuple(notes), reading.channels), data, seed, hold_out
    )


def with_classes(
    root: str, layout: Layout, parts: dict[str, SplitFiles], data: Data, notes: list[str], hold_out: bool
) -> tuple[dict[str, SplitFiles], tuple[str, ...]]:
    """Determine the classes: (splits with class names as labels, class names in index order).

    The classes are those of train, or of all splits without a train split. notes: a sentence on declared classes is
    added. Raises SightlineError if there is only one class and `hold_out` is True (training), or if other splits have
    classes that train lacks.
    """
    declared, origin = declared_classes(root, data)
    if declared:
        notes.append(f"class order by {origin}")
        parts = {
            split: replace(part, labels=declared_part(part.labels, declared, origin)) for split, part in parts.items()
        }
    labels = {split: names_in(part.labels or ()) for split, part in parts.items()}
    learned = labels["train"] if "train" in labels else set().union(*labels.values())
    check_distinct(sorted(set().union(*labels.values())), root)
    if len(learned) < 2 and hold_out:
        found = f"only 1 class was found ({next(iter(learned))!r})" if learned else "no image has a label"
        what = f"{found}; classification needs at least 2 classes"
        cure = (
            FOLDER_HINT
            if layout.by_folder
            else "check the labels, or choose another --data.layout (splits, classes, filename or csv)"
        )
        raise SightlineError(what, where=root, cure=cure)
    for split, own in labels.items():
        if unknown := sorted(own - learned):
            what = f"the {split} split has {len(unknown):,} class{'es' * (len(unknown) > 1)} without training images"
            cure = f"check the spelling; add training images of these classes, or remove the classes from {split}"
            if all(name.isdigit() for name in unknown):
                cure += "; if the labels are numbers and not classes, for a task that predicts numbers: "
                cure += "--data.labels number"
            raise SightlineError(what, where=root, why="\n" + listing([repr(name) for name in unknown]), cure=cure)
    ordered = declared or tuple(name for name in layout.classes if name in learned)
    return parts, ordered if set(ordered) >= learned else sorted_classes(learned)


def names_in(labels: Sequence[Label]) -> set[str]:
    """The distinct class names of labels or label sets."""
    return {name for label in labels for name in ((label,) if isinstance(label, str) else label)}


def declared_part(labels: Sequence[Label] | None, declared: Sequence[str], origin: str) -> Sequence[Label] | None:
    """Convert the labels or label sets of a split to declared class names."""
    if labels is None:
        return None
    known = names_in(labels)
    meaning = dict(zip(known, declared_labels([*known], declared, origin), strict=True))
    return [meaning[one] if isinstance(one, str) else tuple(meaning[name] for name in one) for one in labels]


def declared_classes(root: str, data: Data) -> tuple[tuple[str, ...], str]:
    """The class names that the user has declared: (names in index order, where they are from). They are from
    `data.classes`, else from classes.txt in `root`; without both, the result is ((), '')."""
    if data.classes:
        check_distinct(data.classes, "data.classes")
        return data.classes, "data.classes"
    path = os.path.join(root, CLASS_LIST)
    return (read_class_list(path), CLASS_LIST) if os.path.isfile(path) else ((), "")


def items_of(
    root: str,
    part: SplitFiles,
    classes: Sequence[str],
    data: Data,
    reading: Reading,
    content: Callable[[str], bytes] | None,
) -> Items:
    """The `Items` (names, labels, ...) of a split whose images are files below `root`, or are read by `content`."""
    names, labels = tuple(file.name for file in part.files), None
    if part.labels is not None:
        labels = to_numbers(part.labels, root) if data.labels == "number" else to_indices(part.labels, classes)

    def read(index: int, side: int = 0) -> Image.Image | Raster:
        path = os.path.join(root, names[index])
        if content is None:
            return reading.read(path, data.max_pixels, side)
        return image_of(content(names[index]), path, data.max_pixels, side)

    return Items(
        names=names,
        labels=labels,
        read=read,
        stamps=tuple(file.stamp for file in part.files),
        groups=None if part.groups is None else tuple(part.groups),
    )
