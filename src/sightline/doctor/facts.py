"""Read all images once and compute what the checks need: `Facts`, about one kilobyte per image."""

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image

from ..data.channels import RGB, Channels
from ..data.decode.decoding import PROGRESS_SECONDS
from ..data.decode.images import Header, open_image, preview
from ..data.decode.kinds import Kind, Raster, header_like
from ..data.near import thumbnail
from ..data.types import Items
from ..engine.device import processors
from ..errors import SightlineError
from ..runs.atomic import sha256
from ..tasks.contract import Say

SIDE = 512
"""Large JPEG files are decoded at a reduced scale, with sides of at least twice this many pixels, which saves most
of the time. Truncated files are still detected."""
CHUNK = 128
PLAIN = 1
"""An image has a single color if the values of each channel differ by at most this (of 255)."""


class Facts(NamedTuple):
    """Properties of one image, which the checks use.

    label: class index, -1 without one. path: of the file, or "" if the image is not a file. why, cure: reason and cure
    if the image cannot be read, else "". size: (width, height) after the EXIF rotation. file: SHA-256 of the file's
    bytes, empty without a file. pixels: SHA-256 of size and pixels. thumb: bytes of a thumbnail (`near.thumbnail`).
    plain: whether the image has a single color. kind: what the pixels of the file are; None if its header is damaged.
    extent, missing: of images that are not 8-bit RGB: smallest and largest value, and the share without data.
    """

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
    kind: Kind | None = None
    extent: tuple[float, float] = (0.0, 0.0)
    missing: float = 0.0


def gather(
    splits: dict[str, Items], root: str, max_pixels: int, announce: Say, channels: Channels = RGB
) -> list[Facts]:
    """Read all images and compute their properties, in order. Several threads are used, as Pillow releases the GIL.
    root: the folder of the image files; "" for data that are not files. announce: function that prints the progress.
    channels: of the images."""
    found: list[Facts] = []
    started = reported = time.monotonic()
    jobs = [(split, items, index) for split, items in splits.items() for index in range(len(items.names))]
    parts = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
    with ThreadPoolExecutor(processors()) as pool:
        for part in pool.map(lambda some: [facts_of(*job, root, max_pixels, channels) for job in some], parts):
            found += part
            if time.monotonic() - reported > PROGRESS_SECONDS:
                reported = time.monotonic()
                announce(f"checked {len(found):,} of {len(jobs):,} images in {reported - started:.0f} s")
    return found


def facts_of(split: str, items: Items, index: int, root: str, max_pixels: int, channels: Channels) -> Facts:
    """Read one image and compute its properties. If it cannot be read, they have the reason and a cure."""
    name, header = items.names[index], Header()
    path = os.path.join(root, name) if root else ""
    stored = header_like(path, channels) if path else None
    label = -1 if items.labels is None else int(items.labels[index])
    known = Facts(name, split, label, path, header=header, kind=stored.kind if stored else None)
    try:
        if path and (stored is None or stored.kind.plain):
            found = image = open_image(path, max_pixels, SIDE, header)
        else:
            found = items.read(index)
            image, header.size = preview(found, channels), found.size
            header.mode = image.mode
        if stored and stored.driver:
            header.format, header.transparent = stored.driver.replace("GTiff", "TIFF"), stored.alpha
        file = bytes.fromhex(sha256(path)) if path else b""
    except SightlineError as error:
        return known._replace(why=error.why or error.what, cure=error.cure)
    except OSError as error:  # such as a file that was deleted after it was listed
        cure = "check that the file still exists and is readable, then run the command again"
        return known._replace(why=error.strerror or str(error), cure=cure)
    size = header.size[::-1] if header.orientation in (5, 6, 7, 8) else header.size
    if not path or header.format == "TIFF":  # Pillow applies the orientation of TIFF files on loading
        size = image.size
    known = known._replace(size=size, file=file, thumb=thumbnail(image))
    if isinstance(found, Raster):
        low, high = found.pixels.min((1, 2)), found.pixels.max((1, 2))
        known = known._replace(extent=(float(low.min()), float(high.max())), missing=found.missing / found.pixels.size)
        content, plain = found.pixels.tobytes(), bool((low == high).all())
    else:
        content = image.tobytes()
        plain = all(high - low <= PLAIN for low, high in image.getextrema())  # ty: ignore[not-iterable]
    return known._replace(pixels=hashlib.sha256(repr(size).encode() + content).digest(), plain=plain)


def opener(
    splits: dict[str, Items], root: str, max_pixels: int, channels: Channels = RGB
) -> Callable[[str], Image.Image]:
    """Make a function that opens an image of the splits, or another file below `root`, by its name."""
    known = {name: (items, index) for items in splits.values() for index, name in enumerate(items.names)}

    def read(name: str) -> Image.Image:
        items, index = known.get(name, (None, 0))
        image = items.read(index, SIDE) if items else open_image(os.path.join(root, name), max_pixels, SIDE)
        return preview(image, channels)

    return read
