"""Decode the images of a split in threads into memory-mapped .npy files."""

import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from ...errors import ENVIRONMENT, SightlineError
from ...runs.atomic import sync_folder
from ..parallel import processors, submit_ahead

CHUNK_BYTES = 1 << 20
"""Bytes of decoded images that one task of the thread pool writes."""
MARGIN_BYTES = 64 << 20
"""Disk space that must remain free after decoding."""
PROGRESS_SECONDS = 5.0
FEW, NAMED = 8, 3
"""Largest number of damaged images, and of small ones, that a note lists by name."""
Facts = TypeVar("Facts")


def decode_rows(
    folder: Path,
    shapes: dict[str, tuple[int, ...]],
    decode: Callable[..., Facts],
    count: int,
    announce: Callable[[str], None],
    noun: str = "images",
    smaller: str = "a smaller --data.size, ",
    dtype: str = "uint8",
) -> tuple[list[np.memmap], list[Facts | SightlineError]]:
    """Decode `count` images (or pairs) into arrays uint8 [count, *shape], stored as NAME.npy in `folder`.

    shapes: {NAME: shape of a row}. decode: function (index, row of each array) that writes the rows; called in threads.
    noun, smaller: words for messages: what is decoded, and how to need less disk space. dtype: of the array `images`.

    Returns (the arrays, a list with the value that `decode` returned for each image, or the SightlineError that it
    raised). Raises SightlineError (status ENVIRONMENT) if the disk is too small.
    """
    dtypes = {name: np.dtype(dtype if name == "images" else "uint8") for name in shapes}
    row_bytes = sum(int(np.prod(shape)) * dtypes[name].itemsize for name, shape in shapes.items() if name != "digests")
    check_disk_space(folder, count * row_bytes, smaller)
    announce(f"decoding {count:,} {noun} into the cache, {size_text(count * row_bytes)} in all: {folder.parent}")
    arrays = [new_array(folder / f"{name}.npy", (count, *shape), dtypes[name]) for name, shape in shapes.items()]

    def decode_chunk(rows: range) -> list[Facts | SightlineError]:
        results: list[Facts | SightlineError] = []
        for index in rows:
            try:
                results.append(decode(index, *(array[index] for array in arrays)))
            except SightlineError as error:
                results.append(error)
        return results

    length = max(1, min(512, CHUNK_BYTES // row_bytes))
    chunks = (range(start, min(start + length, count)) for start in range(0, count, length))
    results: list[Facts | SightlineError] = []
    started = announced = time.monotonic()
    with ThreadPoolExecutor(processors()) as pool:
        for _, chunk in submit_ahead(pool, decode_chunk, chunks, ahead=2 * processors()):
            results += chunk.result()
            if time.monotonic() - announced > PROGRESS_SECONDS:
                announced = time.monotonic()
                announce(f"decoded {len(results):,} of {count:,} {noun} in {announced - started:.0f} s")
    return arrays, results


def new_array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """Create a memory-mapped .npy file of zeros. Its disk space is reserved first (not on macOS and Windows).
    Therefore a full disk raises OSError here, and not a signal during a later write."""
    with open(path, "w+b") as file:
        write_header(file, shape, dtype)
        offset = file.tell()
        end = offset + int(np.prod(shape)) * dtype.itemsize
        file.truncate(end)
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, end)
    return np.memmap(path, dtype, "r+", offset, shape)


def write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write the header of an .npy file. NumPy pads it, so its size does not depend on the number of rows."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})


def finish_arrays(folder: Path, arrays: list[np.memmap], kept: Sequence[int]) -> str:
    """Keep only the rows `kept` (ascending indices) of the arrays of `decode_rows`, and sync the files to disk.
    Returns the SHA-256 of the remaining rows.

    The list is emptied and each array released, because Windows truncates and renames no file that is mapped to memory.
    """
    checksum = hashlib.sha256()
    while arrays:
        array = arrays.pop(0)
        for row, index in enumerate(kept):
            if row != index:
                array[row] = array[index]
        checksum.update(array[: len(kept)].data)
        array.flush()
        path, dtype = str(array.filename), array.dtype
        shape, size = (len(kept), *array.shape[1:]), array[: len(kept)].nbytes
        del array
        with open(path, "r+b") as file:
            write_header(file, shape, dtype)
            file.truncate(file.tell() + size)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)
    return checksum.hexdigest()


def decoding_notes(meta: dict[str, Any], split: str, names: Sequence[str], side: int) -> list[str]:
    """Sentences for the user on images of a split that have a damaged EXIF block, or a shorter side below `side`
    pixels. meta: the content of meta.json in the cache entry of the split. names: of the images."""
    notes, count = [], len(names)
    if damaged := meta.get("torn_exif", []):  # missing in entries of earlier versions
        some = ", ".join(names[index] for index in damaged[:FEW]) + (", ..." if len(damaged) > FEW else "")
        what = f"{len(damaged):,} of {count:,} images of {split} have a damaged EXIF block"
        notes.append(f"{what}; only the intact part of the block is used: {some}")
    small, smallest = meta.get("small", [0, []])
    if small:
        some = ", ".join(f"{names[index]} ({width} x {height})" for _, width, height, index in smallest[:NAMED])
        which = f"all {count:,} images" if 1 < small == count else f"{small:,} of {count:,} images"
        what = f"{which} of {split} are smaller than {side} x {side} pixels and are enlarged"
        notes.append(f"{what}: {some}{', ...' if small > len(smallest[:NAMED]) else ''}")
    if missing := meta.get("missing", 0):
        what = f"{missing:,} values of {split} have no data (NoData, or not finite)"
        notes.append(f"{what}: they are 0, and left out of the statistics for the normalization")
    return notes


def check_disk_space(folder: Path, need: int, smaller: str) -> None:
    """Raise SightlineError if the disk of `folder` has less than `need` bytes free. smaller: words for the message
    that say how to need less space."""
    free = shutil.disk_usage(folder).free
    root = shlex.quote(str(folder.parent))
    if need + MARGIN_BYTES > free:
        raise SightlineError(
            f"the decoded images need {size_text(need)} of disk space, but only {size_text(free)} are free",
            where=str(folder.parent),
            cure=f"use {smaller}a folder on another disk (--data.cache_dir FOLDER), or delete the cache: "
            f"sightline cache --clear --folder {root}",
            status=ENVIRONMENT,
        )


def size_text(nbytes: float) -> str:
    """A size in decimal units, such as `69 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"
