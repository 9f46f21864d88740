"""Where shards lie: on this machine, or at an address from which each is fetched whole, and checked, before it is read.

A fetched shard lies in a spool folder inside the cache and is removed after its last use; so much disk is needed as
the shards that are read at once and those fetched ahead, see stream.py.
"""

import contextlib
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
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import ENVIRONMENT, SightlineError, printable
from ...runs.atomic import disk_error, sha256

TIMEOUT_SECONDS = 30.0
"""A server that sends nothing for so long is given up for this attempt."""
PAUSES_SECONDS = (1.0, 3.0, 9.0)
"""Between the attempts; there is one more of these than pauses."""
PIECE = 1 << 20
SMALL = 1 << 30
"""An index or a table may have so many bytes at most."""


class Shard(NamedTuple):
    """A tar file. location: path or address. samples, nbytes, sha256: what the index says; empty: not known."""

    location: str
    samples: int
    nbytes: int
    sha256: str


def is_address(path: str) -> bool:
    """Whether data lie on a server."""
    return path.startswith(("http://", "https://"))


class Store:
    """The place of a set of shards. Safe in threads: each shard is checked, and fetched, once."""

    def __init__(self, data: Data):
        path = data.path if is_address(data.path) else absolute(data.path)
        alone = path.endswith(".tar")
        self.remote = is_address(path)
        self.base = path.rpartition("/")[0] if alone else path.rstrip("/")
        self.alone = alone
        self.data = data
        self.spool: Path | None = None
        self.here: dict[str, str] = {}  # location -> a path whose bytes are checked
        self.users: Counter[str] = Counter()
        self.kept: set[str] = set()
        self.locks: dict[str, threading.Lock] = {}
        self.lock = threading.Lock()

    def name(self, file: str) -> str:
        """The path or address of a file of the set."""
        return file if is_address(file) or os.path.isabs(file) else f"{self.base}/{file}"

    def small(self, file: str) -> bytes | None:
        """The bytes of an index or a table; None where there is no such file."""
        if self.alone:
            return None
        if self.remote:
            return fetched(self.name(file), None, missing=True)
        try:
            return Path(self.name(file)).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            why = error.strerror or str(error)
            raise SightlineError("cannot read the index", where=self.name(file), why=why, status=ENVIRONMENT) from error

    @contextlib.contextmanager
    def lent(self, shard: Shard, keep: bool = False) -> Generator[str]:
        """A path of the whole, checked shard for as long as the block runs; keep: until the end of the process."""
        path = self.borrow(shard, keep)
        try:
            yield path
        finally:
            self.give_back(shard)

    def borrow(self, shard: Shard, keep: bool = False) -> str:
        """As `lent`, to be given back."""
        with self.lock:
            own = self.locks.setdefault(shard.location, threading.Lock())
            self.users[shard.location] += 1
            if keep:
                self.kept.add(shard.location)
        try:
            with own:
                if shard.location not in self.here:
                    self.here[shard.location] = self.fetch(shard) if self.remote else self.check(shard)
                return self.here[shard.location]
        except BaseException:
            self.give_back(shard)
            raise

    def give_back(self, shard: Shard) -> None:
        """The end of a loan; a fetched shard that nobody uses is removed."""
        with self.lock:
            self.users[shard.location] -= 1
            idle = self.remote and not self.users[shard.location] and shard.location not in self.kept
            path = self.here.pop(shard.location, None) if idle else None
        if path:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def check(self, shard: Shard) -> str:
        """The path of a shard on this machine, once its length and SHA-256 are those of the index."""
        try:
            size = os.path.getsize(shard.location)
            found = sha256(shard.location) if size == shard.nbytes and shard.sha256 else ""
        except OSError as error:
            why = error.strerror or str(error)
            cure = "copy it again from where it came"
            raise SightlineError("a shard is missing", where=shard.location, why=why, cure=cure) from error
        refuse_damaged(shard, size, found)
        return shard.location

    def fetch(self, shard: Shard) -> str:
        """Copy a shard from its server into the spool folder."""
        with self.lock:
            if self.spool is None:
                self.spool = new_spool(self.data)
                weakref.finalize(self, shutil.rmtree, self.spool, True)
        path = self.spool / hashlib.sha256(shard.location.encode()).hexdigest()[:32]
        fetched(shard.location, path, shard)
        return str(path)


def new_spool(data: Data) -> Path:
    """An empty folder in the cache, which a later process removes if this one is killed."""
    from ..cache import cache_root, sweep, temporary_folder

    root = cache_root(data)
    folder = temporary_folder(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        folder.mkdir()
    except OSError as error:
        raise disk_error(folder, error) from error
    return folder


def refuse_damaged(shard: Shard, size: int, digest: str) -> None:
    """SightlineError where a shard's bytes are not those of the index."""
    from .index import damaged

    if shard.nbytes and size != shard.nbytes:
        raise damaged(shard.location, f"it has {size:,} bytes, and the index says {shard.nbytes:,}")
    if shard.sha256 and digest != shard.sha256:
        raise damaged(shard.location, "its SHA-256 is not the one of the index: bits have changed")


def fetched(address: str, path: Path | None, shard: Shard | None = None, missing: bool = False) -> bytes | None:
    """The bytes at an address, or None once they lie at `path`, tried several times; missing: None for a 404 too.

    Raises SightlineError (status ENVIRONMENT) for a server that refuses, hangs, or sends something else than `shard`.
    """
    error: Exception | None = None
    for pause in (*PAUSES_SECONDS, None):
        try:
            return fetch_once(address, path, shard)
        except urllib.error.HTTPError as problem:
            problem.close()
            if missing and problem.code == 404:
                return None
            error = problem
            if 400 <= problem.code < 500 and problem.code not in (408, 425, 429):
                break
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as problem:
            error = problem
        except SightlineError as problem:  # damaged on its way, perhaps
            error = problem
        if pause is not None:
            time.sleep(pause)
    if isinstance(error, SightlineError):
        raise SightlineError(error.what, where=error.where, why=error.why, cure=error.cure, status=ENVIRONMENT)
    cure = "check the server and the network; a run that was begun goes on from its last state: sightline resume RUN"
    why = printable(str(error) or type(error).__name__)
    raise SightlineError("the data cannot be fetched", where=address, why=why, cure=cure, status=ENVIRONMENT) from error


def fetch_once(address: str, path: Path | None, shard: Shard | None) -> bytes | None:
    """One attempt of `fetched`."""
    checksum, size, pieces = hashlib.sha256(), 0, []
    request = urllib.request.Request(urllib.parse.quote(address, safe=":/?&=%@+,;~"))
    with contextlib.ExitStack() as stack:
        answer = stack.enter_context(urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS))
        promised = answer.headers.get("Content-Length")
        file = stack.enter_context(open(path, "wb")) if path else None
        while piece := answer.read(PIECE):
            size += len(piece)
            if file is None:
                if size > SMALL:
                    raise SightlineError("this is no index", where=address, why="it has more than 1 GB")
                pieces.append(piece)
            else:
                checksum.update(piece)
                try:
                    file.write(piece)
                except OSError as error:
                    raise disk_error(Path(str(path)), error) from error
    if promised is not None and int(promised) != size:
        raise http.client.IncompleteRead(b"", int(promised) - size)
    if shard is not None:
        refuse_damaged(shard, size, checksum.hexdigest())
    return b"".join(pieces) if path is None else None
