"""A task turns a batch into a loss. The loop knows a task only through this contract.

    step(batch)               -> {"loss": scalar with a graph, ...}; of one process's part of a batch also "weight",
                                 what the loss is a mean over, unless that is the images
    after_step(step, total)   -> None, after each optimizer step (a moving-average target, say)
    metrics(batches)          -> (numbers by name, arrays by name) over a whole split, in its order; of a run of several
                                 processes in the first one, ({}, {}) in the others
    parameters()              -> the module whose parameters are trained

A fifth hook is the sign that something is in the wrong room.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..data.loader import Batch

Arrays = dict[str, np.ndarray]


class Task(Protocol):
    """What the loop needs to know; see the module's docstring."""

    def step(self, batch: Batch) -> dict[str, torch.Tensor]: ...

    def after_step(self, step: int, total_steps: int) -> None: ...

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]: ...

    def parameters(self) -> nn.Module: ...


def build_task(config: Any, **parts: Any) -> Task:
    """The task that `config.task` names, out of its parts."""
    from .classify.task import Classify
    from .pretrain.task import Byol
    from .segment.task import Segment

    tasks: dict[str, Callable[..., Task]] = {"classify": Classify, "segment": Segment, "byol": Byol}
    return tasks[config.task](config, **parts)
