"""Small disks, read-only folders and a small /dev/shm for one child: mounts in a namespace of its own."""

import ctypes
import os
from pathlib import Path

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18


def call(name: str, *arguments: object) -> None:
    """A function of the C library that gives 0 or an errno."""
    library = ctypes.CDLL(None, use_errno=True)
    words = [text.encode() if isinstance(text, str) else text for text in arguments]
    if getattr(library, name)(*words):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def enter() -> None:
    """Give this process mounts of its own; as an ordinary user, in a user namespace where it is root."""
    user, group = os.getuid(), os.getgid()
    call("unshare", NEW_MOUNTS if user == 0 else NEW_MOUNTS | NEW_USER)
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    call("mount", "none", "/", None, RECURSIVE | PRIVATE, None)


def small_disk(folder: Path, size: str) -> None:
    """A disk of `size` (`4m`) at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    call("mount", "tmpfs", str(folder), "tmpfs", 0, f"size={size}")


def resize(folder: Path, size: str) -> None:
    call("mount", "tmpfs", str(folder), "tmpfs", REMOUNT, f"size={size}")


def freeze(folder: Path) -> None:
    """Make `folder` read-only, for root too."""
    call("mount", str(folder), str(folder), None, BIND, None)
    call("mount", str(folder), str(folder), None, BIND | REMOUNT | READ_ONLY, None)


def thaw(folder: Path) -> None:
    call("umount2", str(folder), 2)


def needs() -> str:
    """Why mounts of one's own are not to be had here."""
    child = os.fork()
    if not child:
        try:
            enter()
        except (OSError, AttributeError):
            os._exit(1)
        os._exit(0)
    failed = os.waitpid(child, 0)[1]
    return "this system gives no namespace for mounts (unshare)" if failed else ""
