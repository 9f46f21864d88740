"""Cache of decoded splits: one folder for each, named by a digest of everything that its arrays depend on.

An entry is a folder with images.npy, for pairs masks.npy, and meta.json. It is built under a temporary name and
renamed, so it is complete or absent; of two processes that build the same entry the slower one discards its own. Labels
are not part of an entry: changing labels decodes nothing.
"""

import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config.paths import absolute
from ..config.schema import Data
from ..errors import ENVIRONMENT, SightlineError
from ..runs.atomic import TEMPORARY, disk_error, process_exists, sha256, sync_folder, write_json
from .types import Source

ARRAYS = {1: ("images.npy",), 2: ("images.npy", "masks.npy")}
"""Files of an entry by its format."""
DIGESTS = "digests.npy"
"""File beside the images with a digest of each one's pixels, by which copies are found without reading the images."""
COPIES = "copies-"
"""Prefix of files beside the entries that list files with the same bytes (grouping.py)."""
LISTED = "shards-"
"""Prefix of folders beside the entries that list the samples of WebDataset shards (foreign.py)."""
_intact: set[Path] = set()  # entries whose checksum this process has compared

Arrays = list[np.ndarray]


class CacheEntry(NamedTuple):
    """One entry of the cache, as `sightline cache` lists it."""

    folder: Path
    source: str
    images: int
    nbytes: int


def cache_root(data: Data | None = None) -> Path:
    """The folder of the cache: `data.cache_dir`, else $SIGHTLINE_CACHE, else ~/.cache/sightline."""
    chosen = (data.cache_dir if data else "") or os.environ.get("SIGHTLINE_CACHE", "") or "~/.cache/sightline"
    return Path(absolute(chosen))


def key_of(content: list[Any]) -> str:
    """SHA-256 of a JSON value, 64 hex digits: the name of an entry or the digest of a split."""
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def files_key(source: Source, split: str) -> tuple[str, Any, Any]:
    """(path without links, names, stamps): the files of a split as a part of the name of its entry."""
    root = os.path.realpath(source.path) if os.path.exists(source.path) else source.path
    return root, source.splits[split].names, source.splits[split].stamps


def cached_entry(
    folder: Path, fill: Callable[[Path], dict[str, Any]], announce: Callable[[str], None]
) -> tuple[Arrays, dict[str, Any]]:
    """(images and, of pairs, masks, meta) of an entry, which is made first where it is absent or damaged.

    fill: writes the arrays into the folder that it is given, and returns the content of meta.json.
    """
    entry = opened(folder)
    if entry is not None and not intact(folder, entry):
        announce(f"decoding again: what is in the cache does not match its checksum (check the disk): {folder}")
        entry = None
        shutil.rmtree(folder, ignore_errors=True)
        if opened(folder) is not None:
            raise damaged(folder)
    if entry is None:
        make_entry(folder, fill)
        entry = opened(folder)
    if entry is None:
        what, cure = "the cache was changed while it was in use", "run the command again"
        raise SightlineError(what, where=str(folder), cure=cure, status=ENVIRONMENT)
    return entry


