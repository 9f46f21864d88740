"""WebDataset shards of other programs: one pass over them lists their samples, which have KEY.jpg (or another image)
and KEY.cls, or KEY.json with "label" or "class". The list is kept in the cache, so that the pass is made once."""

import hashlib
import io
import json
import os
import re
import sys
import tarfile
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import SightlineError, counted, listing, printable
from ...runs.atomic import atomic_write, read_json, sha256, write_json
from ..cache import cache_root
from ..decode.images import FORMATS, refusal, upright_size
from ..sources.labels import check_distinct, sorted_classes
from ..sources.splits import split_of
from .fetch import TIMEOUT_SECONDS, Shard, Store, is_address
from .index import FORMAT, IMAGE_KEYS, INDEX, SPLITS, Table, damaged, is_sharded_name, table_bytes, table_in

Reader = Callable[[dict[str, Any]], Table]
READ = {*IMAGE_KEYS, "cls", "json", "txt"}
BLOCK = 512
SKIPPED = re.compile(r"__[^/]*__($|/)")
"""Members that webdataset leaves out."""


class Listed(NamedTuple):
    """One sample. span: its bytes in the tar file. size: height and width. label: the number that it has as its class;
    word: the name. other: endings that are not read."""

    name: str
    span: tuple[int, int]
    size: tuple[int, int]
    label: int | None
    word: str | None
    other: tuple[str, ...]


def foreign_index(data: Data, store: Store, seed: int) -> tuple[dict[str, Any], Reader]:
    """(an index as `sightline pack` writes one, what reads a table) of shards without one, from the cache or made."""
    locations = expanded(data.path)
    key = [FORMAT, [identity(location) for location in locations], data.classes, data.val_fraction, seed]
    folder = cache_root(data) / f"shards-{hashlib.sha256(json.dumps(key).encode()).hexdigest()}"
    index = read_json(folder / INDEX)
    if index is None:
        said = f"no {INDEX} of sightline pack: {counted(len(locations), 'shard')} are read once to list their samples"
        print(said, file=sys.stderr)
        index = make_index(folder, locations, store, data, seed)

    def read(entry: dict[str, Any]) -> Table:
        path = folder / entry["table"]
        try:
            return table_in(path.read_bytes(), str(path))
        except OSError as error:
            cure = f"remove {folder}; it is made anew"
            raise SightlineError("a list of samples is missing", where=str(path), cure=cure) from error

    return index, read


def expanded(path: str) -> list[str]:
    """Paths or addresses of the shards that a pattern, a folder or a file means, in the order of their names."""
    if path.endswith(".tar"):
        from braceexpand import braceexpand  # comes with webdataset

        try:
            found = list(braceexpand(path if is_address(path) else absolute(path)))
        except ValueError as error:
            cure = "write it as train-{000000..000009}.tar"
            raise SightlineError("this pattern cannot be read", where=path, why=str(error), cure=cure) from error
        missing = [] if is_address(path) else [one for one in found if not os.path.isfile(one)]
        if missing:
            what = f"{counted(len(missing), 'shard')} of {len(found):,} are not there"
            raise SightlineError(what, where=path, why="\n" + listing(missing), cure="check the pattern")
        return found
    if is_address(path):
        cure = f"name the shards: --data '{path.rstrip('/')}/train-{{000000..000009}}.tar', or pack with sightline pack"
        raise SightlineError(f"there is no {INDEX} at this address", where=path, cure=cure)
    root = Path(absolute(path))
    folders = [root, *(root / split for split in SPLITS)]
    found = [str(file) for folder in folders for file in folder.glob("*.tar") if is_sharded_name(file.name)]
    if not found:
        raise SightlineError("there are no shards in this folder", where=path, cure="give a folder of .tar files")
    return sorted(found)


def identity(location: str) -> list[Any]:
    """What changes when a shard does, without reading it."""
    if not is_address(location):
        state = os.stat(location)
        return [location, state.st_size, state.st_mtime_ns]
    try:
        request = urllib.request.Request(location, method="HEAD")
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return [location, *(answer.headers.get(name) for name in ("Content-Length", "ETag", "Last-Modified"))]
    except OSError:  # a server may not know HEAD; one that is away is told when the shard is fetched
        return [location]


