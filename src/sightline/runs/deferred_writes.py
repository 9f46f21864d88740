"""What the disk refused while a run goes on: it waits in memory, and is written anew with the next save."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..errors import ENVIRONMENT, SightlineError

MOST_REFUSED = 3
"""Saves in a row that may fail before the run is ended."""


@dataclass
class DeferredWrites:
    """Weights and snapshots that a full or failing disk has refused, by their path; and how many saves in a row.

    They are written before the next state for resumption, so that no state on the disk tells of weights that are not
    there. Until then the state before stands, from which all of them would be made again.
    """

    writes: dict[Path, Callable[[], object]] = field(default_factory=dict)
    refused: int = 0

    def write(self, path: Path, write: Callable[[Any], object], content: Mapping[str, Any]) -> None:
        """`write(content)`, which makes `path`; where the disk refuses it, it waits with a copy of the tensors."""
        self.writes.pop(path, None)
        try:
            write(content)
        except SightlineError as error:
            if error.status != ENVIRONMENT:
                raise
            self.writes[path] = partial(write, copied(content))

    def remove(self, folder: Path) -> None:
        """Remove a folder, after whatever waits: what takes its place may be among it."""
        self.writes.pop(folder, None)
        removal = partial(shutil.rmtree, folder, ignore_errors=True)
        if self.writes:
            self.writes[folder] = removal
        else:
            removal()

    def flush(self) -> None:
        """Do all that waits; SightlineError where the disk refuses it again, and the rest waits on."""
        for path in list(self.writes):
            self.writes[path]()
            del self.writes[path]


def copied(content: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as they are now, on the CPU: weights change in place as a run goes on. Arrays are never changed."""
    return {
        name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
        for name, value in content.items()
    }
