"""THE loop: recipe in, run folder out. backward() is here; what a loss is stands in tasks/."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from .config.resolve import resolve
from .config.schema import Config
from .data.augment.batch import check_augment
from .data.loader import Batch, steps_per_epoch, training_batches
from .data.resident import one_ahead
from .engine import distributed, setup, training_state
from .engine.device import autocast
from .engine.evaluate import evaluate
from .engine.memory import explained_memory, in_parts
from .engine.optim import Average, build_optimizer, clip_gradients, uphill
from .engine.parts import Parts, epoch_cost
from .engine.results import finish, save_preview
from .engine.schedules import climbs, cycled_momentum, factor, mixes, schedule_epochs
from .engine.setup import begin, built, claimed, joined_step, page_beside
from .errors import counted
from .models import layer_depths
from .recipes import load_recipe
from .runs import run_folder
from .runs.deferred_writes import Waiting
from .runs.log import RunLog
from .runs.run_folder import Run
from .runs.signals import StopRequest, stoppable
from .tasks.pretrain.collapse import collapse

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
    forward: Callable[[Batch], dict[str, torch.Tensor]]  # the task's step; of several processes their gradients meet
    waiting: Waiting = field(default_factory=Waiting)

    @property
    def world(self) -> distributed.World:
        return distributed.world()

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
    the run was interrupted and can be resumed. Under torchrun its processes share each batch; the first returns when
    all is done, the others when the last step is.
    """
    base = load_recipe(recipe) if not isinstance(recipe, Config) else recipe
    config = resolve(base, settings | ({"data.path": os.fspath(data)} if data is not None else {}))
    config = run_folder.with_whole_paths(config)
    folder = Path(out) if out is not None else run_folder.default_folder(config.name)
    check_augment(config.augment, config.data.size)
    with distributed.joined(config.train.rank_timeout_seconds) as world:
        if distributed.restarted() and run_folder.is_of(folder, config):
            from .resume import resume

            return resume(folder, quiet=quiet)
        if world.leads:
            run_folder.refuse_taken(folder, overwrite)
            run_folder.refuse_inside(folder, config.data.path)
        with claimed(folder, quiet) as log, explained_memory(config), stoppable(folder):
            parts = built(config, log)
            if world.leads:
                begin(config, folder, log, parts)
            training = assemble(config, folder, log, parts, Progress())
            if config.train.preview and world.leads:
                save_preview(training)
            training_state.save_state(training)
            with page_beside(folder, log) if watch and world.leads else contextlib.nullcontext():
                return run_epochs(training)


def assemble(config: Config, folder: Path, log: RunLog, parts: Parts, progress: Progress) -> Training:
    """Optimizer and weight average around the parts of a run; of several processes what joins their gradients."""
    forward = joined_step(config, parts) if distributed.world().size > 1 else parts.task.step
    depths = layer_depths(parts.model) if config.optim.layer_decay < 1 else {}
    optimizer = build_optimizer(parts.model, config.optim, depths, parts.dtype)
    average = Average(parts.model, config.optim.ema) if config.optim.ema else None
    return Training(config, folder, log, parts, optimizer, average, progress, StopRequest(), forward)


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
                training_state.save_or_wait(training, last=True)
                raise run_folder.interrupted(training.folder, progress.step, training.total_steps)
            end_epoch(training, reason)
            training.stop.requested, owed = distributed.any_of([training.stop.requested, training.waiting.refused > 0])
            if training.stop.requested and not progress.stopped and progress.step < training.total_steps:
                if owed:
                    training_state.save_or_wait(training, last=True)
                raise run_folder.interrupted(training.folder, progress.step, training.total_steps)
    reason = progress.stopped or "all epochs done"
    if progress.stopped:
        training.log.say(f"stopped after epoch {training.epoch}: {reason}")
    training.log.event("stop", step=progress.step, epoch=training.epoch, reason=reason)
    leads = training.world.leads
    distributed.part()
    return finish(setup.whole_again(training)) if leads else Run(training.folder)