def make_index(folder: Path, locations: list[str], store: Store, data: Data, seed: int) -> dict[str, Any]:
    """Read all shards once; index.json comes last, so that it is there only with all tables."""
    samples: list[list[Listed]] = []
    entries: list[dict[str, Any]] = []
    for number, location in enumerate(locations):
        with store.lent(Shard(location, 0, 0, "")) as path:
            samples.append(list_samples(path, location, data.max_pixels))
            entry = {"file": location, "bytes": os.path.getsize(path), "sha256": sha256(path)}
        entries.append(entry | {"samples": len(samples[-1]), "table": f"{number:06d}.npz"})
    classes, labels = classes_of(samples, data)
    splits, notes = splits_of(locations, entries, labels, data, seed)
    other = Counter(ending for shard in samples for one in shard for ending in one.other)
    if other:
        said = ", ".join(f"{count:,} .{ending}" for ending, count in sorted(other.items()))
        notes.append(printable(f"members of shards that are not read: {said}"))
    done = Counter()
    for split, members in splits.items():
        for number in members:
            some = samples[number]
            spans = np.array([one.span for one in some], np.int64)
            table = Table(
                *spans.T,
                np.arange(done[split], done[split] + len(some)),
                np.array(labels[number], np.int64),
                np.array([one.size for one in some], np.int64),
                np.zeros((len(some), 0), np.int64),
                tuple(one.name for one in some),
            )
            done[split] += len(some)
            atomic_write(folder / entries[number]["table"], table_bytes(table))
    parts = {split: {"shards": [entries[number] for number in members]} for split, members in splits.items()}
    index = {"format": FORMAT, "classes": list(classes), "palette": None, "splits": parts, "notes": notes}
    write_json(folder / INDEX, index)
    return index


def splits_of(
    locations: list[str], entries: list[dict[str, Any]], labels: list[list[int]], data: Data, seed: int
) -> tuple[dict[str, list[int]], list[str]]:
    """(split -> numbers of its shards, sentences), by the shards' names or folders.

    Without a validation split some whole shards are held out, chosen by `seed`: single samples would have to be sought
    in all of them.
    """
    from ..loader import epoch_order

    splits: dict[str, list[int]] = {}
    for number, location in enumerate(locations):
        folder, name = location.rsplit("/", 2)[-2:]
        splits.setdefault(split_of(name) or split_of(folder) or "train", []).append(number)
    if "val" in splits or "train" not in splits or any(-1 in some for some in labels):
        return splits, []
    train = splits["train"]
    if len(train) < 2:
        cure = "sightline pack holds samples out; or name validation shards val-000000.tar"
        why = "there is one shard, and whole shards are held out"
        raise SightlineError("no validation split can be held out", where=data.path, why=why, cure=cure)
    count = min(max(1, round(data.val_fraction * len(train))), len(train) - 1)
    chosen = {train[place] for place in epoch_order(seed, 0, len(train))[:count].tolist()}
    splits["train"] = [number for number in train if number not in chosen]
    splits["val"] = sorted(chosen)
    names = ", ".join(os.path.basename(locations[number]) for number in splits["val"][:4])
    unseen = {label for n in splits["val"] for label in labels[n]} - {x for n in splits["train"] for x in labels[n]}
    if unseen:
        why = f"the held-out {names} has {len(unseen):,} class{'es' * (len(unseen) > 1)} that no other has"
        cure = "the shards are sorted by class: pack the images anew with sightline pack, which mixes them"
        raise SightlineError("no validation split can be held out", where=data.path, why=why, cure=cure)
    return splits, [f"no validation split: {counted(count, 'shard')} held out of train (seed {seed}): {names}"]


def list_samples(path: str, location: str, max_pixels: int) -> list[Listed]:
    """The samples of a tar file. SightlineError that names all that are no sample."""
    found: list[Listed] = []
    faults: list[str] = []
    try:
        with tarfile.open(path, "r:") as file:
            for key, members in grouped(file):
                try:
                    found.append(listed(file, key, members, location))
                except SightlineError as error:
                    faults.append(printable(f"{key}: {error.why or error.what}"))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise damaged(location, f"{type(error).__name__}: {error}") from error
    if faults or not found:
        what = (
            f"{len(faults):,} samples of this shard cannot be used" if faults else "there are no samples in this shard"
        )
        cure = "members are called KEY.jpg with KEY.cls or KEY.json; of a plain archive: tar xf it, then sightline pack"
        raise SightlineError(what, where=location, why="\n" + listing(faults) if faults else "", cure=cure)
    return found


