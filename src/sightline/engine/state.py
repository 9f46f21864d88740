"""The state of the training loop, and the log of its steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..config.schema import Config
from ..data.loader import batches_per_epoch
from ..data.types import Batch
from ..runs.deferred_writes import DeferredWrites
from ..runs.log import RunLog
from ..runs.signals import StopRequest
from . import distributed
from .optim import Average
from .parts import Parts
from .schedules import schedule_epochs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Say = Callable[[str], None]


@dataclass
class Progress:
    """Progress of a run; saved in checkpoints/last with the tensors.

    step: number of completed steps. seconds: training time so far. stopped: why training ended before its last epoch,
    or "".

    best, best_epoch: best value so far of `train.best_metric`, and its epoch. ensemble: [score, epoch] of the epochs in
    the ensemble; lower scores are better.

    loss_sum, loss_count: sum of the losses, and number of steps, since the last log line. parts: into how many parts
    each batch is split to fit into memory.
    """

    step: int = 0
    seconds: float = 0.0
    stopped: str = ""
    best: float | None = None
    best_epoch: int = 0
    ensemble: list[list[float]] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0
    parts: int = 1


class TrainingFunctions(Protocol):
    """The functions of a task that the training loop calls; `tasks.contract.Task` describes them."""

    @property
    def build(self) -> Callable[[Any, Say, str, bool], Parts]: ...

    @property
    def preview(self) -> "Callable[[Training, Batch], Figure]": ...

    @property
    def results(self) -> "Callable[[Training], tuple[dict[str, Any], str]]": ...

    @property
    def baselines(self) -> "Callable[[Training, float], tuple[dict[str, float], list[str]]] | None": ...


@dataclass(frozen=True)
class Training:
    """The objects of a run in progress. forward: function from a batch to its loss; with several processes it is
    wrapped for data parallelism. scaler: see `device.loss_scaler`."""

    config: Config
    functions: TrainingFunctions
    folder: Path
    log: RunLog
    parts: Parts
    optimizer: torch.optim.Optimizer
    average: Average | None
    progress: Progress
    stop: StopRequest
    forward: Callable[[Batch], dict[str, torch.Tensor]]
    scaler: torch.amp.GradScaler
    deferred: DeferredWrites = field(default_factory=DeferredWrites)

    @property
    def world(self) -> distributed.World:
        return distributed.world()

    @property
    def batch_count(self) -> int:
        """Number of batches in an epoch."""
        return batches_per_epoch(len(self.parts.train.names), self.config.train.batch_size)

    @property
    def epoch_steps(self) -> int:
        return -(-self.batch_count // self.config.optim.accumulate)

    @property
    def total_steps(self) -> int:
        return self.epoch_steps * self.config.train.epochs

    @property
    def schedule_steps(self) -> int:
        return self.epoch_steps * schedule_epochs(self.config)

    @property
    def epoch(self) -> int:
        """The current epoch, from 1; after its last step, the epoch just completed. 0 before the first step."""
        return -(-self.progress.step // self.epoch_steps)


@dataclass
class Clock:
    """Times for the log and the checkpoints.

    start: time of the last log line. saved: time of the last save of the state. waited, images: seconds spent
    waiting for data, and number of images, since the last log line.
    """

    start: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    images: int = 0


def log_step(training: Training, clock: Clock, group: list[Batch], loss: float, norm: float, rate: float) -> None:
    """Add a step's loss and images to the sums for the log; about 20 times per epoch, log mean and speed."""
    progress, now = training.progress, time.monotonic()
    clock.images += sum(len(batch.all_samples) for batch in group)
    progress.loss_sum += loss
    progress.loss_count += 1
    if progress.step % max(1, training.epoch_steps // 20) == 0 or progress.step % training.epoch_steps == 0:
        spent = max(now - clock.start, 1e-9)
        training.log.event(
            "train",
            step=progress.step,
            epoch=progress.step / training.epoch_steps,
            loss=progress.loss_sum / progress.loss_count,
            lr=rate,
            images_per_second=clock.images / spent,
            data_wait=min(clock.waited / spent, 1.0),
            grad_norm=norm,
        )
        progress.loss_sum, progress.loss_count = 0.0, 0
        clock.start, clock.waited, clock.images = now, 0.0, 0
