"""Recognizing how a folder holds its labels. Each layout gives the files and label strings of its splits."""

import os
from collections import Counter
from dataclasses import dataclass, field

from ..config import Data
from ..errors import SightlineError, listing
from .labels import count_matches, labels_in_names, names_carry_labels
from .scan import FORMATS_TEXT, File, Shelf, holds_images, images_below, left_out, shelf
from .splits import SPLIT_NAMES, split_names, split_of
from .tables import has_columns, place_rows, read_table

FORCE = "choose with --data.layout splits, classes, filename, csv or unlabelled"


@dataclass(frozen=True)
class Part:
    """The files of one split and the label of each; labels None: unlabelled."""

    files: list[File]
    labels: list[str] | None


@dataclass(frozen=True)
class Found:
    """What a path was recognized as.

    classes: the order that a table gives, else empty. by_folder: folders name the classes. tally: what was left out.
    """

    layout: str
    parts: dict[str, Part]
    notes: tuple[str, ...]
    classes: tuple[str, ...] = ()
    by_folder: bool = False
    tally: Counter[str] = field(default_factory=Counter)


def recognize(root: str, data: Data) -> Found:
    """The layout of the folder `root` by what lies in it, or as `data.layout` says."""
    tally: Counter[str] = Counter()
    here = shelf(root)
    splits = split_folders(here.folders, root, forced=data.layout == "splits")
    layout = guess(root, data, here, splits) if data.layout == "auto" else data.layout
    if layout == "splits":
        return from_splits(root, data, splits, here, tally)
    if layout == "classes":
        return from_class_folders(root, here, tally)
    if layout == "csv":
        return from_tables(root, pick_tables(root, here.tables), here.folders)
    if splits.get("train"):
        return from_splits(root, data, splits, here, tally, style=layout)
    files = images_below(root, "", tally)
    if not files:
        raise no_images(root, tally)
    labels = labels_in_names([file.name for file in files], data.pattern, root) if layout == "filename" else None
    described = f"the label in the file name, {data.pattern}" if labels else "images without labels"
    return Found(layout, {"train": Part(files, labels)}, (f"found {described}",), tally=tally)


