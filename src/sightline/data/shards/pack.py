"""`sightline pack`: write a data set as WebDataset shards, for sets that are larger than the local disk."""

import hashlib
import io
import json
import os
import re
import shlex
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ...config.resolve import resolve
from ...config.schema import Config, Data
from ...errors import SightlineError, counted, printable, some_of
from ...runs.atomic import atomic_path, atomic_write, remove, sha256, write_json
from ...runs.lock import lock_run
from ...runs.run_folder import require_outside_data
from ...runs.terminal import print_plain
from ..decode.palettes import to_dict
from ..image_cache import check_skipped, refuse_bad
from ..parallel import permutation, processors, submit_ahead
from ..shard_format import INDEX, SPLITS, ShardEntry, ShardIndex, SplitEntry, parse_index, table_bytes
from ..sources.kind import is_segmentation
from ..sources.leakage import without_leaks
from ..sources.open import open_source
from ..sources.pair_facts import refuse_faults, with_file_names
from ..sources.pairs import open_pairs
from .index import is_sharded
from .pack_samples import QUALITY, PackedSample, PackJob, read_sample, sample_table

WRITTEN = re.compile(r"(train|val|test)-\d{6}\.(tar|npz)|index\.json")
"""Names of the files of a packed set."""


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
    """Write `data` as shuffled WebDataset tar files with index.json into the folder `out`; returns that folder.

    shard_mb: megabytes of a shard. resize: images whose shorter side is longer are scaled down to it once, to JPEG of
    quality 95 (masks by nearest neighbor, to PNG); all others stay byte for byte. seed: of the order of the samples.
    settings: `data.*`, as of `train`. The same data and options give the same bytes. An interrupted packing continues
    when it is started again. Raises SightlineError for data that `train` would reject.
    """
    say = (lambda text: None) if quiet else print_plain
    config = resolve(Config(), settings | {"data.path": os.fspath(data)}).data
    folder = Path(os.path.abspath(os.path.expanduser(out)))
    check_options(config, shard_mb, resize)
    require_outside_data(folder, config.path)
    palette = None
    if is_segmentation(config):
        source, palette = open_pairs(config, config.split_seed)
    else:
        source = open_source(config, config.split_seed)
    for note in source.notes:
        say(note)
    source = without_leaks(source, config, say)
    job = PackJob(source, palette, config, folder, round(shard_mb * 1e6), resize, seed, say)
    with lock_run(folder) as note:
        if note:
            say(note)
        index = start_or_continue(job, overwrite)
        if index.finished:
            say(f"{folder} is packed already")
            return folder
        for split in source.splits:
            pack_split(job, split, index)
        index.finished = True
        write_json(folder / INDEX, index.model_dump())
    shards = [shard for part in index.splits.values() for shard in part.shards]
    size = sum(shard.bytes for shard in shards) / 1e6
    say(f"packed into {counted(len(shards), 'shard')}, {size:,.1f} MB: --data {shlex.quote(str(folder))}")
    return folder


def check_options(data: Data, shard_mb: float, resize: int) -> None:
    """SightlineError for invalid options, and for data that are packed already."""
    if is_sharded(data):
        cure = "train on them directly, or unpack them first: tar xf FILE"
        raise SightlineError("these data are shards already", where=data.path, cure=cure)
    if shard_mb <= 0 or resize < 0:
        where, cure = f"--shard-mb {shard_mb} --resize {resize}", "--shard-mb 256 --resize 512"
        raise SightlineError("invalid option", where=where, cure=cure)


def new_index(job: PackJob) -> ShardIndex:
    """The index before the first shard, with all options and a fingerprint of the data."""
    parts = job.source.splits
    files = {s: [i.names, i.stamps, None if i.labels is None else i.labels.tolist()] for s, i in parts.items()}
    palette = None if job.palette is None else to_dict(job.palette)
    content = json.dumps([files, job.source.classes, palette]).encode("ascii")
    options = {"shard_mb": job.shard_bytes / 1e6, "resize": job.resize, "quality": QUALITY, "seed": job.seed}
    return ShardIndex(
        classes=list(job.source.classes),
        palette=palette,
        options=options | {"on_bad_image": job.data.on_bad_image, "max_pixels": job.data.max_pixels},
        data=hashlib.sha256(content).hexdigest(),
        splits={split: SplitEntry(masks=items.read_mask is not None) for split, items in parts.items()},
        finished=False,
    )


