"""The shim that lets the n-th call on some files fail: built with gcc, used from Python by ctypes."""

import ctypes
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "shim" / "nth.c"
COUNT, KILL, TORN, FAIL = 0, 1, 2, 3


def needs() -> str:
    """Why the shim cannot be used here."""
    return "" if shutil.which("gcc") else "there is no gcc, which builds the shim for system calls"


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
