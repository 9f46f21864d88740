"""Executed by engine/test_distributed.py in several processes, each of which writes its results to a JSON file."""

import copy
import importlib
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import multilabel_toys
from config_toys import configured
from forked import sightline_command
from parts_toys import build
from reliability.rows.distributed import environment, free_port
from sightline.data.loader import part_range, training_batches
from sightline.engine import distributed
from sightline.engine.evaluate import evaluate
from sightline.engine.parallel import LocalRows, synchronize_dropout, synchronize_norms
from sightline.engine.process_group import process_group
from sightline.engine.schedules import mixes
from sightline.engine.state import Progress, Training
from sightline.engine.training_state import shard_moments
from sightline.models import build_backbone
from sightline.models.segmenters import add_batch_norm_hooks
from sightline.runs.atomic import atomic_write
from sightline.runs.log import RunLog
from sightline.train import add_gradients, assemble

TINY = {
    "task": "classify",
    "data.size": 16,
    "model.name": "small_cnn",
    "model.args": {"widths": [8, 16, 16], "hidden": 16},
    "train.batch_size": 32,
    "train.precision": "fp32",
    "train.threads": 1,
}
UNET = {"model.name": "unet", "model.args": {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [16, 16, 16]}}
LAND = UNET | {"task": "segment", "data.palette": "landcover", "augment.window": [32, 32], "train.batch_size": 8}
LAND |= {"train.best_metric": "mean_iou", "train.precision": "fp32", "train.threads": 1, "loss.class_weights": "log"}
VIEWS = TINY | {"task": "pretrain", "train.best_metric": "epoch", "augment.crop": "resized", "model.name": "fastnet"}
VIEWS |= {"pretrain.projector": [32, 16], "pretrain.predictor": 32, "model.args": {"widths": [8, 16, 16]}}
TEACHER = "timm/test_efficientnet"
SETS = multilabel_toys.SETTINGS | {"train.batch_size": 7, "train.flip_test": True}
PLAIN: dict[str, dict[str, Any]] = {
    "classify": TINY | {"augment.horizontal_flip": 0.5, "augment.crop": "random", "augment.padding": 2},
    "uneven": TINY | {"train.batch_size": 7, "loss.class_weights": "balanced"},
    "balanced": SETS | {"data.sampler": "balanced", "augment.cutmix": 1.0},
    "few": TINY | {"train.batch_size": 2},
    "mixed": TINY | {"augment.mixup": 0.5, "augment.cutmix": 1.0},
    "accumulated": TINY | {"train.batch_size": 9, "optim.accumulate": 3, "loss.name": "focal"},
    "byol": VIEWS,
    "simsiam": VIEWS | {"pretrain.method": "simsiam", "pretrain.projector_norm": True},
    "moco": VIEWS | {"pretrain.method": "moco", "pretrain.small_crops": 1},
    "dino": VIEWS | {"pretrain.method": "dino", "pretrain.small_crops": 1, "pretrain.prototypes": 16},
    "distill": VIEWS | {"pretrain.method": "distill", "pretrain.teacher": TEACHER, "pretrain.teacher_size": 32},
    "sets": SETS,
    "mixed sets": SETS | {"augment.cutmix": 1.0, "loss.name": "asymmetric", "loss.class_weights": "balanced"},
    "pixels": LAND,
    "no auxiliary": LAND
    | {"model.args": UNET["model.args"] | {"auxiliary": True}, "loss.auxiliary": 0.0}
    | {"train.batch_size": 4, "optim.accumulate": 2},  # DDP raises in the second of two forward passes
    "regions": LAND | {"loss.terms": {"dice": 1.0, "lovasz": 1.0, "ohem": 1.0}},
}


def to_double(model: nn.Module) -> None:
    """Convert the model and all inputs to float64: in float32, rounding may decide which pixel is a maximum."""
    model.double()
    for module in model.modules():
        module.register_forward_pre_hook(lambda module, inputs: tuple(value.double() for value in inputs))


