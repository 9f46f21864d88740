"""Which tables of a folder hold its labels, and which image each of their rows means."""

import os
from collections import Counter
from collections.abc import Iterable
from functools import cached_property

from ...errors import SightlineError, counted, listing
from .found import Found, Part
from .scan import EXTENSIONS, File, holds_images, images_below, shelf
from .splits import WHOLE, names_train, split_folders, split_names, split_of
from .tables import Row, Table, has_columns, read_table


class Listed:
    """The images directly in one folder, by path relative to the root."""

    def __init__(self, images: Iterable[File]) -> None:
        self.files = {file.name: file for file in images}

    @cached_property
    def stems(self) -> dict[str, list[File]]:
        """The images by path without the ending; made only where a row asks for it."""
        found: dict[str, list[File]] = {}
        for name, file in self.files.items():
            found.setdefault(os.path.splitext(name)[0], []).append(file)
        return found

    def named(self, path: str) -> list[File]:
        """The image of this path; for a path without an image's ending, all that differ from it by their ending."""
        if path in self.files or path.lower().endswith(EXTENSIONS):
            return [self.files[path]] if path in self.files else []
        return self.stems.get(path, [])


def pick_tables(root: str, tables: tuple[str, ...], hold_out: bool = True) -> dict[str, str]:
    """Split -> table; the split is empty for one table of everything (`labels.csv`, or the only one)."""
    splits = split_names(tables, root, wide=names_train(tables))
    if "train" in splits or (splits and not hold_out):
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


def refuse_contested(root: str, tables: dict[str, str], folders: tuple[str, ...]) -> None:
    """SightlineError if several folders hold images, as classes do, and the tables beside them do not settle labels.

    They do where every row names its folder, and where the rows mean every image in the folders, each row one, and
    do not give an image in a folder called `cat` another label while `cat` is a label.
    """
    filled = [name for name in folders if len(folders) > 1 and holds_images(root, name)]
    if len(filled) < 2:
        return
    rows = [row for name in tables.values() for row in read_table(os.path.join(root, name)).rows]
    if all(folder_of(root, row.file) in filled for row in rows):
        return
    lists: dict[str, Listed] = {}
    hits = [find_file(root, ["", *filled], row.file, lists) for row in rows]
    meant = {files[0].name: row.label for row, files in zip(rows, hits, strict=True) if len(files) == 1}
    count = sum(len(images_below(root, folder, Counter())) for folder in filled)
    known = set(meant.values())
    against = [name for name, label in meant.items() if label != (own := folder_of(root, name)) and own in known]
    if len(meant) == count and not against and all(len(files) == 1 for files in hits):
        return
    described = " and ".join(tables.values())
    missed = sum(len(files) != 1 for files in hits)
    why = f"{described} names {len(meant):,} of the {count:,} images in {len(filled):,} folders like {filled[0]!r}"
    why += f"; {missed:,} of its {len(rows):,} rows do not name one image" if missed else ""
    why += f"; it calls {against[0]!r} {meant[against[0]]!r}" if against else ""
    raise SightlineError(
        "both folders that may be classes and a table of labels lie here",
        where=root,
        why=why,
        cure="--data.layout classes to use the folders, --data.layout csv to use the table; "
        f"or write the folder into its rows, like '{filled[0]}/NAME'",
    )


def folder_of(root: str, name: str) -> str:
    """The first folder below `root` on the way to a file that a row names; empty for one directly in it."""
    path = os.path.normpath(os.path.join(root, name.replace("\\", "/")))
    head, mark, _ = os.path.relpath(path, root).partition(os.sep)
    return head if mark else ""


