"""Cache of decoded images and masks, and the command `sightline cache`.

An entry has the decoded images of one split. It is a folder with images.npy, masks.npy for image-mask pairs, and
meta.json. Its name is a SHA-256 of everything that the arrays depend on. It is built in a temporary folder and then
renamed, so it is either complete or absent. If two processes build the same entry, the later one is discarded. Labels
are not stored, so new labels do not require a new entry.
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
from safetensors import SafetensorError, safe_open

from ..config.paths import absolute
from ..config.schema import Data
from ..errors import ENVIRONMENT, SightlineError
from ..runs.atomic import TEMPORARY, disk_error, process_exists, rename_when_free, sha256, sync_folder, write_json
from .types import Source

ARRAYS = {1: ("images.npy",), 2: ("images.npy", "masks.npy")}
"""Array files of a cache entry, by the format number in its meta.json."""
DIGESTS = "digests.npy"
"""File in a cache entry with a hash of each image's pixels, to find identical images without reading them."""
COPIES = "copies-"
"""Prefix of files in the cache folder that list identical image files (sources/leakage.py)."""
BASELINES = "baseline-"
"""Prefix of files in the cache folder that have the score of a trivial baseline (tasks/whole_image/baselines.py)."""
FEATURES = "features-"
"""Prefix of folders in the cache folder that have features of images (tasks/whole_image/features.py)."""
LARGEST = "largest-"
"""Prefix of files in the cache folder that have the largest pixel value of a split (decode/survey.py)."""
LISTED = "shards-"
"""Prefix of folders in the cache folder that have the index of WebDataset shards (shards/webdataset_index.py)."""
_verified: set[Path] = set()  # entries whose checksum this process has compared

Arrays = list[np.ndarray]


class CacheEntry(NamedTuple):
    """A cache entry: the decoded images of a split, or features of images. source: path and split, or the network.
    nbytes: size of the arrays in bytes."""

    folder: Path
    source: str
    images: int
    nbytes: int


def cache_root(data: Data | None = None) -> Path:
    """The cache folder: `data.cache_dir`, else $SIGHTLINE_CACHE, else ~/.cache/sightline."""
    chosen = (data.cache_dir if data else "") or os.environ.get("SIGHTLINE_CACHE", "") or "~/.cache/sightline"
    return Path(absolute(chosen))


def key_of(content: list[Any]) -> str:
    """SHA-256 of a JSON value, 64 hex digits."""
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def files_key(source: Source, split: str) -> tuple[str, Any, Any]:
    """What identifies the files of a split in the name of its cache entry: (real path, names, stamps)."""
    root = os.path.realpath(source.path) if os.path.exists(source.path) else source.path
    return root, source.splits[split].names, source.splits[split].stamps


def cached_entry(
    folder: Path, fill: Callable[[Path], dict[str, Any]], announce: Callable[[str], None]
) -> tuple[Arrays, dict[str, Any]]:
    """Load a cache entry: (arrays, content of meta.json). It is built first if it is absent or its checksum differs.

    fill: function that writes the arrays into the folder that it is given, and returns the content of meta.json. Raises
    SightlineError (status ENVIRONMENT) if the cache folder cannot be written.
    """
    entry = load_entry(folder)
    if entry is not None and not checksum_matches(folder, entry):
        announce(f"decoding again: a cache entry does not match its checksum (check the disk): {folder}")
        entry = None
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise cache_error(folder, error) from error
    if entry is None:
        make_entry(folder, fill)
        entry = load_entry(folder)
    if entry is None:
        what, cure = "the cache entry was changed while it was in use", "run the command again"
        raise SightlineError(what, where=str(folder), cure=cure, status=ENVIRONMENT)
    return entry


