"""THE loop: recipe in, run folder out. backward() is here; what a loss is stands in tasks/."""

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from . import runs, saving
from .build import Parts, build, epoch_cost
from .checkpoint import preflight
from .config import Config
from .data.augment import check_augment
from .data.loader import Batch, steps_per_epoch, training_batches
from .device import autocast
from .errors import counted
from .evaluate import evaluate
from .finish import finish, save_preview
from .lock import lock_run
from .log import RunLog
from .memory import explained_memory, in_parts
from .models import layer_depths
from .optim import Average, build_optimizer, clip_gradients, uphill
from .recipes import load_recipe
from .runs import Run
from .schedules import climbs, cycled_momentum, factor, schedule_epochs
from .settings import resolve
from .signals import StopRequest, stoppable
from .tasks.collapse import collapse

INTERRUPTED_BY_SIGNAL = "interrupted"


@dataclass
class Progress:
    """What changes while a run goes on, and all that a resumed run needs beside its weights."""

    step: int = 0
    seconds: float = 0.0  # that the run had taken at this step
    stopped: str = ""  # why training ended before its last epoch
    best: float | None = None
    best_epoch: int = 0
    ensemble: list[list[float]] = field(default_factory=list)  # [score, epoch] of the k best
    loss_sum: float = 0.0
    loss_count: int = 0
    parts: int = 1  # in which the gradient of a batch is taken, so that it fits into memory


