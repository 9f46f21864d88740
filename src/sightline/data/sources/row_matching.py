"""Choose the tables of labels in a folder, and match the rows of the tables with image files."""

import os
import posixpath
import shlex
from collections import Counter

from ...config.paths import relative_path
from ...config.schema import Data
from ...errors import SightlineError, counted, listing, some_of
from ..label_arrays import SEPARATOR
from .scan import EXTENSIONS, DirectoryListing, File, Label, Layout, SplitFiles, holds_images, images_below, list_folder
from .splits import ALL, names_train, split_folders, split_names, split_of
from .tables import LabelTable, Row, has_columns, is_unlabeled, read_table

ENDINGS = (*EXTENSIONS, *(ending.upper() for ending in EXTENSIONS))

Listings = dict[str, dict[str, File]]
"""{folder: {path: image}} of the images directly in each folder; all paths are relative to the root."""


def is_of_labels(name: str) -> bool:
    """Whether a table has the name of the one with all labels, such as labels.csv."""
    return os.path.splitext(name)[0].lower() == "labels"


def pick_tables(root: str, tables: tuple[str, ...], data: Data, hold_out: bool = True) -> dict[str, str]:
    """Map splits to tables of labels. A single table for all splits (`labels.csv`, or the only table) has the key
    ''. Raises SightlineError if the choice is ambiguous, or if there is no table."""
    splits = split_names(tables, root, wide=names_train(tables))
    if "train" in splits or (splits and not hold_out):
        return splits
    labels = [name for name in tables if is_of_labels(name)]
    usable = [name for name in tables if has_columns(os.path.join(root, name), data)]
    for candidates in (labels, list(tables), usable):
        if len(candidates) == 1:
            return {"": candidates[0]}
    raise SightlineError(
        "several tables may contain the labels" if tables else "there is no table of labels",
        where=root,
        why=f"found: {some_of([repr(name) for name in tables])}" if tables else "",
        cure="rename the table of all labels to labels.csv, or the tables of two splits to train.csv and val.csv, or "
        "give the path of a table: --data FOLDER/TABLE.csv",
    )


def from_tables(
    root: str,
    tables: dict[str, str],
    here: DirectoryListing,
    data: Data,
    hold_out: bool = True,
    check_folders: bool = False,
) -> Layout:
    """Read the labels of images from tables. The images are in `root` or in its folders.

    tables: {split: file name}. here: the content of `root`. An image is searched in the folder of its split first.
    check_folders: raise SightlineError if the folders may be class folders that contradict the tables
    (`reject_class_folders`).
    """
    folders = here.folders
    split_dirs = split_folders(folders, root, forced=False)
    notes = [f"found labels in {' and '.join(tables.values())}"]
    if others := [name for name in here.tables if name not in tables.values()]:
        notes[0] += f"; not used: {some_of(others)}"
    classes: tuple[str, ...] = ()
    listings: Listings = {}
    matches: dict[str, tuple[File, Row]] = {}
    grouped = sets = False
    for split, name in tables.items():
        path = os.path.join(root, name)
        if split == "test" and hold_out and is_unlabeled(path, data):
            notes.append(f"{name} has no labels and is not used")
            continue
        table = read_table(path, data)
        notes += table.notes
        sets = sets or table.sets
        classes, grouped = classes or table.classes, grouped or table.grouped
        excluded = {folder for other, folder in split_dirs.items() if split and other != split}
        others = ["", *(folder for folder in folders if folder not in excluded)]
        owns = {row.split: split_dirs.get(row.split or split or split_of(name) or "", "") for row in table.rows}
        known = len(matches)
        match_rows(table, split, root, owns, others, listings, matches)
        if (repeated := len(table.rows) - len(matches) + known) and not table.sets:
            notes.append(f"{counted(repeated, 'repeated row')} of {name} left out")
    matches = split_by_folders(root, split_dirs, matches, notes)
    parts: dict[str, SplitFiles] = {}
    for part in sorted({row.split for _, row in matches.values()}):
        members = sorted(match for match in matches.values() if match[1].split == part)
        groups = [row.group for _, row in members] if grouped else None
        parts[part] = SplitFiles(
            [file for file, _ in members], labels_of_rows([row for _, row in members], sets), groups
        )
    if hold_out and "train" not in parts and ALL not in parts:
        raise SightlineError(
            "no row of the table is in the training split",
            where=root,
            cure="write 'train' in the column `split` of its rows",
        )
    if check_folders:
        reject_class_folders(root, list(matches.values()), folders)
    return Layout("csv", parts, (*notes, *unlisted_note(root, tables, set(matches), listings)), classes)


