"""Crash guard: report images that crashed a native decoder in an earlier process as unreadable.

Each process writes the paths of the images that it is decoding into a memory-mapped temporary file, which remains if
the process crashes. The next process decodes the images named in such files in subprocesses first, and reports those
that crash again as unreadable.
"""

import atexit
import contextlib
import itertools
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from pathlib import Path

from ...errors import SightlineError
from ...runs.atomic import WINDOWS, process_exists

PREFIX = "sightline-decoding-"
SLOTS, SLOT_BYTES = 64, 4096
"""Number of threads that may decode at once, and bytes for the path of each; longer paths are truncated."""
TIMEOUT_SECONDS = 60
FAILS = "the decoder of the image fails"
CURE = (
    "save the image again with another program, or remove it; to train without a few such images (not in "
    "segmentation): --data.on_bad_image skip"
)

_page: mmap.mmap | None = None
_lock, _thread, _slots = threading.Lock(), threading.local(), itertools.count()
_crashing: dict[str, str] = {}


@contextlib.contextmanager
def record_decoding(path: str) -> Generator[None]:
    """Context manager: record that the image `path` is being decoded, in case the decoder crashes this process.
    Raises SightlineError if decoding this image has crashed an earlier process."""
    page = open_page()
    if path in _crashing:
        raise SightlineError(f"{FAILS}: {_crashing[path]}", cure=CURE)
    if not hasattr(_thread, "start"):
        _thread.start = next(_slots) % SLOTS * SLOT_BYTES
    start, text = _thread.start, os.fsencode(path)[: SLOT_BYTES - 1] + b"\0"
    page[start : start + len(text)] = text
    try:
        yield
    finally:
        page[start] = 0


def open_page() -> mmap.mmap:
    """The memory-mapped file in which this process records the images that it is decoding. It is removed at exit.
    The first call also runs `check_suspects`."""
    global _page
    with _lock:
        if _page is None:
            _page = mmap.mmap(-1, SLOTS * SLOT_BYTES)  # in memory alone, in case no file can be written
            with contextlib.suppress(OSError, ValueError):
                check_suspects()
                handle, path = tempfile.mkstemp(prefix=f"{PREFIX}{os.getpid()}-")
                atexit.register(remove_page, Path(path))
                with open(handle, "wb+", buffering=0) as file:
                    file.write(bytes(SLOTS * SLOT_BYTES))
                    _page = mmap.mmap(file.fileno(), 0)
        return _page


def remove_page(path: Path) -> None:
    """Remove the file of this process. On Windows it is closed first, because mapped files cannot be removed there."""
    if WINDOWS and _page is not None:
        _page.close()
    with contextlib.suppress(OSError):
        path.unlink()


def check_suspects() -> None:
    """Test the images that crashed processes of this user were decoding. Those that crash again remain recorded, so
    that the next process tests them too."""
    for page in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        of_other_user = hasattr(os, "getuid") and page.stat().st_uid != os.getuid()
        if of_other_user or process_exists(int(page.name.removeprefix(PREFIX).partition("-")[0])):
            continue
        content = page.read_bytes()
        slots = {content[at : at + SLOT_BYTES].partition(b"\0")[0] for at in range(0, len(content), SLOT_BYTES)}
        crashing = {path: why for path in slots - {b""} if (why := crash_of(os.fsdecode(path)))}
        _crashing.update({os.fsdecode(path): why for path, why in crashing.items()})
        page.write_bytes(b"".join(path.ljust(SLOT_BYTES, b"\0") for path in crashing))
        if not crashing:
            page.unlink()


def crash_of(path: str) -> str:
    """Decode an image in a subprocess. If it crashes, return how (signal, exit status or timeout); else ""."""
    command = [sys.executable, "-m", f"{__package__}.rasters", path]
    try:
        test = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"decoding takes more than {TIMEOUT_SECONDS} s"
    status = test.returncode
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return f"decoding crashes the process ({how})" if status else ""
