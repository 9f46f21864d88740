"""Python side of shim/syscall_faults.c, an LD_PRELOAD library in which the n-th file system call fails.

The library must be loaded when a process starts, so `restart_with_shim` restarts the harness; its
forked children inherit it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "shim" / "syscall_faults.c"
COUNT, KILL, TORN, FAIL = 0, 1, 2, 3
FOLDER_VARIABLE = "RELIABILITY_SHIM"


def unavailable() -> str:
    """Why the shim is unavailable in this process, "" if it is loaded."""
    loaded = hasattr(ctypes.CDLL(None), "fault_arm")
    return "" if loaded else "the shim for system calls needs Linux, gcc and LD_PRELOAD"


def restart_with_shim() -> None:
    """Restart this program with the shim; return if that was done already, or is impossible.

    Programs that the restarted one executes run without it.
    """
    if folder := os.environ.pop(FOLDER_VARIABLE, ""):
        before = os.environ.pop("LD_PRELOAD", "").partition(":")[2]
        os.environ.update({"LD_PRELOAD": before} if before else {})
        shutil.rmtree(folder, ignore_errors=True)
        return
    if not sys.platform.startswith("linux") or not shutil.which("gcc"):
        return
    folder = tempfile.mkdtemp(prefix="reliability-shim-")
    library = f"{folder}/syscall_faults.so"
    try:
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, str(SOURCE), "-ldl"], check=True)
    except subprocess.CalledProcessError:  # `unavailable` reports it
        return
    more = {FOLDER_VARIABLE: folder, "LD_PRELOAD": f"{library}:{os.environ.get('LD_PRELOAD', '')}"}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | more)


class Shim:
    """The shim that is loaded in this process."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(None)
        self.library.fault_last.restype = self.library.fault_kinds.restype = ctypes.c_char_p
        self.library.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]

    def arm(self, folders: list[Path], n: int, mode: int, error: int = 0, lasting: bool = False) -> None:
        """Start to count calls below `folders`, and inject the fault at the n-th, from 1.

        mode: COUNT only counts; KILL kills before the call; TORN kills after half of a write; FAIL sets errno to
        `error`, also for later calls that need space if `lasting`.
        """
        self.library.fault_arm("".join(f"{folder}\n" for folder in folders).encode(), n, mode, error, lasting)
