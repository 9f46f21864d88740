"""One pass over all images: what the files are, digests of bytes and pixels, and a thumbnail of 8 x 8 colors.

Nothing else of an image stays in memory: about a kilobyte each.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image

from ..data.cache import cache_root
from ..data.decode.crash_guard import laid
from ..data.decode.decoding import PROGRESS_SECONDS
from ..data.decode.images import Header, open_image
from ..data.sources.open import Items
from ..errors import SightlineError
from ..runs.atomic import sha256

SIDE = 512
"""JPEG files may be decoded smaller, as long as twice this remains in each direction; it spares most of the time of
large photographs, and a file that ends early is still found."""
THUMB = 8
CHUNK = 128
PLAIN = 1
"""In a picture of one color, no channel varies by more."""


class Facts(NamedTuple):
    """One image. why, cure: why it cannot be read, else empty. size: width and height as the model gets them, before
    they become its square. file: SHA-256 of the file's bytes, empty where there is no file. pixels: SHA-256 of size and
    RGB pixels. thumb: THUMB x THUMB x RGB bytes. plain: of one color. header: what the file says."""

    name: str
    split: str
    label: int
    path: str
    why: str = ""
    cure: str = ""
    nbytes: int = 0
    size: tuple[int, int] = (0, 0)
    file: bytes = b""
    pixels: bytes = b""
    thumb: bytes = b""
    plain: bool = False
    header: Header = Header()


class Job(NamedTuple):
    """An image to look at. path: its file, or empty where only `items` can read it, at `index`."""

    name: str
    split: str
    label: int
    path: str
    items: Items | None = None
    index: int = 0


def gather(jobs: Sequence[Job], max_pixels: int, announce: Callable[[str], None]) -> list[Facts]:
    """The facts of all images, in the order of `jobs`. Threads decode, for Pillow lets go of the interpreter lock."""
    found: list[Facts] = []
    started = spoken = time.monotonic()
    with laid(cache_root()):
        for part in chunks(jobs, max_pixels):
            found += part
            if time.monotonic() - spoken > PROGRESS_SECONDS:
                spoken = time.monotonic()
                announce(f"looked at {len(found):,} of {len(jobs):,} images in {spoken - started:.0f} s")
    return found


def chunks(jobs: Sequence[Job], max_pixels: int) -> Iterator[list[Facts]]:
    """The facts in order, a part at a time; few parts are ahead."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: list[Future[list[Facts]]] = []
        for start in range(0, len(jobs), CHUNK):
            ahead.append(pool.submit(look_at_all, jobs[start : start + CHUNK], max_pixels))
            if len(ahead) > 2 * workers:
                yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()


def look_at_all(jobs: Sequence[Job], max_pixels: int) -> list[Facts]:
    """The facts of some images."""
    return [look_at(job, max_pixels) for job in jobs]


def look_at(job: Job, max_pixels: int) -> Facts:
    """The facts of one image; one that cannot be read has `why` and `cure`."""
    header, place = Header(), (job.name, job.split, job.label, job.path)
    try:
        image = read(job, max_pixels, header)
        nbytes, file = (os.path.getsize(job.path), bytes.fromhex(sha256(job.path))) if job.path else (0, b"")
    except SightlineError as error:
        return Facts(*place, why=error.why or error.what, cure=error.cure, header=header)
    except OSError as error:  # it was there a moment ago
        return Facts(*place, why=error.strerror or str(error), cure="run the command again", header=header)
    turned = header.turn in (5, 6, 7, 8) and header.format != "TIFF"
    size = header.size[::-1] if turned else header.size
    if not job.path or header.format == "TIFF":  # Pillow turns TIFF by itself, while it loads
        size = image.size
    pixels = hashlib.sha256(repr(size).encode() + image.tobytes()).digest()
    thumb = image.resize((THUMB, THUMB), Image.Resampling.BOX).tobytes()
    plain = all(high - low <= PLAIN for low, high in image.getextrema())  # ty: ignore[not-iterable]
    return Facts(*place, nbytes=nbytes, size=size, file=file, pixels=pixels, thumb=thumb, plain=plain, header=header)


def read(job: Job, max_pixels: int, header: Header) -> Image.Image:
    """The image as RGB."""
    if job.path:
        return open_image(job.path, max_pixels, SIDE, header)
    assert job.items is not None
    image = job.items.read(job.index)
    header.mode, header.size = image.mode, image.size
    return image


def jobs_of(root: str, splits: dict[str, Items], files: bool) -> list[Job]:
    """All images of all splits. files: they are files below `root`."""
    return [
        Job(
            name,
            split,
            -1 if items.labels is None else int(items.labels[index]),
            os.path.join(root, name) if files else "",
            None if files else items,
            index,
        )
        for split, items in splits.items()
        for index, name in enumerate(items.names)
    ]
