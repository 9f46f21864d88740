"""The shim that lets the n-th call on some files fail: built with gcc, loaded by LD_PRELOAD, used by ctypes.

It has to be there when a process starts, so `start_with_shim` starts the harness once more; all its children have it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "shim" / "nth.c"
COUNT, KILL, TORN, FAIL = 0, 1, 2, 3
PLACE = "RELIABILITY_SHIM"


def loaded() -> bool:
    """Whether this process was started with the shim."""
    return hasattr(ctypes.CDLL(None), "nth_arm")


def needs() -> str:
    """Why the shim cannot be used here."""
    return "" if loaded() else "there is no shim for system calls: it needs gcc and LD_PRELOAD"


def start_with_shim() -> None:
    """Start this program again with the shim, unless it was or cannot be; programs that it starts are without."""
    if place := os.environ.pop(PLACE, ""):
        before = os.environ.pop("LD_PRELOAD", "").partition(":")[2]
        os.environ.update({"LD_PRELOAD": before} if before else {})
        shutil.rmtree(place, ignore_errors=True)
        return
    if not sys.platform.startswith("linux") or not shutil.which("gcc"):
        return
    folder = Path(tempfile.mkdtemp(prefix="reliability-shim-"))
    try:
        library = built(folder)
    except subprocess.CalledProcessError:  # `needs` says so
        return
    more = {PLACE: str(folder), "LD_PRELOAD": f"{library}:{os.environ.get('LD_PRELOAD', '')}"}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | more)


def built(folder: Path) -> Path:
    """The shim as a shared library in `folder`."""
    library = folder / "nth.so"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class Shim:
    """The shim that this process was started with."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(None)
        self.library.nth_count.restype = ctypes.c_long
        self.library.nth_last.restype = self.library.nth_kinds.restype = ctypes.c_char_p
        self.library.nth_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]

    def arm(self, folders: list[Path], n: int, mode: int, error: int = 0, lasting: bool = False) -> None:
        """Begin to count calls below `folders`; the n-th of them, from 1, is the fault."""
        self.library.nth_arm("".join(f"{folder}\n" for folder in folders).encode(), n, mode, error, lasting)

    @property
    def count(self) -> int:
        return self.library.nth_count()
