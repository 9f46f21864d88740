"""`sightline cache`: list the decoded images on disk, or remove them."""

import os
from pathlib import Path

from ..errors import SightlineError
from .cache import cache_clear, cache_list


def cache(*, clear: bool = False, folder: str | os.PathLike[str] | None = None) -> str:
    """List the decoded images on disk, or remove them all. folder: a `data.cache_dir`; None: the usual place."""
    root = Path(folder) if folder is not None else None
    if root is not None and not root.is_dir():
        raise SightlineError("there is no such folder", where=str(root), cure="the folder that data.cache_dir named")
    if clear:
        count, size = cache_clear(root)
        return f"removed {count} decoded sets, {size / 1e6:,.1f} MB"
    entries = cache_list(root)
    lines = [f"{entry.nbytes / 1e6:10,.1f} MB  {entry.images:>9,} images  {entry.source}" for entry in entries]
    return "\n".join(lines) if lines else "the cache is empty"
