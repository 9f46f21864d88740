"""Recognize the layout of a folder of labeled images, and list the files and labels of each split."""

import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...config.schema import Data
from ...errors import SightlineError, counted, listing, some_of
from ..annotations.labels import label_layout
from ..annotations.reading import read_annotations
from ..decode.formats import conversion_hint
from .labels import labels_in_names, match_labels, names_carry_labels, suggest_pattern
from .row_matching import from_tables, is_of_labels, pick_tables
from .scan import (
    FORMATS_TEXT,
    DirectoryListing,
    File,
    Layout,
    SplitFiles,
    holds_images,
    images_below,
    left_out,
    list_folder,
    walk,
)
from .splits import ALIASES, ALL, split_folders, split_of
from .tables import has_columns, holds_predictions, read_table

FORCE = "choose the layout: --data.layout splits, classes, filename, csv or unlabelled"


def recognize(root: str, data: Data, hold_out: bool = True) -> Layout:
    """Recognize the layout of the folder `root`, from its content or by `data.layout`, and list its files.

    hold_out: whether the data are for training, which requires a training split. Raises SightlineError for an ambiguous
    layout or missing labels.
    """
    if annotated := read_annotations(root, data, hold_out):
        return label_layout(root, annotated, data)
    here = list_folder(root)
    predictions = [name for name in here.tables if holds_predictions(os.path.join(root, name))]
    if data.layout == "csv" and len(predictions) == len(here.tables):
        predictions = []  # reading it raises the error for a table of predictions
    here = here._replace(tables=tuple(name for name in here.tables if name not in predictions))
    layout = list_layout(root, data, here, hold_out)
    if data.label_column and not here.tables and (layout.by_folder or layout.name in ("filename", "unlabelled")):
        why = f"{root} has no table of labels (.csv or .tsv)"
        cure = "give the table: --data TABLE.csv; or leave the option out"
        raise SightlineError("data.label_column names a column", where="data.label_column", why=why, cure=cure)
    note = f"not used, because it has predictions and not labels: {some_of(predictions)}"
    return replace(layout, notes=(*layout.notes, note)) if predictions else layout


def list_layout(root: str, data: Data, here: DirectoryListing, hold_out: bool) -> Layout:
    """List the files and labels of the folder `root`. here: the names directly in that folder."""
    tally: Counter[str] = Counter()
    splits = split_folders(here.folders, root, forced=data.layout == "splits")
    first = splits.get("train", "") if hold_out else next(iter(splits.values()), "")
    layout = detect_layout(root, data, here, splits, first, hold_out) if data.layout == "auto" else data.layout
    if layout == "csv":
        check = data.layout == "auto" and not splits and not here.images
        return from_tables(root, pick_tables(root, here.tables, data, hold_out), here, data, hold_out, check)
    if layout == "splits in classes":
        return splits_in_classes(root, here.folders, tally)
    if layout == "classes":
        list_folder(root, "", tally)
        part = class_folders(root, "", here.folders, tally)
        notes = [f"found {counted(len(here.folders), 'class folder')}, not split", *unused_note(here, here.folders)]
        notes += same_folders_note(root, here.folders)
        return Layout("classes", {ALL: part}, tuple(notes), by_folder=True, tally=tally)
    if first:
        return from_splits(root, data, splits, here, tally, layout)
    if layout == "splits":
        what = f"there is no {'training split' if hold_out else 'split folder'}"
        why = f"its folders are: {some_of([repr(name) for name in here.folders]) or 'none'}"
        cure = (
            "rename the folder of the training images to 'train'; if the folders are the classes: --data.layout classes"
        )
        raise SightlineError(what, where=root, why=why, cure=cure)
    files = require_images(root, "", tally)
    names = [file.name for file in files]
    labels = labels_in_names(names, data.pattern, root) if layout == "filename" else None
    described = f"the label in the file name, {data.pattern}" if labels else "images without labels"
    note = f"found {described}{'' if labels else pattern_hint(names, data)}"
    return Layout(layout, {ALL: SplitFiles(files, labels)}, (note,), tally=tally)