def split_by_folders(
    root: str, split_dirs: dict[str, str], matches: dict[str, tuple[File, Row]], notes: list[str]
) -> dict[str, tuple[File, Row]]:
    """The matches of a table without splits, with the splits of the folders of the images; adds a note about them.

    split_dirs: {split: folder}. Nothing changes if all images are in one split folder, or none is in the folder of the
    validation or test split. Raises SightlineError if only some images are in split folders.
    """
    names = {folder: split for split, folder in split_dirs.items()}
    unsplit = {path: file.name for path, (file, row) in matches.items() if row.split == ALL}
    splits = {path: names.get(folder_of(root, name), "") for path, name in unsplit.items()}
    found = set(splits.values())
    if len(found) < 2 or not found & {"val", "test"}:
        return matches
    shown = " and ".join(f"{split_dirs[split]}/" for split in split_dirs if split in found)
    if outside := [unsplit[path] for path, split in splits.items() if not split]:
        what = f"{len(outside):,} of {len(splits):,} images of the table are in no split folder"
        why = f"the others are in {shown}, and the table has no column `split`\n{listing(sorted(outside))}"
        cure = "add a column `split` with train, val or test to the table; or move these images, or remove their rows"
        raise SightlineError(what, where=root, why=why, cure=cure)
    notes.append(f"the splits are those of the folders {shown}")
    return {path: (file, row._replace(split=splits.get(path, row.split))) for path, (file, row) in matches.items()}


def labels_of_rows(rows: list[Row], sets: bool) -> list[Label]:
    """The labels of rows that have one each, or all their label sets."""
    return [row.labels for row in rows] if sets else [row.labels[0] for row in rows]


def reject_class_folders(root: str, matches: list[tuple[File, Row]], folders: tuple[str, ...]) -> None:
    """Raise SightlineError if the folders may be class folders that contradict the labels in the tables.

    This needs two or more folders with images. There is no contradiction if every row gives the path with its folder.
    There is none either if all images in the folders have a row, and no image in a folder that is named as a label
    (`cat`) has a different label.
    """
    filled = [name for name in folders if holds_images(root, name)]
    if len(filled) < 2 or all(folder_of(root, row.file) in filled for _, row in matches):
        return
    labels = {file.name: SEPARATOR.join(row.labels) for file, row in matches}
    known = set(labels.values())
    against = [name for name, label in labels.items() if label != (own := folder_of(root, name)) and own in known]
    count = sum(len(images_below(root, folder, Counter())) for folder in filled)
    if len(labels) == count and not against:
        return
    why = (
        f"the {len(filled):,} folders (such as {filled[0]!r}) contain {count:,} images, and the table lists "
        f"{len(labels):,}"
    )
    why += f"; its label of {against[0]!r} is {labels[against[0]]!r}" if against else ""
    cure = (
        "to take the labels from the folders: --data.layout classes; from the table: --data.layout csv; "
        f"or write the folder into the file names of the table, like '{filled[0]}/NAME'"
    )
    raise SightlineError("the labels may be in a table or in the names of the folders", where=root, why=why, cure=cure)


def folder_of(root: str, name: str) -> str:
    """The first folder in the path `name` of a file, relative to `root`; '' for a file directly in `root`."""
    path = os.path.normpath(os.path.join(root, name.replace("\\", "/")))
    head, mark, _ = relative_path(path, root).partition(os.sep)
    return head if mark else ""


def unlisted_note(root: str, tables: dict[str, str], matched: set[str], listings: Listings) -> list[str]:
    """A list of one sentence on images without a row, in folders in which other images have a row; else an empty
    list. matched: paths of the images that have a row."""
    used = {os.path.dirname(path) for path in matched}
    seen = {os.path.normpath(os.path.join(root, name)) for images in listings.values() for name in images}
    count = sum(path not in matched and os.path.dirname(path) in used for path in seen)
    return [f"{counted(count, 'image')} without a row in {' or '.join(tables.values())} left out"] if count else []


