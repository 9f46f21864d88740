"""The training loop: train a recipe into a run folder, and resume runs. The losses are defined in `tasks/`."""

import contextlib
import math
import os
import shlex
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from .config.checks import FITTED
from .config.paths import path_of
from .config.resolve import resolve, with_data
from .config.schema import Config
from .data.loader import part_range, prefetch, training_batches
from .data.types import Batch
from .engine import distributed, setup, training_state
from .engine.device import autocast, loss_scaler, precision_name
from .engine.evaluate import evaluate, log_results
from .engine.memory import explain_out_of_memory, split_if_out_of_memory
from .engine.optim import Average, build_optimizer, clip_gradients, sam_perturbed
from .engine.parallel import distributed_step, unsharded
from .engine.parts import Parts, epoch_cost
from .engine.process_group import process_group, shutdown
from .engine.schedules import cycled_momentum, factor, mixes, sam_active, with_schedule_length
from .engine.state import Clock, Progress, Training, log_step
from .errors import SightlineError, counted
from .models import layer_depths
from .models.pretrained.preprocessing import with_own_preprocessing
from .recipes import load_recipe
from .report.page import write_report
from .report.watch import watching
from .runs import run_folder
from .runs.atomic import remove_stale_temporaries
from .runs.log import RunLog, once
from .runs.run_folder import Run
from .runs.signals import StopRequest, stoppable
from .tasks import TASKS
from .tasks.contract import Metric
from .tasks.files import config_of, load_recipe_file, typed
from .user_code import accepts_code_alone

INTERRUPTED_BY_SIGNAL = "interrupted"  # reason of `train_epoch` for a signal within an epoch


