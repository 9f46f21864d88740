"""Decode once: every split as one memory-mapped uint8 array on disk, found again by what went into it.

An entry is a folder named by the SHA-256 of (path, names, stamps, side, versions): images.npy and meta.json.
It is built under a temporary name and renamed, so it is whole or not there; of two processes that build the same
entry at once the slower one throws its work away and uses the other's. Labels are no part of it: relabeling is free.
"""

import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import PIL

from ..config.paths import absolute
from ..config.schema import Data
from ..errors import ENVIRONMENT, SightlineError, listing, printable
from ..runs.atomic import TEMPORARY, disk_error, process_lives, sha256, sync_folder, write_json
from .decode.decoding import DIGEST_BYTES, DIGESTS, notes_of, write_images
from .decode.images import VERSION, Square
from .sources.open import Items, Source

if TYPE_CHECKING:
    from .shards.stream import Stream

Entered = TypeVar("Entered")
FORMAT = 1
COPIES = "copies-"
"""Beside the entries lie small files that say which files of a set have the same bytes (grouping.py)."""
_intact: set[Path] = set()  # entries whose checksum this process has compared
MOST_SKIPPED, FEW_SKIPPED = 0.01, 10
"""What data.on_bad_image = skip may leave out of a split: this share, or so many images where that is more."""


@dataclass(frozen=True)
class Decoded:
    """A decoded split.

    images: uint8 [N, 3, H, W], memory-mapped copy-on-write (the file never changes). labels: int64 [N] or None.
    digest: SHA-256 over pixels, names, labels and classes. nbytes: size of `images`. digests: of the pixels of each
    image, uint8 [N, 16]; None in entries of earlier versions. stream: where the training batches come from if not from
    `images`, which then are decoded wherever they are indexed.
    """

    images: np.ndarray
    labels: np.ndarray | None
    names: tuple[str, ...]
    classes: tuple[str, ...]
    digest: str
    nbytes: int
    digests: np.ndarray | None = None
    stream: "Stream | None" = None


class Entry(NamedTuple):
    """One entry of the cache, as `sightline cache` lists it."""

    folder: Path
    source: str
    images: int
    nbytes: int


def decode(source: Source, split: str, side: int, data: Data, announce: Callable[[str], None] = print) -> Decoded:
    """The split's images as one array, from the cache or decoded into it.

    Images are stored as side x side, or at their own size where all share one that is not larger than side x side.
    The array's checksum is taken while it is written and checked once in each process that uses it; a damaged entry is
    decoded again. Raises SightlineError listing all unreadable images, or for a full disk.
    """
    items = source.splits[split]
    folder = cache_root(data) / entry_key(source, split, side, data)

    def fill(place: Path) -> dict[str, Any]:
        meta = write_images(place / "images.npy", items, Square(side, data.fit, data.filter), announce)
        refuse_bad(meta["bad"], items, source, split, data)
        return {"format": FORMAT, "source": printable(f"{source.path} ({split})"), **meta}

    images, meta = entry_of(folder, opened, fill, announce)
    refuse_bad(meta["bad"], items, source, split, data)  # another run may have made it, and was allowed to skip some
    bad = {int(place): why for place, why in meta["bad"].items()}
    if bad:
        check_skipped(bad, items, source, announce)
    for note in notes_of(meta, split, items.names, side):
        announce(note)
    kept = np.setdiff1d(np.arange(len(items.names)), np.fromiter(bad, dtype=np.int64, count=len(bad)))
    items = items.subset(kept) if bad else items
    digest = content_digest(meta["sha256"], items, source.classes)
    digests = image_digests(folder, len(images))
    return Decoded(images, items.labels, items.names, source.classes, digest, images.nbytes, digests)


