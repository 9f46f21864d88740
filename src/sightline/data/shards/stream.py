"""Training batches that are read and decoded from shards, instead of from the cache of decoded images.

The order of an epoch is a function of (seed, epoch) and the index of the shards. The shards are permuted and taken
GROUP at a time. The samples of the GROUP shards are interleaved, then permuted within segments of half of
`data.stream_mb`. A resumed run reads only the samples of the remaining batches.

Memory: two chunks of undecoded samples (one in use, one being read), each of about half of `data.stream_mb`, and AHEAD
+ 1 decoded batches.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from ...config.schema import Data
from ...errors import SightlineError
from ...runs.sampling import sample_rows
from ..cache import key_of
from ..decode.images import Square, planes
from ..decode.palettes import IGNORE, Palette
from ..loader import SINGLE_PROCESS, BatchPart, batch_parts, to_device
from ..parallel import Share, permutation, processors, submit_ahead
from ..shard_format import damaged
from ..types import Batch, Decoded, Source
from .index import Shards

GROUP = 4
"""Number of shards whose samples are interleaved."""
AHEAD = 3
"""Number of batches that are decoded in advance."""
ORDER, WITHIN = 1, 2
"""Keys of two random permutations: that of the shards, and that of the samples within a segment."""


def epoch_rows(firsts: np.ndarray, nbytes: np.ndarray, segment_bytes: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which the N samples of a split are read in an epoch: positions in stored order, int64 [N].

    Stored order is the order in the shards, one shard after the other. firsts: int64 [S + 1], number of samples before
    each of the S shards. nbytes: int64 [N], bytes of each sample in stored order. segment_bytes: size of a segment;
    samples are permuted within their segment.
    """
    shards, parts, start = permutation(len(firsts) - 1, seed, epoch, ORDER), [], 0
    for group in range(0, len(shards), GROUP):
        rows = [np.arange(firsts[shard], firsts[shard + 1]) for shard in shards[group : group + GROUP]]
        fractions = np.concatenate([(np.arange(len(some)) + 0.5) / max(len(some), 1) for some in rows])
        merged = np.concatenate(rows)[np.argsort(fractions, kind="stable")]
        before = np.cumsum(nbytes[merged]) - nbytes[merged]
        for part in np.split(merged, np.flatnonzero(np.diff(before // segment_bytes)) + 1):
            parts.append(part[permutation(len(part), seed, epoch, WITHIN, start)])
            start += len(part)
    return np.concatenate(parts)


@dataclass(frozen=True)
class Stream:
    """A split in shards that is decoded during training.

    labels: int64 [N], class indices, or None. shape: (3, H, W) of the images in a batch. square: how images are
    resized; None for image-mask pairs, which are padded instead. palette: of the masks; None without masks.
    """

    shards: Shards
    labels: np.ndarray | None
    shape: tuple[int, int, int]
    square: Square | None
    palette: Palette | None
    data: Data

    @property
    def chunk_bytes(self) -> int:
        """Bytes of undecoded samples that are read at once and permuted among themselves: half of `data.stream_mb`."""
        return max(1, self.data.stream_mb * 1_000_000 // 2)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order in which the samples are read in an epoch: indices in the split, int64 [N]."""
        shards, stored = self.shards, self.shards.order
        nbytes = (shards.ends - shards.starts)[stored]
        return stored[epoch_rows(shards.firsts, nbytes, self.chunk_bytes, seed, epoch)]

    def batches(
        self,
        batch_size: int,
        seed: int,
        epoch: int,
        first_batch: int = 0,
        device: torch.device | str = "cpu",
        share: Share = SINGLE_PROCESS,
        overlap: bool = False,
    ) -> Iterator[Batch]:
        """Yield the batches of one epoch, starting with the batch of index `first_batch`.

        share: rank and number of processes; only this process's part of each batch is yielded. overlap: as in
        `loader.training_batches`. Raises SightlineError for an unreadable shard or sample, with status ENVIRONMENT
        for a failing server.
        """
        order = torch.from_numpy(self.order(seed, epoch))
        chunks = self.chunks(batch_parts(order, batch_size, first_batch, share, overlap))
        decoders, reader, fetchers = (ThreadPoolExecutor(count) for count in (processors(), 1, GROUP))
        queue: deque[Callable[[], Batch]] = deque()
        read = partial(self.read, permutation(len(self.shards.entries), seed, epoch, ORDER), fetchers, {})
        try:
            for chunk, samples in submit_ahead(reader, read, chunks, ahead=1):
                take = partial(lambda reading, index: reading.result().pop(index), samples)
                for part in chunk:
                    queue.append(self.decode_batch(part, take, epoch, torch.device(device), decoders))
                    if len(queue) > AHEAD:
                        yield queue.popleft()()
            while queue:
                yield queue.popleft()()
        finally:
            for pool in (decoders, reader, fetchers):
                pool.shutdown(wait=True, cancel_futures=True)

    def chunks(self, parts: Iterable[BatchPart]) -> Iterator[list[BatchPart]]:
        """Group consecutive batches into lists of about `chunk_bytes` undecoded bytes, which are read at once."""
        chunk, size = [], 0
        for part in parts:
            chunk.append(part)
            size += int((self.shards.ends[part.indices] - self.shards.starts[part.indices]).sum())
            if size >= self.chunk_bytes:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def read(
        self,
        sequence: np.ndarray,
        fetchers: ThreadPoolExecutor,
        fetched: dict[int, Future[None]],
        chunk: list[BatchPart],
    ) -> dict[int, bytes]:
        """Read the undecoded samples of a chunk, {index: bytes}, while the next GROUP shards of the epoch are fetched.

        sequence: int64 [S], the order of the shards in the epoch. fetched: {shard: future of its download}; this call
        adds to it.
        """
        shards, positions = self.shards, np.argsort(sequence)
        indices = np.unique(np.concatenate([part.indices for part in chunk]))
        stored = np.lexsort((shards.starts[indices], positions[shards.owners[indices]]))

        def wait_for(shard: int) -> None:
            for number in sequence[positions[shard] :][: GROUP + 1].tolist():
                if number not in fetched:
                    fetched[number] = fetchers.submit(shards.store.prefetch, shards.entries[number])
            fetched[shard].result()

        return shards.read(indices[stored].tolist(), wait_for)

    def decode_batch(
        self, part: BatchPart, take: Callable[[int], bytes], epoch: int, device: torch.device, pool: ThreadPoolExecutor
    ) -> Callable[[], Batch]:
        """Start to decode a batch in the threads of `pool`; return a function that waits for the decoded batch and
        returns it. take: function from the index of a sample to its undecoded bytes."""
        indices = part.indices.tolist()
        images = torch.empty((len(indices), *self.shape), dtype=torch.uint8, pin_memory=device.type == "cuda")
        masks = torch.full((len(indices), *self.shape[1:]), IGNORE, dtype=torch.uint8) if self.palette else None
        # Threads write through NumPy views: torch.inference_mode is set per thread, and forbids writing to the tensor.
        pixels, classes = images.numpy(), None if masks is None else masks.numpy()

        def decode(rows: range) -> None:
            for row in rows:
                mask = None if classes is None else classes[row]
                self.decode(indices[row], take(indices[row]), pixels[row], mask)

        count = processors()
        tasks = [pool.submit(decode, range(first, len(indices), count)) for first in range(min(count, len(indices)))]

        def finish() -> Batch:
            for task in tasks:
                task.result()
            labels = masks
            if self.labels is not None:
                labels = torch.from_numpy(self.labels).index_select(0, part.indices)
            batch = to_device(images, labels, part.indices, epoch, device)
            return replace(batch, global_samples=part.global_samples, start=part.start, overlap=part.overlap)

        return finish

    def decode(self, index: int, content: bytes, image: np.ndarray, mask: np.ndarray | None) -> None:
        """Decode a sample into the arrays `image` [3, H, W] and `mask` [H, W]. Raises SightlineError if the sizes of
        image and mask differ."""
        members, side = self.shards.members(index, content), self.square.side if self.square else 0
        decoded = self.shards.image(index, members, side)
        square = self.square if self.shape == (3, side, side) else None
        pixels = square.of(decoded) if square else planes(decoded)
        height, width = self.shape[1:] if square else self.shards.sizes[index]
        if pixels.shape[1:] != (height, width):
            why = f"its image has {pixels.shape[2]} x {pixels.shape[1]} pixels instead of {width} x {height}"
            raise damaged("shard", self.shards.where(index, members), why)
        image[:, :height, :width] = pixels
        if mask is not None:
            assert self.palette is not None
            image[:, height:], image[:, :, width:] = 0, 0
            indices = self.shards.mask(index, members, self.palette)
            if indices.shape != (height, width):
                raise damaged("shard", self.shards.where(index, members), "its mask has another size than its image")
            mask[:height, :width] = indices

    def mask(self, index: int) -> np.ndarray:
        """Decode the mask of the sample `index` to class indices uint8 [h, w], without padding."""
        assert self.palette is not None
        members = self.shards.members(index, self.shards.read([index])[index])
        return self.shards.mask(index, members, self.palette)

    def gather(self, indices: torch.Tensor, epoch: int, device: torch.device) -> Batch:
        """Decode the samples at `indices` int64 [N] into a batch on `device`; for use outside of an epoch."""
        unique = np.unique(indices)
        samples = self.shards.read(unique[np.argsort(self.shards.owners[unique], kind="stable")].tolist())
        with ThreadPoolExecutor(1) as pool:
            return self.decode_batch(BatchPart(indices), samples.__getitem__, epoch, device, pool)()


class StreamedArray:
    """Array-like view of the images or masks of a stream: indexing decodes samples. shape: as of an array."""

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
    """Open the images of a split in shards, without decoding them yet: each batch is decoded when it is needed.

    side: images are resized to side x side pixels, unless all have one size that fits into it. For images that are not
    in shards, `image_cache.decode` decodes all of them before training instead.
    """
    items = source.splits[split]
    shards: Shards = items.shards
    square, sizes = Square.of_settings(data, side), shards.sizes
    alike = square.plain and (sizes == sizes[0]).all() and 0 < sizes[0].max() <= side
    height, width = sizes[0].tolist() if alike else (side, side)
    stream = Stream(shards, items.labels, (3, height, width), square, None, data)
    images = StreamedArray(stream, (len(items.names), 3, height, width))
    size = int(np.prod(images.shape))
    digest = stream_digest(shards, source.classes, items.labels)
    return Decoded(
        cast(Any, images), items.labels, items.names, source.classes, digest, size, groups=items.groups, stream=stream
    )


def stream_pairs(source: Source, split: str, palette: Palette, data: Data) -> Decoded:
    """Open the image-mask pairs of a split in shards, without decoding them yet: each batch is decoded when it is
    needed.

    Images and masks are not resized; each batch is padded to the largest height and width in the split. For pairs that
    are not in shards, `pair_cache.decode_pairs` decodes all of them before training instead.
    """
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
    """SHA-256 that identifies a split in shards: of the shards' checksums, the names, the labels and the classes."""
    digests = [entry.sha256 for entry in shards.entries]
    return key_of([digests, shards.names, None if labels is None else labels.tolist(), classes])


def sampled(decoded: Decoded, count: int, seed: int) -> np.ndarray:
    """Choose `count` images of a split; return their indices, sorted. The choice is random by `seed`. For a stream,
    the first images in stored order are chosen, because random images would require reading all shards."""
    if decoded.stream is None:
        return sample_rows(len(decoded.names), count, seed)
    return np.sort(decoded.stream.shards.order[:count])


def reject_remote_stream(decoded: Decoded, what: str, where: str, cure: str) -> None:
    """Raise SightlineError if the shards are on a server, for a feature that reads all training images before the
    first step. what: the feature, a plural noun for the message. where: the setting that switches it on."""
    if decoded.stream is not None and decoded.stream.shards.store.remote:
        why = "this setting reads all images before the first training step, but the shards are on a server"
        raise SightlineError(f"{what} are not available with shards on a server", where=where, why=why, cure=cure)
