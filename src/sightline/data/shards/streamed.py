"""Splits in shards as `Decoded`, with arrays that decode on access."""

import hashlib
import json
from typing import Any, cast

import numpy as np
import torch

from ...config.schema import Data
from ...errors import SightlineError
from ...runs.sampling import sample_rows
from ..decode.images import Square
from ..decode.palettes import Palette
from ..types import Decoded, Source
from .index import Shards
from .stream import Stream


class StreamedArray:
    """Array-like view of the images or masks of a stream; indexing decodes samples. shape: of the array."""

    def __init__(self, stream: Stream, shape: tuple[int, ...], masks: bool = False):
        self.stream, self.shape, self.masks = stream, shape, masks
        self.dtype, self.ndim = np.dtype(np.uint8), len(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        chosen = np.arange(len(self))[key]
        if self.masks and np.ndim(chosen) == 0:
            return self.stream.mask(int(chosen))
        batch = self.stream.gather(torch.from_numpy(np.atleast_1d(chosen)), 0, torch.device("cpu"))
        found = batch.labels if self.masks else batch.images
        assert found is not None
        return found.numpy()[0] if np.ndim(chosen) == 0 else found.numpy()


def stream_images(source: Source, split: str, side: int, data: Data) -> Decoded:
    """Like `image_cache.decode`, for a split in shards, with images that are decoded during training."""
    items = source.splits[split]
    shards: Shards = items.shards
    square, sizes = Square(side, data.fit, data.filter), shards.sizes
    alike = square.plain and (sizes == sizes[0]).all() and 0 < sizes[0].max() <= side
    height, width = sizes[0].tolist() if alike else (side, side)
    stream = Stream(shards, items.labels, (3, height, width), square, None, data)
    images = StreamedArray(stream, (len(items.names), 3, height, width))
    size = int(np.prod(images.shape))
    digest = stream_digest(shards, source.classes, items.labels)
    return Decoded(cast(Any, images), items.labels, items.names, source.classes, digest, size, stream=stream)


def stream_pairs(source: Source, split: str, palette: Palette, data: Data) -> Decoded:
    """Like `pair_cache.decode_pairs`, for a split in shards, with pairs that are decoded during training."""
    items = source.splits[split]
    shards: Shards = items.shards
    count, (height, width) = len(items.names), shards.sizes.max(0).tolist()
    stream = Stream(shards, None, (3, height, width), None, palette, data)
    return Decoded(
        images=cast(Any, StreamedArray(stream, (count, 3, height, width))),
        labels=None,
        names=items.names,
        classes=source.classes,
        digest=stream_digest(shards, source.classes, None),
        nbytes=4 * count * height * width,
        masks=cast(Any, StreamedArray(stream, (count, height, width), masks=True)),
        sizes=shards.sizes,
        counts=shards.counts,
        stream=stream,
    )


def stream_digest(shards: Shards, classes: tuple[str, ...], labels: np.ndarray | None) -> str:
    """SHA-256 over the checksums of the shards, the names, labels and classes."""
    digests = [entry.sha256 for entry in shards.entries]
    content = [digests, shards.names, None if labels is None else labels.tolist(), classes]
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def sampled(decoded: Decoded, count: int, seed: int) -> np.ndarray:
    """Sorted indices of `count` images of a split, drawn by `seed`. For a stream, the first in stored order, because
    random ones are in all shards."""
    if decoded.stream is None:
        return sample_rows(len(decoded.names), count, seed)
    return np.sort(decoded.stream.shards.order[:count])


def reject_remote_stream(decoded: Decoded, what: str, where: str, cure: str) -> None:
    """Raise SightlineError for a setting that reads all training images first, if the shards are on a server.

    what: the feature in plural. where: its setting.
    """
    if decoded.stream is not None and decoded.stream.shards.store.remote:
        why = "it reads all images before the first step, and the shards are on a server"
        raise SightlineError(f"{what} are not available with remote shards", where=where, why=why, cure=cure)
