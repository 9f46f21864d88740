"""Data in shards: WebDataset tar files that `sightline pack` wrote or others did, listed without decoding anything.

A set is a folder (or an address) with index.json and, for each shard, NAME.tar and NAME.npz, the table of its samples.
Sets of others have no index; one pass over them writes it into the cache (foreign.py). Members of a sample share a key:
KEY.jpg (or another image), KEY.mask.png, KEY.cls, KEY.json. Nothing else is looked at and nothing is ever unpickled.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from ...config.paths import absolute, expanded
from ...config.schema import Data
from ...errors import ENVIRONMENT, SightlineError, printable
from ..decode.images import opened, refusal
from ..decode.masks import MaskFacts, read_mask
from ..decode.palettes import Palette, from_dict, palette_of, to_dict
from ..sources.open import Items, Source
from ..sources.scan import EXTENSIONS
from .fetch import Shard, Store, is_address

FORMAT = 1
INDEX = "index.json"
IMAGE_KEYS = tuple(ending.removeprefix(".") for ending in EXTENSIONS)
MASK_KEYS = tuple(f"mask.{ending}" for ending in IMAGE_KEYS)
PICTURES = {*IMAGE_KEYS, *MASK_KEYS}
SAFE = re.compile(r"(?:[A-Za-z0-9][\w.\-]*/)?[A-Za-z0-9][\w.\-]*")
"""What an index may call a shard: it comes from elsewhere, and must not lead out of its folder."""
PIP = "pip install 'sightline-vision[stream]'"
SPLITS = ("train", "val", "test")
FETCHERS = 8
"""Tables that are read, or fetched, at a time."""


class Table(NamedTuple):
    """The samples of one shard, in their order. starts, ends: int64 [n], bytes of each sample in the tar file. numbers:
    int64 [n], its number in the split before packing. labels: int64 [n], -1 without. sizes: int64 [n, 2], height and
    width. counts: int64 [n, K], pixels of each class; K is 0 without masks. names: what each image was called."""

    starts: np.ndarray
    ends: np.ndarray
    numbers: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Shards:
    """One split as it lies in shards. firsts: int64 [S + 1], the row of each shard's first sample; a row is the number
    of a sample in the order in which they are stored. starts, ends: int64 [N], by row. rows: int64 [N], of each place
    in the split its row; places: of each row its place. sizes: int64 [N, 2] and counts: int64 [N, K], by place."""

    store: Store
    files: tuple[Shard, ...]
    firsts: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    rows: np.ndarray
    places: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]

    def shard_of(self, row: int) -> int:
        """The number of the shard that holds a row."""
        return int(np.searchsorted(self.firsts, row, side="right")) - 1

    def called(self, row: int, key: str) -> str:
        """A sample as errors name it: its shard, its key there, the name of the original file."""
        name = self.names[self.places[row]]
        return f"{self.files[self.shard_of(row)].location}, sample {key} ({name})"

    def check_key(self, row: int, key: str) -> None:
        """SightlineError where the sample that was read is not the one that the index has at its place."""
        shard = self.shard_of(row)
        if key != f"{row - self.firsts[shard]:06d}" and not self.names[self.places[row]].endswith(f"/{key}"):
            raise damaged(self.files[shard].location, f"it has the sample {key} where the index has another one")

    def sample(self, row: int, keep: bool = True) -> dict[str, Any]:
        """The members of one sample, by their endings, and `__key__`; read by its place in the shard."""
        shard = self.shard_of(row)
        where = self.files[shard].location
        try:
            with self.store.lent(self.files[shard], keep) as path, open(path, "rb") as file:
                file.seek(self.starts[row])
                content = file.read(int(self.ends[row] - self.starts[row]))
        except OSError as error:
            raise unreadable(where, error) from error
        for sample in samples_in(io.BytesIO(content), where):
            self.check_key(row, sample["__key__"])
            return sample
        raise damaged(where, "there is no sample where the index says")


def require_webdataset() -> None:
    """SightlineError with the command that installs it where webdataset is missing."""
    try:
        import webdataset.tariterators  # noqa: F401
    except ImportError as error:
        why = "shards are read with the library webdataset, which is not installed"
        raise SightlineError("these data are in shards", why=why, cure=PIP) from error


def samples_in(stream: IO[bytes], where: str) -> Iterator[dict[str, Any]]:
    """The samples of (a part of) a tar file: images and masks as bytes by their endings, in lower case, and `__key__`.

    Other members are passed over, for labels and names stand in the table. webdataset takes the file apart and groups
    the members. Its decoders, which unpickle what ends in .pyd, .pth or .npy, are not called: this gives bytes.
    """
    from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_iterator

    def is_picture(name: str) -> bool:
        return (base_plus_ext(name)[1] or "").lower() in PICTURES

    try:
        members = ({**member, "__url__": where} for member in tar_file_iterator(stream, select_files=is_picture))  # ty: ignore
        yield from group_by_keys(members)
    except SightlineError:
        raise
    except Exception as error:  # tarfile and webdataset raise many types for a damaged file
        raise damaged(where, f"{type(error).__name__}: {error}") from error


def damaged(where: str, why: str) -> SightlineError:
    """The error for a shard whose bytes are not what they were."""
    cure = "copy this shard again from where it came, or pack the data again"
    return SightlineError("this shard is damaged", where=where, why=printable(why), cure=cure)


def unreadable(where: str, error: OSError) -> SightlineError:
    """The error for a shard that the system does not give."""
    why, cure = error.strerror or str(error), "check the disk; a run that was begun goes on by sightline resume RUN"
    return SightlineError("a shard cannot be read", where=where, why=why, cure=cure, status=ENVIRONMENT)


def image_of(sample: dict[str, Any], where: str, max_pixels: int, side: int = 0) -> Image.Image:
    """The image of a sample as RGB, by the rules of images.py; errors name `where`."""
    content = next((sample[key] for key in IMAGE_KEYS if key in sample), None)
    if content is None:
        endings = ", ".join(sorted(str(key) for key in sample if not str(key).startswith("__")))
        raise SightlineError("there is no image in this sample", where=where, why=f"it has only {printable(endings)}")
    try:
        return opened(io.BytesIO(content), max_pixels, side, None)
    except Exception as error:  # decoders raise nearly every type there is, and only the bytes can be at fault
        raise refusal(where, error, content) from error


def mask_of(
    sample: dict[str, Any], where: str, palette: Palette, max_pixels: int, facts: MaskFacts | None = None
) -> np.ndarray:
    """The mask of a sample as class indices uint8 [H, W]."""
    content = next((sample[key] for key in MASK_KEYS if key in sample), None)
    if content is None:
        raise SightlineError("there is no mask in this sample", where=where, cure="pack images with masks again")
    return read_mask(where, palette, max_pixels, facts, content)


def is_sharded(data: Data) -> bool:
    """Whether `data.path` names shards: an address, a tar file or pattern of some, or a folder that holds tar files and
    no images."""
    if data.layout == "shards":
        return True
    if data.layout != "auto" or not data.path:
        return False
    if is_address(data.path) or data.path.endswith(".tar"):
        return True
    path = expanded(data.path)
    if not os.path.isdir(path):
        return False
    if any(is_sharded_name(name) for name in os.listdir(path)):
        return not any(name.lower().endswith(EXTENSIONS) for name in os.listdir(path))
    inside = [os.path.join(path, name) for name in SPLITS if os.path.isdir(os.path.join(path, name))]
    return bool(inside) and all(any(map(is_sharded_name, os.listdir(folder))) for folder in inside)


def is_sharded_name(name: str) -> bool:
    """Whether a file is called as a shard is; hidden and unfinished ones do not count."""
    return name.endswith(".tar") and not name.startswith(".")


def open_shards(data: Data, seed: int, hold_out: bool = True) -> Source:
    """The set of shards at `data.path` as a Source, as `sources.open_source` gives it."""
    return open_packed(data, seed, hold_out)[0]


def open_shard_pairs(data: Data, seed: int, hold_out: bool, known: Palette | None) -> tuple[Source, Palette]:
    """Shards of images with masks as `pairs.open_pairs` gives pairs. known: the palette of a run, used for theirs."""
    source, palette = open_packed(data, seed, hold_out, known)
    if palette is None:
        cure = "pack a folder of images and masks: sightline pack DATA OUT --data.palette NAME"
        raise SightlineError("there are no masks in these shards", where=source.path, cure=cure)
    return source, palette


def open_packed(data: Data, seed: int, hold_out: bool, known: Palette | None = None) -> tuple[Source, Palette | None]:
    """(the source, the palette where it has masks): the index is read, that of a set of others made if need be."""
    from .webdataset_index import foreign_index

    require_webdataset()
    store = Store(data)
    found = packed_index(data, store)
    origin = "packed by sightline"
    if found is None:
        found = foreign_index(data, store, seed)
        origin = "shards of another program"
    index, read_table = found
    palette = None
    if index["palette"] is not None:
        own = from_dict(index["palette"], "index.json")
        refuse_other_palette(data, own)
        palette = known or own
    splits = {split: index["splits"][split] for split in SPLITS if split in index["splits"]}
    if hold_out and "train" not in splits:
        raise SightlineError("there is no training split", where=data.path, why=f"the splits are {', '.join(splits)}")
    items = {
        split: items_of(store, entry["shards"], read_table, palette if entry.get("masks", True) else None, data)
        for split, entry in splits.items()
    }
    classes = () if palette is not None else tuple(index["classes"])
    if data.classes and palette is None and classes and data.classes != classes:
        why = f"they have {', '.join(classes[:8])}; data.classes says {', '.join(data.classes[:8])}"
        raise SightlineError("the shards have other classes", where="data.classes", why=why, cure="leave it out")
    counts = [f"{len(one.names):,} {split} in {len(one.shards.files):,}" for split, one in items.items() if one.shards]
    ending = f" of {len(classes):,} classes" if classes else ""
    notes = (*index.get("notes", ()), f"{origin}: {' + '.join(counts)} shards{ending}")
    path = data.path if is_address(data.path) else absolute(data.path)
    return Source(path, "shards", classes if palette is None else palette.classes, items, notes), palette


def refuse_other_palette(data: Data, palette: Palette) -> None:
    """SightlineError where settings would read the masks otherwise than they were packed: their pixels are counted."""
    if not (data.palette or data.colors or data.merge or data.ignore or data.tolerance or data.threshold):
        return
    if to_dict(palette_of(data, palette.names)) != to_dict(palette):
        why = f"they were packed with the classes {', '.join(palette.classes)}"
        cure = "leave the palette's settings out, or pack the data again with them"
        raise SightlineError("these masks were packed by other settings", where=data.path, why=why, cure=cure)


Reader = Callable[[dict[str, Any]], Table]


def packed_index(data: Data, store: Store) -> tuple[dict[str, Any], Reader] | None:
    """(index.json, what reads the table of one of its shards) of a packed set; None where there is none."""
    content = store.small(INDEX)
    if content is None:
        return None
    index = checked_index(content, store.name(INDEX))

    def read(entry: dict[str, Any]) -> Table:
        name = entry["file"].removesuffix(".tar") + ".npz"
        table = store.small(name)
        where = store.name(name)
        if table is None or hashlib.sha256(table).hexdigest() != entry["table_sha256"]:
            why = "it is missing" if table is None else "its SHA-256 is not the one of index.json"
            raise SightlineError("the table of a shard is damaged", where=where, why=why, cure="copy the set again")
        return table_in(table, where)

    return index, read


def checked_index(content: bytes, where: str) -> dict[str, Any]:
    """index.json as this version reads it; SightlineError for anything else."""
    try:
        index = json.loads(content)
        if index["format"] != FORMAT:
            cure = "use the version of Sightline that packed it, or pack the data again"
            raise SightlineError(f"this index has the format {index['format']!r}", where=where, cure=cure)
        entries = [entry for split in index["splits"].values() for entry in split["shards"]]
        right = all(SAFE.fullmatch(e["file"]) and ".." not in e["file"] and e["file"].endswith(".tar") for e in entries)
        numbers = all(isinstance(entry[key], int) for entry in entries for key in ("samples", "bytes"))
        texts = all(isinstance(entry[key], str) for entry in entries for key in ("sha256", "table_sha256"))
        if not (right and numbers and texts and entries and isinstance(index["classes"], list)):
            raise ValueError("an entry of a shard is not one")
        return {"palette": None, **index}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = printable(f"{type(error).__name__}: {error}")
        cure = "it is no index of sightline pack; name the tar files instead: 'train-{000000..000009}.tar'"
        raise SightlineError("this index cannot be read", where=where, why=why, cure=cure) from error


def items_of(
    store: Store, entries: Sequence[dict[str, Any]], read_table: Reader, palette: Palette | None, data: Data
) -> Items:
    """One split as Items: names, labels and stamps in the order that the data had before packing."""
    with ThreadPoolExecutor(FETCHERS) as pool:
        tables = list(pool.map(read_table, entries))
    for entry, table in zip(entries, tables, strict=True):
        if len(table.names) != entry["samples"]:
            raise damaged(entry["file"], "its table and index.json count different samples")
    files = tuple(Shard(store.name(e["file"]), e["samples"], e["bytes"], e["sha256"]) for e in entries)
    whole = Table(
        *(np.concatenate([getattr(table, field) for table in tables]) for field in Table._fields[:-1]),
        names=tuple(name for table in tables for name in table.names),
    )
    rows = np.argsort(whole.numbers, kind="stable")
    names = tuple(whole.names[row] for row in rows)
    firsts = np.cumsum([0, *(entry["samples"] for entry in entries)])
    sizes, counts = whole.sizes[rows], whole.counts[rows]
    places = np.empty_like(rows)
    places[rows] = np.arange(len(rows))
    shards = Shards(store, files, firsts, whole.starts, whole.ends, rows, places, sizes, counts, names)
    owners = np.repeat(np.arange(len(files)), np.diff(firsts))[rows]
    labels = whole.labels[rows] if (whole.labels >= 0).all() else None

    def read(index: int, side: int = 0) -> Image.Image:
        row = int(rows[index])
        sample = shards.sample(row)
        return image_of(sample, shards.called(row, sample["__key__"]), data.max_pixels, side)

    def read_mask(index: int, facts: MaskFacts | None = None) -> np.ndarray:
        assert palette is not None
        row = int(rows[index])
        sample = shards.sample(row)
        return mask_of(sample, shards.called(row, sample["__key__"]), palette, data.max_pixels, facts)

    return Items(
        names=names,
        labels=None if palette is not None else labels,
        read=read,
        stamps=tuple(f"{files[owner].sha256} {row}" for owner, row in zip(owners.tolist(), rows.tolist(), strict=True)),
        read_mask=read_mask if palette is not None else None,
        mask_names=names if palette is not None else None,
        shards=shards,
    )


def table_bytes(table: Table, told: str = "") -> bytes:
    """A table as an .npz file, the same bytes for the same table; names are JSON in ASCII, whatever they hold. told:
    more that is kept there."""
    file = io.BytesIO()
    arrays: dict[str, np.ndarray] = {name: getattr(table, name) for name in Table._fields[:-1]}
    arrays["names"] = np.frombuffer(json.dumps(table.names).encode("ascii"), np.uint8)
    arrays["told"] = np.frombuffer(told.encode("ascii"), np.uint8)
    np.savez_compressed(file, **arrays)  # ty: ignore[invalid-argument-type]
    return file.getvalue()


def table_in(content: bytes, where: str) -> Table:
    """The table of an .npz file; SightlineError where it is none."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            names = tuple(json.loads(arrays["names"].tobytes()))
            table = Table(*(arrays[name].astype(np.int64) for name in Table._fields[:-1]), names)
        count = len(names)
        shapes = [array.shape[:1] == (count,) for array in table[:-1]]
        whole = all(shapes) and table.sizes.shape == (count, 2) and table.counts.ndim == 2
        named = all(isinstance(name, str) and "\0" not in name for name in names)
        if not (whole and named and (table.starts < table.ends).all()):
            raise ValueError("its arrays do not fit together")
        return table
    except Exception as error:  # zipfile, zlib and NumPy raise many types for a damaged file
        why = printable(f"{type(error).__name__}: {error}")
        raise SightlineError(
            "the table of a shard is damaged", where=where, why=why, cure="copy the set again"
        ) from error
