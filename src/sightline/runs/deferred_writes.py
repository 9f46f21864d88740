"""Deferred writes: weights and snapshots that could not be written to the disk are retried at the next save."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..errors import ENVIRONMENT, SightlineError

MAX_FAILED_SAVES = 3
"""After this number of failed saves in a row, the run ends with an error."""


@dataclass
class DeferredWrites:
    """Writes of weights and snapshots that failed, by path, and the number of failed saves in a row.

    The failed writes are retried before the next state for resumption is written, so that a state never refers to
    missing weights. Until then the previous state remains on disk; resuming from it trains these epochs again, and
    writes the same files.
    """

    writes: dict[Path, Callable[[], object]] = field(default_factory=dict)
    failures: int = 0

    def write(self, path: Path, write: Callable[[Any], object], content: Mapping[str, Any]) -> None:
        """Call `write(content)`, which writes `path`; after a disk error, keep a copy that `flush` writes."""
        self.writes.pop(path, None)
        try:
            write(content)
        except SightlineError as error:
            if error.status != ENVIRONMENT:
                raise
            self.writes[path] = partial(write, copied(content))

    def remove(self, folder: Path) -> None:
        """Remove a folder. If there are failed writes, do it after their retry, because they may include its
        replacement."""
        self.writes.pop(folder, None)
        removal = partial(shutil.rmtree, folder, ignore_errors=True)
        if self.writes:
            self.writes[folder] = removal
        else:
            removal()

    def flush(self) -> None:
        """Retry all failed writes in order. If one fails again, raise SightlineError; it and the later ones are
        kept."""
        for path in list(self.writes):
            self.writes[path]()
            del self.writes[path]


def copied(content: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a failed write's tensors to the CPU, because training modifies them in place; share its arrays."""
    return {
        name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
        for name, value in content.items()
    }