def from_tables(root: str, tables: dict[str, str], folders: tuple[str, ...], hold_out: bool = True) -> Found:
    """Labels in CSV files; images beside them or in folders, `train/` for train.csv first."""
    places = split_folders(folders, root, forced=False)
    parts: dict[str, Part] = {}
    notes = [f"found labels in {' and '.join(tables.values())}"]
    classes: tuple[str, ...] = ()
    lists: dict[str, Listed] = {}
    named: dict[str, list[File]] = {}
    for split, name in tables.items():
        table = read_table(os.path.join(root, name))
        notes += table.notes
        classes = classes or table.classes
        foreign = {folder for other, folder in places.items() if split and other != split}
        others = ["", *(folder for folder in folders if folder not in foreign)]
        owns = {row.split: places.get(row.split or split or split_of(name) or "", "") for row in table.rows}
        chosen = place_rows(table, root, owns, others, lists)
        repeated = len(table.rows) - len(chosen)
        if repeated:
            verb = "is" if repeated == 1 else "are"
            notes.append(f"{counted(repeated, 'repeated row')} of {name} {verb} left out: an image counts once")
        named[name] = [file for file, _ in chosen]
        for part in sorted({row.split or split or WHOLE for row in table.rows}):
            if part in parts:
                raise SightlineError(
                    f"two tables give the {part} split", where=os.path.join(root, name), cure="remove one"
                )
            members = sorted(
                (file, row.label, row.group) for file, row in chosen if (row.split or split or WHOLE) == part
            )
            groups = [group for _, _, group in members] if table.grouped else None
            parts[part] = Part([file for file, _, _ in members], [label for _, label, _ in members], groups)
    if hold_out and "train" not in parts and WHOLE not in parts:
        raise SightlineError("no row is of the training split", where=root, cure="write 'train' in the column 'split'")
    return Found("csv", parts, (*notes, *unnamed(root, named, lists)), classes)


def unnamed(root: str, named: dict[str, list[File]], lists: dict[str, Listed]) -> list[str]:
    """Sentences on the images that no table names, in the folders in which tables name others."""

    def whole(name: str) -> str:
        return os.path.normpath(os.path.join(root, name))

    known = {whole(file.name) for files in named.values() for file in files}
    users: dict[str, dict[str, None]] = {}
    for table, files in named.items():
        for folder in {os.path.dirname(whole(file.name)) for file in files}:
            users.setdefault(folder, {})[table] = None
    count: Counter[str] = Counter()
    for folder, listed in {whole(folder): listed for folder, listed in lists.items()}.items():
        if folder in users:
            count[" or ".join(users[folder])] += sum(whole(name) not in known for name in listed.files)
    return [
        f"{number:,} image{'s have' if number > 1 else ' has'} no row in {tables} and "
        f"{'are' if number > 1 else 'is'} left out"
        for tables, number in count.items()
        if number
    ]


def place_rows(
    table: Table, root: str, owns: dict[str, str], others: list[str], lists: dict[str, Listed]
) -> list[tuple[File, Row]]:
    """The image of every row; a row that repeats another one of its split is left out.

    A row's file is looked for in the folder `owns[row.split]`, else in all of `others`, all below `root`; it may hold
    folders. All rows without an image, with several, or that contradict each other are listed in one SightlineError.
    """
    taken: dict[tuple[str, str], Row] = {}
    chosen: list[tuple[File, Row]] = []
    faults: list[str] = []
    for row in table.rows:
        hits = find_file(root, [owns[row.split]], row.file, lists) or find_file(root, others, row.file, lists)
        if len(hits) != 1:
            several = f" is ambiguous: {hits[0].name!r} and {hits[1].name!r}" if hits else ": no such image"
            faults.append(f"line {row.line}: {row.file!r}{several}")
            continue
        earlier = taken.setdefault((os.path.normpath(os.path.join(root, hits[0].name)), row.split), row)
        if earlier is row:
            chosen.append((hits[0], row))
        elif earlier.label != row.label:
            faults.append(f"lines {earlier.line} and {row.line}: {row.file!r} is {earlier.label!r} and {row.label!r}")
        elif earlier.group != row.group:
            groups = f"{earlier.group!r} and {row.group!r}"
            faults.append(f"lines {earlier.line} and {row.line}: {row.file!r} is of the groups {groups}")
    if faults:
        looked = ", ".join(sorted({repr(place or ".") for place in [*owns.values(), *others]})[:8])
        raise SightlineError(
            f"{len(faults):,} of {len(table.rows):,} rows cannot be matched with one image and one label",
            where=table.path,
            why=f"looked in {looked}\n{listing(faults, 100)}",
            cure="correct or remove these rows, or put the images there",
        )
    return chosen


def find_file(root: str, places: list[str], name: str, lists: dict[str, Listed]) -> list[File]:
    """The images called `name`, with its ending or without, in `places`; each folder is kept in `lists`."""
    hits: dict[str, File] = {}
    for place in places:
        for written in (name, name.replace("\\", "/")):
            path = os.path.normpath(os.path.join(place, written)).replace(os.sep, "/")
            folder = path.rpartition("/")[0]
            if folder not in lists:
                exists = "\0" not in folder and os.path.isdir(os.path.join(root, folder))
                lists[folder] = Listed(shelf(root, folder, Counter()).images if exists else ())
            hits.update({file.name: file for file in lists[folder].named(path)})
    return list(hits.values())
