"""Read packed data from a folder or an HTTP server: index.json, sample tables and shards (tar files).

A remote shard is downloaded into the spool folder, a temporary folder in the cache, and its SHA-256 is compared before
it is read. The spool folder has at most SPOOLED_SHARDS shards; the oldest is removed first.
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

from ...config.paths import absolute, is_url
from ...config.schema import Data
from ...errors import ENVIRONMENT, SightlineError, printable
from ...runs.atomic import disk_error, sha256
from ..cache import cache_root, new_temporary_folder
from ..shard_format import INDEX, SAFE, SampleTable, ShardEntry, ShardIndex, damaged, parse_index, parse_table

TIMEOUT_SECONDS = 30.0
"""Timeout in seconds of each network operation of a download."""
PAUSES_SECONDS = (1.0, 3.0, 9.0)
"""Pauses between the attempts to download a file; the number of attempts is one more."""
SPOOLED_SHARDS = 8
"""Largest number of downloaded shards on the disk: twice the number that are interleaved (`stream.GROUP`)."""


class Store:
    """The files of one packed data set, in a folder or on a server. Thread-safe. Each shard is downloaded (if
    remote) and compared with its checksum once."""

    def __init__(self, data: Data):
        self.data, self.remote = data, is_url(data.path)
        path = data.path if self.remote else absolute(data.path)
        self.has_index = not path.endswith(".tar")  # a tar file, or a pattern of tar files, has no index
        self.base = path.rstrip("/") if self.has_index else path.rpartition("/")[0]
        self.tables = self.base
        self.fetched: dict[str, str] = {}  # location -> path of the verified file; "" while it is fetched
        self.pinned: set[str] = set()
        self.locks: dict[str, threading.Lock] = {}
        self.lock = threading.Lock()
        if self.remote:
            self.spool = new_temporary_folder(cache_root(data))
            weakref.finalize(self, shutil.rmtree, self.spool, True)

    def location(self, file: str) -> str:
        """The path or URL of the shard `file` in index.json, which is a relative or absolute path or a URL."""
        return file if is_url(file) or os.path.isabs(file) else f"{self.base}/{file}"

    def spooled(self, location: str) -> Path:
        """The path in the spool folder to which the file at a URL is downloaded."""
        return self.spool / hashlib.sha256(location.encode()).hexdigest()

    def read(self, location: str) -> bytes | None:
        """Read an index or sample table; None if it does not exist. SightlineError (status ENVIRONMENT) on failure."""
        path = Path(location)
        if is_url(location):
            path = self.spooled(location)
            if not download(location, path, optional=True):
                return None
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            why = error.strerror or str(error)
            what, cure = (
                "cannot read an index or sample table of the shards",
                "check that the file exists and that you may read it: chmod u+r FILE",
            )
            raise SightlineError(what, where=location, why=why, cure=cure, status=ENVIRONMENT) from error
        finally:
            if is_url(location):
                path.unlink(missing_ok=True)

    def index(self) -> ShardIndex | None:
        """Read index.json; None for shards without an index. Raises SightlineError if it is damaged or incomplete."""
        where = f"{self.base}/{INDEX}"
        content = self.read(where) if self.has_index else None
        if content is None:
            return None
        index = parse_index(content, where)
        if not index.finished:
            cure = "repeat the `sightline pack` command, which packs the rest"
            raise SightlineError("these shards are incomplete, because packing was interrupted", where=where, cure=cure)
        entries = [entry for part in index.splits.values() for entry in part.shards]
        if not entries or not all(SAFE.fullmatch(entry.file) for entry in entries):
            raise damaged("index", where, "it has no shards, or a shard outside its folder")
        return index

    def table(self, entry: ShardEntry) -> SampleTable:
        """Read the sample table of a shard; raises SightlineError if it is missing or its SHA-256 differs."""
        location = f"{self.tables}/{entry.table or entry.file.removesuffix('.tar') + '.npz'}"
        content = self.read(location)
        if content is None or hashlib.sha256(content).hexdigest() != entry.table_sha256:
            raise damaged("sample table", location, "it is missing" if content is None else "its SHA-256 differs")
        return parse_table(content, location, entry.samples)

    def open(self, entry: ShardEntry, pin: bool = False) -> BufferedReader:
        """Open a shard for reading, after its size and SHA-256 were compared with the index; a remote shard is
        downloaded first.

        An open file remains readable after its shard is removed from the spool folder. pin: never remove this shard.
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
            path = location
            if self.remote:
                path = str(self.spooled(location))
                download(location, Path(path), entry)
            else:
                compare(entry, path, location)
            with self.lock:
                self.fetched[location] = path
                return open(path, "rb")

    def prefetch(self, entry: ShardEntry) -> None:
        """Download a shard (if remote) and compare it with its checksum, before it is needed."""
        self.open(entry).close()

    def remove_oldest(self) -> None:
        """Remove the oldest downloaded shards beyond SPOOLED_SHARDS. The caller holds `lock`."""
        removable = [location for location in self.fetched if location not in self.pinned] if self.remote else []
        for location in removable[:-SPOOLED_SHARDS]:
            if path := self.fetched.pop(location):
                Path(path).unlink(missing_ok=True)


def compare(entry: ShardEntry, path: str | Path, where: str) -> None:
    """Raise SightlineError if a shard is missing, or its size or SHA-256 differs from the entry in the index. Values
    that are empty in the entry are not compared. where: location of the shard, for messages."""
    try:
        size = os.path.getsize(path)
        if entry.bytes and size != entry.bytes:
            raise damaged("shard", where, f"it has {size:,} bytes instead of {entry.bytes:,} as in the index")
        if entry.sha256 and sha256(path) != entry.sha256:
            raise damaged("shard", where, "its SHA-256 differs from the index: its bytes have changed")
    except OSError as error:
        raise damaged("shard", where, error.strerror or str(error)) from error


def download(address: str, path: Path, entry: ShardEntry | None = None, optional: bool = False) -> bool:
    """Download a URL to `path`, with retries. Returns False if `optional` and the server responds with 404.

    Raises SightlineError (status ENVIRONMENT) if the disk is full, if the server is unreachable, times out or fails, or
    if the downloaded file differs from its `entry` in the index.
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
        except SightlineError as error:  # it may be damaged in transit
            why = error.why
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = printable(str(error) or type(error).__name__)
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if optional and error.code == 404:
                    return False
            elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_error(path, error) from error
    cure = "check the server and the network, then repeat the command; if a run had started: sightline resume RUN"
    raise SightlineError("the data cannot be downloaded", where=address, why=why, cure=cure, status=ENVIRONMENT)