@dataclass(frozen=True)
class Training:
    """The moving parts of one run, together."""

    config: Config
    folder: Path
    log: RunLog
    parts: Parts
    optimizer: torch.optim.Optimizer
    average: Average | None
    progress: Progress
    stop: StopRequest

    @property
    def epoch_steps(self) -> int:
        batches = steps_per_epoch(len(self.parts.train.names), self.config.train.batch_size)
        return -(-batches // self.config.optim.accumulate)

    @property
    def total_steps(self) -> int:
        return self.epoch_steps * self.config.train.epochs

    @property
    def schedule_steps(self) -> int:
        return self.epoch_steps * schedule_epochs(self.config)

    @property
    def epoch(self) -> int:
        """Epochs begun so far; a finished epoch's own number, from 1."""
        return -(-self.progress.step // self.epoch_steps)


def train(
    recipe: str | Config,
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    watch: bool = False,
    **settings: Any,
) -> Run:
    """Train `recipe` (a shipped name, a .yaml, a .py with recipe(), or a Config) on `data`; returns the finished run.

    settings: overrides, dotted or nested (`**{"optim.lr": 0.1}` or `optim={"lr": 0.1}`). out: the run folder,
    `runs/NAME` by default; a folder that holds a run is refused unless `overwrite`. watch: serve the report on
    127.0.0.1 while it trains. Raises SightlineError for wrong input, for a fault of the machine, and (status 4) when
    the run was interrupted and can be resumed.
    """
    base = load_recipe(recipe) if not isinstance(recipe, Config) else recipe
    config = resolve(base, settings | ({"data.path": os.fspath(data)} if data is not None else {}))
    config = runs.with_whole_paths(config)
    folder = Path(out) if out is not None else Path("runs") / config.name
    check_augment(config.augment, config.data.size)
    runs.refuse_taken(folder, overwrite)
    runs.refuse_inside(folder, config.data.path)
    with lock_run(folder) as note, RunLog(folder, quiet=quiet) as log, explained_memory(config), stoppable(folder):
        if note:
            log.warn(note)
        parts = build(config, log.say)
        training = assemble(config, folder, log, parts, Progress())
        preflight(folder, saving.needed_bytes(training))
        runs.clear(folder)  # an old run goes only when the new one can start
        log.rewind(0, 0.0)
        runs.start(folder, config, parts, log.warnings)
        saving.save_samples(folder, parts)
        if config.train.preview:
            save_preview(training)
        log.event("start", step=0, epoch=0)
        saving.save_state(training)
        with page_beside(folder, log) if watch else contextlib.nullcontext():
            return run_epochs(training)


def page_beside(folder: Path, log: RunLog) -> contextlib.AbstractContextManager[None]:
    """The report, served by another process for as long as the block runs."""
    from .report.watch import watching

    return watching(folder, log.say)


def assemble(config: Config, folder: Path, log: RunLog, parts: Parts, progress: Progress) -> Training:
    """Optimizer and weight average around the parts of a run."""
    depths = layer_depths(parts.model) if config.optim.layer_decay < 1 else {}
    optimizer = build_optimizer(parts.model, config.optim, depths, parts.dtype)
    average = Average(parts.model, config.optim.ema) if config.optim.ema else None
    return Training(config, folder, log, parts, optimizer, average, progress, StopRequest())


def run_epochs(training: Training) -> Run:
    """Epoch after epoch: train, evaluate, keep the best, save; then the final evaluation and the report."""
    progress = training.progress
    config, parts = training.config, training.parts
    costs = [epoch_cost(config, parts.flops, epoch) for epoch in range(config.train.epochs)]
    training.log.plan(config.train.epochs, training.epoch_steps, progress.step, costs)
    with training.stop:
        while not progress.stopped and progress.step < training.total_steps:
            reason = train_epoch(training)
            if reason == INTERRUPTED_BY_SIGNAL:
                saving.save_state(training)
                raise runs.interrupted(training.folder, progress.step, training.total_steps)
            end_epoch(training, reason)
            if training.stop.requested and not progress.stopped and progress.step < training.total_steps:
                raise runs.interrupted(training.folder, progress.step, training.total_steps)
    reason = progress.stopped or "all epochs done"
    if progress.stopped:
        training.log.say(f"stopped after epoch {training.epoch}: {reason}")
    training.log.event("stop", step=progress.step, epoch=training.epoch, reason=reason)
    return finish(training)


def train_epoch(training: Training) -> str:
    """The rest of the current epoch; returns why to stop, or "". The whole step is here."""
    config, progress, parts = training.config, training.progress, training.parts
    optimizer, task = training.optimizer, parts.task
    epoch, first = divmod(progress.step, training.epoch_steps)
    batches = training_batches(
        parts.train, config.train.batch_size, config.train.seed, epoch, first * config.optim.accumulate, parts.device
    )
    task.parameters().train()
    clock = Clock()
    for group in groups_of(batches, config.optim.accumulate, clock):
        scale = factor(progress.step, training.schedule_steps, training.epoch_steps, config.schedule)
        momentum = cycled_momentum(progress.step, training.schedule_steps, training.epoch_steps, config)
        for parameters in optimizer.param_groups:
            parameters["lr"] = parameters["base_lr"] * scale
            if "momentum" in parameters:
                parameters["momentum"] = momentum
        loss = add_gradients(training, group)
        if climbs(config, epoch):
            with uphill(task.parameters(), config.optim.sam_radius):
                add_gradients(training, group)
        norm = clip_gradients(optimizer, config.optim.clip_norm)
        loss_value, norm_value = torch.stack([loss, norm.to(loss)]).tolist()
        if not (abs(loss_value) < float("inf") and norm_value < float("inf")):
            raise saving.not_finite(training, group, loss_value, norm_value, scale * config.optim.lr)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        task.after_step(progress.step, training.total_steps)
        if training.average:
            training.average.update(parts.model)
        training.log.tick(progress.step)
        note_step(training, clock, group, loss_value, norm_value, scale * config.optim.lr)
        if reason := stop_reason(training):
            return reason
    return ""


@in_parts
def add_gradients(training: Training, group: list[Batch]) -> torch.Tensor:
    """The loss of a step, a scalar, and its gradient in the parameters; two calls in one step give the same numbers."""
    config, parts = training.config, training.parts
    torch.manual_seed(config.train.seed * 1_000_003 + training.progress.step)  # dropout: a function of (seed, step)
    loss = torch.zeros((), device=parts.device)
    images = sum(len(batch.samples) for batch in group)
    for batch in group:
        with autocast(parts.device, parts.dtype):
            part = parts.task.step(batch)["loss"] * (len(batch.samples) / images)
        part.backward()
        loss += part.detach()
    return loss


@dataclass
class Clock:
    """Since the last note: when it was, seconds spent waiting for data, images seen; and the last save."""

    start: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    images: int = 0


def groups_of(batches: Iterator[Batch], size: int, clock: Clock) -> Iterator[list[Batch]]:
    """Lists of `size` batches whose gradients make one step; the time until each is ready counts as waiting."""
    while True:
        start = time.monotonic()
        group = list(islice(batches, size))
        clock.waited += time.monotonic() - start
        if not group:
            return
        yield group


def note_step(training: Training, clock: Clock, group: list[Batch], loss: float, norm: float, rate: float) -> None:
    """Log about twenty lines an epoch, and save for resumption when it is time."""
    progress, now = training.progress, time.monotonic()
    clock.images += sum(len(batch.samples) for batch in group)
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
    minutes = training.config.train.checkpoint_minutes
    if now - clock.saved >= 60 * minutes and progress.step % training.epoch_steps:
        saving.save_state(training)
        clock.saved = time.monotonic()


def stop_reason(training: Training) -> str:
    """Why training must stop after this step, or ""."""
    if training.stop.requested and training.progress.step % training.epoch_steps:
        return INTERRUPTED_BY_SIGNAL
    minutes = training.config.train.max_minutes
    return f"{minutes:g} minutes are over" if minutes and training.log.seconds() > 60 * minutes else ""


def end_epoch(training: Training, reason: str) -> None:
    """Evaluate where it is time or training ends here, and save."""
    last = reason or training.progress.step >= training.total_steps
    if last or training.epoch == 1 or training.epoch % training.config.train.evaluate_every == 0:
        reason = evaluate_epoch(training) or reason
    training.progress.stopped = reason
    saving.save_state(training)


def evaluate_epoch(training: Training) -> str:
    """Evaluate, keep the best weights and a snapshot; returns why to stop, or ""."""
    config, progress, parts = training.config, training.progress, training.parts
    training.log.tick(progress.step, doing="validating")
    with saving.evaluated_weights(training):
        numbers, arrays = evaluate(parts.task, parts.val, config.train.eval_batch_size, parts.device, parts.dtype)
        if not math.isfinite(numbers["loss"]):
            training.log.warn(
                f"the validation loss of epoch {training.epoch} is not finite; it cannot be the best epoch"
            )
        alarm = collapse(numbers)
        if alarm and not any(warning.startswith("collapsed") for warning in training.log.warnings):
            training.log.warn(alarm)
        score = numbers[config.train.best_metric] if config.train.best_metric != "epoch" else training.epoch
        better = math.isfinite(numbers["loss"]) and is_better(score, progress.best, config.train.best_metric)
        if better:
            progress.best, progress.best_epoch = score, training.epoch
            saving.save_weights(training, "best", numbers)
        if math.isfinite(numbers["loss"]):
            saving.keep_for_ensemble(training, numbers)
        saving.keep_snapshot(training, arrays)
        saving.save_weights(training, "last", numbers)
    best = better and config.train.best_metric != "epoch"  # the newest is no better one
    training.log.event("eval", step=progress.step, epoch=training.epoch, split="val", best=best, **numbers)
    patience = config.train.patience
    if patience and training.epoch - progress.best_epoch >= patience:
        return f"no better {config.train.best_metric} for {counted(patience, 'epoch')}"
    return ""


def is_better(score: float, best: float | None, metric: str) -> bool:
    """Whether `score` beats `best`, if there is one: lower for a loss, higher for all else."""
    return best is None or (score < best if metric == "loss" else score > best)
