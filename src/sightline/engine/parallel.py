"""Data parallelism: DistributedDataParallel or FSDP2 around a learner's step, synchronized batch norm and dropout.

torch.nn.SyncBatchNorm supports GPUs only ("expected input tensor to be on GPU", torch 2.14), so this module has an
implementation for CPUs.
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
from ..models.folding import folded_norm, unfold_norms
from . import distributed
from .device import precision_name
from .distributed import all_gathered
from .parts import Learner, Parts, build
from .state import Training

SHARDABLE = ("sgd", "adam", "adamw")


def synchronize_norms(model: nn.Module, device: torch.device) -> None:
    """Make every batch norm of `model` compute its statistics over all processes, in place; names do not change."""
    if device.type == "cuda":
        from timm.layers.norm_act import convert_sync_batchnorm

        convert_sync_batchnorm(model)  # supports timm's layers that combine norm and activation, too
        return
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = types.MethodType(synchronized_forward, module)


class LocalRows:
    """Which rows of the global batch this process has: first row, number of rows, total rows. Set before each step."""

    start, count, total = 0, 0, 0


def synchronize_dropout(model: nn.Module) -> None:
    """Make dropout independent of the number of processes.

    One random mask is drawn for the global batch, as a single process would, and each process uses its rows of the
    mask. On CPUs the result is bit-identical. Exceptions: dropout inside attention, and layers whose input does not
    have one row per image, draw separate masks in each process.
    """
    from timm.layers import DropPath

    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
            module.forward = types.MethodType(synchronized_dropout, module)
        elif isinstance(module, DropPath):
            module.forward = types.MethodType(synchronized_drop_path, module)


def synchronized_dropout(self: Any, values: Tensor) -> Tensor:
    """Dropout of values [N, ...], or of entire channels, with one random mask for the rows of all processes."""
    if not self.training or not self.p or len(values) != LocalRows.count:
        return type(self).forward(self, values)
    shape = values.shape[1:] if isinstance(self, nn.Dropout) else [values.shape[1]] + [1] * (values.ndim - 2)
    return values * dropout_mask(values, shape, self.p)


def synchronized_drop_path(self: Any, values: Tensor) -> Tensor:
    """Stochastic depth of values [N, ...], with one random mask for the rows of all processes."""
    if not self.training or not self.drop_prob or len(values) != LocalRows.count:
        return type(self).forward(self, values)
    kept = dropout_mask(values, [1] * (values.ndim - 1), self.drop_prob)
    return values * (kept if self.scale_by_keep else kept * (1 - self.drop_prob))


def dropout_mask(values: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """The rows of this process of a random mask with the values 0 (probability p) and 1 / (1 - p)."""
    mask = torch.empty((LocalRows.total, *shape), dtype=values.dtype, device=values.device).bernoulli_(1 - p)
    return mask[LocalRows.start : LocalRows.start + LocalRows.count].div_(1 - p)


def synchronized_forward(self: nn.modules.batchnorm._BatchNorm, images: Tensor) -> Tensor:
    """Batch norm of `images` [N, C, ...]; in training mode with mean and variance over all processes."""
    # In evaluation mode, or if every process has the global batch, there is nothing to synchronize. `interrupted` is
    # set by the hooks of segmenters, for a part with a single value per channel; the global batch has more.
    training = self.training or getattr(self, "interrupted", False)
    if not training or LocalRows.count == LocalRows.total:
        return (folded_norm if "folded" in vars(self) else type(self).forward)(self, images)
    normed, mean, variance, count = SynchronizedNorm.apply(images, self.weight, self.bias, self.eps)
    update_running_statistics(self, mean, variance, float(count))
    for name in ("drop", "act"):  # of timm's layers that combine norm and activation
        if isinstance(part := getattr(self, name, None), nn.Module):
            normed = part(normed)
    return normed


@torch.no_grad()
def update_running_statistics(
    norm: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, count: float
) -> None:
    """Update the running statistics as torch does, with the unbiased variance of the batch."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)