def gradients(training: Training) -> tuple[float, dict[str, Tensor]]:
    """The loss and the gradients of the first step of a run."""
    config, parts = training.config, training.parts
    settings = (parts.train, config.train.batch_size, config.train.seed, 0, 0, parts.device)
    batches = training_batches(*settings, share=training.world.share, overlap=mixes(config, 0), sampling=parts.sampling)
    group = list(itertools.islice(batches, config.optim.accumulate))
    parts.learner.parameters().train()
    loss = float(add_gradients(training, group))
    named = parts.model.named_parameters()
    found = {name: p.grad.clone() for name, p in named if p.grad is not None}
    parts.model.zero_grad(set_to_none=True)
    return loss, found


def relative_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest absolute difference of two sets of tensors, divided by the largest element of `first`."""
    assert list(first) == list(second)
    scale = max(float(tensor.abs().max()) for tensor in first.values())
    return max(float((first[name] - second[name]).abs().max()) for name in first) / scale


def norm_difference() -> float:
    """Largest difference between synchronized batch norm and batch norm of the whole batch: gradients and buffers.

    The batch norms have the hooks of segmenters. Of the pooled maps of four images, some processes have only one.
    """
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for shape, kind in (((7, 3, 4, 5), nn.BatchNorm2d), ((7, 3), nn.BatchNorm1d), ((4, 3, 1, 1), nn.BatchNorm2d)):
        whole = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 2
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        alone = kind(3, momentum=0.3).double()
        synced = copy.deepcopy(alone)
        add_batch_norm_hooks(synced)
        synchronize_norms(synced, torch.device("cpu"))
        start, stop = part_range(shape[0], *distributed.world().share)
        LocalRows.start, LocalRows.count, LocalRows.total = start, stop - start, shape[0]
        inputs, part = whole.clone().requires_grad_(), whole[start:stop].clone().requires_grad_()
        (alone(inputs) * weight).sum().backward()
        (synced(part) * weight[start:stop]).sum().backward()
        assert inputs.grad is not None and part.grad is not None
        worst = max(worst, float((inputs.grad[start:stop] - part.grad).abs().max()))
        size = distributed.world().size
        for mine, theirs in zip(synced.parameters(), alone.parameters(), strict=True):
            assert mine.grad is not None and theirs.grad is not None
            worst = max(worst, float((distributed.averaged(mine.grad) * size - theirs.grad).abs().max()))
        for mine, theirs in zip(synced.buffers(), alone.buffers(), strict=True):
            worst = max(worst, float((mine - theirs).abs().max()))
    return worst


def same_dropout() -> bool:
    """Whether synchronized dropout equals the dropout of the whole batch in this process's part."""
    net = nn.Sequential(nn.Dropout(0.4), nn.Dropout2d(0.3))
    whole = torch.arange(7 * 3 * 4.0).view(7, 3, 2, 2) + 1
    torch.manual_seed(3)
    alone = net(whole)
    synchronize_dropout(net)
    start, stop = part_range(7, *distributed.world().share)
    LocalRows.start, LocalRows.count, LocalRows.total = start, stop - start, 7
    torch.manual_seed(3)
    return torch.equal(net(whole[start:stop]), alone[start:stop])


def untrained_metrics(training: Training) -> dict[str, float]:
    """The validation metrics of the untrained model, in batches of seven."""
    parts = training.parts
    return evaluate(parts.learner, parts.val, 7, parts.device, parts.dtype)[0]


def collectives() -> dict[str, Any]:
    """Results of the collective operations, and the error for processes with different data."""
    here = distributed.world()
    parts = [{"n": torch.tensor([number])} for number in range(here.rank, 5, here.size)]
    gathered = [int(part["n"]) for part in distributed.gather_to_rank0(parts)]
    rows = torch.full((here.rank + 1, 2), float(here.rank), requires_grad=True)
    every = distributed.gathered(rows)
    (every * torch.arange(1.0, len(every) + 1)[:, None]).sum().backward()
    try:
        lists = {"data": lambda: ["a.png, cat", f"b{here.rank}.png, dog"]}
        distributed.require_same({"data": str(here.rank), "recipe": "same"}, lists)
        error_text = ""
    except distributed.SightlineError as error:
        error_text = f"{error.what}: {error.why}"
    return {
        "rank0": gathered,
        "broadcast": distributed.broadcast_json([0.1 + 0.2, here.rank]),
        "any": distributed.any_of([here.rank == 1, False]),
        "gathered": every[:, 0].tolist(),
        "gradient": rows.grad[:, 0].tolist() if rows.grad is not None else None,
        "error": error_text,
    }