def grouped(file: tarfile.TarFile) -> list[tuple[str, dict[str, tarfile.TarInfo]]]:
    """(key, members by their endings) of neighbors with one key, as webdataset groups them."""
    from webdataset.tariterators import base_plus_ext

    groups: list[tuple[str, dict[str, tarfile.TarInfo]]] = []
    for member in file:
        key, ending = base_plus_ext(member.name)
        if not member.isreg() or key is None or ending is None or SKIPPED.match(member.name):
            continue
        if not groups or groups[-1][0] != key:
            groups.append((key, {}))
        if ending.lower() in groups[-1][1]:
            raise ValueError(f"{member.name} is there twice")
        groups[-1][1][ending.lower()] = member
    return groups


def listed(file: tarfile.TarFile, key: str, members: dict[str, tarfile.TarInfo], location: str) -> Listed:
    """One sample by the head of its image and its label; SightlineError where it has no image."""

    def content(ending: str) -> bytes:
        stream = file.extractfile(members[ending])
        assert stream is not None
        return stream.read()

    ending = next((ending for ending in IMAGE_KEYS if ending in members), None)
    if ending is None:
        raise SightlineError(f"it has no image, only {', '.join(sorted(members))}")
    pixels = content(ending)
    try:
        with Image.open(io.BytesIO(pixels), formats=FORMATS) as image:
            size = upright_size(image)
    except Exception as error:  # as in images.open_image
        raise refusal(key, error, pixels) from error
    label, word = label_in(content("cls") if "cls" in members else None, content("json") if "json" in members else None)
    order = sorted(members.values(), key=lambda member: member.offset)
    last = order[-1]
    end = last.offset_data + -(-last.size // BLOCK) * BLOCK
    name = f"{Path(location).stem}/{key}"
    return Listed(name, (order[0].offset, end), size, label, word, tuple(set(members) - READ))


def label_in(cls: bytes | None, described: bytes | None) -> tuple[int | None, str | None]:
    """(the number of the class, its name) that .cls and .json give; None where they do not."""
    label, word = None, None
    try:
        values = json.loads(described) if described else {}
    except (ValueError, RecursionError) as error:
        raise SightlineError(f"its .json cannot be read: {error}") from error
    given = [values.get("label"), values.get("class")] if isinstance(values, dict) else []
    texts = [cls.decode("utf-8", "replace").strip()] if cls is not None else []
    for value in [*texts, *given]:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and label is None:
            label = value
        elif isinstance(value, str) and value and word is None:
            word = value
    return label, word


def classes_of(samples: list[list[Listed]], data: Data) -> tuple[tuple[str, ...], list[list[int]]]:
    """(class names in index order, the labels of each shard's samples, -1 throughout where there are none)."""
    every = [one for shard in samples for one in shard]
    lacking = [one.name for one in every if one.label is None and one.word is None]
    if len(lacking) == len(every):
        return (), [[-1] * len(shard) for shard in samples]
    if lacking:
        cure = 'give every sample KEY.cls, or KEY.json with "label" or "class"'
        what = f"{len(lacking):,} of {len(every):,} samples have no label"
        raise SightlineError(what, where=data.path, why="\n" + listing(lacking), cure=cure)
    if any(one.label is None for one in every):
        words = {one.word if one.word is not None else str(one.label) for one in every}
        classes = data.classes or sorted_classes(words)
        check_distinct(classes, data.path)
        place = {name: index for index, name in enumerate(classes)}
        if words - set(classes):
            why = f"the shards have {', '.join(sorted(words - set(classes))[:8])} too"
            raise SightlineError("data.classes lacks classes", where="data.classes", why=why, cure="add them")
        return classes, [[place[one.word or str(one.label)] for one in shard] for shard in samples]
    names = {one.label: one.word for one in every if one.word is not None}
    top = max(one.label for one in every if one.label is not None)
    low = min(one.label for one in every if one.label is not None)
    if low < 0 or top >= 1_000_000:
        why = f"class numbers go from {low} to {top}"
        raise SightlineError("these labels cannot be used", where=data.path, why=why, cure="number classes from 0")
    classes = data.classes or tuple(names.get(index) or str(index) for index in range(top + 1))
    if len(classes) <= top:
        why = f"labels go up to {top}, and {len(classes)} classes are named"
        raise SightlineError("data.classes lacks classes", where="data.classes", why=why, cure="name all, from 0")
    check_distinct(classes, data.path)
    return classes, [[one.label for one in shard if one.label is not None] for shard in samples]