def pattern_hint(names: Sequence[str], data: Data) -> str:
    """If file names seem to contain unused labels, the options to use them, as the end of a note; else ''."""
    pattern = suggest_pattern(names) if data.layout == "auto" else ""
    option = f"--data.layout filename --data.pattern '{pattern}'"
    return f"; if the file names contain the label: {option}" if pattern else ""


def unused_note(here: DirectoryListing, used: Iterable[str]) -> list[str]:
    """A list of one sentence on the names in the root folder that are not in `used`; an empty list if all are used."""
    used = set(used)
    unused = [f"{name}/" for name in here.folders if name not in used] + list(here.tables)
    if loose := sum(file.name not in used for file in here.images):
        unused.append(counted(loose, "loose image"))
    return [f"not used: {some_of(unused)}"] if unused else []


def detect_layout(
    root: str, data: Data, here: DirectoryListing, splits: dict[str, str], first: str, hold_out: bool
) -> str:
    """Detect the layout of a folder: one of the values of `data.layout`. Raises SightlineError if it is ambiguous.
    splits: folder of each split. first: folder of the first split, or ''. hold_out: as of `recognize`."""
    if first and (inside := list_folder(root, first).folders):
        return "csv" if hold_out and labels_in_table(root, data, here, first, inside) else "splits"
    named = data.label_column or data.file_column  # a wrong name is the error of reading the table
    if any(has_columns(os.path.join(root, table), data) for table in here.tables) or (named and here.tables):
        return "csv"
    if splits:
        return "splits"
    filled = [name for name in here.folders if holds_images(root, name)]
    if here.images and filled:
        raise SightlineError(
            "images are both directly in the folder and in its subfolders",
            where=root,
            why=f"it has {len(here.images):,} images, such as {here.images[0].name!r}, and {len(filled):,} folders "
            f"with images, such as {filled[0]!r}",
            cure=f"move the images that are not in a folder into class folders or out of the data, or {FORCE}",
        )
    if here.images:
        table = any(map(is_of_labels, here.tables))  # which is an error if it cannot be read
        labeled = not table and names_carry_labels([file.name for file in here.images], data.pattern)
        return "filename" if labeled else "csv" if here.tables else "unlabelled"
    if len(filled) > 1 and all(split_images(root, name) for name in filled):
        return "splits in classes"
    reject_nested(root, filled)
    if here.tables and len(filled) < 2:
        return "csv"  # reading the table raises the error for its missing columns
    if not filled:
        require_images(root, "", Counter())  # raises the error for a folder without images
    return "classes"


def labels_in_table(root: str, data: Data, here: DirectoryListing, first: str, inside: Sequence[str]) -> bool:
    """Whether the labels are in a table, because the split `first` has one folder of images, and not one per class.

    inside: the folders in `first`. Raises SightlineError if it has several folders, none of them is named like a label
    in the table, and the table lists their images: they may be classes, or persons, places and so on.
    """
    images: set[str] = set()
    for name in here.tables:
        path = os.path.join(root, name)
        try:
            rows = read_table(path, data).rows if has_columns(path, data) else ()
        except SightlineError:  # an invalid table, which is not used
            continue
        labels = list(dict.fromkeys(label for row in rows for label in row.labels))
        if data.label_column and rows:
            return True
        if {label.lower() for label in labels} & {folder.lower() for folder in inside}:
            continue
        images = images or {
            posixpath.basename(one.name) for each in inside for one in walk(root, f"{first}/{each}", None)
        }
        if images.isdisjoint(posixpath.basename(row.file.replace("\\", "/")) for row in rows):
            continue
        if len(inside) == 1:
            return True
        why = (
            f"{name} lists images of the {len(inside):,} folders in {first}/, none of which, such as {inside[0]!r}, is "
            f"named like a label, such as {some_of([repr(label) for label in labels[:1]])}"
        )
        cure = "to take the labels from the table: --data.layout csv; from the folders: --data.layout splits"
        raise SightlineError(
            "the labels may be in a table or in the names of the folders", where=root, why=why, cure=cure
        )
    return False


