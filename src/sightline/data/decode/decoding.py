"""Decoding a split in threads into one .npy file, in order, with bad images collected rather than met one a run."""

import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ...errors import ENVIRONMENT, SightlineError, printable
from ...runs.atomic import atomic_write
from ..sources.open import Items
from .exif import TORN
from .images import Square, planes

CHUNK_BYTES = 4 << 20
"""Decoded bytes that one thread hands over at a time; small enough that a few chunks in flight do not matter."""
DIGESTS, DIGEST_BYTES = "digests.npy", 16
"""Beside the images lies a digest of each one's pixels, so that copies are found without reading them again."""
MARGIN_BYTES = 64 << 20
"""Disk space that must remain free beside what is written."""
PROGRESS_SECONDS = 5.0
FEW = 8
"""Images that a note names."""


class Chunk(NamedTuple):
    """Decoded neighbors. images: uint8 [M, 3, H, W]. bad: place -> why. whole: False where a size did not fit. digests:
    DIGEST_BYTES of each image. torn: places with a damaged EXIF block. small: (shorter side, width, height, place) of
    images that were enlarged."""

    images: np.ndarray
    bad: dict[int, str]
    whole: bool
    digests: bytes = b""
    torn: tuple[int, ...] = ()
    small: tuple[tuple[int, int, int, int], ...] = ()


class SizesDiffer(Exception):
    """Not all images have the size of the first one."""


def stored_shape(items: Items, square: Square) -> tuple[int, int, int]:
    """The first readable image's own shape if it is not larger than the square, on the guess that all share it."""
    side = square.side
    for index in range(len(items.names) if square.plain else 0):
        try:
            width, height = items.read(index, side).size
        except SightlineError:
            continue
        return (3, height, width) if max(width, height) <= side else (3, side, side)
    return (3, side, side)


def write_images(path: Path, items: Items, square: Square, announce: Callable[[str], None]) -> dict[str, Any]:
    """Decode all items into the .npy file `path`; returns shape [N, 3, H, W], sha256 of pixels, bad: place -> why, and
    what `notes_of` says."""
    shape = stored_shape(items, square)
    try:
        return fill(path, items, shape, square, announce)
    except SizesDiffer:
        return fill(path, items, (3, square.side, square.side), square, announce)


def fill(
    path: Path, items: Items, shape: tuple[int, int, int], square: Square, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Write the images in the given shape. Threads decode and this one writes, in order: so a full disk is an error and
    not a signal as with a memory map, and the checksum needs no second pass."""
    count = len(items.names)
    need = count * int(np.prod(shape))
    refuse_full_disk(path.parent, need)
    announce(f"decoding {count:,} images into the cache: {size_text(need)} at {path.parents[1]}")
    checksum, bad, written, digests = hashlib.sha256(), {}, 0, bytearray()
    torn, small, smallest = [], 0, []
    started = spoken = time.monotonic()
    with open(path, "wb") as file:
        write_header(file, (count, *shape))
        for chunk in chunks(items, shape, square):
            if not chunk.whole:
                raise SizesDiffer
            content = np.ascontiguousarray(chunk.images).data
            file.write(content)
            checksum.update(content)
            written += len(chunk.images)
            bad.update(chunk.bad)
            digests += chunk.digests
            torn += chunk.torn
            small += len(chunk.small)
            smallest = sorted([*smallest, *chunk.small])[:FEW]
            if time.monotonic() - spoken > PROGRESS_SECONDS:
                spoken = time.monotonic()
                announce(f"decoded {written + len(bad):,} of {count:,} images in {spoken - started:.0f} s")
        write_header(file, (written, *shape))
        file.flush()
        os.fsync(file.fileno())
    rows = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
    atomic_write(path.with_name(DIGESTS), lambda file: np.save(file, rows))
    bad_by_text = {str(place): bad[place] for place in sorted(bad)}
    known = {"torn_exif": torn, "small": [small, smallest]}
    return {"shape": [written, *shape], "sha256": checksum.hexdigest(), "bad": bad_by_text, **known}


def write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """The header of a .npy file at its beginning. NumPy pads it so that another count of images takes the same room."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def chunks(items: Items, shape: tuple[int, int, int], square: Square) -> Iterator[Chunk]:
    """All images in order, decoded in threads, for Pillow lets go of the interpreter lock; few chunks are ahead."""
    count = len(items.names)
    length = max(1, min(512, CHUNK_BYTES // int(np.prod(shape))))
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: list[Future[Chunk]] = []
        for start in range(0, count, length):
            ahead.append(pool.submit(decode_chunk, items, range(start, min(start + length, count)), shape, square))
            if len(ahead) > 2 * workers:
                yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()


def decode_chunk(items: Items, places: range, shape: tuple[int, int, int], square: Square) -> Chunk:
    """The images at `places`; bad ones are left out and named, one of the wrong size ends it."""
    images = np.empty((len(places), *shape), np.uint8)
    bad: dict[int, str] = {}
    torn, small = [], []
    fitted = shape == (3, square.side, square.side)
    for place in places:
        try:
            image = items.read(place, square.side)
        except SightlineError as error:
            bad[place] = printable(f"{items.names[place]}: {error.why or error.what}")
            continue
        if not fitted and image.size != (shape[2], shape[1]):
            return Chunk(images[:0], bad, False)
        if image.info.get(TORN):
            torn.append(place)
        if fitted and min(image.size) < square.side:
            small.append((min(image.size), *image.size, place))
        images[place - places.start - len(bad)] = square.of(image) if fitted else planes(image)
    images = images[: len(places) - len(bad)]
    digests = b"".join(hashlib.sha256(image.tobytes()).digest()[:DIGEST_BYTES] for image in images)
    return Chunk(images, bad, True, digests, tuple(torn), tuple(small))


def notes_of(meta: dict[str, Any], split: str, names: Sequence[str], side: int) -> list[str]:
    """Sentences on images that are used and are not what they might be: those of the `names` of a split."""
    notes, count = [], len(names)
    if torn := meta.get("torn_exif", []):  # entries of earlier versions have none
        some = ", ".join(names[place] for place in torn[:FEW]) + (", ..." if len(torn) > FEW else "")
        what = f"{len(torn):,} of {count:,} images of {split} have a damaged EXIF block"
        notes.append(f"{what}, of which only what is whole counts: {some}")
    small, smallest = meta.get("small", [0, []])
    if small:
        some = ", ".join(f"{names[place]} ({width} x {height})" for _, width, height, place in smallest)
        what = f"{small:,} of {count:,} images of {split} are smaller than {side} x {side} pixels and are enlarged"
        notes.append(f"{what}: {some}{', ...' if small > len(smallest) else ''}")
    return notes


def refuse_full_disk(folder: Path, need: int, smaller: str = "a smaller --data.size, ") -> None:
    """SightlineError where the entry does not fit on the disk. smaller: what would make it smaller."""
    free = shutil.disk_usage(folder).free
    root = shlex.quote(str(folder.parent))
    if need + MARGIN_BYTES > free:
        raise SightlineError(
            f"the decoded images need {size_text(need)} of disk, and {size_text(free)} are free",
            where=str(folder.parent),
            cure=f"{smaller}another --data.cache_dir, or remove old ones: sightline cache --clear --folder {root}",
            status=ENVIRONMENT,
        )


def size_text(nbytes: float) -> str:
    """`69 MB`: a size in decimal units, as disks are sold."""
    for unit in ("bytes", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"