def load_entry(folder: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """Load a cache entry: (arrays, content of meta.json). None if it is absent, truncated or of another format."""
    try:
        meta = read_meta(folder)
        arrays = [np.load(folder / name, mmap_mode="c", allow_pickle=False) for name in ARRAYS[meta["format"]]]
        shapes = [meta["shape"], [meta["shape"][0], *meta["shape"][2:]]]
        dtypes = [np.dtype(meta.get("dtype", "uint8")), np.dtype("uint8")]
        stored = [(list(array.shape), array.dtype) for array in arrays]
        complete = stored == [*zip(shapes, dtypes, strict=True)][: len(arrays)]
        return (arrays, meta) if complete else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_entry(folder: Path, fill: Callable[[Path], dict[str, Any]]) -> None:
    """Build a cache entry: call `fill` with a temporary folder, then rename that folder to `folder`."""
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
    """Rename a finished temporary folder to `folder`, the cache entry. If another process has completed the same
    entry meanwhile, that one is kept."""
    sync_folder(temporary)
    try:
        rename_when_free(temporary, folder)
    except OSError:
        if load_entry(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            rename_when_free(temporary, folder)
    sync_folder(folder.parent)


def new_temporary_folder(root: Path) -> Path:
    """Create an empty temporary folder in the cache. If this process is killed, `sweep` later removes it."""
    folder = root / f"{TEMPORARY}{os.getpid()}-{platform.node()}-{secrets.token_hex(4)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        folder.mkdir()
    except OSError as error:
        raise cache_error(folder, error) from error
    return folder


def cache_error(path: Path, error: OSError) -> SightlineError:
    """The SightlineError for a failed write in the cache, with a cure that names --data.cache_dir."""
    failed = disk_error(path, error)
    failed.where, failed.cure = str(path), "free some space, or choose another folder with --data.cache_dir"
    return failed


def sweep(root: Path) -> int:
    """Remove temporary folders whose process, on this machine, has ended; returns their number."""
    removed = 0
    for path in root.glob(f"{TEMPORARY}*"):
        owner, _, rest = path.name.removeprefix(TEMPORARY).partition("-")
        if owner.isdigit() and rest.rpartition("-")[0] == platform.node() and not process_exists(int(owner)):
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def cache_list(root: Path | None = None) -> list[CacheEntry]:
    """List the cache entries in `root` (default: `cache_root()`), including those of older formats and folders of
    features, largest first."""
    root = root or cache_root()
    entries = []
    for meta_path in root.glob("*/meta.json"):
        folder = meta_path.parent
        try:
            source = json.loads(meta_path.read_text(encoding="utf-8"))["source"]
            paths = [path for path in folder.glob("*.npy") if path.name != DIGESTS]
            arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in paths}
            count, nbytes = len(arrays["images"]), sum(array.nbytes for array in arrays.values())
        except (OSError, ValueError, KeyError, TypeError):
            continue
        entries.append(CacheEntry(folder, source, count, nbytes))
    entries += [found for folder in root.glob(f"{FEATURES}*") if (found := feature_entry(folder))]
    return sorted(entries, key=lambda entry: (-entry.nbytes, entry.folder))


def feature_entry(folder: Path) -> CacheEntry | None:
    """The entry of a folder of features; None if it has no readable file."""
    images, nbytes, source = 0, 0, ""
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, "np") as file:
                source = file.metadata()["source"]
                images += file.get_slice("features").get_shape()[0]
            nbytes += path.stat().st_size
        except (OSError, SafetensorError, KeyError, TypeError):
            continue
    return CacheEntry(folder, source, images, nbytes) if images else None


def cache_clear(root: Path | None = None) -> tuple[int, int]:
    """Remove all cache entries, lists of identical files, scores of baselines, indexes of shards and unused temporary
    folders; other files stay. Returns (number of entries, bytes freed)."""
    root = root or cache_root()
    sweep(root)
    entries = cache_list(root)
    for folder in [*(entry.folder for entry in entries), *root.glob(f"{LISTED}*")]:
        shutil.rmtree(folder, ignore_errors=True)
    for path in (path for prefix in (COPIES, BASELINES, LARGEST) for path in root.glob(f"{prefix}*.json")):
        path.unlink(missing_ok=True)
    return len(entries), sum(entry.nbytes for entry in entries)


def read_meta(folder: Path) -> dict[str, Any]:
    """Read meta.json of a cache entry. ValueError if `seal`, the checksum of its content, is missing or differs."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if meta.pop("seal", "") != seal_of(meta):
        raise ValueError("the checksum of meta.json differs")
    return meta


def seal_of(meta: dict[str, Any]) -> str:
    """SHA-256 of the content of meta.json in a cache entry, 64 hex digits."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def checksum_matches(folder: Path, entry: tuple[Arrays, dict[str, Any]]) -> bool:
    """Whether the arrays of a cache entry have the SHA-256 in its meta.json. Computed once per process, 0.07 s for
    100 MB. It also reads the arrays into the page cache before training needs them."""
    if folder in _verified:
        return True
    arrays, meta = entry
    checksum = hashlib.sha256()
    for array in arrays:
        checksum.update(array.data)
    good = checksum.hexdigest() == meta["sha256"]
    if "digests_sha256" in meta:
        good = good and (folder / DIGESTS).is_file() and sha256(folder / DIGESTS) == meta["digests_sha256"]
    if good:
        _verified.add(folder)
    return good


def cache(*, clear: bool = False, folder: str | os.PathLike[str] | None = None) -> str:
    """List the cached decoded images and features as text; with `clear`, remove them all instead. folder: the cache
    folder, as in `data.cache_dir`; None: the default."""
    root = None if folder is None else Path(folder)
    if root is not None and not root.is_dir():
        cure = "pass the cache folder, as set with --data.cache_dir: sightline cache --folder FOLDER"
        raise SightlineError("there is no such folder", where=str(root), cure=cure)
    if clear:
        count, size = cache_clear(root)
        return f"removed {count} entries, {size / 1e6:,.1f} MB"
    lines = [f"{e.nbytes / 1e6:10,.1f} MB  {e.images:>9,} images  {e.source}" for e in cache_list(root)]
    return "\n".join(lines) or "the cache is empty"
