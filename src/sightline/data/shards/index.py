"""Open data in shards: WebDataset tar files, written by `sightline pack` or by another program.

A packed data set is a folder or URL with index.json, and for each shard NAME.tar and NAME.npz, the table of its
samples. The files of a sample share a key: KEY.jpg (or another image), KEY.mask.png, KEY.cls, KEY.json. Only images and
masks are decoded, by the same code as outside of shards; nothing is unpickled.
"""

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

import numpy as np
from PIL import Image

from ...config.paths import absolute, expanded, is_url
from ...config.schema import Data
from ...errors import ENVIRONMENT, SightlineError, some_of
from ..decode.images import image_of
from ..decode.masks import MaskFacts, read_mask
from ..decode.palettes import Palette, from_dict, palette_of, to_dict
from ..shard_format import NUMBERS, SPLITS, TEXTS, SampleTable, ShardEntry, damaged, is_shard_name
from ..sources.scan import EXTENSIONS, is_hidden
from ..sources.splits import ALL
from ..types import Items, Source
from .fetch import Store
from .webdataset_index import IMAGE_ENDINGS, list_shards

MASK_ENDINGS = tuple(f"mask.{ending}" for ending in IMAGE_ENDINGS)
DECODED = {*IMAGE_ENDINGS, *MASK_ENDINGS}
PIP = "pip install 'sightline-vision[stream]'"
FETCHERS = 8
"""Number of sample tables that are read or downloaded at the same time."""


@dataclass(frozen=True)
class Shards:
    """A split of N samples in S shards. Arrays are indexed by the sample's index in the split, unless noted.

    firsts: int64 [S + 1], number of samples before each shard. order: int64 [N], indices in the split, sorted by
    position in the shards (stored order). owners: int32 [N], index of the shard of each sample. starts, ends: int64
    [N], byte range in that shard. sizes: int64 [N, 2], height and width. counts: int64 [N, K], pixels of each class.
    """

    store: Store
    entries: tuple[ShardEntry, ...]
    firsts: np.ndarray
    order: np.ndarray
    owners: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]

    def read(
        self, indices: Iterable[int], opening: Callable[[int], object] = bool, pin: bool = False
    ) -> dict[int, bytes]:
        """Read the undecoded bytes of the samples at `indices`: {index: bytes}.

        Consecutive samples of one shard are read from one open file. opening: called with the index of each shard
        before it is opened. pin: never remove these shards from the spool folder. Raises SightlineError if a shard
        cannot be read.
        """
        contents = {}
        for shard, members in groupby(indices, lambda index: int(self.owners[index])):
            opening(shard)
            try:
                with self.store.open(self.entries[shard], pin) as file:
                    for index in members:
                        file.seek(self.starts[index])
                        contents[index] = file.read(int(self.ends[index] - self.starts[index]))
            except OSError as error:
                what, where, why = "cannot read a shard", self.entries[shard].file, error.strerror or str(error)
                cure = "check the disk, then repeat the command; if a run had started: sightline resume RUN"
                raise SightlineError(what, where=where, why=why, cure=cure, status=ENVIRONMENT) from error
        return contents

    def members(self, index: int, content: bytes) -> dict[str, Any]:
        """Split the bytes of a sample into its files: {file extension: bytes}, and the key of the sample as `__key__`.

        The library webdataset parses the tar format. Its decoders are not used, because unpickling can execute code.
        """
        from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_iterator

        def is_decoded(name: str) -> bool:
            return (base_plus_ext(name)[1] or "").lower() in DECODED

        try:
            files = tar_file_iterator(io.BytesIO(content), select_files=is_decoded)  # ty: ignore
            return next(group_by_keys({**file, "__url__": ""} for file in files))
        except Exception as error:  # tarfile and webdataset raise many types for damaged bytes
            raise damaged("shard", self.where(index, {}), f"{type(error).__name__}: {error}") from error

    def where(self, index: int, members: dict[str, Any]) -> str:
        """Describe the location of a sample for error messages: its shard, its key and its original name."""
        shard = self.store.location(self.entries[self.owners[index]].file)
        return f"{shard}, sample {members.get('__key__', '?')} ({self.names[index]})"

    def image(self, index: int, members: dict[str, Any], side: int = 0) -> Image.Image:
        """Decode the image of a sample to RGB. With `side` > 0, a JPEG may be decoded at a reduced size
        (`images.open_image`). Raises SightlineError if the image is invalid."""
        content = next((members[ending] for ending in IMAGE_ENDINGS if ending in members), b"")
        return image_of(content, self.where(index, members), self.store.data.max_pixels, side)

    def mask(self, index: int, members: dict[str, Any], palette: Palette, facts: MaskFacts | None = None) -> np.ndarray:
        """Decode the mask of a sample to class indices uint8 [H, W]. facts: if given, the counts of this mask are
        added to it. Raises SightlineError for an invalid mask, as `masks.read_mask` does."""
        content = next((members[ending] for ending in MASK_ENDINGS if ending in members), b"")
        return read_mask(self.where(index, members), palette, self.store.data.max_pixels, facts, content)