def image_digests(folder: Path, count: int) -> np.ndarray | None:
    """The digests of the images of an entry, uint8 [count, 16], where it has them."""
    try:
        digests = np.load(folder / DIGESTS, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return digests if digests.shape == (count, DIGEST_BYTES) and digests.dtype == np.uint8 else None


def subset(decoded: Decoded, rows: np.ndarray) -> Decoded:
    """The images of a split at `rows` int64 [M], in that order: a copy, unless that is all of them and no stream."""
    if decoded.stream is None and len(rows) == len(decoded.names) and (rows == np.arange(len(rows))).all():
        return decoded
    labels = None if decoded.labels is None else decoded.labels[rows]
    digest = hashlib.sha256(decoded.digest.encode() + np.ascontiguousarray(rows, np.int64).tobytes()).hexdigest()
    images, names = decoded.images[rows], tuple(decoded.names[row] for row in rows)
    digests = None if decoded.digests is None else decoded.digests[rows]
    return Decoded(images, labels, names, decoded.classes, digest, images.nbytes, digests)


def cache_root(data: Data | None = None) -> Path:
    """The folder of the cache: `data.cache_dir`, else $SIGHTLINE_CACHE, else ~/.cache/sightline."""
    chosen = (data.cache_dir if data else "") or os.environ.get("SIGHTLINE_CACHE", "") or "~/.cache/sightline"
    return Path(absolute(chosen))


def entry_key(source: Source, split: str, side: int, data: Data) -> str:
    """The name of an entry: 64 hex digits over all that its pixels depend on. The names tell the splits apart."""
    items = source.splits[split]
    root = os.path.realpath(source.path) if os.path.exists(source.path) else source.path
    versions = [FORMAT, VERSION, PIL.__version__]
    content = [versions, root, side, data.max_pixels, items.names, items.stamps]
    content += [] if Square(side, data.fit, data.filter).plain else [data.fit, data.filter]
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def content_digest(pixels: str, items: Items, classes: tuple[str, ...]) -> str:
    """SHA-256 over the pixels' own, the names, the labels and the classes."""
    labels = None if items.labels is None else items.labels.tolist()
    return hashlib.sha256(json.dumps([pixels, items.names, labels, classes]).encode("ascii")).hexdigest()


def opened(folder: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """(images, meta) of a whole entry, else None: absent, of another format, or cut short."""
    try:
        meta = read_meta(folder)
        images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
        whole = meta["format"] == FORMAT and list(images.shape) == meta["shape"] and images.dtype == np.uint8
        return (images, meta) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_skipped(bad: dict[int, str], items: Items, source: Source, announce: Callable[[str], None]) -> None:
    """Announce the images that are left out; SightlineError where they are too many."""
    lines = [bad[place] for place in sorted(bad)]
    reason = too_many(bad, items, source.classes)
    if reason:
        raise SightlineError(
            f"{len(bad):,} of {len(items.names):,} images cannot be read, too many to leave out",
            where=source.path,
            why=f"{reason}\n{listing(lines, 100)}",
            cure="mend or remove these files",
        )
    announce(f"{len(bad):,} of {len(items.names):,} images cannot be read and are left out:\n{listing(lines)}")


def too_many(bad: Collection[int], items: Items, classes: tuple[str, ...]) -> str:
    """Why the images at the places `bad` may not be left out, with the limits; empty if they may.

    The number makes skipping useful in small sets, and half of a class keeps it from emptying them.
    """
    count, places = len(items.names), sorted(bad)
    most = max(FEW_SKIPPED, int(count * MOST_SKIPPED))
    limits = f"left out are at most {MOST_SKIPPED:.0%} of a split, or {FEW_SKIPPED} images where that is more"
    limits += f" (here {most:,}), and at most half of a class"
    if len(places) > most:
        return limits
    labels = np.zeros(count, np.int64) if items.labels is None else items.labels
    lost = np.bincount(labels[places], minlength=labels.max() + 1)
    over = np.flatnonzero(2 * lost > np.bincount(labels))
    if not len(over):
        return ""
    named = ", ".join(classes[index] for index in over[:8]) if classes and items.labels is not None else "the split"
    return f"{limits}; too many are of {named}"


def entry_of(
    folder: Path,
    opened: Callable[[Path], Entered | None],
    fill: Callable[[Path], dict[str, Any]],
    announce: Callable[[str], None] = print,
) -> Entered:
    """What `opened` finds in an entry of the cache, made first where it is not there, whole or not at all.

    fill: writes the arrays into the folder that it is given, and returns what meta.json says of them. An entry of which
    a bit is not as it was written is made anew.
    """
    entry = opened(folder)
    if entry is not None and not intact(folder, entry):
        announce(f"decoding again: what is in the cache does not match its checksum (check the disk): {folder}")
        entry = None
        shutil.rmtree(folder, ignore_errors=True)
        if opened(folder) is not None:
            raise damaged(folder)
    if entry is None:
        make_entry(folder, opened, fill)
        entry = opened(folder)
    if entry is None:
        what, cure = "the cache was changed while it was in use", "run the command again"
        raise SightlineError(what, where=str(folder), cure=cure, status=ENVIRONMENT)
    return entry


def make_entry(folder: Path, opened: Callable[[Path], object | None], fill: Callable[[Path], dict[str, Any]]) -> None:
    """Fill a temporary folder and give it the name `folder`."""
    root = folder.parent
    temporary = temporary_folder(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        temporary.mkdir()
        meta = fill(temporary)
        if (temporary / DIGESTS).is_file():
            meta["digests_sha256"] = sha256(temporary / DIGESTS)
        write_json(temporary / "meta.json", meta | {"seal": seal_of(meta)})
        publish(temporary, folder, opened)
    except OSError as error:
        wrong = disk_error(folder, error)
        cure = "free some space, or choose another place with --data.cache_dir"
        raise SightlineError(wrong.what, where=str(folder), why=wrong.why, cure=cure, status=ENVIRONMENT) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_bad(bad: dict[str, str], items: Items, source: Source, split: str, data: Data) -> None:
    """SightlineError listing all unreadable images, unless they may be skipped."""
    if len(bad) == len(items.names) or (bad and data.on_bad_image == "stop"):
        refused = too_many([int(place) for place in bad], items, source.classes)
        skip = "" if refused else ", or leave them out with --data.on_bad_image skip"
        raise SightlineError(
            f"{len(bad):,} of {len(items.names):,} images of the {split} split cannot be read",
            where=source.path,
            why="\n" + listing(list(bad.values()), 100),
            cure=f"mend or remove these files{skip}",
        )


def temporary_folder(root: Path) -> Path:
    """A name for an entry that is being built, by which `sweep` knows whose it is."""
    return root / f"{TEMPORARY}{os.getpid()}-{platform.node()}-{secrets.token_hex(4)}"


def publish(temporary: Path, folder: Path, opened: Callable[[Path], object | None]) -> None:
    """Give a finished entry its name. Where another process was faster, its entry stays; a damaged one goes."""
    sync_folder(temporary)
    try:
        os.rename(temporary, folder)
    except OSError:
        if opened(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(temporary, folder)
    sync_folder(folder.parent)


def sweep(root: Path) -> int:
    """Remove what killed processes of this machine left unfinished; returns how many."""
    removed = 0
    for path in root.glob(f"{TEMPORARY}*"):
        owner, _, rest = path.name.removeprefix(TEMPORARY).partition("-")
        if owner.isdigit() and rest.rpartition("-")[0] == platform.node() and not process_lives(int(owner)):
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def cache_list(root: Path | None = None) -> list[Entry]:
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
        found.append(Entry(folder, source, count, nbytes))
    return sorted(found, key=lambda entry: (-entry.nbytes, entry.folder))


def cache_clear(root: Path | None = None) -> tuple[int, int]:
    """Remove all entries and unfinished ones; returns (entries, bytes freed). Other files in the folder stay."""
    root = root or cache_root()
    sweep(root)
    found = cache_list(root)
    for entry in found:
        shutil.rmtree(entry.folder, ignore_errors=True)
    for path in root.glob(f"{COPIES}*.json"):
        path.unlink(missing_ok=True)
    return len(found), sum(entry.nbytes for entry in found)


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of an entry; ValueError where a bit of it has flipped, or an earlier version wrote no seal."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if meta.pop("seal", "") != seal_of(meta):
        raise ValueError("its seal is broken")
    return meta


def seal_of(meta: dict[str, Any]) -> str:
    """SHA-256 of what meta.json says."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def intact(folder: Path, entry: Any) -> bool:
    """Whether the bytes of an entry (its arrays, then meta) are those that were written; read once in a process.

    SHA-256 takes 0.07 s for 100 MB, and the pages that it reads are those that training needs next.
    """
    if folder in _intact:
        return True
    *arrays, meta = entry
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
    """The error for an entry that is not as it was written and cannot be replaced."""
    return SightlineError(
        "an entry of the cache is damaged",
        where=str(folder),
        why="its checksum is not the one that was written",
        cure="remove that folder, it is built anew; and check the disk",
        status=ENVIRONMENT,
    )


def verify(folder: Path) -> None:
    """Read a whole entry and compare its checksum; SightlineError where a bit is not as it was written."""
    _intact.discard(folder)
    entry = opened(folder)
    if entry is None or not intact(folder, entry):
        raise damaged(folder)
