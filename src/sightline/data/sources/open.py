"""Open a data set: the images and labels of its splits, and one class list for all of them."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import replace

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import SightlineError, listing
from ..decode.images import open_image
from ..types import FOLDER_HINT, Items, Source
from .labels import by_declared, check_distinct, read_class_list, sorted_classes, to_indices
from .layouts import recognize
from .row_matching import from_tables
from .scan import CLASS_LIST, Layout, SplitFiles, left_out, links_note, list_folder, without_links
from .splits import WHOLE


def open_source(data: Data, seed: int, hold_out: bool = True) -> Source:
    """Recognize the layout of `data.path` and list its images. No image is decoded.

    hold_out: the data are for training: a training split and two classes are required, and without a validation split
    `seed` chooses one. Without it (to evaluate) nothing is divided, and any split will do.
    SightlineError for everything that would make labels or splits wrong.
    """
    from ..shards.index import is_sharded, open_shards

    prefix = data.path.partition(":")[0]
    if data.layout == "sklearn" or (data.layout == "auto" and prefix == "sklearn"):
        from ..builtin import open_digits

        return open_digits(data, seed, hold_out)
    if data.layout == "torchvision" or (data.layout == "auto" and prefix == "torchvision"):
        from .torchvision_sets import open_library

        return open_library(data, seed, hold_out)
    if is_sharded(data):
        return open_shards(data, seed, hold_out)
    root, table = locate(data)
    if table:
        layout = from_tables(root, {"": table}, list_folder(root).folders, hold_out)
    else:
        layout = recognize(root, data, hold_out)
    return assemble(root, layout, data, seed, hold_out)


def locate(data: Data) -> tuple[str, str]:
    """(folder, name of a table in it or empty) for `data.path`; SightlineError if it is neither."""
    if not data.path:
        cure = "--data PATH: a folder of images or a CSV file"
        raise SightlineError("no data was given", where="data.path", cure=cure)
    path = absolute(data.path)
    if os.path.isdir(path):
        return path, ""
    parent, name = os.path.split(path)
    if not os.path.exists(path):
        close = difflib.get_close_matches(name, os.listdir(parent) if os.path.isdir(parent) else [], 1, 0.7)
        cure = f"did you mean {os.path.join(parent, close[0])!r}?" if close else "check the path"
        raise SightlineError("there is no such file or folder", where=path, cure=cure)
    ending = os.path.splitext(name)[1].lower()
    if ending in (".csv", ".tsv") and data.layout in ("auto", "csv"):
        return parent, name
    cures = {".zip": f"unpack it first: unzip {name}"} | dict.fromkeys(
        (".gz", ".tar"), f"unpack it first: tar xf {name}"
    )
    cure = cures.get(ending, "give a folder of images or a CSV file")
    raise SightlineError("this file is not a data set", where=path, cure=cure)


def assemble(root: str, layout: Layout, data: Data, seed: int, hold_out: bool = True) -> Source:
    """Turn labels to indices in one class list, check the splits, and hold out a validation split if there is none."""
    from .leakage import finish_source

    parts, dropped = {}, []
    for split in (WHOLE, "train", "val", "test"):
        if split in layout.parts:
            part = layout.parts[split]
            kept, links = without_links(part.files, part.labels or [None] * len(part.files))
            labels, groups = (some and [some[index] for index in kept] for some in (part.labels, part.groups))
            parts[split] = SplitFiles([part.files[index] for index in kept], labels, groups)
            dropped += links
    notes = [*layout.notes, *links_note(dropped)]
    classes: tuple[str, ...] = ()
    if any(part.labels is not None for part in parts.values()):
        parts, classes = with_classes(root, layout, parts, data, notes, hold_out)
    splits = {split: items_of(root, part, classes, data.max_pixels) for split, part in parts.items()}
    if layout.tally:
        notes.append(f"left out: {left_out(layout.tally)}")
    return finish_source(Source(root, layout.name, classes, splits, tuple(notes)), data, seed, hold_out)


def with_classes(
    root: str, layout: Layout, parts: dict[str, SplitFiles], data: Data, notes: list[str], hold_out: bool
) -> tuple[dict[str, SplitFiles], tuple[str, ...]]:
    """The parts with class names as labels, and the classes in index order: those of train if there is one."""
    declared, origin = declared_classes(root, data)
    if declared:
        notes.append(f"class order by {origin}")
        parts = {
            split: replace(part, labels=part.labels and by_declared(part.labels, declared, origin))
            for split, part in parts.items()
        }
    learned = {
        label for part in ([parts["train"]] if "train" in parts else parts.values()) for label in part.labels or ()
    }
    check_distinct(sorted({label for part in parts.values() for label in part.labels or ()}), root)
    if len(learned) < 2 and hold_out:
        what = f"1 class found ({next(iter(learned))!r}); a classifier needs 2"
        cure = FOLDER_HINT if layout.by_folder else "check the labels, or choose with --data.layout"
        raise SightlineError(what, where=root, cure=cure)
    for split, part in parts.items():
        if unknown := sorted(set(part.labels or ()) - learned):
            what = f"the {split} split has {len(unknown):,} class{'es' * (len(unknown) > 1)} that train lacks"
            cure = f"add training images of these classes, or remove them from {split}; check the spelling"
            raise SightlineError(what, where=root, why="\n" + listing([repr(name) for name in unknown]), cure=cure)
    ordered = declared or tuple(name for name in layout.classes if name in learned)
    return parts, ordered if set(ordered) >= learned else sorted_classes(learned)


def declared_classes(root: str, data: Data) -> tuple[tuple[str, ...], str]:
    """(class names in index order, their origin): `data.classes`, else classes.txt in the root, else nothing."""
    if data.classes:
        check_distinct(data.classes, "data.classes")
        return data.classes, "data.classes"
    path = os.path.join(root, CLASS_LIST)
    return (read_class_list(path), CLASS_LIST) if os.path.isfile(path) else ((), "")


def items_of(root: str, part: SplitFiles, classes: Sequence[str], max_pixels: int) -> Items:
    """Items that read files below `root`."""
    names = tuple(file.name for file in part.files)
    return Items(
        names=names,
        labels=None if part.labels is None else to_indices(part.labels, classes),
        read=lambda index, side=0: open_image(os.path.join(root, names[index]), max_pixels, side),
        stamps=tuple(file.stamp for file in part.files),
        groups=None if part.groups is None else tuple(part.groups),
    )
