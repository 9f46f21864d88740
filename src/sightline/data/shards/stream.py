"""Training batches read from shards, in place of the decoded cache.

The order of an epoch is a function of (seed, epoch) and the index. Shards are permuted and taken GROUP at a time, and
their samples are interleaved; stretches of half of `data.stream_mb` of this sequence are then permuted sample by
sample. A resumed run reads only the samples of the remaining batches.

Memory holds two chunks of undecoded samples (one in use, one being read) of about half of `data.stream_mb` each, and
AHEAD + 1 decoded batches.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from ...config.schema import Data
from ..decode.images import Square, planes
from ..decode.palettes import IGNORE, Palette
from ..loader import WHOLE, BatchPart, batch_parts, to_device
from ..parallel import Share, permutation, processors, submit_ahead
from ..shard_format import BAD_SHARD, damaged
from ..types import Batch
from .index import Shards

GROUP = 4
"""Shards that are interleaved: a batch has samples of all of them."""
AHEAD = 3
"""Batches that are decoded in advance."""
ORDER, WITHIN = 1, 2
"""Separate the random numbers for shards, and for samples within a stretch, from each other and from the cache's."""


def epoch_rows(firsts: np.ndarray, nbytes: np.ndarray, most: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: numbers of samples in stored order, int64 [N].

    firsts: int64 [S + 1], number of samples before each shard. nbytes: int64 [N], bytes of each sample in stored order.
    most: bytes of a stretch, exceeded by its last sample only.
    """
    shards, parts, start = permutation(len(firsts) - 1, seed, epoch, ORDER), [], 0
    for group in range(0, len(shards), GROUP):
        rows = [np.arange(firsts[shard], firsts[shard + 1]) for shard in shards[group : group + GROUP]]
        fractions = np.concatenate([(np.arange(len(some)) + 0.5) / max(len(some), 1) for some in rows])
        merged = np.concatenate(rows)[np.argsort(fractions, kind="stable")]
        before = np.cumsum(nbytes[merged]) - nbytes[merged]
        for part in np.split(merged, np.flatnonzero(np.diff(before // most)) + 1):
            parts.append(part[permutation(len(part), seed, epoch, WITHIN, start)])
            start += len(part)
    return np.concatenate(parts)


@dataclass(frozen=True)
class Stream:
    """A split that is decoded during training. shape: (3, H, W) of its images in a batch. square: how images are
    resized; None for pairs, which keep their size. palette: of the masks of pairs."""

    shards: Shards
    labels: np.ndarray | None
    shape: tuple[int, int, int]
    square: Square | None
    palette: Palette | None
    data: Data

    @property
    def most(self) -> int:
        """Bytes of a stretch, and of a chunk that is read at once."""
        return max(1, self.data.stream_mb * 1_000_000 // 2)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order of an epoch: indices in the split, int64 [N]."""
        shards, stored = self.shards, self.shards.order
        nbytes = (shards.ends - shards.starts)[stored]
        return stored[epoch_rows(shards.firsts, nbytes, self.most, seed, epoch)]

    def batches(
        self,
        batch_size: int,
        seed: int,
        epoch: int,
        first_batch: int = 0,
        device: torch.device | str = "cpu",
        share: Share = WHOLE,
        lead: bool = False,
    ) -> Iterator[Batch]:
        """The batches of one epoch from number `first_batch` on, like `loader.training_batches`.

        Raises SightlineError that names an unreadable shard or sample, with status ENVIRONMENT for a failing server.
        """
        order = torch.from_numpy(self.order(seed, epoch))
        chunks = self.chunks(batch_parts(order, batch_size, first_batch, share, lead))
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
        """Batches that are read at once: as many as have `most` bytes."""
        chunk, size = [], 0
        for part in parts:
            chunk.append(part)
            size += int((self.shards.ends[part.indices] - self.shards.starts[part.indices]).sum())
            if size >= self.most:
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
        """The undecoded samples of a chunk; the next GROUP shards of the epoch's sequence are fetched meanwhile."""
        shards, ranks = self.shards, np.argsort(sequence)
        indices = np.unique(np.concatenate([part.indices for part in chunk]))
        stored = np.lexsort((shards.starts[indices], ranks[shards.owners[indices]]))

        def wait_for(shard: int) -> None:
            for number in sequence[ranks[shard] :][: GROUP + 1].tolist():
                if number not in fetched:
                    fetched[number] = fetchers.submit(shards.store.prefetch, shards.entries[number])
            fetched[shard].result()

        return shards.read(indices[stored].tolist(), wait_for)

    def decode_batch(
        self,
        part: BatchPart,
        take: Callable[[int], bytes],
        epoch: int,
        device: torch.device,
        pool: ThreadPoolExecutor,
    ) -> Callable[[], Batch]:
        """Start to decode a batch; the returned function waits for it. take: the undecoded sample of an index."""
        indices = part.indices.tolist()
        images = torch.empty((len(indices), *self.shape), dtype=torch.uint8, pin_memory=device.type == "cuda")
        masks = torch.full((len(indices), *self.shape[1:]), IGNORE, dtype=torch.uint8) if self.palette else None
        # Threads write through NumPy: under torch.inference_mode, which is per thread, they may not change a tensor.
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
            return replace(batch, whole=part.whole, start=part.start, lead=part.lead)

        return finish

    def decode(self, index: int, content: bytes, image: np.ndarray, mask: np.ndarray | None) -> None:
        """Write the pixels of a sample into image [3, H, W] and, of a pair, its mask into mask [H, W]."""
        members, side = self.shards.members(index, content), self.square.side if self.square else 0
        decoded = self.shards.image(index, members, side)
        square = self.square if self.shape == (3, side, side) else None
        pixels = square.of(decoded) if square else planes(decoded)
        height, width = self.shape[1:] if square else self.shards.sizes[index]
        if pixels.shape[1:] != (height, width):
            why = f"its image has {pixels.shape[2]} x {pixels.shape[1]} pixels instead of {width} x {height}"
            raise damaged(BAD_SHARD, self.shards.where(index, members), why)
        image[:, :height, :width] = pixels
        if mask is not None:
            assert self.palette is not None
            image[:, height:], image[:, :, width:] = 0, 0
            indices = self.shards.mask(index, members, self.palette)
            if indices.shape != (height, width):
                raise damaged(BAD_SHARD, self.shards.where(index, members), "its mask has another size than its image")
            mask[:height, :width] = indices

    def mask(self, index: int) -> np.ndarray:
        """One mask, uint8 [h, w], without its image."""
        assert self.palette is not None
        members = self.shards.members(index, self.shards.read([index])[index])
        return self.shards.mask(index, members, self.palette)

    def gather(self, indices: torch.Tensor, epoch: int, device: torch.device) -> Batch:
        """The samples at `indices` int64 [N], like `loader.gather`; for single looks outside of an epoch."""
        unique = np.unique(indices)
        samples = self.shards.read(unique[np.argsort(self.shards.owners[unique], kind="stable")].tolist())
        with ThreadPoolExecutor(1) as pool:
            return self.decode_batch(BatchPart(indices), samples.__getitem__, epoch, device, pool)()
