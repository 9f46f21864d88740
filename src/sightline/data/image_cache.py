"""Decode the images of a split once, into a memory-mapped array in the cache."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL

from ..config.schema import Data
from ..errors import SightlineError, listing, printable
from .cache import DIGESTS, cache_root, cached_entry, files_key, key_of, read_meta
from .channels import Channels
from .decode.crash_guard import FAILS
from .decode.decoding import FEW, decode_rows, decoding_notes, finish_arrays
from .decode.images import EXIF_DAMAGED, VERSION, Square, planes
from .decode.kinds import Raster
from .decode.survey import with_top
from .label_arrays import class_counts
from .types import Decoded, Items, Source

FORMAT = 1
DIGEST_BYTES = 16
MOST_SKIPPED, FEW_SKIPPED = 0.01, 10
"""How many unreadable images of a split `data.on_bad_image skip` may leave out: this share, or this number if that
is more."""


class ImageFlaws(NamedTuple):
    """Flaws of an image that can be used nevertheless. small: (shorter side, width, height) if the image was smaller
    than the requested size and was enlarged; else None. missing: number of values without data."""

    damaged_exif: bool
    small: tuple[int, int, int] | None
    missing: int = 0


class SizesDifferError(Exception):
    """Raised if an image has another size than the first one, so that one array shape does not fit all."""


def decode(source: Source, split: str, side: int, data: Data, announce: Callable[[str], None] = print) -> Decoded:
    """Load the decoded images of a split from the cache; if they are not there, decode them into the cache first.

    Images are stored as [C, side, side] of the type of `source.channels`, or at their own size if all have the same
    size and it fits into `side`. Once per process the array is compared with its checksum; if it is damaged, the images
    are decoded again. Raises SightlineError with all unreadable images, or if the disk is full.
    """
    items, channels = source.splits[split], with_top(source, data, announce if split == "train" else lambda text: None)
    folder = cache_root(data) / entry_key(source, split, side, data)

    def fill(folder: Path) -> dict[str, Any]:
        meta = write_images(folder, items, Square.of_settings(data, side), announce, channels)
        check_unreadable(meta["bad"], items, source, split, data, lambda text: None)
        return {"format": FORMAT, "source": printable(f"{source.path} ({split})"), **meta}

    remove_if_readable(folder, items, side)
    (images,), meta = cached_entry(folder, fill, announce)
    check_unreadable(meta["bad"], items, source, split, data, announce)  # the entry may be from a run that skips images
    for note in decoding_notes(meta, split, items.names, side):
        announce(note)
    if meta["bad"]:
        items = items.subset(np.setdiff1d(np.arange(len(items.names)), [int(index) for index in meta["bad"]]))
    digest = content_digest(meta["sha256"], items, source.classes)
    digests = image_digests(folder, len(images))
    return Decoded(
        *(images, items.labels, items.names, source.classes, digest, images.nbytes, digests, items.groups),
        channels=channels,
        missing=meta.get("missing", 0),
    )


def remove_if_readable(folder: Path, items: Items, side: int) -> None:
    """Remove a cache entry if an image that it leaves out can be read now. Its name would stay the same, because
    neither `chmod` nor an installed decoder changes size or time of a file. Images that crash a decoder are not read.
    """
    try:
        bad = read_meta(folder)["bad"]
    except (OSError, ValueError, KeyError):
        return
    for index in (int(index) for index, why in bad.items() if FAILS not in why):
        with contextlib.suppress(SightlineError):
            items.read(index, side)
            shutil.rmtree(folder, ignore_errors=True)
            return


def image_digests(folder: Path, count: int) -> np.ndarray | None:
    """Load the hash of each image from a cache entry, uint8 [count, 16]; None for entries of earlier versions."""
    try:
        digests = np.load(folder / DIGESTS, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return digests if digests.shape == (count, DIGEST_BYTES) and digests.dtype == np.uint8 else None


def subset(decoded: Decoded, rows: np.ndarray) -> Decoded:
    """Select the images at `rows` int64 [M] of a decoded split, as a copy. Returns `decoded` itself if `rows` are
    all its images in order."""
    if decoded.stream is None and len(rows) == len(decoded.names) and (rows == np.arange(len(rows))).all():
        return decoded
    labels = None if decoded.labels is None else decoded.labels[rows]
    digest = hashlib.sha256(decoded.digest.encode() + np.ascontiguousarray(rows, np.int64).tobytes()).hexdigest()
    images, names = decoded.images[rows], tuple(decoded.names[row] for row in rows)
    digests = None if decoded.digests is None else decoded.digests[rows]
    groups = None if decoded.groups is None else tuple(decoded.groups[row] for row in rows)
    return Decoded(
        *(images, labels, names, decoded.classes, digest, images.nbytes, digests, groups),
        channels=decoded.channels,
        missing=decoded.missing,
    )


def entry_key(source: Source, split: str, side: int, data: Data) -> str:
    """Name of a cache entry: SHA-256 of everything that its pixels depend on."""
    root, names, stamps = files_key(source, split)
    square = Square.of_settings(data, side)
    fit = [] if square.plain else [square.fit, square.filter]
    share = [] if square.share == 1 else [square.share]
    rest = [*fit, *share, *reading_key(source, data)]
    return key_of([[FORMAT, VERSION, PIL.__version__], root, side, data.max_pixels, names, stamps, *rest])


def reading_key(source: Source, data: Data) -> list[Any]:
    """What the pixels in a cache entry depend on besides the files and the resize; nothing for 8-bit RGB."""
    channels = source.channels
    chosen = [] if data.channels == "auto" else [data.channels, channels.deep, *["opaque"] * channels.opaque]
    return chosen if channels.plain else [*chosen, channels.names, channels.dtype]


def content_digest(pixels: str, items: Items, classes: tuple[str, ...]) -> str:
    """SHA-256 that identifies a decoded split: of `pixels` (the SHA-256 of the pixels), names, labels and classes."""
    labels = None if items.labels is None else items.labels.tolist()
    return key_of([pixels, items.names, labels, classes])


def check_unreadable(
    bad: dict[str, str], items: Items, source: Source, split: str, data: Data, announce: Callable[[str], None]
) -> None:
    """Announce the unreadable images, if the settings and their number allow to leave them out; else raise
    SightlineError with all of them. bad: index of an image, as text -> reason."""
    if not bad:
        return
    limit, skip = exceeded_limit([int(index) for index in bad], items, source.classes), data.on_bad_image == "skip"
    what = f"{len(bad):,} of {len(items.names):,} images of the {split} split cannot be read"
    lines = [bad[index] for index in sorted(bad, key=int)]
    if skip and not limit:
        announce(f"{what} and are left out:\n{listing(lines)}")
        return
    what, why = (f"{what}, too many to leave out", limit) if skip else (what, "")
    cure = "repair or remove these files" + ("" if limit else ", or leave them out with --data.on_bad_image skip")
    raise SightlineError(what, where=source.path, why=f"{why}\n{listing(lines, 100)}", cure=cure)


def exceeded_limit(bad: Collection[int], items: Items, classes: tuple[str, ...]) -> str:
    """Why the images at the indices `bad` are too many to leave out; "" if they are not too many."""
    count, indices = len(items.names), sorted(bad)
    most = max(FEW_SKIPPED, int(count * MOST_SKIPPED))
    limits = f"at most {MOST_SKIPPED:.0%} of a split, or {FEW_SKIPPED} images if that is more (here {most:,}), and at "
    limits += "most half of a class may be left out"
    if len(indices) > most:
        return limits
    labels = np.zeros(count, np.int64) if items.labels is None else items.labels
    lost, every = (class_counts(some, max(1, len(classes))) for some in (labels[indices], labels))
    over = np.flatnonzero(2 * lost > every)
    if not len(over):
        return ""
    named = ", ".join(classes[index] for index in over[:8]) if classes and items.labels is not None else "the split"
    return f"{limits}; more than half is unreadable in: {named}"


def write_images(
    folder: Path, items: Items, square: Square, announce: Callable[[str], None], channels: Channels
) -> dict[str, Any]:
    """Decode all images of a split into images.npy; returns the content of meta.json of the cache entry.

    This is the shape [N, C, H, W] and the SHA-256 of the readable images, `bad` (index of an unreadable image ->
    reason), and the flaws that `decoding_notes` describes.
    """
    decoded, shape = None, stored_shape(items, square, len(channels))
    with contextlib.suppress(SizesDifferError):
        decoded = decode_images(folder, items, square, shape, announce, channels.dtype)
    if decoded is None:  # not in a handler of the exception, which would keep the first arrays
        shape = (len(channels), square.side, square.side)
        decoded = decode_images(folder, items, square, shape, announce, channels.dtype)
    arrays, results = decoded
    flaws = {index: found for index, found in enumerate(results) if isinstance(found, ImageFlaws)}
    faults = {index: found for index, found in enumerate(results) if isinstance(found, SightlineError)}
    kept = [index for index in range(len(results)) if index not in faults]
    finish_arrays(folder, [arrays.pop()], kept)  # the digests
    small = sorted((*found.small, index) for index, found in flaws.items() if found.small)
    return {
        "shape": [len(kept), *shape],
        "sha256": finish_arrays(folder, arrays, kept),
        "bad": {str(index): printable(f"{items.names[index]}: {f.why or f.what}") for index, f in faults.items()},
        "torn_exif": [index for index, found in flaws.items() if found.damaged_exif],
        "small": [len(small), small[:FEW]],
        **raster_facts(channels, sum(found.missing for found in flaws.values())),
    }


def raster_facts(channels: Channels, missing: int) -> dict[str, Any]:
    """Entries of meta.json on the channels of images that are not 8-bit RGB. missing: number of values without data."""
    return {} if channels.plain else {"dtype": channels.dtype, "missing": missing, "channels": channels.description()}


def stored_shape(items: Items, square: Square, count: int) -> tuple[int, int, int]:
    """Guess the shape (count, H, W) in which all images can be stored. It is that of the first readable image if this
    fits into the square, else the square. `decode_images` raises SizesDifferError if the guess is wrong."""
    side = square.side
    for index in range(len(items.names) if square.plain else 0):
        try:
            width, height = items.read(index, side).size
        except SightlineError:
            continue
        return (count, height, width) if max(width, height) <= side else (count, side, side)
    return (count, side, side)


def decode_images(
    folder: Path,
    items: Items,
    square: Square,
    shape: tuple[int, int, int],
    announce: Callable[[str], None],
    dtype: str = "uint8",
) -> tuple[list[np.memmap], list[ImageFlaws | SightlineError | None]]:
    """Decode all images in `shape`, with a hash of each; results as of `decode_rows`. Raises SizesDifferError if an
    image has another shape."""
    fitted = shape[1:] == (square.side, square.side)

    def decode(index: int, pixels: np.ndarray, digest: np.ndarray) -> ImageFlaws | None:
        image = items.read(index, square.side)
        if not fitted and image.size != (shape[2], shape[1]):
            raise SizesDifferError
        pixels[:] = square.of(image) if fitted else planes(image)
        digest[:] = np.frombuffer(hashlib.sha256(pixels.data).digest(), np.uint8)[:DIGEST_BYTES]
        small = (min(image.size), *image.size) if fitted and min(image.size) < square.side else None
        missing = image.missing if isinstance(image, Raster) else 0
        flaws = ImageFlaws(bool(image.info.get(EXIF_DAMAGED)), small, missing)
        return flaws if any(flaws) else None

    shapes = {"images": shape, "digests": (DIGEST_BYTES,)}
    return decode_rows(folder, shapes, decode, len(items.names), announce, dtype=dtype)