@accepts_code_alone
def train(
    recipe: str | Config,
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    watch: bool = False,
    code: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Run:
    """Train a recipe on `data`; return the finished run. recipe: name of a shipped recipe, path of a .yaml file or
    of a .py file with a function recipe(), or a Config.

    settings: override the recipe, dotted or nested (`**{"optim.lr": 0.1}` or `optim={"lr": 0.1}`). out: the run
    folder, `runs/NAME` by default; it must not contain a run unless `overwrite` is true. quiet: print warnings only.
    watch: serve the report on 127.0.0.1 during training. code: a file of your own code (docs/extend.md). Under torchrun
    the processes share each batch; rank 0 returns after the final evaluation and the report, the others after the last
    step. Raises SightlineError for invalid input, for errors of the disk, the memory or other processes, and with
    status 4 if the run was interrupted and can be resumed.
    """
    base = load_recipe(recipe) if not isinstance(recipe, Config) else typed(recipe)
    config = resolve(base, with_data(settings, data))
    config, preprocessing = with_own_preprocessing(run_folder.with_absolute_paths(config))
    folder = path_of(out) if out is not None else run_folder.default_folder(config.name)
    TASKS[config.task].check(config)
    with process_group(config.train.rank_timeout_seconds) as world:
        if run_folder.is_started(folder) and setup.begun_before_restart(folder, config):
            return resume(folder, quiet=quiet)
        if world.is_rank0:
            setup.claim_folder(folder, config, overwrite)
        with setup.open_run(folder, quiet) as log, explain_out_of_memory(config), stoppable(folder):
            if preprocessing:
                once(log.say)(preprocessing)
            parts = setup.build_parts(config, TASKS[config.task], log)
            config = run_folder.as_built(config, precision_name(parts.dtype), parts.facts.get("switched_off"))
            if world.is_rank0:
                setup.start_run(config, folder, log, parts)
            training = assemble(config, folder, log, parts, Progress())
            if config.train.preview and world.is_rank0:
                setup.save_preview(training)
            training_state.save_state(training)
            with watching(folder, log.say) if watch and world.is_rank0 else contextlib.nullcontext():
                return run_epochs(training)


@accepts_code_alone
def resume(
    run: str | os.PathLike[str],
    *,
    extend: str = "stretch",
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Run:
    """Resume an interrupted run, or train a finished one for more epochs with `**{"train.epochs": 60}`; return the
    finished run.

    extend: how to continue the learning-rate schedule for more epochs. "stretch" rescales it to the new length;
    "continue" keeps the old schedule and its last learning rate. Raises SightlineError for an invalid run folder,
    for settings that a resumed run cannot change, and as `train` does.
    """
    folder = run_folder.existing(run)
    if extend not in ("stretch", "continue"):
        raise SightlineError(f"invalid value of --extend: {extend!r}", cure="use --extend stretch or --extend continue")
    written = load_recipe_file(folder / "recipe.yaml")
    with (
        process_group(written.train.rank_timeout_seconds) as world,
        setup.open_run(folder, quiet) as log,
        explain_out_of_memory(written, resumed=True),
        stoppable(folder),
    ):
        if world.is_rank0:
            remove_stale_temporaries(folder)
        distributed.broadcast_json(None)  # a barrier: rank 0 locks and cleans the folder before others read it
        tensors, values = training_state.load_state(folder, log)
        # The state has the settings of its steps. recipe.yaml differs if the user edited it, or if a resume with other
        # settings was interrupted before it saved the state: then its differences are changes to apply.
        old = config_of(values["config"], str(folder))
        config = run_folder.with_absolute_paths(with_schedule_length(written, resolve(written, settings), extend))
        config = run_folder.as_built(config, old.train.precision)
        run_folder.check_changes(old, config)
        progress = Progress(**values["progress"])
        if run_folder.is_finished(folder) and config == old:
            return finished(folder, old, progress, log)
        parts = setup.build_parts(config, TASKS[config.task], log, run_folder.precision_of(folder, ""), fresh=False)
        setup.check_data(folder, parts)
        training = assemble(config, folder, log, parts, progress)
        training_state.restore(training, tensors, values)
        distributed.require_same({"step": str(progress.step)})
        log.rewind(progress.step, progress.seconds)
        log.event("resume", step=progress.step, epoch=progress.step / training.epoch_steps)
        note = setup.record_resume(folder, old, config, parts, progress.step) if world.is_rank0 else ""
        if note:
            log.say(note)
        if config != old:
            changes = (
                f"{key} {run_folder.value_of(old, key)} -> {run_folder.value_of(config, key)}"
                for key in run_folder.differences(old, config)
            )
            log.say(f"settings changed since the run was saved: {', '.join(changes)}")
            progress.stopped = ""
            if world.is_rank0:
                run_folder.write_config(folder, config)
            training_state.save_state(training)
        return run_epochs(training)


def finished(folder: Path, config: Config, progress: Progress, log: RunLog) -> Run:
    """Log that the run is finished and how to train it further; write the report if it is missing."""
    epochs = config.train.epochs
    name, why = shlex.quote(str(folder)), progress.stopped or f"{counted(epochs, 'epoch')} completed"
    if "minutes" in progress.stopped:
        more = f"--train.max_minutes {2 * config.train.max_minutes:g}"
    elif progress.stopped:
        more = f"--train.patience {2 * config.train.patience}"
    else:
        more = f"--train.epochs {2 * epochs}"
    log.say(f"{folder} is finished ({why}); to train further: sightline resume {name} {more}")
    run = Run(folder)
    if not run.report.is_file():
        log.say(f"report: {write_report(folder)}")
    return run


def assemble(config: Config, folder: Path, log: RunLog, parts: Parts, progress: Progress) -> Training:
    """Combine the parts of a run with an optimizer, a weight average and, for several processes, DDP or FSDP2."""
    forward = distributed_step(config, parts) if distributed.world().size > 1 else parts.learner.step
    depths = layer_depths(parts.model) if config.optim.layer_decay < 1 else {}
    optimizer = build_optimizer(parts.model, config.optim, depths, parts.dtype)
    average = Average(parts.model, config.optim.ema) if config.optim.ema else None
    task = TASKS[config.task]
    scaler = loss_scaler(parts.device, parts.dtype)
    return Training(config, task, folder, log, parts, optimizer, average, progress, StopRequest(), forward, scaler)


def run_epochs(training: Training) -> Run:
    """Train, evaluate and save the state, epoch by epoch; then compute the final results and write the report.
    Raises SightlineError, with status 4, if a signal interrupts the run."""
    progress = training.progress
    config, parts = training.config, training.parts
    costs = [epoch_cost(config, parts.flops, epoch) for epoch in range(config.train.epochs)]
    training.log.plan(config.train.epochs, training.epoch_steps, progress.step, costs)
    with training.stop:
        while not progress.stopped and progress.step < training.total_steps:
            reason = train_epoch(training)
            if reason == INTERRUPTED_BY_SIGNAL:
                training_state.save_or_defer(training, last=True)
                raise run_folder.interrupted_error(training.folder, progress.step, training.total_steps)
            end_epoch(training, reason)
            training.stop.requested, save_failed = distributed.any_of(
                [training.stop.requested, training.deferred.failures > 0]
            )
            if training.stop.requested and not progress.stopped and progress.step < training.total_steps:
                if save_failed:
                    training_state.save_or_defer(training, last=True)
                raise run_folder.interrupted_error(training.folder, progress.step, training.total_steps)
    reason = progress.stopped or "all epochs done"
    if progress.stopped:
        training.log.say(f"stopped after epoch {training.epoch}: {reason}")
    training.log.event("stop", step=progress.step, epoch=training.epoch, reason=reason)
    is_rank0 = training.world.is_rank0
    shutdown()
    if is_rank0:
        log_results(unsharded(training))
        training.log.say(f"report: {write_report(training.folder)}")
    return Run(training.folder)


def train_epoch(training: Training) -> str:
    """Train the remaining steps of the current epoch. Return why training should stop, or ""."""
    config, progress, parts = training.config, training.progress, training.parts
    optimizer, learner = training.optimizer, parts.learner
    epoch, first = divmod(progress.step, training.epoch_steps)
    learner.parameters().train()
    clock = Clock()
    for group in accumulation_groups(training, epoch, first, clock):
        scale = factor(progress.step, training.schedule_steps, training.epoch_steps, config.schedule)
        momentum = cycled_momentum(progress.step, training.schedule_steps, training.epoch_steps, config)
        for parameters in optimizer.param_groups:
            parameters["lr"] = parameters["base_lr"] * scale
            if "momentum" in parameters:
                parameters["momentum"] = momentum
        loss = add_gradients(training, group)
        if sam_active(config, epoch):
            with sam_perturbed(learner.parameters(), config.optim.sam_radius):
                add_gradients(training, group)
        training.scaler.unscale_(optimizer)
        norm = clip_gradients(optimizer, config.optim.clip_norm)
        loss_value, norm_value = torch.stack([loss, norm.to(loss)]).tolist()
        training_state.update_weights(training, group, loss_value, norm_value, scale * config.optim.lr)
        optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        learner.after_step(progress.step, training.total_steps)
        if training.average:
            training.average.update(parts.model)
        training.log.tick(progress.step)
        log_step(training, clock, group, loss_value, norm_value, scale * config.optim.lr)
        if reason := stop_reason(training, clock):
            return reason
    return ""


def epoch_batches(training: Training, epoch: int, begin: int) -> Iterator[Batch]:
    """Yield this process's part of each batch of an epoch, starting with batch `begin`."""
    config, parts = training.config, training.parts
    settings = (config.train.batch_size, config.train.seed, epoch, begin, parts.device)
    share, overlap = training.world.share, mixes(config, epoch)
    images = parts.resident or parts.train
    batches = training_batches(images, *settings, share=share, overlap=overlap, sampling=parts.sampling)
    copied = parts.device.type == "cuda" and not parts.resident
    return prefetch(batches, parts.device) if copied else batches


@split_if_out_of_memory
def add_gradients(training: Training, group: list[Batch]) -> torch.Tensor:
    """Compute the loss of an optimizer step, a scalar, and add its gradient to the gradients of the parameters.
    group: the batches of the step. A repeated call in the same step draws the same dropout masks."""
    config, parts = training.config, training.parts
    torch.manual_seed(config.train.seed * 1_000_003 + training.progress.step)  # dropout: a function of (seed, step)
    loss = torch.zeros((), device=parts.device)
    images = sum(len(batch.all_samples) for batch in group)
    for batch in group:
        with autocast(parts.device, parts.dtype):
            weighted = training.forward(batch)["loss"] * (len(batch.all_samples) / images)
        training.scaler.scale(weighted).backward()
        loss += weighted.detach()
    return distributed.averaged(loss)


def accumulation_groups(training: Training, epoch: int, first: int, clock: Clock) -> Iterator[list[Batch]]:
    """Yield lists of at most `optim.accumulate` batches, one list per optimizer step of an epoch, starting with step
    `first`. The lengths of an epoch's lists differ by at most one. The time to load them is added to `clock.waited`."""
    steps = training.epoch_steps
    ranges = [part_range(training.batch_count, step, steps) for step in range(first, steps)]
    batches = epoch_batches(training, epoch, ranges[0][0])
    for begin, end in ranges:
        start = time.monotonic()
        group = list(islice(batches, end - begin))
        clock.waited += time.monotonic() - start
        yield group


def stop_reason(training: Training, clock: Clock) -> str:
    """Save the state every `checkpoint_minutes`. Return why to stop now, or "", the same in all processes."""
    config, log, now = training.config.train, training.log, time.monotonic()
    within = training.progress.step % training.epoch_steps > 0
    due = within and now - clock.saved >= 60 * config.checkpoint_minutes
    late = log.writes and 0 < 60 * config.max_minutes < log.seconds() and training.config.optim.name not in FITTED
    asked, due, late = distributed.any_of([training.stop.requested, due, late])  # `late` by the clock of rank 0
    if due:
        training_state.save_or_defer(training, last=False)
        clock.saved = time.monotonic()
    limit = f"time limit of {config.max_minutes:g} minutes reached" if late else ""
    return INTERRUPTED_BY_SIGNAL if asked and within else limit


def end_epoch(training: Training, reason: str) -> None:
    """Evaluate after the first, last and every `evaluate_every`-th epoch; save the state. reason: why to stop."""
    done = training.progress.step >= training.total_steps
    if reason or done or training.epoch == 1 or training.epoch % training.config.train.evaluate_every == 0:
        reason = evaluate_epoch(training) or reason
    training.progress.stopped = "" if done else reason
    training_state.save_or_defer(training, last=bool(done or reason))


def evaluate_epoch(training: Training) -> str:
    """Evaluate; save the weights (`last`, and `best` if they are) and a snapshot. Return why to stop, or ""."""
    config, progress, parts = training.config, training.progress, training.parts
    training.log.tick(progress.step, doing="validating")
    with training.average.swapped_into(parts.model) if training.average else contextlib.nullcontext():
        size = config.train.eval_batch_size
        with distributed.unsharded_for(training.forward):
            numbers, arrays = evaluate(parts.learner, parts.val, size, parts.device, parts.dtype)
        if not math.isfinite(numbers["loss"]):
            training.log.warn(
                f"the validation loss of epoch {training.epoch} is not finite; it cannot be the best epoch"
            )
        # Random weights may have nearly equal features too, and the warm-up's small steps do not change that.
        settled = training.epoch > min(config.schedule.warmup_epochs, config.train.epochs - 1)
        alarm = parts.alarm(numbers) if settled else ""
        if alarm and not any(warning.startswith("collapsed") for warning in training.log.warnings):
            training.log.warn(alarm)
        name, metrics = config.train.best_metric, TASKS[config.task].metrics
        score = numbers[name] if name in metrics else training.epoch
        better = math.isfinite(numbers["loss"]) and metrics.get(name, Metric(name)).better(score, progress.best)
        if better:
            progress.best, progress.best_epoch = score, training.epoch
            training_state.save_weights(training, "best", numbers)
        if math.isfinite(numbers["loss"]):
            training_state.keep_for_ensemble(training, numbers)
        training_state.save_snapshot(training, arrays)
        training_state.save_weights(training, "last", numbers)
    best = better and name in metrics  # with best_metric `epoch` the newest epoch is saved, but not marked as best
    training.log.event("eval", step=progress.step, epoch=training.epoch, split="val", best=best, **numbers)
    patience = config.train.patience
    if patience and training.epoch - progress.best_epoch >= patience:
        return f"no better {config.train.best_metric} for {counted(patience, 'epoch')}"
    return ""
