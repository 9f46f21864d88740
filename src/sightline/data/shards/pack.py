"""`sightline pack`: a data set as WebDataset shards, for sets that are larger than the disk where they are used."""

import hashlib
import io
import json
import os
import re
import shlex
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...config.schema import Config, Data
from ...errors import SightlineError, counted, printable, some_of
from ...runs.atomic import atomic_path, atomic_write, read_json, remove, write_json
from ...runs.lock import lock_run
from ...runs.terminal import print_plain
from ..cache import check_skipped, refuse_bad
from ..decode.palettes import to_dict
from ..loader import epoch_order
from ..sources.leakage import without_leaks
from ..sources.open import Items, open_source
from ..sources.pair_facts import refuse_faults, with_file_names
from ..sources.pairs import open_pairs
from .index import FORMAT, INDEX, is_sharded, table_bytes, table_in
from .pack_samples import QUALITY, Job, Packed, described, sample_of, table_of

PLAN = "pack.json"
"""What an unfinished pack was begun with; by it the same command goes on, and another one is refused."""
WRITTEN = re.compile(r"(train|val|test)-\d{6}\.(tar|npz)|index\.json|pack\.json")


@dataclass
class Writing:
    """A split that is being packed. position: how many of its samples, in the order of the shards, are done. bad: the
    places of images that cannot be read -> why. left: training pairs of which no pixel counts."""

    shards: list[dict[str, Any]] = field(default_factory=list)
    position: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    faults: list[SightlineError] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def pack(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    shard_mb: float = 256,
    resize: int = 0,
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Path:
    """Write `data` as WebDataset tar files into the folder `out`, mixed, with index.json; returns that folder.

    shard_mb: megabytes of a shard. resize: pictures whose shorter side has more pixels are scaled down to it once, and
    become JPEG of quality 95 (masks by nearest neighbor and PNG); others, and all without it, stay byte for byte. seed:
    of the order in which samples lie. settings: `data.*`, as of `train`. The same data and options give the same
    bytes. The same command goes on where it was interrupted. Raises SightlineError for data that `train` would refuse.
    """
    from ...config.resolve import resolve
    from ...doctor.opened import is_segmentation
    from ...runs.run_folder import refuse_inside

    say = (lambda text: None) if quiet else print_plain
    config = resolve(Config(), settings | {"data.path": os.fspath(data)}).data
    folder = Path(os.path.abspath(os.path.expanduser(out)))
    check_options(config, shard_mb, resize)
    refuse_inside(folder, config.path)
    palette = None
    if is_segmentation(config):
        source, palette = open_pairs(config, config.split_seed)
    else:
        source = open_source(config, config.split_seed)
    for note in source.notes:
        say(note)
    source = without_leaks(source, config, say)
    job = Job(source, palette, config, folder, round(shard_mb * 1e6), resize, seed, say)
    with lock_run(folder) as note:
        if note:
            say(note)
        if not begun(job, overwrite):
            say(f"{folder} holds this set already; nothing is left to do")
            return folder
        splits = {split: pack_split(job, split) for split in source.splits}
        write_json(folder / INDEX, index_of(job, splits))
    total = sum(shard["bytes"] for split in splits.values() for shard in split.shards)
    count = sum(len(split.shards) for split in splits.values())
    say(f"packed into {counted(count, 'shard')}, {total / 1e6:,.1f} MB: --data {shlex.quote(str(folder))}")
    return folder


def check_options(data: Data, shard_mb: float, resize: int) -> None:
    """SightlineError for options that cannot be."""
    if is_sharded(data):
        cure = "train on them as they are, or unpack them first: tar xf FILE"
        raise SightlineError("these are shards already", where=data.path, cure=cure)
    if shard_mb <= 0 or resize < 0:
        raise SightlineError(
            "this option cannot be",
            where=f"--shard-mb {shard_mb} --resize {resize}",
            cure="--shard-mb 256 --resize 512",
        )


def options_of(job: Job) -> dict[str, Any]:
    """What makes one packing another than the next, beside the data."""
    options = {"shard_mb": job.shard_bytes / 1e6, "resize": job.resize, "quality": QUALITY, "seed": job.seed}
    return options | {"on_bad_image": job.data.on_bad_image, "max_pixels": job.data.max_pixels}


def plan_of(job: Job) -> dict[str, Any]:
    """Options and a fingerprint of the data by the names, sizes and times of all files."""
    splits = {
        s: [i.names, i.stamps, None if i.labels is None else i.labels.tolist()] for s, i in job.source.splits.items()
    }
    palette = None if job.palette is None else to_dict(job.palette)
    content = json.dumps([splits, job.source.classes, palette]).encode("ascii")
    return {"format": FORMAT, "options": options_of(job), "data": hashlib.sha256(content).hexdigest()}


def begun(job: Job, overwrite: bool) -> bool:
    """Whether there is something to do; the plan is then written. SightlineError where something else lies there."""
    plan, path = plan_of(job), job.out / PLAN
    before = read_json(path)
    visible = [name for name in sorted(os.listdir(job.out)) if not name.startswith(".")]
    strangers = [name for name in visible if not WRITTEN.fullmatch(name)]
    if strangers:
        why = f"it holds {strangers[0]!r}"
        raise SightlineError("this folder is not empty", where=str(job.out), why=why, cure="choose another OUT")
    if visible and before != plan:
        if not overwrite:
            named = before if isinstance(before, dict) else {}
            parts = [key for key in ("format", "options", "data") if named.get(key) != plan[key]]
            why = f"changed since it was begun: {', '.join(parts)}"
            cure = "--overwrite packs anew; or choose another OUT"
            raise SightlineError("another set is packed here", where=str(job.out), why=why, cure=cure)
        remove(job.out / name for name in visible)
    if before == plan and (job.out / INDEX).is_file() and not overwrite:
        return False
    if overwrite:
        remove(job.out / name for name in visible)
    write_json(path, plan)
    return True


def pack_split(job: Job, split: str) -> Writing:
    """All shards of a split, those that are there already and the rest. SightlineError for all bad images at once."""
    items, state = job.source.splits[split], Writing()
    resumed(job, split, state)
    if state.position:
        job.say(f"{split}: going on after {counted(len(state.shards), 'shard')}")
    order = epoch_order(job.seed, {"train": 0, "val": 1, "test": 2}[split], len(items.names)).numpy()
    samples = prepared(job, split, order[state.position :])
    while state.position < len(order):
        if may_write(job, state):
            write_shard(job, split, order, samples, state)
        else:  # the rest is only looked at, so that all that is wrong is told at once
            for place, result in samples:
                take(job, split, place, result, state)
            break
    conclude(job, split, items, state)
    return state


def may_write(job: Job, state: Writing) -> bool:
    """Whether what was met so far may be packed at all."""
    return not state.faults and (not state.bad or job.data.on_bad_image == "skip")


def conclude(job: Job, split: str, items: Items, state: Writing) -> None:
    """Say what was left out; SightlineError where that must not be, and nothing of the packing then stays."""
    try:
        if state.faults:
            refuse_faults(job.source.path, split, state.faults, len(items.names))
        refuse_bad(state.bad, items, job.source, split, job.data)
        if state.bad:
            check_skipped({int(place): why for place, why in state.bad.items()}, items, job.source, job.say)
        if not state.shards:
            raise SightlineError(f"no pixel of {split} counts", where=job.source.path, cure="check the palette")
    except SightlineError:
        remove(job.out / name for name in os.listdir(job.out) if WRITTEN.fullmatch(name))
        raise
    if state.left:
        job.say(
            f"{len(state.left):,} masks of {split} hold ignored pixels only and are left out: {some_of(state.left)}"
        )


def resumed(job: Job, split: str, state: Writing) -> None:
    """Take over the whole shards of an interrupted packing, in order."""
    while True:
        stem = f"{split}-{len(state.shards):06d}"
        try:
            table = (job.out / f"{stem}.npz").read_bytes()
            size = os.path.getsize(job.out / f"{stem}.tar")
            with np.load(io.BytesIO(table), allow_pickle=False) as arrays:
                told = json.loads(arrays["told"].tobytes())
            count = len(table_in(table, stem).names)
        except (OSError, ValueError, KeyError, SightlineError):
            return
        if size != told["bytes"]:
            return
        state.position, state.bad, state.left = told["position"], state.bad | told["bad"], state.left + told["left"]
        state.shards.append(entry_of(stem, count, size, told["sha256"], table))


def entry_of(stem: str, samples: int, size: int, digest: str, table: bytes) -> dict[str, Any]:
    """A shard in index.json."""
    known = {"file": f"{stem}.tar", "samples": samples, "bytes": size, "sha256": digest}
    return known | {"table_sha256": hashlib.sha256(table).hexdigest()}


Prepared = Iterator[tuple[int, "Packed | SightlineError"]]


def prepared(job: Job, split: str, places: np.ndarray) -> Prepared:
    """(place, the sample or what is wrong with it) in this order, read and scaled in threads, few ahead."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def one(place: int) -> Packed | SightlineError:
        try:
            return sample_of(job, split, place)
        except SightlineError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[int, Future[Packed | SightlineError]]] = deque()
        for place in places.tolist():
            ahead.append((place, pool.submit(one, place)))
            if len(ahead) > 4 * workers:
                first, future = ahead.popleft()
                yield first, future.result()
        for place, future in ahead:
            yield place, future.result()


class Sink:
    """A file that is written from its beginning on, with its SHA-256."""

    def __init__(self, file: IO[bytes]):
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        """Add bytes."""
        self.digest.update(content)
        self.size += len(content)
        return self.file.write(content)

    def tell(self) -> int:
        """How many bytes were written."""
        return self.size


def write_shard(job: Job, split: str, order: np.ndarray, samples: Prepared, state: Writing) -> None:
    """One shard and its table, which comes last: a shard without one is made anew."""
    stem = f"{split}-{len(state.shards):06d}"
    items, rows = job.source.splits[split], []
    known = len(state.bad), len(state.left)
    path = job.out / f"{stem}.tar"
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        sink = Sink(file)
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:  # ty: ignore
            for place, result in samples:
                state.position += 1
                packed = take(job, split, place, result, state)
                if packed is not None:
                    start = archive.offset
                    add(archive, f"{len(rows):06d}", packed.members | described(job, items, place, packed))
                    rows.append((start, archive.offset, place, packed.size, packed.counts))
                if archive.offset >= job.shard_bytes or not may_write(job, state):
                    break
    if not rows or not may_write(job, state):  # in the second case nothing of this packing stays
        path.unlink()
        return
    digest = sink.digest.hexdigest()
    told = {"position": state.position, "bytes": sink.size, "sha256": digest, "left": state.left[known[1] :]}
    told["bad"] = dict(list(state.bad.items())[known[0] :])
    table = table_bytes(table_of(items, rows), json.dumps(told))
    atomic_write(job.out / f"{stem}.npz", table)
    state.shards.append(entry_of(stem, len(rows), sink.size, digest, table))
    job.say(f"{stem}.tar: {len(rows):,} samples, {sink.size / 1e6:,.1f} MB; {state.position:,} of {len(order):,}")


def take(job: Job, split: str, place: int, result: Packed | SightlineError, state: Writing) -> Packed | None:
    """A sample to be written; None, and noted in `state`, for one that is not."""
    items = job.source.splits[split]
    if isinstance(result, SightlineError):
        if job.palette is not None:
            state.faults.append(with_file_names(result, items, place))
        else:
            state.bad[str(place)] = printable(f"{items.names[place]}: {result.why or result.what}")
        return None
    if result.empty:
        state.left.append(items.names[place])
        return None
    return result


def add(archive: tarfile.TarFile, key: str, members: dict[str, bytes]) -> None:
    """The members of a sample, with nothing in their heads that another time or machine would change."""
    for ending, content in members.items():
        info = tarfile.TarInfo(f"{key}.{ending}")
        info.size, info.mode = len(content), 0o644
        archive.addfile(info, io.BytesIO(content))


def index_of(job: Job, splits: dict[str, Writing]) -> dict[str, Any]:
    """index.json: everything that is needed to read the shards, and nothing of when and where they were made."""
    parts = {
        split: {
            "samples": sum(shard["samples"] for shard in state.shards),
            "masks": job.source.splits[split].read_mask is not None,
            "shards": state.shards,
        }
        for split, state in splits.items()
    }
    palette = None if job.palette is None else to_dict(job.palette)
    known = {"format": FORMAT, "classes": list(job.source.classes), "palette": palette}
    return known | {"options": options_of(job), "splits": parts}
