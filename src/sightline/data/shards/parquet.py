"""Data in Parquet files with the bytes of the images, as the library `datasets` of Hugging Face writes them.

Columns of images and masks are structs of `bytes` and `path`, or bytes. The metadata key `huggingface` of the schema
has the names of the classes. Row groups are read when an image of them is needed, and the last ones are kept.
"""

import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import SightlineError, counted, listing, some_of
from ..sources.label_sets import labels_of_cells
from ..sources.scan import EXTENSIONS, File, Label, Layout, SplitFiles
from ..sources.splits import ALL, split_names, split_of
from ..sources.tables import label_columns, normalized

IMAGE_COLUMNS = ("image", "img", "picture", "photo", "pixelvalues")
MASK_COLUMNS = ("mask", "annotation", "label", "segmentation", "segmentationmask", "semanticsegmentation", "labelmap")
MASK_COLUMNS += ("masks", "annotations", "labels", "seg", "gt", "groundtruth")
NUMBER = re.compile(r"[-_.]?(?P<part>\d+)(-of-(?P<parts>\d+)(-[0-9a-f]+)?)?$")
"""End of the name of one of several files, such as `train-00000-of-00002`, on the hub sometimes with a hash."""
KEPT_BYTES = 256 << 20
"""Undecoded images that are kept in memory, beyond one row group."""


def parquet_files(data: Data) -> tuple[str, list[str]]:
    """(folder, Parquet files in it) of `data.path`; no files if the data are something else.

    The path is a Parquet file, or a folder that has such files directly, in `data/`, or in a folder for each split, and
    has no images.
    """
    path = absolute(data.path)
    if data.layout not in ("auto", "parquet") or not os.path.exists(path):
        return path, []
    if not os.path.isdir(path):
        return os.path.dirname(path), [os.path.basename(path)] * path.lower().endswith(".parquet")
    inside = os.listdir(path)
    if any(name.lower().endswith(EXTENSIONS) for name in inside):
        return path, []
    folders = ["", *(name for name in inside if name == "data" or split_of(name))]
    folders = [folder for folder in folders if os.path.isdir(os.path.join(path, folder))]
    names = [os.path.join(folder, name) for folder in folders for name in os.listdir(os.path.join(path, folder))]
    return path, sorted(n for n in names if n.lower().endswith(".parquet") and not os.path.basename(n).startswith("."))


class ParquetImages:
    """The undecoded images of Parquet files. rows: {name of an image: (path of its file, its row)}. Thread-safe."""

    def __init__(self, column: str, rows: dict[str, tuple[str, int]]):
        self.column, self.rows, self.lock = column, rows, threading.Lock()
        self.starts: dict[str, np.ndarray] = {}
        self.groups: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def content(self, name: str) -> bytes:
        """The bytes of an image file; raises SightlineError if there are none, or the Parquet file is damaged."""
        path, row = self.rows[name]
        with self.lock, readable(path):
            value = self.cell(path, row).as_py()
        content = value["bytes"] if isinstance(value, dict) else value
        if not content:
            cure = "write the file again with the images in it: dataset.to_parquet(...) of the library `datasets`"
            raise SightlineError("the cell has no bytes of an image", where=f"{path}, row {row}", cure=cure)
        return content

    def cell(self, path: str, row: int) -> Any:
        """The cell of the image column in a row, from its row group, which is kept."""
        import pyarrow.parquet

        if path not in self.starts:
            groups = pyarrow.parquet.read_metadata(path)
            counts = [groups.row_group(index).num_rows for index in range(groups.num_row_groups)]
            self.starts[path] = np.cumsum([0, *counts])
        number = int(np.searchsorted(self.starts[path], row, side="right")) - 1
        if (path, number) not in self.groups:
            file = pyarrow.parquet.ParquetFile(path)
            self.groups[path, number] = file.read_row_group(number, columns=[self.column]).column(0)
            while len(self.groups) > 1 and sum(cells.nbytes for cells in self.groups.values()) > KEPT_BYTES:
                self.groups.popitem(last=False)
        self.groups.move_to_end((path, number))
        return self.groups[path, number][row - int(self.starts[path][number])]


