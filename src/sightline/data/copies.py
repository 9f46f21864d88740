"""Find training images of one source that are copies of the validation or test images of another, by their pixels."""

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..config.schema import Data
from ..errors import counted, some_of
from .decode.images import Square
from .decode.kinds import Raster
from .image_cache import DIGEST_BYTES, decode
from .near import LEAST_SIDE, candidates, confirmed, image_at, thumbnail
from .sources.leakage import digest_of, end_of, in_threads
from .types import Decoded, Source


class Copies(NamedTuple):
    """Training images that are copies: name of the image -> name of the validation or test image that it is a copy of.

    identical: images with the same pixels after decoding. near: near copies (near.py) that are not identical.
    """

    identical: dict[str, str]
    near: dict[str, str]


def same_files(paths: Sequence[str], known: Sequence[str]) -> list[str]:
    """Those of `paths` whose files are identical to one of the `known` files: files of equal size, then those with
    equal last bytes, are compared by SHA-256. Files that cannot be read are left out."""
    for measure in (size_of, end_of, digest_of):
        found, others = in_threads(measure, paths), in_threads(measure, known)
        shared = {*found} & {*others} - {""}
        paths, known = (
            [path for path, value in zip(some, values, strict=True) if value in shared]
            for some, values in ((paths, found), (known, others))
        )
    return list(paths)


def size_of(path: str) -> str:
    """The size of a file; '' if there is none."""
    try:
        return str(os.stat(path).st_size)
    except OSError:
        return ""


def copies_of(source: Source, target: Source, side: int, data: Data) -> Copies:
    """Find the images of `train` in `source` that are copies of images of `val` or `test` in `target`.

    side, data: the size and the settings with which `source` is decoded for training. The images of `target` are
    decoded in the same way, because two identical files could otherwise have different pixels.
    """
    splits = [(target, split) for split in ("val", "test") if split in target.splits]
    parts = [decode(*each, side, data, lambda text: None) for each in (*splits, (source, "train"))]
    names = [name for part in parts for name in part.names]
    start = len(names) - len(parts[-1].names)  # the index of the first training image
    read, digests = joined(parts, Square.of_settings(data, side))
    known = dict(zip(reversed(digests[:start]), reversed(names[:start]), strict=True))
    copied = [digest in known for digest in digests[start:]]
    identical = {names[row]: known[digests[row]] for row in range(start, len(names)) if copied[row - start]}
    rows = [*range(start), *(row for row in range(start, len(names)) if not copied[row - start])]
    if not start or min(read(0).size) < LEAST_SIDE:
        return Copies(identical, {})
    thumbs = np.frombuffer(b"".join(thumbnail(read(row)) for row in rows), np.uint8).reshape(len(rows), -1)
    links = confirmed(candidates(thumbs, start), lambda index: read(rows[index]))
    links.sort(key=lambda link: link[2])  # so that the most similar image is the last, which the dict keeps
    return Copies(identical, {names[rows[second]]: names[first] for first, second, _ in links})


def joined(parts: Sequence[Decoded], square: Square) -> tuple[Callable[[int], Image.Image], list[bytes]]:
    """Number the images of all parts in order: (function that returns an image, a hash of the pixels of each image).

    A split whose images all have one small size is stored at that size, any other is fitted into `square`. If the parts
    differ in that, the images are fitted here. Images of other channels than RGB are returned as a composite.
    """
    ends = np.cumsum([len(part.names) for part in parts])
    alike = len({part.images.shape[1:] for part in parts}) == 1

    def planes(index: int) -> np.ndarray:
        part = int(np.searchsorted(ends, index, "right"))
        pixels = parts[part].images[index - ends[part]]
        return pixels if alike else square.of(as_image(pixels, part))

    def as_image(pixels: np.ndarray, part: int) -> Image.Image | Raster:
        return image_at(pixels[None], 0) if parts[part].channels.plain else Raster(pixels)

    def shown(index: int) -> Image.Image:
        part = int(np.searchsorted(ends, index, "right"))
        return image_at(parts[part].channels.composite(planes(index))[None], 0)

    digests: list[bytes] = []
    for part in parts:
        if alike and part.digests is not None:
            digests += [digest.tobytes() for digest in part.digests]
        else:
            rows = range(len(digests), len(digests) + len(part.names))
            digests += [hashlib.sha256(planes(row).tobytes()).digest()[:DIGEST_BYTES] for row in rows]
    return shown, digests


def sentences(copies: Copies, whose: str, evaluated: str, scores: str) -> tuple[str, str]:
    """A sentence on identical images and one on near copies, each with the first pairs; "" without such images.

    whose: follows "training images". evaluated: the images of which they are copies. scores: what is too high then.
    """

    def sentence(found: dict[str, str], one: str, many: str, sign: str) -> str:
        pairs = some_of([f"{name} {sign} {original}" for name, original in found.items()])
        what = f"{counted(len(found), 'training image')}{whose} {one if len(found) == 1 else many} {evaluated}"
        return f"{what}, so {scores} may be too high: {pairs}" if found else ""

    identical = sentence(copies.identical, "is identical to one of the", "are identical to", "=")
    return identical, sentence(copies.near, "is a near copy of one of the", "are near copies of", "~")