class SynchronizedNorm(torch.autograd.Function):
    """Autograd function: batch norm over all processes. Returns (normalized input, mean [C], biased variance [C],
    number of values per channel)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
        axes = [0, *range(2, images.ndim)]
        exact = images if images.dtype == torch.float64 else images.float()
        variance, mean = torch.var_mean(exact, axes, correction=0)
        local = torch.cat([mean, variance, mean.new_tensor([images.numel() // images.shape[1]])])
        gathered = torch.stack(all_gathered(local))
        means, variances, counts = gathered[:, : len(mean)], gathered[:, len(mean) : -1], gathered[:, -1:]
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
        bias_gradient, weight_gradient = sums.clone()  # of this process: DDP averages them
        dist.all_reduce(sums)
        mean_gradient, mean_product = (sums / count).unbind()
        factor = scale if weight is None else scale * weight
        back = factor.view(shape) * (gradient - mean_gradient.view(shape) - centered * mean_product.view(shape))
        affine = (weight_gradient, bias_gradient) if weight is not None else (None, None)
        return back.to(images.dtype), *affine, None


class Step(nn.Module):
    """The step of a learner (batch to loss) as a torch module, which DistributedDataParallel and FSDP2 require. The
    loss is weighted so that its mean over the processes is the loss of the global batch."""

    def __init__(self, learner: Learner):
        super().__init__()
        self.learner, self.model = learner, learner.parameters()

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        LocalRows.start, LocalRows.count = batch.start, len(batch.samples) - batch.overlap
        LocalRows.total = len(batch.all_samples)
        outputs = self.learner.step(batch)
        loss, size = outputs["loss"], distributed.world().size
        if batch.global_samples is None:  # every process has the global batch
            weight = 1.0
        elif "weight" in outputs:
            weight = outputs["weight"] / distributed.averaged(outputs["weight"]).clamp(min=1e-12)
        else:
            weight = batch.share * size
        return {"loss": loss * weight}


def sharded_step(config: Config, parts: Parts) -> Step:
    """The step of the learner, with the weights of the model sharded over the processes by FSDP2.

    Each member of an nn.Sequential or nn.ModuleList is gathered when it is called; all other weights are gathered for
    the entire step. Raises SightlineError for optimizers that need full weights, for float16, and for batch norms of
    which each process would have its own statistics.
    """
    from torch.distributed.fsdp import fully_shard

    if config.optim.name not in SHARDABLE:
        why = f"{config.optim.name} needs unsharded weights, because muon and lars compute norms of whole weights"
        cure = (
            "do not shard the model: --train.shard_model false; or use another optimizer: --optim.name sgd, adam or "
            "adamw"
        )
        raise SightlineError("this optimizer does not support sharding", where="train.shard_model", why=why, cure=cure)
    if parts.dtype == torch.float16:
        why, cure = "its scaled gradients are checked in each process alone", "use --train.precision fp32 or bf16"
        raise SightlineError("float16 does not support sharding", where="train.shard_model", why=why, cure=cure)
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in parts.model.modules())
    if norms and not config.train.sync_batch_norm:
        why = "each process would evaluate with its own statistics, and could stop at another epoch than the others"
        cure = "leave out --train.sync_batch_norm false"
        raise SightlineError("sharding needs synchronized batch norms", where="train.shard_model", why=why, cure=cure)
    parts.model.to(memory_format=torch.contiguous_format)  # required by FSDP2
    lists = [m for m in parts.model.modules() if isinstance(m, nn.Sequential | nn.ModuleList)]
    blocks = {block: None for members in lists for block in members if any(True for _ in block.parameters())}
    for block in reversed(list(blocks)):  # inner ones first
        if not isinstance(block, nn.ModuleList):
            fully_shard(block)
    step = Step(parts.learner)
    fully_shard(step)
    return step


def distributed_step(config: Config, parts: Parts) -> Callable[[Batch], dict[str, torch.Tensor]]:
    """Wrap the step of the learner in DistributedDataParallel or FSDP2, which average gradients over the processes."""
    synced = config.train.sync_batch_norm
    if config.train.shard_model:
        unfold_norms(parts.model)  # a layer would need the shards of another layer's weights
    if synced:
        synchronize_norms(parts.model, parts.device)
    synchronize_dropout(parts.model)
    if config.train.shard_model:
        return sharded_step(config, parts)
    devices = [parts.device.index or 0] if parts.device.type == "cuda" else None
    step = Step(parts.learner)
    accepted = inspect.signature(DistributedDataParallel).parameters
    name = (
        "forward_sync_buffers" if "forward_sync_buffers" in accepted else "broadcast_buffers"
    )  # renamed in torch 2.14
    options: dict[str, Any] = {"gradient_as_bucket_view": True, name: not synced}
    options["find_unused_parameters"] = not config.loss.auxiliary  # the auxiliary head then has no gradient
    return DistributedDataParallel(step, devices, **options)


def unsharded(training: Training) -> Training:
    """Return `training` with an unsharded model, in which rank 0 loads the weights for the final evaluation. If
    FSDP2 has sharded the model, the parts of the run are built again; otherwise `training` is returned unchanged."""
    if not isinstance(training.forward, Step):
        return training
    precision = precision_name(training.parts.dtype)
    return replace(
        training, parts=build(training.functions.build, training.config, lambda text: None, precision, fresh=False)
    )
