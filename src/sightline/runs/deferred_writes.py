"""Retries checkpoint and snapshot writes that failed, at the next save."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..errors import ENVIRONMENT, SightlineError

MOST_REFUSED = 3
"""Consecutive failed saves that end the run."""


@dataclass
class DeferredWrites:
    """Failed writes of weights and snapshots by path, and the number of consecutive failed saves.

    They are retried before the next state for resumption is written, so that a state never refers to missing weights.
    Until then the previous state remains, from which all of them can be computed again.
    """

    writes: dict[Path, Callable[[], object]] = field(default_factory=dict)
    refused: int = 0

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
        """Remove a folder, after the deferred writes if there are any: its replacement may be one of them."""
        self.writes.pop(folder, None)
        removal = partial(shutil.rmtree, folder, ignore_errors=True)
        if self.writes:
            self.writes[folder] = removal
        else:
            removal()

    def flush(self) -> None:
        """Retry all deferred writes in order; SightlineError at the first that fails, which keeps it and the rest."""
        for path in list(self.writes):
            self.writes[path]()
            del self.writes[path]


def copied(content: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the tensors to the CPU, because training changes them in place; arrays are never changed."""
    return {
        name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
        for name, value in content.items()
    }
