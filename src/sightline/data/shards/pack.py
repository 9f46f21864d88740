"""`sightline pack`: write a data set as WebDataset shards, for data that are larger than the local disk."""

import hashlib
import io
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
from ..cache import key_of
from ..decode.palettes import to_dict
from ..image_cache import check_unreadable
from ..parallel import permutation, processors, submit_ahead
from ..shard_format import INDEX, SPLITS, ShardEntry, ShardIndex, SplitEntry, parse_index, table_bytes
from ..sources.leakage import reject_leaks
from ..sources.open import open_source
from ..sources.pair_facts import reject_pairs, with_file_names
from ..sources.pairs import is_segmentation, open_pairs
from .index import is_sharded
from .pack_samples import QUALITY, PackedSample, PackJob, read_sample, sample_table

WRITTEN = re.compile(r"(train|val|test)-\d{6}\.(tar|npz)|index\.json")
"""Pattern of the names of the files that `sightline pack` writes."""


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

    shard_mb: megabytes per shard. resize: images with a larger shorter side are scaled down to this, as JPEG of quality
    95 (masks as PNG, by nearest neighbor); other files are not changed. seed: for the order of the samples. settings:
    `data.*`, as in `train`.

    The output is deterministic. After an interruption, the same call continues. Raises SightlineError for data that
    `train` would reject.
    """
    announce = (lambda text: None) if quiet else print_plain
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
        announce(note)
    if not source.channels.ordinary:
        what, cure = "shards hold 8-bit images only", "train on the images themselves: --data FOLDER"
        raise SightlineError(what, where=source.path, why="these have more bits or other channels", cure=cure)
    source = reject_leaks(source, config, announce)
    job = PackJob(source, palette, config, folder, round(shard_mb * 1e6), resize, seed, announce)
    with lock_run(folder) as note:
        if note:
            announce(note)
        index = start_or_continue(job, overwrite)
        if index.finished:
            announce(f"{folder} is packed already")
            return folder
        for split in source.splits:
            pack_split(job, split, index)
        index.finished = True
        write_json(folder / INDEX, index.model_dump())
    shards = [shard for part in index.splits.values() for shard in part.shards]
    size = sum(shard.bytes for shard in shards) / 1e6
    announce(f"packed into {counted(len(shards), 'shard')}, {size:,.1f} MB: --data {shlex.quote(str(folder))}")
    return folder


def check_options(data: Data, shard_mb: float, resize: int) -> None:
    """Raise SightlineError for invalid options, and for data that are shards already."""
    if is_sharded(data):
        cure = "train on the shards directly, or unpack each one first: tar xf FILE.tar"
        raise SightlineError("these data are packed in shards already", where=data.path, cure=cure)
    if data.labels == "number":
        cure = "train on the images themselves: --data TABLE.csv"
        raise SightlineError("shards have class labels only, no numbers", where="data.labels", cure=cure)
    if data.inner_fraction:
        what, cure = "shards have no inner split of the training images", "leave out --data.inner_fraction"
        raise SightlineError(what, where="data.inner_fraction", cure=cure)
    if shard_mb <= 0 or resize < 0:
        where, cure = f"--shard-mb {shard_mb} --resize {resize}", "use for example --shard-mb 256 --resize 512"
        why = "--shard-mb must be above 0, and --resize must be 0 (no resizing) or more"
        raise SightlineError("invalid option", where=where, why=why, cure=cure)


def new_index(job: PackJob) -> ShardIndex:
    """The index before the first shard is written: no shards, all options, and a SHA-256 of the data."""
    parts = job.source.splits
    labels = {split: None if items.labels is None else items.labels.tolist() for split, items in parts.items()}
    groups = {split: [] if items.groups is None else [items.groups] for split, items in parts.items()}
    files = {split: [items.names, items.stamps, labels[split], *groups[split]] for split, items in parts.items()}
    palette = None if job.palette is None else to_dict(job.palette)
    options = {"shard_mb": job.shard_bytes / 1e6, "resize": job.resize, "quality": QUALITY, "seed": job.seed}
    return ShardIndex(
        classes=list(job.source.classes),
        palette=palette,
        options=options | {"on_bad_image": job.data.on_bad_image, "max_pixels": job.data.max_pixels},
        data=key_of([files, job.source.classes, palette]),
        splits={split: SplitEntry(masks=items.read_mask is not None) for split, items in parts.items()},
        finished=False,
    )


def start_or_continue(job: PackJob, overwrite: bool) -> ShardIndex:
    """The index from which packing continues, if it was interrupted with the same data and options; else a new index.

    For a new index the folder is emptied. Raises SightlineError if the folder has other files, or another packed data
    set and `overwrite` is False.
    """
    index, path = new_index(job), job.out / INDEX
    names = [name for name in sorted(os.listdir(job.out)) if not name.startswith(".")]
    others = [name for name in names if not WRITTEN.fullmatch(name)]
    if others:
        why, cure = f"it contains {others[0]!r}, which `sightline pack` did not write", "choose another folder as OUT"
        raise SightlineError("this folder is not empty", where=str(job.out), why=why, cure=cure)
    if names and not overwrite:
        try:
            earlier = parse_index(path.read_bytes(), str(path))
            changed = [name for name in ("options", "data") if getattr(earlier, name) != getattr(index, name)]
        except (OSError, SightlineError):
            earlier, changed = index, [INDEX]
        if not changed:
            return earlier
        why, cure = (
            f"its {' and '.join(changed)} differ from those of this command",
            "replace that data set with --overwrite, or choose another folder as OUT",
        )
        raise SightlineError("this folder contains another packed data set", where=str(job.out), why=why, cure=cure)
    remove(job.out / name for name in names)
    write_json(path, index.model_dump())
    return index


def pack_split(job: PackJob, split: str, index: ShardIndex) -> None:
    """Write those shards of a split that are missing. Raises SightlineError with all unreadable images."""
    part = index.splits[split]
    if part.position:
        job.announce(f"{split}: continuing after {counted(len(part.shards), 'shard')}")
    samples = usable_samples(job, split, part)
    for first in samples:
        write_shard(job, split, part, chain([first], samples))
        write_json(job.out / INDEX, index.model_dump())


def usable_samples(job: PackJob, split: str, part: SplitEntry) -> Iterator[PackedSample]:
    """Yield the samples of a split that are to be packed, starting at `part.position`; they are read in threads.

    Samples that are left out are recorded in `part`. After an invalid sample that may not be left out, no more samples
    are yielded, but all others are still checked. Then one SightlineError lists all invalid samples, and the files
    packed so far are removed.
    """
    items, faults = job.source.splits[split], []
    order = permutation(len(items.names), job.seed, SPLITS.index(split))
    with ThreadPoolExecutor(processors()) as pool:
        read, indices = partial(read_sample, job, split), order[part.position :].tolist()
        for index, future in submit_ahead(pool, read, indices, 4 * processors()):
            part.position += 1
            try:
                sample = future.result()
            except SightlineError as error:
                if job.palette is not None:
                    faults.append(with_file_names(error, items, index))
                else:
                    part.bad[str(index)] = printable(f"{items.names[index]}: {error.why or error.what}")
                continue
            if sample.empty:
                part.ignored.append(printable(items.names[index]))
            elif not faults and (not part.bad or job.data.on_bad_image == "skip"):
                yield sample
    try:
        if faults:
            reject_pairs(job.source.path, split, faults, len(items.names))
        check_unreadable(part.bad, items, job.source, split, job.data, job.announce)
        if len(part.ignored) == len(items.names):
            why = f"all masks of {split} have only ignored pixels"
            cure = "correct --data.palette and --data.ignore, and check that these files are the right masks"
            raise SightlineError(f"no pixel of {split} is labeled", where=job.source.path, why=why, cure=cure)
    except SightlineError:
        remove(job.out / name for name in os.listdir(job.out) if WRITTEN.fullmatch(name))
        raise
    if part.ignored:
        job.announce(
            f"left out {len(part.ignored):,} pairs of {split} with ignored pixels only: {some_of(part.ignored)}"
        )


def write_shard(job: PackJob, split: str, part: SplitEntry, samples: Iterator[PackedSample]) -> None:
    """Write samples to one shard until it is full, then its sample table, and add the shard to `part`."""
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
    job.announce(f"{stem}.tar: {len(rows):,} samples, {size / 1e6:,.1f} MB; {part.position:,} of {total:,}")
