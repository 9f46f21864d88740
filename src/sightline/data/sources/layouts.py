"""Recognizing how a folder holds its labels. Each layout gives the files and label strings of its splits."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ...config.schema import Data
from ...errors import SightlineError, counted, listing, some_of
from .found import Found, Part
from .labels import count_matches, labels_in_names, names_carry_labels, suggest_pattern
from .row_matching import from_tables, pick_tables, refuse_contested
from .scan import FORMATS_TEXT, File, Shelf, holds_images, images_below, left_out, shelf
from .splits import ALIASES, WHOLE, split_folders, split_of
from .tables import has_columns, holds_predictions, lacks_header

FORCE = "choose with --data.layout splits, classes, filename, csv or unlabelled"


def recognize(root: str, data: Data, hold_out: bool = True) -> Found:
    """The layout of the folder `root` by what lies in it, or as `data.layout` says.

    hold_out: the data are to train on, and need a training split where they have splits.
    """
    here = shelf(root)
    opinions = [name for name in here.tables if holds_predictions(os.path.join(root, name))]
    if data.layout == "csv" and len(opinions) == len(here.tables):
        opinions = []  # the reader says what is wrong with them
    here = here._replace(tables=tuple(name for name in here.tables if name not in opinions))
    found = listed(root, data, here, hold_out)
    if opinions:
        note = f"not used, for it holds predictions of a model and no labels: {', '.join(opinions[:4])}"
        found = replace(found, notes=(*found.notes, note + (", ..." if len(opinions) > 4 else "")))
    return found


def listed(root: str, data: Data, here: Shelf, hold_out: bool) -> Found:
    """The files and labels of the folder `root`, in which lies `here`."""
    tally: Counter[str] = Counter()
    splits = split_folders(here.folders, root, forced=data.layout == "splits")
    lead = splits.get("train", "") if hold_out else next(iter(splits.values()), "")
    layout = guess(root, data, here, splits, lead) if data.layout == "auto" else data.layout
    if layout == "splits":
        if not lead:
            raise SightlineError(
                f"there is no {'training split' if hold_out else 'folder of a split'}",
                where=root,
                why=f"the folders here are {', '.join(map(repr, here.folders[:8])) or 'none'}",
                cure="name one of the folders 'train', or choose with --data.layout classes",
            )
        return from_splits(root, data, splits, here, tally)
    if layout == "classes":
        return from_class_folders(root, here, tally)
    if layout == "csv":
        return from_tables(root, pick_tables(root, here.tables, hold_out), here.folders, hold_out)
    if lead:
        return from_splits(root, data, splits, here, tally, style=layout)
    files = images_below(root, "", tally)
    if not files:
        raise no_images(root, tally)
    names = [file.name for file in files]
    labels = labels_in_names(names, data.pattern, root) if layout == "filename" else None
    described = f"the label in the file name, {data.pattern}" if labels else "images without labels"
    note = f"found {described}{'' if labels else pattern_hint(names, data)}"
    return Found(layout, {WHOLE: Part(files, labels)}, (note,), tally=tally)


def pattern_hint(names: Sequence[str], data: Data) -> str:
    """What to type if the labels stand in these names after all; empty where they do not look so, or were not asked."""
    pattern = suggest_pattern(names) if data.layout == "auto" else ""
    option = f"--data.layout filename --data.pattern '{pattern}'"
    return f"; if the label stands in the file name: {option}" if pattern else ""


def guess(root: str, data: Data, here: Shelf, splits: dict[str, str], lead: str) -> str:
    """The layout of a folder, or a SightlineError that says what to point at instead. `lead`: the split with labels."""
    if lead and shelf(root, lead).folders:
        return "splits"
    if any(has_columns(os.path.join(root, table)) for table in here.tables):
        if not splits and not here.images:
            refuse_contested(root, pick_tables(root, here.tables), here.folders)
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
    if len(filled) == 1 and any(lacks_header(os.path.join(root, table)) for table in here.tables):
        return "csv"
    if filled:
        refuse_nested(root, filled)
        refuse_unnamed_split(root, filled)
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


def refuse_unnamed_split(root: str, filled: list[str]) -> None:
    """SightlineError if a folder beside the training split repeats its class folders, but has not a split's name."""
    train = next((name for name in filled if split_of(name) == "train"), "")
    inside = {
        name: {folder for folder in shelf(root, name).folders if holds_images(root, f"{name}/{folder}")}
        for name in (filled if train else ())
    }
    alike = [name for name, classes in inside.items() if name != train and classes and classes <= inside[train]]
    if alike:
        exact = train.lower() in ("train", "training")
        raise SightlineError(
            f"{alike[0]!r} looks like a split beside {train!r}, but its name does not say which",
            where=root,
            why=f"it holds the same class folders: {', '.join(map(repr, sorted(inside[alike[0]])[:4]))}",
            cure=f"rename {' or '.join(map(repr, alike[:4]))} to 'val' or 'test'"
            + ("" if exact else f", and {train!r} to 'train'")
            + "; if these folders are the classes: --data.layout classes",
        )


def no_images(where: str, tally: Counter[str]) -> SightlineError:
    """The error for a folder without images: what it holds instead, and what would do."""
    return SightlineError(
        "there are no images in this folder",
        where=where,
        why=f"found instead: {left_out(tally) or empty_folders(where) or 'nothing'}",
        cure=f"give a folder with {FORMATS_TEXT} images in it",
    )


def empty_folders(where: str) -> str:
    """`2 empty folders: a, b`, for a folder without any file below it; "" where it holds no folders."""
    names = sorted(entry.name for entry in os.scandir(where) if entry.is_dir()) if os.path.isdir(where) else []
    return f"{counted(len(names), 'empty folder')}: {some_of(names)}" if names else ""


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
    return Found("classes", {WHOLE: part}, tuple(notes), by_folder=True, tally=tally)


def from_splits(
    root: str, data: Data, splits: dict[str, str], here: Shelf, tally: Counter[str], style: str = "splits"
) -> Found:
    """Split folders, with class folders or labeled files inside. `style` is the layout that was asked for."""
    shelf(root, "", tally)
    how = label_place(root, next(iter(splits.values())), data, style)
    parts = {split: split_part(root, folder, split, data, tally, how) for split, folder in splits.items()}
    kinds = {"folders": "class folders", "names": f"the label in the file name, {data.pattern}", "none": "no labels"}
    said = [f"{folder}/{' (as val)' * (folder.lower() in ALIASES)}" for folder in splits.values()]
    names = [file.name for part in parts.values() for file in part.files] if how == "none" else []
    notes = [f"found {' and '.join(said)}: {kinds[how]}{pattern_hint(names, data)}"]
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
    """Where the first split has its labels, which then holds for all splits: `folders`, `names` or `none`."""
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