def sharded_state() -> dict[str, Any]:
    """A sharded weight as it is saved, and the number of values that each process keeps of its saved moments."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    values = torch.arange(6.0)
    weight = nn.Parameter(distribute_tensor(values, init_device_mesh("cpu", (distributed.world().size,)), [Shard(0)]))
    moments: dict[int, dict[str, Any]] = {0: {"step": torch.tensor(3.0), "exp_avg": values, "exp_avg_sq": values}}
    shard_moments(torch.optim.AdamW([weight]), moments)
    kept = {name: value.to_local() for name, value in moments[0].items() if isinstance(value, DTensor)}
    saved = distributed.full_on_rank0({"weight": weight, "plain": values})
    return {
        "saved": {name: tensor.tolist() for name, tensor in saved.items()},
        "kept": {name: tensor.numel() for name, tensor in kept.items()},
    }


def torchrun(*arguments: str) -> None:
    """Run torchrun with `sightline ARGUMENTS` as its program, whose processes are forked, and write their process IDs
    to PID_FOLDER/RANK."""
    launcher = importlib.import_module("torch.distributed.run")
    config, _, (_, _, *tokens) = launcher.config_from_args(launcher.parse_args(arguments))
    config.start_method = "fork"
    launcher.elastic_launch(config, rank_of_torchrun)(*tokens)


def rank_of_torchrun(*tokens: str) -> None:
    """Run `sightline TOKENS` as one process of torchrun."""
    atomic_write(Path(os.environ["PID_FOLDER"]) / os.environ["RANK"], str(os.getpid()))
    raise SystemExit(sightline_command(*tokens))


def start_rank(work: Callable[[int], object], rank: int, size: int, port: int) -> int:
    """Fork a process of a group, which calls `work(rank)`; returns its process ID."""
    if process := os.fork():
        return process
    status = 1
    try:
        os.environ.update(environment(rank, size, port))
        work(rank)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main(photos: str, scenes: str, sets: str, out: str, size: int) -> int:
    """Compute everything in this process alone, then in a group of `size` forked processes, each of which writes its
    results to OUT.RANK. Returns the number of processes that failed."""
    torch.set_num_threads(1)
    alone, runs, paths, teacher = {}, {}, {"segment": scenes, "multilabel": sets}, f"{out}.safetensors"
    save_file(build_backbone(TEACHER, 32)[0].state_dict(), teacher)
    for name, settings in PLAIN.items():
        path = paths.get(settings["task"], photos)
        given = {"pretrain.teacher_weights": teacher} if name == "distill" else {}
        config = configured(settings | given | {"name": name, "data.path": path})
        log, progress = RunLog(Path(out).parent, quiet=True, writes=False), Progress()
        parts = build(config, lambda text: None)
        for network in (parts.model, getattr(parts.learner, "teacher", None)):
            if network is not None:
                to_double(network)
        runs[name] = assemble(config, Path(out).parent, log, parts, progress)
        first = {key: value.clone() for key, value in runs[name].parts.model.state_dict().items()}
        evaluated = untrained_metrics(runs[name])
        alone[name] = (*gradients(runs[name]), evaluated)
        runs[name].parts.model.load_state_dict(first)
    work, port = partial(together, runs, alone, out), free_port()
    started = [start_rank(work, rank, size, port) for rank in range(size)]
    return sum(os.waitpid(process, 0)[1] != 0 for process in started)


def together(runs: dict[str, Training], alone: dict[str, tuple[Any, ...]], out: str, rank: int) -> None:
    """Compute everything again as one process of a group, and write the results and those of one to OUT.RANK."""
    found: dict[str, Any] = {}
    with process_group(60):
        found |= {"norm_difference": norm_difference(), "same_dropout": same_dropout(), "collectives": collectives()}
        found["sharded_state"] = sharded_state()
        for name, training in runs.items():
            joined = assemble(training.config, training.folder, training.log, training.parts, Progress())
            shared = untrained_metrics(joined)
            loss, grads = gradients(joined)
            found[name] = [alone[name][0], loss, relative_difference(alone[name][1], grads), alone[name][2], shared]
    Path(f"{out}.{rank}").write_text(json.dumps(found))