def train_epoch(training: Training) -> str:
    """The rest of the current epoch; returns why to stop, or "". The whole step is here."""
    config, progress, parts = training.config, training.progress, training.parts
    optimizer, task = training.optimizer, parts.task
    epoch, first = divmod(progress.step, training.epoch_steps)
    batches = epoch_batches(training, epoch, first * config.optim.accumulate)
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
            raise training_state.not_finite(training, group, loss_value, norm_value, scale * config.optim.lr)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        task.after_step(progress.step, training.total_steps)
        if training.average:
            training.average.update(parts.model)
        training.log.tick(progress.step)
        note_step(training, clock, group, loss_value, norm_value, scale * config.optim.lr)
        if reason := stop_reason(training, clock):
            return reason
    return ""


def epoch_batches(training: Training, epoch: int, begin: int) -> Iterator[Batch]:
    """The batches of an epoch from number `begin` on, of each what is this process's."""
    config, parts = training.config, training.parts
    settings = (config.train.batch_size, config.train.seed, epoch, begin, parts.device)
    share, lead = training.world.share, mixes(config, epoch)
    batches = training_batches(parts.resident or parts.train, *settings, share=share, lead=lead)
    copied = parts.device.type == "cuda" and not parts.resident
    return one_ahead(batches, parts.device) if copied else batches


@in_parts
def add_gradients(training: Training, group: list[Batch]) -> torch.Tensor:
    """The loss of a step, a scalar, and its gradient in the parameters; two calls in one step give the same numbers."""
    config, parts = training.config, training.parts
    torch.manual_seed(config.train.seed * 1_000_003 + training.progress.step)  # dropout: a function of (seed, step)
    loss = torch.zeros((), device=parts.device)
    images = sum(len(batch.every) for batch in group)
    for batch in group:
        with autocast(parts.device, parts.dtype):
            part = training.forward(batch)["loss"] * (len(batch.every) / images)
        part.backward()
        loss += part.detach()
    return distributed.averaged(loss)


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
    """Log about twenty lines an epoch."""
    progress, now = training.progress, time.monotonic()
    clock.images += sum(len(batch.every) for batch in group)
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


def stop_reason(training: Training, clock: Clock) -> str:
    """Save where it is time to; why training must stop after this step, or "". All processes come to the same."""
    config, now = training.config.train, time.monotonic()
    within = training.progress.step % training.epoch_steps > 0
    due = within and now - clock.saved >= 60 * config.checkpoint_minutes
    late = config.max_minutes > 0 and training.log.seconds() > 60 * config.max_minutes
    asked, due, late = distributed.any_of([training.stop.requested, due, late])
    if due:
        training_state.save_or_wait(training, last=False)
        clock.saved = time.monotonic()
    if asked and within:
        return INTERRUPTED_BY_SIGNAL
    return f"{config.max_minutes:g} minutes are over" if late else ""


def end_epoch(training: Training, reason: str) -> None:
    """Evaluate where it is time or training ends here, and save."""
    last = reason or training.progress.step >= training.total_steps
    if last or training.epoch == 1 or training.epoch % training.config.train.evaluate_every == 0:
        reason = evaluate_epoch(training) or reason
    training.progress.stopped = reason
    training_state.save_or_wait(training, last=bool(last or reason))


def evaluate_epoch(training: Training) -> str:
    """Evaluate, keep the best weights and a snapshot; returns why to stop, or ""."""
    config, progress, parts = training.config, training.progress, training.parts
    training.log.tick(progress.step, doing="validating")
    with training_state.evaluated_weights(training):
        size = config.train.eval_batch_size
        with distributed.in_step(training.forward):
            numbers, arrays = evaluate(parts.task, parts.val, size, parts.device, parts.dtype)
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
            training_state.save_weights(training, "best", numbers)
        if math.isfinite(numbers["loss"]):
            training_state.keep_for_ensemble(training, numbers)
        training_state.keep_snapshot(training, arrays)
        training_state.save_weights(training, "last", numbers)
    best = better and config.train.best_metric != "epoch"  # the newest is no better one
    training.log.event("eval", step=progress.step, epoch=training.epoch, split="val", best=best, **numbers)
    patience = config.train.patience
    if patience and training.epoch - progress.best_epoch >= patience:
        return f"no better {config.train.best_metric} for {counted(patience, 'epoch')}"
    return ""


def is_better(score: float, best: float | None, metric: str) -> bool:
    """Whether `score` beats `best`, if there is one: lower for a loss, higher for all else."""
    return best is None or (score < best if metric == "loss" else score > best)
