"""Make an index of WebDataset shards that have no index.json, by reading them once. It is stored in the cache. A
sample is KEY.jpg (or another image) with KEY.cls, or with KEY.json that has "label" or "class"."""

import hashlib
import json
import os
import re
import sys
import tarfile
from collections.abc import Sequence
from io import BufferedReader
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...config.paths import absolute, is_url
from ...config.schema import NO_GROUPS, Data
from ...errors import SightlineError, counted, listing, printable, some_of
from ...runs.atomic import atomic_write, write_json
from ..cache import LISTED, cache_root, key_of
from ..parallel import permutation
from ..shard_format import (
    FORMAT,
    INDEX,
    SPLITS,
    SampleTable,
    ShardEntry,
    ShardIndex,
    SplitEntry,
    damaged,
    is_shard_name,
    parse_index,
    table_bytes,
)
from ..sources.labels import check_distinct, sorted_classes
from ..sources.scan import EXTENSIONS
from ..sources.splits import ALL, split_of
from .fetch import Store

IMAGE_ENDINGS = tuple(ending.removeprefix(".") for ending in EXTENSIONS)
META = re.compile(r"__[^/]*__($|/)")
"""Pattern of the names of files in a tar file that webdataset skips."""


class ListedSample(NamedTuple):
    """One sample of a tar file. start, end: its byte range. label: class index or name as text; '' for none."""

    name: str
    start: int
    end: int
    label: str


