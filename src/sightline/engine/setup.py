"""What comes before the first step: the folder claimed, the parts built, of several processes one run made."""

import contextlib
import hashlib
import inspect
import json
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..config.resolve import flat
from ..config.schema import Config
from ..data.cache import Decoded
from ..data.loader import Batch
from ..data.pair_cache import DecodedPairs
from ..errors import SightlineError
from ..runs import run_folder
from ..runs.checkpoint import preflight
from ..runs.lock import lock_run
from ..runs.log import RunLog
from ..tasks.contract import Task
from . import distributed, training_state
from .device import pick_precision, precision_name
from .memory import keep_freed
from .parallel import Rows, synchronize_dropout, synchronize_norms
from .parts import Parts, build

if TYPE_CHECKING:
    from ..train import Training

SHARDABLE = ("sgd", "adam", "adamw")


@contextlib.contextmanager
def claimed(folder: Path, quiet: bool) -> Generator[RunLog]:
    """The log of a run in a folder that is locked; in all processes of a run but the first it is silent."""
    leads = distributed.world().leads
    with lock_run(folder) if leads else contextlib.nullcontext() as note, RunLog(folder, quiet, writes=leads) as log:
        if note:
            log.warn(note)
        yield log


def built(config: Config, log: RunLog, precision: str = "", fresh: bool = True) -> Parts:
    """`build`, with one precision, settings and data in all processes; what one decodes the others find."""
    keep_freed()
    if distributed.world().size > 1:  # before anything is decoded: all that follows depends on it
        distributed.require_same({"recipe": settings_of(config)})
    with distributed.leader_first():
        parts = build(config, log.say, precision, fresh)
    if distributed.world().size > 1:
        if config.train.on_out_of_memory != "stop":
            cure = "--train.on_out_of_memory stop, and a smaller --train.batch_size with --optim.accumulate"
            raise SightlineError(
                "several processes cannot halve their batches", where="train.on_out_of_memory", cure=cure
            )
        chosen = distributed.told(precision_name(parts.dtype))
        parts = replace(parts, dtype=pick_precision(chosen, parts.device))
        splits = {"train": parts.train, "val": parts.val}
        digests = {f"data of {split}": digest for split, digest in parts.facts["data"]["digest"].items()}
        made = {f"data of {split}": partial(lines_of, decoded) for split, decoded in splits.items()}
        distributed.require_same(digests, made)
    return parts


def settings_of(config: Config) -> str:
    """Every setting with its whole key, a line each, so that two can be told apart."""
    values = flat(config.model_dump(mode="json"), "the recipe")
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items())


def lines_of(split: Decoded | DecodedPairs) -> list[str]:
    """What the digest of a split stands for: its classes, then of each image name, class and the beginning of the
    pixels' SHA-256, its mask's among them; of shards without the pixels."""
    lines = [f"classes {', '.join(split.classes)}"]
    for row, name in enumerate(split.names):
        line = name
        if split.labels is not None and split.labels.ndim == 1:
            line += f", {split.classes[int(split.labels[row])]}"
        if split.stream is None:
            seen = hashlib.sha256(split.images[row].tobytes())
            seen.update(split.labels[row].tobytes() if split.labels is not None and split.labels.ndim > 1 else b"")
            line += f", pixels {seen.hexdigest()[:8]}"
        lines.append(line)
    return lines


def begin(config: Config, folder: Path, log: RunLog, parts: Parts) -> None:
    """Make the folder that of a new run: what an earlier one left goes, what is known before the first step comes."""
    preflight(folder, training_state.needed_bytes(config, parts.model))
    run_folder.clear(folder)  # an old run goes only when the new one can start
    log.rewind(0, 0.0)
    run_folder.start(folder, config, parts, log.warnings)
    training_state.save_samples(folder, parts)
    log.event("start", step=0, epoch=0)


def page_beside(folder: Path, log: RunLog) -> contextlib.AbstractContextManager[None]:
    """The report, served by another process for as long as the block runs."""
    from ..report.watch import watching

    return watching(folder, log.say)


class Step(nn.Module):
    """A task's step as a module, for what joins the gradients of several processes to hold on to.

    Its loss is weighted so that the mean over the processes is the loss of the whole batch.
    """

    def __init__(self, task: Task):
        super().__init__()
        self.task, self.model = task, task.parameters()

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        Rows.start, Rows.count = batch.start, len(batch.samples) - batch.lead
        Rows.of = len(batch.every)
        found = self.task.step(batch)
        loss, size = found["loss"], distributed.world().size
        if batch.whole is None:  # every process has all of it
            share = 1.0
        elif "weight" in found:
            share = found["weight"] / distributed.averaged(found["weight"]).clamp(min=1e-12)
        else:
            share = batch.share * size
        return {"loss": loss * share}


def sharded(config: Config, parts: Parts) -> Step:
    """The task's step with a model of which each process has its part of the weights, block by block, by FSDP2.

    Blocks are what stands in lists and sequences: their weights come together when they are called; what belongs to
    none comes with the whole step. SightlineError for optimizers that look at whole weights.
    """
    from torch.distributed.fsdp import fully_shard

    if config.optim.name not in SHARDABLE or config.task == "byol":
        why = "muon and lars measure whole weights, and so does the target of byol"
        cure = "--train.shard_model false, or --optim.name sgd, adam or adamw for a classifier or segmenter"
        raise SightlineError("this run cannot be sharded", where="train.shard_model", why=why, cure=cure)
    parts.model.to(memory_format=torch.contiguous_format)  # FSDP2 knows no other
    lists = [m for m in parts.model.modules() if isinstance(m, nn.Sequential | nn.ModuleList)]
    blocks = {block: None for members in lists for block in members if any(True for _ in block.parameters())}
    for block in reversed(list(blocks)):  # inner ones first
        if not isinstance(block, nn.ModuleList):
            fully_shard(block)
    step = Step(parts.task)
    fully_shard(step)
    return step


def whole_again(training: "Training") -> "Training":
    """A training whose model is whole: a sharded one is built once more, for its last evaluation by one process."""
    if not isinstance(training.forward, Step):
        return training
    precision = precision_name(training.parts.dtype)
    return replace(training, parts=build(training.config, lambda text: None, precision, fresh=False))


def joined_step(config: Config, parts: Parts) -> Callable[[Batch], dict[str, torch.Tensor]]:
    """The task's step; in the backward pass the gradients of all processes become their mean, in all of them."""
    synced = config.train.sync_batch_norm
    if synced:
        synchronize_norms(parts.model, parts.device)
    synchronize_dropout(parts.model)
    if config.train.shard_model:
        return sharded(config, parts)
    devices = [parts.device.index or 0] if parts.device.type == "cuda" else None
    step = Step(parts.task)
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch 2.14 renamed it
    options: dict[str, Any] = {"gradient_as_bucket_view": True, name: not synced}
    return DistributedDataParallel(step, devices, **options)
