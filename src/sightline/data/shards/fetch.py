"""Files of a set of shards, local or on an HTTP server: index.json, sample tables and tar files.

A shard on a server is downloaded whole into a spool folder inside the cache, and its SHA-256 is compared, before it is
read. The spool folder holds at most SPOOLED_SHARDS; the one that was downloaded first is removed first.
"""

import errno
import hashlib
import http.client
import os
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import weakref
from io import BufferedReader
from pathlib import Path

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import ENVIRONMENT, SightlineError, printable
from ...runs.atomic import disk_error, sha256
from ..cache import cache_root, new_temporary_folder
from ..shard_format import (
    BAD_INDEX,
    BAD_SHARD,
    BAD_TABLE,
    INDEX,
    SAFE,
    SampleTable,
    ShardEntry,
    ShardIndex,
    damaged,
    parse_index,
    parse_table,
)

TIMEOUT_SECONDS = 30.0
"""Longest silence of a server within one attempt."""
PAUSES_SECONDS = (1.0, 3.0, 9.0)
"""Pauses between attempts; there is one more attempt than pauses."""
SPOOLED_SHARDS = 8
"""Downloaded shards on the disk at a time: two groups of `stream.GROUP`."""


def is_address(path: str) -> bool:
    """Whether a path is the URL of data on a server."""
    return path.startswith(("http://", "https://"))


class Store:
    """Access to the files of one set of shards. Thread-safe; each shard is checked, or downloaded, once."""

    def __init__(self, data: Data):
        self.data, self.remote = data, is_address(data.path)
        path = data.path if self.remote else absolute(data.path)
        self.has_index = not path.endswith(".tar")  # a tar file, or a pattern of some, has none
        self.base = path.rstrip("/") if self.has_index else path.rpartition("/")[0]
        self.tables = self.base
        self.fetched: dict[str, str] = {}  # location -> checked file, or "" while it is fetched
        self.pinned: set[str] = set()
        self.locks: dict[str, threading.Lock] = {}
        self.lock = threading.Lock()
        if self.remote:
            self.spool = new_temporary_folder(cache_root(data))
            weakref.finalize(self, shutil.rmtree, self.spool, True)

    def location(self, file: str) -> str:
        """Path or URL of a file of the set."""
        return file if is_address(file) or os.path.isabs(file) else f"{self.base}/{file}"

    def spooled(self, location: str) -> Path:
        """Where a downloaded file is in the spool folder."""
        return self.spool / hashlib.sha256(location.encode()).hexdigest()

    def read(self, location: str) -> bytes | None:
        """Content of an index or table; None where it does not exist."""
        path = Path(location)
        if is_address(location):
            path = self.spooled(location)
            if not download(location, path, optional=True):
                return None
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            why = error.strerror or str(error)
            raise SightlineError("cannot read the index", where=location, why=why, status=ENVIRONMENT) from error
        finally:
            if is_address(location):
                path.unlink(missing_ok=True)

    def index(self) -> ShardIndex | None:
        """index.json of a set that `sightline pack` wrote; None for shards without an index."""
        where = f"{self.base}/{INDEX}"
        content = self.read(where) if self.has_index else None
        if content is None:
            return None
        index = parse_index(content, where)
        if not index.finished:
            cure = "run the same `sightline pack` command again to complete it"
            raise SightlineError("these shards are incomplete: packing was interrupted", where=where, cure=cure)
        entries = [entry for part in index.splits.values() for entry in part.shards]
        if not entries or not all(SAFE.fullmatch(entry.file) for entry in entries):
            raise damaged(BAD_INDEX, where, "it lists no shards, or one outside its own folder")
        return index

    def table(self, entry: ShardEntry) -> SampleTable:
        """The checked sample table of a shard."""
        location = f"{self.tables}/{entry.table or entry.file.removesuffix('.tar') + '.npz'}"
        content = self.read(location)
        if content is None or hashlib.sha256(content).hexdigest() != entry.table_sha256:
            raise damaged(BAD_TABLE, location, "it is missing" if content is None else "its SHA-256 differs")
        return parse_table(content, location, entry.samples)

    def open(self, entry: ShardEntry, pin: bool = False) -> BufferedReader:
        """Open a shard for reading once its length and SHA-256 are those of the index; a remote one is downloaded.

        An open file stays readable when its shard is removed from the spool folder. pin: do not remove it there.
        """
        location = self.location(entry.file)
        with self.lock:
            own = self.locks.setdefault(location, threading.Lock())
            self.pinned |= {location} if pin else set()
        with own:
            with self.lock:
                if path := self.fetched.get(location):
                    return open(path, "rb")
                self.fetched[location] = ""
                self.remove_oldest()
            path = self.fetch(entry, location)
            with self.lock:
                self.fetched[location] = path
                return open(path, "rb")

    def prefetch(self, entry: ShardEntry) -> None:
        """Check, or download, a shard that is opened soon."""
        self.open(entry).close()

    def fetch(self, entry: ShardEntry, location: str) -> str:
        """Path of the local or downloaded shard, whose bytes have been compared with the index."""
        if self.remote:
            download(location, self.spooled(location), entry)
            return str(self.spooled(location))
        compare(entry, location, location)
        return location

    def remove_oldest(self) -> None:
        """Remove downloaded shards beyond SPOOLED_SHARDS, the oldest first; `lock` is held."""
        loose = [location for location in self.fetched if location not in self.pinned] if self.remote else []
        for location in loose[:-SPOOLED_SHARDS]:
            if path := self.fetched.pop(location):
                Path(path).unlink(missing_ok=True)


def compare(entry: ShardEntry, path: str | Path, where: str) -> None:
    """SightlineError where a shard is missing or differs from its index entry; unknown values are not compared."""
    try:
        size = os.path.getsize(path)
        if entry.bytes and size != entry.bytes:
            raise damaged(BAD_SHARD, where, f"it has {size:,} bytes instead of {entry.bytes:,} as in the index")
        if entry.sha256 and sha256(path) != entry.sha256:
            raise damaged(BAD_SHARD, where, "its SHA-256 differs from the index: its bytes have changed")
    except OSError as error:
        raise damaged("a shard is missing", where, error.strerror or str(error)) from error


def download(address: str, path: Path, entry: ShardEntry | None = None, optional: bool = False) -> bool:
    """Download a URL to `path`, with retries. Returns False where `optional` and the server answers 404.

    Raises SightlineError with status ENVIRONMENT for a full disk, for an unreachable, silent or failing server, and for
    bytes that differ from `entry`.
    """
    why, request = "", urllib.request.Request(urllib.parse.quote(address, safe=":/?&=%@+,;~"))
    for pause in (0.0, *PAUSES_SECONDS):
        time.sleep(pause)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer, open(path, "wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
                if answer.length:
                    raise ValueError(f"the connection ended {answer.length:,} bytes early")
            if entry:
                compare(entry, path, address)
            return True
        except SightlineError as error:  # perhaps damaged on the way
            why = error.why
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = printable(str(error) or type(error).__name__)
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if optional and error.code == 404:
                    return False
            elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_error(path, error) from error
    cure = "check the server and the network; a started run continues from its last checkpoint: sightline resume RUN"
    raise SightlineError("the data cannot be downloaded", where=address, why=why, cure=cure, status=ENVIRONMENT)