class ParquetRows(NamedTuple):
    """Parquet files and their rows. paths, images: the files and the rows of each split. rows: as of `ParquetImages`.
    schema: of the first file; features: its description of each column; stored: columns with bytes, such as images.
    found: the number of files for the user, and those that are not used."""

    paths: dict[str, list[str]]
    images: dict[str, list[File]]
    rows: dict[str, tuple[str, int]]
    schema: Any
    features: dict[str, Any]
    stored: list[str]
    found: str


def splits_of(root: str, files: list[str]) -> dict[str, str]:
    """The split of each Parquet file that is used, by its name or that of its folder; all files are ALL if none has
    one. `train` has priority over `train_small`. Raises SightlineError if only some files have a split, or several
    names are left for a split."""
    stems = {file: NUMBER.sub("", os.path.splitext(os.path.basename(file))[0]) for file in files}
    names = {file: stem if split_of(stem) else os.path.dirname(file) for file, stem in stems.items()}
    splits = {name: split_of(name) for name in names.values()}
    if not any(splits.values()):
        return dict.fromkeys(files, ALL)
    if others := [file for file, name in names.items() if not splits[name]]:
        what = f"some Parquet files have no split in their names: {some_of(others)}"
        raise SightlineError(what, where=root, cure="name them like train-00000-of-00002.parquet, or move them away")
    chosen = {name: split for split, name in split_names(splits, root).items()}
    return {file: chosen[name] for file, name in names.items() if name in chosen}


def missing_parts(root: str, files: Iterable[str]) -> list[str]:
    """Notes about missing files: parts of a split whose names say that there are more.

    Raises SightlineError if files whose names differ only in their numbers cannot be parts of one split: only some have
    a number (`train.parquet` beside `train_50.parquet`), they are from different exports, or a part is there twice.
    """
    groups: dict[str, dict[str, tuple[str, tuple[str, str]]]] = {}
    for file in files:
        folder, base = os.path.split(os.path.splitext(file)[0])
        end = NUMBER.search(base)
        name = base[: end.start()] if end else base
        part, parts = (end["part"], end["parts"] or "any") if end else ("", "one")
        groups.setdefault(name if split_of(name) else f"{folder}/{name}", {})[file] = part, (folder, parts)
    notes = []
    for name, group in groups.items():
        exports = {export for _, export in group.values()}
        if len(exports) > 1 or len({part for part, _ in group.values()}) < len(group):
            what = f"these Parquet files may be parts of one split or several versions of it: {some_of(list(group))}"
            cure = "move all but one version away, and name its parts like train-00000-of-00002.parquet"
            raise SightlineError(what, where=root, cure=cure)
        ((_, parts),) = exports
        if parts.isdigit() and len(group) < int(parts):
            notes.append(f"only {len(group)} of {int(parts)} files of {name.rstrip('/')!r} are there")
    return notes


