"""Listing images below a folder: fast, in a fixed order, safe against links that loop, counting what is left out."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ...errors import ENVIRONMENT, SightlineError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
FORMATS_TEXT = "PNG, JPEG, WebP, BMP, TIFF and GIF"
CLASS_LIST = "classes.txt"
HIDDEN = {"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "@eadir", "$recycle.bin", "system volume information"}
"""Names in lower case that operating systems leave behind; all names that begin with a dot are hidden as well."""


class File(NamedTuple):
    """One image file. name: path relative to the root, with forward slashes. stamp: size and time of change. inode:
    device and number of the file itself, which links share; empty where that is not known."""

    name: str
    stamp: str
    inode: tuple[int, ...] = ()


class Shelf(NamedTuple):
    """What lies directly in one folder, sorted; hidden names are left out (and counted in a tally)."""

    folders: tuple[str, ...]
    images: tuple[File, ...]
    tables: tuple[str, ...]


def is_hidden(name: str) -> bool:
    """Whether a name is housekeeping of an operating system or editor, not data."""
    return name.startswith(".") or name.lower() in HIDDEN


def shelf(root: str, below: str = "", tally: Counter[str] | None = None) -> Shelf:
    """The folders, images and tables (.csv, .tsv) directly in `root`/`below`; the rest is counted in `tally`.

    Without a tally it is a look only: nothing is counted and there are no stamps, which spares a call for each file.
    """
    looking = tally is None
    tally = Counter() if tally is None else tally
    folders, images, tables = [], [], []
    for entry in entries(os.path.join(root, below) if below else root):
        name = f"{below}/{entry.name}" if below else entry.name
        if is_hidden(entry.name):
            tally["hidden"] += 1
        elif name == CLASS_LIST:
            continue
        elif is_folder(entry):
            folders.append(entry.name)
        elif file := image_file(name, entry, looking):
            images.append(file)
        elif entry.name.lower().endswith((".csv", ".tsv")):
            tables.append(entry.name)
        else:
            tally[os.path.splitext(entry.name)[1].lower() or "other"] += 1
    return Shelf(tuple(sorted(folders)), tuple(sorted(images)), tuple(sorted(tables)))


def images_below(root: str, below: str, tally: Counter[str], visited: set[tuple[int, int]] | None = None) -> list[File]:
    """All images in `root`/`below` and its subfolders, sorted by name; `tally` and `visited` as in `walk`."""
    return sorted(walk(root, below, tally, visited))


def walk(root: str, below: str, tally: Counter[str], visited: set[tuple[int, int]] | None = None) -> Iterator[File]:
    """The images in `root`/`below`, a folder's own ones sorted, then those of its subfolders; one folder is in memory.

    A folder reached a second time through a link is not entered again (`tally["repeated link"]`); `visited` carries
    the folders seen by earlier calls that make up the same split.
    """
    visited = set() if visited is None else visited
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        status = os.stat(os.path.join(root, folder) if folder else root)
        if (status.st_dev, status.st_ino) in visited and status.st_ino:
            tally["repeated link"] += 1
            continue
        visited.add((status.st_dev, status.st_ino))
        here = shelf(root, folder, tally)
        yield from here.images
        tally.update(os.path.splitext(table)[1].lower() for table in here.tables)
        waiting.extend(f"{folder}/{name}" if folder else name for name in reversed(here.folders))


def holds_images(root: str, below: str) -> bool:
    """Whether there is an image in `root`/`below` or its subfolders; the search ends with the first."""
    visited: set[str] = set()
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(os.path.join(root, folder))
        if real in visited:
            continue
        visited.add(real)
        here = shelf(root, folder)
        if here.images:
            return True
        waiting.extend(f"{folder}/{name}" for name in here.folders)
    return False


def entries(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder; SightlineError (status ENVIRONMENT) where it may not be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise SightlineError(
            "cannot read a folder",
            where=folder,
            why=error.strerror or str(error),
            cure="allow reading it (chmod u+rx FOLDER), or move it out of the data",
            status=ENVIRONMENT,
        ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that loops is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def image_file(name: str, entry: os.DirEntry[str], looking: bool) -> File | None:
    """A file that is called like an image, with stamp and inode unless `looking`; None for pipes, sockets and devices,
    which are never opened.

    A broken link counts as a file, so that decoding names it instead of the image going missing silently.
    """
    if not entry.name.lower().endswith(EXTENSIONS):
        return None
    if looking:
        return File(name, "not asked")
    try:
        if not entry.is_file():
            broken = entry.is_symlink() and not os.path.exists(entry.path)
            return File(name, "broken link") if broken else None
        status = entry.stat()
    except OSError as error:
        return File(name, f"unreadable: {error.strerror}")
    inode = (status.st_dev, status.st_ino) if status.st_ino else ()
    return File(name, f"{status.st_size}:{status.st_mtime_ns}", inode)


def left_out(tally: Counter[str]) -> str:
    """`3 hidden, 2 .txt files`: what was seen and not used, most frequent first; empty if nothing."""
    counts = [f"{count:,} {kind}{plural(kind, count)}" for kind, count in tally.most_common()]
    return ", ".join(counts)


def plural(kind: str, count: int) -> str:
    """The word that follows a kind of the tally."""
    if kind == "repeated link":
        return "s" if count > 1 else ""
    return " files" if count > 1 else " file"
