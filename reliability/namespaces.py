"""Small disks, read-only folders and a small /dev/shm for one child process, by mounts in its own namespace."""

import ctypes
import os
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 1, 32, 4096, 16384, 1 << 18, 2


def libc_call(name: str, *arguments: object) -> None:
    """Call a function of the C library that returns 0 on success; raises OSError with errno otherwise."""
    library = ctypes.CDLL(None, use_errno=True)
    encoded = [text.encode() if isinstance(text, str) else text for text in arguments]
    if getattr(library, name)(*encoded):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def enter() -> None:
    """Move this process to a new mount namespace; for an ordinary user also to a user namespace, as its root user."""
    user, group = os.getuid(), os.getgid()
    libc_call("unshare", CLONE_NEWNS if user == 0 else CLONE_NEWNS | CLONE_NEWUSER)
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    libc_call("mount", "none", "/", None, MS_REC | MS_PRIVATE, None)


def mount_disk(folder: Path, size: str) -> None:
    """Mount a tmpfs of `size` (`4m`) at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    libc_call("mount", "tmpfs", str(folder), "tmpfs", 0, f"size={size}")


def resize_disk(folder: Path, size: str) -> None:
    """Change the size of the tmpfs at `folder`."""
    libc_call("mount", "tmpfs", str(folder), "tmpfs", MS_REMOUNT, f"size={size}")


def mount_read_only(folder: Path) -> None:
    """Make `folder` read-only, also for root, by a bind mount."""
    libc_call("mount", str(folder), str(folder), None, MS_BIND, None)
    libc_call("mount", str(folder), str(folder), None, MS_BIND | MS_REMOUNT | MS_RDONLY, None)


def unmount(folder: Path) -> None:
    """Detach the mount at `folder`."""
    libc_call("umount2", str(folder), MNT_DETACH)


def unavailable() -> str:
    """Why mount namespaces are unavailable on this system, "" if they are available."""
    child = os.fork()
    if not child:
        try:
            enter()
        except (OSError, AttributeError):
            os._exit(1)
        os._exit(0)
    failed = os.waitpid(child, 0)[1]
    return "mount namespaces are not permitted on this system (unshare)" if failed else ""
