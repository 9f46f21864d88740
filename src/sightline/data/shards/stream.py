"""Training images out of shards, in place of the decoded cache: read in runs, mixed, decoded ahead, batch by batch.

The order of an epoch is a function of (seed, epoch) and of the index: shards are permuted and taken GROUP at a time,
their samples interleaved; of that sequence, stretches of half of `data.stream_mb` are each permuted whole. So every
position can be found without reading what lies before it, and a resumed run seeks to where it was.

In memory lie at most `data.stream_mb` of undecoded samples (one stretch that is used and one that is read meanwhile)
and AHEAD + 1 decoded batches. Of a set on a server the shards of two groups lie on the disk.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from ...config.schema import Data
from ...errors import SightlineError
from ...inference.sharded_predict import Share
from ..decode.images import Square, planes
from ..decode.masks import MaskFacts
from ..decode.palettes import IGNORE, Palette
from ..loader import WHOLE, Batch, part_of, steps_per_epoch, to_device
from .index import Shards, damaged, image_of, mask_of, samples_in, unreadable

GROUP = 4
"""Shards that are read side by side: a batch has samples of all of them."""
AHEAD = 3
"""Batches that are decoded before they are asked for."""
ORDER, WITHIN = 1, 2
"""Tell the random numbers of shards, and of samples within a stretch, from each other and from the cache's order."""


class Stretch(NamedTuple):
    """Neighbors in the order of an epoch. start: their first position. rows: int64 [n], the samples in their order."""

    start: int
    rows: np.ndarray


class Sample(NamedTuple):
    """One sample, not decoded yet: its row and its members."""

    row: int
    members: dict[str, Any]


def permutation(count: int, seed: int, *numbers: int) -> np.ndarray:
    """A permutation int64 [count] that the numbers choose; as `loader.epoch_order`."""
    keys = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=numbers)).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64)


