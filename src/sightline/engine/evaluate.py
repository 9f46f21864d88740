"""Evaluation of a split, and the final results of a run."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from ..data.loader import evaluation_batches
from ..data.types import Batch, Decoded
from ..errors import SightlineError, counted
from ..runs.atomic import read_json_lines
from ..stats.baselines import baselines_text
from .device import autocast
from .distributed import Activity, align_buffers, broadcast_json, world
from .parts import Arrays, Learner, training_flops
from .state import Training


@torch.inference_mode()
def evaluate(
    learner: Learner,
    decoded: Decoded,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    metrics: Callable[[Iterable[Batch]], tuple[dict[str, float], Arrays]] | None = None,
) -> tuple[dict[str, float], Arrays]:
    """Compute the metrics and output arrays of a split with the model in evaluation mode: (numbers by name, arrays by
    name).

    dtype: torch.bfloat16 only in evaluations during training; results are those of float32, in which the weights are
    used later. metrics: a function to call instead of `learner.metrics`. Metrics are computed over the full split, not
    averaged over batches. They are bit-identical for equal batch size, precision and number of threads. Several
    processes share the batches; all return the same numbers, but only rank 0 returns the arrays. Afterwards the model
    is in training mode again if it was before.
    """
    module = learner.parameters()
    training = module.training
    module.eval()
    try:
        with autocast(device, dtype):
            align_buffers(module)
            batches = evaluation_batches(decoded, batch_size, device, world().share)
            numbers, arrays = (metrics or learner.metrics)(counted_as_activity(batches))
            return broadcast_json(numbers), arrays
    finally:
        module.train(training)


def counted_as_activity(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches, and count each in `Activity`, so that a signal does not end a long evaluation."""
    for batch in batches:
        Activity.count += 1
        yield batch


def log_results(training: Training) -> None:
    """Compute the task's final results of a finished run, write them to metrics.jsonl, and print a summary. Raises
    SightlineError if there is no best epoch."""
    progress, parts, log, folder = training.progress, training.parts, training.log, training.folder
    if progress.best is None:
        name, rate = shlex.quote(str(folder)), training.config.optim.lr / 10
        why = "the validation loss was not finite in any epoch"
        cure = (
            f"start a new run with a lower learning rate: sightline train {name}/recipe.yaml --out {name}-2 "
            f"--optim.lr {rate:g}; or with --train.precision fp32"
        )
        raise SightlineError("no weights can be chosen as the best of this run", where=str(folder), why=why, cure=cure)
    numbers, summary = training.functions.results(training)
    images = len(parts.train.names)
    epochs = progress.step / training.epoch_steps
    flops = training_flops(training.config, parts.flops, images, epochs) + parts.once_flops * images
    best = progress.best_epoch
    best_epoch = {} if training.config.train.best_metric == "epoch" else {"best_epoch": best}
    found, notes = baselines(training, flops)
    numbers |= {"baselines": found, "baseline_notes": notes} if found else {}
    chosen = selection(training)
    facts = best_epoch | ({"selection": chosen} if chosen else {})
    log.event("done", step=progress.step, epoch=training.epoch, **facts, train_flops=flops, **numbers)
    weights = f"mean of {counted(len(progress.ensemble), 'epoch')}" if progress.ensemble else f"epoch {best}"
    log.say(f"{summary} ({weights}, {len(parts.val.names):,} images)")
    if chosen:
        log.say(chosen)
    bfloat16 = numbers.get("bfloat16")
    if bfloat16 and bfloat16.get("changed") != 0:
        log.say(bfloat16_line(bfloat16))
    if found:
        log.say("; ".join([baselines_text(found), *notes]))


def bfloat16_line(found: Mapping[str, Any]) -> str:
    """One line on the entry `bfloat16` of the final metrics, which a run trained in bfloat16 has.

    found: the number of predicted classes that differ if the final evaluation is repeated in bfloat16 (`changed`, `of`,
    `unit`); for predicted numbers the largest difference (`largest_change`).
    """
    if "largest_change" in found:
        change = f"the predicted numbers by at most {found['largest_change']:.2g}"
    else:
        change = f"the predictions of {found['changed']:,} of {found['of']:,} {found['unit']}"
    return f"computed in float32, as by predict and export; bfloat16, used in training, would change {change}"


def baselines(training: Training, flops: float) -> tuple[dict[str, float], list[str]]:
    """(scores that need no training by name, notes) of a run's task; ({}, []) if it has none or they are switched off.

    An error is printed as a warning: it must not cost the result of the training.
    """
    compute = training.functions.baselines
    if compute is None or not training.config.report.baselines:
        return {}, []
    try:
        return compute(training, flops)
    except Exception as error:
        training.log.warn(f"the baselines were not computed ({type(error).__name__}: {error})")
        return {}, []


def selection(training: Training) -> str:
    """A sentence on how the final weights were chosen on the validation images; "" if there was no choice."""
    config, progress = training.config.train, training.progress
    records = read_json_lines(training.folder / "metrics.jsonl")
    epochs = len({record.get("epoch") for record in records if record.get("event") == "eval"})
    if epochs < 2 or config.best_metric == "epoch":
        return ""
    best = f"epoch {progress.best_epoch} is the best of {epochs} by {config.best_metric}"
    if progress.ensemble:
        best = f"the best {len(progress.ensemble)} of {epochs} epochs by {config.ensemble_by} are averaged, chosen"
    return f"{best} on these images: the result is optimistic, and no interval covers this choice"