def start_or_continue(job: PackJob, overwrite: bool) -> ShardIndex:
    """The index that an earlier packing of the same data with the same options left, else a new one in an empty folder.

    SightlineError for another data set there without `overwrite`, and for files that are not of a packed set.
    """
    index, path = new_index(job), job.out / INDEX
    names = [name for name in sorted(os.listdir(job.out)) if not name.startswith(".")]
    foreign = [name for name in names if not WRITTEN.fullmatch(name)]
    if foreign:
        why, cure = f"it contains {foreign[0]!r}", "choose another OUT"
        raise SightlineError("this folder is not empty", where=str(job.out), why=why, cure=cure)
    if names and not overwrite:
        try:
            earlier = parse_index(path.read_bytes(), str(path))
            changed = [name for name in ("options", "data") if getattr(earlier, name) != getattr(index, name)]
        except (OSError, SightlineError):
            earlier, changed = index, [INDEX]
        if not changed:
            return earlier
        why, cure = f"different: {', '.join(changed)}", "--overwrite replaces it; or choose another OUT"
        raise SightlineError("this folder contains another packed set", where=str(job.out), why=why, cure=cure)
    remove(job.out / name for name in names)
    write_json(path, index.model_dump())
    return index


def pack_split(job: PackJob, split: str, index: ShardIndex) -> None:
    """Write the missing shards of a split. SightlineError that lists all unreadable images."""
    part = index.splits[split]
    if part.position:
        job.say(f"{split}: continuing after {counted(len(part.shards), 'shard')}")
    samples = usable_samples(job, split, part)
    for first in samples:
        write_shard(job, split, part, chain([first], samples))
        write_json(job.out / INDEX, index.model_dump())


def usable_samples(job: PackJob, split: str, part: SplitEntry) -> Iterator[PackedSample]:
    """The samples from `part.position` on, read in threads. What is left out is recorded in `part`.

    After an error that prevents packing the remaining samples are read only, so that one SightlineError lists all; the
    files of the unfinished set are then removed.
    """
    items, faults = job.source.splits[split], []
    order = permutation(len(items.names), job.seed, SPLITS.index(split))
    with ThreadPoolExecutor(processors()) as pool:
        reading = submit_ahead(
            pool, partial(read_sample, job, split), order[part.position :].tolist(), 4 * processors()
        )
        for place, future in reading:
            part.position += 1
            try:
                sample = future.result()
            except SightlineError as error:
                if job.palette is not None:
                    faults.append(with_file_names(error, items, place))
                else:
                    part.bad[str(place)] = printable(f"{items.names[place]}: {error.why or error.what}")
                continue
            if sample.empty:
                part.ignored.append(printable(items.names[place]))
            elif not faults and (not part.bad or job.data.on_bad_image == "skip"):
                yield sample
    try:
        if faults:
            refuse_faults(job.source.path, split, faults, len(items.names))
        refuse_bad(part.bad, items, job.source, split, job.data)
        if part.bad:
            check_skipped({int(place): why for place, why in part.bad.items()}, items, job.source, job.say)
        if len(part.ignored) == len(items.names):
            cure = "check the palette"
            raise SightlineError(f"no pixel of {split} is labeled", where=job.source.path, cure=cure)
    except SightlineError:
        remove(job.out / name for name in os.listdir(job.out) if WRITTEN.fullmatch(name))
        raise
    if part.ignored:
        job.say(f"left out {len(part.ignored):,} masks of {split} with ignored pixels only: {some_of(part.ignored)}")


def write_shard(job: PackJob, split: str, part: SplitEntry, samples: Iterator[PackedSample]) -> None:
    """Write samples into one shard until it is full, then its sample table, and add it to `part`."""
    stem, rows, spans = f"{split}-{len(part.shards):06d}", [], []
    with atomic_path(job.out / f"{stem}.tar") as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for sample in samples:
                start = archive.offset
                for ending, content in sample.members.items():
                    info = tarfile.TarInfo(f"{len(rows):06d}.{ending}")
                    info.size, info.mode = len(content), 0o644
                    archive.addfile(info, io.BytesIO(content))
                rows.append(sample._replace(members={}))
                spans.append((start, archive.offset))
                if archive.offset >= job.shard_bytes:
                    break
        digest, size = sha256(temporary), temporary.stat().st_size
    table = table_bytes(sample_table(job.source.splits[split], rows, np.array(spans, np.int64)))
    atomic_write(job.out / f"{stem}.npz", table)
    sums = {"sha256": digest, "table_sha256": hashlib.sha256(table).hexdigest()}
    part.shards.append(ShardEntry(file=f"{stem}.tar", samples=len(rows), bytes=size, **sums))
    part.samples += len(rows)
    total = len(job.source.splits[split].names)
    job.say(f"{stem}.tar: {len(rows):,} samples, {size / 1e6:,.1f} MB; {part.position:,} of {total:,}")
