"""Data parallelism: the step whose gradients are averaged over processes, synchronized batch norm and dropout.

torch.nn.SyncBatchNorm is for graphics cards only ("expected input tensor to be on GPU", torch 2.14); on processors
the layers here do the same.
"""

import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ..config.schema import Config
from ..data.types import Batch
from ..errors import SightlineError
from . import distributed
from .device import precision_name
from .distributed import all_gathered
from .parts import Learner, Parts, build
from .state import Training

SHARDABLE = ("sgd", "adam", "adamw")


def synchronize_norms(model: nn.Module, device: torch.device) -> None:
    """Let every batch norm of `model`, in place, take its statistics over all processes; names stay what they are."""
    if device.type == "cuda":
        from timm.layers.norm_act import convert_sync_batchnorm

        convert_sync_batchnorm(model)  # torch's own, and of timm's layers that norm and activate at once
        return
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = types.MethodType(synced_forward, module)


class Rows:
    """Which rows of the batch of all processes this one has; set before each step."""

    start, count, of = 0, 0, 0


def synchronize_dropout(model: nn.Module) -> None:
    """Let each process apply its rows of one random draw for the whole batch, as a single process would draw it.

    On CPUs the result is bit-identical. Dropout inside attention, and layers whose input does not have one row per
    image, draw separately in each process.
    """
    from timm.layers import DropPath

    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
            module.forward = types.MethodType(shared_dropout, module)
        elif isinstance(module, DropPath):
            module.forward = types.MethodType(shared_path, module)


def shared_dropout(self: Any, values: Tensor) -> Tensor:
    """Dropout of values [N, ...], or of whole channels, from one draw for the rows of all processes."""
    if not self.training or not self.p or len(values) != Rows.count:
        return type(self).forward(self, values)
    shape = values.shape[1:] if isinstance(self, nn.Dropout) else [values.shape[1]] + [1] * (values.ndim - 2)
    return values * dropout_mask(values, shape, self.p)


def shared_path(self: Any, values: Tensor) -> Tensor:
    """Stochastic depth of values [N, ...] from one draw for the rows of all processes."""
    if not self.training or not self.drop_prob or len(values) != Rows.count:
        return type(self).forward(self, values)
    kept = dropout_mask(values, [1] * (values.ndim - 1), self.drop_prob)
    return values * (kept if self.scale_by_keep else kept * (1 - self.drop_prob))


