"""One pass over all images: digests of bytes and pixels, a thumbnail of 8 x 8 colors, and the file's header.

About a kilobyte of each image is kept in memory.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image

from ..data.decode.decoding import PROGRESS_SECONDS
from ..data.decode.images import Header, open_image
from ..data.sources.open import Items
from ..engine.device import processors
from ..errors import SightlineError
from ..runs.atomic import sha256

SIDE = 512
"""Large JPEG files are decoded at a reduced scale of at least twice this many pixels a side, which saves most of the
time; truncated files are still found."""
THUMB = 8
CHUNK = 128
PLAIN = 1
"""Largest range of a channel in an image of a single color."""


class Facts(NamedTuple):
    """One image. why, cure: why it cannot be read, else empty. size: width and height of the upright image. file:
    SHA-256 of the file's bytes, empty where there is no file. pixels: SHA-256 of size and RGB pixels. thumb: bytes of
    THUMB x THUMB RGB pixels. plain: a single color."""

    name: str
    split: str
    label: int
    path: str
    why: str = ""
    cure: str = ""
    size: tuple[int, int] = (0, 0)
    file: bytes = b""
    pixels: bytes = b""
    thumb: bytes = b""
    plain: bool = False
    header: Header = Header()


class ImageJob(NamedTuple):
    """An image to read. path: its file, or empty where only `items` can read it, at `index`."""

    name: str
    split: str
    label: int
    path: str
    items: Items
    index: int


def gather(jobs: Sequence[ImageJob], max_pixels: int, announce: Callable[[str], None]) -> list[Facts]:
    """The facts of all images, in the order of `jobs`, by threads: Pillow releases the interpreter lock."""
    found: list[Facts] = []
    started = spoken = time.monotonic()
    parts = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
    with ThreadPoolExecutor(processors()) as pool:
        for part in pool.map(lambda some: [facts_of(job, max_pixels) for job in some], parts):
            found += part
            if time.monotonic() - spoken > PROGRESS_SECONDS:
                spoken = time.monotonic()
                announce(f"checked {len(found):,} of {len(jobs):,} images in {spoken - started:.0f} s")
    return found


def facts_of(job: ImageJob, max_pixels: int) -> Facts:
    """The facts of one image; `why` and `cure` where it cannot be read."""
    header, known = Header(), job[:4]
    try:
        image = read(job, max_pixels, header)
        file = bytes.fromhex(sha256(job.path)) if job.path else b""
    except SightlineError as error:
        return Facts(*known, why=error.why or error.what, cure=error.cure, header=header)
    except OSError as error:  # removed after it was listed
        return Facts(*known, why=error.strerror or str(error), cure="run the command again", header=header)
    size = header.size[::-1] if header.turn in (5, 6, 7, 8) else header.size
    if not job.path or header.format == "TIFF":  # Pillow turns TIFF upright while loading
        size = image.size
    pixels = hashlib.sha256(repr(size).encode() + image.tobytes()).digest()
    thumb = image.resize((THUMB, THUMB), Image.Resampling.BOX).tobytes()
    plain = all(high - low <= PLAIN for low, high in image.getextrema())  # ty: ignore[not-iterable]
    return Facts(*known, size=size, file=file, pixels=pixels, thumb=thumb, plain=plain, header=header)


def read(job: ImageJob, max_pixels: int, header: Header) -> Image.Image:
    """The image as RGB; `header` is filled in."""
    if job.path:
        return open_image(job.path, max_pixels, SIDE, header)
    image = job.items.read(job.index)
    header.mode, header.size = image.mode, image.size
    return image


def jobs_of(root: str, splits: dict[str, Items], files: bool) -> list[ImageJob]:
    """All images of all splits. files: whether they are files below `root`."""
    jobs = []
    for split, items in splits.items():
        labels = [-1] * len(items.names) if items.labels is None else items.labels.tolist()
        for index, (name, label) in enumerate(zip(items.names, labels, strict=True)):
            jobs.append(ImageJob(name, split, label, os.path.join(root, name) if files else "", items, index))
    return jobs