def split_images(root: str, folder: str) -> dict[str, str]:
    """The folder of each split in a class folder, as `cat/train/`; empty unless these are all and have no folders."""
    here = list_folder(root, folder)
    splits = split_folders(here.folders, root, forced=False)
    inside = [list_folder(root, f"{folder}/{name}") for name in splits.values()]
    alone = "train" in splits and len(splits) == len(here.folders) > 1 and not here.images
    return splits if alone and all(each.images and not each.folders for each in inside) else {}


def splits_in_classes(root: str, folders: tuple[str, ...], tally: Counter[str]) -> Layout:
    """List class folders that contain a folder for each split: `cat/train/1.jpg`."""
    parts: dict[str, SplitFiles] = {}
    for name in folders:
        for split, folder in split_images(root, name).items():
            part, files = parts.setdefault(split, SplitFiles([], [])), images_below(root, f"{name}/{folder}", tally)
            parts[split] = SplitFiles([*part.files, *files], [*(part.labels or ()), *[name] * len(files)])
    note = f"found {counted(len(folders), 'class folder')} with {' and '.join(parts)} in each"
    return Layout("classes", parts, (note,), by_folder=True, tally=tally)


def same_folders_note(root: str, folders: tuple[str, ...]) -> list[str]:
    """A note if all class folders contain the same two or more folders and no image: `2023/cat/`, `2024/cat/`."""
    inside = [list_folder(root, name) for name in folders]
    if len(folders) < 2 or any(each.images or each.folders != inside[0].folders for each in inside):
        return []
    if len(names := inside[0].folders) < 2:
        return []
    what = f"warning: the classes are {some_of(folders)}, each of which contains the folders {some_of(names)}"
    return [f"{what}; if these are the classes, swap the levels, or list images and labels in a table"]


def reject_nested(root: str, filled: list[str]) -> None:
    """Raise SightlineError if folders look like separate data sets or splits, and not like classes. filled: the
    folders in `root` that contain images."""
    inside = {name: list_folder(root, name) for name in filled}
    alone = len(filled) == 1 and bool(inside[filled[0]].folders) and not inside[filled[0]].images
    sets = [
        name
        for name, here in inside.items()
        if alone or split_folders(here.folders, root, forced=False).get("train") or (here.tables and not here.images)
    ]
    if sets:
        why = f"{sets[0]!r} contains {some_of([repr(n) for n in (*inside[sets[0]].folders, *inside[sets[0]].tables)])}"
        cure = "use the data set in it: " + " or ".join(f"--data {os.path.join(root, name)}" for name in sets[:4])
        raise SightlineError("the data set is in a subfolder of this folder", where=root, why=why, cure=cure)
    train = next((name for name in filled if split_of(name) == "train" and inside[name].folders), "")
    if train:
        what = f"{train!r} looks like a training split, but the folders beside it do not have names of splits"
        why = f"{train!r} contains class folders: {some_of([repr(name) for name in inside[train].folders])}"
        cure = (
            f"rename {train!r} to 'train', and {some_of([repr(n) for n in filled if n != train])} to 'val' or 'test'; "
            "if they are all classes: --data.layout classes"
        )
        raise SightlineError(what, where=root, why=why, cure=cure)


def require_images(root: str, below: str, tally: Counter[str]) -> list[File]:
    """List all images in `root`/`below` and its subfolders; raises SightlineError if there are none."""
    files = images_below(root, below, tally)
    if not files:
        where = os.path.join(root, below) if below else root
        why, cure = (
            f"it contains {left_out(tally) or 'no files'}",
            f"give a folder with {FORMATS_TEXT} images: --data FOLDER{conversion_hint(tally, where)}",
        )
        raise SightlineError("there are no images in this folder", where=where, why=why, cure=cure)
    return files


