"""Deferred writes: checkpoints and snapshots that could not be written are retried at the next save."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..errors import ENVIRONMENT, SightlineError

MAX_FAILED_SAVES = 3
"""Consecutive failed saves that end the run."""


@dataclass
class DeferredWrites:
    """Failed writes of weights and snapshots by path, and the number of consecutive failed saves.

    They are retried before the next state for resumption is written, so that no state refers to missing weights. Until
    then the previous state remains on disk, and resuming from it computes them again.
    """

    writes: dict[Path, Callable[[], object]] = field(default_factory=dict)
    failures: int = 0

    def write(self, path: Path, write: Callable[[Any], object], content: Mapping[str, Any]) -> None:
        """Call `write(content)`, which writes `path`; after a disk error keep a copy of the content for `flush`."""
        self.writes.pop(path, None)
        try:
            write(content)
        except SightlineError as error:
            if error.status != ENVIRONMENT:
                raise
            self.writes[path] = partial(write, copied(content))

    def remove(self, folder: Path) -> None:
        """Remove a folder; if writes are deferred, only after them, because they may include its replacement."""
        self.writes.pop(folder, None)
        removal = partial(shutil.rmtree, folder, ignore_errors=True)
        if self.writes:
            self.writes[folder] = removal
        else:
            removal()

    def flush(self) -> None:
        """Retry all deferred writes in order. Raises SightlineError at the first that fails; it and the others stay
        deferred.
        """
        for path in list(self.writes):
            self.writes[path]()
            del self.writes[path]


def copied(content: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the tensors to the CPU, because training modifies them in place; arrays are never modified."""
    return {
        name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
        for name, value in content.items()
    }
