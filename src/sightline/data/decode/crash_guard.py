"""Which image was being read when the program died: a native decoder that crashes ends it without a word.

While images are read, their paths stand in a small file that outlives the process. Whoever starts next finds it, reads
each of those images alone in a process of its own, and refuses the ones that end it as it refuses other bad images.
"""

import contextlib
import itertools
import json
import mmap
import os
import platform
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from ...errors import SightlineError
from ...runs.atomic import make_folder, process_lives, write_json

READING, CRASHED = ".sightline-reading-", "crashed.json"
SLOTS, SLOT_BYTES = 64, 4096
"""Threads that may read at once, and bytes of a path; of longer ones the end is kept off."""
SLOWEST = 60.0
"""Seconds after which an image that is read alone counts as one that never ends."""

_page: mmap.mmap | None = None
_page_path, _page_users, _page_lock = Path(), 0, threading.Lock()
_thread = threading.local()
_slots = itertools.count()
_crashed: dict[str, tuple[list[int], str]] = {}


@contextlib.contextmanager
def laid(root: Path) -> Generator[None]:
    """While the block runs, `reading` leaves its crumbs in `root`; before, what a dead process left there is tried.

    Blocks that overlap, within one another or in several threads, share the page of the first.
    """
    global _page, _page_users
    with _page_lock:
        if _page is None:
            _page = new_page(root)
        _page_users += 1
    try:
        yield
    finally:
        with _page_lock:
            _page_users -= 1
            if _page is not None and not _page_users:
                _page = None  # and not closed: a thread that still reads writes to it, into a file without a name
                _page_path.unlink(missing_ok=True)


def new_page(root: Path) -> mmap.mmap | None:
    """A page for this process in `root`; None where there is no place to write, or a full disk."""
    global _page_path
    path = root / f"{READING}{os.getpid()}-{platform.node()}-{secrets.token_hex(4)}"
    try:
        make_folder(root)
        learn(root)
        with open(path, "wb+") as file:
            file.truncate(SLOTS * SLOT_BYTES)
            page = mmap.mmap(file.fileno(), SLOTS * SLOT_BYTES)
    except OSError:  # what needs the place says so; crumbs are no reason to stop
        path.unlink(missing_ok=True) if root.is_dir() and os.access(root, os.W_OK) else None
        return None
    _page_path = path
    return page


@contextlib.contextmanager
def reading(path: str) -> Generator[None]:
    """Leave a crumb while `path` is read; SightlineError where reading it has ended a program before."""
    if path in _crashed and stamp(path) == _crashed[path][0]:
        raise SightlineError(_crashed[path][1])
    page = _page
    if page is None:
        yield
        return
    if not hasattr(_thread, "start"):
        _thread.start = next(_slots) % SLOTS * SLOT_BYTES
    start, text = _thread.start, os.fsencode(path)[: SLOT_BYTES - 1] + b"\0"
    page[start : start + len(text)] = text
    try:
        yield
    finally:
        if page is _page:
            page[start] = 0


def stamp(path: str) -> list[int]:
    """Size and time of change; nothing where the file has gone."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_mtime_ns]


def learn(root: Path) -> None:
    """Try what dead processes of this machine were reading, and remember what ends a process."""
    _crashed.update(remembered(root))
    suspects: list[str] = []
    for crumbs in root.glob(f"{READING}*"):
        owner, _, rest = crumbs.name.removeprefix(READING).partition("-")
        if rest.rpartition("-")[0] == platform.node() and owner.isdigit() and not process_lives(int(owner)):
            content = crumbs.read_bytes()
            paths = [content[at : at + SLOT_BYTES].partition(b"\0")[0] for at in range(0, len(content), SLOT_BYTES)]
            suspects += [os.fsdecode(path) for path in paths if path]
            crumbs.unlink(missing_ok=True)
    found = {path: (stamp(path), why) for path, why in tried(suspects).items()}
    if found:
        _crashed.update(found)
        kept = {path: each for path, each in _crashed.items() if stamp(path) == each[0]}
        write_json(root / CRASHED, {path.encode("utf-8", "surrogateescape").hex(): each for path, each in kept.items()})


def remembered(root: Path) -> dict[str, tuple[list[int], str]]:
    """What is known to end a process: path -> (stamp, why)."""
    try:
        known = json.loads((root / CRASHED).read_text(encoding="utf-8"))
        return {os.fsdecode(bytes.fromhex(path)): (list(mark), str(why)) for path, (mark, why) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def tried(paths: Sequence[str]) -> dict[str, str]:
    """Of the images that end a process which reads them, why; each is read in a process that may die of it."""
    found = {}
    for path in dict.fromkeys(paths):
        if not os.path.isfile(path):
            continue
        command = [sys.executable, "-m", "sightline.data.decode.crash_guard", path]
        try:
            status = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SLOWEST).returncode
        except subprocess.TimeoutExpired:
            found[path] = f"reading it does not end within {SLOWEST:.0f} s"
            continue
        except (OSError, ValueError):
            continue
        if status:
            how = signal.Signals(-status).name if -status in [*signal.Signals] else f"exit status {status}"
            found[path] = f"its decoder crashes: reading it ends the program ({how})"
    return found


def read_alone(path: str) -> None:
    """Read an image as `open_image` would, in the ways that it does."""
    from ...config.schema import Data
    from .images import open_image

    for side in (0, 224):
        with contextlib.suppress(SightlineError):
            open_image(path, Data().max_pixels, side)


if __name__ == "__main__":
    read_alone(sys.argv[1])