def opened(folder: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """(arrays, meta) of a complete entry, else None: absent, of another format, or truncated."""
    try:
        meta = read_meta(folder)
        arrays = [np.load(folder / name, mmap_mode="c", allow_pickle=False) for name in ARRAYS[meta["format"]]]
        shapes = [meta["shape"], [meta["shape"][0], *meta["shape"][2:]]]
        complete = all(list(a.shape) == shape and a.dtype == np.uint8 for a, shape in zip(arrays, shapes, strict=False))
        return (arrays, meta) if complete else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_entry(folder: Path, fill: Callable[[Path], dict[str, Any]]) -> None:
    """Fill a temporary folder and rename it to `folder`."""
    temporary = new_temporary_folder(folder.parent)
    try:
        meta = fill(temporary)
        if (temporary / DIGESTS).is_file():
            meta["digests_sha256"] = sha256(temporary / DIGESTS)
        write_json(temporary / "meta.json", meta | {"seal": seal_of(meta)})
        publish(temporary, folder)
    except OSError as error:
        raise cache_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(temporary: Path, folder: Path) -> None:
    """Rename a finished entry. An entry that another process has made meanwhile stays, unless it is damaged."""
    sync_folder(temporary)
    try:
        os.rename(temporary, folder)
    except OSError:
        if opened(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(temporary, folder)
    sync_folder(folder.parent)


def new_temporary_folder(root: Path) -> Path:
    """An empty folder in the cache; if this process is killed, `sweep` in a later one removes it."""
    folder = root / f"{TEMPORARY}{os.getpid()}-{platform.node()}-{secrets.token_hex(4)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        folder.mkdir()
    except OSError as error:
        raise cache_error(folder, error) from error
    return folder


def cache_error(path: Path, error: OSError) -> SightlineError:
    """The error for a write into the cache that failed."""
    failed = disk_error(path, error)
    cure = "free some space, or choose another folder with --data.cache_dir"
    return SightlineError(failed.what, where=str(path), why=failed.why, cure=cure, status=ENVIRONMENT)


def sweep(root: Path) -> int:
    """Remove temporary folders of killed processes of this machine; returns how many."""
    removed = 0
    for path in root.glob(f"{TEMPORARY}*"):
        owner, _, rest = path.name.removeprefix(TEMPORARY).partition("-")
        if owner.isdigit() and rest.rpartition("-")[0] == platform.node() and not process_exists(int(owner)):
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def cache_list(root: Path | None = None) -> list[CacheEntry]:
    """All entries of the cache at `root` (default `cache_root()`), those of older formats too, largest first."""
    root = root or cache_root()
    found = []
    for meta_path in root.glob("*/meta.json"):
        folder = meta_path.parent
        try:
            source = json.loads(meta_path.read_text(encoding="utf-8"))["source"]
            paths = [path for path in folder.glob("*.npy") if path.name != DIGESTS]
            arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in paths}
            count, nbytes = len(arrays["images"]), sum(array.nbytes for array in arrays.values())
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append(CacheEntry(folder, source, count, nbytes))
    return sorted(found, key=lambda entry: (-entry.nbytes, entry.folder))


def cache_clear(root: Path | None = None) -> tuple[int, int]:
    """Remove all entries, lists and temporary folders; returns (entries, bytes freed). Other files stay."""
    root = root or cache_root()
    sweep(root)
    found = cache_list(root)
    for folder in [*(entry.folder for entry in found), *root.glob(f"{LISTED}*")]:
        shutil.rmtree(folder, ignore_errors=True)
    for path in root.glob(f"{COPIES}*.json"):
        path.unlink(missing_ok=True)
    return len(found), sum(entry.nbytes for entry in found)


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of an entry; ValueError where a bit has flipped, or an earlier version wrote no seal."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if meta.pop("seal", "") != seal_of(meta):
        raise ValueError("its seal is broken")
    return meta


def seal_of(meta: dict[str, Any]) -> str:
    """SHA-256 of the content of meta.json."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def intact(folder: Path, entry: tuple[Arrays, dict[str, Any]]) -> bool:
    """Whether the arrays of an entry have the checksum with which they were written; compared once in a process.

    SHA-256 takes 0.07 s for 100 MB, and the pages that it reads are those that training needs next.
    """
    if folder in _intact:
        return True
    arrays, meta = entry
    checksum = hashlib.sha256()
    for array in arrays:
        checksum.update(array.data)
    good = checksum.hexdigest() == meta["sha256"]
    if "digests_sha256" in meta:
        good = good and (folder / DIGESTS).is_file() and sha256(folder / DIGESTS) == meta["digests_sha256"]
    if good:
        _intact.add(folder)
    return good


def damaged(folder: Path) -> SightlineError:
    """The error for a damaged entry that cannot be replaced."""
    return SightlineError(
        "an entry of the cache is damaged",
        where=str(folder),
        why="its checksum is not the one that was written",
        cure="remove that folder, so that it is decoded again; and check the disk",
        status=ENVIRONMENT,
    )


def verify(folder: Path) -> None:
    """Compare the checksum of an entry; SightlineError where it is damaged."""
    _intact.discard(folder)
    entry = opened(folder)
    if entry is None or not intact(folder, entry):
        raise damaged(folder)
