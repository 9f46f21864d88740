"""A split in shards as the cache gives one, so that whatever takes a decoded split takes a stream."""

import hashlib
import json
from typing import Any, cast

import numpy as np
import torch

from ...config.schema import Data
from ...errors import SightlineError
from ...runs.sampling import sample_rows
from ..cache import Decoded
from ..decode.images import Square
from ..decode.palettes import Palette
from ..pair_cache import DecodedPairs
from ..sources.open import Source
from .index import Shards
from .stream import Stream


class Pictures:
    """The images or masks of a stream by their places, as an array that is decoded where it is indexed."""

    def __init__(self, stream: Stream, shape: tuple[int, ...], masks: bool = False):
        self.stream, self.shape, self.masks = stream, shape, masks
        self.dtype, self.ndim = np.dtype(np.uint8), len(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: Any) -> np.ndarray:
        chosen = np.arange(len(self))[places]
        if np.ndim(chosen) == 0:
            return self.stream.mask(int(chosen)) if self.masks else self[[int(chosen)]][0]
        batch = self.stream.gather(torch.from_numpy(chosen), 0, torch.device("cpu"))
        found = batch.labels if self.masks else batch.images
        assert found is not None
        return found.numpy()


def stream_images(source: Source, split: str, side: int, data: Data) -> Decoded:
    """The split as `cache.decode` gives it, with images that are decoded while they are trained on."""
    items = source.splits[split]
    shards = items.shards
    assert shards is not None
    square, sizes = Square(side, data.fit, data.filter), shards.sizes
    alike = square.plain and (sizes == sizes[0]).all() and sizes[0].max() <= side
    height, width = sizes[0].tolist() if alike else (side, side)
    stream = Stream(shards, items.labels, (3, height, width), square, None, data)
    images = Pictures(stream, (len(items.names), 3, height, width))
    size = int(np.prod(images.shape))
    digest = stream_digest(shards, source.classes, items.labels)
    return Decoded(cast(Any, images), items.labels, items.names, source.classes, digest, size, stream=stream)


def stream_pairs(source: Source, split: str, palette: Palette, data: Data) -> DecodedPairs:
    """The split as `pair_cache.decode_pairs` gives it, with pairs that are decoded while they are trained on."""
    items = source.splits[split]
    shards = items.shards
    assert shards is not None
    height, width = shards.sizes.max(0).tolist()
    stream = Stream(shards, None, (3, height, width), None, palette, data)
    count = len(items.names)
    images, masks = Pictures(stream, (count, 3, height, width)), Pictures(stream, (count, height, width), masks=True)
    known = (items.names, source.classes, shards.sizes, shards.counts, stream_digest(shards, source.classes, None))
    size = int(np.prod(images.shape) + np.prod(masks.shape))
    return DecodedPairs(cast(Any, images), cast(Any, masks), *known, size, stream=stream)


def stream_digest(shards: Shards, classes: tuple[str, ...], labels: np.ndarray | None) -> str:
    """SHA-256 over those of the shards, the names, the labels and the classes; it tells changed data from the same."""
    sums = [shard.sha256 for shard in shards.files]
    content = [sums, shards.names, None if labels is None else labels.tolist(), classes]
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def sampled(decoded: Decoded | DecodedPairs, count: int, seed: int) -> np.ndarray:
    """Sorted places of `count` images of a split, drawn by `seed`; of a stream those that come first in its shards, for
    others would have to be sought in all of them."""
    if decoded.stream is None:
        return sample_rows(len(decoded.names), count, seed)
    rows = decoded.stream.shards.places[:count]
    return np.sort(rows)


def refuse_stream(decoded: Decoded | DecodedPairs, what: str, where: str, cure: str) -> None:
    """SightlineError where a setting needs all training images at once, and these lie on a server."""
    if decoded.stream is not None and decoded.stream.shards.store.remote:
        why = "the shards lie on a server, and it needs to see all of them before the first step"
        raise SightlineError(f"{what} cannot be had from a stream", where=where, why=why, cure=cure)