def class_folders(root: str, below: str, folders: tuple[str, ...], tally: Counter[str]) -> SplitFiles:
    """List the images in class folders; the label of an image is the name of its folder in `root`/`below`. Raises
    SightlineError with all empty folders, or if there is no folder."""
    files: list[File] = []
    labels: list[str] = []
    empty: list[str] = []
    visited: set[tuple[int, int]] = set()
    for name in folders:
        inside: Counter[str] = Counter()
        images = images_below(root, posixpath.join(below, name), inside, visited)
        tally.update(inside)
        files += images
        labels += [name] * len(images)
        if not images:
            empty.append(f"{os.path.join(below, name)!r}: {left_out(inside) or 'empty'}")
    if empty or not folders:
        what, cure = (
            "there are no class folders",
            f"move the images of each class into a folder named as the class, or {FORCE}",
        )
        if empty:
            what = f"no images in {counted(len(empty), 'class folder')}"
            cure = "add images to these folders or remove them, because every folder here counts as a class"
            cure += conversion_hint(tally)
        where = os.path.join(root, below) if below else root
        raise SightlineError(what, where=where, why="\n" + listing(empty) if empty else "", cure=cure)
    return SplitFiles(files, labels)


def from_splits(
    root: str, data: Data, splits: dict[str, str], here: DirectoryListing, tally: Counter[str], style: str
) -> Layout:
    """List the files and labels of each split. splits: {split: folder}. style: the name of the layout."""
    list_folder(root, "", tally)
    labeling = label_source(root, next(iter(splits.values())), data, style)
    parts = {split: split_part(root, folder, split, data, tally, labeling) for split, folder in splits.items()}
    kinds = {"folders": "class folders", "names": f"the label in the file name, {data.pattern}", "none": "no labels"}
    shown = [f"{folder}/{' (as val)' * (folder.lower() in ALIASES)}" for folder in splits.values()]
    names = [file.name for part in parts.values() for file in part.files] if labeling == "none" else []
    notes = [f"found {' and '.join(shown)}: {kinds[labeling]}{pattern_hint(names, data)}"]
    bare = [splits[split] for split, part in parts.items() if part.labels is None and labeling != "none"]
    notes += [f"{folder}/ has no labels" for folder in bare]
    notes += unused_note(here, splits.values())
    layout = "unlabelled" if labeling == "none" else style
    return Layout(layout, parts, tuple(notes), by_folder=labeling == "folders", tally=tally)


def label_source(root: str, folder: str, data: Data, style: str) -> str:
    """Where the labels of all splits are: `folders`, `names` (of files) or `none`. folder: of the first split."""
    if style != "splits":
        return {"filename": "names", "unlabelled": "none"}[style]
    inside = list_folder(root, folder)
    if any(holds_images(root, f"{folder}/{name}") for name in inside.folders):
        return "folders"
    labeled = data.layout == "splits" or names_carry_labels([file.name for file in inside.images], data.pattern)
    return "names" if labeled or not inside.images else "none"


def split_part(root: str, folder: str, split: str, data: Data, tally: Counter[str], labeling: str) -> SplitFiles:
    """List the files and labels of one split. labeling: where the labels are, as returned by `label_source`. A test
    split may be unlabeled although train is labeled."""
    inside = list_folder(root, folder)
    where = os.path.join(root, folder)
    if labeling == "folders" and (inside.folders or split != "test"):
        if inside.images:
            what = (
                f"{len(inside.images):,} images of this split are not in a class folder, such as "
                f"{inside.images[0].name!r}"
            )
            cure = f"move all images into class folders or out of the data, or {FORCE}"
            raise SightlineError(what, where=where, cure=cure)
        list_folder(root, folder, tally)
        return class_folders(root, folder, inside.folders, tally)
    files = require_images(root, folder, tally)
    names = [file.name for file in files]
    labeled = labeling == "names" and (split != "test" or any(match_labels(names, data.pattern)))
    return SplitFiles(files, labels_in_names(names, data.pattern, where) if labeled else None)
