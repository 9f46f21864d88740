"""What the training loop calls of a task."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from ..data.loader import Batch

Arrays = dict[str, np.ndarray]


class Learner(Protocol):
    """What the training loop calls.

    step: a training batch -> {"loss": scalar with a graph, ...}; of one process's part of a batch also "weight", the
    denominator of that mean, unless it is the number of images. after_step: called after each optimizer step (to move
    a target network, say). metrics: (numbers by name, arrays by name) over a whole split, in its order; of several
    processes rank 0 has them and the others ({}, {}). parameters: the module that is trained.
    """

    def step(self, batch: Batch) -> dict[str, Tensor]: ...

    def after_step(self, step: int, total_steps: int) -> None: ...

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]: ...

    def parameters(self) -> nn.Module: ...