def split_folders(folders: tuple[str, ...], root: str, forced: bool) -> dict[str, str]:
    """Split -> folder. `train` with `val` or `test` beside it always counts; names that only begin so (`train_50`)
    count if no other folder lies beside them, because `train_station` next to `harbor` is a class."""
    alike = [name for name in folders if split_of(name)]
    exact = {SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    if forced or ("train" in exact and len(exact) > 1) or len(alike) == len(folders):
        return split_names(alike, root)
    return {}


def guess(root: str, data: Data, here: Shelf, splits: dict[str, str]) -> str:
    """The layout of a folder, or a SightlineError that says what to point at instead."""
    if splits.get("train") and shelf(root, splits["train"]).folders:
        return "splits"
    if any(has_columns(os.path.join(root, table)) for table in here.tables):
        return "csv"
    if splits:
        return "splits"
    filled = [name for name in here.folders if holds_images(root, name)]
    if here.images and filled:
        raise SightlineError(
            "images lie both directly in the folder and in folders inside it",
            where=root,
            why=f"{len(here.images):,} files like {here.images[0].name!r}, {len(filled):,} folders like {filled[0]!r}",
            cure=f"move the loose images into class folders or out of the data, or {FORCE}",
        )
    if here.images:
        labeled = names_carry_labels([file.name for file in here.images], data.pattern)
        return "filename" if labeled else "csv" if here.tables else "unlabelled"
    if filled:
        refuse_nested(root, filled)
        return "classes"
    if here.tables:
        return "csv"
    tally: Counter[str] = Counter()
    images_below(root, "", tally)
    raise no_images(root, tally)


def refuse_nested(root: str, filled: list[str]) -> None:
    """SightlineError if data sets lie one folder deeper than the path says, rather than classes."""
    inside = {name: shelf(root, name) for name in filled}
    alone = len(filled) == 1 and bool(inside[filled[0]].folders) and not inside[filled[0]].images
    sets = [
        name
        for name, here in inside.items()
        if alone or split_folders(here.folders, root, forced=False).get("train") or (here.tables and not here.images)
    ]
    if sets:
        raise SightlineError(
            "the data lies one folder deeper",
            where=root,
            why=f"{sets[0]!r} holds {', '.join(map(repr, (*inside[sets[0]].folders, *inside[sets[0]].tables)[:5]))}",
            cure=" or ".join(f"--data {os.path.join(root, name)}" for name in sets[:4]),
        )


def no_images(where: str, tally: Counter[str]) -> SightlineError:
    """The error for a folder without images: what it holds instead, and what would do."""
    return SightlineError(
        "there are no images in this folder",
        where=where,
        why=f"found instead: {left_out(tally) or 'nothing'}",
        cure=f"give a folder with {FORMATS_TEXT} images in it",
    )


def class_folders(root: str, below: str, folders: tuple[str, ...], tally: Counter[str]) -> Part:
    """Every image below `root`/`below`, labeled with the name of the folder that holds it (or holds its folder)."""
    files: list[File] = []
    labels: list[str] = []
    empty: list[str] = []
    visited: set[tuple[int, int]] = set()
    for name in folders:
        inside: Counter[str] = Counter()
        images = images_below(root, f"{below}/{name}" if below else name, inside, visited)
        tally.update(inside)
        files += images
        labels += [name] * len(images)
        if not images:
            empty.append(f"{os.path.join(below, name)!r}: {left_out(inside) or 'empty'}")
    if empty:
        raise SightlineError(
            f"{len(empty):,} class folder{'s hold' if len(empty) > 1 else ' holds'} no images",
            where=os.path.join(root, below) if below else root,
            why="\n" + listing(empty),
            cure="fill or remove them; every folder here is taken for a class",
        )
    return Part(files, labels)


def from_class_folders(root: str, here: Shelf, tally: Counter[str]) -> Found:
    """One folder a class, without splits."""
    if not here.folders:
        raise SightlineError(
            "there are no class folders", where=root, cure=f"make one folder for each class, or {FORCE}"
        )
    shelf(root, "", tally)
    part = class_folders(root, "", here.folders, tally)
    notes = [f"found {len(here.folders):,} class folder{'s' if len(here.folders) > 1 else ''}, not split"]
    if here.images:
        notes.append(f"{len(here.images):,} images beside the class folders are not used")
    return Found("classes", {"train": part}, tuple(notes), by_folder=True, tally=tally)


def from_splits(
    root: str, data: Data, splits: dict[str, str], here: Shelf, tally: Counter[str], style: str = "splits"
) -> Found:
    """Split folders, with class folders or labeled files inside. `style` is the layout that was asked for."""
    if "train" not in splits:
        raise SightlineError(
            "there is no training split",
            where=root,
            why=f"the folders here are {', '.join(map(repr, here.folders[:8])) or 'none'}",
            cure="name one of the folders 'train', or choose with --data.layout classes",
        )
    shelf(root, "", tally)
    how = label_place(root, splits["train"], data, style)
    parts = {split: split_part(root, folder, split, data, tally, how) for split, folder in splits.items()}
    kinds = {"folders": "class folders", "names": f"the label in the file name, {data.pattern}", "none": "no labels"}
    notes = [f"found {' and '.join(f'{folder}/' for folder in splits.values())}: {kinds[how]}"]
    notes += [
        f"{splits[split]}/ has no labels" for split, part in parts.items() if part.labels is None and how != "none"
    ]
    unused = [f"{name}/" for name in here.folders if name not in splits.values()] + list(here.tables)
    unused += [f"{len(here.images):,} loose images"] * bool(here.images)
    if unused:
        notes.append(f"not used: {', '.join(unused[:8])}")
    layout = "unlabelled" if how == "none" else style
    return Found(layout, parts, tuple(notes), by_folder=how == "folders", tally=tally)


def label_place(root: str, folder: str, data: Data, style: str) -> str:
    """Where the training split has its labels, which then holds for all splits: `folders`, `names` or `none`."""
    if style != "splits":
        return {"filename": "names", "unlabelled": "none"}[style]
    inside = shelf(root, folder)
    if any(holds_images(root, f"{folder}/{name}") for name in inside.folders):
        return "folders"
    labeled = data.layout == "splits" or names_carry_labels([file.name for file in inside.images], data.pattern)
    return "names" if labeled or not inside.images else "none"


def split_part(root: str, folder: str, split: str, data: Data, tally: Counter[str], how: str) -> Part:
    """The files and labels of one split folder. Only a test split may come without labels where train has them."""
    inside = shelf(root, folder)
    where = os.path.join(root, folder)
    bare_test = split == "test" and how == "folders" and not inside.folders
    if how == "folders" and not bare_test:
        if inside.images or not inside.folders:
            raise SightlineError(
                f"{len(inside.images):,} images lie outside the class folders, e.g. {inside.images[0].name!r}"
                if inside.images
                else "there are no class folders",
                where=where,
                cure=f"move all images into class folders or out of the data, or {FORCE}",
            )
        shelf(root, folder, tally)
        return class_folders(root, folder, inside.folders, tally)
    files = images_below(root, folder, tally)
    if not files:
        raise no_images(where, tally)
    names = [file.name for file in files]
    if how == "names" and split == "test":
        bare_test = not count_matches(names, data.pattern)
    return Part(files, labels_in_names(names, data.pattern, where) if how == "names" and not bare_test else None)


def pick_tables(root: str, tables: tuple[str, ...]) -> dict[str, str]:
    """Split -> table; the split is empty for one table of everything (`labels.csv`, or the only one)."""
    splits = split_names(tables, root)
    if "train" in splits:
        return splits
    labels = [name for name in tables if os.path.splitext(name)[0].lower() == "labels"]
    usable = [name for name in tables if has_columns(os.path.join(root, name))]
    for candidates in (labels, list(tables), usable):
        if len(candidates) == 1:
            return {"": candidates[0]}
    raise SightlineError(
        "there is no table of labels" if not tables else "it is not clear which table holds the labels",
        where=root,
        why=f"found: {', '.join(map(repr, tables[:8]))}" if tables else "",
        cure="name it labels.csv, or name two train.csv and val.csv, or give the file itself with --data",
    )


def from_tables(root: str, tables: dict[str, str], folders: tuple[str, ...]) -> Found:
    """Labels in CSV files; images beside them or in folders, `train/` for train.csv first."""
    places = split_folders(folders, root, forced=False)
    parts: dict[str, Part] = {}
    notes = [f"found labels in {' and '.join(tables.values())}"]
    classes: tuple[str, ...] = ()
    for split, name in tables.items():
        table = read_table(os.path.join(root, name))
        classes = classes or table.classes
        foreign = {folder for other, folder in places.items() if split and other != split}
        others = ["", *(folder for folder in folders if folder not in foreign)]
        for part in sorted({row.split or split or "train" for row in table.rows}):
            if part in parts:
                raise SightlineError(
                    f"two tables give the {part} split", where=os.path.join(root, name), cure="remove one"
                )
            rows = [row for row in table.rows if (row.split or split or "train") == part]
            own = places.get(rows[0].split or split_of(name) or "", "")
            files, labels, seen = place_rows(table, rows, root, own, others)
            parts[part] = Part(files, labels)
            notes += seen
    if "train" not in parts:
        raise SightlineError("no row is of the training split", where=root, cure="write 'train' in the column 'split'")
    return Found("csv", parts, tuple(notes), classes)