def stretches(
    firsts: np.ndarray, nbytes: np.ndarray, most: int, seed: int, epoch: int, position: int = 0
) -> Iterator[Stretch]:
    """The order of an epoch from the stretch that holds `position` on.

    firsts: int64 [S + 1], the row of each shard's first sample. nbytes: int64 [N], the size of each sample. most: the
    bytes of a stretch, which only its last sample exceeds.
    """
    order, start = permutation(len(firsts) - 1, seed, epoch, ORDER), 0
    for group in range(0, len(order), GROUP):
        shards = order[group : group + GROUP]
        rows = [np.arange(firsts[shard], firsts[shard + 1]) for shard in shards]
        count = sum(map(len, rows))
        if start + count <= position:
            start += count
            continue
        shares = np.concatenate([(np.arange(len(some)) + 0.5) / max(len(some), 1) for some in rows])
        merged = np.concatenate(rows)[np.argsort(shares, kind="stable")]
        before = np.cumsum(nbytes[merged]) - nbytes[merged]
        cuts = np.flatnonzero(np.diff(before // most)) + 1
        for part in np.split(merged, cuts):
            if start + len(part) > position and len(part):
                yield Stretch(start, part[permutation(len(part), seed, epoch, WITHIN, start)])
            start += len(part)


def epoch_rows(shards: Shards, most: int, seed: int, epoch: int) -> np.ndarray:
    """The whole order of an epoch: rows int64 [N]."""
    parts = stretches(shards.firsts, shards.ends - shards.starts, most, seed, epoch)
    return np.concatenate([part.rows for part in parts])


def wanted(
    positions: np.ndarray, total: int, batch_size: int, first_batch: int, share: Share = WHOLE, lead: bool = False
) -> np.ndarray:
    """Which positions of an epoch a process reads from its batch `first_batch` on: bool, as `positions`.

    Those of its part of each batch and, with `lead`, the one before them, as in `loader.training_batches`.
    """
    step, place = positions // batch_size, positions % batch_size
    counts = np.minimum(batch_size, total - step * batch_size)
    starts, stops = share.rank * counts // share.world, (share.rank + 1) * counts // share.world
    mine = (counts < share.world) | ((place >= starts) & (place < stops))
    if lead:
        mine |= place == (starts - 1) % counts
    return mine & (step >= first_batch) & (step < steps_per_epoch(total, batch_size))


@dataclass(frozen=True)
class Stream:
    """A split that is decoded while it is trained on. shape: (3, H, W) of its images in a batch. square: how they get
    it; None for pairs, which keep their size. palette: that of the masks of pairs."""

    shards: Shards
    labels: np.ndarray | None
    shape: tuple[int, int, int]
    square: Square | None
    palette: Palette | None
    data: Data

    @property
    def most(self) -> int:
        """The bytes of a stretch."""
        return max(1, self.data.stream_mb * 1_000_000 // 2)

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
        """The batches of one epoch from number `first_batch` on, as `loader.training_batches` gives them.

        Raises SightlineError for a shard or sample that cannot be read (it is named), and with status ENVIRONMENT for
        a server that is gone.
        """
        total = len(self.shards.rows)
        keep = {"total": total, "batch_size": batch_size, "first_batch": first_batch, "share": share, "lead": lead}
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        decoders, readers = ThreadPoolExecutor(workers), ThreadPoolExecutor(GROUP + 1)
        queue: deque[Callable[[], Batch]] = deque()
        samples, order = self.samples(seed, epoch, keep, readers), self.order(seed, epoch, first_batch * batch_size)
        try:
            for step in range(first_batch, steps_per_epoch(total, batch_size)):
                count = min(batch_size, total - step * batch_size)
                whole = self.shards.places[list(islice(order, count))]
                every = share == WHOLE or count < share.world  # of so few samples each process takes all
                start, stop = (0, count) if every else part_of(count, share)
                front = lead and not every
                try:
                    chosen = [next(samples) for _ in range(stop - start + front)]
                except SightlineError:  # what is on its way already is trained on first
                    while queue:
                        yield queue.popleft()()
                    raise
                if front and start == 0:  # the last sample of all comes before the first
                    chosen = [chosen[-1], *chosen[:-1]]
                place = {} if every else {"whole": torch.from_numpy(whole), "start": start, "lead": int(front)}
                queue.append(self.decoded(chosen, epoch, torch.device(device), decoders, workers, place))
                if len(queue) > AHEAD:
                    yield queue.popleft()()
            while queue:
                yield queue.popleft()()
        finally:
            decoders.shutdown(wait=True, cancel_futures=True)
            samples.close()
            readers.shutdown(wait=True, cancel_futures=True)

    def order(self, seed: int, epoch: int, position: int) -> Iterator[int]:
        """The rows of an epoch in their order, from `position` on."""
        nbytes = self.shards.ends - self.shards.starts
        for stretch in stretches(self.shards.firsts, nbytes, self.most, seed, epoch, position):
            yield from stretch.rows[max(0, position - stretch.start) :].tolist()

    def samples(
        self, seed: int, epoch: int, keep: dict[str, Any], readers: ThreadPoolExecutor
    ) -> Generator[Sample, None, None]:
        """This process's samples in the order of the epoch, not decoded; the next stretch is read meanwhile."""
        shards = self.shards
        nbytes = shards.ends - shards.starts
        first = keep["first_batch"] * keep["batch_size"]
        plan = stretches(shards.firsts, nbytes, self.most, seed, epoch, first)
        loans = Loans(shards, permutation(len(shards.files), seed, epoch, ORDER), readers)

        def read_next() -> Future[list[Sample]] | None:
            for stretch in plan:
                positions = np.arange(stretch.start, stretch.start + len(stretch.rows))
                rows = stretch.rows[wanted(positions, **keep)]
                if len(rows):
                    return readers.submit(self.read, rows, loans)
            return None

        try:
            coming = read_next()
            while coming is not None:
                ready, coming = coming.result(), read_next()
                ready.reverse()
                while ready:  # each sample is let go of once it is handed over
                    yield ready.pop()
        finally:
            loans.close()

    def read(self, rows: np.ndarray, loans: "Loans") -> list[Sample]:
        """The samples of these rows: from each shard one run of bytes, of which others are dropped at once."""
        shards, found = self.shards, {}
        owners = np.searchsorted(shards.firsts, rows, side="right") - 1
        for shard in np.unique(owners).tolist():
            mine = np.sort(rows[owners == shard])
            low, high = int(mine[0]), int(mine[-1])
            chosen, where = set(mine.tolist()), shards.files[shard].location
            try:
                with open(loans.path(shard), "rb") as file:
                    file.seek(shards.starts[low])
                    run = samples_in(cast(Any, Limited(file, int(shards.ends[high] - shards.starts[low]))), where)
                    found |= {row: members for row, members in enumerate(run, low) if row in chosen}
            except OSError as error:
                raise unreadable(where, error) from error
            if len(chosen - found.keys()):
                raise damaged(where, "it has fewer samples than the index says")
            for row in chosen:
                shards.check_key(row, found[row]["__key__"])
        return [Sample(row, found[row]) for row in rows.tolist()]

    def decoded(
        self,
        samples: list[Sample],
        epoch: int,
        device: torch.device,
        pool: ThreadPoolExecutor,
        workers: int,
        place: Mapping[str, Any] = MappingProxyType({}),
    ) -> Callable[[], Batch]:
        """Begin to decode a batch; what is returned waits for it. place: of a part of one, which it is."""
        pinned = device.type == "cuda"
        images = torch.empty((len(samples), *self.shape), dtype=torch.uint8, pin_memory=pinned)
        masks = torch.full((len(samples), *self.shape[1:]), IGNORE, dtype=torch.uint8) if self.palette else None
        places = torch.from_numpy(self.shards.places[[sample.row for sample in samples]])
        # Threads write through NumPy: under torch.inference_mode, which is of a thread, they may not change a tensor.
        pixels, indices = images.numpy(), None if masks is None else masks.numpy()

        def decode(first: int) -> None:
            for place in range(first, len(samples), workers):
                self.decode(samples[place], pixels[place], None if indices is None else indices[place])

        tasks = [pool.submit(decode, first) for first in range(min(workers, len(samples)))]

        def finished() -> Batch:
            for task in tasks:
                task.result()
            labels = masks
            if labels is None and self.labels is not None:
                labels = torch.from_numpy(self.labels).index_select(0, places)
            return replace(to_device(images, labels, places, epoch, device), **place)

        return finished

    def decode(self, sample: Sample, image: np.ndarray, mask: np.ndarray | None) -> None:
        """Pixels of a sample into image [3, H, W] and, of pairs, its mask into mask [H, W]."""
        where, limit = self.shards.called(sample.row, sample.members["__key__"]), self.data.max_pixels
        side = self.square.side if self.square else 0
        picture = image_of(sample.members, where, limit, side)
        fitted = self.square is not None and self.shape == (3, side, side)
        pixels = self.square.of(picture) if self.square is not None and fitted else planes(picture)
        height, width = self.shards.sizes[self.shards.places[sample.row]] if not fitted else self.shape[1:]
        if pixels.shape[1:] != (height, width):
            raise damaged(where, f"its image has {pixels.shape[2]} x {pixels.shape[1]} pixels, not {width} x {height}")
        image[:, :height, :width] = pixels
        if mask is not None:
            assert self.palette is not None
            image[:, height:], image[:, :, width:] = 0, 0
            indices = mask_of(sample.members, where, self.palette, limit, MaskFacts())
            if indices.shape != (height, width):
                raise damaged(where, "its mask has another size than its image")
            mask[:height, :width] = indices

    def mask(self, place: int) -> np.ndarray:
        """The mask at a place, uint8 [h, w]; its image is not decoded."""
        assert self.palette is not None
        row = int(self.shards.rows[place])
        sample = self.shards.sample(row)
        return mask_of(sample, self.shards.called(row, sample["__key__"]), self.palette, self.data.max_pixels)

    def gather(self, places: torch.Tensor, epoch: int, device: torch.device) -> Batch:
        """The samples at `places` int64 [N], as `loader.gather`; shard by shard, for a look outside of an epoch."""
        shards = self.shards
        rows = shards.rows[places.numpy()]
        found: dict[int, Sample] = {}
        for shard in np.unique(np.searchsorted(shards.firsts, rows, side="right") - 1).tolist():
            mine = np.unique(rows[(rows >= shards.firsts[shard]) & (rows < shards.firsts[shard + 1])])
            with shards.store.lent(shards.files[shard]):  # fetched once for all of its samples
                found |= {row: Sample(row, shards.sample(row, keep=False)) for row in mine.tolist()}
        with ThreadPoolExecutor(1) as pool:
            return self.decoded([found[row] for row in rows.tolist()], epoch, device, pool, 1)()


class Limited:
    """The next `left` bytes of a file as a stream."""

    def __init__(self, file: Any, left: int):
        self.file, self.left = file, left

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        content = self.file.read(min(size, self.left))
        self.left -= len(content)
        return content


class Loans:
    """The shards of an epoch in the order `order`, borrowed a group ahead and given back a group behind."""

    def __init__(self, shards: Shards, order: np.ndarray, pool: ThreadPoolExecutor):
        self.shards, self.pool = shards, pool
        self.groups = {int(shard): number // GROUP for number, shard in enumerate(order)}
        self.members = [order[start : start + GROUP].tolist() for start in range(0, len(order), GROUP)]
        self.paths: dict[int, Future[str]] = {}

    def path(self, shard: int) -> str:
        """A path of the whole, checked shard; the next group is checked, or fetched, meanwhile."""
        group = self.groups[shard]
        for old in [other for other in self.paths if self.groups[other] < group]:
            self.give_back(old)
        for near in self.members[group : group + 2]:
            for other in near:
                if other not in self.paths:
                    self.paths[other] = self.pool.submit(self.shards.store.borrow, self.shards.files[other])
        return self.paths[shard].result()

    def give_back(self, shard: int) -> None:
        """The end of one loan."""
        future = self.paths.pop(shard)
        if not future.cancel() and future.exception() is None:
            self.shards.store.give_back(self.shards.files[shard])

    def close(self) -> None:
        """The end of all."""
        for shard in list(self.paths):
            self.give_back(shard)
