"""File format of data packed in shards: index.json, and for each shard a table of its samples (.npz)."""

import io
import json
import re
import threading
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel

from ..errors import SightlineError, printable

FORMAT = 1
INDEX = "index.json"
SPLITS = ("train", "val", "test")
SAFE = re.compile(r"(?:[A-Za-z0-9][\w.\-]*/)?[A-Za-z0-9][\w.\-]*\.tar")
"""Pattern of shard names that are accepted in index.json: relative paths that cannot leave the folder of the index."""


PARSING = threading.Lock()
"""Held while NumPy reads a table: it parses the header of each array by `ast.literal_eval`, which fails now and then in
Python 3.11.0 to 3.11.7 if two threads parse at once (https://github.com/python/cpython/issues/106905)."""


class ShardEntry(BaseModel):
    """One shard in index.json. file: a path relative to the index, an absolute path or a URL. table: name of its
    sample table; if empty, the name of `file` with the extension .npz."""

    file: str
    samples: int
    bytes: int
    sha256: str
    table_sha256: str
    table: str = ""


class SplitEntry(BaseModel):
    """One split in index.json.

    position: number of samples that packing has completed so far, including those left out. bad: index of an unreadable
    image -> reason. ignored: names of training pairs that are left out, because their mask has only ignored pixels.
    """

    samples: int = 0
    masks: bool = True
    shards: list[ShardEntry] = []
    position: int = 0
    bad: dict[str, str] = {}
    ignored: list[str] = []


class ShardIndex(BaseModel):
    """Content of index.json. data: SHA-256 of names, sizes and times of the files that were packed. finished: False
    until packing is complete. `classes` is not list[str], because pydantic rejects names that are not valid Unicode."""

    format: int = FORMAT
    classes: list
    palette: dict[str, Any] | None = None
    splits: dict[str, SplitEntry]
    options: dict[str, Any] = {}
    data: str = ""
    finished: bool = True
    notes: list[str] = []


class SampleTable(NamedTuple):
    """The n samples of one shard, in order.

    starts, ends: int64 [n], byte range of each in the tar file. numbers: int64 [n], index in the split before packing.
    labels: int64 [n], -1 if unlabeled, or label sets int64 [n, K] of 0 and 1. sizes: int64 [n, 2], height and width.
    counts: int64 [n, K], pixels of each class; K is 0 without masks. names: original file names. groups: as of `Items`.
    """

    starts: np.ndarray
    ends: np.ndarray
    numbers: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None


NUMBERS, TEXTS = SampleTable._fields[:-2], SampleTable._fields[-2:]


def is_shard_name(name: str) -> bool:
    """Whether a file name can be that of a shard: NAME.tar, not hidden."""
    return name.endswith(".tar") and not name.startswith(".")


def parse_index(content: bytes, where: str) -> ShardIndex:
    """Parse index.json; raises SightlineError for another format or a damaged file. where: its path, for messages."""
    try:
        values = json.loads(content)
        if isinstance(values, dict) and values.get("format") != FORMAT:
            what = (
                f"this shard index has the format {values.get('format')!r}, but this version of Sightline reads "
                f"format {FORMAT}"
            )
            cure = "use the version of Sightline that packed it, or pack the data again: sightline pack DATA OUT"
            raise SightlineError(what, where=where, cure=cure)
        return ShardIndex.model_validate(values)
    except (ValueError, RecursionError) as error:
        raise damaged("index", where, f"{type(error).__name__}: {error}") from error


def table_bytes(table: SampleTable) -> bytes:
    """Encode a sample table as an .npz file; the names and groups are stored as ASCII JSON."""
    file = io.BytesIO()
    arrays: dict[str, np.ndarray] = {name: getattr(table, name) for name in NUMBERS}
    texts = {name: getattr(table, name) for name in TEXTS if getattr(table, name) is not None}
    arrays |= {name: np.frombuffer(json.dumps(some).encode("ascii"), np.uint8) for name, some in texts.items()}
    np.savez_compressed(file, **arrays)  # ty: ignore[invalid-argument-type]
    return file.getvalue()


def parse_table(content: bytes, where: str, count: int) -> SampleTable:
    """Parse a sample table of `count` rows from an .npz file; raises SightlineError if it is damaged."""
    try:
        with PARSING, np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            texts = {name: tuple(json.loads(arrays[name].tobytes())) for name in TEXTS if name in arrays}
            table = SampleTable(*(arrays[name].astype(np.int64) for name in NUMBERS), **texts)
        valid = all(isinstance(text, str) and "\0" not in text for some in texts.values() for text in some)
        if not valid or any(len(column) != count for column in table if column is not None):
            raise ValueError(f"its arrays do not have {count:,} rows each")
        return table
    except Exception as error:  # zipfile, zlib and NumPy raise many types for a damaged file
        raise damaged("sample table", where, f"{type(error).__name__}: {error}") from error


def damaged(what: Literal["index", "shard", "sample table"], where: str, why: str) -> SightlineError:
    """The SightlineError for an index, shard or sample table that is missing, damaged or has changed."""
    cure = "copy the shards again from their source, or pack the data again: sightline pack DATA OUT"
    return SightlineError(f"this {what} is missing or damaged", where=where, why=printable(why), cure=cure)