def list_shards(data: Data, store: Store, seed: int | None) -> ShardIndex:
    """Load the index of the shards at `data.path` from the cache, or make it. Afterwards `store` reads its sample
    tables. Local shards are identified by path, size and time, remote ones by URL. seed: if given, a missing validation
    split is held out."""
    locations = shard_locations(data.path)
    states = [] if store.remote else [(os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in locations]
    folder = cache_root(data) / f"{LISTED}{key_of([FORMAT, locations, states, data.classes])}"
    store.tables = str(folder)
    try:
        index = parse_index((folder / INDEX).read_bytes(), str(folder / INDEX))
    except (OSError, SightlineError):
        print(f"no {INDEX}: reading {counted(len(locations), 'shard')} once to list their samples", file=sys.stderr)
        index = make_index(folder, locations, store)
    return index if seed is None else with_held_out(index, store, seed)


def shard_locations(path: str) -> list[str]:
    """The paths or URLs of all shards of a folder, a tar file or a brace pattern such as `{000..009}.tar`. Raises
    SightlineError if any of them is missing."""
    if path.endswith(".tar"):
        from braceexpand import braceexpand  # installed with webdataset

        try:
            locations = list(braceexpand(path if is_url(path) else absolute(path)))
        except ValueError as error:
            cure = "write the numbers of the first and last shard: --data 'FOLDER/train-{000000..000009}.tar'"
            raise SightlineError("invalid pattern of shard names", where=path, why=str(error), cure=cure) from error
        missing = [] if is_url(path) else [one for one in locations if not os.path.isfile(one)]
        if missing:
            what = f"{len(missing):,} of {counted(len(locations), 'shard')} do not exist"
            raise SightlineError(
                what,
                where=path,
                why="\n" + listing(missing),
                cure="correct the numbers in the pattern in --data, or add the missing shards",
            )
        return locations
    if is_url(path):
        cure = (
            f"name the shards: --data '{path.rstrip('/')}/train-{{000000..000009}}.tar', or pack the data with "
            "`sightline pack`"
        )
        raise SightlineError(f"there is no list of the shards, {INDEX}, at this address", where=path, cure=cure)
    root = Path(absolute(path))
    folders = [root, *(root / split for split in SPLITS)]
    locations = [str(file) for folder in folders for file in folder.glob("*.tar") if is_shard_name(file.name)]
    if not locations:
        raise SightlineError(
            "there are no shards in this folder",
            where=path,
            cure="give a folder that contains .tar files: --data FOLDER",
        )
    return sorted(locations)


def make_index(folder: Path, locations: list[str], store: Store) -> ShardIndex:
    """Read all shards once, and write their sample tables and their index to `folder`. The splits are those that the
    names of the shards or of their folders have; shards without one are training shards beside others, else `all`."""
    entries: list[ShardEntry] = []
    samples: list[list[ListedSample]] = []
    for number, location in enumerate(locations):
        entry = ShardEntry(file=location, samples=0, bytes=0, sha256="", table_sha256="", table=f"{number:06d}.npz")
        with store.open(entry) as file:
            samples.append(list_samples(file, location))
            file.seek(0)
            entry.sha256, entry.bytes = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
        entry.samples = len(samples[-1])
        entries.append(entry)
    every = [sample for shard in samples for sample in shard]
    classes, labels = class_labels(every, store.data)
    ends = np.cumsum([len(shard) for shard in samples])
    by_shard = np.split(labels, ends[:-1])
    named = [split_of(location.rsplit("/", 1)[1]) or split_of(location.rsplit("/", 2)[-2]) for location in locations]
    rest = "train" if any(named) else ALL
    splits: dict[str, SplitEntry] = {}
    for entry, shard, own, end in zip(entries, samples, by_shard, ends, strict=True):
        count = len(shard)
        names, starts, stops, _ = zip(*shard, strict=True)
        table = SampleTable(
            starts=np.array(starts, np.int64),
            ends=np.array(stops, np.int64),
            numbers=np.arange(end - count, end),
            labels=own,
            sizes=np.zeros((count, 2), np.int64),
            counts=np.zeros((count, 0), np.int64),
            names=names,
        )
        content = table_bytes(table)
        atomic_write(folder / entry.table, content)
        entry.table_sha256 = hashlib.sha256(content).hexdigest()
    for entry, name in zip(entries, named, strict=True):
        splits.setdefault(name or rest, SplitEntry(shards=[])).shards.append(entry)
    index = ShardIndex(classes=list(classes), splits=splits)
    write_json(folder / INDEX, index.model_dump())
    return index


def with_held_out(index: ShardIndex, store: Store, seed: int) -> ShardIndex:
    """Hold out entire shards of the training split, chosen by `seed`, if labeled data have no validation split. Raises
    SightlineError if that is impossible."""
    splits = {"train" if split == ALL else split: part for split, part in index.splits.items()}
    train = splits["train"].shards if "train" in splits and "val" not in splits else []
    labels = [store.table(entry).labels for entry in train]
    if not train or any((some < 0).any() for some in labels):
        return index.model_copy(update={"splits": splits})
    path = store.data.path
    what, cure = (
        "no validation split can be held out",
        "pack the images again, which shuffles them: sightline pack FOLDER OUT",
    )
    if store.data.group not in ("", NO_GROUPS):
        why = "entire shards are held out, which divides the groups of data.group"
        cure = "put the images of some groups into shards of their own, named val-000000.tar and so on"
        raise SightlineError(what, where=path, why=why, cure=cure)
    if len(train) < 2:
        why = "only entire shards can be held out, and there is one shard"
        raise SightlineError(what, where=path, why=why, cure=f"{cure}; or add a shard named val-000000.tar")
    count = min(max(1, round(store.data.val_fraction * len(train))), len(train) - 1)
    held = sorted(permutation(len(train), seed, 0)[:count].tolist())
    kept = [number for number in range(len(train)) if number not in held]
    own, seen = (np.concatenate([labels[number] for number in numbers]) for numbers in (held, kept))
    unseen = np.setdiff1d(own, seen)
    if len(unseen):
        why = (
            f"{counted(len(unseen), 'class label')} would have no training images; perhaps the shards are sorted by "
            "class"
        )
        raise SightlineError(what, where=path, why=why, cure=cure)
    names = ", ".join(os.path.basename(train[number].file) for number in held[:4])
    note = f"no validation split: {counted(count, 'shard')} held out of train (seed {seed}): {names}"
    parts = {split: SplitEntry(shards=[train[n] for n in some]) for split, some in (("train", kept), ("val", held))}
    return index.model_copy(update={"splits": splits | parts, "notes": [*index.notes, note]})


def list_samples(file: BufferedReader, location: str) -> list[ListedSample]:
    """List the samples of a tar file, grouped by key as in webdataset; SightlineError with all invalid ones."""
    from webdataset.tariterators import base_plus_ext

    samples: list[ListedSample] = []
    faults: list[str] = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            infos = [info for info in archive if info.isreg() and not META.match(info.name)]
            for key, group in groupby(infos, lambda info: base_plus_ext(info.name)[0]):
                members = {(base_plus_ext(info.name)[1] or "").lower(): info for info in group}
                if key is None:
                    continue
                try:
                    samples.append(listed_sample(archive, f"{Path(location).stem}/{key}", members))
                except SightlineError as error:
                    faults.append(printable(f"{key}: {error.what}"))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise damaged("shard", location, f"{type(error).__name__}: {error}") from error
    if faults or not samples:
        what = f"this shard has {counted(len(faults), 'invalid sample') if faults else 'no samples'}"
        cure = (
            "name the files of a sample KEY.jpg, with KEY.cls or KEY.json; or unpack the shard and run: sightline "
            "pack FOLDER OUT"
        )
        raise SightlineError(what, where=location, why="\n" + listing(faults) if faults else "", cure=cure)
    return samples


def listed_sample(archive: tarfile.TarFile, name: str, members: dict[str, tarfile.TarInfo]) -> ListedSample:
    """Make a `ListedSample` from the files of one sample; raises SightlineError if none of them is an image."""

    def content(ending: str) -> bytes:
        stream = archive.extractfile(members[ending]) if ending in members else None
        return stream.read() if stream else b""

    if not members.keys() & set(IMAGE_ENDINGS):
        raise SightlineError(f"the sample has no image, only {', '.join(sorted(members))}")
    infos = list(members.values())
    end = infos[-1].offset_data + -(-infos[-1].size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return ListedSample(name, infos[0].offset, end, parse_label(content("cls"), content("json")))


def parse_label(cls: bytes, described: bytes) -> str:
    """The class index or class name in the content of the .cls file, else of the .json file; '' if there is none."""
    try:
        values = json.loads(described or b"{}")
    except (ValueError, RecursionError) as error:
        raise SightlineError(f"the .json of the sample cannot be read: {error}") from error
    given: list[Any] = [cls.decode("utf-8", "replace").strip() or None]
    given += [values.get("label"), values.get("class")] if isinstance(values, dict) else []
    return next((str(value) for value in given if isinstance(value, str | int)), "")


def class_labels(samples: Sequence[ListedSample], data: Data) -> tuple[tuple[str, ...], np.ndarray]:
    """Convert the labels of N samples: (class names in index order, class indices int64 [N]).

    Integer labels are class indices; class names are sorted. If no sample has a label, there are no classes, and all
    indices are -1. Raises SightlineError if only some samples have labels, or if data.classes lacks some of the labels.
    """
    lacking = [sample.name for sample in samples if not sample.label]
    if len(lacking) == len(samples):
        return (), np.full(len(samples), -1)
    if lacking:
        what = f"{len(lacking):,} of {len(samples):,} samples have no label"
        cure = 'add to every sample KEY.jpg its label: KEY.cls, or KEY.json with "label" or "class"'
        raise SightlineError(what, where=data.path, why="\n" + listing(lacking), cure=cure)
    names = {sample.label for sample in samples}
    if all(re.fullmatch("0|[1-9][0-9]{0,5}", name) for name in names):
        keys = tuple(map(str, range(max(map(int, names)) + 1)))
    else:
        keys = data.classes or sorted_classes(names)
    classes = data.classes or keys
    index_of = {key: index for index, key in enumerate(keys[: len(classes)])}
    if missing := sorted(names - index_of.keys()):
        why = f"the shards also have {some_of(missing)}; data.classes has {len(classes):,} classes"
        cure = "list all classes in index order: --data.classes '[NAME, NAME]', or leave out this option"
        raise SightlineError("data.classes lacks classes of the shards", where="data.classes", why=why, cure=cure)
    check_distinct(classes, data.path)
    return classes, np.array([index_of[sample.label] for sample in samples])
