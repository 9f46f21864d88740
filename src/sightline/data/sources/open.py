"""From `--data PATH` to a Source: the splits, their images and labels, and one list of classes for all of them."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import SightlineError, listing, some_of
from ..decode.images import open_image
from ..decode.masks import MaskFacts
from .found import Found, Part, links_note, without_links
from .labels import by_declared, check_distinct, fits, read_class_list, sorted_classes, to_indices
from .layouts import recognize
from .row_matching import from_tables
from .scan import CLASS_LIST, EXTENSIONS, left_out, shelf
from .splits import WHOLE
from .tables import holds_predictions

if TYPE_CHECKING:
    from ..shards.index import Shards

FOLDER_HINT = "did you point at the class folder itself? Give the folder that holds all class folders"


class Read(Protocol):
    """Image number `index` as RGB; safe in threads. With `side` > 0 it may come smaller, but not below twice that."""

    def __call__(self, index: int, side: int = 0) -> Image.Image: ...


class ReadMask(Protocol):
    """Mask number `index` as class indices uint8 [H, W], 255 where it is ignored; safe in threads; adds to `facts`."""

    def __call__(self, index: int, facts: MaskFacts | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Items:
    """One split. names: unique in the source, relative to its path. labels: int64 [N], or None where there are none.

    stamps change when a file changes, the image's or the mask's; those of files begin with its size and a colon.
    Without masks, read_mask and mask_names are None. shards: where the split lies in shards, to be streamed.
    groups: what each image belongs to, where a table says so; empty for none.
    """

    names: tuple[str, ...]
    labels: np.ndarray | None
    read: Read
    stamps: tuple[str, ...]
    read_mask: ReadMask | None = None
    mask_names: tuple[str, ...] | None = None
    shards: "Shards | None" = None
    groups: tuple[str, ...] | None = None

    def subset(self, places: np.ndarray) -> "Items":
        """The items at `places` int64 [M], in that order."""
        whole, masks, mask_names = self.read, self.read_mask, self.mask_names
        return Items(
            names=tuple(self.names[i] for i in places),
            labels=None if self.labels is None else self.labels[places],
            read=lambda index, side=0: whole(int(places[index]), side),
            stamps=tuple(self.stamps[i] for i in places),
            read_mask=None if masks is None else lambda index, facts=None: masks(int(places[index]), facts),
            mask_names=None if mask_names is None else tuple(mask_names[i] for i in places),
            groups=None if self.groups is None else tuple(self.groups[i] for i in places),
        )


@dataclass(frozen=True)
class Source:
    """A data set. splits: `train`, `val` (where labeled) and perhaps `test`; notes: sentences for the user.

    Opened without `hold_out`, the splits are as found, and `all` is the one split of data that come without.
    """

    path: str
    layout: str
    classes: tuple[str, ...]
    splits: dict[str, Items]
    notes: tuple[str, ...]


def open_source(data: Data, seed: int, hold_out: bool = True) -> Source:
    """Recognize what `data.path` is and list it; nothing is decoded. Files are only read where a share is held out, to
    keep copies on one side (grouping.py).

    hold_out: the data are to train on: there must be a training split and two classes, and where there is no
    validation split, `seed` chooses one. Without it (to evaluate) nothing is divided, and any split will do.
    Raises SightlineError for everything that would make labels or splits wrong.
    """
    from ..shards.index import is_sharded, open_shards  # it builds on this file

    prefix = data.path.partition(":")[0]
    if data.layout == "sklearn" or (data.layout == "auto" and prefix == "sklearn"):
        from ..builtin import open_digits  # scikit-learn takes a second to import

        return open_digits(data, seed, hold_out)
    if data.layout == "torchvision" or (data.layout == "auto" and prefix == "torchvision"):
        from .torchvision_sets import open_library  # torchvision takes seconds to import

        return open_library(data, seed, hold_out)
    if is_sharded(data):
        return open_shards(data, seed, hold_out)
    root, table = locate(data)
    if table:
        here = shelf(root)
        found = from_tables(root, {"": table}, here.folders, hold_out)
        others = [name for name in here.tables if name != table]
        beside = [name for name in others if not holds_predictions(os.path.join(root, name))]
        if beside:
            are = "is" if len(beside) == 1 else "are"
            note = f"{', '.join(beside[:4])} beside {table} {are} not used; give the folder to use all tables"
            found = replace(found, notes=(*found.notes, note))
    else:
        found = recognize(root, data, hold_out)
    return assemble(root, found, data, seed, hold_out)


def locate(data: Data) -> tuple[str, str]:
    """(folder, name of a table in it or empty) for `data.path`; SightlineError where there is nothing such."""
    if not data.path:
        raise SightlineError(
            "no data was given", where="data.path", cure="--data PATH: a folder of images or a CSV file"
        )
    path = absolute(data.path)
    if os.path.isdir(path):
        return path, ""
    parent, name = os.path.split(path)
    if not os.path.exists(path):
        close = nearest(parent, name)
        cure = f"did you mean {os.path.join(parent, close)!r}?" if close else "check the path"
        raise SightlineError("there is no such file or folder", where=path, cure=cure)
    ending = os.path.splitext(name)[1].lower()
    if ending in (".csv", ".tsv") and data.layout in ("auto", "csv"):
        return parent, name
    cures = {
        ".zip": f"unpack it first: unzip {name}",
        ".gz": f"unpack it first: tar xf {name}",
        ".tar": f"unpack it first: tar xf {name}",
    }
    default = (
        "give the folder that holds the images" if ending in EXTENSIONS else "give a folder of images or a CSV file"
    )
    raise SightlineError("this file is not a data set", where=path, cure=cures.get(ending, default))


def nearest(parent: str, name: str) -> str:
    """What lies in `parent` under a name like `name`, folders first if `name` has no ending; empty if nothing."""
    siblings = os.listdir(parent) if os.path.isdir(parent) else []
    close = difflib.get_close_matches(name, siblings, 8, 0.7)
    if not os.path.splitext(name)[1]:
        close.sort(key=lambda other: not os.path.isdir(os.path.join(parent, other)))
    return close[0] if close else ""


def assemble(root: str, found: Found, data: Data, seed: int, hold_out: bool = True) -> Source:
    """Labels to indices in one class list, checks across the splits, and a validation split where there is none."""
    notes = list(found.notes)
    parts, again = {}, []
    for split in (WHOLE, "train", "val", "test"):
        if split in found.parts:
            parts[split], links = without_links(found.parts[split])
            again += links
    notes += links_note(again)
    classes: tuple[str, ...] = ()
    if any(part.labels is not None for part in parts.values()):
        parts, classes = with_classes(root, found, parts, data, notes, hold_out)
    refuse_shared(root, parts)
    splits = {split: items_of(root, part, classes, data.max_pixels) for split, part in parts.items()}
    if found.tally:
        notes.append(f"left out: {left_out(found.tally)}")
    return finished(Source(root, found.layout, classes, splits, tuple(notes)), data, seed, hold_out)


def finished(source: Source, data: Data, seed: int, hold_out: bool = True) -> Source:
    """The source with a validation split and with a note of the counts. A test split is never used for validation.

    The split `all` becomes `train`, less what is held out. Without `hold_out` all splits stay as they are.
    """
    splits, notes = dict(source.splits), list(source.notes)
    if hold_out:
        from .leakage import torn_groups  # it builds on this file

        splits = {"train" if split == WHOLE else split: items for split, items in splits.items()}
        if splits["train"].labels is not None and "val" not in splits:
            splits = with_val(source.path, splits, data, seed, notes)
        notes += torn_groups(source.path, splits, data)
    counts = [f"all {len(i.names):,}" if s == WHOLE else f"{len(i.names):,} {s}" for s, i in splits.items()]
    classes = f" of {len(source.classes):,} class{'es' * (len(source.classes) > 1)}" if source.classes else ""
    notes.append(f"{' + '.join(counts)} images{classes}")
    for split, items in splits.items():
        absent = sorted(set(range(len(source.classes))) - set(() if items.labels is None else items.labels.tolist()))
        if absent and items.labels is not None:
            names = some_of([source.classes[i] for i in absent])
            place = "the set" if split == WHOLE else split
            notes.append(
                f"{place} has no image of {len(absent):,} of the classes ({names}); the others keep their indices"
            )
    return replace(source, splits=splits, notes=tuple(notes))


def not_divisible(path: str, train: Items, data: Data) -> SightlineError:
    """The error where no image can be held out: of groups it names them, for they are what stands in the way then."""
    from .leakage import groups_of

    what, groups = "no image can be held out for validation", groups_of(path, train, data)
    if groups is None:
        why = "every class has a single image, or copies of one"
        cure = "add images: each class needs at least two that may be divided"
        return SightlineError(what, where=path, why=why, cure=cure)
    known = sorted(set(groups))
    names = some_of([repr(name.removeprefix("\0")) for name in known])
    why = f"groups are kept whole, and each of the {len(known):,} ({names}) holds all of a class that may be divided"
    setting = f"data.group is {data.group!r}" if data.group else "they come from the column `group`"
    cure = f"{setting}: let it name smaller groups, several in each class, or leave it out"
    return SightlineError(what, where="data.group" if data.group else path, why=why, cure=cure)


def with_val(path: str, splits: dict[str, Items], data: Data, seed: int, notes: list[str]) -> dict[str, Items]:
    """The splits, with a share of `train`, which is labeled, held out as `val`."""
    from .leakage import held_together  # it builds on this file

    train = splits["train"]
    assert train.labels is not None
    mask, said = held_together(path, train, train.labels, data, seed)
    if not mask.any():
        raise not_divisible(path, train, data)
    kept, out = train.subset(np.flatnonzero(~mask)), train.subset(np.flatnonzero(mask))
    aside = "; test is kept aside" if "test" in splits else ""
    share = f"{data.val_fraction:.0%} of each class are"
    grouped = data.group or train.groups is not None
    share = f"whole groups, about {data.val_fraction:.0%}, are" if grouped else share
    notes.append(f"no validation split: {share} held out of train (seed {seed}){aside}")
    notes += said
    return {"train": kept, "val": out, **{split: items for split, items in splits.items() if split == "test"}}


def with_classes(
    root: str, found: Found, parts: dict[str, Part], data: Data, notes: list[str], hold_out: bool
) -> tuple[dict[str, Part], tuple[str, ...]]:
    """The parts with class names as labels, and the classes in index order: those of train where there is one."""
    in_train = to_learn(parts)
    declared, origin = declared_classes(root, data)
    if declared and origin != "data.classes" and found.by_folder and not fits(in_train, declared):
        notes.append(f"{origin} does not fit the folders' names and is not used")
        declared = ()
    if declared:
        parts = {
            split: replace(part, labels=None if part.labels is None else by_declared(part.labels, declared, origin))
            for split, part in parts.items()
        }
        in_train = to_learn(parts)
        notes.append(f"class order by {origin}")
    check_distinct(sorted({label for part in parts.values() for label in part.labels or ()}), root)
    if len(in_train) < 2 and hold_out:
        raise SightlineError(
            f"1 class found ({next(iter(in_train))!r}); a classifier needs 2",
            where=root,
            cure=FOLDER_HINT if found.by_folder else "check the labels, or choose with --data.layout",
        )
    for split, part in parts.items():
        unknown = sorted(set(part.labels or ()) - in_train)
        if unknown:
            raise SightlineError(
                f"the {split} split has {len(unknown):,} class{'es' if len(unknown) > 1 else ''} that train lacks",
                where=root,
                why="\n" + listing([repr(name) for name in unknown]),
                cure=f"add training images of these classes, or remove them from {split}; mind misspelled names",
            )
    ordered = declared or tuple(name for name in found.classes if name in in_train)
    return parts, ordered if set(ordered) >= in_train else sorted_classes(in_train)


def to_learn(parts: dict[str, Part]) -> set[str]:
    """The labels in the training split, or in all splits where there is none."""
    chosen = [parts["train"]] if "train" in parts else parts.values()
    return {label for part in chosen for label in part.labels or ()}


def declared_classes(root: str, data: Data) -> tuple[tuple[str, ...], str]:
    """(class names in index order, where they stand): `data.classes`, else classes.txt in the root, else nothing."""
    if data.classes:
        check_distinct(data.classes, "data.classes")
        return data.classes, "data.classes"
    path = os.path.join(root, CLASS_LIST)
    return (read_class_list(path), CLASS_LIST) if os.path.isfile(path) else ((), "")


def refuse_shared(root: str, parts: dict[str, Part]) -> None:
    """SightlineError if one file stands in two splits."""
    owner: dict[str, str] = {}
    shared = []
    for split, part in parts.items():
        for file in part.files:
            if owner.setdefault(file.name, split) != split:
                shared.append(f"{file.name!r}: {owner[file.name]} and {split}")
    if shared:
        raise SightlineError(
            f"{len(shared):,} image{'s are' if len(shared) > 1 else ' is'} in two splits",
            where=root,
            why="\n" + listing(shared),
            cure="remove them from one: a model must not be validated on what it was trained on",
        )


def items_of(root: str, part: Part, classes: Sequence[str], max_pixels: int) -> Items:
    """Items that read files below `root`."""
    names = tuple(file.name for file in part.files)
    return Items(
        names=names,
        labels=None if part.labels is None else to_indices(part.labels, classes),
        read=lambda index, side=0: open_image(os.path.join(root, names[index]), max_pixels, side),
        stamps=tuple(file.stamp for file in part.files),
        groups=None if part.groups is None else tuple(part.groups),
    )