def match_rows(
    table: LabelTable,
    split: str,
    root: str,
    owns: dict[str, str],
    others: list[str],
    listings: Listings,
    matches: dict[str, tuple[File, Row]],
) -> None:
    """Find the image of every row of a table, and add {path: (image, row with its split)} to `matches`.

    split: that of the table, or ''. An image is searched in the folder `owns[row.split]`, then in the folders `others`,
    all below `root`. Raises SightlineError with all rows that match no image or several images, or contradict an
    earlier row.
    """
    faults: list[str] = []
    absent = 0
    everywhere: dict[str, list[File]] = {}
    for row in table.rows:
        hits = find_images(root, [owns[row.split]], row.file, listings)
        if not hits and not {"/", "\\"} & {*row.file}:  # an index, because there may be as many folders as classes
            everywhere = everywhere or images_by_name(root, others, listings)
            hits = [file for ending in endings_of(row.file) for file in everywhere.get(row.file + ending, ())]
        elif not hits:
            hits = find_images(root, others, row.file, listings)
        if len(hits) != 1:
            several = (
                f" matches several images: {hits[0].name!r} and {hits[1].name!r}"
                if hits
                else ": there is no such image"
            )
            faults.append(f"line {row.line}: {row.file!r}{several}")
            absent += not hits
            continue
        row = row._replace(split=row.split or split or ALL)
        path = os.path.normpath(os.path.join(root, hits[0].name))
        _, earlier = matches.setdefault(path, (hits[0], row))
        if earlier is row:
            continue
        if table.sets:
            row = row._replace(labels=tuple(dict.fromkeys((*earlier.labels, *row.labels))))
            matches[path] = hits[0], earlier._replace(labels=row.labels)
            earlier = matches[path][1]
        texts = ((SEPARATOR.join(one.labels), one.split, one.group) for one in (earlier, row))
        for what, first, second in zip(("label", "split", "group"), *texts, strict=True):
            if first != second:
                lines = f"lines {earlier.line} and {row.line}"
                faults.append(f"{lines}: {row.file!r} has the {what}s {first!r} and {second!r}")
    if faults:
        searched = some_of(sorted({repr(folder or ".") for folder in [*owns.values(), *others]}))
        if absent == len(table.rows):
            raise none_found(table, root, searched)
        wrong = "name an image that does not exist"
        if absent < len(faults):
            wrong = f"cannot be matched to one image with {'the same labels' if table.sets else 'one label'}"
        raise SightlineError(
            f"{len(faults):,} of {len(table.rows):,} rows {wrong}",
            where=table.path,
            why=f"the images were searched in the folders {searched}\n{listing(faults, 100)}",
            cure="correct or remove these rows of the table, or add the missing images",
        )


def none_found(table: LabelTable, root: str, searched: str) -> SightlineError:
    """The error for a table of which no image was found. searched: the folders below `root` that were searched."""
    names = list(dict.fromkeys(row.file for row in table.rows))
    some = ", ".join(map(repr, names[:3])) + ", ..." * (len(names) > 3)
    why = f"there is no {some}; searched: the folders {searched} in {root}"
    below = {file.lower(): file for _, _, files in os.walk(root) for file in files}
    if found := below.get(posixpath.basename(names[0]).lower()):
        why += f"; {found!r} there has another case or folder"
    cure = "move the table into the folder with the images, or into the one above; or write the paths of the images, "
    cure += f"absolute or from the folder of the table, into it, as in images/{posixpath.basename(names[0])}"
    return SightlineError(
        f"none of the {counted(len(table.rows), 'image')} of the table was found", where=table.path, why=why, cure=cure
    )


def table_above(root: str, data: Data) -> str:
    """Path of a table of labels in the folder above a folder of images, or '' unless there is just one."""
    above = os.path.dirname(root)
    tables = list_folder(above).tables if os.path.isdir(root) and os.access(above, os.R_OK) else ()
    usable = [path for path in (os.path.join(above, name) for name in tables) if has_columns(path, data)]
    return usable[0] if len(usable) == 1 else ""


def table_hint(root: str, data: Data) -> str:
    """The beginning of a cure for a folder of images without labels: the table in the folder above it, if any."""
    path = table_above(root, data)
    return f"use the table of labels above this folder: --data {shlex.quote(path)}; or " if path else ""


def endings_of(name: str) -> tuple[str, ...]:
    """What may follow a name from a table: nothing if it has the extension of an image, else such an extension."""
    return ("",) if name.lower().endswith(EXTENSIONS) else ENDINGS


def images_by_name(root: str, folders: list[str], listings: Listings) -> dict[str, list[File]]:
    """The images directly in `folders`, by their names without the folder; adds to `listings`."""
    found: dict[str, list[File]] = {}
    for folder in folders:
        for path, file in listed(root, folder, listings).items():
            found.setdefault(path.rpartition("/")[2], []).append(file)
    return found


def listed(root: str, folder: str, listings: Listings) -> dict[str, File]:
    """The images directly in a folder by path; empty if it does not exist. Adds to `listings`."""
    if folder not in listings:
        exists = "\0" not in folder and os.path.isdir(os.path.join(root, folder))
        images = list_folder(root, folder, Counter()).images if exists else ()
        listings[folder] = {file.name: file for file in images}
    return listings[folder]


def find_images(root: str, folders: list[str], name: str, listings: Listings) -> list[File]:
    """Find the images called `name`, with or without extension, in `folders`. listings: the content of the folders
    listed so far; newly listed folders are added."""
    hits: dict[str, File] = {}
    for below in folders:
        path = os.path.normpath(os.path.join(below, name.replace("\\", "/"))).replace(os.sep, "/")
        images = listed(root, path.rpartition("/")[0], listings)
        hits |= {file.name: file for ending in endings_of(path) if (file := images.get(path + ending))}
    return list(hits.values())