def list_rows(root: str, files: list[str]) -> ParquetRows:
    """List the rows of Parquet files. The split of a file is in its name or in that of its folder:
    `data/train-00000-of-00002.parquet`, `train/0000.parquet`."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        cure = "pip install 'sightline-vision[parquet]'"
        raise SightlineError("reading Parquet needs the package pyarrow", where=root, cure=cure) from error
    splits = splits_of(root, files)
    where, rows = os.path.join(root, next(iter(splits))), dict[str, tuple[str, int]]()
    with readable(where):
        schema = pyarrow.parquet.read_schema(where)
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    paths: dict[str, list[str]] = {split: [] for split in splits.values()}
    images: dict[str, list[File]] = {split: [] for split in splits.values()}
    for file, split in splits.items():
        path = os.path.join(root, file)
        with readable(path):
            count, status = pyarrow.parquet.read_metadata(path).num_rows, os.stat(path)
        own = [f"{os.path.splitext(file)[0]}/{row:06d}" for row in range(count)]
        rows |= {name: (path, row) for row, name in enumerate(own)}
        paths[split].append(path)
        images[split] += [File(name, f"in{status.st_size}:{status.st_mtime_ns}") for name in own]
    stored = [field.name for field in schema if str(field.type).startswith(("binary", "large_binary", "struct<bytes:"))]
    found, unused = f"found {counted(len(splits), 'Parquet file')}", [file for file in files if file not in splits]
    about = [f"not used: {some_of(unused)}"] * bool(unused) + missing_parts(root, list(splits))
    found += f" ({'; '.join(about)})" if about else ""
    return ParquetRows(paths, images, rows, schema, described.get("info", {}).get("features", {}), stored, found)


def list_parquet(root: str, files: list[str], data: Data) -> Layout:
    """List the images of Parquet files, with their labels."""
    import pyarrow.parquet

    listed = list_rows(root, files)
    where = next(iter(listed.paths.values()))[0]
    image, label = columns_of(listed, data, where)
    names = class_names(listed.features.get(label))
    masks = [f"masks for segmentation in {name!r}" for name in mask_columns(listed, data)]
    about = f"labels in {label!r}" if label else "; ".join(["no labels", *masks])
    parts, notes = {}, [f"{listed.found} with images in {image!r}, {about}"]
    for split, paths in listed.paths.items():
        cells: list[Any] = []
        for path in paths if label else ():
            with readable(path):
                cells += pyarrow.parquet.read_table(path, columns=[label])[label].to_pylist()
        labeled = any(cell not in (None, -1) for cell in cells)  # `datasets` writes -1 for an unlabeled test split
        labels, more = labels_of(cells, names, label, where, data) if labeled else (None, ())
        notes += [note for note in more if note not in notes]
        parts[split] = SplitFiles(listed.images[split], labels)
    return Layout("parquet", parts, tuple(notes), tuple(names), content=ParquetImages(image, listed.rows).content)


class MaskedRows(NamedTuple):
    """Rows with an image and a mask. images: by split. content, masks: functions from the name of an image to the bytes
    of its file, and of the file of its mask. column: of the masks. note: for the user."""

    images: dict[str, list[File]]
    content: Callable[[str], bytes]
    masks: Callable[[str], bytes]
    column: str
    note: str


def list_masked(root: str, files: list[str], data: Data) -> MaskedRows:
    """List the images of Parquet files that have masks. Raises SightlineError if it is unclear in which columns."""
    listed = list_rows(root, files)
    masks = mask_columns(listed, data)
    others = [name for name in listed.stored if name not in masks]
    images = [name for name in others if normalized([name])[0] in IMAGE_COLUMNS] or others
    if len(masks) != 1 or len(images) != 1:
        what = "it is unclear which columns have images and masks" if masks else "there are no masks in these files"
        why = f"its columns are {some_of([f'{field.name} ({field.type})' for field in listed.schema])}"
        cure = "call the column with the files of the images `image` and that of the masks `mask`, or name the latter: "
        cure += "--data.label_column NAME; for classes of images, use a recipe of a classifier: sightline recipes"
        raise SightlineError(what, where=next(iter(listed.paths.values()))[0], why=why, cure=cure)
    content, drawn = (ParquetImages(column, listed.rows).content for column in (images[0], masks[0]))
    note = f"{listed.found} with images in {images[0]!r}, masks in {masks[0]!r}"
    return MaskedRows(listed.images, content, drawn, masks[0], note)


def holds_masks(root: str, files: list[str], data: Data) -> bool:
    """Whether Parquet files have masks, and no labels of whole images."""
    listed = list_rows(root, files)
    known = [name for name in listed.schema.names if normalized([name])[0] in label_columns(data)]
    return bool(mask_columns(listed, data)) and {*known} <= {*listed.stored}


def mask_columns(listed: ParquetRows, data: Data) -> list[str]:
    """The columns of mask files: that of `data.label_column`, or those with a usual name."""
    known = normalized([data.label_column]) if data.label_column else MASK_COLUMNS
    return [name for name in listed.stored if normalized([name])[0] in known]


def columns_of(listed: ParquetRows, data: Data, where: str) -> tuple[str, str]:
    """(the column of images, the column of labels or ""). The images are in the only column with bytes, or the one that
    is called `image`; the labels in `data.label_column`, in `label`, or in the only column with class names."""
    stored, schema = listed.stored, listed.schema
    images = [name for name in stored if normalized([name])[0] in IMAGE_COLUMNS] or stored
    classes = [name for name in schema.names if class_names(listed.features.get(name))]
    labels = [name for name in schema.names if normalized([name])[0] in label_columns(data)]
    labels = labels if labels or data.label_column else classes
    if len(images) == 1 and len(labels) == bool(labels or data.label_column) and not {*labels} & {*stored}:
        return images[0], "".join(labels)
    why = f"its columns are {some_of([f'{field.name} ({field.type})' for field in schema])}"
    cure = "call the column with the bytes of the images `image`, and name the column of classes: --data.label_column "
    cure += (classes or ["NAME"])[0]
    if masks := mask_columns(listed, data):
        cure += f"; if {masks[0]!r} has masks, use a recipe for segmentation: sightline recipes"
    raise SightlineError("it is unclear which columns have images and classes", where=where, why=why, cure=cure)


def class_names(feature: Any) -> list[str]:
    """The class names of a column (also of lists of classes) in the metadata of `datasets`; [] if it has none."""
    inner = feature.get("feature", feature) if isinstance(feature, dict) else (feature or [{}])[0]
    return list(inner.get("names") or ()) if inner.get("_type") == "ClassLabel" else []


def labels_of(
    cells: list[Any], names: list[str], column: str, where: str, data: Data
) -> tuple[list[Label], tuple[str, ...]]:
    """(label or label set of each image, notes). cells: class indices if there are `names`, else texts or numbers,
    which are read as those of a CSV file; or lists of these."""
    known = {None: "", -1: "", **dict(enumerate(names))} if names else {None: ""}
    texts = [[known.get(one, str(one)) for one in (cell if isinstance(cell, list) else [cell])] for cell in cells]
    if wrong := [text for some in texts for text in some if names and text and text not in names]:
        what = f"the column {column!r} has numbers without a class name: {some_of(wrong)}"
        raise SightlineError(what, where=where, cure=f"the file names {len(names):,} classes, from 0: write it again")
    if any(isinstance(cell, list) for cell in cells):
        return [tuple(filter(None, some)) for some in texts], (f"label sets in the column {column!r}",)
    rows = [(row, [str(row), some[0]]) for row, some in enumerate(texts)]
    settings = data.model_copy(update={"labels": "one"}) if names and data.labels == "auto" else data
    read = labels_of_cells(rows, {"filename": 0, "label": 1}, column, where, settings)
    if read.faults:
        cure = "remove these rows, or give them a label"
        raise SightlineError("images without a label", where=where, why="\n" + listing(read.faults), cure=cure)
    return [some if read.sets else some[0] for some in read.labels], read.notes


@contextmanager
def readable(path: str) -> Generator[None]:
    """Context manager: errors of pyarrow and of the file system become SightlineError."""
    try:
        yield
    except (OSError, ValueError) as error:
        cure = "copy or download the file again; if it is a Git LFS pointer: git lfs pull"
        why = str(error).partition("\n")[0] or type(error).__name__
        raise SightlineError("cannot read this Parquet file", where=path, why=why, cure=cure) from error