def is_sharded(data: Data) -> bool:
    """Whether `data.path` is data in shards: a URL, a tar file, a pattern of tar files, or a folder of tar files.
    Such a folder has no images, and no folders other than `train`, `val` and `test`."""
    if data.layout != "auto" or not data.path:
        return data.layout == "shards"
    if is_url(data.path) or data.path.endswith(".tar"):
        return True
    path = expanded(data.path)
    folders = [folder for folder in (path, *(os.path.join(path, split) for split in SPLITS)) if os.path.isdir(folder)]
    found = [entry for folder in folders for entry in os.scandir(folder) if not is_hidden(entry.name)]
    other = (e.name.lower().endswith(EXTENSIONS) or (e.is_dir() and e.name not in SPLITS) for e in found)
    return any(is_shard_name(entry.name) for entry in found) and not any(other)


def open_packed(data: Data, seed: int, hold_out: bool, known: Palette | None = None) -> tuple[Source, Palette | None]:
    """Open data in shards: (source, palette; None without masks). The samples are listed by index.json, or by reading
    the shards.

    hold_out: whether the data are for training, which requires a training split. known: the palette of a finished run,
    which replaces that of the index. Raises SightlineError for settings that contradict the index.
    """
    require_webdataset()
    if data.leave_out and hold_out:
        cure = "pack the data without these images: sightline pack DATA --out FOLDER --data.leave_out PATHS"
        raise SightlineError("images in shards cannot be left out", where=data.path, cure=cure)
    if data.inner_fraction and hold_out:
        cure = "leave out --data.inner_fraction, or unpack the shards: tar xf FILE.tar"
        raise SightlineError("data in shards have no inner split of the training images", where=data.path, cure=cure)
    if data.fold and hold_out:
        cure = "leave out the folds, or unpack the shards: tar xf FILE.tar"
        raise SightlineError("data in shards cannot be divided into folds", where=data.path, cure=cure)
    store = Store(data)
    index, origin = store.index(), "packed by sightline"
    if index is None:
        index, origin = list_shards(data, store, seed if hold_out else None), "shards of another program"
    palette = None
    if index.palette is not None:
        own = from_dict(index.palette, "index.json")
        check_palette(data, own)
        palette = known or own
    if hold_out and "train" not in index.splits:
        why, cure = (
            f"the splits of the shards are: {', '.join(index.splits)}",
            "add the shards of the training split, or pack data that have one: sightline pack DATA OUT",
        )
        raise SightlineError("these shards have no training split", where=data.path, why=why, cure=cure)
    splits = {split: index.splits[split] for split in (*SPLITS, ALL) if split in index.splits}
    items = {split: items_of(store, part.shards, palette if part.masks else None) for split, part in splits.items()}
    classes = palette.classes if palette else tuple(index.classes)
    if data.classes and not palette and classes and data.classes != classes:
        why = f"the shards have {len(classes):,} classes: {some_of(classes)}; data.classes has {len(data.classes):,}: "
        why += some_of(data.classes)
        what, cure = (
            "data.classes does not match the classes of the shards",
            "leave out --data.classes: the classes of the shards are used then",
        )
        raise SightlineError(what, where="data.classes", why=why, cure=cure)
    counts = [f"{len(items[split].names):,} {split} in {len(part.shards):,}" for split, part in splits.items()]
    ending = f" of {len(classes):,} classes" if classes and not palette else ""
    notes = (*index.notes, f"{origin}: {' + '.join(counts)} shards{ending}")
    return Source(data.path if store.remote else absolute(data.path), "shards", classes, items, notes), palette


