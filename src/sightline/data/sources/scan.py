"""List image files in sorted order, and count the files that are skipped. Loops of links are detected."""

import os
import posixpath
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...errors import ENVIRONMENT, SightlineError, counted

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
EXTENSIONS += (".avif", ".heic", ".heif", ".hif")
FORMATS_TEXT = "PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF and HEIC"
CLASS_LIST = "classes.txt"
Label = str | tuple[str, ...]
"""The class name of an image, or the names of its label set."""
HIDDEN = {"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "@eadir", "$recycle.bin", "system volume information"}
"""Lower-case names of files that operating systems create; names that start with a dot are hidden as well."""


class File(NamedTuple):
    """An image file. name: path relative to the root, with forward slashes. stamp: size and modification time. inode:
    (device, inode number), equal for all links to one file; empty if unknown."""

    name: str
    stamp: str
    inode: tuple[int, ...] = ()


class DirectoryListing(NamedTuple):
    """The content directly in a folder, sorted, without hidden files. folders, tables: names, without paths."""

    folders: tuple[str, ...]
    images: tuple[File, ...]
    tables: tuple[str, ...]


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split, with the label or label set of each (None instead of the list: unlabeled) and the group
    of each (None: no groups)."""

    files: list[File]
    labels: Sequence[Label] | None
    groups: list[str] | None = None


@dataclass(frozen=True)
class Layout:
    """A recognized data layout.

    parts: the files of each split by name; `all` for data that are not split. notes: sentences that are printed.
    classes: class names in the order of a table, else empty. by_folder: whether folder names are the labels. tally:
    number of skipped files by kind. content: function from the name of an image to its bytes, if images are not files.
    """

    name: str
    parts: dict[str, SplitFiles]
    notes: tuple[str, ...]
    classes: tuple[str, ...] = ()
    by_folder: bool = False
    tally: Counter[str] = field(default_factory=Counter)
    content: Callable[[str], bytes] | None = None


def is_hidden(name: str) -> bool:
    """Whether a file name starts with a dot or is in HIDDEN."""
    return name.startswith(".") or name.lower() in HIDDEN


def list_folder(root: str, below: str = "", tally: Counter[str] | None = None) -> DirectoryListing:
    """List the folders, images and tables (.csv, .tsv) directly in `root`/`below`. tally: counts of all other files
    by kind are added to it. Without it, the stamps of the images are empty, which saves one system call per file."""
    stamps, tally = tally is not None, Counter() if tally is None else tally
    folders, images, tables = [], [], []
    for entry in entries(os.path.join(root, below) if below else root):
        name = posixpath.join(below, entry.name)
        if is_hidden(entry.name):
            tally["hidden"] += 1
        elif name == CLASS_LIST:
            continue
        elif os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            folders.append(entry.name)
        elif file := image_file(name, entry, stamps):
            images.append(file)
        elif entry.name.lower().endswith((".csv", ".tsv")):
            tables.append(entry.name)
        else:
            tally[os.path.splitext(entry.name)[1].lower() or "other"] += 1
    return DirectoryListing(tuple(sorted(folders)), tuple(sorted(images)), tuple(sorted(tables)))


def images_below(root: str, below: str, tally: Counter[str], visited: set[tuple[int, int]] | None = None) -> list[File]:
    """List all images in `root`/`below` and its subfolders, sorted by name. tally: counts of skipped files are added
    to it. visited: (device, inode) of folders that are not to be listed again; extended."""
    return sorted(walk(root, below, tally, visited))


def holds_images(root: str, below: str) -> bool:
    """Whether `root`/`below` or a subfolder contains an image."""
    for entry in entries(os.path.join(root, below)):
        if not is_hidden(entry.name) and entry.name.lower().endswith(EXTENSIONS) and not entry.is_dir():
            return True
    return next(walk(root, below, None), None) is not None


def walk(
    root: str, below: str, tally: Counter[str] | None, visited: set[tuple[int, int]] | None = None
) -> Iterator[File]:
    """Yield the images in `root`/`below`: those directly in a folder, sorted, then those in its subfolders.

    A folder that a link leads to a second time is skipped. visited: (device, inode) of the folders so far; pass the
    same set to several calls to share it. tally: the numbers of skipped files and repeated links, by kind, are added to
    it.
    """
    visited = set() if visited is None else visited
    pending = [below]
    while pending:
        folder = pending.pop()
        status = os.stat(os.path.join(root, folder))
        identity = (status.st_dev, status.st_ino)
        if identity in visited and status.st_ino:
            if tally is not None:
                tally["repeated link"] += 1
            continue
        visited.add(identity)
        here = list_folder(root, folder, tally)
        yield from here.images
        if tally is not None:
            tally.update(os.path.splitext(table)[1].lower() for table in here.tables)
        pending.extend(posixpath.join(folder, name) for name in reversed(here.folders))


def entries(folder: str) -> list[os.DirEntry[str]]:
    """List the entries of a folder; raises SightlineError (status ENVIRONMENT) if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        why, cure = (
            error.strerror or str(error),
            "make the folder readable (chmod u+rx FOLDER), or move it out of the data",
        )
        raise SightlineError("cannot read a folder", where=folder, why=why, cure=cure, status=ENVIRONMENT) from error


def image_file(name: str, entry: os.DirEntry[str], stamps: bool) -> File | None:
    """The `File` of a directory entry, if it has the extension of an image; else None, also for pipes, sockets and
    devices. A broken link is included, so that it is reported when it is decoded."""
    if not entry.name.lower().endswith(EXTENSIONS):
        return None
    if not stamps:
        return File(name, "")
    try:
        status = entry.stat()
    except OSError as error:
        return File(name, f"unreadable: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return None
    inode = (status.st_dev, status.st_ino) if status.st_ino else ()
    return File(name, f"{status.st_size}:{status.st_mtime_ns}", inode)


def without_links(files: Sequence[File], labels: Sequence[object]) -> tuple[list[int], list[tuple[str, str]]]:
    """Find files that are links to the same file with the same label. Returns (indices of the files to keep,
    (dropped name, kept name) of all others). A file with two labels is kept twice; `sightline doctor` reports it."""
    first: dict[tuple[object, ...], str] = {}
    kept: list[int] = []
    dropped: list[tuple[str, str]] = []
    for index, (file, label) in enumerate(zip(files, labels, strict=True)):
        known = first.setdefault((file.inode, label), file.name) if file.inode else file.name
        if known == file.name:
            kept.append(index)
        else:
            dropped.append((file.name, known))
    return kept, dropped


def links_note(dropped: list[tuple[str, str]]) -> list[str]:
    """A list of one sentence on the links that `without_links` dropped; an empty list if there are none."""
    if not dropped:
        return []
    (name, kept), more = dropped[0], ", ..." * (len(dropped) > 1)
    return [f"{counted(len(dropped), 'further link')} to the same image left out: {name} is {kept}{more}"]


def left_out(tally: Counter[str]) -> str:
    """Describe skipped files by kind, most frequent first: `3 hidden files, 2 .txt files`; '' if there are none."""
    kinds = ((kind if kind == "repeated link" else f"{kind} file", count) for kind, count in tally.most_common())
    return ", ".join(counted(count, kind) for kind, count in kinds)