def dropout_mask(values: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """0 with probability p, else 1 / (1 - p), of this process's rows."""
    whole = torch.empty((Rows.of, *shape), dtype=values.dtype, device=values.device).bernoulli_(1 - p)
    return whole[Rows.start : Rows.start + Rows.count].div_(1 - p)


def synced_forward(self: nn.modules.batchnorm._BatchNorm, images: Tensor) -> Tensor:
    """The forward pass of a batch norm, [N, C, ...]; in training mode over the rows of all processes."""
    if not self.training or Rows.count == Rows.of:  # in evaluation, or where every process has the whole batch
        return type(self).forward(self, images)
    normed, mean, variance, count = SyncedNorm.apply(images, self.weight, self.bias, self.eps)
    update_running_statistics(self, mean, variance, float(count))
    for name in ("drop", "act"):  # timm's layers that norm and activate at once
        if isinstance(part := getattr(self, name, None), nn.Module):
            normed = part(normed)
    return normed


@torch.no_grad()
def update_running_statistics(
    norm: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, count: float
) -> None:
    """Move the running statistics towards those of the batch, as torch does: the variance without bias."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * (count / max(count - 1, 1)), share)


class SyncedNorm(torch.autograd.Function):
    """(normed like the input, mean [C], biased variance [C], rows counted) over all processes."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
        axes = [0, *range(2, images.ndim)]
        exact = images if images.dtype == torch.float64 else images.float()
        variance, mean = torch.var_mean(exact, axes, correction=0)
        said = torch.cat([mean, variance, mean.new_tensor([images.numel() // images.shape[1]])])
        every = torch.stack(all_gathered(said))
        means, variances, counts = every[:, : len(mean)], every[:, len(mean) : -1], every[:, -1:]
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(0) / count  # Chan, Golub and LeVeque, 1979
        normed = functional.batch_norm(images, mean, variance, weight, bias, eps=eps)
        ctx.save_for_backward(images, weight, mean, variance, count)
        ctx.eps, ctx.axes = eps, axes
        ctx.mark_non_differentiable(mean, variance, count)
        return normed, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        images, weight, mean, variance, count = ctx.saved_tensors
        gradient = gradients[0].to(mean.dtype)
        shape = [1, -1] + [1] * (images.ndim - 2)
        scale = (variance + ctx.eps).rsqrt()
        centered = (images.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        sums = torch.stack([gradient.sum(ctx.axes), (gradient * centered).sum(ctx.axes)])
        own_bias, own_weight = sums.clone()
        dist.all_reduce(sums)
        of_mean, of_scale = (sums / count).unbind()
        factor = scale if weight is None else scale * weight
        back = factor.view(shape) * (gradient - of_mean.view(shape) - centered * of_scale.view(shape))
        own = (own_weight, own_bias) if weight is not None else (None, None)
        return back.to(images.dtype), *own, None


class Step(nn.Module):
    """A learner's step as a module, as DistributedDataParallel and FSDP2 need one.

    Its loss is weighted so that the mean over the processes is the loss of the whole batch.
    """

    def __init__(self, learner: Learner):
        super().__init__()
        self.learner, self.model = learner, learner.parameters()

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        Rows.start, Rows.count = batch.start, len(batch.samples) - batch.overlap
        Rows.of = len(batch.all_samples)
        found = self.learner.step(batch)
        loss, size = found["loss"], distributed.world().size
        if batch.global_samples is None:  # every process has all of it
            share = 1.0
        elif "weight" in found:
            share = found["weight"] / distributed.averaged(found["weight"]).clamp(min=1e-12)
        else:
            share = batch.share * size
        return {"loss": loss * share}


def sharded(config: Config, parts: Parts) -> Step:
    """The learner's step with a model whose weights are sharded over the processes, block by block, by FSDP2.

    Blocks are what stands in lists and sequences: their weights come together when they are called; what belongs to
    none comes with the whole step. SightlineError for optimizers that look at whole weights.
    """
    from torch.distributed.fsdp import fully_shard

    if config.optim.name not in SHARDABLE:
        why = "muon and lars compute norms of whole weights"
        cure = "--train.shard_model false, or --optim.name sgd, adam or adamw"
        raise SightlineError("this run cannot be sharded", where="train.shard_model", why=why, cure=cure)
    parts.model.to(memory_format=torch.contiguous_format)  # FSDP2 knows no other
    lists = [m for m in parts.model.modules() if isinstance(m, nn.Sequential | nn.ModuleList)]
    blocks = {block: None for members in lists for block in members if any(True for _ in block.parameters())}
    for block in reversed(list(blocks)):  # inner ones first
        if not isinstance(block, nn.ModuleList):
            fully_shard(block)
    step = Step(parts.learner)
    fully_shard(step)
    return step


def distributed_step(config: Config, parts: Parts) -> Callable[[Batch], dict[str, torch.Tensor]]:
    """The learner's step; the backward pass averages the gradients over all processes."""
    synced = config.train.sync_batch_norm
    if synced:
        synchronize_norms(parts.model, parts.device)
    synchronize_dropout(parts.model)
    if config.train.shard_model:
        return sharded(config, parts)
    devices = [parts.device.index or 0] if parts.device.type == "cuda" else None
    step = Step(parts.learner)
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch 2.14 renamed it
    options: dict[str, Any] = {"gradient_as_bucket_view": True, name: not synced}
    return DistributedDataParallel(step, devices, **options)


def unsharded(training: Training) -> Training:
    """The training with a whole model: a sharded one is built again, for the last evaluation by one process."""
    if not isinstance(training.forward, Step):
        return training
    precision = precision_name(training.parts.dtype)
    return replace(
        training, parts=build(training.functions.build, training.config, lambda text: None, precision, fresh=False)
    )