def require_webdataset() -> None:
    """Raise SightlineError with the install command if webdataset is not installed."""
    try:
        import webdataset.tariterators  # noqa: F401
    except ImportError as error:
        why = "the library webdataset, which reads shards, is not installed"
        raise SightlineError("data in shards cannot be read", why=why, cure=PIP) from error


def check_palette(data: Data, palette: Palette) -> None:
    """Raise SightlineError if the settings define another palette than `palette`, with which the masks were packed."""
    given = data.palette or data.colors or data.merge or data.ignore or data.tolerance or data.threshold
    if given and to_dict(palette_of(data, palette.names)) != to_dict(palette):
        why = f"they were packed with these classes: {', '.join(palette.classes)}"
        cure = (
            "leave out data.palette, colors, merge, ignore, tolerance and threshold, or pack the data again with them"
        )
        raise SightlineError(
            "these masks were packed with other palette settings than those of this command",
            where=data.path,
            why=why,
            cure=cure,
        )


def merged_table(store: Store, entries: list[ShardEntry]) -> tuple[SampleTable, np.ndarray]:
    """Merge the sample tables of all shards of a split: (table in the order before packing; int64 [N], position of
    each sample in stored order)."""
    with ThreadPoolExecutor(FETCHERS) as pool:
        tables = list(pool.map(store.table, entries))
    stored = [np.concatenate([getattr(table, name) for table in tables]) for name in NUMBERS]
    rows = np.argsort(stored[NUMBERS.index("numbers")], kind="stable")
    texts = {name: [getattr(table, name) for table in tables] for name in TEXTS}
    every = {name: [*chain.from_iterable(parts)] for name, parts in texts.items() if None not in parts}
    ordered: dict[str, Any] = {name: tuple(some[row] for row in rows.tolist()) for name, some in every.items()}
    ordered |= {name: array[rows] for name, array in zip(NUMBERS, stored, strict=True)}
    return SampleTable(**ordered), rows


def items_of(store: Store, entries: list[ShardEntry], palette: Palette | None) -> Items:
    """The `Items` (names, labels, ...) of a split in shards, in the order before packing."""
    table, rows = merged_table(store, entries)
    order = np.argsort(rows)
    firsts = np.cumsum([0, *(entry.samples for entry in entries)])
    owners = np.searchsorted(firsts, rows, side="right").astype(np.int32) - 1
    spans = (owners, table.starts, table.ends)
    shards = Shards(store, tuple(entries), firsts, order, *spans, table.sizes, table.counts, table.names)

    def read(index: int, side: int = 0) -> Image.Image:
        return shards.image(index, shards.members(index, shards.read([index], pin=True)[index]), side)

    def read_mask_at(index: int, facts: MaskFacts | None = None) -> np.ndarray:
        assert palette is not None
        return shards.mask(index, shards.members(index, shards.read([index], pin=True)[index]), palette, facts)

    digests = [entry.sha256 for entry in entries]
    stamps = [f"{digests[owner]} {row}" for owner, row in zip(owners.tolist(), rows.tolist(), strict=True)]
    return Items(
        names=table.names,
        labels=labels_of(table.labels) if palette is None else None,
        read=read,
        stamps=tuple(stamps),
        read_mask=read_mask_at if palette is not None else None,
        mask_names=table.names if palette is not None else None,
        shards=shards,
        groups=table.groups,
    )


def labels_of(stored: np.ndarray) -> np.ndarray | None:
    """The labels of a split from its sample tables: int64 [N], label sets bool [N, K], or None if any is missing."""
    if (stored < 0).any():
        return None
    return stored.astype(bool) if stored.ndim == 2 else stored
